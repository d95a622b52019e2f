"""Asynchronous associations as a requestor: `connect` gives one, its methods are the services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Iterable, Sequence
from time import monotonic
from types import TracebackType
from typing import Any

from .. import scu
from ..config import Entity, Limits, Timeouts
from ..datasets import open_source
from ..errors import ConnectionFailed, DeadlineExceeded, LocalProtocolError, NoAcceptedContext
from ..events import Event
from ..exchange import Exchange
from ..negotiation import PresentationContext, ProposedContext
from ..scu import StoreResult
from ..status import Status
from .driver import Driver
from .transport import Transport

__all__ = ["Association", "connect"]


async def connect(
    peer: str | Entity,
    *,
    calling: str = "DICOMNET",
    contexts: Sequence[ProposedContext],
    limits: Limits | None = None,
    timeouts: Timeouts | None = None,
) -> Association:
    """Connect to a peer and associate with it.

    Args:
        peer: ``AET@host:port``, ``host:port`` or an `Entity`.
        calling: our own AE title.
        contexts: what to propose; see ``dicomnet.contexts``.
        limits: bounds of what the peer may send; ``max_pdu`` is announced.
        timeouts: in seconds, each by name.

    Raises:
        ConnectionFailed: nobody is there.
        AssociationRejected, AssociationAborted: the peer does not want to.
        NoAcceptedContext: the peer accepted the association but none of its contexts.
        DeadlineExceeded: the peer is silent.
    """
    entity = Entity.parse(peer) if isinstance(peer, str) else peer
    timeouts = timeouts or Timeouts()
    limits = limits or Limits()
    exchange = Exchange.requestor(
        calling=calling, called=entity.ae_title, contexts=contexts, limits=limits, timeouts=timeouts
    )
    exchange.peer = str(entity)
    association = Association(Driver(exchange, Transport(limits)))
    await association._open(entity, timeouts.connect)
    return association


class Association:
    """An established association; made by `connect`.

    As a context manager it is released at the end of the block, and aborted if the block ends in an exception. Calls
    of several tasks take turns. A call that is cancelled while its message is on the way takes the association with
    it; files are read in the thread of the event loop.

    Attributes:
        contexts: the negotiated presentation contexts by ID, refused ones too.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._exchange = driver.exchange
        self._turns = asyncio.Lock()

    async def _open(self, entity: Entity, timeout: float | None) -> None:
        await _connect(self._driver, entity, timeout)
        try:
            await self._driver.complete(scu.associate(self._exchange))
            await self._require_a_context()
        except BaseException:
            await self._driver.close()
            raise

    async def _require_a_context(self) -> None:
        contexts = self._exchange.contexts.values()
        if any(context.accepted for context in contexts):
            return
        await self.release()
        refused = next(iter(contexts))
        raise NoAcceptedContext(
            abstract_syntax=refused.abstract_syntax, transfer_syntaxes=refused.offered, peer=self._exchange.peer
        )

    @property
    def contexts(self) -> dict[int, PresentationContext]:
        """The negotiated presentation contexts by ID, refused ones too."""
        return self._exchange.contexts

    @property
    def established(self) -> bool:
        """Whether services can be asked for."""
        return self._exchange.established

    async def echo(self) -> Status:
        """C-ECHO: the peer's answer (PS3.7 Section 9.1.5).

        Raises:
            NoAcceptedContext: verification was not proposed, or not accepted.
            AssociationError, ConnectionFailed, DeadlineExceeded: anything but an answer.
        """
        async with self._turns:
            self._require_an_association()
            try:
                return await self._driver.complete(scu.echo(self._exchange))
            except BaseException:
                await self._after_failure()
                raise

    async def store(self, source: Any, **options: Any) -> StoreResult:
        """C-STORE of one instance; see `store_many`. What keeps it from being sent is raised."""
        result = await anext(self.store_many([source], **options))
        if result.error is not None:
            raise result.error
        return result

    def store_many(self, sources: Iterable[Any], **options: Any) -> AsyncIterator[StoreResult]:
        """C-STORE of many instances, a result for each as it comes (PS3.7 Section 9.1.1).

        An instance that cannot be read, or for which there is no context, becomes a result with its ``error``; the
        next one is tried all the same.

        Args:
            sources: paths, open binary files, Part 10 bytes, pydicom data sets, or `sources.Source` objects.
            options: ``transfer_syntax`` for data sets that do not know theirs.

        Raises:
            AssociationError, ConnectionFailed, DeadlineExceeded, RemoteProtocolError: the association ended.
        """
        buffer = bytearray(self._exchange.limits.file_buffer)
        flow = scu.store_many(
            self._exchange, sources, lambda given: open_source(given, buffer=buffer, **options), monotonic
        )
        return _Results(self, flow)

    async def _next_result(self, flow: Generator[StoreResult | None, Event, None]) -> StoreResult | None:
        async with self._turns:
            try:
                self._require_an_association()
                return await self._driver.result(flow)
            except BaseException:
                flow.close()
                await self._after_failure()
                raise

    async def release(self) -> None:
        """Release the association and close the connection; does nothing where it is over already."""
        async with self._turns:
            try:
                if self._exchange.established:
                    await self._driver.complete(scu.release(self._exchange))
            finally:
                await self._driver.close()

    async def abort(self) -> None:
        """Abort the association and close the connection."""
        if self._exchange.established:
            self._driver.abort()
            await self._driver.finish()
        else:
            await self._driver.close()

    async def __aenter__(self) -> Association:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if kind is None:
            await self.release()
        else:
            await self.abort()

    def _require_an_association(self) -> None:
        if not self._exchange.established:
            raise self._driver.take_failure() or LocalProtocolError("the association is over", peer=self._exchange.peer)

    async def _after_failure(self) -> None:
        """A service ended in an exception: where the association ended with it, the connection goes, too."""
        if not self._exchange.established:
            await self._driver.finish()


class _Results(AsyncIterator[StoreResult]):
    """The results of a flow; what is not asked for any more is not sent."""

    def __init__(self, association: Association, flow: Generator[StoreResult | None, Event, None]) -> None:
        self._association = association
        self._flow = flow

    async def __anext__(self) -> StoreResult:
        result = await self._association._next_result(self._flow)
        if result is None:
            raise StopAsyncIteration
        return result

    async def aclose(self) -> None:
        """End the flow before its last result; so does letting go of the iterator."""
        self._flow.close()


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
        reason = error.strerror or str(error)
        raise ConnectionFailed(f"cannot connect: {reason}", peer=str(entity), errno=error.errno) from error
