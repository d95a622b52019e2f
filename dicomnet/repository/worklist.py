"""The worklist: what is requested of modalities, in rows; see `worklist_query` for how they ask for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from sqlalchemy import Connection, RowMapping, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from ..errors import InvalidArgument
from .database import Database
from .dicom_json import DicomJson, set_text, text_at
from .prepared import Prepared
from .work_schema import worklist, worklist_step
from .worklist_item import (
    ACCESSION,
    ISSUER,
    PATIENT_ID,
    REQUESTED_PROCEDURE_ID,
    STEP_STATUS,
    STEPS,
    STUDY_UID,
    Entry,
    completed,
    item_row,
    merged,
    step_row,
    step_rows,
)
from .worklist_query import WorklistQuery

__all__ = ["NoSuchItem", "Worklist", "WorklistConflict", "report_status"]

_PAGE = 500

T = TypeVar("T")


class WorklistConflict(InvalidArgument):
    """An item that is there already, or that has changed since it was read.

    Attributes:
        id: of the item that is there.
    """

    def __init__(self, what: str, id: int) -> None:
        super().__init__(what)
        self.id = id


class NoSuchItem(InvalidArgument):
    """There is no such item."""

    def __init__(self, id: int) -> None:
        super().__init__(f"the worklist has no item {id}", hint="`dicomnet worklist list` shows those that there are.")


class Worklist:
    """The worklist of a repository. Items are DICOM JSON; each change is a transaction of its own.

    An item is the same as another one if Study Instance UID, Accession Number and Requested Procedure ID are: two
    orders with one study are two items.

    Args:
        database: where it is.
        clock: seconds since 1970.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    def add(self, item: DicomJson) -> Entry:
        """Add an item.

        Raises:
            WorklistConflict: it is there.
            InvalidArgument: it lacks what an item must have.
        """

        def work(connection: Connection) -> Entry:
            known = _same(connection, item)
            if known is not None:
                raise WorklistConflict(f"the worklist has this item: it is item {known.id}", known.id)
            return self._insert(connection, completed(item))

        return self._transaction(work)

    def put(self, item: DicomJson) -> tuple[Entry, bool]:
        """Add an item, or replace the one that is the same; whether it is new.

        What the new one leaves out is as it was: its UID, its identifiers, the states of its steps. An item without
        Study Instance UID is the same as one of this patient with its accession number, or requested procedure.

        Raises:
            InvalidArgument: it lacks what an item must have.
        """
        return self._transaction(lambda connection: self.put_in(connection, item))

    def put_in(self, connection: Connection, item: DicomJson) -> tuple[Entry, bool]:
        """`put` in the caller's transaction.

        Raises:
            sqlalchemy.exc.IntegrityError: another process adds the same: it is there in the next transaction.
        """
        known = _same(connection, item)
        if known is None:
            return self._insert(connection, completed(item)), True
        return self._replace(connection, known, completed(item, known.item)), False

    def change(self, id: int, changes: DicomJson, *, version: int | None = None) -> Entry:
        """Change elements of an item; see `worklist_item.merged`.

        Args:
            id: of the item.
            changes: the elements, in DICOM JSON.
            version: that the item must have.

        Raises:
            NoSuchItem: there is none.
            WorklistConflict: it has another version, or became the same as another item.
            InvalidArgument: it would lack what an item must have.
        """

        def work(connection: Connection) -> Entry:
            entry = _read(connection, id, lock=True)
            if entry is None:
                raise NoSuchItem(id)
            if version is not None and version != entry.version:
                raise WorklistConflict(f"item {id} has changed: it has version {entry.version}", id)
            return self._replace(connection, entry, completed(merged(entry.item, changes), entry.item))

        return self._transaction(work)

    def correct_patient(self, connection: Connection, patient: DicomJson, old_id: str = "") -> int:
        """Give all items of a patient what is known of them now; how many those are.

        Args:
            connection: of the transaction that it is part of.
            patient: the patient's attributes, with the ID.
            old_id: Patient ID of the items, where it was another one.

        Raises:
            InvalidArgument: the patient has no ID.
        """
        wanted = old_id or text_at(patient, PATIENT_ID)
        if not text_at(patient, PATIENT_ID):
            raise InvalidArgument("the patient has no Patient ID")
        query = select(worklist.c.id).where(worklist.c.pid == wanted)
        issuer = text_at(patient, ISSUER)
        if issuer:
            query = query.where(worklist.c.issuer.in_(["", issuer]))
        numbers = connection.execute(query.order_by(worklist.c.id)).scalars().all()
        entries = [_read(connection, one, lock=True) for one in numbers]
        changed = [entry for entry in entries if entry is not None and entry.item != entry.item | patient]
        for entry in changed:
            self._replace(connection, entry, completed(entry.item | patient, entry.item))
        return len(changed)

    def remove(self, id: int) -> None:
        """Remove an item.

        Raises:
            NoSuchItem: there is none.
        """
        with self._database.write() as connection:
            if not connection.execute(delete(worklist).where(worklist.c.id == id)).rowcount:
                raise NoSuchItem(id)

    def get(self, id: int) -> Entry:
        """An item.

        Raises:
            NoSuchItem: there is none.
        """
        with self._database.read() as connection:
            entry = _read(connection, id)
        if entry is None:
            raise NoSuchItem(id)
        return entry

    def __iter__(self) -> Iterator[Entry]:
        """All items in the order in which they were added, those whose steps have ended included."""
        after = 0
        while True:
            with self._database.read() as connection:
                entries = _page(connection, after)
            yield from entries
            if len(entries) < _PAGE:
                return
            after = entries[-1].id

    def search(self, query: WorklistQuery) -> Iterator[tuple[int, DicomJson]]:
        """The steps that match, in DICOM JSON with their items, each with the number of its item."""
        return query.records(self._database)

    # ---- rows --------------------------------------------------------------------------------------------------

    def _transaction(self, work: Callable[[Connection], T]) -> T:
        """Another process may add the same at the same time: then it is there at the second look."""
        try:
            return self._database.transaction(work)
        except IntegrityError:
            return self._once_more(work)

    def _once_more(self, work: Callable[[Connection], T]) -> T:
        try:
            return self._database.transaction(work)
        except IntegrityError as error:
            what = "another item has this study, accession number and requested procedure"
            raise WorklistConflict(what, 0) from error

    def _insert(self, connection: Connection, item: DicomJson) -> Entry:
        row = item_row(item) | {"changed": self._clock()}
        [(number,)] = _ITEM.all(connection, row)
        _STEP.run(connection, [one | {"item_id": number} for one in step_rows(item)])
        return Entry(number, 1, item)

    def _replace(self, connection: Connection, entry: Entry, item: DicomJson) -> Entry:
        row = item_row(item) | {"changed": self._clock(), "version": entry.version + 1}
        connection.execute(update(worklist).where(worklist.c.id == entry.id).values(row))
        connection.execute(delete(worklist_step).where(worklist_step.c.item_id == entry.id))
        _STEP.run(connection, [one | {"item_id": entry.id} for one in step_rows(item)])
        return Entry(entry.id, entry.version + 1, item)


