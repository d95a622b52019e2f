"""Looks after a server once in a while: handlers that do not return, and code that blocks the event loop."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Protocol

__all__ = ["INTERVAL", "Watchdog"]

log: logging.Logger = logging.getLogger("dicomnet.server")

#: Seconds between two looks.
INTERVAL = 0.25
#: Seconds after which a blocked event loop is told of.
BLOCKED = 0.5


class _Loop(Protocol):
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, while it runs."""

    @property
    def ident(self) -> int | None:
        """Of its thread."""


class Watchdog:
    """A thread that looks every `INTERVAL` seconds.

    Args:
        loop: the server's event loop, which must answer.
        check: called with each look.
        alive: called with each look that found the loop alive, such as to tell systemd.
    """

    def __init__(self, loop: _Loop, check: Callable[[], object], alive: Callable[[], object]) -> None:
        self._loop = loop
        self._check = check
        self._alive = alive
        self._stopped = threading.Event()
        self._answered = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dicomnet-watchdog", daemon=True)
        self.blocked: int = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL):
            self._answered.clear()
            try:
                self._loop.loop().call_soon_threadsafe(self._answered.set)
            except RuntimeError:
                return  # the loop has ended
            if self._answered.wait(BLOCKED):
                self._alive()
            elif not self._stopped.is_set():
                self._tell()
                while not self._answered.wait(INTERVAL):
                    self._check()  # a handler that blocks the loop is late, too
            self._check()

    def _tell(self) -> None:
        """Name what blocks the loop: the innermost code that runs there."""
        self.blocked += 1
        frame = sys._current_frames().get(self._loop.ident or 0)
        stack = traceback.extract_stack(frame) if frame is not None else []
        mine = [one for one in stack if "asyncio" not in one.filename]
        culprit = next((one for one in reversed(mine) if _addin_of(one)), mine[-1] if mine else None)
        if culprit is None:
            log.error("the event loop is blocked by code that cannot be seen")
            return
        who, path = _addin_of(culprit) or "a handler", culprit.filename
        log.error("the event loop is blocked by %s: %s (%s, line %s)", who, culprit.name, path, culprit.lineno)

    def stop(self) -> None:
        """End."""
        self._stopped.set()
        self._answered.set()
        self._thread.join()


def _addin_of(frame: traceback.FrameSummary) -> str:
    """Whose code it is, by its file; empty where it is no add-in's."""
    path = frame.filename.replace("\\", "/")
    if "/addins/" in path:
        return f"the add-in {path.rpartition('/addins/')[2].partition('/')[0].removesuffix('.py')}"
    if "/server/shipped/" in path:
        return f"the add-in {path.rpartition('/')[2].removesuffix('.py')}"
    return ""
