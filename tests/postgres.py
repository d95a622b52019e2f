"""A private PostgreSQL for the tests: its own directory, its own Unix socket, gone at the end of the run."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PATIENCE = 60.0 * float(os.environ.get("DICOMNET_PATIENCE", "1"))  # seconds
# What the server does by itself, such as statistics by which it plans, would make tests depend on their order.
_SERVER = (
    *("-c", "listen_addresses=", "-c", "fsync=off", "-c", "autovacuum=off"),
    *("-c", "max_connections=200", "-c", "log_min_messages=fatal"),
)


class Cluster:
    """A running server; `new_database` gives the URL of an empty database."""

    def __init__(self, sockets: Path, run: Callable[..., None]) -> None:
        self.sockets = sockets
        self._run = run
        self._numbers = itertools.count(1)

    def restart(self, mode: str) -> None:
        """Stop and start the server; "fast": connections are ended, "immediate": as after a crash."""
        self._run("restart", "-m", mode)

    @contextmanager
    def away(self) -> Iterator[None]:
        """The server is stopped, for the block."""
        self._run("stop", "-m", "fast")
        try:
            yield
        finally:
            self._run("start")

    def url(self, name: str) -> str:
        return f"postgresql://postgres@/{name}?host={self.sockets}"

    def new_database(self, template: str = "template1") -> str:
        import psycopg

        name = f"test{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE {name} TEMPLATE "{template}"')
        return name

    def empty(self, name: str) -> None:
        """Take all rows out of a database that has the index's tables: that is faster than another database."""
        import psycopg

        with psycopg.connect(self.url(name), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            used = connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' "
                "AND relname <> 'alembic_version' AND pg_relation_size(oid) > 0"
            ).fetchall()
            if used:  # TRUNCATE, since what is left of deleted rows would change the plans of queries
                names = ", ".join(f'"{table}"' for (table,) in used)
                connection.execute(f"TRUNCATE {names} RESTART IDENTITY CASCADE")
            connection.execute("SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S'")


def programs() -> Path | None:
    """The directory of PostgreSQL's programs; None where it is not installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


@contextmanager
def cluster(*settings: str) -> Iterator[Cluster]:
    """Start a server, as another user where this one is root, which PostgreSQL refuses."""
    bin_directory = programs()
    if bin_directory is None:
        if os.environ.get("DICOMNET_REQUIRE_PEERS"):
            pytest.fail("PostgreSQL is not installed")
        pytest.skip("PostgreSQL is not installed")
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    root = Path(tempfile.mkdtemp(prefix="dicomnet-pg-"))
    os.chown(root, user.pw_uid, user.pw_gid)

    def run(program: str, *arguments: str) -> None:
        command = [str(bin_directory / program), *arguments]
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE, cwd=root, **as_user)

    data, log = str(root / "data"), str(root / "log")
    try:
        run("initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        options = " ".join((*_SERVER, *(f"-c {one}" for one in settings), "-k", str(root)))
        run("pg_ctl", "-D", data, "-l", log, "-w", "-o", options, "start")
        try:
            control = ("-D", data, "-l", log, "-w", "-o", options)
            yield Cluster(root, lambda *words: run("pg_ctl", *control, *words))
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(root, ignore_errors=True)
