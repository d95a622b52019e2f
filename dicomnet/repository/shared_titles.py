"""AE titles of all nodes, in the database of the index: `server.kept_titles.KeptTitles` of a server with an archive.

What one node changes, the others read: they are told by `NodeEvents`, and read all anew whenever they were cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import DBAPIError

from ..server.ae_entry import AEEntry
from ..server.kept_titles import Check, TitlesUnavailable
from .database import Database
from .node_events import NodeEvents
from .work_schema import ae_history, ae_title

__all__ = ["CHANGED", "SharedTitles"]

#: The kind of event that says so.
CHANGED = "ae"

T = TypeVar("T")


class SharedTitles:
    """The entries of a database.

    Args:
        database: of the index.
        events: tell the other nodes.
    """

    def __init__(self, database: Database, events: NodeEvents) -> None:
        self._database, self._events = database, events

    def entries(self) -> list[AEEntry]:
        """See `KeptTitles`."""
        with _asking(), self._database.read() as connection:
            return _entries(connection)

    def add(self, entry: AEEntry, check: Check) -> AEEntry:
        """See `KeptTitles`."""

        def work(connection: Connection) -> AEEntry:
            check(_entries(connection))
            values = {"document": "", "at": self._database.clock()}
            [number] = connection.execute(insert(ae_title).values(values).returning(ae_title.c.id)).one()
            stored = entry.model_copy(update={"id": number})
            self._keep(connection, stored)
            self._note(connection, stored, "added")
            return stored

        return self._change(work)

    def update(self, entry: AEEntry, check: Check, what: str) -> bool:
        """See `KeptTitles`."""

        def work(connection: Connection) -> bool:
            check(_entries(connection))
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
        values = {
            "document": entry.model_dump_json(), "at": self._database.clock(), "revision": ae_title.c.revision + 1
        }  # fmt: skip
        return connection.execute(update(ae_title).where(ae_title.c.id == entry.id).values(values)).rowcount == 1

    def _note(self, connection: Connection, entry: AEEntry, what: str) -> None:
        connection.execute(insert(ae_history).values(ae=entry.id, at=self._database.clock(), what=what))

    def _change(self, work: Callable[[Connection], T]) -> T:
        """Change something, one node at a time, and tell the others."""

        def told(connection: Connection) -> T:
            self._events.order(connection)
            done = work(connection)
            self._events.put(connection, CHANGED, {})
            return done

        with _asking():
            return self._database.transaction(told)


def _entries(connection: Connection) -> list[AEEntry]:
    texts = connection.execute(select(ae_title.c.document).order_by(ae_title.c.id)).scalars()
    return [AEEntry.model_validate_json(text) for text in texts]


@contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        what = f"the AE titles of all nodes cannot be asked or changed now: {type(error.orig).__name__}"
        raise TitlesUnavailable(what, hint="See that the database of the archive runs.") from error
