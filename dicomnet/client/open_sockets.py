"""`OpenSockets`: what an HTTP client waits at, so that another thread can end the wait.

To close a client of httpx takes its connections away, but wakes no thread that waits for an answer on one of them.
"""

from __future__ import annotations

import socket
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

__all__ = ["OpenSockets"]


class OpenSockets:
    """The sockets of a client's connections, which it learns by the extension ``trace`` of a request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._ended = False

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Take note of a connection that was made; see httpx's documentation of the extension."""
        if not event.endswith(("connect_tcp.complete", "start_tls.complete")):
            return
        found = info["return_value"].get_extra_info("socket")
        found = getattr(found, "_sock", found)  # asyncio hands out a wrapper, which takes no weak reference
        if isinstance(found, socket.socket):
            with self._lock:
                self._sockets.add(found)
                ended = self._ended
            if ended:
                _shut(found)

    def end(self) -> None:
        """End all connections, and those to come: what waits at one fails at once, in whichever thread."""
        with self._lock:
            self._ended = True
            sockets = list(self._sockets)
        for one in sockets:
            _shut(one)


def _shut(one: socket.socket) -> None:
    """Of the plain socket: to shut TLS down is for the thread that uses it."""
    with suppress(OSError):
        socket.socket.shutdown(one, socket.SHUT_RDWR)
