"""Fixtures, and a deadline for every test: none may hang."""

from __future__ import annotations

import gc
import logging
import os
import secrets
import shutil
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import peers
import postgres
import pytest
import swift
from cases import TooLate
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from dicomnet.repository.database import Database

USUAL_DEADLINE = 60
PATIENCE = float(os.environ.get("DICOMNET_PATIENCE", "1"))  # for a slow machine, or a tracing build

# How many examples of a property `make test` tries; `make test-all` and .ci/run try more of them.
EXAMPLES = int(os.environ.get("DICOMNET_EXAMPLES", "40"))

# A shared machine is slow now and then; how long an example takes is not what these tests are about.
settings.register_profile(
    "dicomnet", max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("dicomnet")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell has what it runs in the background ignore Ctrl-C, and so would the programs that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that may take longest: at the end, one worker would run them and the others nothing."""
    items.sort(key=granted, reverse=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while thousands of tests are collected: nothing goes, and each look takes longer."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Keep the thousands of collected tests out of garbage collections, of which hundreds of tests make one."""
    gc.freeze()


def granted(item: pytest.Item) -> float:
    """The seconds that a test may take."""
    marker = item.get_closest_marker("deadline")
    return marker.args[0] if marker else USUAL_DEADLINE


@pytest.fixture(autouse=True)
def deadline(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test where it stands once its time is up; `pytest.mark.deadline(seconds)` grants more."""
    if not hasattr(signal, "setitimer"):  # Windows: faulthandler_timeout alone ends the run
        yield
        return
    seconds = granted(request.node) * PATIENCE

    def over(*_: object) -> None:
        raise TooLate(f"still running after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Stop the clock while a report is made: a deadline that fell into that would end the whole run."""
    left = signal.setitimer(signal.ITIMER_REAL, 0)[0] if hasattr(signal, "setitimer") else 0.0
    try:
        return (yield)
    finally:
        if left:
            signal.setitimer(signal.ITIMER_REAL, left)


@contextmanager
def log_as_it_was() -> Iterator[None]:
    """Leave the package's logger as it was: a command or a server that runs in this process sets it up for itself."""
    log = logging.getLogger("dicomnet")
    level, propagate, handlers = log.level, log.propagate, list(log.handlers)
    yield
    log.setLevel(level)
    log.propagate, log.handlers = propagate, handlers


@pytest.fixture(scope="module", autouse=True)
def own_log_of_a_module() -> Iterator[None]:
    """What a server that serves a module's tests logs is not for those of the next one."""
    with log_as_it_was():
        yield


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """See `log_as_it_was`."""
    with log_as_it_was():
        yield


@pytest.fixture(scope="session")
def sample_files() -> tuple[Path, ...]:
    """Real files; see `peers.sample_files`."""
    return peers.sample_files()


@pytest.fixture
def free_port() -> int:
    """A port for a peer that cannot pick its own; see `peers.free_port`."""
    return peers.free_port()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[postgres.Cluster]:
    """A private PostgreSQL server for this run."""
    with postgres.cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def swift_store() -> Iterator[swift.Swift]:
    """An object store for this run."""
    with swift.swift() as store:
        yield store


@pytest.fixture
def bucket(swift_store: swift.Swift, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket; the environment has the keys."""
    for name, value in swift_store.environment.items():
        monkeypatch.setenv(name, value)
    return swift_store.make_bucket(f"b{secrets.token_hex(6)}")


@pytest.fixture(scope="session")
def postgresql_index(postgresql: postgres.Cluster) -> str:
    """The name of a PostgreSQL database with the index's tables, whose rows go with each test."""
    from dicomnet.repository.database import Database

    name = postgresql.new_database()
    Database.opened(postgresql.url(name)).close()
    return name


@pytest.fixture(scope="session")
def sqlite_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of SQLite with the index's tables, to be copied."""
    from dicomnet.repository.database import Database

    path = tmp_path_factory.mktemp("index") / "index.db"
    Database.opened(path, durable=False).close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty index, in each kind of database."""
    from dicomnet.repository.database import Database

    if request.param == "sqlite":
        path = shutil.copy(request.getfixturevalue("sqlite_index"), tmp_path / "index.db")
        with Database(path, durable=False) as opened:
            yield opened
        return
    cluster, name = request.getfixturevalue("postgresql"), request.getfixturevalue("postgresql_index")
    with Database(cluster.url(name)) as opened:
        yield opened
    cluster.empty(name)
