"""Statements that are compiled once: what SQLite does in microseconds should not take SQLAlchemy longer to say.

They are SQLAlchemy's, and mean the same in both databases. Their text is made once for each and handed to its driver,
which keeps what it has prepared.
"""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Insert,
    Select,
    Text,
    Update,
    any_,
    bindparam,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

__all__ = ["Prepared", "among", "in_one_go"]

MOST_VALUES = 500  # in one list of an SQL statement
VALUES = "values_of_the_list"

_SQLITE = sqlite.dialect(paramstyle="qmark")


def among(column: ColumnElement[Any], *, in_sqlite: bool) -> ColumnElement[bool]:
    """That a column's value is in the list that `Prepared.listed` is given."""
    if not in_sqlite:
        return column == any_(bindparam(VALUES, type_=postgresql.ARRAY(Text)))
    listed = func.json_each(bindparam(VALUES)).table_valued("value", name="listed")  # one parameter, whatever there are
    return column.in_(select(listed.c.value))


@dataclass(frozen=True, slots=True)
class _Text:
    """A statement as a driver takes it."""

    text: str
    given: Mapping[str, object]
    names: Sequence[str]
    row: Any


class Prepared:
    """A statement, prepared.

    Args:
        statement: with parameters by name.
    """

    def __init__(self, statement: Select[Any] | Insert | Update | Delete) -> None:
        self._statement = statement
        self._texts: dict[str, _Text] = {}

    def _of(self, connection: Connection) -> _Text:
        name = connection.dialect.name
        found = self._texts.get(name)
        if found is None:
            found = self._texts[name] = self._compiled(connection)
        return found

    def _compiled(self, connection: Connection) -> _Text:
        compiled = self._statement.compile(dialect=_SQLITE if _is_sqlite(connection) else connection.dialect)
        row: Any = tuple
        columns = list(map(str, self._statement.exported_columns.keys()))
        if columns:
            # mypy wants the names in the source; these are the statement's.
            named: Any = namedtuple("Row", columns)  # type: ignore[misc]
            row = named._make
        return _Text(str(compiled), compiled.params, compiled.positiontup or (), row)

    def all(self, connection: Connection, parameters: Mapping[str, object] | None = None) -> list[Any]:
        """The rows, with a name for each column of a query, or of what a change gives back.

        Raises:
            DBAPIError: as SQLAlchemy raises it.
        """
        one, given = self._of(connection), parameters or {}
        driver: Any = connection.connection.driver_connection
        with _as_sqlalchemy(connection, one.text):
            if _is_sqlite(connection):
                rows = driver.execute(one.text, _values(one, given)).fetchall()
            else:
                rows = driver.execute(one.text, {**one.given, **given}).fetchall()
        return [*map(one.row, rows)]

    def listed(self, connection: Connection, values: Iterable[str]) -> list[Any]:
        """The rows whose column is `among` these values, whose number does not matter."""
        wanted = sorted(set(values))
        found: list[Any] = []
        in_sqlite = _is_sqlite(connection)
        for start in range(0, len(wanted), MOST_VALUES):
            part = wanted[start : start + MOST_VALUES]
            found += self.all(connection, {VALUES: json.dumps(part) if in_sqlite else part})
        return found

    def run(self, connection: Connection, rows: Collection[Mapping[str, object]]) -> None:
        """Once for each row of parameters.

        Raises:
            DBAPIError: as SQLAlchemy raises it.
        """
        one = self._of(connection)
        driver: Any = connection.connection.driver_connection
        with _as_sqlalchemy(connection, one.text):
            if _is_sqlite(connection):
                driver.executemany(one.text, [_values(one, row) for row in rows])
            elif driver.pgconn.pipeline_status:  # see `in_one_go`; many at once would begin with an answer to the rest
                for row in rows:
                    driver.execute(one.text, {**one.given, **row})
            else:
                driver.cursor().executemany(one.text, [{**one.given, **row} for row in rows])


@contextmanager
def in_one_go(connection: Connection) -> Iterator[None]:
    """Have PostgreSQL be told all that is `Prepared.run` in the block before it answers any of it.

    Raises:
        DBAPIError: at the end of the block, as SQLAlchemy raises it.
    """
    if _is_sqlite(connection):
        yield
        return
    driver: Any = connection.connection.driver_connection
    with _as_sqlalchemy(connection, ""), driver.pipeline():
        yield


def _is_sqlite(connection: Connection) -> bool:
    return connection.dialect.name == "sqlite"


def _values(one: _Text, row: Mapping[str, object]) -> list[object]:
    return [row[name] if name in row else one.given[name] for name in one.names]


@contextmanager
def _as_sqlalchemy(connection: Connection, text: str) -> Iterator[None]:
    """Say what a driver raises as SQLAlchemy would; a connection that is lost is not used again."""
    dialect: Any = connection.dialect
    base: Any = dialect.loaded_dbapi.Error
    try:
        yield
    except base as error:
        lost = dialect.is_disconnect(error, connection.connection.driver_connection, None)
        if lost:
            connection.invalidate(error)
        raise DBAPIError.instance(text, None, error, base, connection_invalidated=lost, dialect=dialect) from error
