"""One group of instances into the index, in one transaction: insert or get, from the patient down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    Select,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from . import schema
from .attributes import InstanceRecord, PatientRecord, SeriesRecord, StudyRecord
from .patients import Demographics
from .prepared import Prepared, among, in_one_go

__all__ = ["Added", "Barring", "Insertion", "Outcome"]

Contradiction = Callable[[Demographics, Demographics], str]
#: Says which of some instances the index must not have, and why: in the transaction that would add them.
Barring = Callable[[Connection, Sequence[str]], Mapping[str, str]]


class Outcome(Enum):
    """What became of an instance that was brought to the index."""

    NEW = "new"
    SAME = "same"  # it is there already, with the same hash
    DIFFERENT = "different"  # there is one of this UID with other bytes, or in another series
    PATIENT_CONFLICT = "patient conflict"  # another patient has this ID, or this study
    SERIES_CONFLICT = "series conflict"  # the series is part of another study
    REJECTED = "rejected"  # a rejection note has named it


class Added(NamedTuple):
    """The outcome for one instance, and for a conflict what conflicts, without patient data."""

    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Patient:
    """A patient's row."""

    id: int
    pid: str
    issuer: str
    name_n: str
    demographics: Demographics  # those of the ID that was told, where that was merged into this patient
    origin_id: int = 0  # the row of that ID


@dataclass(slots=True)
class _Study:
    """A study's row, and what this group adds to it."""

    id: int
    uid: str
    patient: _Patient
    modalities: set[str]
    sop_classes: set[str]
    is_new: bool = False
    series: int = 0
    instances: int = 0
    bytes: int = 0
    told: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())  # modalities and SOP classes as they were

    @property
    def is_wider(self) -> bool:
        """Whether it has modalities or SOP classes that it had not."""
        return not (self.modalities <= self.told[0] and self.sop_classes <= self.told[1])


@dataclass(slots=True)
class _Series:
    """A series' row, and what this group adds to it."""

    id: int
    uid: str
    study_id: int
    instances: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Pass:
    """What is under way: an instance for each UID, the rows that they belong to, and outcomes by place in the group."""

    group: Sequence[InstanceRecord]
    places: list[int]
    outcomes: dict[int, Added]
    studies: dict[str, _Study] = field(default_factory=dict)
    verdicts: dict[tuple[int, PatientRecord], str] = field(default_factory=dict)
    series: dict[str, _Series] = field(default_factory=dict)
    used: dict[int, int] = field(default_factory=dict)  # new instances by the row of their blob

    def undecided(self) -> list[tuple[int, InstanceRecord]]:
        return [(place, self.group[place]) for place in self.places if place not in self.outcomes]


