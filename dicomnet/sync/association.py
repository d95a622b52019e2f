"""Blocking associations as a requestor: `connect` gives one, its methods are the services."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from time import monotonic
from types import TracebackType
from typing import Any

from .. import scu
from ..config import Entity, Limits, Timeouts
from ..datasets import open_source
from ..errors import ConnectionFailed, DeadlineExceeded, LocalProtocolError, NoAcceptedContext
from ..exchange import Exchange
from ..negotiation import PresentationContext, ProposedContext
from ..scu import StoreResult
from ..status import Status
from .driver import Driver
from .transport import Transport

__all__ = ["Association", "connect"]


def connect(
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
    transport = Transport(_open_socket(entity, timeouts.connect), limits)
    return Association(Driver(exchange, transport))


def _open_socket(entity: Entity, timeout: float | None) -> socket.socket:
    try:
        return socket.create_connection((entity.host, entity.port), timeout)
    except TimeoutError as error:
        if timeout is None:
            raise ConnectionFailed("cannot connect: timed out", peer=str(entity), errno=error.errno) from error
        raise DeadlineExceeded(timeout="connect", seconds=timeout, peer=str(entity)) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConnectionFailed(f"cannot connect: {reason}", peer=str(entity), errno=error.errno) from error


class Association:
    """An established association; made by `connect`.

    As a context manager it is released at the end of the block, and aborted if the block ends in an exception.

    Attributes:
        contexts: the negotiated presentation contexts by ID, refused ones too.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._exchange = driver.exchange
        try:
            driver.complete(scu.associate(self._exchange))
            self._require_a_context()
        except BaseException:
            driver.close()
            raise

    def _require_a_context(self) -> None:
        contexts = self._exchange.contexts.values()
        if any(context.accepted for context in contexts):
            return
        self.release()
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

    def echo(self) -> Status:
        """C-ECHO: the peer's answer (PS3.7 Section 9.1.5).

        Raises:
            NoAcceptedContext: verification was not proposed, or not accepted.
            AssociationError, ConnectionFailed, DeadlineExceeded: anything but an answer.
        """
        return self._complete(scu.echo(self._exchange))

    def store(self, source: Any, **options: Any) -> StoreResult:
        """C-STORE of one instance; see `store_many`. What keeps it from being sent is raised."""
        result = next(iter(self.store_many([source], **options)))
        if result.error is not None:
            raise result.error
        return result

    def store_many(self, sources: Iterable[Any], **options: Any) -> Iterator[StoreResult]:
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
        try:
            yield from self._driver.results(flow)
        except BaseException:
            self._after_failure()
            raise

    def release(self) -> None:
        """Release the association and close the connection; does nothing where it is over already."""
        if not self._exchange.established:
            self._driver.close()
            return
        try:
            self._driver.complete(scu.release(self._exchange))
        finally:
            self._driver.close()

    def abort(self) -> None:
        """Abort the association and close the connection."""
        if self._exchange.established:
            self._exchange.abort()
            self._driver.finish()
        else:
            self._driver.close()

    def __enter__(self) -> Association:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()

    def _complete(self, flow: Any) -> Any:
        if not self._exchange.established:
            flow.close()
            raise LocalProtocolError("the association is over", peer=self._exchange.peer)
        try:
            return self._driver.complete(flow)
        except BaseException:
            self._after_failure()
            raise

    def _after_failure(self) -> None:
        """A service ended in an exception: where the association ended with it, the connection goes, too."""
        if not self._exchange.established:
            self._driver.finish()
