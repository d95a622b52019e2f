"""Instances moved from one blob store to another while an archive serves, each compared with its hash.

Some at a time are copied, read back, and said to be elsewhere; only when all are, the old bytes are deleted, but for
what the index does not know. So moving may be stopped at any time, and begun again, and what is received meanwhile goes
to the new store.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import select

from ..errors import DicomNetError, InvalidArgument
from ..log import log
from . import schema
from .blob_source import hash_of, header_length
from .blob_store import BlobRef, NewBlob, StoredBlob
from .deletion import delete_blobs
from .holdings import Holdings
from .moving_store import MovingStore
from .places import Place
from .quarantine import Quarantined

__all__ = ["Moved", "move_instances"]

_GROUP = 512  # instances that are moved together
_GROUP_BYTES = 16 << 20  # and their bytes, in memory
_KEYS = 500

Progress = Callable[[int], None]


@dataclass(slots=True)
class Moved:
    """How many instances, and bytes, were moved; of which not, since their bytes are damaged or missing."""

    instances: int = 0
    bytes: int = 0
    failed: int = 0


def move_instances(holdings: Holdings, *, progress: Progress) -> Moved:
    """Move all instances to the new store.

    Args:
        holdings: opened with ``storage_before``.
        progress: called with how many instances more are moved.

    Raises:
        InvalidArgument: there is nothing to move from.
        OSError: the new store does not take them, or cannot be read back.
    """
    blobs = holdings.blobs
    if not isinstance(blobs, MovingStore):
        raise InvalidArgument("there is no other store to move instances from", hint="Name one by storage_before.")
    moved = Moved()
    for key in _old_keys(holdings, blobs):
        for page in holdings.places.pages(key=key, size=_GROUP):
            for group in _groups(page):
                _move(holdings, blobs, group, moved)
                progress(len(group))
        _move_quarantine(holdings, blobs, holdings.quarantine.under(key))
    _delete_old(holdings, blobs)
    return moved


def _old_keys(holdings: Holdings, blobs: MovingStore) -> Iterator[str]:
    columns, after = schema.blob.c, ""
    while True:
        with holdings.database.read() as connection:
            query = select(columns.key).where(columns.key > after).order_by(columns.key).limit(_KEYS)
            keys = list(connection.execute(query).scalars())
        if not keys:
            return
        yield from (key for key in keys if not blobs.is_new(key))
        after = keys[-1]


def _groups(page: Sequence[Place]) -> Iterator[list[Place]]:
    group: list[Place] = []
    for place in page:
        if group and sum(one.size for one in group) + place.size > _GROUP_BYTES:
            yield group
            group = []
        group.append(place)
    yield group


def _move(holdings: Holdings, blobs: MovingStore, group: Sequence[Place], moved: Moved) -> None:
    copies = [(place, blob) for place in group if (blob := _read(blobs, place)) is not None]
    moved.failed += len(group) - len(copies)
    refs = _put(blobs, copies)
    lost = holdings.places.move([(place, ref) for (place, _), ref in zip(copies, refs, strict=True)])
    if lost:  # deleted, or moved by compaction, meanwhile
        gone = {place.id for place in lost}
        delete_blobs(holdings, [ref for (place, _), ref in zip(copies, refs, strict=True) if place.id in gone])
    moved.instances += len(copies) - len(lost)
    moved.bytes += sum(place.size for place, _ in copies)


def _put(blobs: MovingStore, copies: Sequence[tuple[Place, NewBlob]]) -> list[BlobRef]:
    """Put copies, and read them back."""
    if not copies:
        return []
    refs = blobs.new.put([blob for _, blob in copies])
    for (place, _), ref in zip(copies, refs, strict=True):
        # Of an object that was just put, the cache has only what was read back, many instances at a time.
        if hash_of(blobs.new, dataclasses.replace(place, key=ref.key, offset=ref.offset), cached=True) != place.sha:
            blobs.new.delete(refs)
            raise OSError(f"the new store gives other bytes of {place.uid} back than it was given")
    return refs


def _read(blobs: MovingStore, place: Place) -> NewBlob | None:
    """A copy of an instance; None where its bytes are not what was received. A large one is read to a writer."""
    try:
        reader = blobs.old.open(place.ref)
    except OSError as error:
        _failed(place, str(error))
        return None
    try:
        start = header_length(reader)
        header = bytearray(start)
        reader.read_into(0, memoryview(header))
        writer = blobs.new.writer(bytes(header)) if place.size > _GROUP_BYTES else None
        digest, pieces, position = hashlib.sha256(), [], start
        buffer = memoryview(bytearray(min(place.size, 1 << 20)))
        while position < place.size and (length := reader.read_into(position, buffer)):
            piece = bytes(buffer[:length])
            digest.update(piece)
            pieces.append(piece) if writer is None else writer.write([piece])
            position += length
    except (OSError, DicomNetError) as error:
        _failed(place, str(error))
        return None
    finally:
        reader.close()
    if digest.digest() != place.sha:
        _failed(place, "its bytes are not what was received")
        return None
    if writer is not None:
        writer.complete(place.sha)
        blobs.new.finish(writer).result()
    content = pieces if writer is None else writer
    return NewBlob(place.cls, place.uid, place.ts, bytes(header), content, place.sha, place.size - start)


def _failed(place: Place, why: str) -> None:
    log.error("%s is not moved: %s", place.uid, why)


def _move_quarantine(holdings: Holdings, blobs: MovingStore, waiting: Sequence[Quarantined]) -> None:
    for one in waiting:
        place = Place(one.id, one.uid, one.cls, one.ts, one.storage, one.key, one.offset, one.size, one.sha)
        blob = _read(blobs, place)
        if blob is not None:
            holdings.quarantine.move([(one, _put(blobs, [(place, blob)])[0])])


def _delete_old(holdings: Holdings, blobs: MovingStore) -> None:
    """Delete what the index has elsewhere, with the same hash; what it does not know is brought to it."""
    stored: Iterator[StoredBlob] = iter(blobs.old.scan())
    while page := list(islice(stored, _KEYS)):
        places = holdings.places.of(one.sop_instance_uid for one in page)
        moved = {uid: place.sha for uid, place in places.items() if blobs.is_new(place.key)}
        gone = [one for one in page if moved.get(one.sop_instance_uid) == one.sha256]
        blobs.old.delete([one.ref for one in gone])
        holdings.intake.absorb(one for one in page if moved.get(one.sop_instance_uid) != one.sha256)
    for key in blobs.old.half_dead():
        if next(holdings.places.pages(key=key), None) is None and not holdings.quarantine.under(key):
            blobs.old.remove_segment(key)
