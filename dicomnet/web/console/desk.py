"""`Desk`: the servers that a console administers, and a client of the admin interface of each."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import InvalidArgument
from ...server.admin import AsyncClient
from ...server.admin.answers import JSON
from ...server.directory import ServerDirectory, every_server, home
from ...server.setting_errors import SettingsInvalid
from ...server.settings import Settings
from ..problems import Problem

__all__ = ["Desk", "Known"]

_is_name = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}").fullmatch
_Stamp = tuple[int, int, int]
#: Seconds for which `Known` holds.
KNOWN_SECONDS = 2.0


class Known(NamedTuple):
    """What of a server seldom changes: the address of its web port, or "", and the AE titles that it can call."""

    web: str
    titles: tuple[str, ...]


class Desk:
    """Finds servers by name: those of the machine's place of servers, and of others; for use in one event loop.

    Args:
        places: directories with a directory for each server, looked at before the machine's own.
    """

    def __init__(self, places: Iterable[Path] = ()) -> None:
        self._places = [path.absolute() for path in places]
        self._added: list[Path] = []
        self._settings: dict[Path, tuple[_Stamp, Settings]] = {}
        self._clients: dict[Path, AsyncClient] = {}
        self._known: dict[Path, tuple[float, asyncio.Future[Known]]] = {}

    def _where(self) -> list[Path]:
        return [*self._places, home(), *self._added]

    def add(self, place: Path) -> None:
        """Find the servers of one more directory, after all others, until the console ends."""
        if place.absolute() not in self._where():
            self._added.append(place.absolute())

    def has(self, server: ServerDirectory) -> bool:
        """Whether a server is the one that its name finds."""
        return any(one.path == server.path for one in self.all())

    def all(self) -> list[ServerDirectory]:
        """All of them, by name; of two with one name the one in the earlier place."""
        found: dict[str, ServerDirectory] = {}
        for place in self._where():
            for one in every_server(place):
                if _is_name(one.name):
                    found.setdefault(one.name, one)
        return [found[name] for name in sorted(found)]

    def new(self, name: str) -> ServerDirectory:
        """The directory of a server that is to be made, in the first place.

        Raises:
            InvalidArgument: the name is none.
        """
        if not _is_name(name):
            raise InvalidArgument("expected letters, digits and . _ -, at most 64, with a letter or digit first")
        return ServerDirectory(self._where()[0] / name)

    def find(self, name: str) -> ServerDirectory:
        """The server of a name.

        Raises:
            Problem: 404, there is none.
        """
        for place in self._where() if _is_name(name) else ():
            server = ServerDirectory(place / name)
            if server.exists:
                return server
        raise Problem(404, f'there is no server "{name[:64]}"')

    def settings(self, server: ServerDirectory) -> Settings:
        """Its settings, read again when their file has changed.

        Raises:
            SettingsInvalid: they are wrong.
        """
        try:
            stat = server.file.stat()
        except OSError:
            return server.settings()
        stamp = stat.st_mtime_ns, stat.st_size, stat.st_ino
        kept = self._settings.get(server.path)
        if kept is None or kept[0] != stamp:
            kept = stamp, server.settings()
            self._settings[server.path] = kept
        return kept[1]

    def addins(self, server: ServerDirectory) -> tuple[str, ...]:
        """The add-ins that its settings enable; none where they are wrong."""
        try:
            return self.settings(server).addins.enable
        except SettingsInvalid:
            return ()

    def client(self, server: ServerDirectory) -> AsyncClient:
        """A client of its admin interface.

        Raises:
            SettingsInvalid: where that is cannot be read.
        """
        socket = self.settings(server).admin.socket
        if socket not in self._clients:
            self._clients[socket] = AsyncClient(socket)
        return self._clients[socket]

    async def known(self, server: ServerDirectory) -> Known:
        """What of a server seldom changes, asked for once in `KNOWN_SECONDS` for all who look at it."""
        task = self._known.get(server.path)
        now = asyncio.get_running_loop().time()
        if task is None or now - task[0] > KNOWN_SECONDS or (task[1].done() and task[1].exception() is not None):
            task = now, asyncio.ensure_future(self._ask(server))
            self._known[server.path] = task
        return await asyncio.shield(task[1])

    async def _ask(self, server: ServerDirectory) -> Known:
        client = self.client(server)
        status, titles = await asyncio.gather(client.status(), client.ae_titles())
        listening = [one["title"] for one in titles if one["host"] and one["port"]]
        return Known(str(status["listening"].get("web", "")), tuple(listening))

    async def state(self, server: ServerDirectory) -> JSON:
        """The server at a glance, with what it says of itself where it runs."""
        found: dict[str, Any] = server.summary()
        found |= {"associations": None, "uptime": None, "checks": [], "broken": {}, "listening": {}}
        if found["state"] == "running":
            client = self.client(server)
            status = await client.status()
            health = await client.health()
            found |= {name: status[name] for name in ("state", "associations", "uptime", "broken", "listening")}
            found["pending_restart"] = status["pending_restart"]
            found["addins"] = status["addins"]
            found["checks"] = [one for one in health["checks"] if not one["ok"]]
        return found

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.close()
        self._clients.clear()
