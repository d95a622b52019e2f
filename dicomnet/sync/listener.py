"""Blocking providers: a listening socket, and a thread for each association."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
from collections.abc import Mapping, Sequence
from time import monotonic, time
from types import TracebackType
from typing import NamedTuple

from ..config import Entity, Limits, Timeouts
from ..errors import ConnectionFailed, DicomNetError, InvalidArgument, LocalProtocolError, escaped
from ..events import Tapping
from ..exchange import Exchange
from ..negotiation import AcceptancePolicy, ProposedContext
from ..scp import Provider
from ..tls import TLS
from .association import Association, connect
from .driver import Driver
from .secure import open_transport

__all__ = ["Listener"]

log = logging.getLogger("dicomnet")

_BACKLOG = 1024  # a full one would cost a peer a second, until it tries again
_ACCEPT_PAUSE = 1.0  # seconds to leave the backlog alone when the process is out of descriptors


class _Worker(NamedTuple):
    thread: threading.Thread
    driver: Driver


class Listener(Provider):
    """A provider on a TCP port; see `scp.Provider` for its handlers.

    As a context manager it serves in threads of its own until the block ends; `serve_forever` serves until `stop`.

    Args:
        ae_title: the title that callers must ask for; None takes any.
        host: the address to bind; loopback unless another is named.
        port: 0 picks a free one.
        tls: how connections are secured; None is plain. Nothing plain is answered on a port with TLS.
        limits, timeouts: bounds of every association.
        destinations: where a C-MOVE may send instances, by AE title; nothing else is ever connected to.
        acceptance: who may call, and what is preferred, beside what follows from the handlers.
        drain: seconds that associations in flight get when the listener stops.
        tap: who is told of each PDU, change of state and message of every association, see `taps.Tap`.
    """

    def __init__(
        self,
        ae_title: str | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 11112,
        tls: TLS | None = None,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        destinations: Mapping[str, Entity] | None = None,
        acceptance: AcceptancePolicy | None = None,
        drain: float = 30.0,
        tap: Tapping | None = None,
    ) -> None:
        super().__init__(
            ae_title, limits=limits, timeouts=timeouts, destinations=destinations, acceptance=acceptance
        )
        self.drain = drain
        self.tap = tap
        self.tls = tls
        self._bind = (host, port)
        self._sock: socket.socket | None = None
        self._wake: tuple[socket.socket, socket.socket] | None = None
        self._workers: dict[int, _Worker] = {}
        self._admitted: set[int] = set()  # who counts as an association
        self._lock = threading.Lock()
        self.admission = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    @property
    def address(self) -> tuple[str, int]:
        """The host and port that are listened on, once they are."""
        if self._sock is None:
            raise LocalProtocolError("the listener has not been started")
        host, port = self._sock.getsockname()[:2]
        return host, port

    def open(self) -> None:
        """Bind and listen; connections wait in the backlog until they are served.

        Raises:
            ConnectionFailed: the address is taken, or not ours.
            InvalidArgument: TLS cannot be had from the files that are given.
        """
        if self.tls is not None:
            self.tls.server_context()
        host, port = self._bind
        try:
            family, _, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM,
                                                          flags=socket.AI_PASSIVE)[0]
            self._sock = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConnectionFailed(f"cannot listen on {host}:{port}: {reason}", errno=error.errno) from error
        self._sock.setblocking(False)
        self._wake = socket.socketpair()

    def serve_forever(self) -> None:
        """Accept associations until `stop` is called, then let those in flight end."""
        if self._sock is None:
            self.open()
        assert self._sock is not None and self._wake is not None
        policy = self.policy()
        selector = selectors.DefaultSelector()
        selector.register(self._sock, selectors.EVENT_READ)
        selector.register(self._wake[0], selectors.EVENT_READ)
        try:
            while not self._stopping.is_set():
                selector.select()
                # One at a time: a burst must not make the first of it the oldest before its thread has looked at it.
                self._accept(self._sock, policy)
        finally:
            selector.close()
            self._sock.close()
            self._drain()
            for end in self._wake:
                end.close()

    def stop(self) -> None:
        """Accept no more associations; `serve_forever` returns when those in flight are over. From any thread."""
        self._stopping.set()
        if self._wake is not None:
            try:
                self._wake[1].send(b"\0")
            except OSError:
                pass  # it has stopped already

    def __enter__(self) -> Listener:
        self.open()
        self._thread = threading.Thread(target=self.serve_forever, name="dicomnet-listener", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join()

    def present(self) -> list[Exchange]:
        """The associations that are served now."""
        return [worker.driver.exchange for worker in self._snapshot()]

    def connect(self, destination: Entity, contexts: Sequence[ProposedContext], calling: str) -> Association:
        """The association on which a C-MOVE sends its instances; to a ``dicoms://`` entity by our own `TLS`."""
        return connect(
            destination,
            calling=calling,
            contexts=contexts,
            tls=self.tls if destination.tls else None,
            limits=self.limits,
            timeouts=self.timeouts,
            tap=self.tap,
        )

    # ---- associations ------------------------------------------------------------------------------------------

    def _accept(self, listening: socket.socket, policy: AcceptancePolicy) -> None:
        """Take one connection from the backlog."""
        try:
            sock, _ = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            log.error("cannot accept a connection: %s", error)
            self._stopping.wait(_ACCEPT_PAUSE)
            return
        try:
            self._start(sock, policy)
        except (OSError, RuntimeError, InvalidArgument) as error:
            log.error("cannot serve a connection: %s", error)
            sock.close()

    def _start(self, sock: socket.socket, policy: AcceptancePolicy) -> None:
        transport = open_transport(sock, self.limits, self.tls)
        observer = self.tap.observe(transport.peer_address, False, time) if self.tap is not None else None
        exchange = Exchange.acceptor(
            limits=self.limits, timeouts=self.timeouts, now=monotonic(), observer=observer
        )
        driver = Driver(exchange, transport)
        with self._lock:
            self._make_room()
            thread = threading.Thread(
                target=self._serve, args=(driver, policy), name="dicomnet-association", daemon=True
            )
            thread.start()  # where that fails, nobody is to wait for it
            self._workers[id(driver)] = _Worker(thread, driver)

    def _make_room(self) -> None:
        """End the oldest connection that has not asked for an association, if there are too many of those."""
        pending = [worker for worker in self._workers.values() if not worker.driver.exchange.requested]
        if len(pending) >= self.limits.pending:
            pending[0].driver.transport.interrupt()

    def _is_full(self, driver: Driver) -> bool:
        """Asked when an association is: whether the limit is reached; if not, this one counts from now on."""
        with self._lock:
            if len(self._admitted) >= self.limits.associations:
                return True
            self._admitted.add(id(driver))
            return False

    def _serve(self, driver: Driver, policy: AcceptancePolicy) -> None:
        """One association, from its first byte to its last; nothing that happens here reaches another."""
        address = driver.transport.peer_address
        driver.exchange.peer = address
        try:
            driver.secure()
            driver.serve(self.flow(driver.exchange, address, policy, full=lambda: self._is_full(driver)))
        except DicomNetError as error:
            log.info("association ended: %s", escaped(str(error)))
        except Exception:
            log.exception("association with %s failed", address)
        finally:
            driver.finish()
            with self._lock:
                self._workers.pop(id(driver), None)
                self._admitted.discard(id(driver))

    def _drain(self) -> None:
        """Wait for the associations in flight; abort those that do not end in time."""
        end = monotonic() + self.drain
        for worker in self._snapshot():
            worker.thread.join(max(end - monotonic(), 0.0))
        for worker in self._snapshot():
            worker.driver.transport.interrupt()
        end = monotonic() + self.drain  # for all of them: many handlers that do not end take no longer than one
        for worker in self._snapshot():
            worker.thread.join(max(end - monotonic(), 0.0))

    def _snapshot(self) -> list[_Worker]:
        with self._lock:
            return list(self._workers.values())
