"""Asynchronous providers: a listening socket, and a few callbacks for each association."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf
from time import monotonic, time

from ..config import ACCEPT_PAUSE, SAY_AGAIN, Entity, Limits, Timeouts
from ..errors import ConnectionFailed, InvalidArgument, LocalProtocolError, escaped
from ..log import log
from ..net.admission import Connections, most_connections
from ..net.proxy import Header, Proxies
from ..net.sockets import address_of, listen
from ..net.tls import TLS
from ..protocol.events import Tracing
from ..protocol.exchange import Exchange
from ..protocol.negotiation import AcceptancePolicy, ProposedContext
from ..protocol.peer_profile import Peer
from ..services.provider import Serving
from ..services.scp import COUNTED, Provider, host_of, pause_of
from ..services.service_registry import ServiceRegistry
from .association import Association, connect
from .provider_driver import ProviderDriver
from .secure import make_transport
from .transport import Transport

__all__ = ["Listener"]


class Listener(Provider):
    """A provider on a TCP port; see `scp.Provider` for its handlers.

    As a context manager it serves until the block ends; `serve_forever` serves until `stop`. A handler may be a
    coroutine function: it is awaited, and its association reads nothing meanwhile; one that takes longer than its
    deadline is cancelled, and has failed. A handler that returns a future is answered when that is done, while the
    association goes on. Other handlers run in the thread of the event loop, as does the writing of spooled files: one
    that takes long holds up every association.

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
        workers: 1. An event loop cannot be forked; the blocking listener can have more.
        peers: what is known of single peers, and relaxed for them; found by AE title or implementation class UID.
        services: the registry of its handlers, which several listeners may share; by default one of its own.
        proxies: addresses and networks of load balancers that say for whom a connection is, by the PROXY protocol.
    """

    last_call: float
    drain: float
    tap: Tracing | None
    tls: TLS | None
    _most: float = inf  # connections, by the descriptors of the process
    _pause: asyncio.TimerHandle | None = None  # until then the backlog is left alone

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
    ) -> None:
        if workers != 1:
            what = f"{workers!r} workers: an asynchronous listener serves in its own process"
            raise InvalidArgument(what, hint="dicomnet.Listener can have several.")
        super().__init__(
            ae_title, limits=limits, timeouts=timeouts, destinations=destinations, acceptance=acceptance, peers=peers,
            services=services,
        )  # fmt: skip
        self.last_call, self.drain, self.tap, self.tls = last_call, drain, tap, tls
        self._bind = (host, port)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sock: socket.socket | None = None
        self._address: tuple[str, int] | None = None
        self._arrivals: set[asyncio.Task[None]] = set()  # connections that do not stand yet
        self.proxies: Proxies = Proxies(proxies)
        self._connections: Connections[ProviderDriver] = Connections(lambda: self.limits, ProviderDriver.abort)
        self._complained = -inf  # when it was last said that descriptors are scarce
        self._counters = dict.fromkeys(("connections", "associations", "refused", *COUNTED, "open"), 0)
        self._stopping = asyncio.Event()
        self._closed = asyncio.Event()  # the port
        self._alone = asyncio.Event()
        self._alone.set()

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
        self._sock = await self._loop.run_in_executor(None, listen, host, port)  # a name has to be looked up
        self._address = self._sock.getsockname()[:2]
        self._most = most_connections(self._sock.fileno())

    async def serve_forever(self) -> None:
        """Accept associations until `stop` is called, then let those in flight end."""
        await self._start()
        drain = 0.0  # a server that is cancelled does not wait
        try:
            await self._closed.wait()
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

    async def __aexit__(self, *_: object) -> None:
        self._stop()
        await self._closed.wait()
        await self._end(self.drain)

    def count(self, name: str, number: int = 1) -> None:
        """Something happened that is counted."""
        self._counters[name] += number

    def present(self) -> list[Exchange]:
        """The associations that are served now."""
        return [driver.exchange for driver in self._connections]

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
        if self._stopping.is_set():
            self._close_port()
        else:
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
            if self._loop.time() >= self._complained + SAY_AGAIN:
                self._complained = self._loop.time()
                log.error("cannot accept a connection: %s; others wait until one is closed", error)
            self._accept_no_more()
            self._pause = self._loop.call_later(ACCEPT_PAUSE, self._accept_again)
            self._connections.make_room()
            return
        if len(self._connections) + len(self._arrivals) >= self._most:
            self._connections.make_room()
        sock.setblocking(False)
        arrival = self._loop.create_task(self._serve(sock))
        self._arrivals.add(arrival)
        arrival.add_done_callback(self._arrivals.discard)

    def _accept_again(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._sock is not None and self._sock.fileno() >= 0:
            self._accept_more()

    async def _serve(self, sock: socket.socket) -> None:
        """Let the loop have a new connection; once it stands, callbacks do the rest."""
        loop = asyncio.get_running_loop()
        drivers: list[ProviderDriver] = []

        def driven() -> Transport:
            drivers.append(self._driver(address))
            return drivers[0].transport

        try:
            address = address_of(sock.getpeername())
            header = self.proxies.header_from(address) if self.proxies else None
            if header is not None:
                await self._introduce(sock, header)
                address = header.address or address
            await loop.connect_accepted_socket(driven, sock)
        except (OSError, InvalidArgument, ConnectionFailed) as error:
            if isinstance(error, InvalidArgument):  # it is we who cannot
                log.error("cannot serve a connection: %s", error)
            else:
                log.info("a connection ended before it began: %s", escaped(str(error)))
            sock.close()
            for driver in drivers:
                self._over(driver)

    async def _introduce(self, sock: socket.socket, header: Header) -> None:
        """A proxy says for whom it speaks; not a byte more is read."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self.timeouts.artim):
            while not header.whole:
                data = await loop.sock_recv(sock, header.wanted)
                if not data:
                    raise ConnectionFailed("the proxy closed the connection within its PROXY header")
                header.feed(data)

    def _driver(self, address: str) -> ProviderDriver:
        """What serves a new connection."""
        now = asyncio.get_running_loop().time()
        observer = self.tap.observe(address, False, time) if self.tap is not None else None
        exchange = Exchange.acceptor(
            limits=self.limits, timeouts=self.timeouts, now=now, observer=observer, peers=self.peers
        )
        transport = make_transport(self.limits, self.timeouts, self.tls)
        transport.peer_address = address
        driver = ProviderDriver(exchange, transport, self._begin, self._connections.leave, self._over)
        self._connections.arrive(driver, host_of(address))
        self._counters["connections"] += 1
        self._counters["open"] += 1
        self._alone.clear()
        return driver

    def _begin(self, driver: ProviderDriver) -> Serving:
        address = driver.exchange.peer = driver.transport.peer_address
        return self.flow(driver.exchange, address, full=lambda: self._is_full(driver))

    def _is_full(self, driver: ProviderDriver) -> bool:
        """Asked when an association is: whether the limit is reached; if not, this one counts from now on."""
        full = not self._connections.admit(driver)
        self._counters["refused" if full else "associations"] += 1
        return full

    def _over(self, driver: ProviderDriver) -> None:
        if driver in self._connections:
            self._connections.part(driver)
            self._counters["open"] -= 1
        if self._pause is not None:
            self._accept_again()  # there is a descriptor
        if not len(self._connections):
            self._alone.set()

    def _stop(self) -> None:
        if self._stopping.is_set():
            return
        self._stopping.set()
        if self.last_call and self._loop is not None:
            self.closing = True  # callers are turned away, who would take a closed port for a host that is gone
            self._loop.call_later(self.last_call, self._close_port)
        else:
            self._close_port()

    def _close_port(self) -> None:
        self._accept_no_more()
        if self._sock is not None:
            self._sock.close()
        self._closed.set()

    async def _end(self, drain: float) -> None:
        """Wait for the associations in flight; abort those that are idle, and those that do not end in time."""
        self._stopping.set()
        self._close_port()
        try:
            await self._drain(drain)
        finally:
            for arrival in self._arrivals:
                arrival.cancel()
            for driver in self._connections:
                driver.abort()
        await self._all_over()

    async def _drain(self, drain: float) -> None:
        now = asyncio.get_running_loop().time
        end = now() + drain
        quiet = drain if self.timeouts.quiet is None else self.timeouts.quiet
        while (len(self._connections) or self._arrivals) and now() < end:
            pauses = [(one, pause_of(one.exchange)) for one in self._connections if not one.answering]
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(now() + quiet, end)):
                    await self._all_over()
            for driver, pause in pauses:
                if pause and driver in self._connections and pause == pause_of(driver.exchange):
                    driver.abort()

    async def _all_over(self) -> None:
        if self._arrivals:
            await asyncio.wait(self._arrivals)
        await self._alone.wait()
