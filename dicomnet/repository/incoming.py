"""An instance on its way in: small ones gather in memory, others go to the blob store as they come."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .. import uids
from ..errors import InputFileError, InputProblem, LocalProtocolError
from ..files.instance_source import Source
from ..files.part10 import meta_header
from ..wire.element_walk import header_of
from .blob_store import BlobStore, BlobWriter, NewBlob

__all__ = ["HEAD_BYTES", "SMALL_BYTES", "BlobSink", "Incoming", "Memory", "Spooling", "incoming_of"]

#: Up to this size an instance is gathered in memory, and written with others of its group, or goes to a lane.
SMALL_BYTES = 1 << 20
#: Beyond this size it goes to a lane where one is free: two passes over its bytes cost more than a turn of its own.
LANE_BYTES = 64 << 10
#: What is kept of the beginning of a large data set, to take the attributes of the index from.
HEAD_BYTES = 1 << 20
#: The most that instances on their way hold in memory, all together; what comes then goes to files at once.
MEMORY_BYTES = 128 << 20


class Spooling(Protocol):
    """What a sink needs of a blob store."""

    def writer(self, header: bytes) -> BlobWriter:
        """Begin a blob of unknown size."""

    def lane(self, uids: tuple[str, str, str], header: bytes) -> LaneWriting | None:
        """Begin a blob that goes to a lane; None where none is free."""


class LaneWriting(BlobWriter, Protocol):
    """A blob that goes to a lane; see `lanes`."""

    def read(self, start: int, length: int) -> bytes:
        """Bytes of its data set that were written."""


class Memory:
    """Counts what instances on their way hold.

    Args:
        most: bytes for all of them.
    """

    def __init__(self, most: int = MEMORY_BYTES) -> None:
        self._most = most
        self._lock = threading.Lock()
        self.held: int = 0

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


@dataclass(slots=True)
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

    def discard(self) -> None:
        """It is not to be stored after all."""
        if not isinstance(self.blob.content, list):
            self.blob.content.discard()


class BlobSink:
    """Takes the data set of a C-STORE: a `Sink` of the listener.

    What is small stays in memory, what is middling goes to a lane where one is free, what is large to a file.

    Args:
        store: where what is not small goes.
        uids: SOP class, SOP instance and transfer syntax.
        header: preamble and file meta information.
        memory: bounds what all sinks hold.
        small: up to so many bytes it may stay in memory.

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
        self._lane: LaneWriting | None = None
        self._writer: BlobWriter | None = None
        self._digest: hashlib._Hash | None = None  # of what is not in memory
        self._head = b""
        self._head_is_whole = False
        self._taken = False
        self.size: int = 0

    def write(self, views: Sequence[bytes | memoryview]) -> None:
        """Take the next bytes.

        Raises:
            OSError: they cannot be kept.
        """
        length = sum(map(len, views))
        before, self.size = self.size, self.size + length
        if self._writer is None and self.size > self._small:
            self._spill()
        elif before <= LANE_BYTES < self.size:
            self._take_lane()
        if self._lane is None and self._writer is None:
            if self._memory.take(length):
                self._held += length
                self._pieces += map(bytes, views)
                return
            self._spill()
        self._pour(views)

    def _take_lane(self) -> None:
        lane = self._store.lane(self._uids, self._header)
        if lane is not None:
            self._lane = lane
            self._pour_pieces()

    def _spill(self) -> None:
        """It is large: what is in memory, or in a lane, goes to a file."""
        self._writer = self._store.writer(self._header)
        lane, self._lane = self._lane, None
        if lane is None:
            self._pour_pieces()
            return
        self._writer.write([lane.read(0, lane.size - len(self._header))])
        lane.discard()

    def _pour_pieces(self) -> None:
        self._digest = hashlib.sha256()
        pieces, self._pieces = self._pieces, []
        if pieces:
            self._pour(pieces)
        self._release()

    def _pour(self, views: Sequence[bytes | memoryview]) -> None:
        writer = self._lane or self._writer
        assert writer is not None and self._digest is not None
        if not self._head_is_whole:
            self._look_at(views)
        for view in views:
            self._digest.update(view)
        writer.write(views)

    def _look_at(self, views: Sequence[bytes | memoryview]) -> None:
        """Keep the header, or as much of the beginning as has one with certainty."""
        alone = not self._head and len(views) == 1
        known = views[0] if alone else b"".join([self._head, *views])
        header = header_of(known, self._uids[2])
        if header is not None and len(header) < len(known):
            self._head = header
            self._head_is_whole = True
            return
        self._head = bytes(known)
        if len(self._head) >= HEAD_BYTES:
            self._head_is_whole = True

    def close(self) -> None:
        """The data set is whole."""

    def discard(self) -> None:
        """Let go of it, unless it was taken."""
        if self._taken:
            return
        self._taken = True
        self._pieces = []
        self._release()
        writer = self._lane or self._writer
        if writer is not None:
            writer.discard()

    def _release(self) -> None:
        self._memory.give_back(self._held)
        self._held = 0

    def take(self, calling: str = "", called: str = "", address: str = "") -> tuple[Incoming, BlobWriter | None]:
        """The instance, and the writer that is to be finished if it is large; from now on it is the caller's.

        Raises:
            LocalProtocolError: it was taken, or discarded.
            OSError: what is in a lane could not be written to its end; it is gone then.
        """
        if self._taken:
            raise LocalProtocolError("this data set was taken, or discarded")
        self._taken = True
        if self._digest is None:
            blob = NewBlob(*self._uids, self._header, self._pieces, b"", self.size)
            return Incoming(blob, self._first_bytes(), calling, called, address), None
        digest = self._digest.digest()
        content = self._lane or self._writer
        assert content is not None
        content.complete(digest)
        blob = NewBlob(*self._uids, self._header, content, digest, self.size)
        return Incoming(blob, self._head, calling, called, address), self._writer

    def _first_bytes(self) -> bytes:
        """The pieces, or the first of them where that has the header."""
        if len(self._pieces) == 1:
            return self._pieces[0]
        if self.size > LANE_BYTES:
            header = header_of(self._pieces[0], self._uids[2])
            if header is not None and len(header) < len(self._pieces[0]):
                return header
        return b"".join(self._pieces)

    def released(self) -> None:
        """What was taken is committed, or failed: its memory is free."""
        self._release()


def incoming_of(source: Source, blobs: BlobStore, ae_title: str, memory: Memory) -> Incoming:
    """The instance of a source, as one that has arrived by C-STORE.

    Args:
        source: of its data set.
        blobs: where it goes unless it is small.
        ae_title: who is noted as the sender.
        memory: bounds what is held.

    Raises:
        InputFileError: it has no valid UIDs, or cannot be read.
        OSError: it cannot be kept.
    """
    named = source.sop_class_uid, source.sop_instance_uid, source.transfer_syntax_uid
    if not all(map(uids.is_valid, named)):
        raise InputFileError("has no valid UIDs", problem=InputProblem.MISSING_UID, path=source.name)
    sink = BlobSink(blobs, named, meta_header(*named, ae_title), memory)
    try:
        for chunk in source.chunks(1):
            sink.write([chunk])
    except BaseException:
        sink.discard()
        raise
    incoming, writer = sink.take(ae_title)
    if writer is not None:
        blobs.finish(writer).result()
    return incoming
