"""What a blob store is: it keeps Part 10 streams, and says where each one is.

A store knows nothing of patients and studies. Its callers keep the `BlobRef` of each blob in an index, and may rebuild
that index from `BlobStore.scan`. What a group of blobs needs to survive (bytes on the disk, or an object store's word)
has happened when `put` returns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

__all__ = ["BlobReader", "BlobRef", "BlobStore", "BlobWriter", "NewBlob", "StoreStats", "StoredBlob"]


@dataclass(frozen=True, slots=True)
class BlobRef:
    """Where a blob is: ``length`` bytes of a Part 10 stream, from ``offset`` on, under ``key``.

    Attributes:
        key: a path relative to the store, or the name of an object; the same for all blobs of a segment.
        offset: in bytes; 0 for a blob that is alone under its key.
        length: bytes of the Part 10 stream, file meta information included.
    """

    key: str
    offset: int
    length: int


class BlobWriter(Protocol):
    """A blob that is too large for memory, written as it arrives."""

    @property
    def size(self) -> int:
        """Bytes so far, the header included."""

    def write(self, views: Sequence[bytes | memoryview]) -> None:
        """Append; the views may die after the call.

        Raises:
            OSError: such as ENOSPC. The blob is gone then.
        """

    def complete(self, sha256: bytes) -> None:
        """All of it is written, and this is the hash of its data set.

        Raises:
            OSError: its end could not be written; it is gone then.
        """

    def finish(self) -> None:
        """Have the store confirm the bytes, once it is complete. It still has to be `put`.

        Raises:
            OSError: it could not; the blob is gone then, and this is not tried again.
        """

    def discard(self) -> None:
        """Delete what was written, unless it was `put`. May be called at any time, and more than once."""


@dataclass(slots=True)
class NewBlob:
    """A blob to be put: what describes it, and its bytes, in memory or in a finished `BlobWriter`.

    Attributes:
        sop_class_uid, sop_instance_uid, transfer_syntax_uid: valid UIDs.
        header: preamble and file meta information, which stand before the data set.
        content: the bytes of the data set in pieces; or the writer that was given header and data set.
        sha256: of the data set alone, since the header tells who sent it.
        size: bytes of the data set.
        names: values of the data set by keyword, for stores that name files by a template.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    header: bytes
    content: list[bytes] | BlobWriter
    sha256: bytes
    size: int
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Bytes of the Part 10 stream."""
        return len(self.header) + self.size

    def hash(self) -> None:
        """Have ``sha256`` where the content is in memory; a writer has told it while it was given the bytes."""
        if isinstance(self.content, list):
            running = hashlib.sha256()
            for piece in self.content:
                running.update(piece)
            self.sha256 = running.digest()


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob as the store itself describes it, without an index.

    Attributes:
        sha256: of the data set, as it was when it came.
        header_length: bytes before the data set.
    """

    ref: BlobRef
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    sha256: bytes
    header_length: int


@runtime_checkable
class BlobReader(Protocol):
    """An open blob. It can be read to its end, even if the blob is deleted meanwhile."""

    def read_into(self, start: int, buffer: memoryview) -> int:
        """Fill ``buffer`` with bytes of the blob from ``start`` on; how many there were."""

    def close(self) -> None:
        """Let go of it."""


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What a store holds: bytes in use, and those of deleted blobs that compaction would give back.

    Attributes:
        free_bytes, total_bytes: of the disk; None where there is none that could be full.
    """

    segments: int
    bytes: int
    dead_bytes: int
    free_bytes: int | None
    total_bytes: int | None


class BlobStore(Protocol):
    """Keeps blobs. All methods may be called from any thread.

    Attributes:
        root: the directory of this machine that it fills.
        at_once: how many threads may put at a time.
        most_bytes: of a group in memory; what is beyond is better put by another thread. None: there is no such bound.
    """

    root: Path
    at_once: int
    most_bytes: int | None

    @property
    def looking(self) -> int:
        """How many may look at what is kept, for checks, so that it takes the least time."""

    def put(self, group: Sequence[NewBlob]) -> list[BlobRef]:
        """Keep all blobs of a group, or none; they are durable when this returns, in the order given.

        Raises:
            OSError: such as ENOSPC or EIO; nothing of the group is kept.
        """

    def writer(self, header: bytes) -> BlobWriter:
        """Begin a blob whose size is unknown, with its preamble and file meta information."""

    def lane(self, uids: tuple[str, str, str], header: bytes) -> Any:
        """Begin a blob of middling size where the store has a quicker way for it (see `lanes`), else None."""

    def finish(self, writer: BlobWriter) -> Future[None]:
        """Have a thread finish a writer (see `BlobWriter.finish`); the future is done when it has."""

    def open(self, ref: BlobRef, *, cached: bool = True) -> BlobReader:
        """Open a blob.

        Args:
            ref: where it is.
            cached: False: its bytes are to come from where they are kept for good.

        Raises:
            FileNotFoundError: there is none.
        """

    def holds(self, ref: BlobRef) -> bool:
        """Whether a blob is there, in its whole length, and not deleted; its bytes are not looked at."""

    def delete(self, refs: Sequence[BlobRef]) -> None:
        """Forget blobs, for good; what is not there any more is no error."""

    def scan(self, *, recent: bool = False) -> Iterator[StoredBlob]:
        """Every blob that is not deleted.

        Args:
            recent: only those that came so late that a crash may have kept them from the index.
        """

    def scan_key(self, key: str) -> Iterator[StoredBlob]:
        """Every blob under a key that is not deleted."""

    def half_dead(self) -> list[str]:
        """Keys under which half of the bytes, or more, are those of deleted blobs."""

    def size_of(self, key: str) -> int:
        """Bytes under a key.

        Raises:
            FileNotFoundError: there are none.
        """

    def copy_segment(self, key: str, alive: Container[BlobRef]) -> list[tuple[BlobRef, BlobRef]]:
        """Copy what is alive under a key to another one; the old place and the new one of each.

        Raises:
            OSError: it could not be copied. What was copied so far is there twice, and does no harm.
        """

    def remove_segment(self, key: str) -> None:
        """Delete all that is under a key."""

    @property
    def due(self) -> bool:
        """Whether so much was put that `settle` is worth its while."""

    def settle(self) -> None:
        """All that was put, or scanned as recent, is in the index, on the disk: no start needs to look at it again."""

    def stats(self) -> StoreStats:
        """Numbers for people and metrics."""

    def close(self) -> None:
        """Nothing is put any more, and all that was is in the index."""
