"""Lanes: segments into which instances of middling size are written as they arrive, one at a time in each.

What comes over several associations at once cannot share a segment while it comes, and to gather it in memory costs two
more passes over its bytes. So each takes a lane, a segment that no other writes to meanwhile, and gives it back when it
has arrived: its record's header is written last, so that a record is there whole or not at all. Until then zeros stand
there, and what follows them is searched for no records: a peer may send what looks like some. The disk confirms lanes a
group at a time, as it does the segment of what is small.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ..log import log
from .blob_store import BlobRef
from .record import ALIGNMENT, encode
from .segment_log import Segment, SegmentLog

__all__ = ["LaneWriter", "Lanes"]

MOST_LANES = 16  # what comes beside so many others is gathered in memory


class LaneWriter:
    """An instance on its way into a lane: a `BlobWriter`.

    Attributes:
        size: bytes of the Part 10 stream so far.
        lane: where it is written.
        ref: where it is, once it is `complete`.
    """

    def __init__(self, lanes: Lanes, lane: Segment, uids: tuple[str, str, str], header: bytes) -> None:
        self._lanes = lanes
        self.lane: Segment = lane
        self._uids = uids
        self._header = header
        self._start = lane.size
        self._begin = self._start + len(encode(uids, header, 0, bytes(32)))
        self._holds = True
        self.size: int = 0
        self.ref: BlobRef | None = None
        self._extend([bytes(self._begin - self._start), header])
        self.size = len(header)

    def write(self, views: Sequence[bytes | memoryview]) -> None:
        """Append; see `BlobWriter.write`."""
        self._extend(views)
        self.size += sum(map(len, views))

    def _extend(self, views: Sequence[bytes | memoryview]) -> None:
        try:
            self.lane.extend(views)
        except OSError:
            self.discard()
            raise

    def read(self, start: int, length: int) -> bytes:
        """Bytes of the data set that were written."""
        return self.lane.read(self._begin + len(self._header) + start, length)

    def complete(self, sha256: bytes) -> None:
        """All of it is written: make it a record, and let the next instance have the lane.

        Raises:
            OSError: it could not be written; the blob is gone then.
        """
        self._extend([bytes(-self.size % ALIGNMENT)])
        head = encode(self._uids, self._header, self.size - len(self._header), sha256)
        try:
            self.lane.patch(self._start, head)
        except OSError:
            self.discard()
            raise
        self.ref = BlobRef(self.lane.key, self._begin, self.size)
        self._holds = False
        self._lanes.give_back(self.lane)

    def finish(self) -> None:
        """The disk confirms a lane when the blob is put."""

    def settled(self) -> None:
        """It was put: its lane may be sealed when it is full."""
        self._lanes.settled(self.lane)

    def discard(self) -> None:
        """Take it out of the lane, or mark it as deleted where others stand behind it."""
        if self._holds:
            self._holds = False
            self.lane.cut(self._start)
            self._lanes.give_back(self.lane)
            self._lanes.settled(self.lane)
        elif self.ref is not None:
            ref, self.ref = self.ref, None
            self._lanes.forget([ref])
            self._lanes.settled(self.lane)


class Lanes:
    """The lanes of a store.

    Args:
        log: whose segments they are.
        pool: threads in which new lanes are made, since that waits for the disk.
        most: bytes after which a lane is sealed.
        forget: marks records as deleted.
    """

    def __init__(
        self, log_: SegmentLog, pool: ThreadPoolExecutor, most: int, forget: Callable[[Sequence[BlobRef]], None]
    ) -> None:
        self._log = log_
        self._pool = pool
        self._most = most
        self.forget: Callable[[Sequence[BlobRef]], None] = forget
        self._lock = threading.Lock()
        self._free: list[Segment] = []
        self._unsettled: dict[Segment, int] = {}
        self._made = 0
        self._in_the_making = False

    def writer(self, uids: tuple[str, str, str], header: bytes) -> LaneWriter | None:
        """Begin a blob; None where no lane is free: one more is made then, for those to come.

        Raises:
            OSError: it cannot be written.
        """
        with self._lock:
            if not self._free:
                if not self._in_the_making and self._made < MOST_LANES:
                    self._in_the_making = True
                    self._pool.submit(self._make)
                return None
            lane = self._free.pop()
            self._unsettled[lane] = self._unsettled.get(lane, 0) + 1
        return LaneWriter(self, lane, uids, header)

    def _make(self) -> None:
        try:
            self.add()
        except OSError as error:
            log.error("no segment can be made: %s", error.strerror)
        finally:
            self._in_the_making = False

    def add(self) -> None:
        """Make one more lane.

        Raises:
            OSError: it cannot be made.
        """
        lane = self._log.claim(lane=True)
        with self._lock:
            self._made += 1
            self._free.append(lane)

    def give_back(self, lane: Segment) -> None:
        """Nothing is written to a lane now."""
        with self._lock:
            if lane.usable and not lane.failed and lane.size < self._most:
                self._free.append(lane)
            else:
                self._made -= 1  # it goes once all of it is settled

    def settled(self, lane: Segment) -> None:
        """A blob of a lane was put, or is gone."""
        with self._lock:
            self._unsettled[lane] -= 1
            if self._unsettled[lane] or lane in self._free:
                return
            if lane.usable and not lane.failed and lane.size < self._most:
                return  # it is written to
            del self._unsettled[lane]
        if lane.failed:
            lane.abandon()
        else:
            self._log.retire(lane)

    def sync(self, lanes: Sequence[Segment]) -> None:
        """Have the disk confirm some lanes, side by side.

        Raises:
            OSError: it could not, for one of them at least; no more is written to that one.
        """
        others = [self._pool.submit(lane.sync) for lane in lanes[1:]]
        errors: list[OSError] = []
        for wait in [lanes[0].sync, *(one.result for one in others)]:
            try:
                wait()
            except OSError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def close(self) -> None:
        """Seal all lanes; nothing is written to them."""
        with self._lock:
            lanes, self._free = self._free, []
        for lane in lanes:
            lane.seal() if not lane.failed else lane.abandon()
