"""Blocks of objects, kept on this machine: a file without a name, which is gone with the process, and has a bound."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path

from ..log import log

__all__ = ["BLOCK_BYTES", "BlockCache"]

BLOCK_BYTES = 1 << 20


class BlockCache:
    """Keeps the blocks that were used last. Objects never change, so that a block is right for as long as it is kept.

    Args:
        directory: where the file is made.
        most: bytes that it may hold.
    """

    def __init__(self, directory: Path, most: int) -> None:
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 closed with the cache
        self._most = max(most // BLOCK_BYTES, 1)
        self._lock = threading.Lock()
        self._slots: OrderedDict[tuple[str, int], tuple[int, int]] = OrderedDict()  # number of the slot, and length
        self._free: list[int] = []

    def get(self, key: str, block: int) -> bytes | None:
        """A block, where it is kept."""
        with self._lock:
            slot = self._slots.get((key, block))
            if slot is None:
                return None
            self._slots.move_to_end((key, block))
        data = os.pread(self._file.fileno(), slot[1], slot[0] * BLOCK_BYTES)
        with self._lock:  # its slot may have been given away meanwhile
            return data if self._slots.get((key, block)) == slot else None

    def put(self, key: str, block: int, data: bytes) -> None:
        """Keep a block, in the place of the one that was not used for longest."""
        with self._lock:
            if (key, block) in self._slots:
                return
            number = self._room()
            try:
                if os.pwrite(self._file.fileno(), data, number * BLOCK_BYTES) != len(data):  # the disk is full now
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                log.warning("blocks of the object store cannot be kept here: %s", error.strerror)
                self._free.append(number)
            else:
                self._slots[key, block] = number, len(data)

    def _room(self) -> int:
        """The number of a slot that nothing is in."""
        if self._free:
            return self._free.pop()
        if len(self._slots) < self._most:
            return len(self._slots)
        return self._slots.popitem(last=False)[1][0]

    def close(self) -> None:
        """Forget all of it."""
        self._file.close()
