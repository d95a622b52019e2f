"""The server's web port: what add-ins serve over HTTP, each below its name, and health and metrics for monitors."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Receive, Scope, Send

from ..net.sockets import address_of, listen
from .admin.app import live, ready_endpoint
from .admin.face import Administered
from .http_serving import HttpServing
from .loop_thread import LoopThread

__all__ = ["WebPort"]

#: Seconds that requests under way get when the server stops.
_FAREWELL = 1.0


class WebPort:
    """Serves over HTTP, in an event loop of its own: a slow page holds up neither handlers nor the admin interface.

    Args:
        server: whose.
        host, port: where it listens; port 0 picks a free one.
        sock: listens already, where a service manager has passed it.
    """

    def __init__(self, server: Administered, host: str, port: int, sock: socket.socket | None = None) -> None:
        self._server = server
        self._where = host, port
        self._loop = LoopThread("dicomnet-server-web")
        self._http = HttpServing(self._serve)
        self._socket = sock
        self._app = Starlette()
        self.address: tuple[str, int] = self._where

    def start(self) -> None:
        """Listen, and serve.

        Raises:
            CannotListen: the address is taken.
        """
        if self._socket is None:
            self._socket = listen(*self._where)
        self.address = self._socket.getsockname()[:2]
        self._loop.start()
        self._loop.run(self._http.start([self._socket]))

    @property
    def url(self) -> str:
        """The address of its start page."""
        return f"http://{address_of(self.address)}/"

    def mount(self, routes: Mapping[str, list[BaseRoute]]) -> None:
        """Serve these routes below the names of their add-ins, from the next request on."""
        names = sorted(routes)

        async def home(_: Request) -> Response:
            return JSONResponse({"ae_title": self._server.settings.server.ae_title, "addins": names})

        async def metrics(_: Request) -> Response:
            server = self._server
            text = await run_in_threadpool(server.metrics.exposition, list(server.addins.metrics.values()))
            return Response(text, media_type=CONTENT_TYPE_LATEST)

        own: list[BaseRoute] = [
            Route("/", home),
            Route("/health/live", live),
            Route("/health/ready", ready_endpoint(self._server)),
            Route("/metrics", metrics),
        ]
        self._app = Starlette(routes=own + [Mount(f"/{name}", routes=routes[name]) for name in names])

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def stop(self) -> None:
        """End it."""
        if self._socket is None:
            return
        self._loop.run(self._http.stop(_FAREWELL))
        self._loop.stop()
        self._socket.close()
