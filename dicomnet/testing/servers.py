"""For tests of add-ins: a server in this process, and pytest's fixtures `server` and `admin`.

In ``conftest.py``: ``pytest_plugins = ["dicomnet.testing.servers"]``. A test module says what runs in it::

    ADDINS = {"hello": Hello()}

    def test_it_answers(server, admin):
        ...
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..server import Server, Settings
from ..server.admin import Client

__all__ = ["admin", "serve", "server"]


@contextmanager
def serve(
    addins: Mapping[str, object] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    directory: Path | None = None,
) -> Iterator[Server]:
    """A server for the block, on a free port of this machine, with the AE title SERVER.

    Args:
        addins: add-ins by name, enabled after those of the settings; with none of those, these alone.
        settings: tables of the settings file.
        directory: where its state is kept; by default a temporary directory.
    """
    tables: dict[str, dict[str, Any]] = {name: dict(table) for name, table in (settings or {}).items()}
    for table, field, value in (
        ("server", "ae_title", "SERVER"),
        ("listen", "port", 0),
        ("log", "file", ""),
        ("addins", "enable", [] if addins else ["verification"]),
    ):
        tables.setdefault(table, {}).setdefault(field, value)
    with Server(Settings.parse(tables), directory=directory, addins=addins) as running:
        yield running


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server with the ``ADDINS`` and ``SETTINGS`` of the test's module; ``server.peer`` says how to call it."""
    module = request.module
    with serve(getattr(module, "ADDINS", None), getattr(module, "SETTINGS", None), directory=tmp_path) as running:
        yield running


@pytest.fixture
def admin(server: Server) -> Iterator[Client]:
    """A client of the server's admin interface."""
    with Client(server.settings.admin.socket) as client:
        yield client
