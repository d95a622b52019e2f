"""Who is connected to a server now, with their associations; and to disconnect one."""

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
    return [
        console.route("/servers/{server}/clients", get=_list),
        console.route("/servers/{server}/clients/{id}", get=_one),
        console.route("/servers/{server}/clients/{id}/disconnect", post=_disconnect),
    ]


def topic(console: Console, server: ServerDirectory, base: str) -> Topic:
    """The clients of a server, to be followed."""

    async def look() -> dict[str, Any]:
        return {"clients": await console.desk.client(server).clients(), "name": server.name}

    return Topic("_clients.html", look, (server.name,), base)


async def _list(ask: Ask) -> Response:
    return ask.render("clients.html", clients=await ask.client.clients(), role=ask.role, failure="")


async def _one(ask: Ask) -> Response:
    wanted = ask.request.path_params["id"]
    found = [one for one in await ask.client.clients() if one["id"] == wanted]
    return ask.render("client.html", status=200 if found else 404, client=found[0] if found else None, id=wanted)


async def _disconnect(ask: Ask) -> Response:
    number = ask.request.path_params["id"]
    await ask.client.disconnect(number)
    return ask.done(f"Association {number} is aborted.", f"/servers/{ask.server.name}/clients")
