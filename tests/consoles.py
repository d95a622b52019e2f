"""A console for tests: real servers below a place of their own, and the pages over them on a real port."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from dicomnet.server import Server
from dicomnet.server.directory import ENVIRONMENT, ServerDirectory
from dicomnet.web.console.application import console_app
from dicomnet.web.console.desk import Desk
from dicomnet.web.serving import WebServing
from dicomnet.web.users import ROLES, Users

PASSWORD = "correct horse"
#: Of a form that a page of ours sends.
OURS = {"Sec-Fetch-Site": "same-origin"}


@contextmanager
def place(path: Path) -> Iterator[Path]:
    """Servers are below a directory while the block lasts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENVIRONMENT, os.fspath(path))
        yield path


@contextmanager
def running(path: Path, name: str = "main", *, title: str = "MAIN", **values: Any) -> Iterator[Server]:
    """A server in this process, in its directory below a place."""
    directory = ServerDirectory(path / name)
    given = {key.replace("__", "."): one for key, one in values.items()}
    directory.create({"server.ae_title": title, "listen.port": 0, "log.file": "", **given})
    with Server(directory.path) as server:
        yield server


@contextmanager
def serving(users: Users | None = None, **more: Any) -> Iterator[str]:
    """The address of a console, without a slash at its end."""
    with WebServing(console_app(Desk(), users=users, **more), "127.0.0.1", 0) as served:
        yield served.url.rstrip("/")


def users_of(path: Path) -> Users:
    """A user for each role, by the role's name."""
    users = Users(path)
    for role in ROLES:
        users.put(role, PASSWORD, role)
    return users


def browser(url: str, role: str = "") -> httpx.Client:
    """What a browser sends, logged in by HTTP Basic where there is a role."""
    auth = (role, PASSWORD) if role else None
    return httpx.Client(base_url=url, auth=auth, headers={**OURS, "Accept": "text/html"}, timeout=60)
