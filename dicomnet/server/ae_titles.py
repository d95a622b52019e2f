"""The AE titles that a server knows, kept in its database; looked up in memory, for every association asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..config import Entity
from ..errors import InvalidArgument
from ..protocol.peer_profile import Peer
from .ae_entry import AEEntry, key_of
from .database import Database
from .events import EventLog

__all__ = ["AETitles", "Conflict", "InUse", "NotKnown"]


class NotKnown(InvalidArgument):
    """There is no such thing."""


class Conflict(InvalidArgument):
    """It is there already."""


class InUse(InvalidArgument):
    """Something depends on it."""


Uses = Callable[[AEEntry], Sequence[str]]


class AETitles:
    """The directory of known AEs. Each change and its event are one transaction."""

    def __init__(self, database: Database, events: EventLog) -> None:
        self._database = database
        self._events = events
        self._uses: dict[str, Uses] = {}
        self._by_key: dict[str, AEEntry] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read what another process has changed."""
        documents = self._database.rows("SELECT document FROM ae_titles")
        self._index(AEEntry.model_validate_json(text) for text in documents)

    def _index(self, entries: Iterable[AEEntry]) -> None:
        by_key: dict[str, AEEntry] = {}
        for entry in entries:
            for title in (entry.title, *entry.aliases):
                by_key[key_of(title)] = entry
        self._by_key = by_key  # in one step: readers have no lock

    def __iter__(self) -> Iterator[AEEntry]:
        return iter(sorted({entry.id: entry for entry in self._by_key.values()}.values(), key=lambda one: one.title))

    def __len__(self) -> int:
        return len({entry.id for entry in self._by_key.values()})

    def find(self, title: str) -> AEEntry | None:
        """The entry of a title or an alias, however it is padded or spelt."""
        return self._by_key.get(key_of(title))

    def get(self, title: str) -> AEEntry:
        """The entry of a title or an alias.

        Raises:
            NotKnown: there is none.
        """
        entry = self.find(title)
        if entry is None:
            raise NotKnown(f'there is no AE title "{title}"', hint="`dicomnet server ae list` lists them.")
        return entry

    def add(self, entry: AEEntry) -> AEEntry:
        """Add an entry; see `base.AEDirectory`."""
        with self._events.lock:
            self._require_free(entry, None)
            with self._database.transaction() as run:
                run("INSERT INTO ae_titles (document) VALUES ('')")
                number = run("SELECT last_insert_rowid()").fetchone()[0]
                stored = entry.model_copy(update={"id": number})
                run("UPDATE ae_titles SET document = ? WHERE id = ?", (stored.model_dump_json(), number))
                self._note(run, stored, "added")
            self._index([*self, stored])
            self._events.publish("ae.added", {"ae": stored.model_dump(mode="json")})
        return stored

    def update(self, title: str, entry: AEEntry) -> AEEntry:
        """Change an entry, its title too; see `base.AEDirectory`."""
        with self._events.lock:
            old = self.get(title)
            self._require_free(entry, old)
            stored = entry.model_copy(update={"id": old.id})
            with self._database.transaction() as run:
                run("UPDATE ae_titles SET document = ? WHERE id = ?", (stored.model_dump_json(), old.id))
                renamed = f"renamed from {old.title}" if old.title != stored.title else "updated"
                self._note(run, stored, renamed)
            self._index([*(one for one in self if one.id != old.id), stored])
            self._events.publish("ae.updated", {"old": old.title, "ae": stored.model_dump(mode="json")})
        return stored

    def remove(self, title: str) -> AEEntry:
        """Remove an entry that nothing depends on; see `base.AEDirectory`."""
        with self._events.lock:
            entry = self.get(title)
            uses = [f"{owner}: {use}" for owner, ask in self._uses.items() for use in ask(entry)]
            if uses:
                what = f"{entry.title} is in use by {'; '.join(uses)}"
                raise InUse(what, hint="Change or remove what uses it first.")
            with self._database.transaction() as run:
                run("DELETE FROM ae_titles WHERE id = ?", (entry.id,))
                self._note(run, entry, "removed")
            self._index(one for one in self if one.id != entry.id)
            self._events.publish("ae.removed", {"ae": entry.model_dump(mode="json")})
        return entry

    def history(self, number: int) -> list[dict[str, Any]]:
        """What happened to the entry of an id, oldest first."""
        rows = self._database.all("SELECT at, what FROM ae_history WHERE ae = ? ORDER BY id", (number,))
        return [{"at": at, "what": what} for at, what in rows]

    def destinations(self) -> Mapping[str, Entity]:
        """A live view of where titles listen."""
        return _Destinations(self)

    def profiles(self) -> tuple[Peer, ...]:
        """The profiles of all entries, by each of their titles."""
        return tuple(
            entry.model_copy(update={"title": title}).profile()
            for entry in self
            for title in (entry.title, *entry.aliases)
        )

    def depends(self, owner: str, uses: Uses) -> None:
        """Ask a function, before an entry is removed, what of its owner's depends on it."""
        self._uses[owner] = uses

    def _require_free(self, entry: AEEntry, old: AEEntry | None) -> None:
        for title in (entry.title, *entry.aliases):
            other = self.find(title)
            if other is not None and (old is None or other.id != old.id):
                of = "" if key_of(other.title) == key_of(title) else f", an alias of {other.title}"
                raise Conflict(f'the AE title "{title}" is there already{of}')

    def _note(self, run: Callable[..., Any], entry: AEEntry, what: str) -> None:
        run("INSERT INTO ae_history (ae, at, what) VALUES (?, ?, ?)", (entry.id, time.time(), what))


class _Destinations(Mapping[str, Entity]):
    def __init__(self, titles: AETitles) -> None:
        self._titles = titles

    def __getitem__(self, title: str) -> Entity:
        entry = self._titles.find(title)
        if entry is None or entry.entity is None:
            raise KeyError(title)
        return entry.entity

    def __iter__(self) -> Iterator[str]:
        return (entry.title for entry in self._titles if entry.entity is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)
