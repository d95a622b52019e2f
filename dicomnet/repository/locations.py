"""Where instances are stored: what retrieves, commitment and maintenance ask the index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, select

from . import schema
from .catalog import Level
from .database import Database
from .scope import ALL, Scope
from .scope_conditions import conditions_of

__all__ = ["InstanceLocation", "locations"]

MOST_VALUES = 500  # in one list of an SQL statement
ROWS = 500  # fetched at once

_BY_UID: dict[Level, ColumnElement[Any]] = {
    Level.PATIENT: schema.study.c.pid,
    Level.STUDY: schema.study.c.uid,
    Level.SERIES: schema.series.c.uid,
    Level.IMAGE: schema.instance.c.uid,
}


@dataclass(frozen=True, slots=True)
class InstanceLocation:
    """A stored instance.

    Attributes:
        id: of its row.
        uid, cls, ts: SOP Instance UID, SOP Class UID, transfer syntax.
        study_uid, series_uid: what it belongs to.
        storage, key, offset, length: the blob store, the name in it, and which bytes of it are the Part 10 stream.
        sha: the SHA-256 that it was stored with.
    """

    id: int
    uid: str
    cls: str
    ts: str
    study_uid: str
    series_uid: str
    storage: str
    key: str
    offset: int
    length: int
    sha: bytes


def located(where: ColumnElement[bool]) -> Select[Any]:
    """The query of locations, in the order of `InstanceLocation`'s fields."""
    one, blob = schema.instance.c, schema.blob.c
    return (
        select(
            one.id,
            one.uid,
            one.cls,
            one.ts,
            schema.study.c.uid.label("study_uid"),
            schema.series.c.uid.label("series_uid"),
            blob.storage,
            blob.key,
            one.off.label("offset"),
            one.bytes.label("length"),
            one.sha,
        )
        .join(schema.series, schema.series.c.id == one.series_id)
        .join(schema.study, schema.study.c.id == schema.series.c.study_id)
        .join(schema.blob, blob.id == one.blob_id)
        .where(where)
    )


_ORDER = schema.series.c.study_id, schema.instance.c.series_id, schema.instance.c.number, schema.instance.c.id
# The most usual ones, made once: to build a statement takes longer than to ask it.
_ONE = {level: located(column == bindparam("uid")).order_by(*_ORDER) for level, column in _BY_UID.items()}


def locations(database: Database, level: Level, uids: Iterable[str], scope: Scope = ALL) -> Iterator[InstanceLocation]:
    """See `Index.instances`."""
    wanted = sorted(set(uids))
    with database.read() as connection:
        streaming = connection.execution_options(stream_results=True, max_row_buffer=ROWS)
        for start in range(0, len(wanted), MOST_VALUES):
            page = wanted[start : start + MOST_VALUES]
            query = _ONE[level] if len(page) == 1 else located(_BY_UID[level].in_(page)).order_by(*_ORDER)
            if not scope.sees_all:
                query = query.where(*conditions_of(scope, Level.IMAGE))
            result = streaming.execute(query, {"uid": page[0]} if len(page) == 1 else {})
            while rows := result.fetchmany(ROWS):
                for row in rows:
                    yield InstanceLocation(**dict(row._mapping) | {"sha": bytes(row.sha)})
