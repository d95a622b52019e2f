"""Asynchronous providers: a listening socket, and a few callbacks for each association."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from time import monotonic, time
from types import TracebackType

from ..config import Entity, Limits, Timeouts
from ..errors import InvalidArgument, LocalProtocolError, cannot_listen
from ..log import log
from ..net.tls import TLS
from ..protocol.events import Tracing
from ..protocol.exchange import Exchange
from ..protocol.negotiation import AcceptancePolicy, ProposedContext
from ..protocol.peer_profile import Peer
from ..services.provider import Serving
from ..services.scp import COUNTED, Provider, pause_of
from ..services.service_registry import ServiceRegistry
from .association import Association, connect
from .driver import ProviderDriver
from .secure import make_transport
from .transport import Transport, address_of

__all__ = ["Listener"]

_BACKLOG = 1024  # a full one would cost a peer a second, until it tries again
_ACCEPT_PAUSE = 1.0  # seconds to leave the backlog alone when the process is out of descriptors


class Listener(Provider):
    """A provider on a TCP port; see `scp.Provider` for its handlers.

    As a context manager it serves until the block ends; `serve_forever` serves until `stop`. A handler may be a
    coroutine function: it is awaited, and its association reads nothing meanwhile. Other handlers run in the thread of
    the event loop, as does the writing of spooled files: one that takes long holds up every association.

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
        workers: 1. An event loop cannot be forked; the blocking listener can have more.
        peers: what is known of single peers, and relaxed for them; found by AE title or implementation class UID.
        services: the registry of its handlers, which several listeners may share; by default one of its own.
    """

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
        if workers != 1:
            what = f"{workers!r} workers: an asynchronous listener serves in its own process"
            raise InvalidArgument(what, hint="dicomnet.Listener can have several.")
        super().__init__(
            ae_title, limits=limits, timeouts=timeouts, destinations=destinations, acceptance=acceptance, peers=peers,
            services=services,
        )  # fmt: skip
        self.drain = drain
        self.tap = tap
        self.tls = tls
        self._bind = (host, port)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sock: socket.socket | None = None
        self._address: tuple[str, int] | None = None
        self._arrivals: set[asyncio.Task[None]] = set()  # connections that do not stand yet
        self._strangers: set[ProviderDriver] = set()  # connections whose handshake is not done
        self._drivers: dict[ProviderDriver, None] = {}  # the oldest first
        self._admitted: set[ProviderDriver] = set()  # who counts as an association
        self._counters = dict.fromkeys(("connections", "associations", "refused", *COUNTED, "open"), 0)
        self._stopping = asyncio.Event()
        self._alone = asyncio.Event()
        self._alone.set()

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
        return dict(self._counters)

    async def open(self) -> None:
        """Bind and listen; connections wait in the backlog until they are served.

        Raises:
            CannotListen: the address is taken, or not ours.
            InvalidArgument: TLS cannot be had from the files that are given.
        """
        if self.tls is not None:
            self.tls.server_context()
        host, port = self._bind
        self._loop = asyncio.get_running_loop()
        try:
            family, _, _, _, address = (
                await self._loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            )[0]
            self._sock = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        except OSError as error:
            raise cannot_listen(error, host, port) from error
        self._sock.setblocking(False)
        self._address = self._sock.getsockname()[:2]

    async def serve_forever(self) -> None:
        """Accept associations until `stop` is called, then let those in flight end."""
        await self._start()
        drain = 0.0  # a server that is cancelled does not wait
        try:
            await self._stopping.wait()
            drain = self.drain
        finally:
            await self._end(drain)

    def stop(self) -> None:
        """Accept no more associations; `serve_forever` returns when those in flight are over. From any thread."""
        if self._loop is None:
            self._stopping.set()
        else:
            with suppress(RuntimeError):  # the loop has ended, and the listener with it
                self._loop.call_soon_threadsafe(self._stop)

    async def __aenter__(self) -> Listener:
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self._end(self.drain)

    def count(self, name: str, number: int = 1) -> None:
        """Something happened that is counted."""
        self._counters[name] += number

    def present(self) -> list[Exchange]:
        """The associations that are served now."""
        return [driver.exchange for driver in self._drivers]

    async def connect(self, destination: Entity, contexts: Sequence[ProposedContext], calling: str) -> Association:
        """The association on which a C-MOVE sends its instances; to a ``dicoms://`` entity by our own `TLS`."""
        profile = self.peers.named(destination.ae_title)
        return await connect(
            replace(profile, entity=destination),
            calling=calling,
            contexts=contexts,
            tls=profile.tls or (self.tls if destination.tls else None),
            limits=self.limits,
            timeouts=self.timeouts,
            tap=self.tap,
        )

    # ---- associations ------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        if self._sock is None:
            await self.open()
        if not self._stopping.is_set():
            self._accept_more()

    def _accept_more(self) -> None:
        assert self._loop is not None
        assert self._sock is not None
        # asyncio's own server, and `sock_accept`, lose connections that come at the moment when they are told to stop.
        self._loop.add_reader(self._sock, self._accept)

    def _accept_no_more(self) -> None:
        if self._loop is not None and self._sock is not None and self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)

    def _accept(self) -> None:
        assert self._loop is not None
        assert self._sock is not None
        try:
            sock, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            log.error("cannot accept a connection: %s", error)
            self._accept_no_more()
            self._loop.call_later(_ACCEPT_PAUSE, self._accept_again)
            return
        if len(self._strangers) >= self.limits.associations:
            sock.close()  # without TLS there is no way to say why
            return
        sock.setblocking(False)
        arrival = self._loop.create_task(self._serve(sock))
        self._arrivals.add(arrival)
        arrival.add_done_callback(self._arrivals.discard)

    def _accept_again(self) -> None:
        if not self._stopping.is_set():
            self._accept_more()

    async def _serve(self, sock: socket.socket) -> None:
        """Let the loop have a new connection; once it stands, callbacks do the rest."""
        try:
            address = address_of(sock.getpeername())
            await asyncio.get_running_loop().connect_accepted_socket(partial(self._driven, address), sock)
        except (OSError, InvalidArgument) as error:
            log.info("a connection ended before it began: %s", error)
            sock.close()

    def _driven(self, address: str) -> Transport:
        """The protocol of a new connection, with its driver."""
        now = asyncio.get_running_loop().time()
        observer = self.tap.observe(address, False, time) if self.tap is not None else None
        exchange = Exchange.acceptor(
            limits=self.limits, timeouts=self.timeouts, now=now, observer=observer, peers=self.peers
        )
        transport = make_transport(self.limits, self.timeouts, self.tls)
        driver = ProviderDriver(exchange, transport, self._begin, self._over)
        if self.tls is not None:
            self._strangers.add(driver)
        return transport

    def _begin(self, driver: ProviderDriver) -> Serving:
        self._strangers.discard(driver)
        self._make_room()
        self._drivers[driver] = None
        self._counters["connections"] += 1
        self._counters["open"] += 1
        self._alone.clear()
        address = driver.exchange.peer = driver.transport.peer_address
        return self.flow(driver.exchange, address, full=lambda: self._is_full(driver))

    def _make_room(self) -> None:
        """End the oldest connection that has not asked for an association, if there are too many of those."""
        pending = [driver for driver in self._drivers if not driver.exchange.requested]
        if len(pending) >= self.limits.pending:
            pending[0].abort()

    def _is_full(self, driver: ProviderDriver) -> bool:
        """Asked when an association is: whether the limit is reached; if not, this one counts from now on."""
        full = len(self._admitted) >= self.limits.associations
        if not full:
            self._admitted.add(driver)
        self._counters["refused" if full else "associations"] += 1
        return full

    def _over(self, driver: ProviderDriver) -> None:
        self._strangers.discard(driver)
        if driver in self._drivers:
            del self._drivers[driver]
            self._counters["open"] -= 1
        self._admitted.discard(driver)
        if not self._drivers:
            self._alone.set()

    def _stop(self) -> None:
        self._stopping.set()
        self._accept_no_more()
        if self._sock is not None:
            self._sock.close()

    async def _end(self, drain: float) -> None:
        """Wait for the associations in flight; abort those that are idle, and those that do not end in time."""
        self._stop()
        try:
            await self._drain(drain)
        finally:
            for arrival in self._arrivals:
                arrival.cancel()
            for stranger in list(self._strangers):
                stranger.transport.close()
            for driver in list(self._drivers):
                driver.abort()
        await self._all_over()

    async def _drain(self, drain: float) -> None:
        now = asyncio.get_running_loop().time
        end = now() + drain
        quiet = drain if self.timeouts.quiet is None else self.timeouts.quiet
        while (self._drivers or self._arrivals) and now() < end:
            pauses = [(driver, pause_of(driver.exchange)) for driver in self._drivers]
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(now() + quiet, end)):
                    await self._all_over()
            for driver, pause in pauses:
                if pause and driver in self._drivers and pause == pause_of(driver.exchange):
                    driver.abort()

    async def _all_over(self) -> None:
        if self._arrivals:
            await asyncio.wait(self._arrivals)
        await self._alone.wait()
