"""When a series, a study or an association is complete, so that what waits for that may go.

It is complete when the peer says so (the release of an association; a performed procedure step or an instance
availability notification whose instances are all here), when a count that was asked for is reached, when it was quiet
for as long as its rule says, or when it has taken too long in any case. The reason is kept with it.

Seconds are counted by a clock that does not jump. After a restart an open one is quiet from the beginning: it may be
released later than it could have been, and never earlier.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select, update

from ..log import log
from ..repository.database import Database
from .plan import Plan, Rule
from .queue import State, waiting_again
from .schema import delivery, expected, received, unit

__all__ = ["Completeness", "Late"]

_U, _D, _R, _E = unit.c, delivery.c, received.c, expected.c
_SAVED = 30.0  # seconds after which it is written down how long a unit has waited
OPEN, COMPLETE = "open", "complete"


@dataclass(slots=True)
class _Open:
    """A unit that is not complete."""

    name: str
    level: str
    uid: str
    quiet: float
    cap: float
    counts_from: str | None
    last: float  # by the clock that does not jump
    waited: float
    since: float  # from when on more is to be added to ``waited``
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Late:
    """What becomes of instances that come after their unit was complete, by its rule."""

    state: State
    unit: str
    why: str


class Completeness:
    """The units of a router.

    Args:
        database: with the router's tables.
        plan_of: the rules of a version.
        clock: seconds since 1970; ``steady``: seconds that do not jump.
        count: how many instances a study has at a destination; None where that is not known.

    Attributes:
        released: told when deliveries may go.
    """

    def __init__(
        self,
        database: Database,
        plan_of: Callable[[int], Plan],
        *,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        count: Callable[[str, str], int | None] = lambda destination, study: None,
    ) -> None:
        self._database, self._plan_of, self._clock, self._steady = database, plan_of, clock, steady
        self.count = count
        self.released: Callable[[], object] = lambda: None
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}
        self._load()

    def _load(self) -> None:
        with self._database.read() as connection:
            rows = connection.execute(select(unit).where(_U.state == OPEN)).all()
        now = self._steady()
        for row in rows:
            rule = self._rule(row.plan, row.rule)
            self._watch(row.name, row.level, row.uid, rule, now, row.waited)

    def _rule(self, version: int, name: str) -> Rule | None:
        return next((one for one in self._plan_of(version).rules if one.name == name), None)

    def _watch(self, name: str, level: str, uid: str, rule: Rule | None, now: float, waited: float = 0.0) -> None:
        quiet, cap = (rule.quiet, rule.cap) if rule is not None else (60.0, 5400.0)
        self._open[name] = _Open(name, level, uid, quiet, cap, rule.count_from if rule else None, now, waited, now)

    # ---- arrivals ----------------------------------------------------------------------------------------------

    def arrived(self, connection: Connection, name: str, rule: Rule, version: int, count: int) -> Late | None:
        """Instances of a unit have arrived, in the caller's transaction; what becomes of those that are late."""
        now = self._clock()
        row = connection.execute(select(_U.state).where(_U.name == name)).first()
        uid = name.rpartition(" ")[2] if rule.unit != "association" else name
        if row is None:
            values = {
                "name": name, "level": rule.unit, "uid": uid, "rule": rule.name, "plan": version, "state": OPEN,
                "instances": count, "first": now, "last": now,
            }  # fmt: skip
            connection.execute(insert(unit).values(values))
        else:
            more = update(unit).where(_U.name == name).values(instances=_U.instances + count, last=now)
            connection.execute(more)
        if row is not None and row.state == COMPLETE:
            if rule.late == "never":
                return Late(State.HELD, "", f"it came after its {rule.unit} was complete")
            if rule.late == "new":
                return Late(State.WAITING, name, "")
            connection.execute(update(unit).where(_U.name == name).values(state=OPEN, waited=0.0))
        self._note(name, rule, uid)
        return None

    def _note(self, name: str, rule: Rule, uid: str) -> None:
        now = self._steady()
        with self._lock:
            known = self._open.get(name)
            if known is None:
                self._watch(name, rule.unit, uid, rule, now)
            else:
                known.last = now

    # ---- what peers say ----------------------------------------------------------------------------------------

    def ended(self, association: str) -> None:
        """An association is over: what came on it is complete."""
        with self._lock:
            names = [one.name for one in self._open.values()
                     if one.level == "association" and one.name.endswith(f" association {association}")]  # fmt: skip
        for name in names:
            self.complete(name, "the association has ended")

    def announced(self, step: str, study: str, instances: Iterable[tuple[str, str]]) -> None:
        """A peer says which instances there are: series and SOP instance UIDs of a step, or a notification."""
        rows = [{"step": step, "study": study, "series": series, "uid": uid} for series, uid in instances]

        def work(connection: Connection) -> None:
            connection.execute(expected.delete().where(_E.step == step))
            if rows:
                connection.execute(insert(expected), rows)

        self._database.transaction(work)
        self.look()

    # ---- looking -----------------------------------------------------------------------------------------------

    def look(self) -> int:
        """See what is complete by now, and release it; how many units that were."""
        now = self._steady()
        with self._lock:
            candidates = list(self._open.values())
        done = 0
        for one in candidates:
            self._grow(one, now)
            reason = self._reason(one, now)
            if reason:
                done += self.complete(one.name, reason)
        return done

    def _grow(self, one: _Open, now: float) -> None:
        if now - one.since >= _SAVED:
            one.waited += now - one.since
            one.since = now
            saving = update(unit).where(_U.name == one.name).values(waited=one.waited)
            self._database.transaction(lambda connection: connection.execute(saving))

    def _reason(self, one: _Open, now: float) -> str:
        if one.waited + now - one.since >= one.cap:
            return f"{one.cap:g} s have passed"
        if one.level != "association":
            found = self._announced(one)
            if found:
                return found
        if now - one.last < one.quiet:
            return ""
        if one.counts_from and one.level == "study":
            return self._counted(one, now)
        return f"nothing came for {one.quiet:g} s"

    def _announced(self, one: _Open) -> str:
        """Whether all of what a peer has announced is here; "" where nothing was, or something is missing."""
        column = _E.series if one.level == "series" else _E.study
        with self._database.read() as connection:
            total = connection.execute(select(func.count()).where(column == one.uid)).scalar_one()
            if not total:
                return ""
            here = select(_R.uid).where(_R.uid == _E.uid)
            missing = select(func.count()).where(column == one.uid, ~here.exists())
            if connection.execute(missing).scalar_one():
                return ""
        return f"all {total} announced instances are here"

    def _counted(self, one: _Open, now: float) -> str:
        """Whether as many are here as the peer counts; asked again after the next quiet while."""
        count = self.count(one.counts_from or "", one.uid)
        with self._database.read() as connection:
            here = connection.execute(
                select(func.count(func.distinct(_R.uid))).where(_R.study == one.uid, _R.message == "C-STORE")
            ).scalar_one()  # fmt: skip
        if count is not None and here >= count:
            return f"{here} of {count} instances are here"
        one.last = now
        return ""

    def complete(self, name: str, reason: str) -> bool:
        """A unit is complete: what waits for it may go. Whether it was open."""

        def work(connection: Connection) -> bool:
            now = self._clock()
            closing = update(unit).where(_U.name == name, _U.state == OPEN)
            closing = closing.values(state=COMPLETE, reason=reason, completed=now)
            if not connection.execute(closing).rowcount:
                return False
            again = connection.execute(select(_U.completed, _U.rule, _U.plan).where(_U.name == name)).one()
            rule = self._rule(again.plan, again.rule)
            if rule is not None and rule.late == "always":
                waiting_again(connection, name, now)
            waits = update(delivery).where(_D.unit == name, _D.state == State.HELD)
            later = func.max if connection.dialect.name == "sqlite" else func.greatest
            connection.execute(waits.values(state=State.WAITING, why="", due=later(_D.due, now)))
            return True

        found = self._database.transaction(work)
        with self._lock:
            self._open.pop(name, None)
        if found:
            log.info("%s is complete: %s", name, reason)
            self.released()
        return found

    def units(self, states: Sequence[str] = (OPEN, COMPLETE)) -> list[dict[str, object]]:
        """The units that there are, for people."""
        query = select(unit).where(_U.state.in_(states)).order_by(_U.first)
        with self._database.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]
