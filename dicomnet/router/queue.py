"""The queues: what waits for each destination, in rows that survive a crash, and what became of what left them.

A worker takes deliveries under a lease; if it dies, the lease ends and they are taken again. So each is done at least
once: a destination may get the same bytes under the same UID twice, and never loses one.

- What was received first goes first, but for its urgency. A series has a slot, and a slot one worker: its instances go
  one after the other. One that is parked holds up no other.
- That a destination cannot be reached is no fault of a delivery, and costs it no try (`give_back`).
"""

from __future__ import annotations

import random
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    func,
    insert,
    literal_column,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from ..repository.blob_store import BlobRef
from ..repository.database import Database
from ..repository.outbox import RetryClass
from .actions import URGENCY
from .schema import delivery, received

__all__ = ["BACKOFF", "Count", "Delivery", "New", "Queue", "State", "slot_of", "waiting_again"]

#: What a destination refuses for the moment, and a destination that is not there: 30 s, doubled up to an hour.
BACKOFF = RetryClass(first=30, factor=2, most=3600, attempts=1 << 30)
#: Seconds for which a worker has what it took, unless it says more.
LEASE = 120.0
#: The number of slots that series fall into; a destination of width 3 has three workers, with a third of them each.
SLOTS = 1 << 14
_JITTER = 0.25
_MOST_WHY = 500
_MOST_IDS = 500  # in one list of an SQL statement

_D, _R = delivery.c, received.c

T = TypeVar("T")


class State(StrEnum):
    """What becomes of a delivery."""

    WAITING = "waiting"
    LEASED = "leased"
    HELD = "held"  # until a person, or completeness, releases it
    PARKED = "parked"  # it failed for good, or cannot be read: a person has to look
    SENT = "sent"
    DROPPED = "dropped"  # by a rule, by a person, or since it goes round in a loop

    @property
    def is_over(self) -> bool:
        """Nothing more happens to it."""
        return self in (State.SENT, State.DROPPED)


