"""Append-only segment files: one writer each, a torn tail cut, deletions marked beside them.

``segments/000001.seg`` holds records (see `record`), ``segments/000001.dead`` the places of those that are deleted,
``active/000001`` says that a process appends to this segment, and is locked by it: what a dead process left is found
by that name alone, so that a start looks at the last segment and not at all of them. It says "lane" for a lane (see
`lanes`), whose last record may be a peer's bytes behind a header of zeros: they are not searched for records.

A number is given once: the segment with the highest one is never removed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files.own_files import make_directory, sync_directory, write_all
from ..log import log
from .record import ALIGNMENT, INLINE, MAGIC, MOST_HEADER, Record, is_intact, parse

__all__ = ["LANE", "Entry", "Segment", "SegmentLog", "dead_places", "mark_dead", "read_segment"]

_DEAD = struct.Struct("<QQ")
_PIECE = 1 << 20
LANE = b"lane"  # what the claim of a lane says
#: Bytes that a segment is made longer by, ahead of what is appended: where a file does not grow with each sync, a file
#: system has less to write down, and a sync takes half to two thirds of its time.
RESERVED = 4 << 20
_EXCLUSIVE = os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True, slots=True)
class Entry:
    """A record, and where in its segment it begins."""

    position: int
    record: Record


class _Window:
    """Reads a file in large pieces. It is not mapped: a writer that gives up cuts what it wrote."""

    def __init__(self, fd: int) -> None:
        self._fd, self._start, self._held = fd, 0, b""

    def view(self, start: int, length: int) -> memoryview:
        """Bytes of the file; fewer at its end."""
        if not self._start <= start <= start + length <= self._start + len(self._held):
            self._start, self._held = start, os.pread(self._fd, max(length, _PIECE), start)
        return memoryview(self._held)[start - self._start :][:length]

    def hash(self, start: int, length: int) -> bytes:
        """SHA-256 of so many bytes, or of those that there are."""
        digest = hashlib.sha256()
        while length > 0 and (piece := self.view(start, min(length, _PIECE))):
            digest.update(piece)
            start, length = start + len(piece), length - len(piece)
        return digest.digest()

    def next_magic(self, start: int) -> int:
        """The next aligned place that could be a record; -1 where there is none."""
        while len(piece := bytes(self.view(start, _PIECE))) >= len(MAGIC):
            place = piece.find(MAGIC)
            while place >= 0 and (start + place) % ALIGNMENT:
                place = piece.find(MAGIC, place + 1)
            if place >= 0:
                return start + place
            start += len(piece) // ALIGNMENT * ALIGNMENT or ALIGNMENT
        return -1


def read_segment(path: Path, *, hashed: bool = False) -> Iterator[Entry]:
    """The intact records of a segment, in their order. What is damaged is passed over.

    Args:
        path: the segment.
        hashed: also compare the data sets with their hashes.
    """
    is_lane = _is_lane(path)
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        window = _Window(file.fileno())
        position = 0
        searched = False  # a record that was searched for may be one that a peer made up: its length is not believed
        while 0 <= position < size:
            record = _record_at(window, position, size)
            if record is None and is_lane and not any(window.view(position, ALIGNMENT)):
                return  # what follows has not arrived whole
            if record is not None and not (hashed and _is_torn(window, position, record)):
                yield Entry(position, record)
                position += record.span
            elif record is not None and not searched:
                position += record.span
            else:
                position, searched = window.next_magic(position + ALIGNMENT), True


def _is_lane(path: Path) -> bool:
    """Whether a segment is a lane that is not sealed."""
    try:
        return (path.parent.parent / "active" / path.stem).read_bytes() == LANE
    except FileNotFoundError:
        return False


def _record_at(window: _Window, position: int, size: int) -> Record | None:
    record = parse(window.view(position, MOST_HEADER))
    if record is None or position + record.span > size:
        return None
    inline = record.kind == INLINE
    whole = window.view(position, record.header_length + (record.meta_length if inline else 0))
    if not is_intact(record, whole[: record.header_length], whole[record.header_length :]):
        return None
    return record


def _is_torn(window: _Window, position: int, record: Record) -> bool:
    """Whether an inline data set is not the one that was written."""
    begin = position + record.header_length + record.meta_length
    length = record.length - record.meta_length
    return record.kind == INLINE and window.hash(begin, length) != record.sha256


def dead_places(path: Path) -> dict[int, int]:
    """The records of a segment that are deleted: bytes by position. A torn mark at the end is none."""
    try:
        marks = path.with_suffix(".dead").read_bytes()
    except FileNotFoundError:
        return {}
    return dict(_DEAD.iter_unpack(marks[: len(marks) // _DEAD.size * _DEAD.size]))


def mark_dead(path: Path, places: dict[int, int], *, durable: bool) -> None:
    """Mark records as deleted, by position, with the bytes of each; there is no need to where the segment is gone."""
    marks = path.with_suffix(".dead")
    fd = os.open(marks, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        torn = os.fstat(fd).st_size % _DEAD.size
        if torn:
            os.ftruncate(fd, os.fstat(fd).st_size - torn)
        write_all(fd, [b"".join(_DEAD.pack(*place) for place in places.items())])
        if durable:
            os.fdatasync(fd)
    finally:
        os.close(fd)
    if not path.exists():
        marks.unlink(missing_ok=True)  # it was removed meanwhile, and its marks before these were made
    if durable:
        sync_directory(marks.parent)


class Segment:
    """A segment that this process appends to.

    Attributes:
        key: of its blobs.
        size: bytes so far.
        failed: the disk did not confirm it, and the system may have dropped what it could not write: no more is
            appended.
    """

    def __init__(self, root: Path, number: int, *, reserve: bool = False, lane: bool = False) -> None:
        """Claim a new segment, so that a later start finds it.

        Args:
            root: of the store.
            number: of the segment.
            reserve: keep the file longer than it is.
            lane: it is a lane.

        Raises:
            FileExistsError: another process has this number.
        """
        self.name: str = f"{number:06}"
        self.path: Path = root / "segments" / f"{self.name}.seg"
        self._claim = root / "active" / self.name
        self._lock = _claim(self._claim, LANE if lane else b"")
        self._fd = os.open(self.path, os.O_RDWR | _EXCLUSIVE, 0o666)
        self.path.with_suffix(".dead").unlink(missing_ok=True)  # of one that had this number
        sync_directory(self.path.parent)
        self.size: int = 0
        self._reserved = 0
        self._reserves = reserve and hasattr(os, "posix_fallocate")
        self.failed: bool = False
        self.key: str = f"segments/{self.name}.seg"

    def append(self, buffers: Sequence[bytes | memoryview], *, durable: bool) -> int:
        """Append buffers; the position of the first byte.

        Raises:
            OSError: none of them is there. After a failed sync the segment is unusable, since the system may have
                dropped what it could not write: `usable` is false then.
        """
        start = self.size
        try:
            self.extend(buffers)
        except OSError:
            self.cut(start)
            raise
        if durable:
            try:
                self.sync()
            except OSError:
                self.cut(start)
                self.abandon()
                raise
        return start

    def extend(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Write buffers at the end; where that fails the caller has to `cut` what it began.

        Raises:
            OSError: part of them may be there.
        """
        self._check()
        if self._reserves and self.size + sum(map(len, buffers)) > self._reserved:
            self._reserve()
        self.size += write_all(self._fd, buffers)

    def _check(self) -> None:
        if self.failed:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self.path))

    def _reserve(self) -> None:
        try:
            os.posix_fallocate(self._fd, self.size, RESERVED)
        except OSError:
            self._reserves = False  # little is left, or the file system has no such thing: it does without
        else:
            self._reserved = self.size + RESERVED

    def patch(self, position: int, data: bytes) -> None:
        """Write where something is already.

        Raises:
            OSError: it could not be written whole.
        """
        if os.pwrite(self._fd, data, position) != len(data):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self.path))

    def read(self, position: int, length: int) -> bytes:
        """Bytes that were appended."""
        return os.pread(self._fd, length, position)

    def sync(self) -> None:
        """Have the disk confirm what was appended.

        Raises:
            OSError: it could not, now or before; this is not tried again, since the system answers a second try as if
                all were well.
        """
        self._check()
        try:
            os.fdatasync(self._fd)
        except OSError:
            self.failed = True
            raise

    @property
    def usable(self) -> bool:
        """Whether more can be appended."""
        return self._fd >= 0

    def cut(self, size: int) -> None:
        """Take back what was appended last."""
        try:
            os.ftruncate(self._fd, size)
            os.lseek(self._fd, size, os.SEEK_SET)
            self.size = self._reserved = size
        except OSError as error:
            log.error("segment %s: %s; no more is appended to it", self.name, error.strerror)
            self.abandon()

    def abandon(self) -> None:
        """Append no more, and have the next start look at this segment."""
        for fd in (self._fd, self._lock):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock = -1

    def finish(self) -> None:
        """Append no more: it is full."""
        if self._fd >= 0:
            if self._reserved:
                os.ftruncate(self._fd, self.size)
            os.fdatasync(self._fd)
            os.close(self._fd)
            self._fd = -1

    def seal(self) -> None:
        """Append no more: all of it is on the disk and known to the index."""
        if self._lock < 0:
            return
        self.finish()
        self._claim.unlink(missing_ok=True)
        self.abandon()


