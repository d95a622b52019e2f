"""Drives an `Exchange` over a `Transport`: the whole of the blocking I/O, for both roles."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from time import monotonic
from typing import Any, TypeVar

from ..errors import ConnectionFailed, DeadlineExceeded, DicomNetError
from ..events import Event
from ..exchange import POLL, Buffer, Call, Exchange
from .transport import Transport

__all__ = ["Driver"]

T = TypeVar("T")


class Driver:
    """Reads, writes and waits for one association; owns the transport."""

    def __init__(self, exchange: Exchange, transport: Transport) -> None:
        self.exchange = exchange
        self.transport = transport
        self._events: deque[Event] = deque()
        exchange.tick(monotonic())

    def secure(self) -> None:
        """Do the handshake of the transport; where it fails, the connection is closed.

        Raises:
            TLSFailed, DeadlineExceeded: there is no secure connection.
        """
        try:
            self.exchange.tls = self.transport.handshake(self.exchange.timeouts.tls)
        except BaseException as error:
            self._name_peer(error)
            self.close()
            raise

    def _name_peer(self, error: BaseException | None) -> None:
        if isinstance(error, DicomNetError):
            error.peer = error.peer or self.exchange.peer

    def complete(self, flow: Generator[Any, Any, T]) -> T:
        """Run a flow to its end, whatever it yields on the way; its return value."""
        results = self.results(flow)
        try:
            while True:
                next(results)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def results(self, flow: Generator[Any, Any, T]) -> Generator[Any, None, T]:
        """Run a flow and pass on its results; leaving the loop closes the flow, and sends what it says then."""
        self.exchange.restart(monotonic())
        try:
            item = flow.send(None)
            while True:
                if item is None:
                    item = flow.send(self._next_event())
                elif type(item) is Call or item is POLL:
                    item = self._advance(flow, item)
                else:
                    yield item
                    item = flow.send(None)
        except StopIteration as stop:
            self.flush()  # its last word may be a response
            value: T = stop.value
            return value
        except GeneratorExit:
            flow.close()
            self.flush()
            raise
        finally:
            flow.close()

    def serve(self, flow: Generator[Any, Any, None]) -> None:
        """Run a provider's flow until the association is over; then tell it so, and let it clean up.

        Raises:
            ConnectionFailed: the association was over while the flow was in the middle of something.
        """
        try:
            item = flow.send(None)
            while True:
                if type(item) is Call:
                    item = self._advance(flow, item)
                elif self._events:
                    item = flow.send(self._events.popleft())
                elif self.exchange.closed:
                    item = flow.throw(ConnectionFailed("the association is over", peer=self.exchange.peer))
                elif item is POLL:
                    item = flow.send(self._poll())
                else:
                    self.pump()
        except StopIteration:
            return

    def _advance(self, flow: Generator[Any, Any, Any], item: Any) -> Any:
        """Do what a flow asks for beside events: look for one without waiting, or call something."""
        if item is POLL:
            return flow.send(self._poll())
        try:
            answer = item.function(*item.arguments)
        except Exception as error:
            self.exchange.restart(monotonic())
            return flow.throw(error)
        self.exchange.restart(monotonic())
        return flow.send(answer)

    def _poll(self) -> Event | None:
        """Write everything; the next event if it has arrived."""
        self.flush()
        if not self._events and not self.exchange.closed and self._take():
            self._events.extend(self.exchange.events())
        return self._events.popleft() if self._events else None

    def _next_event(self) -> Event:
        while not self._events:
            if self.exchange.closed:
                raise ConnectionFailed("the association is over", peer=self.exchange.peer)
            self.pump()
        return self._events.popleft()

    def pump(self) -> None:
        """Write what is to be written, then wait once for the peer or for a timer, and take what came."""
        exchange = self.exchange
        self.flush()
        if not self._events and not exchange.closed:
            self._read()
            self._events.extend(exchange.events())

    def flush(self) -> None:
        """Write everything, reading when the peer has something to say meanwhile."""
        exchange = self.exchange
        while buffers := exchange.outgoing():
            self._send(buffers)
            if exchange.sending:
                self._take()  # the peer may have refused already
                self._events.extend(exchange.events())
        self._events.extend(exchange.events())

    def _send(self, buffers: list[Buffer]) -> None:
        while buffers:
            try:
                sent = self.transport.send(buffers)
            except ConnectionFailed as error:
                self._name_peer(error)
                raise
            if sent:
                self.exchange.restart(monotonic())
                buffers = unsent(buffers, sent)
            if buffers:
                self._wait_for_room()

    def _wait_for_room(self) -> None:
        """The peer does not take more for now; if that lasts, it is dead or stuck."""
        seconds = self.exchange.timeouts.write
        start = monotonic()
        readable = self.transport.wait(seconds, write=True)
        self.exchange.tick(monotonic())
        if readable:
            self._take()
            self._events.extend(self.exchange.events())
        elif seconds is not None and monotonic() - start >= seconds:
            raise DeadlineExceeded(timeout="write", seconds=seconds, peer=self.exchange.peer)

    def _read(self) -> None:
        exchange = self.exchange
        if exchange.receiving and self._take():
            return  # in the middle of a message the rest is usually there already
        if exchange.receiving:
            self.transport.acknowledge()
        else:
            self.transport.rest()
        deadline = exchange.deadline
        readable = self.transport.wait(None if deadline is None else max(deadline - monotonic(), 0.0))
        exchange.tick(monotonic())
        if readable:
            self._take()

    def _take(self) -> bool:
        received = self.transport.receive()
        if received is None:
            return False
        if received:
            self.exchange.receive(received)
        else:
            self._name_peer(self.transport.failure)
            self.exchange.failure = self.transport.failure
            self.exchange.receive_eof()
        return True

    def finish(self) -> None:
        """After the last event: let an A-ABORT or A-ASSOCIATE-RJ reach the peer, then close (PS3.8 Section 9.1.4)."""
        try:
            self.flush()
            if not self.exchange.closed:
                self.transport.shutdown()
            while not self.exchange.closed:
                self._read()
                self.exchange.outgoing()
        except (ConnectionFailed, DeadlineExceeded):
            pass  # it is closed now, and that was all that was wanted
        finally:
            self.close()

    def abandon(self) -> None:
        """Close without waiting for the peer, but say what there is to say: an A-ABORT, after what the peer did."""
        try:
            self.flush()
        except (ConnectionFailed, DeadlineExceeded):
            pass  # there is nobody to hear it
        finally:
            self.close()

    def close(self) -> None:
        """Close the transport, whatever is on its way."""
        self.exchange.receive_eof()
        self.transport.close()


def unsent(buffers: list[Buffer], sent: int) -> list[Buffer]:
    """What is left of ``buffers`` after the first ``sent`` bytes."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[index + 1 :]] if sent else buffers[index:]
        sent -= len(buffer)
    return []
