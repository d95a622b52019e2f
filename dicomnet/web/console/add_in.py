"""The add-in `console`: the console at ``/console`` of a server's web port.

::

    [web]
    port = 8080

    [addins]
    enable = ["archive", "console"]

It administers the server that it runs in, those whose directories are beside its own, and the others of the machine.
``dicomnet console run`` serves the same pages from a process of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from starlette.routing import BaseRoute, Mount

from ...server import AddInContext, Table, hookimpl
from ...server.settings import RESTART
from ..settings import WebSettings
from ..users import Users
from .application import console_app
from .desk import Desk

__all__ = ["ConsoleAddIn"]


class ConsoleAddIn:
    """Pages for browsers: this server, and the others of the machine."""

    class Settings(Table):
        """``[addin.console]``."""

        users: Annotated[Path, RESTART] = Path("users.json")
        """Who may log in, see `dicomnet console user`; without that file this machine's users administer."""
        proxies: Annotated[tuple[str, ...], RESTART] = ()
        """Addresses of reverse proxies, whose X-Forwarded headers are believed."""
        session_hours: Annotated[float, RESTART] = 10.0
        """How long a login lasts."""

    @hookimpl
    def web_routes(self, context: AddInContext) -> Sequence[BaseRoute]:
        """The pages."""
        table = context.settings
        users = Users(context.directory / table.users)
        settings = WebSettings(proxies=table.proxies, session_hours=table.session_hours)
        app = console_app(
            Desk([context.directory.parent]), settings=settings, users=users if len(users) else None,
            audit=context.services.audit,
        )  # fmt: skip
        return [Mount("/", app)]
