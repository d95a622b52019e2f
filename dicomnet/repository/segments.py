"""`SegmentStore`: small blobs in append-only segments, large ones in files of their own.

A group of small blobs costs one ``writev`` and one ``fdatasync``, where a file each costs two syncs each. Every blob, a
file of its own too, has a record in a segment (see `record`), so that the log knows all that was put.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from ..files.own_files import make_directory
from .blob_store import BlobRef, BlobWriter, NewBlob, StoredBlob, StoreStats
from .lanes import Lanes, LaneWriter
from .record import ALIGNMENT, EXTERNAL, INLINE, encode
from .segment_log import Entry, Segment, SegmentLog, dead_places, mark_dead, read_segment
from .single_files import FileTemplate, PartFile, SingleFiles, is_place

__all__ = ["DISK", "OS", "SEGMENT_BYTES", "SegmentStore"]

#: Bytes after which a segment is sealed: few files for a backup, and little to read after a crash.
SEGMENT_BYTES = 256 << 20
#: Threads that wait for the disk with files of their own, so that small blobs need not.
_SYNCING = 4
_COPIED = 8 << 20  # bytes that compaction holds in memory
DISK, OS = "disk", "os"


class _FileReader:
    """A blob in an open file."""

    def __init__(self, path: Path, ref: BlobRef) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        self._offset, self._length = ref.offset, ref.length

    def read_into(self, start: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``start`` on; how many bytes there were."""
        wanted = min(len(buffer), max(self._length - start, 0))
        return os.preadv(self._fd, [buffer[:wanted]], self._offset + start) if wanted else 0

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()


class _Batch:
    """The records of a group, as they are laid out.

    Attributes:
        buffers: what is appended to the segment.
        parts: files that get their names once the records are there.
        made: those of them that hold what was in memory.
        written: what is in lanes already.
    """

    def __init__(self) -> None:
        self.buffers: list[bytes | memoryview] = []
        self.parts: list[tuple[PartFile, str]] = []
        self.made: list[PartFile] = []
        self.written: list[LaneWriter] = []
        self._places: list[BlobRef] = []
        self._position = 0

    def add(self, head: bytes, blob: NewBlob, stream: list[bytes], place: str = "") -> None:
        """Lay out a record: its header, and the stream where it is inline."""
        self._places.append(BlobRef(place, 0 if place else self._position + len(head), blob.length))
        padding = bytes(-blob.length % ALIGNMENT) if stream else b""
        self.buffers += [head, *stream, padding]
        self._position += len(head) + (blob.length if stream else 0) + len(padding)

    def add_written(self, writer: LaneWriter) -> None:
        """What is a record already."""
        assert writer.ref is not None
        self.written.append(writer)
        self._places.append(writer.ref)

    @property
    def lanes(self) -> list[Segment]:
        """Those that the disk has to confirm."""
        return list({writer.lane: None for writer in self.written})

    def refs(self, key: str, start: int) -> list[BlobRef]:
        """Where the blobs are, once the records begin there."""
        return [one if one.key else BlobRef(key, start + one.offset, one.length) for one in self._places]

    def discard(self) -> None:
        """Nothing of the group is kept."""
        for part in self.made:
            part.discard()
        for part, _ in self.parts:
            part.discard()
        for writer in self.written:
            writer.discard()


