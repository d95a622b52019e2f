"""Watermarks: what is received is refused before a full disk fails it (reliability goals G14 and G15)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from time import monotonic

from ..log import log

__all__ = ["DiskState", "DiskWatch", "Watermarks", "used_share"]

#: Seconds for which a look at the disk is good. A fast network brings less than a hundredth of a disk in that time.
FRESH = 0.2


class DiskState(IntEnum):
    """How full the disk is: worse is more."""

    ROOM = 0
    REFUSE = 1  # instances are refused with A700 before their data has come
    REJECT = 2  # associations are rejected, transiently


@dataclass(frozen=True, slots=True)
class Watermarks:
    """Shares of the disk in use at which instances are refused, associations rejected, and all is well again."""

    refuse: float = 0.95
    reject: float = 0.98
    resume: float = 0.93


def used_share(path: Path) -> float:
    """How much of what ordinary users may use is in use, from 0 to 1."""
    disk = os.statvfs(path)
    usable = disk.f_blocks - disk.f_bfree + disk.f_bavail
    return 1 - disk.f_bavail / usable if usable else 1.0


class DiskWatch:
    """Looks at the disk as often as is needed.

    Args:
        path: a directory on it.
        marks: the watermarks.
        share: how full it is; by default of ``path``.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        path: Path,
        marks: Watermarks | None = None,
        *,
        share: Callable[[Path], float] = used_share,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._path, self._marks, self._share, self._clock = path, marks or Watermarks(), share, clock
        self._lock = threading.Lock()
        self._state = DiskState.ROOM
        self._until = 0.0

    def state(self) -> DiskState:
        """How full the disk is, as of a moment ago."""
        now = self._clock()
        if now < self._until:
            return self._state
        with self._lock:
            self._until = now + FRESH
            before, self._state = self._state, self._next(self._share(self._path))
        if self._state != before:
            log.warning("the disk of %s is %s", self._path, _WORDS[self._state])
        return self._state

    def failed(self) -> None:
        """A write failed for want of room: refuse, until there is enough again."""
        with self._lock:
            self._state = max(self._state, DiskState.REFUSE)
            self._until = self._clock() + FRESH

    def _next(self, share: float) -> DiskState:
        marks = self._marks
        if share >= marks.reject:
            return DiskState.REJECT
        if share >= marks.refuse:
            return DiskState.REFUSE
        return DiskState.REFUSE if self._state and share > marks.resume else DiskState.ROOM


_WORDS = {
    DiskState.ROOM: "no longer full: instances are taken again",
    DiskState.REFUSE: "nearly full: instances are refused",
    DiskState.REJECT: "full: associations are rejected",
}
