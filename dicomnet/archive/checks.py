"""``fsck`` and ``scrub``: whether index and blobs agree, both ways, and whether the bytes are what they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from sqlalchemy import func, select, tuple_

from ..errors import DicomNetError
from ..repository import schema
from ..repository.blob_source import hash_of
from ..repository.blob_store import BlobRef, StoredBlob
from ..repository.places import Place
from ..repository.removal import given_up
from .holdings import Holdings

__all__ = ["Finding", "Problem", "fsck", "scrub"]

_GROUP = 500

Progress = Callable[[int], None]


class Problem(StrEnum):
    """What can be wrong."""

    MISSING = "missing"  # the index says that it is there, and it is not
    UNKNOWN = "unknown"  # it is there, and the index does not know it
    DAMAGED = "damaged"  # its bytes are not what was received
    COUNT = "count"  # a count in the index is not what counting gives


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    Attributes:
        uid: of the instance, series or study.
        key: where its bytes are, or ought to be.
    """

    problem: Problem
    uid: str
    key: str = ""
    detail: str = ""


def _ignore(_: int) -> None:
    pass


def fsck(holdings: Holdings, *, progress: Progress = _ignore) -> Iterator[Finding]:
    """Compare index and blobs, in both directions, and count. It may run beside a live server.

    Args:
        holdings: the archive.
        progress: called with how many instances more were looked at.
    """
    yield from _unknown(holdings, progress)
    yield from _missing(holdings, progress)
    yield from _counts(holdings)


def _unknown(holdings: Holdings, progress: Progress) -> Iterator[Finding]:
    group: list[StoredBlob] = []
    for blob in holdings.blobs.scan():
        group.append(blob)
        if len(group) == _GROUP:
            yield from _not_indexed(holdings, group)
            progress(len(group))
            group = []
    yield from _not_indexed(holdings, group)
    progress(len(group))


def _not_indexed(holdings: Holdings, group: Sequence[StoredBlob]) -> Iterator[Finding]:
    known = _refs(holdings, group)
    for blob in group:
        # A live server may have committed it, or deleted it, since.
        if blob.ref not in known and blob.ref not in _refs(holdings, [blob]) and _is_stored(holdings, blob.ref):
            yield Finding(Problem.UNKNOWN, blob.sop_instance_uid, blob.ref.key, "reindex takes it in")


def _refs(holdings: Holdings, group: Sequence[StoredBlob]) -> set[BlobRef]:
    uids = [blob.sop_instance_uid for blob in group]
    known = {place.ref for place in holdings.places.of(uids).values()}
    strange = {blob.sop_instance_uid for blob in group if blob.ref not in known}
    if not strange:
        return known
    known |= {one.ref for uid in strange for one in holdings.quarantine.find(uid)}
    return known | given_up(holdings.database)


def _is_stored(holdings: Holdings, ref: BlobRef) -> bool:
    return any(blob.ref == ref for blob in holdings.blobs.scan_key(ref.key))


@contextmanager
def _looking(holdings: Holdings) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """As many threads as the blob store likes: a bucket answers many questions in the time of one. And how many."""
    looking = holdings.blobs.looking
    with ThreadPoolExecutor(looking, thread_name_prefix="dicomnet-check") as pool:
        try:
            yield pool, looking
        finally:
            pool.shutdown(cancel_futures=True)


def _missing(holdings: Holdings, progress: Progress) -> Iterator[Finding]:
    """Rows, and what is in quarantine, without their bytes; a segment is read once for all of its rows."""

    def stored_under(key: str) -> set[BlobRef]:
        return {blob.ref for blob in holdings.blobs.scan_key(key)}

    with _looking(holdings) as (pool, looking):
        for keys in _keys(holdings, _GROUP if looking > 1 else 1):  # a segment's blobs are many
            stored = set[BlobRef]().union(*pool.map(stored_under, keys))
            for page in holdings.places.pages(*keys):
                gone = [place for place in page if place.ref not in stored]
                now = holdings.places.of(place.uid for place in gone)
                for place in gone:
                    if place.uid in now and now[place.uid].ref == place.ref:  # it was not deleted or moved meanwhile
                        yield Finding(Problem.MISSING, place.uid, place.key)
                progress(len(page))
            for one in holdings.quarantine.under(*keys):
                if one.ref not in stored:
                    yield Finding(Problem.MISSING, one.uid, one.key, "of quarantine")


def _keys(holdings: Holdings, most: int) -> Iterator[list[str]]:
    after = "", ""
    columns = schema.blob.c.storage, schema.blob.c.key
    while True:
        with holdings.database.read() as connection:
            query = select(*columns).where(tuple_(*columns) > tuple_(*after)).order_by(*columns).limit(most)
            rows = connection.execute(query).all()
        if not rows:
            return
        yield [row.key for row in rows]
        after = rows[-1].storage, rows[-1].key


def _counts(holdings: Holdings) -> Iterator[Finding]:
    """Instances and bytes of series, series of studies, references of blobs."""
    instance, series, study, blob = schema.instance.c, schema.series.c, schema.study.c, schema.blob.c
    counted = func.count(instance.id)
    of_series = (
        select(series.uid)
        .select_from(schema.series.outerjoin(schema.instance))
        .group_by(series.id, series.uid, series.n_inst, series.bytes)
        .having((counted != series.n_inst) | (func.coalesce(func.sum(instance.bytes), 0) != series.bytes))
    )
    of_studies = (
        select(study.uid)
        .select_from(schema.study.outerjoin(schema.series))
        .group_by(study.id, study.uid, study.n_series, study.n_inst)
        .having((func.count(series.id) != study.n_series) | (func.coalesce(func.sum(series.n_inst), 0) != study.n_inst))
    )
    of_blobs = (
        select(blob.key)
        .select_from(schema.blob.outerjoin(schema.instance))
        .group_by(blob.id, blob.key, blob.refs)
        .having(counted != blob.refs)
    )
    with holdings.database.read() as connection:
        for query, what in ((of_series, "series"), (of_studies, "study"), (of_blobs, "blob")):
            for text in connection.execute(query).scalars():
                yield Finding(Problem.COUNT, str(text), detail=f"of a {what}")


def scrub(holdings: Holdings, *, progress: Progress = _ignore) -> Iterator[Finding]:
    """Read every instance, and compare it with the hash of what was received.

    Args:
        holdings: the archive.
        progress: called with how many bytes more were read.
    """
    with _looking(holdings) as (pool, _):
        for page in holdings.places.pages():
            for place, finding in zip(page, pool.map(partial(_scrubbed, holdings), page), strict=True):
                if finding is not None:
                    yield finding
                progress(place.size)


def _scrubbed(holdings: Holdings, place: Place) -> Finding | None:
    try:
        if hash_of(holdings.blobs, place) == place.sha:
            return None
        detail = "its hash differs"
    except FileNotFoundError:
        now = holdings.places.of([place.uid]).get(place.uid)
        if now is None or now.ref != place.ref:  # deleted, or moved by compaction
            return None if now is None else _scrubbed(holdings, now)
        return Finding(Problem.MISSING, place.uid, place.key)
    except (OSError, DicomNetError) as error:
        detail = type(error).__name__
    return Finding(Problem.DAMAGED, place.uid, place.key, detail)