@dataclass(frozen=True, slots=True)
class New:
    """A delivery to be put.

    Attributes:
        step: the number of the action in its rule; ``plan``: the version of the rules.
        unit: the series, study or association that it waits for, being held.
        key: the study or the patient that it is for, of what is done once for each.
        again: seconds after which that is done again.
    """

    destination: str
    rule: str = ""
    plan: int = 0
    step: int = 0
    state: State = State.WAITING
    priority: int = URGENCY["normal"]
    unit: str = ""
    due: float = 0.0
    why: str = ""
    key: str = ""
    again: float = 0.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as it was read, with its instance.

    Attributes:
        attempts: how often it was offered, this time included.
        due, until, created: seconds since 1970.
        why: what went wrong last, or what it waits for.
        ref: where its bytes are; ``bytes``: of the Part 10 stream.
        message: by which it came, and goes on: C-STORE, or N-CREATE and N-SET of what is no instance that is stored; or
            C-FIND, C-MOVE or C-FIND-RSP, which only set something going.
    """

    id: int
    received_id: int
    destination: str
    rule: str
    plan: int
    step: int
    state: State
    priority: int
    unit: str
    due: float
    attempts: int
    owner: str
    why: str
    created: float
    uid: str
    cls: str
    ts: str
    study: str
    series: str
    patient: str
    calling: str
    called: str
    ref: BlobRef
    sha: bytes
    message: str = "C-STORE"
    address: str = ""

    def as_json(self) -> dict[str, Any]:
        """For people and the administration: all but where its bytes are."""
        values = asdict(self)
        values.pop("ref")
        return values | {"sha": self.sha.hex(), "state": str(self.state)}


@dataclass(frozen=True, slots=True)
class Count:
    """How many deliveries of a destination are in a state, and since when the oldest of them is there."""

    destination: str
    state: State
    deliveries: int
    oldest: float


_JOINED = select(
    _D.id, _D.received_id, _D.destination, _D.rule, _D.plan, _D.step, _D.state, _D.priority, _D.unit, _D.due,
    _D.attempts, _D.owner, _D.why, _D.created, _R.uid, _R.cls, _R.ts, _R.study, _R.series, _R.patient, _R.calling,
    _R.called, _R.key, _R.off, _R.bytes, _R.sha, _R.message, _R.address,
).join(received, _R.id == _D.received_id)  # fmt: skip


_PUTTING = insert(delivery)
# Written out, as the index says it: an index of some rows is not used for a value that comes later.
_IS_WAITING: ColumnElement[bool] = _D.state == literal_column(f"'{State.WAITING}'")
_SOONEST = [
    select(func.min(_D.due)).where(_D.destination == bindparam("whose"), _IS_WAITING, _D.priority == priority)
    for priority in URGENCY.values()
]


@cache
def _queries(shared: bool) -> tuple[Select[int], ...]:
    """What is due, for each urgency by itself: so an index has it in its order, whatever is due later.

    They are made once, since that takes longer than to ask them. With ``shared`` they ask for a share of the series.
    """
    mine = _D.destination == bindparam("whose"), _IS_WAITING, _D.due <= bindparam("now")
    share = (_D.slot % bindparam("shares") == bindparam("share"),) if shared else ()
    due = select(_D.id).where(*mine, *share).order_by(_D.due, _D.id).limit(bindparam("most"))
    return tuple(due.where(_D.priority == priority) for priority in URGENCY.values())


@cache
def _taking(shared: bool) -> ReturningUpdate[Any]:
    """What leases from a server, with the rows of the instances."""
    # One urgency after the other, until there are enough: what is behind that is not even looked at. What locks
    # rows has to stand in a query of its own.
    each = [select(one.with_for_update(skip_locked=True).subquery().c.id) for one in _queries(shared)]
    due = select(union_all(*each).subquery().c.id).limit(bindparam("most"))
    # An array is made once; what is behind IN may be asked again for each row, and would lock others then.
    mine = _D.id == func.any(func.array(due.scalar_subquery())), _R.id == _D.received_id
    values = {"state": State.LEASED, "owner": bindparam("by"), "until": bindparam("end"), "attempts": _D.attempts + 1}
    return update(delivery).where(*mine).values(values).returning(*_JOINED.selected_columns)


def slot_of(series: str) -> int:
    """Which slot a series falls into."""
    return zlib.crc32(series.encode()) % SLOTS


class Queue:
    """The queues of a router.

    Args:
        database: with the router's tables.
        owner: names this process.
        clock: seconds since 1970.
    """

    def __init__(self, database: Database, owner: str, *, clock: Callable[[], float] = time.time) -> None:
        self._database, self._owner, self._clock = database, owner, clock
        self._looked: dict[str, float] = {}

    # ---- producers ---------------------------------------------------------------------------------------------

    def put(self, connection: Connection, rows: Sequence[tuple[int, str, Sequence[New]]]) -> None:
        """Put deliveries, in the caller's transaction.

        Args:
            connection: the transaction.
            rows: the id of each instance, its series, and its deliveries.
        """
        now = self._clock()
        values = [
            {
                "received_id": number, "destination": new.destination, "rule": new.rule, "plan": new.plan,
                "step": new.step, "state": new.state, "priority": new.priority, "slot": slot_of(series),
                "unit": new.unit, "due": new.due or now, "why": new.why[:_MOST_WHY], "created": now,
                "ended": now if new.state.is_over else 0.0,
            }
            for number, series, deliveries in rows
            for new in deliveries
        ]  # fmt: skip
        if values:
            connection.execute(_PUTTING, values)

    def now(self) -> float:
        """Seconds since 1970, by the clock of these queues."""
        return self._clock()

    # ---- workers -----------------------------------------------------------------------------------------------

    def recover(self) -> int:
        """Take back what a process that is gone had taken; only where no other process serves these queues."""
        free = update(delivery).where(_D.state == State.LEASED).values(state=State.WAITING, owner="")
        return self._database.transaction(lambda connection: connection.execute(free).rowcount)

    def lease(
        self, destination: str, *, most: int = 64, slot: int = 0, slots: int = 1, seconds: float = LEASE
    ) -> list[Delivery]:
        """Take what is due for a destination: what is most urgent, then what came first.

        Args:
            destination: its name.
            most: how many.
            slot, slots: the share of the series that this worker has: the slot-th of so many.
            seconds: for how long they are this worker's; see `extend`.
        """
        now = self._clock()
        self._take_back(destination, now)
        asked = {"whose": destination, "now": now, "most": most}
        if slots > 1:
            asked |= {"share": slot, "shares": slots}
        if not self._database.is_sqlite:
            return self._leased_at_once(asked, now + seconds)
        with self._database.read() as connection:  # a look costs no turn of the writer
            ids = self._due(connection, asked)
        if not ids:
            return []
        taking = update(delivery).where(_D.id.in_(ids), _D.state == State.WAITING).values(
            state=State.LEASED, owner=self._owner, until=now + seconds, attempts=_D.attempts + 1
        ).returning(_D.id)  # fmt: skip

        def work(connection: Connection) -> set[int]:
            return set(connection.execute(taking).scalars())

        taken = self._database.transaction(work, logged=True)
        return self.find([one for one in ids if one in taken])  # others may have been quicker with some

    def _leased_at_once(self, asked: dict[str, Any], until: float) -> list[Delivery]:
        """Lease from a server: in one transaction, since each word to it takes time; rows that others take are left."""
        given = asked | {"by": self._owner, "end": until}

        def work(connection: Connection) -> list[Delivery]:
            taken = [_delivery(row) for row in connection.execute(_taking("share" in asked), given)]
            return sorted(taken, key=lambda one: (one.priority, one.due, one.id))

        return self._soon(work)

    def _soon(self, work: Callable[[Connection], T]) -> T:
        """A transaction that no one waits for the disk with: after a loss of power what it did is done once more."""

        def unhurried(connection: Connection) -> T:
            if not self._database.is_sqlite:
                connection.execute(text("SET LOCAL synchronous_commit = off"))
            return work(connection)

        return self._database.transaction(unhurried, logged=True)

    def _take_back(self, destination: str, now: float) -> None:
        """Leases that are over; it is looked for them now and then."""
        if now - self._looked.get(destination, 0.0) < LEASE / 4:
            return
        self._looked[destination] = now
        over = update(delivery).where(_D.destination == destination, _D.state == State.LEASED, _D.until <= now)
        over = over.values(state=State.WAITING, owner="")
        self._database.transaction(lambda connection: connection.execute(over), logged=True)

    def _due(self, connection: Connection, asked: dict[str, Any]) -> list[int]:
        ids: list[int] = []
        for query in _queries("share" in asked):
            ids += connection.execute(query, asked | {"most": asked["most"] - len(ids)}).scalars()
            if len(ids) == asked["most"]:
                break
        return ids

    def next_due(self, destination: str) -> float | None:
        """When the next delivery of a destination may be taken; None where nothing waits."""
        with self._database.read() as connection:
            found = [connection.execute(one, {"whose": destination}).scalar() for one in _SOONEST]
        return min((due for due in found if due is not None), default=None)

    def find(self, ids: Sequence[int]) -> list[Delivery]:
        """Deliveries by their ids, in that order."""
        if not ids:
            return []
        with self._database.read() as connection:
            return _found(connection, ids)

    def extend(self, items: Sequence[Delivery], seconds: float = LEASE) -> None:
        """Keep deliveries for so many seconds from now."""
        self._each(items, {"until": self._clock() + seconds})

    def finish(
        self, items: Sequence[tuple[Delivery, State, str]], after: Mapping[int, Sequence[New]] | None = None
    ) -> None:
        """Deliveries are over: each with what became of it, and a word; all in one transaction.

        Args:
            items: the deliveries.
            after: by the id of a delivery, what is to be done with its instance after that; each rule does so once.
        """
        after = after or {}
        series = {one.id: one.series for one, _, _ in items}
        groups: dict[tuple[State, str], list[int]] = {}
        for one, state, why in items:
            groups.setdefault((state, why[:_MOST_WHY]), []).append(one.id)

        def work(connection: Connection) -> None:
            for (state, why), ids in groups.items():
                mine = _D.id.in_(ids), _D.owner == self._owner, _D.state == State.LEASED
                ending = update(delivery).where(*mine).values(state=state, why=why, ended=self._clock(), owner="")
                ended = connection.execute(ending.returning(_D.id, _D.received_id)).all()
                # Another worker may have taken one over, and ended it: then its bytes are not counted twice.
                if state.is_over:
                    _close(connection, [row[1] for row in ended])
                self._follow(connection, [(series[row[0]], row[1], after[row[0]]) for row in ended if row[0] in after])

        # After a loss of power some may be sent once more: the same bytes under the same UID.
        if items:
            self._soon(work)

    def _follow(self, connection: Connection, rows: Sequence[tuple[str, int, Sequence[New]]]) -> None:
        """Put what is to be done after deliveries, in the transaction in which they end, and their instances' rows."""
        for series, number, deliveries in rows:
            rules = {new.rule for new in deliveries}
            known = select(_D.rule).where(_D.received_id == number, _D.rule.in_(rules)).distinct()
            rules -= set(connection.execute(known).scalars())
            new = [one for one in deliveries if one.rule in rules]
            self.put(connection, [(number, series, new)])
            more = sum(not one.state.is_over for one in new)
            connection.execute(update(received).where(_R.id == number).values(open=_R.open + more))

    def retry_later(self, items: Sequence[tuple[Delivery, str, RetryClass]]) -> None:
        """These failed, for these reasons: each is offered again later, or parked where it has had all its tries."""
        now = self._clock()

        def work(connection: Connection) -> None:
            for item, why, retry in items:
                pause = retry.pause(item.attempts)
                values: dict[str, Any] = {"state": State.PARKED, "owner": "", "why": why[:_MOST_WHY]}
                if pause is not None:
                    values |= {"state": State.WAITING, "due": now + pause * (1 + _JITTER * random.random())}
                mine = _D.id == item.id, _D.owner == self._owner, _D.state == State.LEASED
                connection.execute(update(delivery).where(*mine).values(values))

        if items:
            self._soon(work)

    def give_back(self, items: Sequence[Delivery], why: str = "") -> None:
        """Nothing was done with these, which is not their fault: they wait again, in their old place."""
        values: dict[str, Any] = {"state": State.WAITING, "owner": "", "attempts": _D.attempts - 1}
        self._each(items, values | ({"why": why[:_MOST_WHY]} if why else {}))

    def postpone(self, item: Delivery, due: float) -> None:
        """It is too early: it waits until then, and this is no try."""
        self._each([item], {"state": State.WAITING, "owner": "", "due": due, "attempts": _D.attempts - 1})

    def park(self, item: Delivery, why: str) -> None:
        """Set it aside until a person says `retry` or `drop`."""
        self._each([item], {"state": State.PARKED, "owner": "", "why": why[:_MOST_WHY]})

    def _each(self, items: Sequence[Delivery], values: dict[str, Any]) -> None:
        if items:
            mine = _D.id.in_([one.id for one in items]), _D.owner == self._owner, _D.state == State.LEASED
            changing = update(delivery).where(*mine).values(values)
            self._soon(lambda connection: connection.execute(changing))

    # ---- people ------------------------------------------------------------------------------------------------

    def chosen(
        self,
        *,
        ids: Sequence[int] | None = None,
        destination: str | None = None,
        study: str | None = None,
        states: Sequence[State] = (),
    ) -> list[ColumnElement[bool]]:
        """The condition for deliveries that people name."""
        wanted: list[ColumnElement[bool]] = []
        if ids is not None:
            wanted.append(_D.id.in_(ids))
        if destination is not None:
            wanted.append(_D.destination == destination)
        if study is not None:
            wanted.append(_D.received_id.in_(select(_R.id).where(_R.study == study)))
        if states:
            wanted.append(_D.state.in_(states))
        return wanted

    def retry(self, **chosen: Any) -> int:
        """Have parked and waiting deliveries tried now, with all their tries before them; how many that are."""
        values = {"state": State.WAITING, "due": self._clock(), "attempts": 0, "owner": ""}
        return self._set(values, (State.WAITING, State.PARKED), chosen)

    def hold(self, why: str = "by a person", **chosen: Any) -> int:
        """Keep waiting and parked deliveries until they are released; how many that are."""
        return self._set({"state": State.HELD, "why": why}, (State.WAITING, State.PARKED), chosen)

    def release(self, **chosen: Any) -> int:
        """Have held deliveries sent; how many that are."""
        values = {"state": State.WAITING, "due": self._clock(), "why": ""}
        # What no rule wants has nowhere to go.
        return self._set(values, (State.HELD,), chosen, _D.destination != "")

    def drop(self, why: str = "by a person", **chosen: Any) -> int:
        """Give up deliveries that no worker has; how many that are."""
        where = [*self.chosen(**chosen), _D.state.in_((State.WAITING, State.PARKED, State.HELD))]

        def work(connection: Connection) -> int:
            gone = update(delivery).where(*where).values(state=State.DROPPED, ended=self._clock(), why=why)
            ended = connection.execute(gone.returning(_D.received_id)).scalars().all()
            _close(connection, ended)
            return len(ended)

        return self._database.transaction(work)

    def park_all(self, destination: str, why: str) -> int:
        """Park what waits for a destination that is gone."""
        return self._set(
            {"state": State.PARKED, "why": why, "owner": ""}, (State.WAITING, State.LEASED),
            {"destination": destination},
        )  # fmt: skip

    def _set(
        self, values: dict[str, Any], states: Sequence[State], chosen: dict[str, Any], *more: ColumnElement[bool]
    ) -> int:
        changing = update(delivery).where(*self.chosen(**chosen), _D.state.in_(states), *more).values(values)
        return self._database.transaction(lambda connection: connection.execute(changing).rowcount)

    def items(
        self,
        *,
        destination: str | None = None,
        study: str | None = None,
        states: Sequence[State] = (),
        after: int = 0,
        most: int = 100,
    ) -> list[Delivery]:
        """Deliveries in the order in which they were put; the next page begins after the last id of this one."""
        query = select(_D.id).where(_D.id > after, *self.chosen(destination=destination, study=study))
        query = query.order_by(_D.id).limit(most)
        # Each state by itself: what is over outnumbers all else a thousand times, and none of it is looked at.
        each = [query.where(_D.state == state) for state in states] or [query]
        with self._database.read() as connection:
            ids = sorted(one for single in each for one in connection.execute(single).scalars())[:most]
        return [one for start in range(0, len(ids), _MOST_IDS) for one in self.find(ids[start : start + _MOST_IDS])]

    def counts(self) -> Iterator[Count]:
        """How long the queues are, by destination and state; what is over is not counted."""
        by = _D.destination, _D.state
        open_ = _D.state.in_([state for state in State if not state.is_over])
        query = select(*by, func.count(), func.min(_D.id)).where(open_).group_by(*by).order_by(*by)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
            first = {row[3] for row in rows}
            oldest = dict(connection.execute(select(_D.id, _D.created).where(_D.id.in_(first))).all())
        return (Count(row[0], State(row[1]), row[2], oldest.get(row[3], self._clock())) for row in rows)


