"""Unified procedure steps in rows: their states, who performs them, and who is told (PS3.4 Annex CC)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from .. import uids
from .catalog import VR_OF
from .conditions import condition_of
from .database import Database
from .dicom_json import DicomJson, attributes_of_json, packed, set_text, text_at
from .keys import Identifier
from .node_events import NodeEvents
from .work_schema import workitem, workitem_subscription
from .workitem_reports import (
    ASSIGNED,
    CANCEL_REQUESTED,
    PROGRESS_REPORT,
    SCP_STATUS,
    STATE_REPORT,
    assignment,
    cancelled,
    progress,
    restarted,
    state_report,
)
from .workitem_rules import (
    CANCELED,
    FINAL,
    IN_PROGRESS,
    SCHEDULED,
    STATE,
    WORKLIST_LABEL,
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
#: Deletion locks that one AE may hold: one that never lets go does not fill the database.
MOST_LOCKS = 10_000
#: Worklist Label of an item that comes without one (PS3.4 Table CC.2.5-3).
LABEL = "GENERAL"
_MODIFIED, _REQUESTING, _INSTANCE = 0x00404010, 0x00741236, 0x00080018
_PAGE = 200
_EVENT = "workitem"  # the kind of events that nodes tell each other
_WITH_MODIFICATIONS, _LOCK_NOT_GRANTED = 0xB300, 0xB301

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Notice:
    """What subscribers are told of an item.

    Attributes:
        uid: of the item.
        event: its type: 1 state, 2 cancel requested, 3 progress, 4 the server's own status, 5 assigned.
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


Listener = Callable[[Sequence[Notice]], None]


