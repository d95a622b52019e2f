"""The nodes of an archive, from any of them: who serves, how each is, and since when one is gone."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from ...server.directory import ServerDirectory
from .live import Topic
from .pages import Ask, Console

__all__ = ["routes", "topic"]


def routes(console: Console) -> list[Route]:
    """The routes."""
    return [console.route("/servers/{server}/nodes", get=_list)]


def topic(console: Console, server: ServerDirectory, base: str) -> Topic:
    """The nodes, to be followed."""

    async def look() -> dict[str, Any]:
        return {"nodes": await console.desk.client(server).nodes(), "name": server.name}

    return Topic("_nodes.html", look, (server.name,), base)


async def _list(ask: Ask) -> Response:
    return ask.render("nodes.html", nodes=await ask.client.nodes(), failure="")