_ITEM_COLUMNS = ("study_uid", "acc", "rp_id", "pid", "issuer", "name_n", "data", "changed")
_STEP_COLUMNS = ("item_id", "sps_id", "date", "time", "modality", "stations", "status", "is_open", "data")
_ITEM = Prepared(insert(worklist).values({one: bindparam(one) for one in _ITEM_COLUMNS}).returning(worklist.c.id))
_STEP = Prepared(insert(worklist_step).values({one: bindparam(one) for one in _STEP_COLUMNS}))


def _same(connection: Connection, item: DicomJson) -> Entry | None:
    """The item that is the same as this one."""
    uid, acc, request = (text_at(item, tag) for tag in (STUDY_UID, ACCESSION, REQUESTED_PROCEDURE_ID))
    wanted = [worklist.c.acc == acc]
    if uid:
        wanted.append(worklist.c.study_uid == uid)
    elif not acc and not request:
        return None
    else:
        wanted.append(worklist.c.pid == text_at(item, PATIENT_ID))
    if request:
        wanted.append(worklist.c.rp_id == request)
    found = connection.execute(select(worklist.c.id).where(*wanted).order_by(worklist.c.id).limit(1)).scalar()
    return None if found is None else _read(connection, found, lock=True)


def _read(connection: Connection, id: int, *, lock: bool = False) -> Entry | None:
    query = select(worklist).where(worklist.c.id == id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    return None if row is None else _entries(connection, [row])[0]


def _page(connection: Connection, after: int) -> list[Entry]:
    query = select(worklist).where(worklist.c.id > after).order_by(worklist.c.id).limit(_PAGE)
    return _entries(connection, connection.execute(query).mappings().all())


def _entries(connection: Connection, rows: Sequence[RowMapping]) -> list[Entry]:
    step = worklist_step.c
    ids = [row["id"] for row in rows]
    steps: dict[int, list[DicomJson]] = {one: [] for one in ids}
    query = select(step.item_id, step.data).where(step.item_id.in_(ids)).order_by(step.id)
    for owner, data in connection.execute(query):
        steps[owner].append(json.loads(data))
    return [Entry(row["id"], row["version"], json.loads(row["data"]) | _sequence(steps[row["id"]])) for row in rows]


def _sequence(steps: list[DicomJson]) -> DicomJson:
    return {f"{STEPS:08X}": {"vr": "SQ", "Value": steps}}


def report_status(connection: Connection, study_uid: str, step_id: str, status: str) -> int:
    """Give steps of a study another status, in the caller's transaction; how many those were.

    Args:
        connection: the transaction.
        study_uid: Study Instance UID of their requests.
        step_id: Scheduled Procedure Step ID.
        status: Scheduled Procedure Step Status.
    """
    step = worklist_step.c
    query = (
        select(step.id, step.item_id, step.data)
        .join(worklist, worklist.c.id == step.item_id)
        .where(worklist.c.study_uid == study_uid, step.sps_id == step_id)
    )
    rows = connection.execute(query).all()
    for number, item_id, data in rows:
        item: DicomJson = json.loads(data)
        set_text(item, STEP_STATUS, status)
        connection.execute(update(worklist_step).where(step.id == number).values(step_row(item)))
        newer = update(worklist).where(worklist.c.id == item_id).values(version=worklist.c.version + 1)
        connection.execute(newer)
    return len(rows)
