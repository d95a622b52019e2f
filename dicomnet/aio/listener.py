"""Asynchronous providers: a listening socket, and a few callbacks for each association."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from types import TracebackType

from ..config import Limits, Timeouts
from ..errors import ConnectionFailed, LocalProtocolError
from ..exchange import Exchange
from ..negotiation import AcceptancePolicy
from ..scp import Provider, serve
from .driver import ProviderDriver, Serving
from .transport import Transport

__all__ = ["Listener"]

_BACKLOG = 128


class Listener(Provider):
    """A provider on a TCP port; see `scp.Provider` for its handlers.

    As a context manager it serves until the block ends; `serve_forever` serves until `stop`. A handler may be a
    coroutine function: it is awaited, and its association reads nothing meanwhile. Other handlers run in the thread of
    the event loop, as does the writing of spooled files: one that takes long holds up every association.

    Args:
        ae_title: the title that callers must ask for; None takes any.
        host: the address to bind; loopback unless another is named.
        port: 0 picks a free one.
        limits, timeouts: bounds of every association.
        drain: seconds that associations in flight get when the listener stops.
    """

    def __init__(
        self,
        ae_title: str | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 11112,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        drain: float = 30.0,
    ) -> None:
        super().__init__(ae_title, limits=limits, timeouts=timeouts)
        self.drain = drain
        self._bind = (host, port)
        self._address: tuple[str, int] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: asyncio.Server | None = None
        self._policy: AcceptancePolicy | None = None
        self._drivers: set[ProviderDriver] = set()
        self._stopping = asyncio.Event()
        self._alone = asyncio.Event()
        self._alone.set()

    @property
    def address(self) -> tuple[str, int]:
        """The host and port that are listened on, once they are."""
        if self._address is None:
            raise LocalProtocolError("the listener has not been started")
        return self._address

    async def open(self) -> None:
        """Bind and listen; connections wait in the backlog until they are served.

        Raises:
            ConnectionFailed: the address is taken, or not ours.
        """
        host, port = self._bind
        self._loop = asyncio.get_running_loop()
        try:
            family, _, _, _, address = (
                await self._loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            )[0]
            sock = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConnectionFailed(f"cannot listen on {host}:{port}: {reason}", errno=error.errno) from error
        self._address = sock.getsockname()[:2]
        self._server = await self._loop.create_server(self._accept, sock=sock, backlog=_BACKLOG, start_serving=False)

    async def serve_forever(self) -> None:
        """Accept associations until `stop` is called, then let those in flight end."""
        await self._start()
        drain = 0.0  # a cancelled server does not wait
        try:
            await self._stopping.wait()
            drain = self.drain
        finally:
            await self._end(drain)

    def stop(self) -> None:
        """Accept no more associations; `serve_forever` returns when those in flight are over. From any thread."""
        if self._loop is None:
            self._stopping.set()
            return
        with suppress(RuntimeError):  # the loop has ended, and the listener with it
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        self._stopping.set()
        if self._server is not None:
            self._server.close()

    async def __aenter__(self) -> Listener:
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self._end(self.drain)

    # ---- associations ------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        if self._server is None:
            await self.open()
        assert self._server is not None
        self._policy = self.policy()
        await self._server.start_serving()

    def _accept(self) -> Transport:
        """A connection arrived: make its protocol."""
        assert self._loop is not None
        exchange = Exchange.acceptor(limits=self.limits, timeouts=self.timeouts, now=self._loop.time())
        return ProviderDriver(exchange, Transport(self.limits), self._begin, self._over).transport

    def _begin(self, driver: ProviderDriver) -> Serving:
        full = len(self._drivers) >= self.limits.associations
        self._drivers.add(driver)
        self._alone.clear()
        address = driver.exchange.peer = driver.transport.peer_address
        return serve(driver.exchange, self, address, self._policy, full=full)

    def _over(self, driver: ProviderDriver) -> None:
        self._drivers.discard(driver)
        if not self._drivers:
            self._alone.set()

    async def _end(self, drain: float) -> None:
        """Wait for the associations in flight; abort those that do not end in time."""
        self._stop()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(drain):
                    await self._alone.wait()
        finally:
            for driver in list(self._drivers):
                driver.abort()
        await self._alone.wait()
