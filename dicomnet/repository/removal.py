"""Instances out of the index: counts stay exact, and what is empty then goes, up to the patient."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, RowMapping, Table, delete, func, insert, select, update

from . import schema
from .blob_store import BlobRef
from .database import Database, parts
from .places import count_references
from .work_schema import outbox, quarantine

__all__ = ["DELETING", "given_up", "needed", "remove_instances"]

#: The outbox's queue of bytes that no row refers to any more: ``{"blobs": [[key, offset, length], …]}``.
DELETING = "delete"
_I, _B, _SE, _ST, _P = (
    schema.instance.c,
    schema.blob.c,
    schema.series.c,
    schema.study.c,
    schema.patient.c,
)


def remove_instances(connection: Connection, uids: Sequence[str]) -> list[BlobRef]:
    """Remove instances, in the caller's transaction.

    Args:
        connection: in a transaction that writes.
        uids: SOP Instance UIDs; what is not there is passed over.

    Returns:
        Their blobs, which are the caller's to delete once the transaction is committed.
    """
    for part in parts(sorted(set(uids))):
        _lock_studies(connection, part)
    rows = [row for part in parts(sorted(set(uids))) for row in _found(connection, part)]
    for ids in parts([row["id"] for row in rows]):
        connection.execute(delete(schema.instance).where(_I.id.in_(ids)))
    _release_blobs(connection, rows)
    studies = sorted({row["study_id"] for row in rows})
    for series_id in sorted({row["series_id"] for row in rows}):
        _recount_series(connection, series_id)
    for study_id in studies:
        _recount_study(connection, study_id)
    return [BlobRef(row["key"], row["off"], row["bytes"]) for row in rows]


def given_up(database: Database) -> set[BlobRef]:
    """Bytes that no row refers to any more, and that wait to be deleted."""
    with database.read() as connection:
        payloads = connection.execute(select(outbox.c.payload).where(outbox.c.queue == DELETING)).scalars().all()
    return {BlobRef(*ref) for payload in payloads for ref in json.loads(payload)["blobs"]}


def needed(database: Database, refs: Iterable[BlobRef]) -> set[BlobRef]:
    """Those of some places that the index, or quarantine, says bytes are at."""
    wanted, q = set(refs), quarantine.c
    indexed = select(_B.key, _I.off, _I.bytes).select_from(schema.instance.join(schema.blob))
    found: set[BlobRef] = set()
    with database.read() as connection:
        for keys in parts(sorted({ref.key for ref in wanted})):
            for query in (indexed.where(_B.key.in_(keys)), select(q.key, q.off, q.bytes).where(q.key.in_(keys))):
                found |= {BlobRef(*row) for row in connection.execute(query)}
    return found & wanted


def _lock_studies(connection: Connection, uids: Sequence[str]) -> None:
    """Keep others from adding to the studies that are to be counted: what they add would be lost in the totals.

    SQLite has one writer.
    """
    if connection.dialect.name == "sqlite":
        return
    theirs = select(_SE.study_id).select_from(schema.series.join(schema.instance)).where(_I.uid.in_(uids))
    connection.execute(select(_ST.id).where(_ST.id.in_(theirs)).order_by(_ST.uid).with_for_update())


def _found(connection: Connection, uids: Sequence[str]) -> Sequence[RowMapping]:
    columns = _I.id, _I.series_id, _I.off, _I.bytes, _I.blob_id, _B.key, _SE.study_id
    joined = schema.instance.join(schema.blob).join(schema.series)
    query = select(*columns).select_from(joined).where(_I.uid.in_(uids))
    if connection.dialect.name != "sqlite":
        query = query.with_for_update(of=schema.instance)
    return connection.execute(query).mappings().all()


def _release_blobs(connection: Connection, rows: Sequence[RowMapping]) -> None:
    for blob_id, count in Counter(row["blob_id"] for row in rows).items():
        count_references(connection, blob_id, -count)


def _recount_series(connection: Connection, series_id: int) -> None:
    totals = connection.execute(select(func.count(), func.sum(_I.bytes)).where(_I.series_id == series_id)).one()
    uid = connection.execute(select(_SE.uid).where(_SE.id == series_id)).scalar_one()
    if totals[0]:
        values = {"n_inst": totals[0], "bytes": totals[1], "version": _SE.version + 1}
        connection.execute(update(schema.series).where(_SE.id == series_id).values(values))
    else:
        connection.execute(delete(schema.series).where(_SE.id == series_id))
    _log(connection, "changed" if totals[0] else "deleted", "SERIES", uid)


def _recount_study(connection: Connection, study_id: int) -> None:
    study = connection.execute(select(_ST.uid, _ST.patient_id).where(_ST.id == study_id)).one()
    series = connection.execute(select(_SE.n_inst, _SE.bytes, _SE.modality).where(_SE.study_id == study_id)).all()
    if not series:
        connection.execute(delete(schema.study).where(_ST.id == study_id))
        _forget_patient(connection, study.patient_id)
        _log(connection, "deleted", "STUDY", study.uid)
        return
    classes = select(_I.cls).distinct().select_from(schema.instance.join(schema.series))
    found = connection.execute(classes.where(_SE.study_id == study_id)).scalars()
    values = {
        "n_series": len(series),
        "n_inst": sum(row.n_inst for row in series),
        "bytes": sum(row.bytes for row in series),
        "mods": "\\".join(sorted({row.modality for row in series} - {""})),
        "sop_classes": "\\".join(sorted(found)),
        "version": _ST.version + 1,
    }
    connection.execute(update(schema.study).where(_ST.id == study_id).values(values))


def _forget_patient(connection: Connection, patient_id: int) -> None:
    """A patient without studies, whom no other ID stands for."""
    has_studies = select(_ST.id).where(_ST.patient_id == patient_id).exists()
    other = schema.patient.alias()
    is_target = select(other.c.id).where(other.c.merged_into == patient_id).exists()
    connection.execute(delete(schema.patient).where(_P.id == patient_id, ~has_studies, ~is_target))


def _log(connection: Connection, kind: str, level: str, uid: str) -> None:
    table: Table = schema.change
    connection.execute(insert(table).values(kind=kind, level=level, uid=uid))