class Workitems:
    """The work items of a repository. Each call is a transaction; who listens is told of it in the order of changes.

    Args:
        database: where they are.
        clock: seconds since 1970.
        most_locks: deletion locks that one AE may hold.
        events: tells other nodes what has changed.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.time,
        most_locks: int = MOST_LOCKS,
        events: NodeEvents | None = None,
    ) -> None:
        self._database, self._clock, self._most_locks = database, clock, most_locks
        self._events = events
        if events is not None:
            events.listen(_EVENT, self._heard)
        self._subscriptions = Subscriptions()
        self._order = threading.Lock()
        self._listeners: list[Listener] = []
        self._everywhere: list[Listener] = []

    def listen(self, listener: Listener, *, everywhere: bool = False) -> None:
        """Have a function called with what subscribers are to be told; it must not wait, and may be called anywhere.

        Args:
            listener: the function.
            everywhere: also with what has changed at other nodes, in the order of changes at each of them.
        """
        self._listeners.append(listener)
        if everywhere:
            self._everywhere.append(listener)

    def _changed(self, work: Callable[[Connection], tuple[T, list[Notice]]]) -> T:
        def told(connection: Connection) -> tuple[T, list[Notice]]:
            result, notices = work(connection)
            notices = [one for one in notices if one.to]
            if notices and self._events is not None:
                self._events.put(connection, _EVENT, [asdict(one) for one in notices])
            return result, notices

        with self._order:
            result, notices = self._database.transaction(told)
            for listener in self._listeners if notices else ():
                listener(notices)
        return result

    def _heard(self, data: list[dict[str, Any]]) -> None:
        """What another node has changed."""
        notices = [Notice(one["uid"], one["event"], one["item"], tuple(one["to"])) for one in data]
        for listener in self._everywhere:
            listener(notices)

    # ---- items -------------------------------------------------------------------------------------------------

    def create(self, item: DicomJson, uid: str) -> int:
        """Keep a new item; 0, or B300 where something was filled in.

        Raises:
            WorkitemRefused: 0111 if it is there, 0106, 0120, 0121 or C309 for what it says.
        """
        check_new(item)
        item = self._stamped({tag: one for tag, one in item.items() if tag != "00081195"})
        item["00080018"] = {"vr": "UI", "Value": [uid]}
        item["00080016"] = {"vr": "UI", "Value": [uids.UNIFIED_PROCEDURE_STEP_PUSH]}
        filled = 0 if text_at(item, WORKLIST_LABEL) else _WITH_MODIFICATIONS
        if filled:
            set_text(item, WORKLIST_LABEL, LABEL)

        def work(connection: Connection) -> tuple[int, list[Notice]]:
            self._purge(connection)
            values = {"uid": uid, "state": SCHEDULED, "changed": self._clock(), "data": packed(item)}
            connection.execute(insert(workitem).values(values))
            self._subscriptions.joined(connection, uid, attributes_of_json(item))
            notices = [self._notice(connection, uid, STATE_REPORT, state_report(item, SCHEDULED))]
            if assigned := assignment(item):
                notices.append(self._notice(connection, uid, ASSIGNED, assigned))
            return filled, notices

        try:
            return self._changed(work)
        except IntegrityError as error:
            raise WorkitemRefused(0x0111) from error

    def get(self, uid: str) -> DicomJson:
        """An item; its Transaction UID is known to its performer alone.

        Raises:
            WorkitemRefused: C307, if there is none.
        """
        with self._database.read() as connection:
            return self._read(connection, uid, lock=False).item

    def change(self, uid: str, changes: DicomJson, transaction: str = "") -> None:
        """Replace attributes of an item.

        Raises:
            WorkitemRefused: C307, C300, C301, C310 or 0106.
        """
        given = transaction or text_at(changes, 0x00081195)
        changes = {tag: one for tag, one in changes.items() if tag != "00081195"}

        def work(connection: Connection) -> tuple[None, list[Notice]]:
            row = self._read(connection, uid)
            check_change(row.state, changes, is_performer=given == row.transaction != "", has_transaction=bool(given))
            item = self._stamped(row.item | changes)
            self._write(connection, uid, item)
            return None, list(self._told(connection, row, item))

        self._changed(work)

    def _told(self, connection: Connection, row: _Row, item: DicomJson) -> Iterator[Notice]:
        before = row.item
        if state_report(before, row.state) != (now := state_report(item, row.state)):
            yield self._notice(connection, row.uid, STATE_REPORT, now)
        if progress(before) != (now := progress(item)):
            yield self._notice(connection, row.uid, PROGRESS_REPORT, now)
        if assignment(before) != (now := assignment(item)):
            yield self._notice(connection, row.uid, ASSIGNED, now)

    def change_state(self, uid: str, state: str, transaction: str) -> int:
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
            return 0, [self._moved(connection, row, found, transaction)]

        if transaction and not uids.is_valid(transaction):
            raise WorkitemRefused(0x0106, "the Transaction UID is no UID", 0x00081195)
        return self._changed(work)

    def _moved(
        self, connection: Connection, row: _Row, state: str, transaction: str, why: DicomJson | None = None
    ) -> Notice:
        item = self._stamped(row.item)
        set_text(item, STATE, state)
        if state == CANCELED:
            item = cancelled(item, why or {}, self._now())
        self._write(connection, row.uid, item, state=state, txn=transaction)
        return self._notice(connection, row.uid, STATE_REPORT, state_report(item, state))

    def request_cancel(self, uid: str, why: DicomJson, requesting: str = "") -> None:
        """Cancel an item that is scheduled; of one in progress, those who are subscribed are told.

        Raises:
            WorkitemRefused: C307, C311, C312 if no AE is subscribed, or B304 if it is cancelled already.
        """

        def work(connection: Connection) -> tuple[None, list[Notice]]:
            row = self._read(connection, uid)
            found = outcome("cancel", row.state, is_performer=False)
            if isinstance(found, int):
                raise WorkitemRefused(found)
            if found == CANCELED:  # by way of IN PROGRESS, as if we performed it (PS3.4 Section CC.2.2.3)
                states = (IN_PROGRESS, CANCELED)
                return None, [self._moved(connection, row, state, uids.new(), why) for state in states]
            told = dict(why) | {f"{_REQUESTING:08X}": {"vr": "AE", "Value": [requesting or "ANONYMOUS"]}}
            notice = self._notice(connection, uid, CANCEL_REQUESTED, told)
            if not notice.to:
                raise WorkitemRefused(0xC312)
            return None, [notice]

        self._changed(work)

    def search(self, identifier: Identifier, offset: int = 0, limit: int = 1000) -> list[DicomJson]:
        """The items that match, in the order in which they were made."""
        found: list[DicomJson] = []
        for item in self.find(identifier):
            if offset:
                offset -= 1
                continue
            found.append(item)
            if len(found) == limit:
                break
        return found

    def find(self, identifier: Identifier) -> Iterator[DicomJson]:
        """The items that match, one by one; keys that work items are not matched by do not count."""
        wheres = []
        for tag, column in ((STATE, workitem.c.state), (_INSTANCE, workitem.c.uid)):
            key = identifier[tag]
            if key is not None and key.criterion is not None:
                where = condition_of(key.criterion, column).where
                wheres += [] if where is None else [where]
        after = 0
        while True:
            query = select(workitem.c.id, workitem.c.data).where(workitem.c.id > after, *wheres).order_by(workitem.c.id)
            with self._database.read() as connection:
                rows = connection.execute(query.limit(_PAGE)).all()
            for _, data in rows:
                item = json.loads(data)
                if _matches(identifier, item):
                    yield item
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    # ---- subscriptions -----------------------------------------------------------------------------------------

    def subscribe(self, aet: str, uid: str, *, locked: bool = False, keys: Identifier | None = None,
                  text: str = "") -> int:  # fmt: skip
        """Tell an AE of an item from now on, or of all, or of all that match keys; 0, or B301 without the lock.

        It is told at once of the state of the item, or with a lock on all, of each of them (PS3.4 Section CC.2.4.3).

        Args:
            aet: who is to be told.
            uid: of the item, or `GLOBAL`, or `FILTERED`.
            locked: whether the item may not be deleted before the AE lets go of it.
            keys, text: of a filtered subscription, read and as they are to be kept.

        Raises:
            WorkitemRefused: C307.
        """

        def work(connection: Connection) -> tuple[int, list[Notice]]:
            granted = locked and self._subscriptions.locks_of(connection, aet) < self._most_locks
            if uid in (GLOBAL, FILTERED):
                notices = self._subscribe_to_all(connection, aet, uid, granted, keys, text)
            else:
                row = self._read(connection, uid, lock=False)
                self._subscriptions.put(connection, aet, uid, granted)
                notices = [Notice(uid, STATE_REPORT, state_report(row.item, row.state), (aet,))]
            return _LOCK_NOT_GRANTED if locked and not granted else 0, notices

        return self._changed(work)

    def _subscribe_to_all(
        self, connection: Connection, aet: str, uid: str, locked: bool, keys: Identifier | None, text: str
    ) -> list[Notice]:
        """What an AE was told to do about one item goes before what it is told of all (PS3.4 Table CC.2.3-2)."""
        known = self._subscriptions.items_of(connection, aet)
        self._subscriptions.put(connection, aet, uid, locked, text)
        notices = []
        for one, state, item in self._every(connection):
            if keys is not None and not _matches(keys, item):
                continue
            if one not in known:
                self._subscriptions.put(connection, aet, one, locked)
            if locked:
                notices.append(Notice(one, STATE_REPORT, state_report(item, state), (aet,)))
        return notices

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
        """Subscribe an AE to no more new items; it is told of those that it is subscribed to.

        Raises:
            WorkitemRefused: C314, of one item.
        """
        if uid not in (GLOBAL, FILTERED):
            raise WorkitemRefused(0xC314)
        self._database.transaction(lambda connection: self._subscriptions.suspend(connection, aet, uid))

    def restarted(self, others: Iterable[str] = ()) -> None:
        """Tell all subscribers, and others, that the server has begun again and has lost nothing."""

        def work(connection: Connection) -> tuple[None, list[Notice]]:
            to = tuple(dict.fromkeys((*self._subscriptions.all(connection), *others)))
            return None, [Notice(GLOBAL, SCP_STATUS, restarted(), to)]

        self._changed(work)

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
        key.criterion.accepts(attributes.get(f"{key.tag:08X}", ""))
        for key in keys.keys
        if key.criterion is not None and key.tag in VR_OF
    )
