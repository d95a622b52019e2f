"""The workstation's jobs: retrieves and sends, in rows that survive a crash, with progress, cancelling and retries."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from ..errors import InvalidArgument
from ..repository.outbox import RETRY_CLASSES
from ..server.database import Database

__all__ = ["SCHEMA", "Job", "JobKind", "JobQueue", "JobState", "Order"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS job (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, peer TEXT NOT NULL, by TEXT NOT NULL,
    study TEXT NOT NULL, series TEXT NOT NULL, instances TEXT NOT NULL, note TEXT NOT NULL, urgent INTEGER NOT NULL,
    state TEXT NOT NULL, due REAL NOT NULL, attempts INTEGER NOT NULL, expected INTEGER NOT NULL,
    present INTEGER NOT NULL, found INTEGER NOT NULL, error TEXT NOT NULL, retry TEXT NOT NULL,
    created REAL NOT NULL, changed REAL NOT NULL);
CREATE INDEX IF NOT EXISTS job_due ON job (state, urgent DESC, due);
CREATE TABLE IF NOT EXISTS sent (job INTEGER NOT NULL, uid TEXT NOT NULL, PRIMARY KEY (job, uid)) WITHOUT ROWID;
"""
_FIELDS = ("id", "kind", "peer", "by", "study", "series", "instances", "note", "urgent", "state", "due", "attempts",
           "expected", "present", "found", "error", "retry", "created", "changed")  # fmt: skip
_COLUMNS = ", ".join(_FIELDS)
_MOST_ERROR = 500  # characters that are kept of what went wrong
#: Jobs that are over and are kept for a look back; older ones are forgotten.
KEPT = 1000


class JobKind(StrEnum):
    """What a job does."""

    RETRIEVE = "retrieve"
    SEND = "send"


