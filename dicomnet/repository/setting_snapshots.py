"""Settings that all nodes of an index have in common: each change is a snapshot of all of them, by number.

A snapshot says who made it and when, and is never changed: what is undone is one more. The last `MOST_KEPT` are kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from ..errors import InvalidArgument
from ..server.ae_titles import Conflict, NotKnown
from ..server.base import NotNow
from .database import Database, asking
from .node_events import NodeEvents
from .work_schema import setting_snapshot

__all__ = ["CHANGED", "MOST_BYTES", "MOST_KEPT", "SettingSnapshots", "SettingsUnavailable", "Snapshot"]

#: The kind of event that says that there is a new one.
CHANGED = "settings"
#: Of all values of a snapshot, as JSON.
MOST_BYTES = 1 << 18
#: Snapshots that are kept: a change deletes what is older, in its own transaction.
MOST_KEPT = 1000
#: Who changes a setting waits for the answer: a database that is away is not waited for as those who send instances do.
PATIENCE = 0.5


class SettingsUnavailable(NotNow):
    """The database cannot be asked now; the settings that were read before hold."""


_asking = partial(asking, "the settings of all nodes", SettingsUnavailable)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The settings that all nodes have in common, at one time.

    Attributes:
        number: 0 is before any change.
        at: seconds since 1970.
        who: has made it.
        what: was changed.
        values: by key; a key that is not there has what a node's own settings say, or its default.
        fault: why its values cannot be read; empty where they can.
    """

    number: int = 0
    at: float = 0.0
    who: str = ""
    what: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""

    def require(self) -> Mapping[str, Any]:
        """Its values.

        Raises:
            InvalidArgument: they cannot be read.
        """
        if self.fault:
            what = f"snapshot {self.number} of the settings of all nodes cannot be read: {self.fault}"
            raise InvalidArgument(what, hint="Have an earlier one again: dicomnet archive settings revert DIR NUMBER.")
        return self.values

    def as_json(self, *, values: bool = True) -> dict[str, Any]:
        """For the admin interface."""
        about = {"snapshot": self.number, "at": self.at, "who": self.who, "what": self.what}
        return about | ({"values": dict(self.values)} if values else {})


class SettingSnapshots:
    """The snapshots of a database. Each method raises `SettingsUnavailable` where that cannot be asked.

    Args:
        database: of the index.
        events: tell the other nodes.
    """

    def __init__(self, database: Database, events: NodeEvents) -> None:
        self._database, self._events = database, events

    def latest(self) -> Snapshot:
        """The one that holds."""
        return next(self.newest(1), Snapshot())

    def newest(self, most: int, *, after: int = 0) -> Iterator[Snapshot]:
        """The last ones, the newest first; without the one before any change.

        Args:
            most: at most so many.
            after: only those with a greater number.
        """
        numbers = setting_snapshot.c.id
        query = select(*setting_snapshot.c).where(numbers > after).order_by(numbers.desc()).limit(most)
        with _asking(), self._database.read() as connection:
            rows = connection.execute(query).all()
        return map(_snapshot, rows)

    def get(self, number: int) -> Snapshot:
        """The one of a number.

        Raises:
            NotKnown: there is none.
        """
        with _asking(), self._database.read() as connection:
            return self._get(connection, number)

    def _get(self, connection: Connection, number: int) -> Snapshot:
        if number == 0:
            return Snapshot()
        query = select(*setting_snapshot.c).where(setting_snapshot.c.id == number)
        row = connection.execute(query).first() if 0 < number < 1 << 63 else None
        if row is None:
            raise NotKnown(f"there is no snapshot {number} of the settings", hint="Their history lists them.")
        return _snapshot(row)

    def change(
        self, work: Callable[[Mapping[str, Any]], tuple[Mapping[str, Any], str]], who: str, *, after: int | None = None
    ) -> Snapshot:
        """Make a new snapshot of the latest, and tell the other nodes; one that changes nothing is not made.

        Args:
            work: makes new values of the latest ones, and says what it changed; called once or more.
            who: changes it.
            after: the number that the latest has to have.

        Raises:
            Conflict: the latest has another number.
            InvalidArgument: the values are too large, or those of the latest cannot be read.
        """
        return self._changed(lambda latest: work(latest.require()), who, after)

    def _changed(
        self, work: Callable[[Snapshot], tuple[Mapping[str, Any], str]], who: str, after: int | None
    ) -> Snapshot:
        def told(connection: Connection) -> Snapshot:
            self._events.order(connection)
            latest = self._latest(connection)
            if after is not None and after != latest.number:
                who_made = latest.who or "no user"  # before any change
                what = f"snapshot {latest.number} of the settings, by {who_made}, is newer than {after}"
                raise Conflict(what, hint="Look at it first.")
            values, what = work(latest)
            if values == latest.values and not latest.fault:
                return latest
            return self._put(connection, latest.number + 1, who, what, values)

        return self._told(told)

    def revert(
        self, number: int, who: str, check: Callable[[Mapping[str, Any]], None], *, after: int | None = None
    ) -> Snapshot:
        """Have the values of an earlier snapshot again, as a new one.

        Args:
            number: of the earlier one; 0 has no values.
            who: does it.
            check: raises where these values cannot be.
            after: see `change`.

        Raises:
            NotKnown: there is none of this number.
            Conflict: see `change`.
            InvalidArgument: its values cannot be read.
        """
        values = self.get(number).require()  # it is never changed
        check(values)
        return self._changed(lambda _: (values, f"as {number}"), who, after)

    def _latest(self, connection: Connection) -> Snapshot:
        row = connection.execute(select(*setting_snapshot.c).order_by(setting_snapshot.c.id.desc()).limit(1)).first()
        return Snapshot() if row is None else _snapshot(row)

    def _put(self, connection: Connection, number: int, who: str, what: str, values: Mapping[str, Any]) -> Snapshot:
        document = json.dumps(dict(values), sort_keys=True)
        if len(document) > MOST_BYTES:
            raise InvalidArgument(f"the settings of all nodes are {len(document)} bytes: {MOST_BYTES} at most")
        made = Snapshot(number, self._database.clock(), who, what, values)
        row = {"id": number, "at": made.at, "who": who, "what": what, "document": document}
        connection.execute(insert(setting_snapshot).values(row))
        connection.execute(delete(setting_snapshot).where(setting_snapshot.c.id <= number - MOST_KEPT))
        self._events.put(connection, CHANGED, {"snapshot": number})
        return made

    def _told(self, work: Callable[[Connection], Snapshot]) -> Snapshot:
        try:
            with _asking():
                return self._database.transaction(work, patience=PATIENCE)
        except SettingsUnavailable:
            self._events.miss()  # it may have been committed: this node's own event tells it nothing
            raise


def _snapshot(row: Row[Any]) -> Snapshot:
    try:
        values = json.loads(row.document)
    except (ValueError, RecursionError):  # what is nested too deeply
        values = None
    known = isinstance(values, dict)
    fault = "" if known else "its document is no JSON object"
    return Snapshot(row.id, row.at, row.who, row.what, values if known else {}, fault)
