"""The spool: what has arrived, and its deliveries, are durable in one group commit before the sender is answered."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import DBAPIError

from ..log import log
from ..repository.blob_store import BlobRef, NewBlob
from ..repository.database import Database
from ..repository.disk import DiskWatch
from ..repository.incoming import Incoming
from ..repository.segments import SegmentStore
from .compaction import Compaction
from .completeness import Completeness
from .facts import Facts
from .planning import deliveries_of
from .queue import New, Queue, State
from .schema import delivery, make_tables, received
from .settings import RouterSettings
from .versions import PlanVersions

__all__ = ["DATABASE_NAME", "LOOP_SECONDS", "MOST_RETURNS", "Accepted", "Line", "PassedOn", "Spool", "Told"]

DATABASE_NAME = "router.db"
#: Smaller than an archive's: what is in it is gone soon, and the room is wanted back.
SEGMENT_BYTES = 64 << 20
#: The same bytes for the same destination so often within so many seconds go round in a loop.
MOST_RETURNS, LOOP_SECONDS = 5, 3600.0
_MOST_DELETED = 500
_ACCESSION, _PATIENT, _SERIES = 0x00080050, 0x00100020, 0x0020000E

_R, _D = received.c, delivery.c
_ADDING = insert(received).returning(_R.id, sort_by_parameter_order=True)  # made once, since making it takes longer


@dataclass(frozen=True, slots=True)
class Accepted:
    """An instance that was taken: its row, and the deliveries that it has."""

    id: int
    deliveries: tuple[New, ...]


@dataclass(slots=True)
class Told(Incoming):
    """A message that is no C-STORE, and that a rule does something with.

    Attributes:
        message: N-CREATE, N-SET, C-FIND, C-FIND-RSP or C-MOVE.
        destination, trigger: see `Facts`.
    """

    message: str = ""
    destination: str = ""
    trigger: str = ""


@dataclass(frozen=True, slots=True)
class PassedOn:
    """An instance that a destination took while it arrived: its bytes are not in the spool.

    Attributes:
        why: a word on it, for the ledger.
    """

    incoming: Incoming
    facts: Facts
    new: New
    why: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the ledger.

    Attributes:
        row: of `schema.received`.
        series: UID of its series.
        delivery: that of `New`, but for its state.
    """

    row: dict[str, Any]
    series: str
    delivery: dict[str, Any]


@dataclass(slots=True)
class _Placed:
    """An instance whose bytes are stored, and what is to be done with it."""

    ref: BlobRef
    blob: NewBlob
    incoming: Incoming
    facts: Facts
    deliveries: list[New]
    id: int = 0


