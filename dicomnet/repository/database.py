"""The index's database: SQLite in a file, with nothing to set up, or PostgreSQL by URL.

SQLite has one writer at a time, which waits its turn in this process instead of asking again and again; readers have
connections of their own and are never held up (WAL). A commit is on the disk when it returns (``synchronous=FULL``),
but for those whose caller has written down elsewhere what is in them (``logged``): of those a loss of power may take
the last ones, until the next commit, or `Database.sync`.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import Connection, Engine, Table, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError

from ..errors import DicomNetError, InvalidArgument
from ..files.own_files import sync_directory
from ..log import log
from .database_clock import DatabaseClock
from .migrations import check_version, upgrade

__all__ = ["Database", "asking", "brief", "insert_into", "is_away", "parts"]

BUSY_SECONDS = 30.0  # how long SQLite waits for a writer of another process
READERS = 16  # connections that are kept for readers; more are opened when they are needed
MORE_READERS = 48
WRITERS = 4  # of PostgreSQL
#: Pages of 4 KiB that SQLite's log may have before a commit copies them into the database file, and waits for the disk
#: twice more. A page that was written many times is copied once.
LOG_PAGES = 8000
ATTEMPTS = 10  # of a transaction that the database called off in favour of another
MOST_VALUES = 500  # in one list of a statement
_CALLED_OFF = frozenset({"40001", "40P01", "55P03"})  # serialization failure, deadlock, lock not available
#: How long a transaction is begun again while the database is away: one that fails over is back by then as a rule, and
#: a sender waits a minute for its answer.
FAILOVER_SECONDS = 20.0
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
CONNECT_SECONDS = 5
SILENT_MILLISECONDS = 15_000  # of a database's host that answers nothing, before the connection is given up
# Shut down, crashed, starting, closed by an administrator; a standby that is not the primary yet; too many connections.
_AWAY = ("57P", "08", "25006", "53300")

T = TypeVar("T")


class _Hasty(threading.local):
    """Whether this thread takes connections without trying first whether they are alive: that is a question more."""

    now = False

    @contextmanager
    def while_(self, hasty: bool) -> Iterator[None]:
        self.now = hasty
        try:
            yield
        finally:
            self.now = False


class Database:
    """Connections to an index.

    Args:
        url: a path or ``sqlite:///…`` for SQLite; ``postgresql://user@host/name`` for PostgreSQL, through psycopg.
        durable: False leaves the time of writing to the operating system: a crash of the machine, not of the program,
            may lose the last commits, and never the database itself.

    Raises:
        InvalidArgument: it is no URL of either.
    """

    def __init__(self, url: str | Path, *, durable: bool = True) -> None:
        self.url: URL = _url(url)
        self.durable = durable
        self.is_sqlite: bool = self.url.get_backend_name() == "sqlite"
        self._hasty = _Hasty()
        if self.is_sqlite:
            self._writer = self._sqlite(1, 0, "IMMEDIATE")
            self._logged = self._sqlite(1, 0, "IMMEDIATE", synchronous="NORMAL")
            self._reader = self._sqlite(READERS, MORE_READERS, "DEFERRED")
        else:
            self._writer = self._logged = self._reader = self._postgresql()
        self._turn = threading.Lock()
        #: Seconds since 1970: those of PostgreSQL, which are the same for all machines.
        self.clock: Callable[[], float] = time.time if self.is_sqlite else DatabaseClock(self._ask_time)

    def _ask_time(self) -> float:
        now = sqlalchemy.text("SELECT extract(epoch FROM clock_timestamp())")
        with self.read() as connection:
            return float(connection.execute(now).scalar_one())

    @classmethod
    def opened(cls, url: str | Path, *, durable: bool = True) -> Database:
        """A database that has all tables: new ones are made, older ones brought up to date.

        Raises:
            InvalidArgument: it cannot be opened, or was made by a newer version.
        """
        database = cls(url, durable=durable)
        database.migrate()
        return database

    def migrate(self) -> None:
        """Bring the tables up to date; two processes that do so at once are one after the other."""
        try:
            with self.write() as connection:
                upgrade(connection)
        except OperationalError as error:
            raise InvalidArgument(
                f"the index {self.url.render_as_string()} cannot be opened: {str(error.orig).strip()}",
                hint="Check that its directory exists and may be written, or that the server runs.",
            ) from error

    def check(self) -> None:
        """Refuse tables of another version than this program's.

        Raises:
            InvalidArgument: the tables are older or newer.
        """
        with self.read() as connection:
            check_version(connection)

    @contextmanager
    def write(self, *, logged: bool = False) -> Iterator[Connection]:
        """A transaction that writes; committed at the end, rolled back if an exception leaves the block.

        Args:
            logged: what it writes is on the disk elsewhere, and is written again at the start after a loss of power:
                SQLite commits without waiting for the disk.
        """
        if not self.is_sqlite:
            with self._writer.begin() as connection:
                yield connection
            return
        with self._turn, (self._logged if logged else self._writer).begin() as connection:
            yield connection

    def sync(self) -> None:
        """Have the disk confirm the commits that did not wait for it."""
        if not self.is_sqlite or not self.durable or not self.url.database:
            return
        path = Path(self.url.database)
        with suppress(FileNotFoundError), open(f"{path}-wal", "rb") as log:  # what is not in the log is in the file
            os.fdatasync(log.fileno())
        sync_directory(path.parent)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that only reads, with a view of the data that does not change in the block."""
        with self._reader.connect() as connection:
            if not self.is_sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            yield connection

    @contextmanager
    def notified(self, channel: str) -> Iterator[Callable[[float], None]]:
        """A connection to PostgreSQL that hears NOTIFY; what waits for one, for so many seconds at most.

        Raises:
            sqlalchemy.exc.DBAPIError, OSError: the database is away.
        """
        dialect: Any = self._reader.dialect
        with closing(self._reader.connect()) as connection:
            driver: Any = connection.connection.driver_connection
            connection.detach()  # it is not to be anyone's after this, and closed
            driver.autocommit = True
            driver.execute(f'LISTEN "{channel}"')

            def wait(seconds: float) -> None:
                try:
                    for _ in driver.notifies(timeout=seconds, stop_after=1):
                        pass
                except dialect.dbapi.Error as error:
                    connection.invalidate()
                    raise OSError("the connection to the index is lost") from error

            yield wait

    def transaction(
        self,
        work: Callable[[Connection], T],
        *,
        logged: bool = False,
        repeatable: bool = False,
        patience: float | None = None,
    ) -> T:
        """Do ``work`` in a transaction that writes (see `write`), again if the database called it off for another.

        While the database is away it is begun again, for `FAILOVER_SECONDS`. Where the connection is lost in the midst
        of the commit, it is not known whether that has happened.

        Args:
            work: what is done; it may be done more than once.
            logged: see `write`.
            repeatable: ``work`` finds what it has done before, so that it may follow a commit of which that is unknown.
            patience: seconds for which it is begun again, in the place of `FAILOVER_SECONDS`.

        Raises:
            sqlalchemy.exc.DBAPIError: it failed for another reason, or too often; see `is_away`.
        """
        end = time.monotonic() + (FAILOVER_SECONDS if patience is None else patience)
        attempt, hasty = 0, True
        while True:
            committing = False
            try:
                with self._hasty.while_(hasty), self.write(logged=logged) as connection:
                    result = work(connection)
                    committing = True
                return result
            except DBAPIError as error:
                if hasty and is_away(error) and not committing:
                    hasty = False  # it was a connection from before the database went: the next one is tried first
                    continue
                attempt += 1
                pause = _pause(error, attempt, end, may_be_done=committing and not repeatable)
                if pause is None:
                    raise
            threading.Event().wait(pause)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._writer.dispose()
        self._logged.dispose()
        self._reader.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sqlite(self, size: int, more: int, begin: str, synchronous: str = "FULL") -> Engine:
        engine = sqlalchemy.create_engine(
            self.url,
            poolclass=sqlalchemy.QueuePool,
            pool_size=size,
            max_overflow=more,
            # The driver's own idea of transactions begins them late and as readers.
            connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS, "isolation_level": None},
        )
        synchronous = synchronous if self.durable else "NORMAL"

        @event.listens_for(engine, "connect")
        def _configure(connection: sqlalchemy.engine.interfaces.DBAPIConnection, _: object) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute(f"PRAGMA synchronous={synchronous}")
            cursor.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES}")
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.execute("PRAGMA cache_size=-65536")  # KiB
            cursor.execute("PRAGMA mmap_size=1073741824")
            cursor.execute("PRAGMA case_sensitive_like=ON")
            if begin == "DEFERRED":
                cursor.execute("PRAGMA query_only=ON")
            cursor.close()

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql(f"BEGIN {begin}")

        return engine

    def _postgresql(self) -> Engine:
        waits = {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": SILENT_MILLISECONDS}
        engine = sqlalchemy.create_engine(
            self.url,
            pool_size=WRITERS + READERS,
            max_overflow=MORE_READERS,
            pool_pre_ping=True,
            connect_args={name: value for name, value in waits.items() if name not in self.url.query},
        )
        ping: Callable[[Any], bool] = engine.dialect.do_ping
        setattr(engine.dialect, "do_ping", lambda connection: self._hasty.now or ping(connection))  # noqa: B010
        if not self.durable:

            @event.listens_for(engine, "connect")
            def _configure(connection: sqlalchemy.engine.interfaces.DBAPIConnection, _: object) -> None:
                cursor = connection.cursor()
                cursor.execute("SET synchronous_commit = off")
                cursor.close()
                connection.commit()

        return engine


def insert_into(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that can say what becomes of a row that is there: it is of the database's own dialect."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def is_away(error: DBAPIError) -> bool:
    """Whether a database failed because it is not there, or not ready: what was to be done may have happened."""
    if not type(error.orig).__module__.startswith("psycopg"):
        return False
    state = getattr(error.orig, "sqlstate", None)
    return isinstance(error, OperationalError | InterfaceError) and (state is None or state.startswith(_AWAY))


def _pause(error: DBAPIError, attempt: int, end: float, *, may_be_done: bool) -> float | None:
    """Seconds until a transaction that failed is begun again, before the end of all attempts; None: it is not."""
    left = end - time.monotonic()
    if getattr(error.orig, "sqlstate", None) in _CALLED_OFF:
        pause = random.uniform(0, 0.01 * attempt)
        return pause if attempt < ATTEMPTS and pause <= left else None
    pause = min(FIRST_PAUSE * 2.0 ** min(attempt - 1, 10), LONGEST_PAUSE)
    if not is_away(error) or may_be_done or pause > left:
        return None
    if attempt == 1:
        log.warning("the index is away, and is asked again for %.1f s: %s", left, brief(error))
    return pause


@contextmanager
def asking(what: str, unavailable: type[DicomNetError]) -> Iterator[None]:
    """Say of what fails in the database that something is unavailable now."""
    try:
        yield
    except DBAPIError as error:
        message = f"{what} cannot be asked or changed now: {type(error.orig).__name__}"
        raise unavailable(message, hint="See that the database of the archive runs.") from error


def brief(error: DBAPIError) -> str:
    """What a database says of itself: no statement and no value."""
    return " ".join(str(error.orig).split())[:200]


def _url(url: str | Path) -> URL:
    text = str(url)
    if isinstance(url, Path) or "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        parsed = make_url(text)
    except (ArgumentError, ValueError) as error:  # ValueError: its port is no number
        raise InvalidArgument(f"{text!r} is no database URL", hint="Write postgresql://user@host/name.") from error
    if parsed.get_backend_name() == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != "sqlite":
        raise InvalidArgument(
            f"{parsed.get_backend_name()} is no database of an index", hint="SQLite and PostgreSQL are."
        )
    return parsed


def parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Values in lists that one statement can take."""
    return (values[start : start + MOST_VALUES] for start in range(0, len(values), MOST_VALUES))
