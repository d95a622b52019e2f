"""An index copied from SQLite to PostgreSQL while it is written to: all rows, compared, or none.

Triggers of SQLite write down the key of each row that changes. So a copy of one moment can follow what came after it,
and begin again where it was killed: what was written down is done anew, which changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import psycopg
import sqlalchemy
from sqlalchemy import Column, Connection, Table, delete, func, select, text
from sqlalchemy.dialects import postgresql

from ..errors import InvalidArgument
from .database import Database, parts
from .schema import metadata
from .work_schema import duty, node

__all__ = ["IndexCopy"]

_ROWS = 1000  # that are read at once
_LEFT = {duty.name, node.name}  # who serves now does not serve from the copy
_MOVED = "the index was copied to another database: restart what writes to this one"
#: In SQLite: which copy it is, and which rows changed since. The first of them is in PostgreSQL, too, with the rows.
_TABLES = (
    "CREATE TABLE IF NOT EXISTS index_copy (token TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS index_copy_log (n INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, key INTEGER)",
)
_EVENTS = (("insert", "NEW"), ("update", "NEW"), ("delete", "OLD"))

Row = tuple[object, ...]


def _tables() -> list[Table]:
    """Those that are copied, each after those that it names."""
    return [table for table in metadata.sorted_tables if table.name not in _LEFT]


def _key(table: Table) -> Column[Any]:
    [column] = table.primary_key.columns
    return column


class IndexCopy:
    """A copy on its way; `copy`, unless it is `begun`, then `follow` as often as one likes, then `finish`.

    Args:
        source: SQLite, which may be written to all the time.
        target: PostgreSQL, with all tables, and no rows in them but those of this copy.

    Raises:
        InvalidArgument: the databases are not such.

    Attributes:
        begun: an earlier process has copied what there was then.
    """

    def __init__(self, source: Database, target: Database) -> None:
        if not source.is_sqlite or target.is_sqlite:
            raise InvalidArgument("an index is copied from SQLite to PostgreSQL, and not the other way")
        self._source, self._target = source, target
        with source.write() as connection:
            for statement in _TABLES:
                connection.exec_driver_sql(statement)
            token = connection.exec_driver_sql("SELECT token FROM index_copy").scalar()
            if token is None:
                token = secrets.token_hex(16)
                connection.exec_driver_sql("INSERT INTO index_copy VALUES (?)", (token,))
                for statement in _writing_down():
                    connection.exec_driver_sql(statement)
        self._token: str = token
        with target.read() as connection:
            there = sqlalchemy.inspect(connection).has_table("index_copy")
            told = connection.exec_driver_sql("SELECT token FROM index_copy").scalar() if there else None
        self.begun: bool = told == token

    def copy(self, progress: Callable[[int], None]) -> int:
        """Copy all rows of this moment, by COPY, in one transaction; how many there were.

        Args:
            progress: called with how many rows more are copied.

        Raises:
            InvalidArgument: the target has rows, or what was copied is not what there was. Nothing has changed then.
        """
        try:
            count = self._copy_all(progress)
        except BaseException:
            with self._source.write() as connection:  # what changes need not be written down
                _forget(connection)
            raise
        self.begun = True
        return count

    def _copy_all(self, progress: Callable[[int], None]) -> int:
        count = 0
        with self._source.read() as reading, self._target.write() as writing:
            for table in _tables():
                if writing.execute(select(func.count()).select_from(table)).scalar_one():
                    raise InvalidArgument(f"the new database has rows in {table.name}", hint="Give an empty one.")
                copied, digest = _copy_table(reading, writing, table, progress)
                if _digest(writing, table) != digest:
                    raise InvalidArgument(f"the copy of {table.name} is not what was copied: nothing has changed")
                _go_on_counting(writing, table)
                count += copied
            writing.exec_driver_sql("DROP TABLE IF EXISTS index_copy")
            writing.exec_driver_sql("CREATE TABLE index_copy (token TEXT NOT NULL)")
            writing.execute(text("INSERT INTO index_copy VALUES (:token)"), {"token": self._token})
            _defer(writing, "DEFERRABLE")
        return count

    def follow(self) -> int:
        """Bring what has changed since to the copy, in one transaction; how many rows that were.

        Raises:
            InvalidArgument: what was copied is not what there is.
        """
        with self._source.read() as reading:
            last, count = self._followed(reading)
        if last:
            with self._source.write() as connection:
                connection.exec_driver_sql("DELETE FROM index_copy_log WHERE n <= ?", (last,))
        return count

    def finish(self) -> int:
        """Bring the last changes to the copy, and have SQLite take none any more; how many rows that were."""
        with self._source.write() as connection:  # the only one who writes
            _, count = self._followed(connection)
            _forget(connection)
            for statement in _refusing():
                connection.exec_driver_sql(statement)
            connection.exec_driver_sql(_TABLES[0])
            connection.exec_driver_sql("INSERT INTO index_copy VALUES (?)", (self._token,))
        return count

    def tidy(self) -> None:
        """The copy is in use: what was there for copying goes."""
        with self._target.write() as writing:
            writing.exec_driver_sql("DROP TABLE IF EXISTS index_copy")
            _defer(writing, "NOT DEFERRABLE")

    def _followed(self, reading: Connection) -> tuple[int, int]:
        """The last change that was brought to the copy, and of how many rows."""
        last = reading.exec_driver_sql("SELECT max(n) FROM index_copy_log").scalar() or 0
        changed: dict[str, list[int]] = {}
        for name, key in reading.exec_driver_sql(
            "SELECT DISTINCT name, key FROM index_copy_log WHERE n <= ? ORDER BY name, key", (last,)
        ):
            changed.setdefault(name, []).append(key)
        if not changed:
            return last, 0
        with self._target.write() as writing:
            writing.exec_driver_sql("SET CONSTRAINTS ALL DEFERRED")
            for table in reversed(_tables()):
                for keys in parts(changed.get(table.name, [])):
                    _take_out(reading, writing, table, keys)
            for table in _tables():
                for keys in parts(changed.get(table.name, [])):
                    _put_in(reading, writing, table, keys)
                if table.name in changed:
                    _go_on_counting(writing, table)
        return last, sum(map(len, changed.values()))


# ---- SQLite's triggers -----------------------------------------------------------------------------------------------


def _writing_down() -> Iterator[str]:
    for table in _tables():
        for event, row in _EVENTS:
            values = f"VALUES ('{table.name}', {row}.\"{_key(table).name}\")"
            yield (
                f'CREATE TRIGGER "index_copy_{table.name}_{event}" AFTER {event} ON "{table.name}" '
                f"BEGIN INSERT INTO index_copy_log (name, key) {values}; END"
            )


def _refusing() -> Iterator[str]:
    for table in _tables():
        for event, _ in _EVENTS:
            yield (
                f'CREATE TRIGGER "index_copy_{table.name}_{event}" BEFORE {event} ON "{table.name}" '
                f"BEGIN SELECT RAISE(ABORT, '{_MOVED}'); END"
            )


def _forget(connection: Connection) -> None:
    for table in _tables():
        for event, _ in _EVENTS:
            connection.exec_driver_sql(f'DROP TRIGGER IF EXISTS "index_copy_{table.name}_{event}"')
    for name in ("index_copy", "index_copy_log"):
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")


# ---- rows ------------------------------------------------------------------------------------------------------------


def _rows(connection: Connection, table: Table, keys: Sequence[int] | None = None) -> Iterable[Row]:
    query = select(*table.c).order_by(*table.primary_key.columns)
    if keys is not None:
        query = query.where(_key(table).in_(keys))
    streaming = {"stream_results": True, "max_row_buffer": _ROWS}
    for row in connection.execute(query, execution_options=streaming):
        yield tuple(bytes(value) if isinstance(value, memoryview) else value for value in row)


def _text(row: Row) -> bytes:
    return json.dumps([value.hex() if isinstance(value, bytes) else value for value in row]).encode()


def _copying(writing: Connection, table: Table, rows: Iterable[Row]) -> None:
    driver = writing.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    names = ", ".join(f'"{column.name}"' for column in table.c)
    with driver.cursor() as cursor, cursor.copy(f'COPY "{table.name}" ({names}) FROM STDIN') as copy:
        for row in rows:
            copy.write_row(row)


def _copy_table(
    reading: Connection, writing: Connection, table: Table, progress: Callable[[int], None]
) -> tuple[int, bytes]:
    """How many rows were copied, and the hash of them."""
    digest, count = hashlib.sha256(), 0

    def rows() -> Iterator[Row]:
        nonlocal count
        for row in _rows(reading, table):
            digest.update(_text(row))
            count += 1
            if not count % _ROWS:
                progress(_ROWS)
            yield row

    _copying(writing, table, rows())
    progress(count % _ROWS)
    return count, digest.digest()


def _digest(connection: Connection, table: Table) -> bytes:
    digest = hashlib.sha256()
    for row in _rows(connection, table):
        digest.update(_text(row))
    return digest.digest()


def _has_dependents(table: Table) -> bool:
    """Whether rows of other tables go with a row: then it is changed where it is."""
    keys = (key for other in _tables() for key in other.foreign_keys)
    return any(key.column.table is table and key.ondelete for key in keys)


def _take_out(reading: Connection, writing: Connection, table: Table, keys: Sequence[int]) -> None:
    if _has_dependents(table):
        alive = set(reading.execute(select(_key(table)).where(_key(table).in_(keys))).scalars())
        keys = [key for key in keys if key not in alive]
    if keys:
        writing.execute(delete(table).where(_key(table).in_(keys)))


def _put_in(reading: Connection, writing: Connection, table: Table, keys: Sequence[int]) -> None:
    rows = list(_rows(reading, table, keys))
    if rows and _has_dependents(table):
        new = postgresql.insert(table)
        changed = {column.name: new.excluded[column.name] for column in table.c if not column.primary_key}
        names = [column.name for column in table.c]
        values = [dict(zip(names, row, strict=True)) for row in rows]
        writing.execute(new.on_conflict_do_update(index_elements=[_key(table)], set_=changed), values)
    elif rows:
        _copying(writing, table, rows)
    if list(map(_text, _rows(writing, table, keys))) != list(map(_text, rows)):
        raise InvalidArgument(f"the copy of {table.name} is not what was copied", hint="Give a new database.")


def _defer(writing: Connection, how: str) -> None:
    """Whether rows may be taken out and put in again before PostgreSQL looks at those that name them."""
    inspector = sqlalchemy.inspect(writing)
    for table in _tables():
        for key in inspector.get_foreign_keys(table.name):
            writing.exec_driver_sql(f'ALTER TABLE "{table.name}" ALTER CONSTRAINT "{key["name"]}" {how}')


def _go_on_counting(connection: Connection, table: Table) -> None:
    """New rows get ids that no old one has."""
    column = table.autoincrement_column
    if column is None:
        return
    last = connection.execute(select(func.max(column))).scalar()
    if last is not None:
        sequence = func.pg_get_serial_sequence(table.name, column.name)
        connection.execute(select(func.setval(sqlalchemy.cast(sequence, sqlalchemy.Text), last)))
