"""The logger of the package, ``logging.getLogger("dicomnet")``, loaded with the first record that anybody makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["log"]


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
