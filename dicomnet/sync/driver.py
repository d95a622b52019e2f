"""Drives an `Exchange` over a `Transport`: the whole of the blocking I/O, for both roles."""

from __future__ import annotations

from _thread import allocate_lock  # what threading calls Lock, without loading the rest
from collections import deque
from collections.abc import Generator
from time import monotonic

from .. import scu
from .._typing import Any, TypeVar
from ..errors import AssociationAborted, ConnectionFailed, DeadlineExceeded, DicomNetError, LocalProtocolError
from ..events import Event, forsake
from ..exchange import POLL, Buffer, Call, Exchange
from .transport import Transport

__all__ = ["FAREWELL", "Driver", "unsent"]

T = TypeVar("T")

_SLICE = 0.002  # seconds that a response may wait for the next one, to leave together
_GLANCES = 16  # reads of one look at what came: it is not to wait, not even for a peer that never stops talking
inf = float("inf")  # math would be loaded for nothing else
FAREWELL = 1.0  # seconds for the peer to close after our A-ABORT: it was told, and nobody wants to wait for it


class Driver:
    """Reads, writes and waits for one association; owns the transport."""

    def __init__(self, exchange: Exchange, transport: Transport) -> None:
        self.exchange = exchange
        self.transport = transport
        self._events: deque[Event] = deque()
        self._at_work = allocate_lock()  # held but while the thread of the association rests
        self._at_work.acquire()
        self._cancelling = False
        self._unsent: list[Buffer] = []  # what another thread could not send of a C-CANCEL
        self._interrupted = False
        self._flushed = 0.0  # when everything was written
        self._unread: Generator[Any, Any, Any] | None = None  # whose results are still to come
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
        self.exchange.restart(monotonic())
        self._cancelling = False
        try:
            item = flow.send(None)
            while True:
                item = self._go_on(flow, item)
        except StopIteration as stop:
            self.flush()  # its last word may be a response
            value: T = stop.value
            return value
        finally:
            flow.close()

    def require_turn(self, flow: Generator[Any, Any, Any]) -> None:
        """Raise where another flow stands between its results: what comes next is for that one."""
        if self._unread not in (None, flow):
            raise LocalProtocolError(
                "the results of another call are still to come",
                peer=self.exchange.peer,
                hint="Take all of them first, or leave the loop over them.",
            )

    def results(self, flow: Generator[Any, Any, T], *, streaming: bool = False) -> Generator[Any, None, T]:
        """Run a flow and pass on its results; leaving the loop closes the flow, and sends what it says then.

        ``streaming``: between its results more of them arrive, and what arrives is for this flow.
        """
        self.exchange.restart(monotonic())
        self._cancelling = False
        try:
            item = flow.send(None)
            while True:
                if item is not None and item is not POLL and type(item) is not Call:
                    if streaming:
                        self._unread = flow
                    yield item
                    self.require_turn(flow)
                item = self._go_on(flow, item)
        except StopIteration as stop:
            self.flush()  # its last word may be a response
            value: T = stop.value
            return value
        except GeneratorExit:
            flow.close()
            self.flush()
            raise
        finally:
            if self._unread is flow:
                self._unread = None
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
                    item = self._call(flow, item)
                elif self._events:
                    self._flush_in_time()
                    item = flow.send(self._events.popleft())
                elif self.exchange.closed:
                    item = flow.throw(self._over())
                elif item is POLL:
                    item = flow.send(self._poll())
                else:
                    self.pump()
        except StopIteration:
            return

    def _go_on(self, flow: Generator[Any, Any, Any], item: Any) -> Any:
        """Do what a flow has asked for, and let it go on; what it asks for then."""
        if type(item) is Call:
            return self._call(flow, item)
        if item is not None and item is not POLL:
            return flow.send(None)  # it was a result
        try:
            if item is None:
                # The flow may have taken its time, to read the next file or for the user: that was no silence.
                self.exchange.restart(monotonic())
                event: Event | None = self._next_event()
            else:
                event = self._poll()
        except DicomNetError as error:
            return flow.throw(error)
        return flow.send(event)

    def _call(self, flow: Generator[Any, Any, Any], item: Call) -> Any:
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
        if self._cancelling:
            self._cancel()
        while not self._events:
            if self.exchange.closed:
                raise self._over()
            self.pump()
        return self._events.popleft()

    def _over(self) -> DicomNetError:
        if self._interrupted and self.exchange.failure is not None:
            return self.exchange.failure
        return ConnectionFailed("the association is over", peer=self.exchange.peer)

    def pump(self) -> None:
        """Write what is to be written, then wait once for the peer or for a timer, and take what came."""
        exchange = self.exchange
        if self._cancelling:
            self._cancel()
        self.flush()
        if not self._events and not exchange.closed:
            self._read()
            self._events.extend(exchange.events())

    def flush(self) -> None:
        """Write everything, reading when the peer has something to say meanwhile."""
        exchange = self.exchange
        if self._unsent:
            rest, self._unsent = self._unsent, []
            self._send(rest)
        while buffers := exchange.outgoing():
            self._send(buffers)
            if not exchange.sending:
                break
            if not self._events and self._take():
                self._events.extend(exchange.events())  # a refusal, perhaps, which ends the message early
        if events := exchange.events():
            self._events.extend(events)
        self._flushed = monotonic()

    def _flush_in_time(self) -> None:
        """Requests that came together are answered together, unless their handlers take their time."""
        if self.exchange.sending and monotonic() >= self._flushed + _SLICE:
            self.flush()

    def _send(self, buffers: list[Buffer]) -> None:
        since = monotonic()
        while buffers and not self.exchange.closed:
            try:
                sent = self.transport.send(buffers)
            except ConnectionFailed:
                self._hear_out()
                return
            if sent:
                since = monotonic()
                self.exchange.restart(since)
                buffers = unsent(buffers, sent)
            if buffers:
                self._wait_for_room(since)

    def _hear_out(self) -> None:
        """Nothing can be sent any more; what the peer said before it left says why."""
        while not self.exchange.closed and self._take():
            pass
        self._end()

    def _end(self) -> None:
        failure = self.transport.failure
        if self._interrupted:
            failure = AssociationAborted(0, 0, by_peer=False)
            self.leave()
        self._name_peer(failure)
        self.exchange.failure = failure
        self.exchange.receive_eof()

    def interrupt(self) -> None:
        """Abort from any thread: whoever waits on the association wakes up, says so to the peer, and is told."""
        self._interrupted = True
        self.transport.hush()

    def cancel(self) -> None:
        """Ask the peer to end what is under way, from any thread; a call that waits goes on to the last response."""
        self._cancelling = True
        if self._at_work.acquire(blocking=False):  # else whoever works on the association will see
            try:
                self._cancel()
                buffers = self.exchange.outgoing()
                self._unsent = unsent(buffers, self.transport.send(buffers)) if buffers else []
            except ConnectionFailed:
                pass  # whoever waits is told
            finally:
                self._at_work.release()

    def _cancel(self) -> None:
        self._cancelling = False
        scu.cancel(self.exchange)

    def _rest(self, timeout: float | None) -> bool:
        """Wait for the peer; meanwhile other threads may cancel. Whether there is something to read."""
        self._at_work.release()
        try:
            return not self._cancelling and self.transport.wait(timeout)
        finally:
            self._at_work.acquire()

    def look(self) -> bool:
        """Take what came while nobody waited for anything, without waiting; whether the association goes on."""
        try:
            self.settle()
            for _ in range(_GLANCES):
                if self.exchange.closed or self._events or not self._take():
                    break
                self._events.extend(self.exchange.events())
                self.settle()
            self.flush()
        except DicomNetError:
            pass  # it does not go on
        return self.exchange.established

    def _wait_for_room(self, since: float) -> None:
        """The peer does not take more for now; if that lasts, it is dead or stuck.

        What it says meanwhile is heard, but no more than that: it could say as much as it does not read.
        """
        seconds = self.exchange.timeouts.write
        left = None if seconds is None else max(since + seconds - monotonic(), 0.0)
        readable = self.transport.wait(left, read=not self._events, write=True)
        now = monotonic()
        self.exchange.tick(now)
        if readable:
            self._take()
            self._events.extend(self.exchange.events())
        elif seconds is not None and now >= since + seconds:
            self.exchange.receive_eof()
            raise DeadlineExceeded(timeout="write", seconds=seconds, peer=self.exchange.peer)

    def _read(self, end: float = inf) -> None:
        """Wait once for the peer or for a timer, at most until ``end``."""
        exchange = self.exchange
        if exchange.receiving and self._take():
            return  # in the middle of a message the rest is usually there already
        if exchange.receiving:
            self.transport.acknowledge()
        else:
            self.transport.rest()
        deadline = exchange.deadline
        end = end if deadline is None else min(end, deadline)
        readable = self._rest(None if end == inf else max(end - monotonic(), 0.0))
        exchange.tick(monotonic())
        if readable:
            self._take()

    def _take(self) -> bool:
        if self._interrupted:
            self._end()
            return True
        received = self.transport.receive()
        if received is None:
            return False
        if received:
            self.exchange.receive(received)
            if self.exchange.streaming:
                self.transport.grow()
        else:
            self._end()
        return True

    def settle(self) -> None:
        """Heed what happened while nobody waited for anything; the end of the association raises."""
        while self._events:
            self.exchange.set_aside(self._events.popleft())

    def leave(self) -> None:
        """Nothing follows: say what is to be said, and that it was all. The peer closes, or we do later.

        It is a few bytes, such as an A-ABORT; where there is no room for them, nobody reads them either.
        """
        try:
            self.exchange.abort()
        except LocalProtocolError:
            pass  # there is no association yet, or none any more
        try:
            if buffers := self.exchange.outgoing():
                self.transport.send(buffers)
        except ConnectionFailed:
            pass
        if not self.exchange.closed:
            self.transport.shutdown()

    def finish(self, patience: float = inf) -> None:
        """`leave`, give the peer so many seconds to close, then close (PS3.8 Section 9.1.4)."""
        self.leave()
        end = monotonic() + patience
        while not self.exchange.closed and monotonic() < end:
            self._read(end)
            self.exchange.outgoing()
        self.close()

    def close(self) -> None:
        """Close the transport, whatever is on its way."""
        if not self.exchange.closed:
            self.leave()
        self.exchange.receive_eof()
        self.transport.close()
        forsake(self._events, self.exchange.deferred, self.exchange.events())


def unsent(buffers: list[Buffer], sent: int) -> list[Buffer]:
    """What is left of ``buffers`` after the first ``sent`` bytes."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[index + 1 :]] if sent else buffers[index:]
        sent -= len(buffer)
    return []
