"""Unified procedure steps in rows: their states, who performs them, and who is told (PS3.4 Annex CC)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from .. import uids
from .catalog import VR_OF
from .database import Database
from .dicom_json import DicomJson, attributes_of_json, items_at, packed, set_text, text_at
from .keys import Identifier
from .work_schema import workitem, workitem_subscription
from .workitem_rules import (
    CANCELED,
    FINAL,
    PROGRESS,
    READINESS,
    SCHEDULED,
    STATE,
    WorkitemRefused,
    check_change,
    check_final,
    check_new,
    outcome,
)
from .workitem_subscriptions import FILTERED, GLOBAL, Subscriptions

__all__ = ["FILTERED", "GLOBAL", "Notice", "Workitems"]

#: Seconds for which an item that has ended is kept, where no deletion lock keeps it longer.
KEPT = 7 * 86400.0
_MODIFIED, _CANCELLED_AT, _REASON, _REQUESTING = 0x00404010, 0x00404052, 0x00741238, 0x00741236
_STATIONS = (0x00404025, 0x00404026, 0x00404027, 0x00404034)
_PAGE = 200

#: Event types (PS3.4 Table CC.2.4-1).
STATE_REPORT, CANCEL_REQUESTED, PROGRESS_REPORT, ASSIGNED = 1, 2, 3, 5


@dataclass(frozen=True, slots=True)
class Notice:
    """What subscribers are told of an item.

    Attributes:
        uid: of the item.
        event: its type: 1 state, 2 cancel requested, 3 progress, 5 assigned.
        item: what it says.
        to: the AE titles of who is told.
    """

    uid: str
    event: int
    item: DicomJson
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    uid: str
    state: str
    transaction: str
    item: DicomJson


class Workitems:
    """The work items of a repository. Each call is a transaction; what subscribers are to be told it gives back.

    Args:
        database: where they are.
        clock: seconds since 1970.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock
        self._subscriptions = Subscriptions()

    # ---- items -------------------------------------------------------------------------------------------------

    def create(self, item: DicomJson, uid: str) -> list[Notice]:
        """Keep a new item.

        Raises:
            WorkitemRefused: 0111 if it is there, 0106, 0120 or C309 for what it says.
        """
        check_new(item)
        item = self._stamped({tag: one for tag, one in item.items() if tag != "00081195"})
        item["00080018"] = {"vr": "UI", "Value": [uid]}
        item["00080016"] = {"vr": "UI", "Value": [uids.UNIFIED_PROCEDURE_STEP_PUSH]}

        def work(connection: Connection) -> list[Notice]:
            self._purge(connection)
            values = {"uid": uid, "state": SCHEDULED, "changed": self._clock(), "data": packed(item)}
            connection.execute(insert(workitem).values(values))
            self._subscriptions.joined(connection, uid, attributes_of_json(item))
            notices = [self._notice(connection, uid, STATE_REPORT, _state_report(item, SCHEDULED))]
            if any(items_at(item, tag) for tag in _STATIONS):
                notices.append(self._notice(connection, uid, ASSIGNED, _assignment(item)))
            return notices

        try:
            return self._database.transaction(work)
        except IntegrityError as error:
            raise WorkitemRefused(0x0111) from error

    def get(self, uid: str) -> DicomJson:
        """An item; its Transaction UID is known to its performer alone.

        Raises:
            WorkitemRefused: C307, if there is none.
        """
        with self._database.read() as connection:
            return self._read(connection, uid, lock=False).item

    def change(self, uid: str, changes: DicomJson, transaction: str = "") -> list[Notice]:
        """Replace attributes of an item.

        Raises:
            WorkitemRefused: C307, C300, C301, C310 or 0106.
        """
        given = transaction or text_at(changes, 0x00081195)
        changes = {tag: one for tag, one in changes.items() if tag != "00081195"}

        def work(connection: Connection) -> list[Notice]:
            row = self._read(connection, uid)
            check_change(row.state, changes, is_performer=given == row.transaction != "", has_transaction=bool(given))
            item = self._stamped(row.item | changes)
            self._write(connection, uid, item)
            return list(self._told(connection, row, item))

        return self._database.transaction(work)

    def _told(self, connection: Connection, row: _Row, item: DicomJson) -> Iterator[Notice]:
        def differs(*tags: int) -> bool:
            return any(item.get(f"{tag:08X}") != row.item.get(f"{tag:08X}") for tag in tags)

        if differs(READINESS):
            yield self._notice(connection, row.uid, STATE_REPORT, _state_report(item, row.state))
        if differs(PROGRESS):
            told = {f"{PROGRESS:08X}": item.get(f"{PROGRESS:08X}", {"vr": "SQ"})}
            yield self._notice(connection, row.uid, PROGRESS_REPORT, told)
        if differs(*_STATIONS):
            yield self._notice(connection, row.uid, ASSIGNED, _assignment(item))

    def change_state(self, uid: str, state: str, transaction: str) -> tuple[int, list[Notice]]:
        """Take an item, or end it; 0, or the warning B304 or B306.

        Raises:
            WorkitemRefused: C300 to C304, C307, C310.
        """

        def work(connection: Connection) -> tuple[int, list[Notice]]:
            row = self._read(connection, uid)
            is_performer = row.transaction == transaction != ""
            found = outcome(state, row.state, is_performer=is_performer, has_transaction=bool(transaction))
            if isinstance(found, int):
                return found, []
            check_final(row.item, found)
            return 0, self._moved(connection, row, found, transaction)

        if transaction and not uids.is_valid(transaction):
            raise WorkitemRefused(0x0106, "the Transaction UID is no UID")
        return self._database.transaction(work)

    def _moved(self, connection: Connection, row: _Row, state: str, transaction: str) -> list[Notice]:
        item = self._stamped(row.item)
        set_text(item, STATE, state)
        if state == CANCELED:
            progress = [dict(one) for one in items_at(item, PROGRESS)] or [{}]
            progress[0].setdefault(f"{_CANCELLED_AT:08X}", {"vr": "DT", "Value": [self._now()]})
            item[f"{PROGRESS:08X}"] = {"vr": "SQ", "Value": progress}
        self._write(connection, row.uid, item, state=state, txn=transaction or row.transaction)
        return [self._notice(connection, row.uid, STATE_REPORT, _state_report(item, state))]

    def request_cancel(self, uid: str, why: DicomJson, requesting: str = "") -> list[Notice]:
        """Cancel an item that is scheduled; of one in progress, who performs it is told.

        Raises:
            WorkitemRefused: C307, C311, or B304 if it is cancelled already.
        """

        def work(connection: Connection) -> list[Notice]:
            row = self._read(connection, uid)
            found = outcome("cancel", row.state, is_performer=False)
            if isinstance(found, int):
                raise WorkitemRefused(found)
            if found == CANCELED:
                row.item.update({tag: one for tag, one in why.items() if tag == f"{_REASON:08X}"})
                return self._moved(connection, row, CANCELED, "")
            told = dict(why) | {f"{_REQUESTING:08X}": {"vr": "AE", "Value": [requesting or "ANONYMOUS"]}}
            return [self._notice(connection, uid, CANCEL_REQUESTED, told)]

        return self._database.transaction(work)

    def search(self, identifier: Identifier, offset: int = 0, limit: int = 1000) -> list[DicomJson]:
        """The items that match, in the order in which they were made."""
        criteria = {key.tag: key.criterion for key in identifier.keys if key.criterion is not None and key.tag in VR_OF}
        found: list[DicomJson] = []
        for item in self._all():
            attributes = attributes_of_json(item)
            if all(one.accepts(attributes.get(f"{tag:08X}", "")) for tag, one in criteria.items()):
                if offset:
                    offset -= 1
                    continue
                found.append(item)
                if len(found) == limit:
                    break
        return found

    def _all(self) -> Iterator[DicomJson]:
        after = 0
        while True:
            query = select(workitem.c.id, workitem.c.data).where(workitem.c.id > after).order_by(workitem.c.id)
            with self._database.read() as connection:
                rows = connection.execute(query.limit(_PAGE)).all()
            yield from (json.loads(data) for _, data in rows)
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    # ---- subscriptions -----------------------------------------------------------------------------------------

    def subscribe(self, aet: str, uid: str, *, locked: bool = False, keys: Identifier | None = None,
                  text: str = "") -> list[Notice]:  # fmt: skip
        """Tell an AE of an item from now on, or of all, or of all that match keys; at first, of its state.

        Args:
            aet: who is to be told.
            uid: of the item, or `GLOBAL`, or `FILTERED`.
            locked: whether the item may not be deleted before the AE lets go of it.
            keys, text: of a filtered subscription, read and as they are to be kept.

        Raises:
            WorkitemRefused: C307.
        """

        def work(connection: Connection) -> list[Notice]:
            if uid not in (GLOBAL, FILTERED):
                row = self._read(connection, uid, lock=False)
                self._subscriptions.put(connection, aet, uid, locked)
                return [Notice(uid, STATE_REPORT, _state_report(row.item, row.state), (aet,))]
            self._subscriptions.put(connection, aet, uid, locked, text)
            notices = []
            for one, state, item in self._every(connection):
                if keys is None or _matches(keys, item):
                    self._subscriptions.put(connection, aet, one, locked)
                    notices.append(Notice(one, STATE_REPORT, _state_report(item, state), (aet,)))
            return notices

        return self._database.transaction(work)

    def unsubscribe(self, aet: str, uid: str) -> None:
        """Tell an AE no more of an item; of a well-known UID, of none at all. Its deletion locks go.

        Raises:
            WorkitemRefused: C307.
        """

        def work(connection: Connection) -> None:
            if uid not in (GLOBAL, FILTERED):
                self._read(connection, uid, lock=False)
            self._subscriptions.remove(connection, aet, uid)

        self._database.transaction(work)

    def suspend(self, aet: str, uid: str) -> None:
        """Subscribe an AE to no more new items; it is told of those that it is subscribed to."""
        self._database.transaction(lambda connection: self._subscriptions.suspend(connection, aet, uid))

    # ---- rows --------------------------------------------------------------------------------------------------

    def _read(self, connection: Connection, uid: str, *, lock: bool = True) -> _Row:
        columns = workitem.c
        query = select(columns.state, columns.txn, columns.data).where(columns.uid == uid)
        found = connection.execute(query.with_for_update() if lock else query).first()
        if found is None:
            raise WorkitemRefused(0xC307)
        return _Row(uid, found[0], found[1], json.loads(found[2]))

    def _every(self, connection: Connection) -> Iterator[tuple[str, str, DicomJson]]:
        columns = workitem.c
        query = select(columns.uid, columns.state, columns.data).order_by(columns.id)
        for uid, state, data in connection.execute(query).all():
            yield uid, state, json.loads(data)

    def _write(self, connection: Connection, uid: str, item: DicomJson, **columns: str) -> None:
        values = {"changed": self._clock(), "data": packed(item), **columns}
        connection.execute(update(workitem).where(workitem.c.uid == uid).values(values))

    def _notice(self, connection: Connection, uid: str, event: int, item: DicomJson) -> Notice:
        return Notice(uid, event, item, self._subscriptions.of(connection, uid))

    def _purge(self, connection: Connection) -> None:
        """Items that ended long ago, and that no subscriber has locked, go."""
        locked = select(workitem_subscription.c.uid).where(workitem_subscription.c.locked == 1)
        ended: Sequence[str] = connection.execute(
            select(workitem.c.uid)
            .where(workitem.c.state.in_(sorted(FINAL)), workitem.c.changed < self._clock() - KEPT)
            .where(workitem.c.uid.not_in(locked))
            .limit(_PAGE)
        ).scalars().all()  # fmt: skip
        if ended:
            connection.execute(delete(workitem).where(workitem.c.uid.in_(ended)))
            connection.execute(delete(workitem_subscription).where(workitem_subscription.c.uid.in_(ended)))

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock()).strftime("%Y%m%d%H%M%S")

    def _stamped(self, item: DicomJson) -> DicomJson:
        return item | {f"{_MODIFIED:08X}": {"vr": "DT", "Value": [self._now()]}}


def _matches(keys: Identifier, item: DicomJson) -> bool:
    attributes = attributes_of_json(item)
    return all(
        key.criterion.accepts(attributes.get(f"{key.tag:08X}", "")) for key in keys.keys if key.criterion is not None
    )


def _state_report(item: DicomJson, state: str) -> DicomJson:
    told: DicomJson = {f"{READINESS:08X}": item.get(f"{READINESS:08X}", {"vr": "CS"})}
    set_text(told, STATE, state)
    if state == CANCELED and f"{_REASON:08X}" in item:
        told[f"{_REASON:08X}"] = item[f"{_REASON:08X}"]
    return told


def _assignment(item: DicomJson) -> DicomJson:
    return {f"{tag:08X}": item[f"{tag:08X}"] for tag in _STATIONS if f"{tag:08X}" in item}
