"""What happens at one node, told to the others: rows that are written with what they tell of, and NOTIFY as a nudge.

A node that writes an event holds a lock until the commit, so that numbers are in the order of commits: a node that has
read up to a number has missed none before it. A nudge that is lost costs a second, a connection that is lost nothing.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.exc import DBAPIError

from ..errors import DicomNetError
from ..log import log, log_failure
from .database import Database
from .work_schema import event

__all__ = ["NodeEvents"]

KEPT_SECONDS = 3600.0  # a node that was away for longer has lost those who listened at it, too
_CHANNEL = "dicomnet_event"
_ORDER = 0x444E4556  # any number, the same for all: what writers of events wait for
_LOOK_SECONDS = 1.0  # between two looks without a nudge
_PAUSE_SECONDS = 1.0  # after the connection was lost
_PAGE = 500


class NodeEvents:
    """Events of a repository; where it is in SQLite there is one node, and no other to tell.

    Args:
        database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._origin = secrets.token_hex(8)
        self._listeners: dict[str, list[Callable[[Any], None]]] = {}
        self._anew: dict[str, list[Callable[[], None]]] = {}
        self._missed = threading.Event()
        self._cursor = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def order(self, connection: Connection) -> None:
        """Be the only one that writes events, until the caller's transaction ends: for who reads before it writes."""
        if not self._database.is_sqlite:
            connection.execute(select(func.pg_advisory_xact_lock(_ORDER)))

    def put(self, connection: Connection, kind: str, data: Any) -> None:
        """Tell the other nodes of something, if the caller's transaction is committed.

        Args:
            connection: of the transaction, which has nothing else to do but to commit.
            kind: what kind of event it is.
            data: what there is to say; JSON.
        """
        if self._database.is_sqlite:
            return
        self.order(connection)
        values = {"origin": self._origin, "kind": kind, "data": json.dumps(data), "at": self._database.clock()}
        connection.execute(insert(event).values(values))
        connection.execute(select(func.pg_notify(_CHANNEL, "")))

    def listen(self, kind: str, function: Callable[[Any], None]) -> None:
        """Have a function called with what other nodes say, in order, in a thread of its own; before `start`."""
        self._listeners.setdefault(kind, []).append(function)

    def anew(self, kind: str, function: Callable[[], None]) -> None:
        """Have a function called at the start, and whenever this node was cut off: to read what it may have missed.

        It is called again for as long as it raises `sqlalchemy.exc.DBAPIError` or `DicomNetError`, and where a listener
        to events of this kind does. Before `start`.
        """
        self._anew.setdefault(kind, []).append(function)

    def miss(self) -> None:
        """Have all read anew: something may have happened that no event of another node tells of."""
        self._missed.set()

    def start(self) -> None:
        """Hear what is told from now on; a database that is away is waited for.

        Raises:
            sqlalchemy.exc.DBAPIError: it was away for too long.
        """
        if self._database.is_sqlite:
            return
        last = select(func.max(event.c.seq))
        self._cursor = self._database.transaction(lambda connection: connection.execute(last).scalar() or 0)
        self._thread = threading.Thread(target=self._run, name="dicomnet-events", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except (DBAPIError, DicomNetError, OSError) as error:
                log.warning("events of other nodes come late: the index is away (%s)", type(error).__name__)
            except Exception as error:
                log_failure("events of other nodes cannot be read", error)
            self._stop.wait(_PAUSE_SECONDS)

    def _follow(self) -> None:
        with self._database.notified(_CHANNEL) as wait:
            self._missed.set()
            while not self._stop.is_set():
                self._read_anew()
                while self._read():
                    pass
                wait(_LOOK_SECONDS)

    def _read_anew(self) -> None:
        if self._missed.is_set():
            self._missed.clear()
            for functions in self._anew.values():
                for function in functions:
                    function()

    def _read(self) -> bool:
        """Tell of the next events; whether there were as many as are read at once."""
        query = select(*event.c).where(event.c.seq > self._cursor).order_by(event.c.seq).limit(_PAGE)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        for row in rows:
            self._cursor = row.seq
            for function in self._listeners.get(row.kind, ()) if row.origin != self._origin else ():
                try:
                    function(json.loads(row.data))
                except Exception as error:
                    if row.kind in self._anew and isinstance(error, DBAPIError | DicomNetError):
                        raise  # what it wanted to read is read anew
                    log_failure("an event of another node cannot be told", error)
        return len(rows) == _PAGE

    def forget(self) -> None:
        """Delete events that all have read.

        Raises:
            sqlalchemy.exc.DBAPIError: the database is away.
        """
        old = event.c.at < self._database.clock() - KEPT_SECONDS
        self._database.transaction(lambda connection: connection.execute(delete(event).where(old)), repeatable=True)

    def close(self) -> None:
        """Hear nothing more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