def _found(connection: Connection, ids: Sequence[int]) -> list[Delivery]:
    if not ids:
        return []
    found = {row[0]: _delivery(row) for row in connection.execute(_JOINED.where(_D.id.in_(ids)))}
    return [found[one] for one in ids if one in found]


def _close(connection: Connection, ended: Sequence[int]) -> None:
    """So many deliveries of these instances no longer need their bytes."""
    by_count: dict[int, list[int]] = {}
    for number, count in Counter(ended).items():
        by_count.setdefault(count, []).append(number)
    for count, numbers in by_count.items():
        for start in range(0, len(numbers), _MOST_IDS):
            those = _R.id.in_(numbers[start : start + _MOST_IDS])
            connection.execute(update(received).where(those).values(open=_R.open - count))


def waiting_again(connection: Connection, unit: str, now: float) -> None:
    """Have all that was sent of a series or study sent once more, in the caller's transaction."""
    sent = _D.unit == unit, _D.state == State.SENT
    rows = connection.execute(select(delivery).join(received).where(*sent, _R.kept == 1)).mappings().all()
    seen: set[tuple[int, str]] = set()
    for row in rows:
        if (row["received_id"], row["destination"]) in seen:
            continue
        seen.add((row["received_id"], row["destination"]))
        values = {name: row[name] for name in ("received_id", "destination", "rule", "plan", "step", "priority", "slot",
                                               "unit")}  # fmt: skip
        connection.execute(insert(delivery).values(values | {"state": State.WAITING, "due": now, "created": now}))
        connection.execute(update(received).where(_R.id == row["received_id"]).values(open=_R.open + 1))


def _delivery(row: Sequence[Any]) -> Delivery:
    """From a row of `_JOINED`, whose columns are in the order of the fields."""
    values: list[Any] = [*row[:6], State(row[6]), *row[7:22], BlobRef(*row[22:25]), bytes(row[25]), *row[26:]]
    return Delivery(*values)
