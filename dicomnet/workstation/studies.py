"""The studies that the workstation holds: which are whole, open or pinned, and which go when there are too many."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from sqlalchemy import func, select

from ..log import log
from ..repository import schema
from ..repository.catalog import Level
from ..repository.deletion import delete_instances
from ..repository.holdings import Holdings
from ..server.database import Database

__all__ = ["SCHEMA", "LocalStudy", "Studies", "Totals"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS study_use (study TEXT PRIMARY KEY, opened REAL NOT NULL, pinned INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS study_end (
    number INTEGER PRIMARY KEY AUTOINCREMENT, study TEXT NOT NULL UNIQUE, instances INTEGER NOT NULL, at REAL NOT NULL,
    told INTEGER NOT NULL);
"""
_AGAIN = "ON CONFLICT (study) DO UPDATE SET"
_S, _P = schema.study.c, schema.patient.c
_COLUMNS = (_S.uid, _P.pid, _P.name, _S.date, _S.descr, _S.acc, _S.mods, _S.n_series, _S.n_inst, _S.bytes, _S.seen_at)


@dataclass(frozen=True, slots=True)
class LocalStudy:
    """A study that is here.

    Attributes:
        uid: Study Instance UID.
        patient_id, patient_name, date, description, accession, modalities: as it says.
        series, instances, bytes: how much there is.
        received: when the last instance came, in seconds since 1970; ``opened``: when it was last looked at, or 0.
        ended: when it was found to be whole, or 0.
        pinned: it stays, whatever the quota; ``open``: it is being looked at, so that it stays for now.
    """

    uid: str
    patient_id: str
    patient_name: str
    date: str
    description: str
    accession: str
    modalities: str
    series: int
    instances: int
    bytes: int
    received: float
    opened: float
    ended: float
    pinned: bool
    open: bool

    def as_json(self) -> dict[str, Any]:
        """For the API."""
        return asdict(self)


class Totals(NamedTuple):
    """How much is here: studies, their instances, and the bytes of these."""

    studies: int
    instances: int
    bytes: int


