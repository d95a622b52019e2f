"""An index copied from SQLite to PostgreSQL: all rows with the same hash, or none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable

import psycopg
import sqlalchemy
from sqlalchemy import Connection, Table, func, select

from ..errors import InvalidArgument
from .database import Database
from .schema import metadata
from .work_schema import duty, node

__all__ = ["copy_index"]

_ROWS = 1000  # that are read at once
_LEFT = {duty.name, node.name}  # who serves now does not serve from the copy


def copy_index(source: Database, target: Database, *, progress: Callable[[int], None]) -> int:
    """Copy all rows, by COPY, in one transaction of the target; nothing is written to the source meanwhile.

    Args:
        source: SQLite.
        target: PostgreSQL, with all tables, and no rows in them.
        progress: called with how many rows more are copied.

    Returns:
        How many rows were copied.

    Raises:
        InvalidArgument: the databases are not such, or what was copied is not what there was.
    """
    if not source.is_sqlite or target.is_sqlite:
        raise InvalidArgument("an index is copied from SQLite to PostgreSQL, and not the other way")
    count = 0
    with source.write() as reading, target.write() as writing:
        for table in metadata.sorted_tables:
            if table.name in _LEFT:
                continue
            if writing.execute(select(func.count()).select_from(table)).scalar_one():
                raise InvalidArgument(f"the new database has rows in {table.name}", hint="Give an empty one.")
            copied, digest = _copy(reading, writing, table, progress)
            if _digest(writing, table) != digest:
                raise InvalidArgument(f"the copy of {table.name} is not what was copied: nothing has changed")
            _go_on_counting(writing, table)
            count += copied
    return count


def _rows(connection: Connection, table: Table) -> Iterable[tuple[object, ...]]:
    streaming = connection.execution_options(stream_results=True, max_row_buffer=_ROWS)
    for row in streaming.execute(select(*table.c).order_by(*table.primary_key.columns)):
        yield tuple(bytes(value) if isinstance(value, memoryview) else value for value in row)


def _text(row: tuple[object, ...]) -> bytes:
    return json.dumps([value.hex() if isinstance(value, bytes) else value for value in row]).encode()


def _copy(reading: Connection, writing: Connection, table: Table, progress: Callable[[int], None]) -> tuple[int, bytes]:
    """How many rows were copied, and the hash of them."""
    driver = writing.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    names = ", ".join(f'"{column.name}"' for column in table.c)
    digest, count = hashlib.sha256(), 0
    with driver.cursor() as cursor, cursor.copy(f'COPY "{table.name}" ({names}) FROM STDIN') as copy:
        for row in _rows(reading, table):
            copy.write_row(row)
            digest.update(_text(row))
            count += 1
            if not count % _ROWS:
                progress(_ROWS)
    progress(count % _ROWS)
    return count, digest.digest()


def _digest(connection: Connection, table: Table) -> bytes:
    digest = hashlib.sha256()
    for row in _rows(connection, table):
        digest.update(_text(row))
    return digest.digest()


def _go_on_counting(connection: Connection, table: Table) -> None:
    """New rows get ids that no old one has."""
    column = table.autoincrement_column
    if column is None:
        return
    last = connection.execute(select(func.max(column))).scalar()
    if last is not None:
        sequence = func.pg_get_serial_sequence(table.name, column.name)
        connection.execute(select(func.setval(sqlalchemy.cast(sequence, sqlalchemy.Text), last)))
