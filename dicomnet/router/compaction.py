"""Room in the spool given back: segments of which most is over are written anew, those of which all is are deleted."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from ..log import log
from ..repository.blob_store import BlobRef
from ..repository.database import Database
from ..repository.segments import SegmentStore
from .queue import State
from .schema import delivery, received

__all__ = ["Compaction"]

_R, _D = received.c, delivery.c


class Compaction:
    """Compacts a spool beside those who write to it and read from it.

    A worker has been told where its instances are when it took them. So a segment stays until no delivery is under way
    that was, when its instances moved.

    Args:
        database: with the router's tables.
        blobs: the spool.
    """

    def __init__(self, database: Database, blobs: SegmentStore) -> None:
        self._database, self._blobs = database, blobs
        self._under_way: dict[str, set[tuple[int, int]]] = {}

    def run(self) -> int:
        """Compact what is half dead or more; how many segments were deleted."""
        return sum(self._segment(key) for key in self._blobs.half_dead())

    def _segment(self, key: str) -> bool:
        alive = self._alive(key)
        if alive:
            moves = self._blobs.copy_segment(key, alive.keys())
            lost = self._move([(alive[old], old, new) for old, new in moves if old in alive])
            self._blobs.delete(lost)
            self._under_way[key] = self._leased(list(alive.values()))
            log.info("%s: %d instances are still needed, and moved", key, len(moves))
        if self._alive(key) or self._under_way.get(key, set()) & self._leased():
            return False
        self._under_way.pop(key, None)
        self._blobs.remove_segment(key)
        return True

    def _alive(self, key: str) -> dict[BlobRef, int]:
        query = select(_R.id, _R.off, _R.bytes).where(_R.key == key, _R.kept == 1)
        with self._database.read() as connection:
            return {BlobRef(key, row[1], row[2]): row[0] for row in connection.execute(query)}

    def _move(self, moves: list[tuple[int, BlobRef, BlobRef]]) -> list[BlobRef]:
        """Say where instances are now; the copies of those that were over meanwhile."""

        def work(connection: Connection) -> list[BlobRef]:
            lost = []
            for number, old, new in moves:
                there = _R.id == number, _R.key == old.key, _R.off == old.offset, _R.kept == 1
                moving = update(received).where(*there).values(key=new.key, off=new.offset)
                if not connection.execute(moving).rowcount:
                    lost.append(new)
            return lost

        return self._database.transaction(work)

    def _leased(self, instances: list[int] | None = None) -> set[tuple[int, int]]:
        """The deliveries that are under way, by id and how often they were offered."""
        query = select(_D.id, _D.attempts, _D.received_id).where(_D.state == State.LEASED)
        wanted = None if instances is None else set(instances)
        with self._database.read() as connection:
            return {(row[0], row[1]) for row in connection.execute(query) if wanted is None or row[2] in wanted}