class Studies:
    """Looks after what is held.

    Args:
        holdings: what is held.
        database: with the tables of `SCHEMA`.
        quiet: seconds without a further instance after which a study has ended.
        open_for: seconds for which a study counts as open after it was last looked at.
        ended: called once for each study that has ended: its UID, its number and how many instances it has.
        busy: the studies that a job is about, which stay.
        clock: seconds since 1970.

    Attributes:
        over_quota: bytes that are held beyond the quota, for nothing more may go.
    """

    def __init__(
        self,
        holdings: Holdings,
        database: Database,
        *,
        quiet: float,
        open_for: float,
        ended: Callable[[str, int, int], object],
        busy: Callable[[], Collection[str]] = tuple[str, ...],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._holdings, self._database, self._clock = holdings, database, clock
        self._quiet, self._open_for, self._ended, self._busy = quiet, open_for, ended, busy
        self._opened: dict[str, float] = {}
        self._lock = threading.Lock()
        self._keeping = threading.Lock()
        self._seen = -1
        self.over_quota: int = 0

    # ---- use ---------------------------------------------------------------------------------------------------

    def touch(self, uid: str) -> None:
        """Someone looks at a study; from any thread, at once."""
        with self._lock:
            self._opened[uid] = self._clock()

    def pin(self, uids: Sequence[str], *, pinned: bool) -> None:
        """Have studies stay whatever the quota, or not."""
        with self._database.transaction() as run:
            for uid in uids:
                run(f"INSERT INTO study_use VALUES (?, 0, ?) {_AGAIN} pinned = excluded.pinned", (uid, pinned))

    def _keep_use(self) -> None:
        with self._keeping:  # who asks next must not miss what is on its way
            with self._lock:
                opened, self._opened = self._opened, {}
            if opened:
                self._keep(opened)

    def _keep(self, opened: Mapping[str, float]) -> None:
        with self._holdings.database.read() as connection:
            here = set(connection.execute(select(_S.uid)).scalars())
        with self._database.transaction() as run:
            for uid, at in opened.items():
                if uid in here:  # anyone may ask for what is not here
                    run(f"INSERT INTO study_use VALUES (?, ?, 0) {_AGAIN} opened = excluded.opened", (uid, at))

    def totals(self) -> Totals:
        """How much is here."""
        sums = [func.coalesce(func.sum(one), 0) for one in (_S.n_inst, _S.bytes)]
        with self._holdings.database.read() as connection:
            studies, instances, held = connection.execute(select(func.count(_S.uid), *sums)).one()
        return Totals(int(studies), int(instances), int(held))

    def latest(self, *, most: int = 1000) -> list[LocalStudy]:
        """The studies that are here, the latest received first."""
        return sorted(self._all(), key=lambda one: one.received, reverse=True)[:most]

    def _all(self) -> Iterator[LocalStudy]:
        self._keep_use()
        now = self._clock()
        used = {row[0]: row[1:] for row in self._database.all("SELECT study, opened, pinned FROM study_use")}
        ended = dict(self._database.all("SELECT study, at FROM study_end"))
        with self._holdings.database.read() as connection:
            rows = connection.execute(select(*_COLUMNS).join(schema.patient)).all()
        for row in rows:
            opened, pinned = used.get(row.uid, (0.0, 0))
            yield LocalStudy(
                row.uid, row.pid or "", row.name, row.date, row.descr, row.acc, row.mods, row.n_series, row.n_inst,
                row.bytes, row.seen_at, opened, float(ended.get(row.uid, 0.0)), bool(pinned),
                opened > now - self._open_for,
            )  # fmt: skip

    # ---- what has ended ----------------------------------------------------------------------------------------

    def look(self) -> None:
        """Tell of the studies that have ended, once each.

        A study has ended when nothing of it has come for a while. That is noted with a number before it is told, so
        that a restart neither forgets it nor tells it under another number. What is known of studies that are gone
        goes, too.
        """
        self._keep_use()
        known, used = (set(self._database.rows(f"SELECT study FROM {one}")) for one in ("study_end", "study_use"))
        with self._holdings.database.read() as connection:  # later than these: what comes meanwhile is not forgotten
            seen = int(connection.execute(select(func.max(schema.change.c.seq))).scalar() or 0)
            if seen == self._seen:
                return
            rows = connection.execute(select(_S.uid, _S.n_inst, _S.seen_at)).all()
        now, waits = self._clock(), False
        with self._database.transaction() as run:
            for uid in (known | used).difference(row.uid for row in rows):  # if it comes again, it ends again
                _forget(run, uid)
            for row in rows:
                if row.uid in known:
                    continue
                if 0 < row.seen_at + self._quiet - now <= self._quiet:
                    waits = True
                else:  # a clock that was set back does not hold it up for longer
                    run("INSERT INTO study_end VALUES (NULL, ?, ?, ?, 0)", (row.uid, row.n_inst, now))
        self._tell()
        self._seen = -1 if waits else seen

    def _tell(self) -> None:
        for number, uid, count in self._database.all(
            "SELECT number, study, instances FROM study_end WHERE told = 0 ORDER BY number"
        ):
            log.info("the study %s has ended: %d instances", uid, count)
            self._ended(uid, number, count)
            with self._database.transaction() as run:
                run("UPDATE study_end SET told = 1 WHERE number = ?", (number,))

    # ---- the quota ---------------------------------------------------------------------------------------------

    def prune(self, quota: int) -> list[LocalStudy]:
        """Delete the studies that no one has looked at for the longest time, until no more than so many bytes are held.

        What is pinned or open stays, what a job is about, and what is still arriving.
        """
        if self.totals().bytes <= quota:
            self.over_quota = 0
            return []
        found = sorted(self._all(), key=lambda one: max(one.received, one.opened))
        left, gone = sum(one.bytes for one in found), list[LocalStudy]()
        busy, arriving = self._busy(), self._clock() - self._quiet
        for one in found:
            if left <= quota:
                break
            if one.pinned or one.open or one.uid in busy or one.received > arriving or one.uid in self._opened:
                continue
            uids = [instance.uid for instance in self._holdings.index.instances(Level.STUDY, [one.uid])]
            delete_instances(self._holdings, uids)
            log.info("the study %s goes, for the quota: %d bytes", one.uid, one.bytes)
            left -= one.bytes
            gone.append(one)
        with self._database.transaction() as run:
            for one in gone:
                _forget(run, one.uid)
        self.over_quota = max(left - quota, 0)
        return gone


def _forget(run: Callable[..., Any], study: str) -> None:
    run("DELETE FROM study_use WHERE study = ?", (study,))
    run("DELETE FROM study_end WHERE study = ?", (study,))
