"""Serves a web application in a thread of its own, until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..errors import cannot_listen
from ..net.tls import TLS

__all__ = ["WebServing"]

_BACKLOG = 128
#: Seconds until the first request of a connection has come, its headers at least.
FIRST_REQUEST = 30.0
#: Seconds that a connection may rest between two requests.
KEEP_ALIVE = 65
#: Seconds that requests under way get when it stops.
DRAIN = 5


def _always(context: ssl.SSLContext) -> Callable[..., ssl.SSLContext]:
    return lambda *_: context


class _Protocol(HttpToolsProtocol):
    """HTTP/1.1 that gives up callers who connect and send no request, or never its end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(FIRST_REQUEST, self._no_request)

    def _no_request(self) -> None:
        if vars(self)["cycle"] is None and not self.transport.is_closing():
            self.transport.close()


class WebServing:
    """A web server in a thread; as a context manager it serves until the block ends.

    Args:
        app: what it serves.
        host, port: where; port 0 picks a free one.
        tls: secures its connections.
        concurrent: the most requests and connections at a time; more get 503.

    Raises:
        CannotListen: the address is taken.
        InvalidArgument: the certificate cannot be used.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, *, tls: TLS | None = None, concurrent: int = 512) -> None:
        context = None if tls is None else tls.server_context()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            raise cannot_listen(error, host, port) from error
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        self._scheme = "http" if context is None else "https"
        config = uvicorn.Config(
            app, http=_Protocol, ws="websockets-sansio", ws_max_size=1 << 16, log_config=None, access_log=False,
            server_header=False, timeout_graceful_shutdown=DRAIN, timeout_keep_alive=KEEP_ALIVE, proxy_headers=False,
            limit_concurrency=concurrent, ssl_context_factory=None if context is None else _always(context),
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="dicomnet-web", daemon=True)

    @property
    def url(self) -> str:
        """The address of its start page."""
        host, port = self.address
        return f"{self._scheme}://[{host}]:{port}/" if ":" in host else f"{self._scheme}://{host}:{port}/"

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()