class Insertion:
    """One group's way into the index.

    Args:
        connection: in a transaction that writes.
        now: seconds since 1970.
        contradiction: says why two descriptions are not of one patient, or nothing.
        barring: says which instances are not added.
    """

    def __init__(
        self, connection: Connection, now: float, contradiction: Contradiction, barring: Barring | None = None
    ) -> None:
        self.connection = connection
        self.now = now
        self.contradiction = contradiction
        self.barring = barring
        self.is_sqlite: Any = connection.dialect.name == "sqlite"

    def add(self, group: Sequence[InstanceRecord]) -> list[Added]:
        """Add all; the outcome for each, in order."""
        outcomes: dict[int, Added] = {}
        while len(outcomes) < len(group):
            # One of each UID at a time; a repeated one is compared with the first. What another transaction added in
            # the meantime is found in the next turn, too.
            first = {group[place].uid: place for place in range(len(group) - 1, -1, -1) if place not in outcomes}
            self._turn(_Pass(group, sorted(first.values()), outcomes))
        return [outcomes[place] for place in range(len(group))]

    def _turn(self, turn: _Pass) -> None:
        self._find_known(turn)
        self._find_barred(turn)
        self._find_studies(turn)
        self._make_studies(turn)
        self._find_series(turn)
        self._make_series(turn)
        self._insert(turn)
        self._count(turn)

    # Instances that are there

    def _find_known(self, turn: _Pass) -> None:
        places = {record.uid: place for place, record in turn.undecided()}
        for row in _KNOWN[self.is_sqlite].listed(self.connection, places):
            record = turn.group[places[row.uid]]
            same = bytes(row.sha) == record.sha and row.series == record.series.uid
            turn.outcomes[places[row.uid]] = Added(Outcome.SAME if same else Outcome.DIFFERENT)

    def _find_barred(self, turn: _Pass) -> None:
        """After those that are there: what is barred meanwhile leaves the index in the transaction that bars it."""
        places = {record.uid: place for place, record in turn.undecided()}
        if self.barring is None or not places:
            return
        for uid, why in self.barring(self.connection, [*places]).items():
            turn.outcomes[places[uid]] = Added(Outcome.REJECTED, why)

    # Studies and their patients

    def _find_studies(self, turn: _Pass) -> None:
        uids = (record.study.uid for _, record in turn.undecided())
        for row in _STUDIES[self.is_sqlite].listed(self.connection, uids):
            demographics = Demographics(row.name_n, row.birth, row.sex)
            known = _Patient(row.patient_id, row.pid or "", row.issuer, row.name_n, demographics)
            study = _Study(row.id, row.uid, known, _split(row.mods), _split(row.sop_classes))
            study.told = frozenset(study.modalities), frozenset(study.sop_classes)
            turn.studies[row.uid] = study
        for place, record in turn.undecided():
            self._check_patient(turn, place, record)

    def _check_patient(self, turn: _Pass, place: int, record: InstanceRecord) -> None:
        study = turn.studies.get(record.study.uid)
        if study is None:
            return
        key = study.id, record.patient
        why = turn.verdicts.get(key)
        if why is None:
            why = turn.verdicts[key] = self._verdict(study.patient, record.patient)
        if why:
            turn.outcomes[place] = Added(Outcome.PATIENT_CONFLICT, why)

    def _verdict(self, known: _Patient, told: PatientRecord) -> str:
        """Why a study's patient cannot be the one who is told; empty where it can."""
        if _same_id(known, told):
            return self._contradiction(known, told)
        found = self._patient_row(told)
        if found is None or found.id != known.id:
            return "the study is another patient's"
        return self._contradiction(found, told)

    def _contradiction(self, known: _Patient, told: PatientRecord) -> str:
        differing = self.contradiction(known.demographics, Demographics(told.name_n, told.birth, told.sex))
        return f"the patient differs in {differing}" if differing else ""

    def _make_studies(self, turn: _Pass) -> None:
        fresh = sorted(turn.undecided(), key=lambda one: (one[1].study.uid, one[0]))
        for place, record in fresh:
            study = turn.studies.get(record.study.uid)
            if study is None:
                self._make_study(turn, place, record)
            elif study.is_new:
                self._check_patient(turn, place, record)

    def _make_study(self, turn: _Pass, place: int, record: InstanceRecord) -> None:
        patient = self._patient_of(record.patient)
        why = self._contradiction(patient, record.patient)
        if why:
            turn.outcomes[place] = Added(Outcome.PATIENT_CONFLICT, why)
            return
        row = _study_row(record.study, patient, self.now)
        study_id = self._insert_or_none(schema.study, ["uid"], row)
        if study_id is not None:
            turn.studies[record.study.uid] = _Study(study_id, record.study.uid, patient, set(), set(), is_new=True)
            return
        if not patient.pid:  # made for this study, which another transaction has made with a patient of its own
            self.connection.execute(delete(schema.patient).where(schema.patient.c.id == patient.id))
        self._find_studies(turn)

    def _patient_of(self, record: PatientRecord) -> _Patient:
        """Insert or get; without a Patient ID there is nothing to get it by."""
        found = self._patient_row(record) if record.pid else None
        while found is None:
            row = {name: getattr(record, name) for name in _PATIENT_COLUMNS} | {"pid": record.pid or None}
            patient_id = self._insert_or_none(schema.patient, ["pid", "issuer"], row)
            if patient_id is not None:
                known = Demographics(record.name_n, record.birth, record.sex)
                return _Patient(patient_id, record.pid, record.issuer, record.name_n, known)
            found = self._patient_row(record)
        return found

    def _patient_row(self, record: PatientRecord) -> _Patient | None:
        """The patient of this ID; where it was merged into another one, that one."""
        if not record.pid:
            return None
        rows = _PATIENT.all(self.connection, {"b_pid": record.pid, "b_issuer": record.issuer})
        if not rows:
            return None
        row = rows[0]
        origin_id, known = row.id, Demographics(row.name_n, row.birth, row.sex)
        while row.merged_into is not None:
            rows = _PATIENT_OF_ID.all(self.connection, {"b_id": row.merged_into})
            if not rows:
                return None
            row = rows[0]
        return _Patient(row.id, row.pid or "", row.issuer, row.name_n, known, origin_id)

    # Series

    def _find_series(self, turn: _Pass) -> None:
        uids = (record.series.uid for _, record in turn.undecided())
        for row in _SERIES[self.is_sqlite].listed(self.connection, uids):
            turn.series[row.uid] = _Series(row.id, row.uid, row.study_id)

    def _make_series(self, turn: _Pass) -> None:
        for place, record in sorted(turn.undecided(), key=lambda one: (one[1].series.uid, one[0])):
            study = turn.studies[record.study.uid]
            series = turn.series.get(record.series.uid) or self._make_one_series(study, record.series)
            turn.series[series.uid] = series
            if series.study_id != study.id:
                turn.outcomes[place] = Added(Outcome.SERIES_CONFLICT, "the series is part of another study")

    def _make_one_series(self, study: _Study, record: SeriesRecord) -> _Series:
        row = {name: getattr(record, name) for name in _SERIES_COLUMNS} | {"study_id": study.id}
        series_id = self._insert_or_none(schema.series, ["uid"], row)
        if series_id is None:
            [found] = _SERIES[self.is_sqlite].listed(self.connection, [record.uid])
            return _Series(found.id, record.uid, found.study_id)
        study.series += 1
        study.modalities |= _split(record.modality)
        return _Series(series_id, record.uid, study.id)

    # Instances and counts

    def _insert(self, turn: _Pass) -> None:
        fresh = turn.undecided()
        if not fresh:
            return
        blobs = self._blobs(sorted({(record.storage, record.key) for _, record in fresh}))
        rows = [
            _instance_row(record, turn.series[record.series.uid].id, blobs[record.storage, record.key])
            for _, record in fresh
        ]
        inserted = self._insert_rows(rows)
        used: dict[int, int] = {}
        for place, record in fresh:
            if record.uid not in inserted:
                continue
            turn.outcomes[place] = Added(Outcome.NEW)
            used[blobs[record.storage, record.key]] = used.get(blobs[record.storage, record.key], 0) + 1
            series, study = turn.series[record.series.uid], turn.studies[record.study.uid]
            series.instances += 1
            series.bytes += record.size
            study.sop_classes.add(record.cls)
        turn.used = used

    def _insert_rows(self, rows: list[dict[str, object]]) -> set[object]:
        """Insert instances; the UIDs of those that no other transaction has inserted meanwhile."""
        if self.is_sqlite:  # which has one writer: what was not there before is not there now
            _INSTANCE.run(self.connection, rows)
            return {row["uid"] for row in rows}
        rows = sorted(rows, key=lambda row: str(row["uid"]))  # as others that add the same do, or they wait in a circle
        columns = {name: [row[name] for row in rows] for name in _INSTANCE_COLUMNS}
        return {row.uid for row in _INSTANCES.all(self.connection, columns)}

    def _blobs(self, keys: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for storage, key in keys:
            row = {"b_storage": storage, "b_key": key}
            number: int | None = None
            while number is None:
                known = _BLOB.all(self.connection, row)
                new = {"storage": storage, "key": key}
                number = known[0].id if known else self._insert_or_none(schema.blob, ["storage", "key"], new)
            found[storage, key] = number
        return found

    def _count(self, turn: _Pass) -> None:
        """One update for each blob, series and study that has grown, and a line for each in the log of changes."""
        grown = [series for series in turn.series.values() if series.instances]
        by_id = {study.id: study for study in turn.studies.values()}
        for series in grown:
            by_id[series.study_id].instances += series.instances
            by_id[series.study_id].bytes += series.bytes
        studies = [study for _, study in sorted(by_id.items()) if study.instances or study.series]
        if not self.is_sqlite and any(study.is_wider and not study.is_new for study in studies):
            self._lock(studies)
        with in_one_go(self.connection):
            self._count_rows(turn, grown, studies)

    def _lock(self, studies: list[_Study]) -> None:
        """Keep others from counting; what they have added to a study is part of it."""
        by_uid = {study.uid: study for study in studies}
        for row in _WIDENED.listed(self.connection, by_uid):
            by_uid[row.uid].modalities |= _split(row.mods)
            by_uid[row.uid].sop_classes |= _split(row.sop_classes)

    def _count_rows(self, turn: _Pass, grown: list[_Series], studies: list[_Study]) -> None:
        """Studies first, in the order of their ids: who waits for one has counted nothing that another waits for."""
        if studies:
            _COUNT_STUDY.run(self.connection, [_growth(study, self.now) for study in studies])
        if wider := [study for study in studies if study.is_wider]:
            _WIDEN_STUDY.run(self.connection, [_width(study) for study in wider])
        if grown:
            rows = [{"b_id": one.id, "b_inst": one.instances, "b_bytes": one.bytes} for one in grown]
            _COUNT_SERIES.run(self.connection, rows)
        if turn.used:
            _COUNT_BLOB.run(self.connection, [{"b_id": one, "b_refs": count} for one, count in turn.used.items()])
        if studies:
            changes = [("new", "STUDY", study.uid) for study in studies if study.is_new]
            changes += [("stored", "SERIES", series.uid) for series in grown]
            _CHANGE.run(self.connection, [{"kind": kind, "level": level, "uid": uid} for kind, level, uid in changes])

    def _insert_or_none(self, table: Table, unique: list[str], row: Mapping[str, object]) -> int | None:
        """The id of the new row; None where there is one already."""
        rows = _insert_one(table, tuple(unique), tuple(row), in_sqlite=self.is_sqlite).all(self.connection, row)
        return int(rows[0].id) if rows else None


@cache
def _insert_one(table: Table, unique: tuple[str, ...], names: tuple[str, ...], *, in_sqlite: bool) -> Prepared:
    """Insert one row, unless there is one of that kind; its id."""
    make = sqlite.insert if in_sqlite else postgresql.insert
    statement = make(table).values({name: bindparam(name) for name in names})
    return Prepared(statement.on_conflict_do_nothing(index_elements=unique).returning(table.c.id))


_INSTANCE_COLUMNS = ("series_id", "uid", "cls", "ts", "number", "frames", "rows", "columns", "bits", "bytes", "sha",
                     "blob_id", "off", "attrs")  # fmt: skip
_PATIENT_COLUMNS = ("issuer", "name", "name_n", "name_i", "name_p", "birth", "sex", "attrs")
_SERIES_COLUMNS = ("uid", "modality", "number", "descr", "body", "station", "pps_uid", "attrs")
_STUDY_COLUMNS = ("uid", "date", "time", "acc", "issuer_acc", "study_id", "descr", "refphys", "refphys_n", "attrs")

_P, _S, _SE, _B = schema.patient.c, schema.study.c, schema.series.c, schema.blob.c
_PATIENTS = select(_P.id, _P.pid, _P.issuer, _P.name_n, _P.birth, _P.sex, _P.merged_into)
_PATIENT = Prepared(_PATIENTS.where(_P.pid == bindparam("b_pid"), _P.issuer == bindparam("b_issuer")))
_PATIENT_OF_ID = Prepared(_PATIENTS.where(_P.id == bindparam("b_id")))
_BLOB = Prepared(select(_B.id).where(_B.storage == bindparam("b_storage"), _B.key == bindparam("b_key")))
_INSTANCE = Prepared(insert(schema.instance).values({name: bindparam(name) for name in _INSTANCE_COLUMNS}))
_CHANGE = Prepared(insert(schema.change).inline().values({name: bindparam(name) for name in ("kind", "level", "uid")}))


def _insert_many() -> Insert:
    """Instances by lists of their columns, but for those whose UID is there: one text in PostgreSQL for any number."""
    kinds: dict[str, TypeEngine[Any]] = {name: schema.instance.c[name].type for name in _INSTANCE_COLUMNS}
    plain = {name: Text() if isinstance(kind, Text) else kind for name, kind in kinds.items()}
    lists = [bindparam(name, type_=postgresql.ARRAY(kind)) for name, kind in plain.items()]
    listed = func.unnest(*lists).table_valued(*_INSTANCE_COLUMNS, name="listed").render_derived()
    making = postgresql.insert(schema.instance).from_select(_INSTANCE_COLUMNS, select(*listed.c))
    return making.on_conflict_do_nothing(index_elements=["uid"]).returning(schema.instance.c.uid)


_INSTANCES = Prepared(_insert_many())


def _by_uid(query: Select[Any], column: ColumnElement[Any]) -> dict[bool, Prepared]:
    """A query of a list of UIDs, for SQLite (True) and PostgreSQL."""
    return {in_sqlite: Prepared(query.where(among(column, in_sqlite=in_sqlite))) for in_sqlite in (True, False)}


# In PostgreSQL no other deletes the studies, or from them, until the commit. Others may add to them, and wait only for
# the counts, which are the last before the commit.
_STUDIES = _by_uid(
    select(_S.id, _S.uid, _S.mods, _S.sop_classes, _S.patient_id, _P.pid, _P.issuer, _P.name_n, _P.birth, _P.sex)
    .join(schema.patient)
    .order_by(_S.uid)
    .with_for_update(of=schema.study, read=True, key_share=True),
    _S.uid,
)
_WIDENED = Prepared(
    select(_S.uid, _S.mods, _S.sop_classes)
    .where(among(_S.uid, in_sqlite=False))
    .order_by(_S.id)
    .with_for_update(key_share=True)
)
_SERIES = _by_uid(select(_SE.id, _SE.uid, _SE.study_id), _SE.uid)
_KNOWN = _by_uid(
    select(schema.instance.c.uid, schema.instance.c.sha, _SE.uid.label("series")).join(schema.series),
    schema.instance.c.uid,
)

_COUNT_BLOB = Prepared(update(schema.blob).where(_B.id == bindparam("b_id")).values(refs=_B.refs + bindparam("b_refs")))
_COUNT_SERIES = Prepared(
    update(schema.series)
    .where(_SE.id == bindparam("b_id"))
    .values(n_inst=_SE.n_inst + bindparam("b_inst"), bytes=_SE.bytes + bindparam("b_bytes"), version=_SE.version + 1)
)
_COUNT_STUDY = Prepared(
    update(schema.study)
    .where(_S.id == bindparam("b_id"))
    .values(
        n_series=_S.n_series + bindparam("b_series"),
        n_inst=_S.n_inst + bindparam("b_inst"),
        bytes=_S.bytes + bindparam("b_bytes"),
        seen_at=bindparam("b_now"),
        version=_S.version + 1,
        state="",
    )
)
_WIDEN_STUDY = Prepared(
    update(schema.study)
    .where(_S.id == bindparam("b_id"))
    .values(mods=bindparam("b_mods"), sop_classes=bindparam("b_classes"))
)


def _split(values: str) -> set[str]:
    return set(values.split("\\")) - {""}


def _same_id(known: _Patient, told: PatientRecord) -> bool:
    """Whether an ID is the known one; an instance without an ID, or without an issuer, is its study's patient's."""
    if not told.pid:
        return True
    return told.pid == known.pid and (told.issuer == known.issuer or not told.issuer)


def _study_row(record: StudyRecord, patient: _Patient, now: float) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(record, name) for name in _STUDY_COLUMNS}
    row |= {"patient_id": patient.id, "origin_id": patient.origin_id or patient.id}
    return row | {"pid": patient.pid, "name_n": patient.name_n, "seen_at": now}


def _instance_row(record: InstanceRecord, series_id: int, blob_id: int) -> dict[str, object]:
    return {
        "series_id": series_id,
        "uid": record.uid,
        "cls": record.cls,
        "ts": record.ts,
        "number": record.number,
        "frames": record.frames,
        "rows": record.rows,
        "columns": record.columns,
        "bits": record.bits,
        "bytes": record.size,
        "sha": record.sha,
        "blob_id": blob_id,
        "off": record.offset,
        "attrs": record.attrs or None,
    }


def _growth(study: _Study, now: float) -> dict[str, object]:
    return {
        "b_id": study.id,
        "b_series": study.series,
        "b_inst": study.instances,
        "b_bytes": study.bytes,
        "b_now": now,
    }


def _width(study: _Study) -> dict[str, object]:
    return {
        "b_id": study.id,
        "b_mods": "\\".join(sorted(study.modalities)),
        "b_classes": "\\".join(sorted(study.sop_classes)),
    }
