"""The AE titles that a server knows, kept in a database; looked up in memory, for every association asks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..config import Entity
from ..errors import InvalidArgument
from ..protocol.peer_profile import Peer
from .ae_entry import AEEntry, key_of
from .database import Database
from .events import EventLog
from .kept_titles import KeptTitles, LocalTitles, TitlesUnavailable

__all__ = ["AETitles", "Conflict", "InUse", "NotKnown"]

log: logging.Logger = logging.getLogger("dicomnet.server")


class NotKnown(InvalidArgument):
    """There is no such thing."""


class Conflict(InvalidArgument):
    """It is there already."""


class InUse(InvalidArgument):
    """Something depends on it."""


Uses = Callable[[AEEntry], Sequence[str]]


class AETitles:
    """The directory of known AEs: a snapshot in memory, of what `KeptTitles` keeps.

    A change is kept first; then the snapshot and the event change together, under the lock of events, which is never
    held while a database is asked.
    """

    def __init__(self, database: Database, events: EventLog) -> None:
        self._kept: KeptTitles = LocalTitles(database)
        self._events = events
        self._changing = threading.Lock()
        self._uses: dict[str, Uses] = {}
        self._by_key: dict[str, AEEntry] = {}
        self.refresh()

    def keep_in(self, kept: KeptTitles) -> None:
        """Keep entries elsewhere from now on, and work on what is there.

        What was kept so far goes there, where its titles are free, and is kept here no more: what is removed there
        must not come back with the next start.

        Raises:
            TitlesUnavailable: it cannot be asked; all stays as it is.
        """
        with self._changing:
            before, self._kept = self._kept, kept
            try:
                for entry in self:
                    self._move(entry, before)
                self._index(self._kept.entries())
            except TitlesUnavailable:
                self._kept = before
                raise

    def _move(self, entry: AEEntry, before: KeptTitles) -> None:
        new = entry.model_copy(update={"id": 0})
        try:
            self._kept.add(new, lambda known: _require_free(known, new))
        except Conflict:
            if _same(entry, self._kept.entries()) is None:
                log.warning('the AE title "%s" is kept otherwise by all nodes: that entry holds', entry.title)
        before.remove(entry)

    def refresh(self) -> None:
        """Read what another process, or another node, has changed, and tell of it.

        Raises:
            TitlesUnavailable: it cannot be read; what was read before holds.
        """
        with self._changing:
            old, new = {one.id: one for one in self}, {one.id: one for one in self._kept.entries()}
            with self._events.lock:
                self._index(new.values())
                for number, entry in new.items():
                    if number not in old:
                        self._events.publish("ae.added", {"ae": entry.model_dump(mode="json")})
                    elif old[number] != entry:
                        told = {"old": old[number].title, "ae": entry.model_dump(mode="json")}
                        self._events.publish("ae.updated", told)
                for number in old.keys() - new.keys():
                    self._events.publish("ae.removed", {"ae": old[number].model_dump(mode="json")})

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
        with self._changing:
            new = entry.model_copy(update={"id": 0})
            stored = self._kept.add(new, lambda known: _require_free(known, new))
            with self._events.lock:
                self._index([*self, stored])
                self._events.publish("ae.added", {"ae": stored.model_dump(mode="json")})
        return stored

    def update(self, title: str, entry: AEEntry) -> AEEntry:
        """Change an entry, its title too; see `base.AEDirectory`."""
        with self._changing:
            old = self.get(title)
            stored = entry.model_copy(update={"id": old.id})
            what = f"renamed from {old.title}" if old.title != stored.title else "updated"
            if not self._kept.update(stored, lambda known: _require_free(known, stored), what):
                raise NotKnown(f'the AE title "{title}" was removed meanwhile')
            with self._events.lock:
                self._index([*(one for one in self if one.id != old.id), stored])
                self._events.publish("ae.updated", {"old": old.title, "ae": stored.model_dump(mode="json")})
        return stored

    def remove(self, title: str) -> AEEntry:
        """Remove an entry that nothing depends on; see `base.AEDirectory`."""
        with self._changing:
            entry = self.get(title)
            uses = [f"{owner}: {use}" for owner, ask in self._uses.items() for use in ask(entry)]
            if uses:
                what = f"{entry.title} is in use by {'; '.join(uses)}"
                raise InUse(what, hint="Change or remove what uses it first.")
            self._kept.remove(entry)
            with self._events.lock:
                self._index(one for one in self if one.id != entry.id)
                self._events.publish("ae.removed", {"ae": entry.model_dump(mode="json")})
        return entry

    def history(self, number: int) -> list[dict[str, Any]]:
        """What happened to the entry of an id, oldest first."""
        return self._kept.history(number)

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


def _require_free(known: Iterable[AEEntry], entry: AEEntry) -> None:
    """Refuse an entry of which a title is that of another one."""
    for title in (entry.title, *entry.aliases):
        for other in known:
            if key_of(title) in map(key_of, (other.title, *other.aliases)) and other.id != entry.id:
                of = "" if key_of(other.title) == key_of(title) else f", an alias of {other.title}"
                raise Conflict(f'the AE title "{title}" is there already{of}')


def _same(entry: AEEntry, known: Iterable[AEEntry]) -> AEEntry | None:
    """The entry that says the same, but for its id."""
    return next((one for one in known if one.model_copy(update={"id": entry.id}) == entry), None)


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
