"""What failed beside a listener, for the log: one line where database or object store are away, else all of it."""

from __future__ import annotations

from sqlalchemy.exc import InterfaceError, OperationalError

from ..log import log, log_failure
from .bucket import StoreUnavailable
from .database import brief, is_away

__all__ = ["log_trouble"]


def log_trouble(what: str, error: Exception, then: str = "it is tried again", *, known: bool = False) -> bool:
    """Log that something failed; whether that is trouble of a database or an object store, which passes.

    Args:
        what: what failed: "storage commitment cannot look at its queue".
        error: why.
        then: what becomes of it.
        known: the same trouble goes on: it is not told again.
    """
    if isinstance(error, OperationalError | InterfaceError):
        why = f"the index {'is away' if is_away(error) else 'fails'} ({brief(error)})"
        remedy = "see that the database runs, and can be reached"
    elif isinstance(error, StoreUnavailable):
        said = str(error.strerror)
        why, _, remedy = said.rpartition("; ") if "; " in said else (said, "", "see that it is as it should be")
    else:
        log_failure(what, error)
        return False
    if not known:
        log.warning("%s: %s; %s: %s", what, why, then, remedy)
    return True
