"""Notes of which instances the archive has, to those who want to know (PS3.4 Annex R).

A study that has been quiet for a while is told of, once for each state that it has: what came is ONLINE, what was
deleted is OFFLINE where it is known to be on a medium, and UNAVAILABLE where it is not. How far the index has been
read, what is still to be told and what was told is in a database of its own, `availability.sqlite`, so that a restart
neither forgets nor repeats. One process of an archive tells.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import uuid
from collections.abc import Callable
from contextlib import closing
from typing import Any

from sqlalchemy import func, select

from .. import uids
from ..client.availability import AvailableInstance, notices
from ..dataset import codec
from ..errors import DicomNetError, ServiceFailure
from ..log import log, log_failure
from ..repository import schema
from ..services import presentation_contexts
from ..status import Status
from ..sync import connect
from .holdings import Holdings

__all__ = ["AvailabilityNotifier"]

_CLASS = uids.INSTANCE_AVAILABILITY_NOTIFICATION
_FILE = "availability.sqlite"
_TABLES = """
CREATE TABLE IF NOT EXISTS cursor (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS seen (seq INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS pending (title TEXT, study TEXT, due REAL, tries INTEGER, PRIMARY KEY (title, study));
CREATE TABLE IF NOT EXISTS told (title TEXT, study TEXT, count INTEGER, state TEXT, PRIMARY KEY (title, study));
CREATE TABLE IF NOT EXISTS series (uid TEXT PRIMARY KEY, study TEXT);
"""
_BATCH = 1000  # changes that are looked at together
#: How far back is looked again: of PostgreSQL's transactions one may commit behind another with a higher number.
_MARGIN = 500
_LOOK = 5.0  # seconds between two looks at the index, at most
_PAUSES = (10.0, 60.0, 600.0, 3600.0)  # before each further try; the last one for all that follow
#: The instances of a study that can be had: of each its series, its SOP class, how, and the ID and UID of its medium.
_State = dict[str, tuple[str, str, str, str, str]]
_ONLINE = ("ONLINE", "", "")


class AvailabilityNotifier:
    """Tells the destinations that the settings name.

    Args:
        holdings: of the archive.
        clock: seconds since 1970; the database's by default.
    """

    def __init__(self, holdings: Holdings, *, clock: Callable[[], float] | None = None) -> None:
        self._holdings, self._clock = holdings, clock or holdings.database.clock
        self._stop = threading.Event()
        self._changing = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def _titles(self) -> tuple[str, ...]:
        return self._holdings.settings.availability_to

    @property
    def _quiet(self) -> float:
        return self._holdings.settings.availability_after

    def start(self) -> None:
        """Tell what is to be told, of before now too, in a thread of its own; it follows the settings."""
        self._holdings.follow(self._follow)
        self._follow()

    def _follow(self) -> None:
        """Begin, once the settings name a destination."""
        with self._changing:
            if self._titles and self._thread is None and not self._stop.is_set():
                self.open().close()
                self._thread = threading.Thread(target=self._run, name="dicomnet-availability", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Tell nothing more; what was to be told is, after the next start."""
        with self._changing:
            self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def open(self) -> sqlite3.Connection:
        """What is remembered. What the archive has at the first start counts as told: a RIS wants no old studies."""
        own = sqlite3.connect(self._holdings.directory / _FILE)
        own.executescript(_TABLES)
        with self._holdings.database.read() as connection:
            last = connection.execute(select(func.max(schema.change.c.seq))).scalar() or 0
        with own:
            if own.execute("INSERT OR IGNORE INTO cursor VALUES (1, ?)", (last,)).rowcount:
                own.executemany("INSERT INTO seen VALUES (?)", ((seq,) for seq in range(last - _MARGIN, last + 1)))
        return own

    def _run(self) -> None:
        with closing(self.open()) as own:
            while not self._stop.wait(min(self._quiet / 2, _LOOK)):
                try:
                    if self._titles:
                        self.look(own)
                except Exception as error:
                    log_failure("availability cannot be told", error)

    def look(self, own: sqlite3.Connection) -> None:
        """Read what has changed, and tell what is due."""
        while self._read_changes(own):
            pass
        due = own.execute("SELECT title, study, tries FROM pending WHERE due <= ? ORDER BY due", (self._clock(),))
        for title, study, tries in due.fetchall():
            if self._stop.is_set():
                return
            if title in self._titles:
                self._tell(own, title, study, tries)

    # ---- what has changed --------------------------------------------------------------------------------------

    def _read_changes(self, own: sqlite3.Connection) -> bool:
        """Put the studies of the next changes on the list; whether there were as many as are looked at together."""
        (seq,) = own.execute("SELECT seq FROM cursor").fetchone()
        table = schema.change.c
        known = {one for (one,) in own.execute("SELECT seq FROM seen")}
        query = select(table.seq, table.level, table.uid).where(table.seq > seq - _MARGIN).order_by(table.seq)
        with self._holdings.database.read() as connection:
            rows = [row for row in connection.execute(query.limit(_BATCH + _MARGIN)) if row.seq not in known]
            of = select(schema.series.c.uid, schema.study.c.uid).join(schema.study)
            series = [row.uid for row in rows if row.level == "SERIES"]
            found = {row[0]: row[1] for row in connection.execute(of.where(schema.series.c.uid.in_(series)))}
        if not rows:
            return False
        due = self._clock() + self._quiet
        with own:
            own.executemany("INSERT OR REPLACE INTO series VALUES (?, ?)", found.items())
            gone = "SELECT study FROM series WHERE uid = ?"  # a series that is deleted is no longer in the index
            for row in rows:
                study = row.uid if row.level == "STUDY" else found.get(row.uid)
                if study is None:
                    study = next((one for (one,) in own.execute(gone, (row.uid,))), None)
                for title in self._titles if study else ():
                    own.execute("INSERT OR REPLACE INTO pending VALUES (?, ?, ?, 0)", (title, study, due))
            own.executemany("INSERT INTO seen VALUES (?)", ((row.seq,) for row in rows))
            own.execute("UPDATE cursor SET seq = max(seq, ?)", (rows[-1].seq,))
            own.execute("DELETE FROM seen WHERE seq <= (SELECT seq FROM cursor) - ?", (_MARGIN,))
        return len(rows) >= _BATCH

    def _state(self, study: str) -> _State:
        """What is here, and what is on media only."""
        joined = schema.instance.join(schema.series).join(schema.study)
        query = select(schema.instance.c.uid, schema.series.c.uid, schema.instance.c.cls).select_from(joined)
        with self._holdings.database.read() as connection:
            rows = connection.execute(query.where(schema.study.c.uid == study)).all()
        offline: _State = {
            one.uid: (one.series_uid, one.cls, "OFFLINE", one.file_set_id, one.file_set_uid)
            for one in self._holdings.offline.of(study)
        }
        return offline | {row[0]: (row[1], row[2], *_ONLINE) for row in rows}

    # ---- telling -----------------------------------------------------------------------------------------------

    def _tell(self, own: sqlite3.Connection, title: str, study: str, tries: int) -> None:
        row = own.execute("SELECT count, state FROM told WHERE title = ? AND study = ?", (title, study)).fetchone()
        count = row[0] if row else 0
        # Rows of earlier versions have what was online alone, as series and class.
        before: _State = {uid: (*one, *_ONLINE)[:5] for uid, one in json.loads(row[1]).items()} if row else {}
        state = self._state(study)
        if state != before:
            try:
                self._send(title, study, state, before, count)
            except (DicomNetError, OSError) as error:
                log.warning("%s is not told of the study %s: %s", title, study, error)
                pause = _PAUSES[min(tries, len(_PAUSES) - 1)]
                with own:
                    again = "UPDATE pending SET due = ?, tries = tries + 1 WHERE title = ? AND study = ?"
                    own.execute(again, (self._clock() + pause, title, study))
                return
        with own:
            own.execute("DELETE FROM pending WHERE title = ? AND study = ?", (title, study))
            if state != before:
                own.execute("INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?)",
                            (title, study, count + 1, json.dumps(state)))  # fmt: skip

    def _send(self, title: str, study: str, state: _State, before: _State, count: int) -> None:
        """One note: of all that there is, and of what is gone since the last one.

        Its UID is of this state, so that a peer whose answer was lost knows it again.
        """
        chosen = self._holdings.settings
        instances = [
            AvailableInstance(
                study,
                series,
                sop_class,
                uid,
                how if uid in state else "UNAVAILABLE",
                chosen.ae_title,
                *(medium if uid in state else ()),
            )
            for uid, (series, sop_class, how, *medium) in (before | state).items()
        ]
        (note,) = notices(instances)
        uid = f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{chosen.ae_title} {title} {study} {count}').int}"
        contexts: Any = presentation_contexts.sop_classes(_CLASS)
        with connect(chosen.destinations[title], calling=chosen.ae_title, contexts=contexts) as association:
            try:
                association.n_create(_CLASS, uid, codec.from_keywords(note))
            except ServiceFailure as error:
                if error.status != Status.DUPLICATE_SOP_INSTANCE:
                    raise
        log.info("%s is told of the study %s: %d instances", title, study, len(instances))