class Spool:
    """A router's directory, open: spool, queues, rules.

    What a process that was killed left is put in order first: torn writes are cut, and what was stored but not
    acknowledged is deleted.

    Args:
        directory: of the router, with its settings.
        settings: of the router; those in its directory by default.
        serves: whether this process is the one that serves it; others look, and change rows.
        segment_bytes: when a segment of the spool is full, and may be given back once all of it is over.
        clock: seconds since 1970.

    Raises:
        InvalidArgument: there is no router, or its database cannot be opened.

    Attributes:
        blobs, database, queue, plans, disk: its parts.
    """

    def __init__(
        self,
        directory: Path,
        settings: RouterSettings | None = None,
        *,
        serves: bool = False,
        segment_bytes: int = SEGMENT_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.directory: Path = directory
        self._clock = clock
        self.settings: RouterSettings = settings or RouterSettings.load(directory)
        durable = self.settings.durability == "disk"
        self.database: Database = Database.opened(self.settings.database or directory / DATABASE_NAME, durable=durable)
        with self.database.write() as connection:
            make_tables(connection)
        self.blobs: SegmentStore = SegmentStore(
            directory / self.settings.spool, durability=self.settings.durability, segment_bytes=segment_bytes
        )
        self.queue: Queue = Queue(self.database, f"{os.getpid()}-{id(self):x}", clock=clock)
        self.plans: PlanVersions = PlanVersions(directory, self.database, clock=clock)
        self.disk: DiskWatch = DiskWatch(self.blobs.root, self.settings.watermarks)
        self.compaction: Compaction = Compaction(self.database, self.blobs)
        self.units: Completeness = Completeness(self.database, self.plans.of, clock=clock)
        if serves:
            self._recover()

    def _recover(self) -> None:
        unknown = [blob.ref for blob in self.blobs.scan(recent=True) if not self._is_known(blob.ref)]
        self.blobs.delete(unknown)
        self.blobs.settle()
        again = self.queue.recover() if self.database.is_sqlite else 0
        if unknown or again:
            log.info("%d instances that were not acknowledged are deleted, %d deliveries begin again", len(unknown),
                     again)  # fmt: skip

    def _is_known(self, ref: BlobRef) -> bool:
        same = _R.key == ref.key, _R.off == ref.offset, _R.kept == 1
        with self.database.read() as connection:
            return connection.execute(select(_R.id).where(*same).limit(1)).first() is not None

    def now(self) -> datetime:
        """The local time, as rules mean it."""
        return datetime.fromtimestamp(self._clock())

    # ---- the way in --------------------------------------------------------------------------------------------

    def store(self, group: Sequence[Incoming]) -> list[Accepted | Exception]:
        """Take a group: its bytes, its rows and its deliveries are durable when this returns.

        Raises:
            OSError: the bytes cannot be kept; nothing of the group is.
            DBAPIError: the rows cannot; nothing of the group is kept.
        """
        version, plan = self.plans.current
        blobs = [one.blob for one in group]
        for blob in blobs:
            blob.hash()
        refs = self.blobs.put(blobs)
        placed = []
        for incoming, blob, ref in zip(group, blobs, refs, strict=True):
            facts = self.facts_of(incoming, plan.wanted)
            deliveries = deliveries_of(plan, version, facts, f"{incoming.calling} {incoming.address}")
            placed.append(_Placed(ref, blob, incoming, facts, deliveries))
        try:
            self.database.transaction(lambda connection: self._insert(connection, placed))
        except DBAPIError:
            self.blobs.delete(refs)
            raise
        if self.blobs.due:
            self.blobs.settle()
        return [Accepted(one.id, tuple(one.deliveries)) for one in placed]

    def line_of(self, passed: PassedOn) -> Line:
        """What is written down of an instance that was passed on while it arrived, by `write_down`."""
        incoming, new = passed.incoming, passed.new
        ref = BlobRef("", 0, incoming.blob.length)
        row = self._row(_Placed(ref, incoming.blob, incoming, passed.facts, []), self._clock()) | {"kept": 0}
        made = {"destination": new.destination, "rule": new.rule, "plan": new.plan, "step": new.step,
                "priority": new.priority, "why": passed.why}  # fmt: skip
        return Line(row, passed.facts.uid(_SERIES), made)

    def write_down(self, lines: Sequence[Line], *, again: bool = False) -> None:
        """Write lines of what was passed on.

        Args:
            lines: of `line_of`.
            again: some may be there already.

        Raises:
            DBAPIError: it cannot be written.
        """

        def work(connection: Connection) -> None:
            new = [one for one in lines if not (again and self._is_written(connection, one))]
            if not new:
                return
            ids = connection.execute(_ADDING, [one.row for one in new]).scalars().all()
            made = [New(**one.delivery, state=State.SENT) for one in new]
            rows = [(number, one.series, [sent]) for number, one, sent in zip(ids, new, made, strict=True)]
            self.queue.put(connection, rows)

        # After a loss of power a line may be missing; the destination has the instance.
        self.database.transaction(work, logged=True)

    def _is_written(self, connection: Connection, line: Line) -> bool:
        same = _R.uid == line.row["uid"], _R.at == line.row["at"], _R.kept == 0
        return connection.execute(select(_R.id).where(*same).limit(1)).first() is not None

    def facts_of(self, incoming: Incoming, wanted: frozenset[int]) -> Facts:
        """What rules are asked about, of what has arrived; of its data set the elements of these tags."""
        blob, told = incoming.blob, incoming if isinstance(incoming, Told) else None
        return Facts(
            incoming.head, blob.transfer_syntax_uid, blob.sop_class_uid,
            calling=incoming.calling, called=incoming.called, address=incoming.address,
            at=self.now(), wanted=wanted, whole=len(incoming.head) == blob.size,
            destination=told.destination if told else "", trigger=told.trigger if told else "",
        )  # fmt: skip

    def _insert(self, connection: Connection, placed: Sequence[_Placed]) -> None:
        self._once_a_study(connection, placed)
        self._stop_loops(connection, placed)
        now = self._clock()
        self._join_units(connection, placed)
        rows = connection.execute(_ADDING, [self._row(one, now) for one in placed]).all()
        for one, row in zip(placed, rows, strict=True):
            one.id = row[0]
        self.queue.put(connection, [(one.id, one.facts.uid(_SERIES), one.deliveries) for one in placed])

    def _row(self, one: _Placed, now: float) -> dict[str, Any]:
        facts, incoming, blob = one.facts, one.incoming, one.blob
        return {
            "uid": blob.sop_instance_uid, "cls": blob.sop_class_uid, "ts": blob.transfer_syntax_uid,
            "study": facts.study[:64], "series": facts.uid(_SERIES)[:64], "patient": facts.text(_PATIENT)[:64],
            "accession": facts.text(_ACCESSION)[:64],
            "message": incoming.message if isinstance(incoming, Told) else "C-STORE",
            "calling": incoming.calling, "called": incoming.called, "address": facts.address,
            "key": one.ref.key, "off": one.ref.offset, "bytes": one.ref.length, "sha": blob.sha256, "at": now,
            "open": sum(not new.state.is_over for new in one.deliveries),
        }  # fmt: skip

    def _join_units(self, connection: Connection, placed: Sequence[_Placed]) -> None:
        """Tell series and studies what has arrived of them; what comes too late becomes what its rule says."""
        found: dict[str, list[tuple[_Placed, int]]] = {}
        for one in placed:
            for number, new in enumerate(one.deliveries):
                if new.unit:
                    found.setdefault(new.unit, []).append((one, number))
        for name, places in found.items():
            first = places[0][0].deliveries[places[0][1]]
            rule = next(rule for rule in self.plans.of(first.plan).rules if rule.name == first.rule)
            count = len({id(one) for one, _ in places})
            late = self.units.arrived(connection, name, rule, first.plan, count)
            for one, number in places if late is not None else ():
                assert late is not None
                one.deliveries[number] = replace(one.deliveries[number], state=late.state, unit=late.unit, why=late.why)

    def _once_a_study(self, connection: Connection, placed: Sequence[_Placed]) -> None:
        """Leave out what is done once for each study or patient, where it was put a while ago."""
        seen: set[tuple[str, str, int]] = set()
        now = self._clock()
        for one in placed:
            for new in [new for new in one.deliveries if new.key]:
                study, patient = (new.key, None) if new.key == one.facts.study else ("", new.key)
                whose = (_R.study == study[:64], *([] if patient is None else [_R.patient == patient[:64]]))
                same = *whose, _R.at > now - new.again, _D.rule == new.rule, _D.step == new.step
                known = select(_D.id).join(received, _R.id == _D.received_id).where(*same).limit(1)
                if (new.key, new.rule, new.step) in seen or connection.execute(known).first() is not None:
                    one.deliveries.remove(new)
                seen.add((new.key, new.rule, new.step))
            if not one.deliveries:
                one.deliveries.append(New("", state=State.DROPPED, why="its rule has acted for the same a while ago"))

    def _stop_loops(self, connection: Connection, placed: Sequence[_Placed]) -> None:
        """Drop what has gone to the same destination, with the same bytes, again and again."""
        uids = [one.blob.sop_instance_uid for one in placed]
        since = self._clock() - LOOP_SECONDS
        query = (
            select(_R.uid, _R.sha, _D.destination, func.count())
            .join(delivery, _D.received_id == _R.id)
            .where(_R.uid.in_(uids), _R.at >= since, _D.state != State.DROPPED)
            .group_by(_R.uid, _R.sha, _D.destination)
        )
        counts = Counter({(row[0], bytes(row[1]), row[2]): row[3] for row in connection.execute(query)})
        for one in placed:
            for number, new in enumerate(one.deliveries):
                key = one.blob.sop_instance_uid, one.blob.sha256, new.destination
                # Of what was passed on while it arrived there is no hash: that it was the same is believed.
                times = counts[key] + counts[one.blob.sop_instance_uid, b"", new.destination]
                if new.destination and times >= MOST_RETURNS:
                    why = f"it was sent there {times} times within the hour: a loop"
                    log.warning("%s for %s is dropped: %s", one.blob.sop_instance_uid, new.destination, why)
                    one.deliveries[number] = replace(new, state=State.DROPPED, why=why)

    # ---- the way out -------------------------------------------------------------------------------------------

    def tidy(self, most: int = _MOST_DELETED) -> int:
        """Delete the bytes of what is over for long enough; how many instances that were."""
        over = _R.open <= 0, _R.kept == 1, _R.at < self._clock() - self.settings.keep
        query = select(_R.id, _R.key, _R.off, _R.bytes).where(*over).limit(most)
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        if not rows:
            return 0
        gone = update(received).where(_R.id.in_([row[0] for row in rows])).values(kept=0)
        self.database.transaction(lambda connection: connection.execute(gone))
        self.blobs.delete([BlobRef(*row[1:]) for row in rows])
        return len(rows)

    def forget(self, most: int = _MOST_DELETED) -> int:
        """Delete the ledger's lines that are older than it is kept; how many instances that were."""
        since = self._clock() - self.settings.ledger
        query = select(_R.id).where(_R.at < since, _R.kept == 0).limit(most)

        def work(connection: Connection) -> int:
            ids = list(connection.execute(query).scalars())
            if ids:
                connection.execute(delete(delivery).where(_D.received_id.in_(ids)))
                connection.execute(delete(received).where(_R.id.in_(ids)))
            return len(ids)

        return self.database.transaction(work)

    def close(self) -> None:
        """Close all of it; what is under way has to have ended."""
        self.blobs.close()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