def _claim(path: Path, content: bytes) -> int:
    """A new file that is locked, and whole, before other processes see its name; its descriptor.

    Raises:
        FileExistsError: there is one.
    """
    hidden = path.with_name(f".{path.name}-{os.getpid()}")
    fd = os.open(hidden, os.O_RDWR | _EXCLUSIVE, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        if content:
            write_all(fd, [content])
            os.fsync(fd)
        os.link(hidden, path)
        sync_directory(path.parent)
    except OSError:
        os.close(fd)
        raise
    finally:
        hidden.unlink()
    return fd


class SegmentLog:
    """The segments of a store, and the one that is appended to.

    Args:
        root: the store's directory.
        most: bytes after which a segment is sealed and the next begun.
        durable: whether the disk confirms what is appended.

    Attributes:
        full: segments that are full, and not said to be in the index yet.
    """

    def __init__(self, root: Path, *, most: int, durable: bool) -> None:
        self.root: Path = root
        self._most = most
        self._durable = durable
        for name in ("segments", "active"):
            make_directory(root / name)
        self._segment: Segment | None = None
        self.full: list[Segment] = []

    def append(self, buffers: Sequence[bytes | memoryview]) -> tuple[str, int]:
        """Append the records of one group; the key of their segment and the position of the first.

        Raises:
            OSError: none of them is there.
        """
        segment = self._current()
        start = segment.append(buffers, durable=self._durable)
        return segment.key, start

    def _current(self) -> Segment:
        segment = self._segment
        if segment is not None and segment.usable and segment.size < self._most:
            return segment
        self._segment = None
        if segment is not None:
            self.retire(segment)
        self._segment = self.claim()
        return self._segment

    def retire(self, segment: Segment) -> None:
        """Append no more to a segment; it is to be settled."""
        segment.finish()
        self.full.append(segment)

    def claim(self, *, lane: bool = False) -> Segment:
        """A new segment, or lane.

        Raises:
            OSError: it cannot be made.
        """
        number = 1 + max((int(path.stem) for path in self.paths()), default=0)
        while True:
            try:
                return Segment(self.root, number, reserve=self._durable, lane=lane)
            except FileExistsError:
                number += 1

    @property
    def active(self) -> str:
        """The key of the segment that is appended to; empty where there is none."""
        return self._segment.key if self._segment is not None else ""

    def paths(self) -> list[Path]:
        """All segments, the oldest first."""
        return sorted(path for path in (self.root / "segments").glob("*.seg") if path.stem.isdecimal())

    def abandoned(self) -> list[Path]:
        """The segments that a dead process appended to; their torn tails are cut."""
        found = []
        for claim in sorted((self.root / "active").glob("[0-9]*")):
            path = self.root / "segments" / f"{claim.name}.seg"
            if _is_locked(claim):
                continue
            if path.exists():
                _cut_torn_tail(path)
                found.append(path)
            else:
                claim.unlink(missing_ok=True)
        return found

    def settle(self, paths: Sequence[Path]) -> None:
        """What is full, and what dead processes left, is in order: the next start need not look at it again."""
        full, self.full = self.full, []
        for segment in full:
            segment.seal()
        for path in paths:
            (self.root / "active" / path.stem).unlink(missing_ok=True)

    def close(self) -> None:
        """Append no more; all that was is in the index."""
        self.settle([])
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.seal()


def _is_locked(claim: Path) -> bool:
    """Whether a process that lives holds this claim."""
    try:
        fd = os.open(claim, os.O_RDWR)
    except FileNotFoundError:
        return True  # its process has just sealed it
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _cut_torn_tail(path: Path) -> None:
    """Cut what follows the last whole record. Damage before that is left for a scrub to report."""
    end = 0
    for entry in read_segment(path, hashed=True):
        end = entry.position + entry.record.span
    size = path.stat().st_size
    if end < size:
        log.info("segment %s: %d bytes of a write that did not end are cut off", path.stem, size - end)
        fd = os.open(path, os.O_WRONLY)
        try:
            os.ftruncate(fd, end)
            os.fsync(fd)
        finally:
            os.close(fd)
