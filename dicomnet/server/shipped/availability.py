"""The add-in `availability`: is told which instances can be had where, and remembers it (PS3.4 Annex R).

Each note is an event ``availability.noted``, which `exec` and `webhook` pass on. What was said last of each instance is
in `data/availability/instances.sqlite`, and is asked for by `Availability.of_study`.
"""

from __future__ import annotations

import sqlite3
import threading
from typing import Any

from ... import uids
from ...client.availability import AVAILABILITIES
from ...dataset import codec
from ...services.provider_requests import NormalizedRequest
from ...services.service_registry import Registering
from ...status import Status
from ..context import AddInContext
from ..hookspecs import hookimpl

__all__ = ["Availability"]

_CLASS = uids.INSTANCE_AVAILABILITY_NOTIFICATION
_TABLES = """
CREATE TABLE IF NOT EXISTS notes (uid TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS instances (
    uid TEXT PRIMARY KEY, sop_class TEXT, study TEXT, series TEXT, availability TEXT, retrieve_ae TEXT, told_by TEXT
);
CREATE INDEX IF NOT EXISTS of_study ON instances (study);
"""
_KEPT_NOTES = 100_000  # so many UIDs of notes are known again


class _Refused(Exception):
    def __init__(self, code: int, keyword: str, why: str) -> None:
        super().__init__(why)
        self.status = Status(code, comment=why, offending=codec.tags([keyword]) or ())


class Availability:
    """Is told which instances can be had where, and remembers it (PS3.4 Annex R)."""

    @hookimpl
    def start(self, context: AddInContext) -> None:
        """Open what is remembered."""
        self.context = context
        self._lock = threading.Lock()
        self._database = sqlite3.connect(context.data / "instances.sqlite", check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.executescript(_TABLES)

    @hookimpl
    def services(self, registry: Registering) -> None:
        """Take notes."""
        registry.on_n_create(_CLASS)(self.note)

    @hookimpl
    def stop(self) -> None:
        """Close what is remembered."""
        with self._lock:
            self._database.close()

    def note(self, request: NormalizedRequest) -> Status:
        """N-CREATE: all of a note is remembered once this returns, or nothing."""
        uid = request.sop_instance_uid
        if not uids.is_valid(uid):
            return Status(Status.INVALID_SOP_INSTANCE, comment="no SOP Instance UID")
        try:
            study, rows = _read(request.dataset if request.size else codec.from_keywords({}), request.calling)
        except _Refused as refused:
            return refused.status
        with self._lock, self._database:
            if self._database.execute("INSERT OR IGNORE INTO notes VALUES (?)", (uid,)).rowcount == 0:
                return Status(Status.DUPLICATE_SOP_INSTANCE, comment="this note was taken before")
            self._database.execute(
                "DELETE FROM notes WHERE rowid <= (SELECT max(rowid) FROM notes) - ?", (_KEPT_NOTES,)
            )
            self._database.executemany("INSERT OR REPLACE INTO instances VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        counts = {one: sum(row[4] == one for row in rows) for one in AVAILABILITIES}
        told = {one: count for one, count in counts.items() if count}
        self.context.publish("noted", study_uid=study, calling=request.calling, uid=uid, **told)
        return Status.SUCCESS

    def of_study(self, uid: str) -> dict[str, tuple[str, str]]:
        """Of each instance of a study that was told of: its availability, and the AE title to retrieve it from."""
        query = "SELECT uid, availability, retrieve_ae FROM instances WHERE study = ?"
        with self._lock:
            return {one: (how, where) for one, how, where in self._database.execute(query, (uid,))}


def _read(given: Any, calling: str) -> tuple[str, list[tuple[str, ...]]]:
    """The study and the rows of a note.

    Raises:
        _Refused: an attribute is missing, or has a value that it cannot have.
    """
    study = _valued(given, "StudyInstanceUID")
    rows: list[tuple[str, ...]] = []
    for series in _items(given, "ReferencedSeriesSequence"):
        series_uid = _valued(series, "SeriesInstanceUID")
        for one in _items(series, "ReferencedSOPSequence"):
            how = _valued(one, "InstanceAvailability")
            if how not in AVAILABILITIES:
                why = f"one of {', '.join(AVAILABILITIES)}"
                raise _Refused(Status.INVALID_ATTRIBUTE_VALUE, "InstanceAvailability", why)
            uid, sop_class = _valued(one, "ReferencedSOPInstanceUID"), _valued(one, "ReferencedSOPClassUID")
            rows.append((uid, sop_class, study, series_uid, how, _valued(one, "RetrieveAETitle"), calling))
    return study, rows


def _valued(dataset: Any, keyword: str) -> str:
    value = str(dataset.get(keyword, "") or "").strip()
    if not value:
        raise _Refused(Status.MISSING_ATTRIBUTE, keyword, f"no {keyword}")
    return value


def _items(dataset: Any, keyword: str) -> list[Any]:
    found = list(dataset.get(keyword) or ())
    if not found:
        raise _Refused(Status.MISSING_ATTRIBUTE, keyword, f"no {keyword}")
    return found
