"""AE titles of all nodes, in the database of the index: `server.kept_titles.KeptTitles` of a server with an archive.

What one node changes, the others read: they are told by `NodeEvents`, and read all anew whenever they were cut off.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy import Connection, delete, insert, select, update

from ..errors import escaped
from ..log import log
from ..server.ae_entry import AEEntry
from ..server.kept_titles import Check, TitlesUnavailable
from .database import Database, asking
from .node_events import NodeEvents
from .work_schema import ae_history, ae_title

__all__ = ["CHANGED", "SharedTitles"]

#: The kind of event that says so.
CHANGED = "ae"
#: Who changes a title waits for the answer: a database that is away is not waited for as those who send instances do.
PATIENCE = 0.5

T = TypeVar("T")
_asking = partial(asking, "the AE titles of all nodes", TitlesUnavailable)


class SharedTitles:
    """The entries of a database.

    Args:
        database: of the index.
        events: tell the other nodes.
    """

    def __init__(self, database: Database, events: NodeEvents) -> None:
        self._database, self._events = database, events
        self._unreadable: set[int] = set()

    def entries(self) -> list[AEEntry]:
        """See `KeptTitles`; without those that this version cannot read."""
        with _asking(), self._database.read() as connection:
            return self._entries(connection)

    def _entries(self, connection: Connection) -> list[AEEntry]:
        rows = connection.execute(select(ae_title.c.id, ae_title.c.document).order_by(ae_title.c.id)).all()
        return [entry for number, text in rows if (entry := self._read(number, text)) is not None]

    def _read(self, number: int, text: str) -> AEEntry | None:
        """An entry, without what nodes of a later version say of it; None, and a line in the log, where that fails."""
        members = _members(text)
        known = {name: members[name] for name in members.keys() & AEEntry.model_fields.keys()}
        try:
            return AEEntry.model_validate({**known, "id": number})
        except ValidationError as error:
            if number not in self._unreadable:
                self._unreadable.add(number)
                fields = ", ".join(str(one["loc"][0]) for one in error.errors() if one["loc"])
                title = escaped(str(members.get("title", ""))[:64])
                log.warning('the entry %d of all nodes, "%s", cannot be read: it is not known here (%s)', number, title,
                            fields)  # fmt: skip
            return None

    def add(self, entry: AEEntry, check: Check) -> AEEntry:
        """See `KeptTitles`."""

        def work(connection: Connection) -> AEEntry:
            check(self._entries(connection))
            [number] = connection.execute(insert(ae_title).values(document="").returning(ae_title.c.id)).one()
            stored = entry.model_copy(update={"id": number})
            self._keep(connection, stored)
            self._note(connection, stored, "added")
            return stored

        return self._change(work)

    def update(self, entry: AEEntry, check: Check, what: str) -> bool:
        """See `KeptTitles`."""

        def work(connection: Connection) -> bool:
            check(self._entries(connection))
            if not self._keep(connection, entry):
                return False
            self._note(connection, entry, what)
            return True

        return self._change(work)

    def remove(self, entry: AEEntry) -> None:
        """See `KeptTitles`."""

        def work(connection: Connection) -> None:
            connection.execute(delete(ae_title).where(ae_title.c.id == entry.id))
            self._note(connection, entry, "removed")

        self._change(work)

    def history(self, number: int) -> list[dict[str, Any]]:
        """See `KeptTitles`."""
        columns = ae_history.c
        query = select(columns.at, columns.what).where(columns.ae == number).order_by(columns.id)
        with _asking(), self._database.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _keep(self, connection: Connection, entry: AEEntry) -> bool:
        """Put an entry in its row; what nodes of a later version say of it stays."""
        row = ae_title.c.id == entry.id
        text = connection.execute(select(ae_title.c.document).where(row)).scalar()
        if text is None:
            return False
        more = {name: value for name, value in _members(text).items() if name not in AEEntry.model_fields}
        document = json.dumps(more | entry.model_dump(mode="json"))
        connection.execute(update(ae_title).where(row).values(document=document))
        return True

    def _note(self, connection: Connection, entry: AEEntry, what: str) -> None:
        connection.execute(insert(ae_history).values(ae=entry.id, at=self._database.clock(), what=what))

    def _change(self, work: Callable[[Connection], T]) -> T:
        """Change something, one node at a time, and tell the others."""

        def told(connection: Connection) -> T:
            self._events.order(connection)
            done = work(connection)
            self._events.put(connection, CHANGED, {})
            return done

        try:
            with _asking():
                return self._database.transaction(told, patience=PATIENCE)
        except TitlesUnavailable:
            self._events.miss()  # it may have been committed: this node's own event tells it nothing
            raise


def _members(text: str) -> dict[str, Any]:
    """Of a JSON object; none where it is no such thing."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
