"""The logger of the package, ``logging.getLogger("dicomnet")``, loaded with the first record that anybody makes.

At INFO and above no record says anything of a patient: what an exception says may quote a value, so that is for DEBUG.
"""

from __future__ import annotations

from ._typing import Any, Callable
from .errors import DicomNetError, InvalidArgument, escaped

__all__ = ["in_brief", "log", "log_failure"]


class _Log:
    """The logger, once anything is asked of it.

    Attributes:
        prepare: called before, where somebody wants to say first where records go.
    """

    prepare: Callable[[], None] | None = None

    def load(self) -> Any:
        """The logger itself, now: before the process is forked, for one."""
        import logging  # here: it takes a quarter of what a short command does

        prepare = self.__dict__.pop("prepare", None)  # once, whichever thread is the first
        if prepare is not None:
            prepare()
        return logging.getLogger("dicomnet")

    def __getattr__(self, name: str) -> Any:
        value = self.__dict__[name] = getattr(self.load(), name)
        return value


log = _Log()


def in_brief(error: Exception) -> str:
    """An error in one line of a log: what it says, unless that could be a value of somebody's data set.

    Of an error that is not ours only what the system says: the path in it may be made of a patient's name.
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
