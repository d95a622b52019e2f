"""Who is there, in memory that the worker processes of a provider share; what they count is on a `board.Board`.

Slots are taken under a lock of the system's, which ends with the process that holds it: a worker that is killed blocks
no other.
"""

from __future__ import annotations

import mmap
import os
import threading

try:
    import fcntl
except ImportError:  # Windows, where there are no workers either
    fcntl = None  # type: ignore[assignment]

__all__ = ["MOST_SLOTS", "MOST_WORKERS", "AssociationSlots"]

MOST_WORKERS = 255  # the owner of a slot is one byte
MOST_SLOTS = 1 << 16  # associations at a time of all workers: a port can hardly have more peers
_AE, _HOST = 16, 48  # bytes of an AE title; of an address, which has at most 45 characters
_NAME = _AE + _HOST


class AssociationSlots:
    """A slot for each association of all processes, with the AE title and the host of its requestor.

    As a context manager it is the lock: no other process or thread takes or counts slots meanwhile, in any process.

    Args:
        count: how many there are.
    """

    def __init__(self, count: int) -> None:
        self._count = min(count, MOST_SLOTS)
        self._owner = b"\0"
        self._inside = threading.Lock()
        self._file = _anonymous_file()
        os.ftruncate(self._file, self._count * (1 + _NAME))
        self._memory = mmap.mmap(self._file, self._count * (1 + _NAME))

    def own(self, row: int) -> None:
        """From now on this process takes slots as this row."""
        self._inside = threading.Lock()
        self._owner = bytes([row + 1])

    def __enter__(self) -> None:
        self._inside.acquire()
        fcntl.lockf(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN)
        self._inside.release()

    def take(self) -> int | None:
        """A free slot, which has no name yet; None where all are taken."""
        with self:
            slot = self._memory.find(b"\0", 0, self._count)
            if slot < 0:
                return None
            self._memory[slot : slot + 1] = self._owner
            return slot

    def name(self, slot: int, ae_title: str, host: str) -> None:
        """Its requestor counts from now on; within the lock."""
        self._memory[self._at(slot) : self._at(slot) + _NAME] = _cut(ae_title, _AE) + _cut(host, _HOST)

    def unname(self, slot: int) -> None:
        """Its requestor is about to leave, and counts no more by name."""
        self._memory[self._at(slot) : self._at(slot) + _NAME] = bytes(_NAME)

    def leave(self, slot: int) -> None:
        """The slot is free."""
        self.unname(slot)
        self._memory[slot : slot + 1] = b"\0"

    def clear(self, row: int) -> None:
        """The process of this row is dead: its slots are free."""
        owner = bytes([row + 1])
        with self:
            while (slot := self._memory.find(owner, 0, self._count)) >= 0:
                self.leave(slot)

    def taken(self) -> int:
        """How many slots are taken."""
        return self._count - self._memory[: self._count].count(0)

    def namesakes(self, ae_title: str, host: str) -> tuple[int, int]:
        """How many requestors have this AE title, and how many this host; within the lock."""
        title, address = _cut(ae_title, _AE), _cut(host, _HOST)
        names = self._memory[self._count :]
        return (
            sum(names[at : at + _AE] == title for at in range(0, len(names), _NAME)),
            sum(names[at + _AE : at + _NAME] == address for at in range(0, len(names), _NAME)),
        )

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
        os.close(self._file)

    def _at(self, slot: int) -> int:
        return self._count + slot * _NAME


def _cut(text: str, size: int) -> bytes:
    return text.encode("utf-8", "replace")[:size].ljust(size, b"\0")


def _anonymous_file() -> int:
    """A file without a name, gone with the last process that has it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dicomnet-slots")
    path = f"{os.environ.get('TMPDIR', '/tmp')}/.dicomnet-{os.getpid()}-{os.urandom(8).hex()}"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink(path)
    return file
