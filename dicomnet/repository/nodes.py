"""Nodes of one index: who serves, how each of them is, and who does what only one of them is to do.

Rows say it all: a node tells that it lives, by the database's clock, and takes a duty for a while. One that stops, or
whose clock or network is wrong, loses the duty when that while is over; what is done under a duty bears being done
twice.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, or_, select, update

from ..uids import IMPLEMENTATION_VERSION_NAME
from .database import Database, insert_into
from .work_schema import duty, node

__all__ = ["ALIVE_SECONDS", "BEAT_SECONDS", "FORGOTTEN_SECONDS", "Node", "Nodes"]

BEAT_SECONDS = 5.0  # between two words of a node
ALIVE_SECONDS = 20.0  # without a word, after which a node counts as gone
FORGOTTEN_SECONDS = 7 * 86400.0  # after which its row goes


@dataclass(frozen=True, slots=True)
class Node:
    """A node, as it told of itself.

    Attributes:
        id: of this run of it.
        name: of its machine and process.
        address: where it takes DICOM.
        version: of dicomnet, as peers see it.
        since, seen: seconds since 1970, by the database's clock.
        facts: figures that it tells.
        duties: what it does for all.
        is_alive: whether it told so lately.
    """

    id: str
    name: str
    address: str
    version: str
    since: float
    seen: float
    facts: Mapping[str, Any]
    duties: tuple[str, ...]
    is_alive: bool

    def as_json(self) -> dict[str, Any]:
        """For the admin interface."""
        values = {name: getattr(self, name) for name in ("id", "name", "address", "version", "since", "seen")}
        return {**values, "alive": self.is_alive, "duties": list(self.duties), "facts": dict(self.facts)}


class Nodes:
    """The nodes of an index, as one of them sees them.

    Args:
        database: of the index.

    Attributes:
        id: of this node.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._host = socket.gethostname()
        self._name = f"{self._host}:{os.getpid()}"
        self.id: str = secrets.token_hex(8)

    def tell(self, address: str, facts: Mapping[str, Any]) -> None:
        """Say that this node lives, where it takes DICOM, and how it is.

        Raises:
            sqlalchemy.exc.DBAPIError: the database was away for too long.
        """
        told = {"address": address, "facts": json.dumps(dict(facts))}

        def work(connection: Connection) -> None:
            now = self._database.clock()
            values = {"seen": now, **told}
            if not connection.execute(update(node).where(node.c.id == self.id).values(values)).rowcount:
                about = {"id": self.id, "name": self._name, "version": IMPLEMENTATION_VERSION_NAME, "since": now}
                connection.execute(insert(node).values(about | values))
            connection.execute(delete(node).where(node.c.seen < now - FORGOTTEN_SECONDS))
            if ":" in address:  # one that was killed there, and has begun again as this one
                gone = node.c.seen < now - ALIVE_SECONDS
                here = node.c.address == address, node.c.name.startswith(f"{self._host}:", autoescape=True)
                connection.execute(delete(node).where(node.c.id != self.id, gone, *here))

        self._database.transaction(work, repeatable=True)

    def leave(self) -> None:
        """This node ends, and gives up its duties."""

        def work(connection: Connection) -> None:
            connection.execute(delete(node).where(node.c.id == self.id))
            connection.execute(update(duty).where(duty.c.owner == self.id).values(owner="", until=0.0))

        self._database.transaction(work, repeatable=True)

    def take(self, name: str, seconds: float) -> bool:
        """Take a duty for so many seconds, or keep it; False: another node has it.

        Raises:
            sqlalchemy.exc.DBAPIError: the database is away.
        """
        now = self._database.clock()

        def work(connection: Connection) -> bool:
            if connection.execute(select(duty.c.owner).where(duty.c.name == name)).first() is None:
                row = insert_into(connection, duty).values(name=name)
                connection.execute(row.on_conflict_do_nothing(index_elements=["name"]))
            free = or_(duty.c.owner == self.id, duty.c.until <= now)
            taking = update(duty).where(and_(duty.c.name == name, free)).values(owner=self.id, until=now + seconds)
            return connection.execute(taking).rowcount == 1

        return self._database.transaction(work, repeatable=True)

    def _is_alive(self, name: str, seen: float, now: float) -> bool:
        """By its last word; a node of SQLite says one alone, and is on this machine."""
        if not self._database.is_sqlite:
            return seen > now - ALIVE_SECONDS
        host, _, pid = name.rpartition(":")
        try:
            os.kill(int(pid), 0)
        except PermissionError:  # another user's
            pass
        except OSError:
            return False
        return host == socket.gethostname()

    def all(self) -> list[Node]:
        """Every node that is known, the latest word first."""
        now = self._database.clock()
        with self._database.read() as connection:
            duties = connection.execute(select(duty.c.name, duty.c.owner).where(duty.c.until > now)).all()
            rows = connection.execute(select(*node.c).order_by(node.c.seen.desc())).mappings().all()
        return [
            Node(
                **{key: row[key] for key in ("id", "name", "address", "version", "since", "seen")},
                facts=json.loads(row["facts"]),
                duties=tuple(sorted(name for name, owner in duties if owner == row["id"])),
                is_alive=self._is_alive(row["name"], row["seen"], now),
            )
            for row in rows
        ]
