"""Where the entries of known AEs are kept: the server's own database, or what an add-in puts in its place."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .ae_entry import AEEntry
from .base import NotNow
from .database import Database

__all__ = ["Check", "KeptTitles", "LocalTitles", "TitlesUnavailable"]

#: Raises `Conflict` where a change does not go with what is known at its moment.
Check = Callable[[Sequence[AEEntry]], None]


class TitlesUnavailable(NotNow):
    """What keeps the AE titles cannot be asked now; those that were read before hold."""


class KeptTitles(Protocol):
    """Keeps entries; each change and its line of history are one transaction.

    Every method raises `TitlesUnavailable` where it cannot be asked.
    """

    def entries(self) -> list[AEEntry]:
        """All there are."""

    def add(self, entry: AEEntry, check: Check) -> AEEntry:
        """Keep a new entry; with its id."""

    def update(self, entry: AEEntry, check: Check, what: str) -> bool:
        """Put an entry in the place of that of its id; False: that is gone."""

    def remove(self, entry: AEEntry) -> None:
        """Forget an entry."""

    def history(self, number: int) -> list[dict[str, Any]]:
        """What happened to the entry of an id, oldest first."""


class LocalTitles:
    """`KeptTitles` in the server's own database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def entries(self) -> list[AEEntry]:
        """See `KeptTitles`."""
        return [AEEntry.model_validate_json(text) for text in self._database.rows("SELECT document FROM ae_titles")]

    def add(self, entry: AEEntry, check: Check) -> AEEntry:
        """See `KeptTitles`."""
        check(self.entries())
        with self._database.transaction() as run:
            run("INSERT INTO ae_titles (document) VALUES ('')")
            number = run("SELECT last_insert_rowid()").fetchone()[0]
            stored = entry.model_copy(update={"id": number})
            run("UPDATE ae_titles SET document = ? WHERE id = ?", (stored.model_dump_json(), number))
            self._note(run, stored, "added")
        return stored

    def update(self, entry: AEEntry, check: Check, what: str) -> bool:
        """See `KeptTitles`."""
        check(self.entries())
        with self._database.transaction() as run:
            changed = run("UPDATE ae_titles SET document = ? WHERE id = ?", (entry.model_dump_json(), entry.id))
            self._note(run, entry, what)
        return changed.rowcount > 0

    def remove(self, entry: AEEntry) -> None:
        """See `KeptTitles`."""
        with self._database.transaction() as run:
            run("DELETE FROM ae_titles WHERE id = ?", (entry.id,))
            self._note(run, entry, "removed")

    def history(self, number: int) -> list[dict[str, Any]]:
        """See `KeptTitles`."""
        rows = self._database.all("SELECT at, what FROM ae_history WHERE ae = ? ORDER BY id", (number,))
        return [{"at": at, "what": what} for at, what in rows]

    def _note(self, run: Callable[..., Any], entry: AEEntry, what: str) -> None:
        run("INSERT INTO ae_history (ae, at, what) VALUES (?, ?, ?)", (entry.id, time.time(), what))