class JobState(StrEnum):
    """How far a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"  # a person has to look: `retry`
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens by itself."""
        return self not in (JobState.WAITING, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done.

    Attributes:
        kind: retrieve, or send.
        peer: the AE title that the server knows, or a name of a DICOMweb peer.
        study: Study Instance UID.
        series, instances: UIDs within it; empty: all.
        by: how to retrieve: "get", "move", or "" for whichever works.
        urgent: before all that are not.
        note: why, for people.
    """

    kind: JobKind
    peer: str
    study: str
    series: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    by: str = ""
    urgent: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it was read.

    Attributes:
        id: its number.
        kind, peer, study, series, instances, by, urgent, note: see `Order`.
        state: how far it is; ``due``: when it may be tried, in seconds since 1970; ``attempts``: tries so far.
        expected: instances that it is about, as the peer says; 0 before that is known.
        present: those of them that are where they are to be.
        found: those that were there before it began.
        error: what went wrong last; ``retry``: the retry class by which it is tried again.
        created, changed: seconds since 1970.
    """

    id: int
    kind: JobKind
    peer: str
    by: str
    study: str
    series: tuple[str, ...]
    instances: tuple[str, ...]
    note: str
    urgent: bool
    state: JobState
    due: float
    attempts: int
    expected: int
    present: int
    found: int
    error: str
    retry: str
    created: float
    changed: float

    def as_json(self) -> dict[str, Any]:
        """For the API and events."""
        return asdict(self)


class JobQueue:
    """The jobs of a workstation.

    Args:
        database: with the tables of `SCHEMA`.
        clock: seconds since 1970.
        told: called with each job that has changed; quick, from any thread.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.time,
        told: Callable[[Job], object] = lambda job: None,
    ) -> None:
        self._database, self._clock, self._told = database, clock, told
        self.changed: threading.Condition = threading.Condition()

    # ---- what people want --------------------------------------------------------------------------------------

    def add(self, order: Order) -> Job:
        """Put a job; where one for the same is not over, that one is given back."""
        now = self._clock()
        same = (order.kind, order.peer, order.study, json.dumps(order.series), json.dumps(order.instances))
        with self._database.transaction() as run:
            row = run(
                "SELECT id FROM job WHERE kind = ? AND peer = ? AND study = ? AND series = ? AND instances = ?"
                " AND state IN ('waiting', 'running')", same,
            ).fetchone()  # fmt: skip
            if row is None:
                row = run(
                    "INSERT INTO job (kind, peer, study, series, instances, by, note, urgent, state, due, attempts,"
                    " expected, present, found, error, retry, created, changed)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'waiting', ?, 0, 0, 0, 0, '', '', ?, ?) RETURNING id",
                    (*same, order.by, order.note, order.urgent, now, now, now),
                ).fetchone()
                self._forget(run)
        return self._changed(int(row[0]))

    def _forget(self, run: Callable[..., Any]) -> None:
        old = "SELECT id FROM job WHERE state IN ('done', 'failed', 'cancelled') ORDER BY id DESC LIMIT -1 OFFSET ?"
        for (number,) in run(old, (KEPT,)).fetchall():
            run("DELETE FROM sent WHERE job = ?", (number,))
            run("DELETE FROM job WHERE id = ?", (number,))

    def get(self, number: int) -> Job:
        """The job of a number.

        Raises:
            InvalidArgument: there is none.
        """
        found = self._database.all(f"SELECT {_COLUMNS} FROM job WHERE id = ?", (number,))
        if not found:
            raise InvalidArgument(f"there is no job {number}", hint="`dicomnet workstation jobs` lists them.")
        return _job(found[0])

    def page(
        self, *, states: Iterable[JobState] = tuple(JobState), before: int | None = None, most: int = 100
    ) -> list[Job]:
        """Jobs, the latest first; the next page begins before the last id of this one."""
        wanted = [str(one) for one in states]
        marks = ", ".join("?" * len(wanted))
        sql = f"SELECT {_COLUMNS} FROM job WHERE state IN ({marks}) AND id < ? ORDER BY id DESC LIMIT ?"
        rows = self._database.all(sql, (*wanted, (1 << 62) if before is None else before, most))
        return [_job(row) for row in rows]

    def is_brought(self, study: str) -> bool:
        """Whether a retrieve was ever about a study, rather than that a sender sent it."""
        return bool(self._database.all("SELECT 1 FROM job WHERE kind = 'retrieve' AND study = ? LIMIT 1", (study,)))

    def studies(self) -> set[str]:
        """The studies that jobs are about which are not over."""
        rows = self._database.all("SELECT DISTINCT study FROM job WHERE state IN ('waiting', 'running')")
        return {row[0] for row in rows}

    def counts(self) -> Mapping[str, int]:
        """How many jobs are in each state."""
        found = dict(self._database.all("SELECT state, count(*) FROM job GROUP BY state"))
        return {str(state): int(found.get(state, 0)) for state in JobState}

    def cancel(self, number: int) -> Job:
        """Have nothing more done about a job that is not over; the worker of one that runs has to be told, too."""
        sql = "UPDATE job SET state = 'cancelled', changed = ? WHERE id = ? AND state IN ('waiting', 'running')"
        self.get(number)
        return self._update(number, sql, (self._clock(), number))

    def retry(self, number: int) -> Job:
        """Have a job tried now that failed, was cancelled, or waits."""
        sql = "UPDATE job SET state = 'waiting', due = ?, attempts = 0, changed = ? \
WHERE id = ? AND state IN ('failed', 'cancelled', 'waiting')"
        self.get(number)
        return self._update(number, sql, (self._clock(), self._clock(), number))

    def clear(self) -> int:
        """Forget the jobs that are over; how many those were."""
        over = "SELECT id FROM job WHERE state IN ('done', 'failed', 'cancelled')"
        with self._database.transaction() as run:
            run(f"DELETE FROM sent WHERE job IN ({over})")
            count: int = run(f"DELETE FROM job WHERE id IN ({over})").rowcount
        return count

    # ---- workers -----------------------------------------------------------------------------------------------

    def recover(self) -> int:
        """Jobs that ran when the process ended wait again; how many those were. Call it before any worker begins."""
        waiting = "UPDATE job SET state = 'waiting', due = 0, attempts = max(attempts - 1, 0) WHERE state = 'running'"
        with self._database.transaction() as run:
            count: int = run(waiting).rowcount
        return count

    def take(self, *, without: Collection[int] = ()) -> Job | None:
        """The next job that is due, as running; None where none is.

        Args:
            without: jobs that were cancelled and have not ended yet.
        """
        now, marks = self._clock(), ", ".join("?" * len(without))
        first = f"SELECT id FROM job WHERE state = 'waiting' AND due <= ? AND id NOT IN ({marks})"
        order = "ORDER BY urgent DESC, due, id LIMIT 1"
        taking = "UPDATE job SET state = 'running', attempts = attempts + 1, changed = ?"
        with self._database.transaction() as run:
            row = run(f"{taking} WHERE id = ({first} {order}) RETURNING id", (now, now, *without)).fetchone()
        return None if row is None else self._changed(int(row[0]))

    def next_due(self) -> float | None:
        """Seconds until the next job may be tried; None where none waits."""
        due = self._database.all("SELECT min(due) FROM job WHERE state = 'waiting'")[0][0]
        return None if due is None else max(float(due) - self._clock(), 0.0)

    def progress(self, number: int, *, expected: int, present: int, found: int) -> Job:
        """Say how far a job is that runs."""
        sql = "UPDATE job SET expected = ?, present = ?, found = ?, changed = ? WHERE id = ?"
        return self._update(number, sql, (expected, present, found, self._clock(), number))

    def done(self, number: int) -> Job:
        """A job is done."""
        sql = "UPDATE job SET state = 'done', error = '', retry = '', changed = ? WHERE id = ? AND state = 'running'"
        return self._update(number, sql, (self._clock(), number))

    def failed(self, number: int, error: str, retry: str) -> Job:
        """A try of a job failed: it waits for the next one, or a person has to look."""
        job = self.get(number)
        pause = RETRY_CLASSES[retry].pause(job.attempts)
        state = JobState.FAILED if pause is None else JobState.WAITING
        sql = "UPDATE job SET state = ?, due = ?, error = ?, retry = ?, changed = ? WHERE id = ? AND state = 'running'"
        now = self._clock()
        return self._update(number, sql, (state, now + (pause or 0.0), error[:_MOST_ERROR], retry, now, number))

    def sent(self, number: int) -> set[str]:
        """The instances that a job has sent so far."""
        return {row[0] for row in self._database.all("SELECT uid FROM sent WHERE job = ?", (number,))}

    def note_sent(self, number: int, uids: Iterable[str]) -> None:
        """Note instances that a job has sent."""
        with self._database.transaction() as run:
            for uid in uids:
                run("INSERT OR IGNORE INTO sent VALUES (?, ?)", (number, uid))

    def _update(self, number: int, sql: str, values: tuple[Any, ...]) -> Job:
        with self._database.transaction() as run:
            run(sql, values)
        return self._changed(number)

    def _changed(self, number: int) -> Job:
        job = self.get(number)
        if job.state is JobState.WAITING:
            with self.changed:
                self.changed.notify_all()
        self._told(job)
        return job


def _job(row: tuple[Any, ...]) -> Job:
    values = dict(zip(_FIELDS, row, strict=True))
    values["kind"], values["state"] = JobKind(values["kind"]), JobState(values["state"])
    values["series"], values["instances"] = tuple(json.loads(values["series"])), tuple(json.loads(values["instances"]))
    values["urgent"] = bool(values["urgent"])
    return Job(**values)
