"""Deletion and compaction: rows first, bytes afterwards, and segments that are half dead written anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from ..log import log
from .blob_store import BlobRef
from .holdings import Holdings
from .removal import DELETING, needed, remove_instances

__all__ = ["QUEUE", "Deleted", "compact", "delete_blobs", "delete_blobs_due", "delete_instances"]

#: The outbox's queue of bytes that no row refers to any more.
QUEUE = DELETING
_GROUP = 500  # instances in a transaction
_LEASE = 300.0


@dataclass(frozen=True, slots=True)
class Deleted:
    """How much was deleted."""

    instances: int
    bytes: int


def delete_instances(
    holdings: Holdings, uids: Sequence[str], *, progress: Callable[[int], None] | None = None
) -> Deleted:
    """Delete instances. A crash at any time leaves them whole, or their bytes in the queue.

    Args:
        holdings: of the application.
        uids: SOP Instance UIDs; what is not there is passed over.
        progress: called with how many more are deleted.
    """
    count = size = 0
    for start in range(0, len(uids), _GROUP):
        group = uids[start : start + _GROUP]
        gone = holdings.database.transaction(partial(_remove, holdings, group))
        count, size = count + len(gone), size + sum(ref.length for ref in gone)
        delete_blobs_due(holdings)
        if progress is not None:
            progress(len(group))
    return Deleted(count, size)


def _remove(holdings: Holdings, uids: Sequence[str], connection: Connection) -> list[BlobRef]:
    gone = remove_instances(connection, uids)
    if gone:
        payload = {"blobs": [[ref.key, ref.offset, ref.length] for ref in gone]}
        holdings.outbox.enqueue(connection, QUEUE, payload, retry_class="busy")
    return gone


def delete_blobs(holdings: Holdings, refs: Sequence[BlobRef]) -> None:
    """Delete bytes, but for those that a row refers to by now.

    Raises:
        OSError: they cannot be deleted.
    """
    known = needed(holdings.database, refs)
    holdings.blobs.delete([ref for ref in refs if ref not in known])


def delete_blobs_due(holdings: Holdings) -> int:
    """Delete the bytes that are queued; one failure does not block the next. How many items were done."""
    done = 0
    while items := holdings.outbox.lease(QUEUE, "deletion", seconds=_LEASE, most=20):
        for item in items:
            try:
                delete_blobs(holdings, [BlobRef(*ref) for ref in item.payload["blobs"]])
            except OSError as error:
                log.warning("bytes of deleted instances cannot be deleted: %s", error.strerror)
                holdings.outbox.fail(item, str(error))
            else:
                done += holdings.outbox.done(item)
    return done


def compact(holdings: Holdings) -> int:
    """Write segments anew of which half is deleted; how many bytes that gave back."""
    freed = 0
    for key in holdings.blobs.half_dead():
        before = holdings.blobs.size_of(key)
        copied = _compact_segment(holdings, key)
        freed += max(before - copied, 0)
        log.info("%s: %d of %d bytes were still needed", key, copied, before)
    return freed


def _compact_segment(holdings: Holdings, key: str) -> int:
    """How many bytes were copied. Until its last row has moved, the segment stays."""
    places = {place.ref: place for page in holdings.places.pages(key) for place in page}
    waiting = {one.ref: one for one in holdings.quarantine.under(key)}
    moves = holdings.blobs.copy_segment(key, places.keys() | waiting.keys())
    lost = holdings.places.move([(places[old], new) for old, new in moves if old in places])
    if lost:  # deleted meanwhile
        gone = {place.ref for place in lost}
        delete_blobs(holdings, [new for old, new in moves if old in gone])
    holdings.quarantine.move([(waiting[old], new) for old, new in moves if old in waiting])
    if next(holdings.places.pages(key), None) is None and not holdings.quarantine.under(key):
        holdings.blobs.remove_segment(key)
    return sum(new.length for _, new in moves)