class SegmentStore:
    """A `BlobStore` in a directory.

    Args:
        root: the directory; it is made where it does not exist.
        durability: "disk": a blob that was put survives a loss of power. "os": it survives the end of this process,
            and is on the disk when the system writes it there.
        segment_bytes: when a segment is full.
        template: keep every blob as a file of its own that is named so, under ``files/``; None: segments.
    """

    def __init__(
        self,
        root: Path,
        *,
        durability: str = DISK,
        segment_bytes: int = SEGMENT_BYTES,
        template: FileTemplate | None = None,
    ) -> None:
        make_directory(root)
        self.root: Path = root
        self.at_once: int = 1
        self.most_bytes: int | None = None
        self.looking: int = 1
        self._durable = durability == DISK
        self._all_files = template is not None
        self._log = SegmentLog(root, most=segment_bytes, durable=self._durable)
        self._files = SingleFiles(root, durable=self._durable, template=template)
        self._pool = ThreadPoolExecutor(_SYNCING, thread_name_prefix="dicomnet-sync")
        self._lanes = Lanes(self._log, self._pool, segment_bytes, self.delete)
        self._appending = threading.Lock()
        self._recent: list[Path] = []
        self._recover()

    # ---- start and end -----------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Put in order what dead processes left: torn tails, files that were not renamed yet."""
        with self._alone():
            self._recent = self._log.abandoned()
            for path in self._recent:
                for entry in read_segment(path):
                    if entry.record.kind == EXTERNAL:
                        self._files.complete(entry.record.hidden, entry.record.path)
            self._files.clear()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process starts meanwhile."""
        with (self.root / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @property
    def due(self) -> bool:
        """Whether there are segments that are full, and to be settled."""
        return bool(self._log.full)

    def settle(self) -> None:
        """What is in full segments, and what `scan` calls recent, is in the index: no start needs to look at it."""
        self._log.settle(self._recent)
        self._recent = []

    def close(self) -> None:
        """Seal the segment; nothing is put any more, and all that was is in the index."""
        self._pool.shutdown()
        self._lanes.close()
        self._log.close()

    # ---- writing -----------------------------------------------------------------------------------------------

    def writer(self, header: bytes) -> PartFile:
        """Begin a blob of unknown size, in a file of its own."""
        return self._files.begin(header)

    def lane(self, uids: tuple[str, str, str], header: bytes) -> LaneWriter | None:
        """Begin a blob that goes to a segment as it arrives; None where that cannot be now.

        Raises:
            OSError: it cannot be written.
        """
        return None if self._all_files else self._lanes.writer(uids, header)

    def finish(self, writer: BlobWriter) -> Future[None]:
        """Have a thread wait for the disk with what a writer wrote."""
        return self._pool.submit(writer.finish)

    def put(self, group: Sequence[NewBlob]) -> list[BlobRef]:
        """Keep all blobs of a group, or none.

        Raises:
            OSError: nothing of it is kept.
        """
        batch = _Batch()
        try:
            for blob in group:
                self._add(batch, blob)
            key, start = self._append(batch.buffers)
        except OSError:
            batch.discard()
            raise
        refs = batch.refs(key, start)
        try:
            if batch.written and self._durable:
                self._lanes.sync(batch.lanes)
            self._files.move(batch.parts)
        except OSError:
            batch.discard()
            self.delete(refs)
            raise
        for writer in batch.written:
            writer.settled()
        return refs

    def _append(self, buffers: Sequence[bytes | memoryview]) -> tuple[str, int]:
        if not buffers:
            return "", 0
        with self._appending:
            return self._log.append(buffers)

    def _add(self, batch: _Batch, blob: NewBlob) -> None:
        """Lay out a blob's record, and have the bytes of its file written where it is one of its own."""
        uids = blob.sop_class_uid, blob.sop_instance_uid, blob.transfer_syntax_uid
        content = blob.content
        if isinstance(content, LaneWriter):
            batch.add_written(content)
            return
        if isinstance(content, list) and not self._all_files:
            batch.add(encode(uids, blob.header, blob.size, blob.sha256), blob, [blob.header, *content])
            return
        if isinstance(content, list):
            pieces, content = content, self._files.begin(blob.header)
            batch.made.append(content)
            content.write(pieces)
            content.finish()
        assert isinstance(content, PartFile)
        names = {"SOPInstanceUID": blob.sop_instance_uid, **blob.names}
        place = self._files.place(content, names, {place for _, place in batch.parts})
        batch.parts.append((content, place))
        head = encode(uids, blob.header, blob.size, blob.sha256, place, content.name)
        batch.add(head, blob, [], place)

    def delete(self, refs: Sequence[BlobRef]) -> None:
        """Forget blobs: mark those in segments, delete files."""
        marked: dict[str, dict[int, int]] = {}
        for ref in refs:
            if ref.key.startswith("segments/"):
                marked.setdefault(ref.key, {})[ref.offset] = ref.length
            else:
                self._files.delete(ref.key)
        for key, dead in marked.items():
            if (self.root / key).exists():
                mark_dead(self.root / key, dead, durable=self._durable)

    # ---- reading -----------------------------------------------------------------------------------------------

    def open(self, ref: BlobRef, *, cached: bool = True) -> _FileReader:
        """Open a blob; there is no cache but the system's.

        Raises:
            FileNotFoundError: there is none.
        """
        return _FileReader(self.root / ref.key, ref)

    def scan(self, *, recent: bool = False) -> Iterator[StoredBlob]:
        """Every blob that is not deleted, the oldest first; of two with the same key and offset the last counts.

        What is recent is compared with its hash: a loss of power leaves records that are torn in the middle of a group.
        """
        for path in self._recent if recent else self._log.paths():
            yield from self._scan_segment(path, hashed=recent)

    def scan_key(self, key: str) -> Iterator[StoredBlob]:
        """Every blob under a key that is not deleted. A file of its own is told by its length alone."""
        path = self.root / key
        if key.startswith("segments/"):
            if path.exists():
                yield from self._scan_segment(path)
        elif path.exists():
            yield StoredBlob(BlobRef(key, 0, path.stat().st_size), "", "", "", b"", 0)

    def _scan_segment(self, path: Path, *, hashed: bool = False) -> Iterator[StoredBlob]:
        dead = dead_places(path)
        key = f"segments/{path.name}"
        for entry in read_segment(path, hashed=hashed):
            ref = _ref_of(entry, key)
            gone = ref.offset in dead if entry.record.kind == INLINE else not self._is_there(ref)
            if not gone:
                one = entry.record
                uids = one.sop_class_uid, one.sop_instance_uid, one.transfer_syntax_uid
                yield StoredBlob(ref, *uids, one.sha256, one.meta_length)

    def _is_there(self, ref: BlobRef) -> bool:
        try:
            return is_place(ref.key) and (self.root / ref.key).stat().st_size == ref.length
        except FileNotFoundError:
            return False

    def holds(self, ref: BlobRef) -> bool:
        """Whether a blob is there, in its whole length, and not deleted; its bytes are not looked at."""
        if not ref.key.startswith("segments/"):
            return self._is_there(ref)
        path = self.root / ref.key
        try:
            return ref.offset + ref.length <= path.stat().st_size and ref.offset not in dead_places(path)
        except FileNotFoundError:
            return False

    def stats(self) -> StoreStats:
        """Numbers for people and metrics."""
        paths = self._log.paths()
        disk = os.statvfs(self.root)
        used = sum(file.stat().st_size for folder in ("large", "files") for file in (self.root / folder).rglob("*.dcm"))
        return StoreStats(
            segments=len(paths),
            bytes=used + sum(path.stat().st_size for path in paths),
            dead_bytes=sum(sum(dead_places(path).values()) for path in paths),
            free_bytes=disk.f_bavail * disk.f_frsize,
            total_bytes=disk.f_blocks * disk.f_frsize,
        )

    # ---- compaction --------------------------------------------------------------------------------------------

    def half_dead(self) -> list[str]:
        """The segments of which at least half is deleted, but those that are appended to, and the last one.

        That one keeps its number from being given again: places and marks that are told late would hit the next one.
        """
        return [
            f"segments/{path.name}"
            for path in self._log.paths()[:-1]
            if f"segments/{path.name}" != self._log.active
            and not (self.root / "active" / path.stem).exists()
            and sum(dead_places(path).values()) * 2 >= path.stat().st_size
        ]

    def size_of(self, key: str) -> int:
        """Bytes of a segment."""
        return (self.root / key).stat().st_size

    def copy_segment(self, key: str, alive: Container[BlobRef]) -> list[tuple[BlobRef, BlobRef]]:
        """Copy what is alive of a segment to the one that is appended to; the old place and the new one of each.

        Args:
            key: of the segment.
            alive: the blobs that are needed. Records of files are copied as long as their files are there.

        Raises:
            OSError: they could not be written. What was copied so far is there twice, and does no harm.
        """
        path = self.root / key
        moves: list[tuple[BlobRef, BlobRef]] = []
        batch: list[tuple[BlobRef, Entry, bytes]] = []
        with path.open("rb", buffering=0) as file:
            for entry in read_segment(path, hashed=True):
                ref = _ref_of(entry, key)
                if ref in alive if entry.record.kind == INLINE else self._is_there(ref):
                    batch.append((ref, entry, os.pread(file.fileno(), entry.record.span, entry.position)))
                if sum(len(content) for _, _, content in batch) > _COPIED:
                    moves += self._append_copies(batch)
                    batch = []
        return moves + self._append_copies(batch)

    def _append_copies(self, batch: list[tuple[BlobRef, Entry, bytes]]) -> list[tuple[BlobRef, BlobRef]]:
        if not batch:
            return []
        with self._appending:
            key, position = self._log.append([content for _, _, content in batch])
        moves: list[tuple[BlobRef, BlobRef]] = []
        for ref, entry, content in batch:
            if entry.record.kind == INLINE:
                moves.append((ref, BlobRef(key, position + entry.record.header_length, ref.length)))
            position += len(content)
        return moves

    def remove_segment(self, key: str) -> None:
        """Delete a segment of which nothing is needed any more."""
        path = self.root / key
        path.unlink(missing_ok=True)
        path.with_suffix(".dead").unlink(missing_ok=True)


def _ref_of(entry: Entry, key: str) -> BlobRef:
    one = entry.record
    if one.kind == EXTERNAL:
        return BlobRef(one.path, 0, one.length)
    return BlobRef(key, entry.position + one.header_length, one.length)
