"""Ctrl-C: the first lets what is under way end and releases, the second aborts."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

__all__ = ["Interrupts"]


class Interrupts:
    """While it is entered, the first SIGINT only sets ``requested``; the next raises KeyboardInterrupt.

    Before there is anything to release (``releasable`` is False) the first raises already.

    Attributes:
        tell: called at the first, in the middle of anything.
        abort: called at the second, in the middle of anything; whether that ends what is under way. Else it is raised.
    """

    def __init__(self, *, releasable: bool = False) -> None:
        self.requested: bool = False
        self.tell: Callable[[], object] | None = None
        self.releasable = releasable
        self.abort: Callable[[], bool] | None = None

    def __enter__(self) -> Interrupts:
        self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _handle(self, _: int, __: FrameType | None) -> None:
        if self.requested:
            # A user who presses it a third time does not want to wait for anything.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            if self.abort is not None and self.abort():
                return
        if self.requested or not self.releasable:
            self.requested = True
            raise KeyboardInterrupt
        self.requested = True
        if self.tell is not None:
            self.tell()
        os.write(sys.stderr.fileno(), b"interrupted: what is under way may end; once more aborts it\n")
