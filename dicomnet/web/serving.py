"""Serves a web application in a thread of its own, until it is told to stop."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ..net.sockets import address_of, listen
from ..net.tls import TLS

__all__ = ["WebServing"]

#: Seconds until a request that is awaited, or has begun, has come, its headers at least.
FIRST_REQUEST = 30.0
#: Seconds that a connection may rest between two requests.
KEEP_ALIVE = 65
#: Bytes of a request before its body, or between two pieces of it, and lines of header; a login comes after these.
MOST_HEAD, MOST_HEADERS = 64 << 10, 200
#: Seconds for which a client may leave what is sent to it where it is: then its connection is closed.
WRITE_STALL = 60.0
#: Seconds that requests under way get when it stops.
DRAIN = 5


def _always(context: ssl.SSLContext) -> Callable[..., ssl.SSLContext]:
    return lambda *_: context


class _Protocol(HttpToolsProtocol):
    """HTTP/1.1 that gives up callers who send no request, or never its end, headers without end, or read no answer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()

    def _await_request(self) -> None:
        """Close the connection, if the head of a request does not come in time."""
        if self._timer is None:
            self._timer = self.loop.call_later(FIRST_REQUEST, self._close)

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def _has_come(self) -> None:
        self._unread = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_idle(self) -> bool:
        cycle: RequestResponseCycle | None = vars(self)["cycle"]
        return cycle is None or cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Take what has come, unless it is more than a head may have."""
        if self._is_idle():
            self._await_request()
        if self._unread > MOST_HEAD:
            self._close()
            return
        self._unread += len(data)
        super().data_received(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One line of header; an error here is answered with 400."""
        if len(self.headers) >= MOST_HEADERS:
            raise ValueError(f"a request has at most {MOST_HEADERS} lines of header")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A head has come; that of a WebSocket counts when its connection is handed over."""
        super().on_headers_complete()
        if not self._is_idle():
            self._has_come()

    def on_body(self, body: bytes) -> None:
        """A piece of a body: how much that may be, and how long it takes, is for those who read it."""
        self._unread = 0
        super().on_body(body)

    def pause_writing(self) -> None:
        """More waits to be sent than is let wait: the client has a while to take it. What makes it waits meanwhile."""
        super().pause_writing()
        self._stall = self.loop.call_later(WRITE_STALL, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has taken most of it."""
        super().resume_writing()
        self._reads()

    def _reads(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; WebSockets have limits of their own."""
        self._has_come()
        super().handle_websocket_upgrade()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._has_come()
        self._reads()
        super().connection_lost(exc)


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
        self._socket = listen(host, port)
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
        return f"{self._scheme}://{address_of(self.address)}/"

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()
