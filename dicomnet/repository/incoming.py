"""An instance on its way in: small ones gather in memory, large ones go to the blob store as they come."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import LocalProtocolError
from .blob_store import BlobWriter, NewBlob

__all__ = ["HEAD_BYTES", "SMALL_BYTES", "BlobSink", "Incoming", "Memory", "Spooling"]

#: Up to this size an instance is gathered in memory, and written with others of its group.
SMALL_BYTES = 1 << 20
#: What is kept of the beginning of a large data set, to take the attributes of the index from.
HEAD_BYTES = 1 << 20
#: The most that instances on their way hold in memory, all together; what comes then goes to files at once.
MEMORY_BYTES = 128 << 20


class Spooling(Protocol):
    """What a sink needs of a blob store."""

    def writer(self, header: bytes) -> BlobWriter:
        """Begin a blob of unknown size."""


class Memory:
    """Counts what instances on their way hold.

    Args:
        most: bytes for all of them.
    """

    def __init__(self, most: int = MEMORY_BYTES) -> None:
        self._most = most
        self._lock = threading.Lock()
        self.held = 0

    def take(self, size: int) -> bool:
        """Whether there is room for so many bytes more; they are held then."""
        with self._lock:
            if self.held + size > self._most:
                return False
            self.held += size
            return True

    def give_back(self, size: int) -> None:
        """So many bytes are no longer held."""
        with self._lock:
            self.held -= size


@dataclass(frozen=True, slots=True)
class Incoming:
    """An instance that has arrived whole.

    Attributes:
        blob: as it is to be put; that of one in memory has no hash yet.
        head: the beginning of its data set, up to Pixel Data or more.
        calling: who sent it, for the log and for quarantine.
        called, address: whom the sender called, and from where.
    """

    blob: NewBlob
    head: bytes
    calling: str = ""
    called: str = ""
    address: str = ""


class BlobSink:
    """Takes the data set of a C-STORE: a `Sink` of the listener.

    Args:
        store: where what is large goes.
        uids: SOP class, SOP instance and transfer syntax.
        header: preamble and file meta information.
        memory: bounds what all sinks hold.
        small: up to so many bytes it stays in memory.

    Attributes:
        size: bytes of the data set so far.
    """

    def __init__(
        self,
        store: Spooling,
        uids: tuple[str, str, str],
        header: bytes,
        memory: Memory,
        *,
        small: int = SMALL_BYTES,
    ) -> None:
        self._store, self._uids, self._header, self._memory, self._small = store, uids, header, memory, small
        self._pieces: list[bytes] = []
        self._held = 0
        self._writer: BlobWriter | None = None
        self._digest = hashlib.sha256()
        self._head = b""
        self._taken = False
        self.size = 0

    def write(self, views: Sequence[bytes | memoryview]) -> None:
        """Take the next bytes.

        Raises:
            OSError: they cannot be kept.
        """
        length = sum(map(len, views))
        self.size += length
        if self._writer is None and self.size <= self._small and self._memory.take(length):
            self._held += length
            self._pieces += map(bytes, views)
            return
        if self._writer is None:
            self._spill()
        self._pour(views)

    def _spill(self) -> None:
        """It is large: what is in memory goes to a file."""
        self._writer = self._store.writer(self._header)
        pieces, self._pieces = self._pieces, []
        if pieces:
            self._pour(pieces)
        self._release()

    def _pour(self, views: Sequence[bytes | memoryview]) -> None:
        assert self._writer is not None
        if len(self._head) < HEAD_BYTES:
            self._head = b"".join([self._head, *views])
        for view in views:
            self._digest.update(view)
        self._writer.write(views)

    def close(self) -> None:
        """The data set is whole."""

    def discard(self) -> None:
        """Let go of it, unless it was taken."""
        if self._taken:
            return
        self._taken = True
        self._pieces = []
        self._release()
        if self._writer is not None:
            self._writer.discard()

    def _release(self) -> None:
        self._memory.give_back(self._held)
        self._held = 0

    def take(self, calling: str = "", called: str = "", address: str = "") -> tuple[Incoming, BlobWriter | None]:
        """The instance, and the writer that is to be finished if it is large; from now on it is the caller's.

        Raises:
            LocalProtocolError: it was taken, or discarded.
        """
        if self._taken:
            raise LocalProtocolError("this data set was taken, or discarded")
        self._taken = True
        writer = self._writer
        if writer is None:
            blob = NewBlob(*self._uids, self._header, self._pieces, b"", self.size)
            head = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            return Incoming(blob, head, calling, called, address), None
        blob = NewBlob(*self._uids, self._header, writer, self._digest.digest(), self.size)
        return Incoming(blob, self._head, calling, called, address), writer

    def released(self) -> None:
        """What was taken is committed, or failed: its memory is free."""
        self._release()
