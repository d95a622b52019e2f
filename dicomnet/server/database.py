"""The server's own small database, SQLite in its directory: known AE titles, counters, whether it is paused."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InvalidArgument

__all__ = ["Database"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS ae_titles (id INTEGER PRIMARY KEY AUTOINCREMENT, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS ae_history (
    id INTEGER PRIMARY KEY AUTOINCREMENT, ae INTEGER NOT NULL, at REAL NOT NULL, what TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS ae_history_of ON ae_history (ae);
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
_VERSION = 1
_BUSY = 10.0  # seconds to wait for another process that writes


class Database:
    """One connection, used by one thread at a time; a transaction is on disk when its block ends.

    Args:
        file: where; None keeps it in memory.
        schema: its tables, made where they are not there.
        version: of the schema; a newer file is not touched.
        owner: whose it is, for errors.

    Raises:
        InvalidArgument: the file cannot be used, or is of a newer version.
    """

    def __init__(
        self, file: Path | None, *, schema: str = _SCHEMA, version: int = _VERSION, owner: str = "the server"
    ) -> None:
        self._lock = threading.RLock()
        self._schema, self._version, self._owner = schema, version, owner
        try:
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                file or ":memory:", timeout=_BUSY, isolation_level=None, check_same_thread=False
            )
            self._prepare(file)
        except (OSError, sqlite3.Error) as error:
            raise InvalidArgument(f"{file}: the database of {owner} cannot be opened: {error}") from error

    def _prepare(self, file: Path | None) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")  # what was acknowledged is kept
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > self._version:
            raise InvalidArgument(
                f"{file}: the database is of version {version}, this dicomnet knows {self._version}",
                hint="Update dicomnet, or restore the database of before the update.",
            )
        self._connection.executescript(self._schema)
        self._connection.execute(f"PRAGMA user_version = {self._version}")

    @contextmanager
    def transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """A transaction: committed when the block ends, rolled back where it raises."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection.execute
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self._lock:
            return self._connection.execute(sql, parameters).fetchall()

    def rows(self, sql: str) -> list[Any]:
        """The first column of a query."""
        return [row[0] for row in self.all(sql)]

    def number(self, name: str, default: int = 0) -> int:
        """A number that is kept."""
        found = self.all("SELECT value FROM state WHERE name = ?", (name,))
        return int(found[0][0]) if found else default

    def keep(self, name: str, value: int) -> None:
        """Keep a number."""
        with self.transaction() as run:
            run("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, value))

    def reserve(self, name: str, count: int) -> int:
        """The first of ``count`` numbers that no one had before, through restarts too."""
        with self.transaction() as run:
            run("INSERT INTO state VALUES (?, 0) ON CONFLICT (name) DO NOTHING", (name,))
            row = run("UPDATE state SET value = value + ? WHERE name = ? RETURNING value", (count, name)).fetchone()
        return int(row[0]) - count

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()
