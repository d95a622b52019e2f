"""Instances moved from one blob store to another while an archive serves, each compared with its hash.

Some at a time are copied, read back, and said to be elsewhere; only when all are, the old bytes are deleted, but for
what the index does not know. So moving may be stopped at any time, and begun again, and what is received meanwhile goes
to the new store.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import select

from ..errors import DicomNetError, InvalidArgument
from ..log import log
from . import schema
from .blob_source import hash_of, header_length
from .blob_store import BlobReader, BlobRef, BlobWriter, NewBlob, StoredBlob
from .bucket import StoreUnavailable
from .deletion import delete_blobs
from .holdings import Holdings
from .moving_store import MovingStore
from .places import Place
from .quarantine import Quarantined

__all__ = ["Moved", "move_instances"]

_GROUP = 512  # instances that are moved together
_GROUP_BYTES = 16 << 20  # and their bytes, in memory
_PIECE_BYTES = 1 << 20
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
        OSError: the new store does not take them, or cannot be read back; or the old one is away.
    """
    blobs = holdings.blobs
    if not isinstance(blobs, MovingStore):
        raise InvalidArgument("there is no other store to move instances from", hint="Name one by storage_before.")
    moved = Moved()
    for key in _old_keys(holdings, blobs):
        for page in holdings.places.pages(key, size=_GROUP):
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


class _Damaged(Exception):
    """The bytes of an instance are missing, or not what was received."""


@contextmanager
def _reading() -> Iterator[None]:
    """Tell an instance that cannot be read from a store that is away, which says nothing of its instances."""
    try:
        yield
    except StoreUnavailable:
        raise
    except (OSError, DicomNetError) as error:
        raise _Damaged(str(error)) from error


def _read(blobs: MovingStore, place: Place) -> NewBlob | None:
    """A copy of an instance; None where its bytes are not what was received. A large one is read to a writer."""
    try:
        with _reading():
            reader = blobs.old.open(place.ref)
        with closing(reader):
            return _copy(blobs, place, reader)
    except _Damaged as error:
        log.error("%s is not moved: %s", place.uid, error)
        return None


def _copy(blobs: MovingStore, place: Place, reader: BlobReader) -> NewBlob:
    with _reading():
        header = bytearray(header_length(reader))
        reader.read_into(0, memoryview(header))
    if place.size <= _GROUP_BYTES:
        pieces = list(_pieces(place, reader, len(header)))
        return _blob(place, bytes(header), pieces)
    writer = blobs.new.writer(bytes(header))
    try:
        for piece in _pieces(place, reader, len(header)):
            writer.write([piece])
        writer.complete(place.sha)
        blobs.new.finish(writer).result()
    except BaseException:
        writer.discard()
        raise
    return _blob(place, bytes(header), writer)


def _blob(place: Place, header: bytes, content: list[bytes] | BlobWriter) -> NewBlob:
    return NewBlob(place.cls, place.uid, place.ts, header, content, place.sha, place.size - len(header))


def _pieces(place: Place, reader: BlobReader, position: int) -> Iterator[bytes]:
    """The data set of an instance; at its end it is what was received."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(min(place.size, _PIECE_BYTES)))
    while position < place.size:
        with _reading():
            length = reader.read_into(position, buffer)
        if not length:
            break
        digest.update(buffer[:length])
        yield bytes(buffer[:length])
        position += length
    if digest.digest() != place.sha:
        raise _Damaged("its bytes are not what was received")


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
        if next(holdings.places.pages(key), None) is None and not holdings.quarantine.under(key):
            blobs.old.remove_segment(key)
