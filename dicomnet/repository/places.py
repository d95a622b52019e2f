"""Where instances are: from the index to the blobs, for retrieval, for checks, and for compaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, delete, func, select, update

from . import schema
from .audited_study import AuditedStudy
from .blob_store import BlobRef
from .catalog import Level
from .database import Database, insert_into, parts
from .scope import ALL, Scope
from .scope_conditions import conditions_of

__all__ = ["Place", "Places", "count_references"]

_PAGE = 1000

_I, _B, _SE, _ST = schema.instance.c, schema.blob.c, schema.series.c, schema.study.c


@dataclass(frozen=True, slots=True)
class Place:
    """An instance, and where its bytes are.

    Attributes:
        id: of its row.
        size: bytes of the Part 10 stream; ``sha``: of the data set.
    """

    id: int
    uid: str
    cls: str
    ts: str
    storage: str
    key: str
    offset: int
    size: int
    sha: bytes

    @property
    def ref(self) -> BlobRef:
        """Where its bytes are."""
        return BlobRef(self.key, self.offset, self.size)


_PLACES = select(
    _I.id, _I.uid, _I.cls, _I.ts, _B.storage, _B.key, _I.off, _I.bytes, _I.sha
).select_from(schema.instance.join(schema.blob))  # fmt: skip


class Places:
    """The places of a database's instances."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, uids: Iterable[str]) -> dict[str, Place]:
        """By SOP Instance UID, those that are there."""
        wanted = sorted(set(uids))
        found: dict[str, Place] = {}
        with self._database.read() as connection:
            for part in parts(wanted):
                query = _PLACES.where(_I.uid.in_(part))
                found.update((place.uid, place) for place in map(_place, connection.execute(query).mappings()))
        return found

    def retrieved(
        self,
        *,
        patient: tuple[str, str | None] | None = None,
        studies: Sequence[str] = (),
        series: Sequence[str] = (),
        instances: Sequence[str] = (),
        scope: Scope = ALL,
    ) -> list[Place]:
        """The instances that a retrieve asks for: all of what is named has to hold (PS3.4 Section C.4.2.2.1).

        They come by series, and in it by instance number.

        Args:
            patient: Patient ID, and its issuer where one is named.
            studies, series, instances: UIDs; empty: any.
            scope: what the caller may see.
        """
        conditions: list[ColumnElement[bool]] = []
        if patient is not None:
            conditions.append(_is_patient(*patient))
        if studies:
            conditions.append(_ST.uid.in_(studies))
        if series:
            conditions.append(_SE.uid.in_(series))
        if instances:
            conditions.append(_I.uid.in_(instances))
        if not conditions:
            return []
        query = _PLACES.join(schema.series, _I.series_id == _SE.id).join(schema.study, _SE.study_id == _ST.id)
        query = query.where(and_(*conditions, *conditions_of(scope, Level.IMAGE)))
        query = query.order_by(_I.series_id, _I.number, _I.id)
        with self._database.read() as connection:
            return [_place(row) for row in connection.execute(query).mappings()]

    def studies(self, places: Iterable[Place]) -> list[AuditedStudy]:
        """The studies of some instances with their patients, and how many of each SOP class they are."""
        found: dict[str, AuditedStudy] = {}
        patient = schema.patient.c
        tables = schema.instance.join(schema.series, _I.series_id == _SE.id).join(schema.study, _SE.study_id == _ST.id)
        columns = (_ST.uid, patient.pid, patient.name, _I.cls)
        query = select(*columns, func.count()).select_from(tables.join(schema.patient, _ST.patient_id == patient.id))
        with self._database.read() as connection:
            for part in parts([place.id for place in places]):
                for uid, pid, name, cls, count in connection.execute(query.where(_I.id.in_(part)).group_by(*columns)):
                    study = found.setdefault(uid, AuditedStudy(uid, pid or "", name))
                    study.instances[cls] += count
        return list(found.values())

    def counts(self, keys: Sequence[str]) -> dict[str, int]:
        """How many instances are under each of some keys; those that nothing is under are left out."""
        found: dict[str, int] = {}
        with self._database.read() as connection:
            for part in parts(keys):
                query = select(_B.key, _B.refs).where(_B.key.in_(part))
                found.update((row.key, row.refs) for row in connection.execute(query))
        return found

    def pages(self, *keys: str, size: int = _PAGE) -> Iterator[list[Place]]:
        """All instances in pages, by id; where blob keys are named, as many as one statement takes, theirs alone."""
        query = _PLACES.where(_B.key.in_(keys)) if keys else _PLACES
        after = 0
        while page := self._page(query, after, size):
            yield page
            after = page[-1].id

    def _page(self, query: Select[Any], after: int, size: int) -> list[Place]:
        with self._database.read() as connection:
            rows = connection.execute(query.where(_I.id > after).order_by(_I.id).limit(size))
            return [_place(row) for row in rows.mappings()]

    def move(self, moves: Sequence[tuple[Place, BlobRef]]) -> list[Place]:
        """Say that instances are elsewhere now; those that were not where they were said to be are given back."""
        return self._database.transaction(lambda connection: _move(connection, moves)) if moves else []


def _is_patient(pid: str, issuer: str | None) -> ColumnElement[bool]:
    patient = schema.patient.c
    named = patient.pid == pid if issuer is None else and_(patient.pid == pid, patient.issuer == issuer)
    # A patient that was merged into another one is found under both IDs.
    direct = select(patient.id).where(named)
    merged = select(patient.merged_into).where(named, patient.merged_into.is_not(None))
    return _ST.patient_id.in_(direct.union(merged))


def _place(row: RowMapping) -> Place:
    return Place(
        id=row["id"],
        uid=row["uid"],
        cls=row["cls"],
        ts=row["ts"],
        storage=row["storage"],
        key=row["key"],
        offset=row["off"],
        size=row["bytes"],
        sha=bytes(row["sha"]),
    )


def _move(connection: Connection, moves: Sequence[tuple[Place, BlobRef]]) -> list[Place]:
    lost: list[Place] = []
    moved: dict[tuple[str, str, str], int] = {}
    ids: dict[tuple[str, str], int] = {}
    for place, ref in moves:
        for key in (place.key, ref.key):
            if (place.storage, key) not in ids:
                ids[place.storage, key] = _blob_id(connection, place.storage, key)
        old, new = ids[place.storage, place.key], ids[place.storage, ref.key]
        is_there = and_(_I.id == place.id, _I.blob_id == old, _I.off == place.offset)
        if connection.execute(update(schema.instance).where(is_there).values(blob_id=new, off=ref.offset)).rowcount:
            way = place.storage, place.key, ref.key
            moved[way] = moved.get(way, 0) + 1
        else:
            lost.append(place)
    for (storage, old_key, new_key), count in moved.items():
        count_references(connection, ids[storage, new_key], count)
        count_references(connection, ids[storage, old_key], -count)
    return lost


def _blob_id(connection: Connection, storage: str, key: str) -> int:
    row = insert_into(connection, schema.blob).values(storage=storage, key=key)
    connection.execute(row.on_conflict_do_nothing(index_elements=["storage", "key"]))
    found: int = connection.execute(select(_B.id).where(_B.storage == storage, _B.key == key)).scalar_one()
    return found


def count_references(connection: Connection, blob_id: int, by: int) -> None:
    """Count what refers to a blob; one that nothing refers to any more is forgotten."""
    connection.execute(update(schema.blob).where(_B.id == blob_id).values(refs=_B.refs + by))
    if by < 0:
        connection.execute(delete(schema.blob).where(_B.id == blob_id, _B.refs <= 0))
