"""The AE titles that a server knows, kept in a database; looked up in memory, for every association asks."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..config import Entity
from ..errors import InvalidArgument
from ..protocol.peer_profile import Peer
from .ae_entry import AEEntry, key_of
from .database import Database
from .events import EventLog
from .kept_titles import KeptTitles, LocalTitles

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

    A change is kept first, one at a time. Then the snapshot and the event change together, in the order in which
    changes were kept, under the lock of events, which is never waited for or held while a database is asked: who
    listens to events may change something himself.
    """

    def __init__(self, database: Database, events: EventLog) -> None:
        self._kept: KeptTitles = LocalTitles(database)
        self._events = events
        self._changing = threading.Lock()
        self._untold: deque[Callable[[], None]] = deque()  # what was kept, and the snapshot has not
        self._uses: dict[str, Uses] = {}
        self._by_key: dict[str, AEEntry] = {}
        self.refresh()

    def keep_in(self, kept: KeptTitles) -> Callable[[], None]:
        """Keep entries elsewhere from now on, and work on what is there, until what is returned is called.

        What the server kept by itself so far goes there, where its titles are free, and is kept here no more: what is
        removed there must not come back with the next start.

        Raises:
            TitlesUnavailable: it cannot be asked; all stays as it is, as it does after any other exception.
        """
        with self._changing:
            before = self._kept
            moving = before.entries() if isinstance(before, LocalTitles) else []
            for entry in moving:
                _copy(entry, kept)
            entries = kept.entries()
            for entry in moving:
                before.remove(entry)
            self._kept = kept
            self._untold.append(partial(self._follow, entries, _title_of))
        self._tell()
        return partial(self._keep_again, before, kept)

    def _keep_again(self, before: KeptTitles, kept: KeptTitles) -> None:
        with self._changing:
            if self._kept is not kept:
                return
            entries = before.entries()
            self._kept = before
            self._untold.append(partial(self._follow, entries, _title_of))
        self._tell()

    def refresh(self) -> None:
        """Read what another process, or another node, has changed, and tell of it.

        Raises:
            TitlesUnavailable: it cannot be read; what was read before holds.
        """
        with self._changing:
            self._untold.append(partial(self._follow, self._kept.entries(), _id_of))
        self._tell()

    # ---- the snapshot ------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        """Have the snapshot follow what was kept, here or by another node."""
        with self._events.lock:
            while self._untold:
                self._untold.popleft()()

    def _follow(self, entries: Iterable[AEEntry], key: Callable[[AEEntry], Hashable]) -> None:
        """Have these entries, and tell how they differ; those of one key are one entry."""
        old, new = {key(one): one for one in self}, {key(one): one for one in entries}
        self._index(new.values())
        for gone in old.keys() - new.keys():
            self._events.publish("ae.removed", {"ae": old[gone].model_dump(mode="json")})
        for name, entry in new.items():
            if old.get(name) != entry:
                self._publish_put(old.get(name), entry)

    def _put(self, entry: AEEntry) -> None:
        old = next((one for one in self if one.id == entry.id), None)
        self._index([*(one for one in self if one.id != entry.id), entry])
        self._publish_put(old, entry)

    def _publish_put(self, old: AEEntry | None, entry: AEEntry) -> None:
        told = {"ae": entry.model_dump(mode="json")}
        if old is None:
            self._events.publish("ae.added", told)
        else:
            self._events.publish("ae.updated", {"old": old.title, **told})

    def _drop(self, entry: AEEntry) -> None:
        self._follow([one for one in self if one.id != entry.id], _id_of)

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

    # ---- changes -----------------------------------------------------------------------------------------------

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Keep one change at a time, then tell of it; what is in conflict may be what is not known here yet."""
        try:
            with self._changing:
                yield
        except Conflict:
            self.refresh()
            raise
        self._tell()

    def add(self, entry: AEEntry) -> AEEntry:
        """Add an entry; see `base.AEDirectory`."""
        new = entry.model_copy(update={"id": 0})
        with self._change():
            stored = self._kept.add(new, lambda known: _require_free(known, new))
            self._untold.append(partial(self._put, stored))
        return stored

    def update(self, title: str, entry: AEEntry) -> AEEntry:
        """Change an entry, its title too; see `base.AEDirectory`."""
        with self._change():
            old = self.get(title)
            stored = entry.model_copy(update={"id": old.id})
            what = f"renamed from {old.title}" if old.title != stored.title else "updated"

            def check(known: Sequence[AEEntry]) -> None:
                _require_free(known, stored)
                if any(one.id == old.id and one != old for one in known):
                    raise Conflict(f'the AE title "{title}" was changed meanwhile', hint="Look at it, and try again.")

            if not self._kept.update(stored, check, what):
                raise NotKnown(f'the AE title "{title}" was removed meanwhile')
            self._untold.append(partial(self._put, stored))
        return stored

    def remove(self, title: str) -> AEEntry:
        """Remove an entry that nothing depends on; see `base.AEDirectory`."""
        with self._change():
            entry = self.get(title)
            uses = [f"{owner}: {use}" for owner, ask in self._uses.items() for use in ask(entry)]
            if uses:
                what = f"{entry.title} is in use by {'; '.join(uses)}"
                raise InUse(what, hint="Change or remove what uses it first.")
            self._kept.remove(entry)
            self._untold.append(partial(self._drop, entry))
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


def _copy(entry: AEEntry, kept: KeptTitles) -> None:
    """Keep an entry elsewhere, too; what is there already holds."""
    new = entry.model_copy(update={"id": 0})
    try:
        kept.add(new, lambda known: _require_free(known, new))
    except Conflict:
        if all(one.model_copy(update={"id": 0}) != new for one in kept.entries()):
            log.warning('the AE title "%s" is kept otherwise by all nodes: that entry holds', entry.title)


def _title_of(entry: AEEntry) -> str:
    return key_of(entry.title)


def _id_of(entry: AEEntry) -> int:
    return entry.id


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
