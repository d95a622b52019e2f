"""MLLP: HL7 v2 messages over TCP, each in a block of its own (HL7 Implementation Support Guide, Appendix C)."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Self, cast

from ..errors import cannot_listen
from ..log import log, log_failure
from ..net.mllp import MllpReader, framed

__all__ = ["MllpServer"]

MOST_CONNECTIONS = 64
IDLE_SECONDS = 600.0  # without a byte; senders keep their connections open for long
ANSWER_SECONDS = 60.0  # for what is to be kept
_READ = 1 << 16

#: Gives the answer to a message, at once or later; both are bytes without their block.
Handler = Callable[[bytes], Future[bytes]]


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: Handler) -> None:
        self.handler = handler
        self.room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self.open: set[socket.socket] = set()
        super().__init__(address, _Connection)


class _Connection(socketserver.BaseRequestHandler):
    """One sender: its messages are answered in their order; what came together is worked on together."""

    def handle(self) -> None:
        server, connection = cast(_Server, self.server), cast(socket.socket, self.request)
        if not server.room.acquire(blocking=False):
            log.info("an HL7 sender at %s is refused: %d are connected", self.client_address[0], MOST_CONNECTIONS)
            return
        server.open.add(connection)
        try:
            connection.settimeout(IDLE_SECONDS)
            self._serve(server, connection)
        except (OSError, ValueError) as error:
            log.info("the connection of the HL7 sender at %s ends: %s", self.client_address[0], error)
        except Exception as error:
            log_failure(f"the connection of the HL7 sender at {self.client_address[0]} ends", error)
        finally:
            server.open.discard(connection)
            server.room.release()

    def _serve(self, server: _Server, connection: socket.socket) -> None:
        reader = MllpReader()
        while data := connection.recv(_READ):
            answers = [server.handler(message) for message in reader.feed(data)]
            if answers:
                connection.sendall(b"".join(framed(_waited_for(answer)) for answer in answers))


def _waited_for(answer: Future[bytes]) -> bytes:
    try:
        return answer.result(ANSWER_SECONDS)
    except TimeoutError:
        raise TimeoutError(f"no answer in {ANSWER_SECONDS:g} s") from None


class MllpServer:
    """Takes HL7 messages on a port until it is closed; each sender has a thread of its own.

    Args:
        handler: gives the answer to a message, as a future that is done once what it says is kept.
        host, port: where; port 0 picks a free one.

    Raises:
        CannotListen: another program does, or the address is none of this machine.
    """

    def __init__(self, handler: Handler, *, host: str = "127.0.0.1", port: int = 2575) -> None:
        try:
            self._server = _Server((host, port), handler)
        except OSError as error:
            raise cannot_listen(error, host, port) from error
        self.address: tuple[str, int] = self._server.server_address[:2]  # type: ignore[assignment]
        self._thread = threading.Thread(target=self._server.serve_forever, name="dicomnet-hl7", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more messages; one that is being worked on is kept, though its sender may not be told."""
        self._server.shutdown()
        self._thread.join()
        for connection in list(self._server.open):
            try:
                connection.shutdown(socket.SHUT_RD)
            except OSError:
                continue
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
