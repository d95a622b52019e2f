"""Who a patient is: corrected, given another ID, merged with another one, and taken apart again.

The stored instances stay as they came; what leaves is corrected by the index on its way out. A patient that was merged
keeps its row as another name of the one that it was merged into: what arrives under its ID later goes there, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, insert, select, update

from ..errors import InvalidArgument
from . import schema
from .attributes import normal_date, patient_record

__all__ = ["PatientId", "UnknownPatient", "change_id", "correct", "is_one", "merge", "unmerge"]

_P, _S = schema.patient.c, schema.study.c
_COLUMNS = {"PatientName": "name", "PatientBirthDate": "birth", "PatientSex": "sex"}


class PatientId(NamedTuple):
    """A patient's ID and its issuer; an issuer that is not known is empty."""

    pid: str
    issuer: str = ""


class UnknownPatient(InvalidArgument):
    """There is no patient of this ID."""

    def __init__(self) -> None:
        super().__init__("there is no patient of this ID and issuer")


def correct(connection: Connection, patient: PatientId, values: Mapping[str, str]) -> None:
    """Correct a patient's name, birth date or sex.

    Args:
        connection: in a transaction that writes.
        patient: one of the patient's IDs.
        values: by keyword: PatientName, PatientBirthDate, PatientSex.

    Raises:
        UnknownPatient: there is none of this ID.
        InvalidArgument: another keyword, or a birth date that is none.
    """
    unknown = set(values) - set(_COLUMNS)
    if unknown:
        raise InvalidArgument(f"{min(unknown)} cannot be corrected here", hint=f"{', '.join(_COLUMNS)} can be.")
    birth = values.get("PatientBirthDate", "")
    if birth and not normal_date(birth):
        raise InvalidArgument("PatientBirthDate is no date", hint="Write it like 19700131.")
    row = _live(connection, patient)
    told = {_COLUMNS[keyword]: value for keyword, value in values.items()}
    told |= {"birth": normal_date(birth)} if birth else {}
    record = patient_record(row.pid or "", row.issuer, told.get("name", row.name))
    columns = told | {"name_n": record.name_n, "name_i": record.name_i, "name_p": record.name_p}
    connection.execute(update(schema.patient).where(_P.id == row.id).values(**columns, version=_P.version + 1))
    _follow(connection, row.id)


def change_id(connection: Connection, patient: PatientId, to: PatientId) -> None:
    """Give a patient another ID; the old one stays another name of the patient.

    Raises:
        UnknownPatient: there is none of this ID.
        InvalidArgument: the new ID is empty, or another patient has it: then it is a merge that is wanted.
    """
    if not to.pid:
        raise InvalidArgument("a patient cannot be given an empty ID")
    if _row(connection, to) is not None:
        raise InvalidArgument("another patient has this ID already", hint="Merge the two.")
    row = _live(connection, patient)
    values = {"pid": to.pid, "issuer": to.issuer, "version": _P.version + 1}
    connection.execute(update(schema.patient).where(_P.id == row.id).values(values))
    former = {column.name: getattr(row, column.name) for column in schema.patient.columns if column.name != "id"}
    alias = connection.execute(insert(schema.patient).values(former | {"merged_into": row.id})).inserted_primary_key
    if alias is not None:  # what came under the old ID goes with it, should the two be taken apart
        mine = _S.patient_id == row.id, _S.origin_id == row.id
        connection.execute(update(schema.study).where(*mine).values(origin_id=alias[0]))
    _follow(connection, row.id)


def merge(connection: Connection, patient: PatientId, into: PatientId) -> int:
    """Merge a patient into another one, who is made if there is none of that ID; how many studies went over.

    Raises:
        UnknownPatient: there is no patient to be merged.
        InvalidArgument: the two are one already.
    """
    source = _live(connection, patient)
    target = _row(connection, into)
    target_id = _made(connection, into, source) if target is None else _final(connection, target).id
    if source.id == target_id:
        raise InvalidArgument("these two IDs are of one patient already")
    values = {"merged_into": target_id, "version": _P.version + 1}
    connection.execute(update(schema.patient).where(_P.id == source.id).values(values))
    moved = connection.execute(update(schema.study).where(_S.patient_id == source.id).values(patient_id=target_id))
    _follow(connection, target_id)
    return moved.rowcount


def is_one(connection: Connection, first: PatientId, second: PatientId) -> bool:
    """Whether two IDs are of one patient already."""
    rows = [_row(connection, one) for one in (first, second)]
    ids = {None if row is None else _final(connection, row).id for row in rows}
    return len(ids) == 1 and None not in ids


def unmerge(connection: Connection, patient: PatientId) -> int:
    """Take a merged patient out again, with the studies that came under this ID; how many those were.

    Raises:
        UnknownPatient: there is none of this ID.
        InvalidArgument: the patient was not merged.
    """
    row = _row(connection, patient)
    if row is None:
        raise UnknownPatient
    if row.merged_into is None:
        raise InvalidArgument("this patient is merged into no other")
    target = _final(connection, row)
    values = {"merged_into": None, "version": _P.version + 1}
    connection.execute(update(schema.patient).where(_P.id == row.id).values(values))
    origins = _names_of(connection, row.id)
    theirs = _S.patient_id == target.id, _S.origin_id.in_(origins)
    moved = connection.execute(update(schema.study).where(*theirs).values(patient_id=row.id))
    _follow(connection, row.id)
    return moved.rowcount


def _row(connection: Connection, patient: PatientId) -> Row[Any] | None:
    query = select(schema.patient).where(_P.pid == patient.pid, _P.issuer == patient.issuer)
    return connection.execute(_locked(connection, query)).one_or_none()


def _locked(connection: Connection, query: Select[Any]) -> Select[Any]:
    return query if connection.dialect.name == "sqlite" else query.with_for_update()


def _final(connection: Connection, row: Row[Any]) -> Row[Any]:
    while row.merged_into is not None:
        query = select(schema.patient).where(_P.id == row.merged_into)
        row = connection.execute(_locked(connection, query)).one()
    return row


def _live(connection: Connection, patient: PatientId) -> Row[Any]:
    row = _row(connection, patient)
    if row is None:
        raise UnknownPatient
    return _final(connection, row)


def _made(connection: Connection, patient: PatientId, like: Row[Any]) -> int:
    """A patient of a new ID, described as the one that is to be merged into it."""
    values = {column.name: getattr(like, column.name) for column in schema.patient.columns if column.name != "id"}
    values |= {"pid": patient.pid, "issuer": patient.issuer, "version": 0}
    made = connection.execute(insert(schema.patient).values(values).returning(_P.id)).scalar_one()
    return int(made)


def _names_of(connection: Connection, patient_id: int) -> list[int]:
    """The rows that are names of a patient: its own, and those that were merged into it."""
    found, fresh = [patient_id], [patient_id]
    while fresh:
        fresh = list(connection.execute(select(_P.id).where(_P.merged_into.in_(fresh))).scalars())
        found += fresh
    return found


def _follow(connection: Connection, patient_id: int) -> None:
    """Bring what studies repeat of their patient up to date, and put it on record."""
    row = connection.execute(select(_P.pid, _P.name_n).where(_P.id == patient_id)).one()
    values = {"pid": row.pid or "", "name_n": row.name_n, "version": _S.version + 1}
    changed = update(schema.study).where(_S.patient_id == patient_id).values(values).returning(_S.uid)
    uids = sorted(connection.execute(changed).scalars())
    if uids:
        rows = [{"kind": "updated", "level": "STUDY", "uid": uid} for uid in uids]
        connection.execute(insert(schema.change), rows)
