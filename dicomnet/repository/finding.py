"""Searches: an index's rows one after the other, within a budget, let go as soon as the caller stops."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from sqlalchemy import Connection, Executable, func, select
from sqlalchemy.exc import OperationalError

from ..errors import DicomNetError
from .database import Database
from .rows import Row

__all__ = ["QueryTooLong", "stream"]

FIRST_ROWS = 20  # fetched at once: few at first, for the first answer to come soon
MORE_ROWS = 500
_STEPS = 20_000  # of SQLite's machine, between two looks at the clock: about a millisecond
_CANCELLED = "57014"  # PostgreSQL's SQLSTATE of a statement that ran out of time


class QueryTooLong(DicomNetError):
    """A query that used up its time; what it had found by then has been given out.

    Attributes:
        seconds: its budget.
    """

    def __init__(self, seconds: float) -> None:
        hint = "Give a patient ID, an accession number, three letters of a name or a narrower range of dates."
        super().__init__(f"the query took longer than its budget of {seconds:g} s", hint=hint)
        self.seconds = seconds


class _Budget:
    """The time that a query spends on its own: what its caller does with a row is not counted."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.left = float("inf") if seconds is None else seconds
        self.since = time.monotonic()

    def pause(self) -> None:
        self.left -= time.monotonic() - self.since

    def resume(self) -> None:
        self.since = time.monotonic()

    def is_over(self) -> bool:
        return time.monotonic() - self.since > self.left

    def check(self) -> None:
        if self.seconds is not None and self.is_over():
            raise QueryTooLong(self.seconds)


class Early(NamedTuple):
    """A quick query for the first page: what it gives is that page where it has so many rows, and nothing otherwise."""

    statement: Executable
    rows: int


def stream(
    database: Database,
    statement: Executable,
    accept: Callable[[Iterator[Row]], Iterator[Row]],
    seconds: float | None = None,
    following: Callable[[Row, int], Executable | None] | None = None,
    *,
    most: int | None = None,
    early: Early | None = None,
) -> Generator[Row, None, None]:
    """The rows of a query that ``accept`` lets through; closing the iterator gives its connection back.

    Args:
        database: where to ask.
        statement: the query.
        accept: filters rows.
        seconds: the time that the query may take, without what the caller does in between; None is any.
        following: the query that goes on after the last row, and so many rows, of the one before; None ends.
        most: the most rows that ``statement`` gives, where they are limited, and all of them wanted. A few are fetched
            at once; for more, PostgreSQL plans for a tenth of them otherwise, for the first to come soon.
        early: what may give the first page instead.

    Raises:
        QueryTooLong: the time is used up.
    """
    budget = _Budget(seconds)
    with database.read() as connection:
        _limit(connection, budget)
        try:
            for row in accept(_pages(connection, statement, following, budget, most, early)):
                budget.pause()
                yield row
                budget.resume()
        except OperationalError as error:
            if seconds is None or not _is_over(error):
                raise
            raise QueryTooLong(seconds) from error
        finally:
            _unlimit(connection)


def _pages(
    connection: Connection,
    statement: Executable | None,
    following: Callable[[Row, int], Executable | None] | None,
    budget: _Budget,
    most: int | None,
    early: Early | None,
) -> Iterator[Row]:
    whole = most is not None
    rows = _few_rows if most is not None and most <= MORE_ROWS else _rows
    if early is not None:
        found = tuple(rows(connection, early.statement, budget, whole))
        if len(found) >= early.rows:
            yield from found
            statement = None if following is None else following(found[-1], len(found))
            rows = _rows
    while statement is not None:
        count, row = 0, None
        for row in rows(connection, statement, budget, whole):
            count += 1
            yield row
        statement = None if row is None or following is None else following(row, count)
        rows = _rows


def _few_rows(connection: Connection, statement: Executable, budget: _Budget, whole: bool) -> Iterator[Row]:
    """The rows of what gives a few: a cursor of PostgreSQL would cost four requests more."""
    rows = connection.execute(statement).fetchall()
    budget.check()
    yield from rows


def _rows(connection: Connection, statement: Executable, budget: _Budget, whole: bool) -> Iterator[Row]:
    if whole and connection.dialect.name != "sqlite":
        connection.execute(select(func.set_config("cursor_tuple_fraction", "1", True)))
    result = connection.execution_options(stream_results=True, max_row_buffer=MORE_ROWS).execute(statement)
    try:
        size = FIRST_ROWS
        while rows := result.fetchmany(size):
            budget.check()
            yield from rows
            size = MORE_ROWS
    finally:
        result.close()


def _limit(connection: Connection, budget: _Budget) -> None:
    """Have the database itself end what takes too long."""
    if budget.seconds is None:
        return
    if connection.dialect.name == "sqlite":
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.set_progress_handler(budget.is_over, _STEPS)
    else:
        milliseconds = max(1, int(budget.seconds * 1000))
        connection.execute(select(func.set_config("statement_timeout", str(milliseconds), True)))


def _unlimit(connection: Connection) -> None:
    if connection.dialect.name == "sqlite" and not connection.closed:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.set_progress_handler(None, 0)


def _is_over(error: OperationalError) -> bool:
    return getattr(error.orig, "sqlstate", None) == _CANCELLED or "interrupted" in str(error.orig)
