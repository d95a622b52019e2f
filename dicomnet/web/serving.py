"""Serves a web application in a thread of its own, until it is told to stop."""

from __future__ import annotations

import ipaddress
import socket
import threading
from types import TracebackType
from typing import Self

import uvicorn
from starlette.types import ASGIApp

from ..errors import InvalidArgument, cannot_listen

__all__ = ["WebServing", "parse_address"]

_BACKLOG = 128
#: Seconds that requests under way get when it stops.
DRAIN = 5


def parse_address(text: str) -> tuple[str, int]:
    """``[HOST:]PORT`` as host and port; the host is the loopback address unless it is named.

    Raises:
        InvalidArgument: it is none, or is not of this machine alone: there is no login yet.
    """
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not port.isdigit() or int(port) > 65535:
        raise InvalidArgument(f"{text!r} is no [HOST:]PORT", hint="For instance 8042, or 127.0.0.1:8042.")
    if host != "localhost" and not _is_loopback(host):
        raise InvalidArgument(
            f"the web services listen on this machine alone, not on {host}: they have no login",
            hint="Put a reverse proxy with a login before them.",
        )
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class WebServing:
    """A web server in a thread; as a context manager it serves until the block ends.

    Args:
        app: what it serves.
        host, port: where; port 0 picks a free one.

    Raises:
        CannotListen: the address is taken.
    """

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            raise cannot_listen(error, host, port) from error
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        config = uvicorn.Config(
            app, log_config=None, access_log=False, timeout_graceful_shutdown=DRAIN, server_header=False, ws="none"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="dicomnet-web", daemon=True)

    @property
    def url(self) -> str:
        """The address of its start page."""
        host, port = self.address
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

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
