"""Blocking providers: a listening socket, and a thread for each association."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from time import monotonic, time
from types import TracebackType
from typing import NamedTuple

from ..config import Entity, Limits, Timeouts
from ..errors import DicomNetError, InvalidArgument, LocalProtocolError, cannot_listen
from ..log import in_brief, log, log_failure
from ..net.tls import TLS
from ..protocol.events import Tracing
from ..protocol.exchange import Exchange
from ..protocol.negotiation import AcceptancePolicy, ProposedContext
from ..protocol.peer_profile import Peer
from ..services.scp import COUNTED, Provider, host_of, pause_of
from ..services.service_registry import ServiceRegistry
from .association import Association, connect
from .driver import Driver
from .secure import open_transport
from .shared_state import MOST_WORKERS, Board, Seats
from .workers import ACCEPT_PAUSE, Connections, Crew, Job

__all__ = ["Listener"]

_BACKLOG = 1024  # a full one would cost a peer a second, until it tries again
_TIDYING = 2.0  # seconds that the threads of associations get that were cut off


class _Served(NamedTuple):
    thread: threading.Thread
    driver: Driver


class Listener(Provider):
    """A provider on a TCP port; see `scp.Provider` for its handlers.

    As a context manager it serves in threads of its own until the block ends; `serve_forever` serves until `stop`.

    With ``workers`` it serves in so many processes, forked when it starts. Handlers run there: they have what there was
    at that moment, and what they change stays in their process. What they log is logged here, the limits hold for all
    of them together, and a worker that dies is replaced.

    Args:
        ae_title: the title that callers must ask for; None takes any.
        host: the address to bind; loopback unless another is named.
        port: 0 picks a free one.
        tls: how connections are secured; None is plain. Nothing plain is answered on a port with TLS.
        limits, timeouts: bounds of every association.
        destinations: where a C-MOVE may send instances, by AE title; nothing else is ever connected to.
        acceptance: who may call, and what is preferred, beside what follows from the handlers.
        drain: seconds that associations in flight get when the listener stops; see ``Timeouts.quiet`` for idle ones.
        tap: who is told of each PDU, change of state and message of every association, see `trace.ProtocolTrace`.
        workers: how many processes serve; 1 is this one. More want `os.fork`, and to be started before other threads.
        peers: what is known of single peers, and relaxed for them; found by AE title or implementation class UID.
        services: the registry of its handlers, which several listeners may share; by default one of its own.
    """

    _counted: tuple[str, ...] = ("connections", "ended", "associations", "refused", *COUNTED)

    _clock = staticmethod(monotonic)

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
        tap: Tracing | None = None,
        workers: int = 1,
        peers: Iterable[Peer] = (),
        services: ServiceRegistry | None = None,
    ) -> None:
        super().__init__(
            ae_title, limits=limits, timeouts=timeouts, destinations=destinations, acceptance=acceptance, peers=peers,
            services=services,
        )  # fmt: skip
        if not 1 <= workers <= MOST_WORKERS:
            raise InvalidArgument(f"{workers!r} workers: 1 to {MOST_WORKERS}")
        if workers > 1 and not hasattr(os, "fork"):
            raise InvalidArgument("several workers need a system with fork")
        self.drain, self.tap, self.tls = drain, tap, tls
        self._bind = (host, port)
        self._sock: socket.socket | None = None
        self._address: tuple[str, int] | None = None
        self._workers = workers
        self._crew: Crew | None = None
        self._board = Board(self._counted, workers)
        self._seats: Seats | None = None
        self._wake: tuple[socket.socket, socket.socket] | None = None
        self._served: dict[int, _Served] = {}
        self._admitted: dict[int, int] = {}  # who counts as an association, with the seat
        self._lock = threading.Lock()
        self.seating = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    @property
    def address(self) -> tuple[str, int]:
        """The host and port that are listened on, once they are."""
        if self._address is None:
            raise LocalProtocolError("the listener has not been started")
        return self._address

    @property
    def counters(self) -> dict[str, int]:
        """Since it was started, of all workers: ``connections``, ``associations``, those ``refused``; ``open`` now.

        ``contexts_refused`` are presentation contexts, ``requests_refused`` requests that no handler was asked to
        perform; the log says why.
        """
        total = self._board.total
        counted = {name: total(name) for name in ("connections", "associations", "refused", *COUNTED)}
        return {**counted, "open": counted["connections"] - total("ended")}

    def open(self) -> None:
        """Bind and listen; connections wait in the backlog until they are served.

        Raises:
            CannotListen: the address is taken, or not ours.
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
            raise cannot_listen(error, host, port) from error
        self._sock.setblocking(False)
        self._address = self._sock.getsockname()[:2]
        self._wake = socket.socketpair()

    def serve_forever(self) -> None:
        """Accept associations until `stop` is called, then let those in flight end."""
        if self._sock is None:
            self.open()
        self._hire()
        if self._crew is not None:
            self._serve_elsewhere(self._crew)
        else:
            self._serve_here()

    def _serve_elsewhere(self, crew: Crew) -> None:
        """Until the workers have ended; then let go of what was shared with them."""
        assert self._seats is not None
        assert self._wake is not None
        try:
            crew.run()
        finally:
            self._seats.close()
            for end in self._wake:
                end.close()

    def _serve_here(self) -> None:
        assert self._sock is not None
        assert self._wake is not None
        selector = selectors.DefaultSelector()
        selector.register(self._sock, selectors.EVENT_READ)
        selector.register(self._wake[0], selectors.EVENT_READ)
        try:
            while not self._stopping.is_set():
                selector.select()
                # One at a time: a burst must not make the first of it the oldest before its thread has looked at it.
                self._accept(self._sock)
        finally:
            selector.close()
            self._sock.close()
            self._drain()
            for end in self._wake:
                end.close()

    def stop(self) -> None:
        """Accept no more associations; `serve_forever` returns when those in flight are over. From any thread."""
        self._stopping.set()
        if self._crew is not None:
            self._crew.stop()
        if self._wake is not None:
            try:
                self._wake[1].send(b"\0")
            except OSError:
                pass  # it has stopped already

    def __enter__(self) -> Listener:
        self.open()
        self._hire()  # not in the thread: whoever forks is best alone
        self._thread = threading.Thread(target=self.serve_forever, name="dicomnet-listener", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join()

    def count(self, name: str, number: int = 1) -> None:
        """Something happened that is counted."""
        self._board.add(name, number)

    def present(self) -> list[Exchange]:
        """The associations that are served now."""
        return [one.driver.exchange for one in self._snapshot()]

    def counted(self, exchange: Exchange) -> tuple[int, int]:
        """How many other associations have the AE title, and the host, of this one; those of other workers too."""
        if self._seats is None:
            return super().counted(exchange)
        return self._seats.namesakes(exchange.calling, host_of(exchange.address))

    def seat(self, exchange: Exchange) -> None:
        """An association is accepted, and counts by its AE title and its host."""
        if self._seats is not None:
            self._seats.name(self._admitted[id(exchange)], exchange.calling, host_of(exchange.address))

    def unseat(self, exchange: Exchange) -> None:
        """An association is released: who asks for the next counts it no more."""
        if self._seats is not None:
            self._seats.unname(self._admitted[id(exchange)])

    def connect(self, destination: Entity, contexts: Sequence[ProposedContext], calling: str) -> Association:
        """The association on which a C-MOVE sends its instances; to a ``dicoms://`` entity by our own `TLS`."""
        profile = self.peers.named(destination.ae_title)
        return connect(
            replace(profile, entity=destination),
            calling=calling,
            contexts=contexts,
            tls=profile.tls or (self.tls if destination.tls else None),
            limits=self.limits,
            timeouts=self.timeouts,
            tap=self.tap,
        )

    # ---- workers -----------------------------------------------------------------------------------------------

    def _hire(self) -> None:
        """Have the workers, where there are to be any."""
        assert self._sock is not None
        if self._workers == 1 or self._crew is not None or self._stopping.is_set():
            return
        self._seats = Seats(self.limits.associations)
        job = Job(self._work, self._hurry, self.drain)
        self._crew = Crew(job, self._workers, self._sock, self._board, self._seats)
        self._sock.close()
        if self._stopping.is_set():
            self._crew.stop()  # a stop that came meanwhile did not see them

    def _work(self, connections: Connections) -> None:
        """In a worker: serve what it is handed, then let it end. Called by the process that forked it."""
        assert self._seats is not None
        self.seating = self._seats
        # Connections are handed out evenly, so that this bounds those of all workers.
        self.limits = replace(self.limits, pending=-(-self.limits.pending // self._workers))
        for sock in connections:
            self._take(sock)
        self._drain()

    def _hurry(self) -> None:
        """End every association at once; their threads get a moment to tidy up."""
        self.drain = _TIDYING
        if self._crew is not None:
            self._crew.hurry()
            self._crew.run()
            return
        for one in self._snapshot():
            one.driver.transport.interrupt()
        self._drain()

    # ---- associations ------------------------------------------------------------------------------------------

    def _accept(self, listening: socket.socket) -> None:
        """Take one connection from the backlog."""
        try:
            sock, _ = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            log.error("cannot accept a connection: %s", error)
            self._stopping.wait(ACCEPT_PAUSE)
            return
        self._take(sock)

    def _take(self, sock: socket.socket) -> None:
        """Serve a new connection."""
        self._board.add("connections")
        try:
            self._start(sock)
        except (OSError, RuntimeError, InvalidArgument) as error:
            log.error("cannot serve a connection: %s", error)
            sock.close()
            self._board.add("ended")

    def _start(self, sock: socket.socket) -> None:
        transport = open_transport(sock, self.limits, self.timeouts, self.tls)
        observer = self.tap.observe(transport.peer_address, False, time) if self.tap is not None else None
        exchange = Exchange.acceptor(
            limits=self.limits, timeouts=self.timeouts, now=monotonic(), observer=observer, peers=self.peers
        )
        driver = Driver(exchange, transport)
        with self._lock:
            self._make_room()
            thread = threading.Thread(
                target=self._serve, args=(driver,), name="dicomnet-association", daemon=True
            )
            thread.start()  # where that fails, nobody is to wait for it
            self._served[id(driver)] = _Served(thread, driver)

    def _make_room(self) -> None:
        """End the oldest connection that has not asked for an association, if there are too many of those."""
        pending = [one for one in self._served.values() if not one.driver.exchange.requested]
        if len(pending) >= self.limits.pending:
            pending[0].driver.transport.interrupt()

    def _is_full(self, driver: Driver) -> bool:
        """Asked when an association is: whether the limit is reached; if not, this one counts from now on."""
        with self._lock:
            seat: int | None = len(self._admitted)
            if self._seats is not None:
                seat = self._seats.take()
            elif len(self._admitted) >= self.limits.associations:
                seat = None
            if seat is not None:
                self._admitted[id(driver.exchange)] = seat
        self._board.add("refused" if seat is None else "associations")
        return seat is None

    def _serve(self, driver: Driver) -> None:
        """One association, from its first byte to its last; nothing that happens here reaches another."""
        address = driver.transport.peer_address
        driver.exchange.peer = address
        try:
            driver.secure()
            driver.serve(self.flow(driver.exchange, address, full=lambda: self._is_full(driver)))
        except DicomNetError as error:
            log.info("association ended: %s", in_brief(error))
        except Exception as error:
            log_failure(f"association with {address} failed", error)
        finally:
            driver.finish()
            with self._lock:
                self._served.pop(id(driver), None)
                seat = self._admitted.pop(id(driver.exchange), None)
            if self._seats is not None and seat is not None:
                self._seats.leave(seat)
            self._board.add("ended")

    def _drain(self) -> None:
        """Wait for the associations in flight; abort those that are idle, and those that do not end in time."""
        end = monotonic() + self.drain
        quiet = self.drain if self.timeouts.quiet is None else self.timeouts.quiet
        while (served := self._snapshot()) and monotonic() < end:
            pauses = [pause_of(one.driver.exchange) for one in served]
            self._join(min(monotonic() + quiet, end))
            for one, pause in zip(served, pauses, strict=True):
                if pause and pause == pause_of(one.driver.exchange):
                    one.driver.interrupt()
        for one in self._snapshot():
            one.driver.transport.interrupt()
        self._join(monotonic() + self.drain)  # many handlers that do not end take no longer than one

    def _join(self, end: float) -> None:
        for one in self._snapshot():
            one.thread.join(max(end - monotonic(), 0.0))

    def _snapshot(self) -> list[_Served]:
        with self._lock:
            return list(self._served.values())
