"""A proxy between a client and a server that fails as networks and overloaded servers do."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_FOR_EVER = 1 << 62  # bytes
_REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Proxy:
    """Passes bytes on, by how `mode` says it.

    Args:
        port: of the server, on loopback.
        seed: of what is random.

    Attributes:
        mode: "pass"; "busy": 503 to each request; "cut": connections break after some random number of bytes, in
            either direction; "silent": nothing is passed on, nor answered.
        cuts: how many connections it broke.
        greeting: what the server is told before the client's first byte.
        lives: decimal logarithms of the fewest and the most bytes of a connection that is cut.
    """

    def __init__(self, port: int, seed: int = 0) -> None:
        self.mode = "pass"
        self.cuts = 0
        self.lives = 2.0, 5.5
        self.greeting = b""
        self._port, self._random = port, random.Random(seed)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._open.add(client)
        with contextlib.suppress(OSError), client:
            if self.mode == "busy":
                client.recv(1 << 20)
                client.sendall(_REFUSAL)
                return
            if self.mode == "silent":
                client.recv(1 << 20)
                threading.Event().wait(60)
                return
            with socket.create_connection(("127.0.0.1", self._port)) as server:
                self._open.add(server)
                server.sendall(self.greeting)
                left = [_FOR_EVER]
                back = threading.Thread(target=self._pass, args=[server, client, left], daemon=True)
                back.start()
                self._pass(client, server, left)
                back.join()
        self._open.discard(client)

    def _pass(self, source: socket.socket, target: socket.socket, left: list[int]) -> None:
        try:
            while data := source.recv(64 << 10):
                if self.mode not in ("pass", "cut"):
                    break
                if self.mode == "cut" and left[0] > _FOR_EVER // 2:
                    left[0] = int(10 ** self._random.uniform(*self.lives))
                target.sendall(data[: left[0]])
                left[0] -= len(data)
                if left[0] <= 0:
                    self.cuts += 1
                    break
        except OSError:
            pass
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.close()
        for one in list(self._open):
            one.close()


@contextmanager
def cutting(endpoint: str, seed: int = 0) -> Iterator[Proxy]:
    """A proxy before an endpoint."""
    proxy = Proxy(int(endpoint.rpartition(":")[2]), seed)
    try:
        yield proxy
    finally:
        proxy.close()
