"""The logger of the package, ``logging.getLogger("dicomnet")``, and what may be said of errors.

At INFO and above no record says anything of a patient: what an exception says may quote a value, so that is for DEBUG.
"""

from __future__ import annotations

import logging

from .errors import DicomNetError, InvalidArgument, escaped

__all__ = ["in_brief", "log", "log_failure"]

log: logging.Logger = logging.getLogger("dicomnet")


def in_brief(error: Exception) -> str:
    """An error in one line of a log: what it says, unless it may quote a value of a data set.

    Of an error that is not one of this package only what the system says: a path may be made of a patient's name.
    """
    if isinstance(error, DicomNetError) and not isinstance(error, InvalidArgument):
        return escaped(str(error))
    return getattr(error, "strerror", None) or type(error).__name__


def log_failure(what: str, error: BaseException) -> None:
    """Log at ERROR that something failed: the traceback with the exception's name, but not what it says."""
    kind = type(error)
    unsaid = type(kind.__name__, (Exception,), {"__module__": kind.__module__, "__qualname__": kind.__qualname__})
    log.error("%s", what, exc_info=(kind, unsaid(), error.__traceback__))
    log.debug("%s, in its own words:", what, exc_info=error)
