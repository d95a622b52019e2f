"""Blocking providers: a port whose associations are all served by one thread, and handlers in threads of their own."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any

from ..config import Entity, Limits, Timeouts
from ..errors import InvalidArgument, LocalProtocolError
from ..net.proxy import Proxies
from ..net.sockets import listen
from ..net.tls import TLS
from ..protocol.events import Tracing
from ..protocol.exchange import Exchange
from ..protocol.negotiation import AcceptancePolicy, ProposedContext
from ..protocol.peer_profile import Peer
from ..services.scp import COUNTED, Provider, host_of
from ..services.service_registry import ServiceRegistry
from .acceptor import Acceptor
from .association import Association, connect
from .board import Board
from .connection import Connection
from .shared_state import MOST_WORKERS, AssociationSlots
from .workers import Job, WorkerPool, serve_handed

__all__ = ["Listener"]

_COUNTED = ("connections", "ended", "associations", "refused")  # by the acceptors


class Listener(Provider):
    """A provider on a TCP port; see `scp.Provider` for its handlers.

    As a context manager it serves in a thread of its own until the block ends; `serve_forever` serves until `stop`.

    One thread serves all associations. Handlers run in other threads, those of one association one after the other; a
    handler that never blocks may be registered as ``inline``, and needs none. One that takes longer than its deadline
    has failed, and one that returns a `concurrent.futures.Future` is answered when that is done, while the association
    goes on. Generators are stepped where handlers run.

    With ``workers`` it serves in so many processes, forked when it starts. Handlers run there: they have what there was
    at that moment, and what they change stays in their process. What they log is logged here, the limits hold for all
    of them together, and a worker that dies is replaced.

    Args:
        ae_title: the title that callers must ask for; None takes any.
        host: the address to bind; loopback unless another is named. Empty takes all addresses, IPv4 and IPv6.
        port: 0 picks a free one.
        tls: how connections are secured; None is plain. Nothing plain is answered on a port with TLS.
        limits, timeouts: bounds of every association.
        destinations: where a C-MOVE may send instances, by AE title; nothing else is ever connected to.
        acceptance: who may call, and what is preferred, beside what follows from the handlers.
        last_call: seconds for which new associations are rejected (2/3/1) once it stops, before the port closes. By
            default it closes at once, and connections that were taken are served.
        drain: seconds that associations in flight get when the listener stops; see ``Timeouts.quiet`` for idle ones.
        tap: who is told of each PDU, change of state and message of every association, see `trace.ProtocolTrace`.
        workers: how many processes serve; 1 is this one. More want `os.fork`, and to be started before other threads.
        peers: what is known of single peers, and relaxed for them; found by AE title or implementation class UID.
        services: the registry of its handlers, which several listeners may share; by default one of its own.
        proxies: addresses and networks of load balancers that say for whom a connection is, by the PROXY protocol.
        counting: names of what is counted beside `counters`, see `board`.

    Attributes:
        board: the counters that all workers share, these and those of ``counting``: a `sync.board.Board`.
    """

    last_call: float
    drain: float
    tap: Tracing | None
    tls: TLS | None

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
        last_call: float = 0.0,
        drain: float = 30.0,
        tap: Tracing | None = None,
        workers: int = 1,
        peers: Iterable[Peer] = (),
        services: ServiceRegistry | None = None,
        proxies: Iterable[str] = (),
        counting: Iterable[str] = (),
    ) -> None:
        super().__init__(
            ae_title, limits=limits, timeouts=timeouts, destinations=destinations, acceptance=acceptance, peers=peers,
            services=services,
        )  # fmt: skip
        _check_workers(workers)
        self.last_call, self.drain, self.tap, self.tls = last_call, drain, tap, tls
        self.proxies: Proxies = Proxies(proxies)
        self._bind, self._workers = (host, port), workers
        self._sock: socket.socket | None = None
        self._address: tuple[str, int] | None = None
        self._pool: WorkerPool | None = None
        self.board: Board = Board((*_COUNTED, *COUNTED, *counting), workers)
        self._slots: AssociationSlots | None = None
        self._acceptor: Acceptor | None = None
        self._hooks: list[Callable[[], object]] = []
        self._early: list[tuple[Callable[..., object], tuple[Any, ...]]] = []  # calls for a loop that is still to come
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def clock(self) -> float:
        """Monotonic seconds."""
        return monotonic()

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
        total = self.board.total
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
        self._sock = self.listening()
        self._address = self._sock.getsockname()[:2]
        self.bound(self._sock)

    def listening(self) -> socket.socket:
        """A socket that listens and does not block: an own one, unless another is given in its place."""
        return listen(*self._bind)

    def bound(self, sock: socket.socket) -> None:
        """Called with the socket that listens, for options that its connections are to have; before any is taken."""

    def serve_forever(self) -> None:
        """Accept associations until `stop` is called, then let those in flight end."""
        if self._sock is None:
            self.open()
        self._start_workers()
        if self._pool is None:
            self._serve_here()
            return
        assert self._slots is not None
        try:
            self._pool.run()
        finally:
            self._slots.close()

    def _serve_here(self) -> None:
        assert self._sock is not None
        acceptor = self._begin()
        try:
            acceptor.listen(self._sock)
            acceptor.run()
        finally:
            acceptor.end(self.drain)

    def _begin(self) -> Acceptor:
        """The loop of this process, with all that it was asked to do before."""
        acceptor = Acceptor(self, self.board, self._slots)
        acceptor.loop.hooks.extend(self._hooks)
        self._acceptor = acceptor
        while self._early:
            function, arguments = self._early.pop(0)
            acceptor.loop.call_soon_threadsafe(function, *arguments)
        if self._stopping.is_set():
            acceptor.stop()  # a stop that came meanwhile did not see it
        return acceptor

    def stop(self) -> None:
        """Accept no more associations; `serve_forever` returns when those in flight are over. From any thread."""
        self._stopping.set()
        if self._pool is not None:
            self._pool.stop()
        if self._acceptor is not None:
            self._acceptor.stop()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def hurry(self) -> None:
        """End every association at once, after `stop`: where workers serve, by the thread that served; else by any."""
        if self._pool is not None:
            self._pool.hurry()
            self._pool.run()
        elif self._acceptor is not None:
            self._acceptor.hurry()

    def pause(self) -> None:
        """Accept no connections for now: they wait in the backlog, and those that are there go on. From any thread."""
        self._have("pause")

    def resume(self) -> None:
        """Accept connections again. From any thread."""
        self._have("resume")

    def _have(self, command: str) -> None:
        if self._pool is not None:
            getattr(self._pool, command)()
        else:
            self.call_soon_threadsafe(self._do, command)

    def _do(self, command: str) -> None:
        getattr(self._acceptor, command)()

    def on_turn(self, function: Callable[[], object]) -> Callable[[], object]:
        """Have ``function`` called at the end of each turn of the loop, in its thread; in every worker.

        It is for those who gather work, such as a commit of all that a turn brought. It must not block for long.
        """
        self._hooks.append(function)
        if self._acceptor is not None:
            self._acceptor.loop.hooks.append(function)
        return function

    def call_soon_threadsafe(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have the loop of this process call ``function(*arguments)``, soon, in its thread; from any thread."""
        if self._acceptor is None:
            self._early.append((function, arguments))
        else:
            self._acceptor.loop.call_soon_threadsafe(function, *arguments)

    def __enter__(self) -> Listener:
        self.open()
        self._start_workers()  # not in the thread: who forks is best alone
        self._thread = threading.Thread(target=self.serve_forever, name="dicomnet-listener", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join()

    def count(self, name: str, number: int = 1) -> None:
        """Something happened that is counted."""
        self.board.add(name, number)

    def present(self) -> list[Exchange]:
        """The associations that are served now, and connections that have none."""
        return [] if self._acceptor is None else [one.exchange for one in self._acceptor.connections]

    def abort(self, exchange: Exchange) -> None:
        """End one association of this process: its peer is told. From any thread."""
        for connection in [] if self._acceptor is None else self._acceptor.connections:
            if connection.exchange is exchange:
                self.call_soon_threadsafe(connection.abort)

    def cut(self) -> None:
        """Cut every connection of this process, as a network would that fails. From any thread."""
        for connection in [] if self._acceptor is None else self._acceptor.connections:
            connection.cut()

    def counted(self, exchange: Exchange) -> tuple[int, int]:
        """How many other associations have the AE title, and the host, of this one; those of other workers too."""
        if self._slots is None:
            return super().counted(exchange)
        return self._slots.namesakes(exchange.calling, host_of(exchange.address))

    def seat(self, exchange: Exchange) -> None:
        """An association is accepted, and counts by its AE title and its host."""
        if self._slots is not None:
            self._slots.name(self._slot_of(exchange), exchange.calling, host_of(exchange.address))

    def unseat(self, exchange: Exchange) -> None:
        """An association is released: who asks for the next counts it no more."""
        if self._slots is not None:
            self._slots.unname(self._slot_of(exchange))

    def is_full(self, connection: Connection) -> bool:
        """Asked when an association is: whether the limit is reached; if not, this one counts from now on."""
        assert self._acceptor is not None
        return self._acceptor.is_full(connection)

    def _slot_of(self, exchange: Exchange) -> int:
        assert self._acceptor is not None
        return next(one.slot for one in self._acceptor.connections if one.exchange is exchange and one.slot is not None)

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

    def _start_workers(self) -> None:
        """Have the workers, where there are to be any."""
        assert self._sock is not None
        if self._workers == 1 or self._pool is not None or self._stopping.is_set():
            return
        self._slots = AssociationSlots(self.limits.associations)
        job = Job(self._work, self.drain, self.last_call)
        self._pool = WorkerPool(job, self._workers, self._sock, self.board, self._slots)
        self._sock.close()
        if self._stopping.is_set():
            self._pool.stop()  # a stop that came meanwhile did not see them

    def _work(self, channel: socket.socket) -> None:
        """In a worker: serve what it is handed, then let it end. Called by the process that forked it."""
        assert self._slots is not None
        self._pool = None
        self.seating: Any = self._slots
        # Connections are handed out evenly, so that this bounds those of all workers.
        self.limits: Limits = replace(self.limits, pending=-(-self.limits.pending // self._workers))
        acceptor = self._begin()
        try:
            serve_handed(acceptor, channel)
        finally:
            acceptor.end(self.drain)


def _check_workers(workers: int) -> None:
    if not 1 <= workers <= MOST_WORKERS:
        raise InvalidArgument(f"{workers!r} workers: 1 to {MOST_WORKERS}")
    if workers > 1 and not hasattr(os, "fork"):
        raise InvalidArgument("several workers need a system with fork")
