"""The calls of an association that we asked for, in asyncio: whose turn it is, and whose results come.

`sync.requestor` has the same names for blocking associations; `association` is written once over both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from inspect import isawaitable
from typing import Any, TypeVar

from ..config import Entity
from ..errors import ConnectionFailed, DeadlineExceeded, LocalProtocolError, cannot_connect
from ..net.tls import TLS
from ..protocol.exchange import Exchange, Flow
from ..services import scu
from ..services.scu import RetrieveProgress
from .driver import Driver
from .secure import make_transport

__all__ = ["Requestor", "Results", "open_requestor"]

T = TypeVar("T")


async def open_requestor(exchange: Exchange, entity: Entity, tls: TLS | None) -> Requestor:
    """Connect, secure the connection, and associate.

    Args:
        exchange: its A-ASSOCIATE-RQ waits to be sent.
        entity: where to connect to.
        tls: None for a plain connection.

    Raises:
        ConnectionFailed, TLSFailed, DeadlineExceeded: there is no connection.
        AssociationRejected, AssociationAborted: there is no association.
    """
    driver = Driver(exchange, make_transport(exchange.limits, exchange.timeouts, tls, entity.host))
    await _connect(driver, entity, exchange.timeouts.connect)
    try:
        await driver.transport.handshake()
        await driver.complete(scu.associate(exchange))
    except BaseException:
        await driver.close()
        raise
    return Requestor(driver)


class Requestor:
    """Runs the calls of one association, one at a time; the others wait for their turn.

    Between the results of a call that streams there is no other: what comes is for that one.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._exchange = driver.exchange
        self._turns = asyncio.Lock()
        self._unread: Flow[Any] | None = None
        self._telling: asyncio.Task[Any] | None = None  # who has the turn, while it tells of its progress

    async def complete(self, flow: Flow[T]) -> T:
        """Run a flow to its end; what it returns."""
        return await self.retrieve(flow, None)

    async def retrieve(self, flow: Flow[T], progress: Callable[[RetrieveProgress], object] | None) -> T:
        """Run a flow to its end, and tell ``progress`` of what it yields."""
        self._require_turn()
        async with self._turns:
            try:
                while True:
                    over, item = await self._advance(flow, True)
                    if over:
                        value: T = item
                        return value
                    if progress is not None:
                        self._telling = asyncio.current_task()
                        await _awaited(progress(item))
                        self._telling = None
            except BaseException:
                self._telling = None
                self._let_go(flow)
                raise

    def results(self, flow: Flow[Any]) -> Results[Any]:
        """The results of a flow, of which more arrive while the caller looks at one: meanwhile there is no other."""
        return Results(self, flow, True)

    def stored(self, flow: Flow[Any]) -> Results[Any]:
        """The results of C-STOREs; where several are under way, there is no other call meanwhile."""
        return Results(self, flow, self._exchange.window > 1)

    async def _next_result(self, flow: Flow[Any], streaming: bool) -> tuple[bool, Any]:
        self._require_turn()
        async with self._turns:
            return await self._advance(flow, streaming)

    def _require_turn(self) -> None:
        """Raise where a progress function calls: it would wait for the end of the call that waits for it."""
        if self._telling is not None and self._telling is asyncio.current_task():
            raise self._refusal()

    def _refusal(self) -> LocalProtocolError:
        what = "the results of another call are still to come"
        return LocalProtocolError(what, peer=self._exchange.peer, hint="Read or close them first.")

    async def _advance(self, flow: Flow[Any], streaming: bool) -> tuple[bool, Any]:
        """Run a flow to its next result or its end."""
        if self._unread not in (None, flow):
            raise self._refusal()
        try:
            if self._unread is None:  # else the flow is told itself, and may have results left
                if not self._exchange.established:
                    self.driver.raise_failure()
                self._exchange.require_association()
            result = await self.driver.advance(flow, streaming=streaming)
        except BaseException:
            flow.close()
            self._unread = None
            if not self._exchange.established:
                self.driver.leave()  # there is no reason to wait until the peer closes
            raise
        self._unread = flow if self.driver.between else None
        return result

    def _let_go(self, flow: Flow[Any]) -> None:
        """No more of a flow is wanted: what is left of it is cancelled."""
        if self._unread is flow:  # else it is another that stands between its results
            self._unread, self.driver.between = None, False
        self.driver.close_flow(flow)

    async def release(self) -> None:
        """Release the association, where it is not over, and close the connection."""
        self._require_turn()
        async with self._turns:
            try:
                if self._exchange.established:
                    await self.driver.complete(scu.release(self._exchange))
            finally:
                await self.driver.close()

    async def abort(self) -> None:
        """Abort the association and close the connection; a call under way raises."""
        if self._exchange.established:
            self.driver.abort()
            await self.driver.finish()
        else:
            await self.driver.close()

    def interrupt(self) -> None:
        """Abort the association without waiting; a call under way raises."""
        if self._exchange.established:
            self.driver.abort()
            self.driver.leave()

    def cancel(self) -> None:
        """Send a C-CANCEL for what is under way."""
        scu.cancel(self._exchange)
        self.driver.turn()

    def heard(self) -> None:
        """What is waited for goes on elsewhere: the time-out of a response begins anew."""
        self._exchange.restart(asyncio.get_running_loop().time())

    def check(self) -> bool:
        """Whether the association goes on, by all that the peer has said."""
        return self._exchange.established


class Results(AsyncIterator[T]):
    """Results as they come; letting go of them, by `aclose` or by leaving the loop, cancels what is left."""

    def __init__(self, requestor: Requestor, flow: Flow[Any], streaming: bool) -> None:
        self._requestor = requestor
        self._flow = flow
        self._streaming = streaming
        self._loop = asyncio.get_running_loop()

    async def __anext__(self) -> T:
        over, result = await self._requestor._next_result(self._flow, self._streaming)
        if over:
            raise StopAsyncIteration
        value: T = result
        return value

    async def aclose(self) -> None:
        """Want no more results."""
        self._requestor._let_go(self._flow)

    def __del__(self) -> None:
        if getattr(self._flow, "gi_frame", None) is not None:
            with suppress(RuntimeError):  # the loop has ended, and the association with it
                self._loop.call_soon_threadsafe(self._requestor._let_go, self._flow)


async def _awaited(answer: object) -> object:
    return await answer if isawaitable(answer) else answer


async def _connect(driver: Driver, entity: Entity, timeout: float | None) -> None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            await loop.create_connection(lambda: driver.transport, entity.host, entity.port)
    except TimeoutError as error:
        if timeout is None or error.errno is not None:
            raise ConnectionFailed("cannot connect: timed out", peer=str(entity), errno=error.errno) from error
        raise DeadlineExceeded(timeout="connect", seconds=timeout, peer=str(entity)) from error
    except OSError as error:
        raise cannot_connect(error, str(entity)) from error
