"""Statements that are compiled once: what SQLite does in microseconds should not take SQLAlchemy longer to say.

They are SQLAlchemy's, and mean the same in both databases. For SQLite their text is made once and handed to its driver,
which keeps what it has prepared; PostgreSQL gets them through SQLAlchemy.
"""

from __future__ import annotations

import json
import sqlite3
from collections import namedtuple
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Insert,
    Select,
    Update,
    bindparam,
    func,
    select,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

__all__ = ["Prepared", "among"]

MOST_VALUES = 500  # in one list of an SQL statement
VALUES = "values_of_the_list"

_SQLITE = sqlite.dialect(paramstyle="qmark")


def among(column: ColumnElement[Any], *, in_sqlite: bool) -> ColumnElement[bool]:
    """That a column's value is in the list that `Prepared.listed` is given."""
    if not in_sqlite:
        return column.in_(bindparam(VALUES, expanding=True))
    listed = func.json_each(bindparam(VALUES)).table_valued("value", name="listed")  # one parameter, whatever there are
    return column.in_(select(listed.c.value))


class Prepared:
    """A statement, prepared.

    Args:
        statement: with parameters by name.
    """

    def __init__(self, statement: Select[Any] | Insert | Update | Delete) -> None:
        self._statement = statement
        self._text = ""
        self._names: Sequence[str] = ()
        self._given: Mapping[str, object] = {}
        self._row: Any = tuple

    def _prepare(self) -> None:
        compiled = self._statement.compile(dialect=_SQLITE)
        self._names = compiled.positiontup or ()
        self._given = compiled.params
        if isinstance(self._statement, Select):
            row: Any = namedtuple("Row", self._statement.selected_columns.keys())  # type: ignore[misc]
            self._row = row._make
        self._text = str(compiled)

    def _values(self, row: Mapping[str, object]) -> list[object]:
        return [row[name] if name in row else self._given[name] for name in self._names]

    def all(self, connection: Connection, parameters: Mapping[str, object] | None = None) -> list[Any]:
        """The rows, with a name for each column of a query.

        Raises:
            DBAPIError: as SQLAlchemy raises it.
        """
        if connection.dialect.name != "sqlite":
            return list(connection.execute(self._statement, parameters).all())
        if not self._text:
            self._prepare()
        try:
            return [*map(self._row, _driver(connection).execute(self._text, self._values(parameters or {})).fetchall())]
        except sqlite3.Error as error:
            raise DBAPIError.instance(self._text, None, error, sqlite3.Error) from error

    def listed(self, connection: Connection, values: Iterable[str]) -> list[Any]:
        """The rows whose column is `among` these values, whose number does not matter."""
        wanted = sorted(set(values))
        found: list[Any] = []
        in_sqlite = connection.dialect.name == "sqlite"
        for start in range(0, len(wanted), MOST_VALUES):
            part = wanted[start : start + MOST_VALUES]
            found += self.all(connection, {VALUES: json.dumps(part) if in_sqlite else part})
        return found

    def run(self, connection: Connection, rows: Collection[Mapping[str, object]]) -> None:
        """Once for each row of parameters.

        Raises:
            DBAPIError: as SQLAlchemy raises it.
        """
        if connection.dialect.name != "sqlite":
            connection.execute(self._statement, [dict(row) for row in rows])
            return
        if not self._text:
            self._prepare()
        try:
            _driver(connection).executemany(self._text, list(map(self._values, rows)))
        except sqlite3.Error as error:
            raise DBAPIError.instance(self._text, None, error, sqlite3.Error) from error


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver
