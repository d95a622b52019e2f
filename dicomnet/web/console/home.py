"""The first page, with the state of all servers; and the stream by which pages stay up to date."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ...errors import DicomNetError
from ...server.directory import ServerDirectory
from ..problems import Problem
from . import clients, nodes, remote
from .desk import Desk
from .live import Topic
from .pages import Ask, Console

__all__ = ["routes"]

#: Topics that are of one server.
_OF_SERVERS = {"clients": clients.topic, "nodes": nodes.topic, "jobs": remote.topic}


def routes(console: Console) -> list[Route]:
    """The routes."""
    return [console.route("/", get=_home), console.route("/live", get=_live)]


async def states(desk: Desk) -> list[dict[str, Any]]:
    """All servers at a glance; one that does not answer holds up no other."""
    return list(await asyncio.gather(*(_state(desk, one) for one in desk.all())))


async def _state(desk: Desk, server: ServerDirectory) -> dict[str, Any]:
    try:
        return await desk.state(server)
    except DicomNetError as error:
        return {**server.summary(), "state": "silent", "associations": None, "uptime": None, "listening": {},
                "checks": [{"name": "administration", "detail": str(error)}], "broken": {}}  # fmt: skip


async def _home(ask: Ask) -> Response:
    return ask.render("home.html", servers=await states(ask.console.desk), role=ask.role, failure="")


async def _live(ask: Ask) -> Response:
    """The stream of a topic: ``?topic=servers``, or ``?topic=clients&server=NAME``, or of ``nodes`` or ``jobs``."""
    console, query = ask.console, ask.query
    topic, name = query.get("topic", ""), query.get("server", "")
    base = ask.base
    if topic == "servers":
        key, made = f"servers {base}", lambda: Topic("_servers.html", _look(console.desk), None, base)
    elif topic in _OF_SERVERS:
        server, of = console.desk.find(name), _OF_SERVERS[topic]
        key, made = f"{topic} {name} {base}", lambda: of(console, server, base)
    else:
        raise Problem(404, "there is no such topic", parameter="topic")
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    stream: AsyncIterator[bytes] = console.live.follow(key, made, ask.role)
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


def _look(desk: Desk) -> Any:
    async def look() -> dict[str, Any]:
        return {"servers": await states(desk)}

    return look
