"""Serves an application over HTTP in an event loop of ours, and stops it without waiting for open streams."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["FAREWELL", "HttpServing"]

#: Seconds that requests and streams get when the interface stops.
FAREWELL = 0.3
_DATE = 1.0  # seconds for which the Date of answers holds


class _Uvicorn(uvicorn.Server):
    """A server that says when it is ready, and whose signals are left to the process."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self.leaving = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        """Until `leave`. Uvicorn looks ten times a second whether it is to end, which is most of what idling costs."""
        while not await self.on_tick(0):  # makes the Date of answers
            with suppress(TimeoutError):
                await asyncio.wait_for(self.leaving.wait(), _DATE)

    def leave(self) -> None:
        """Have it end."""
        self.should_exit = True
        self.leaving.set()

    def hang_up(self) -> None:
        """Close what is still open: a stream that a stopped reader holds must not hold up the stop."""
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()


class HttpServing:
    """An application that is served from sockets which listen already.

    Args:
        app: what is served.
        protocol: of the connections.
    """

    def __init__(self, app: ASGIApp, protocol: type[H11Protocol] = H11Protocol) -> None:
        self._config = uvicorn.Config(
            app, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
            timeout_graceful_shutdown=1, interface="asgi3",
        )  # fmt: skip
        self._uvicorn: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve; once this returns, requests are answered."""
        self._uvicorn = _Uvicorn(self._config)
        self._task = asyncio.create_task(self._uvicorn.serve(sockets=list(sockets)))
        await self._uvicorn.ready.wait()

    async def stop(self, farewell: float = FAREWELL) -> None:
        """End it; what is under way gets so many seconds."""
        if self._uvicorn is None or self._task is None:
            return
        self._uvicorn.leave()
        _, late = await asyncio.wait({self._task}, timeout=farewell)
        if late:
            self._uvicorn.hang_up()
            await asyncio.wait({self._task})
