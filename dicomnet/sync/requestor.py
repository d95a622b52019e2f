"""The calls of a blocking association that we asked for: whose turn it is, and whose results come.

`aio.requestor` has the same names for asyncio; `association` is written once over both.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, TypeVar

from ..config import FAREWELL, Entity
from ..errors import ConnectionFailed, DeadlineExceeded, cannot_connect
from ..net.tls import TLS
from ..protocol.exchange import Exchange, Flow
from ..services import scu
from ..services.scu import RetrieveProgress
from .driver import Driver
from .secure import open_transport

__all__ = ["Requestor", "Results", "open_requestor"]

T = TypeVar("T")


def open_requestor(exchange: Exchange, entity: Entity, tls: TLS | None) -> Requestor:
    """Connect, secure the connection, and associate.

    Args:
        exchange: its A-ASSOCIATE-RQ waits to be sent.
        entity: where to connect to.
        tls: None for a plain connection.

    Raises:
        ConnectionFailed, TLSFailed, DeadlineExceeded: there is no connection.
        AssociationRejected, AssociationAborted: there is no association.
    """
    sock = _open_socket(entity, exchange.timeouts.connect)
    driver = Driver(exchange, open_transport(sock, exchange.limits, exchange.timeouts, tls, entity.host))
    try:
        driver.secure()
        driver.complete(scu.associate(exchange))
    except BaseException:
        driver.close()
        raise
    return Requestor(driver)


class Requestor:
    """Runs the calls of one association, one at a time; other threads wait for their turn.

    Between the results of a call that streams there is no other: what comes is for that one.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._exchange = driver.exchange
        self._turn = threading.RLock()

    def complete(self, flow: Flow[T]) -> T:
        """Run a flow to its end; what it returns."""
        with self._turn:
            try:
                self._require_association()
                self.driver.require_turn(flow)
                return self.driver.complete(flow)
            except BaseException:
                self._after_failure()
                raise

    def retrieve(self, flow: Flow[T], progress: Callable[[RetrieveProgress], object] | None) -> T:
        """Run a flow to its end, and tell ``progress`` of what it yields."""
        with self._turn:
            results = self._run(flow, True)
            try:
                while True:
                    step = next(results)
                    if progress is not None:
                        progress(step)
            except StopIteration as stop:
                done: T = stop.value
                return done
            finally:
                results.close()

    def results(self, flow: Flow[Any]) -> Results[Any]:
        """The results of a flow, of which more arrive while the caller looks at one: meanwhile there is no other."""
        return Results(self, self._run(flow, True))

    def stored(self, flow: Flow[Any]) -> Results[Any]:
        """The results of C-STOREs; what is answered while another call waits is kept with its request."""
        return Results(self, self._run(flow, False))

    def _run(self, flow: Flow[T], streaming: bool) -> Flow[T]:
        try:
            self._require_association()
            self.driver.require_turn(flow)
            return (yield from self.driver.results(flow, streaming=streaming))
        except GeneratorExit:
            raise  # the caller left the loop: the association goes on
        except BaseException:
            self._after_failure()
            raise

    def _require_association(self) -> None:
        if not self._exchange.established:
            self.driver.settle()
        self._exchange.require_association()

    def _after_failure(self) -> None:
        """A call ended in an exception: where the association ended with it, the peer is told and not waited for."""
        if not self._exchange.established:
            self.driver.leave()

    def release(self) -> None:
        """Release the association, where it is not over, and close the connection."""
        with self._turn:
            try:
                if self._exchange.established:
                    self.driver.complete(scu.release(self._exchange))
            finally:
                self.driver.close()

    def abort(self) -> None:
        """Abort the association and close the connection; a call under way in another thread raises."""
        if not self._turn.acquire(blocking=False):
            self.driver.interrupt()
            # The other thread wakes up, is told, and tells the peer. One that is in a handler closes when that is done.
            if not self._turn.acquire(timeout=FAREWELL):
                return
        try:
            if self._exchange.established:
                self.driver.finish(FAREWELL)
            else:
                self.driver.close()
        finally:
            self._turn.release()

    def interrupt(self) -> None:
        """Abort the association without waiting; a call under way in another thread raises."""
        self.driver.interrupt()

    def cancel(self) -> None:
        """Send a C-CANCEL for what is under way."""
        self.driver.cancel()

    def heard(self) -> None:
        """What is waited for goes on elsewhere, from any thread: the time-out of a response begins anew."""
        self._exchange.restart(monotonic())

    def check(self) -> bool:
        """Whether the association goes on, after a look at what the peer has said meanwhile."""
        with self._turn:
            return self.driver.look()


class Results(Iterator[T]):
    """Results as they come; letting go of them, by `close` or by leaving the loop, cancels what is left."""

    __slots__ = ("_requestor", "_results")

    def __init__(self, requestor: Requestor, results: Flow[Any]) -> None:
        self._requestor = requestor
        self._results = results

    def __next__(self) -> T:
        with self._requestor._turn:
            value: T = next(self._results)
            return value

    def close(self) -> None:
        """Want no more results."""
        with self._requestor._turn:
            self._results.close()


def _open_socket(entity: Entity, timeout: float | None) -> socket.socket:
    try:
        return socket.create_connection((entity.host, entity.port), timeout, all_errors=True)
    except ExceptionGroup as group:  # of the addresses of a host, the first is what it is meant to be reached at
        error = group.exceptions[0]
    except OSError as unknown:
        error = unknown
    if isinstance(error, TimeoutError) and timeout is not None:
        raise DeadlineExceeded(timeout="connect", seconds=timeout, peer=str(entity)) from error
    if isinstance(error, TimeoutError):
        raise ConnectionFailed("cannot connect: timed out", peer=str(entity), errno=error.errno) from error
    assert isinstance(error, OSError)
    raise cannot_connect(error, str(entity)) from error
