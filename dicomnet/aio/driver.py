"""Drives an `Exchange` over a `Transport`: the whole of the asyncio I/O, by callbacks.

Nothing runs while nothing happens: an idle association has no task, no buffer and one timer. Whatever happens leads to
`Driver.turn`: take the events, write what there is to write, let the flow go on, and see how long to wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from inspect import isawaitable
from typing import Any, TypeVar

from ..config import FAREWELL
from ..errors import AssociationAborted, ConnectionFailed, DeadlineExceeded, DicomNetError
from ..protocol.events import Event, discard_requests
from ..protocol.exchange import POLL, Call, Exchange
from .transport import Transport

__all__ = ["BaseDriver", "Driver"]

T = TypeVar("T")

_PORTION = 1 << 20  # bytes that a message may send before other connections of the loop get their turn
_MOST_EVENTS = 8  # events that wait for a user who does not ask for them; past it nothing more is read


class BaseDriver:
    """What both roles share: reading, writing and the clock of one association."""

    def __init__(self, exchange: Exchange, transport: Transport) -> None:
        self.exchange = exchange
        self.transport = transport
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when the timer rings
        self._stuck_since: float | None = None  # when the peer stopped taking what we send
        self._again = False  # whether a turn is scheduled
        transport.owner = self
        exchange.tick(self._loop.time())

    # ---- what the connection says ------------------------------------------------------------------------------

    def connected(self) -> None:
        """The connection stands."""
        self.exchange.tls = self.transport.link
        self.turn()

    def received(self, data: memoryview) -> None:
        """Bytes arrived."""
        exchange = self.exchange
        if exchange.closed:
            return
        if exchange.established:
            # What arrived counts before a timer that ran out while the loop was busy elsewhere.
            exchange.restart(self._loop.time(), True)
        else:
            exchange.tick(self._loop.time())
        exchange.receive(data)
        if exchange.receiving:
            self.transport.acknowledge()
        self.turn()

    def writable(self) -> None:
        """What was sent is out: the peer is alive, and there is room for more."""
        self._stuck_since = None
        self.exchange.restart(self._loop.time())
        self.turn()

    def disconnected(self) -> None:
        """The connection ended."""
        failure = self.exchange.failure = self.transport.failure
        if failure is not None:
            failure.peer = failure.peer or self.exchange.peer or self.transport.peer_address
        self.exchange.receive_eof()
        self.turn()

    # ---- one turn ----------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Take what happened, do all that can be done now, and see what to wait for."""
        self._events.extend(self.exchange.events())
        self._work()
        if self.exchange.closed:
            self.transport.close()
            self._stop_timer()
        else:
            self.transport.read(not self._saturated())
            self._set_timer()

    def _work(self) -> None:
        """Write, and let the flow go on; what each role does differently."""
        raise NotImplementedError

    def _saturated(self) -> bool:
        """Whether enough has arrived for now."""
        raise NotImplementedError

    def _failed(self, error: Exception) -> None:
        """The association cannot go on."""
        raise NotImplementedError

    def _flush(self) -> bool:
        """Write what there is to write; True where all of it is out, else a turn follows when there is room."""
        if not self.transport.push():
            return self._stuck()
        left = _PORTION
        while buffers := self.exchange.outgoing():
            if not self.transport.send(buffers):
                return self._stuck()
            self.exchange.restart(self._loop.time())  # what leaves ends the silence, too
            left -= sum(map(len, buffers))
            if left <= 0 and self.exchange.sending:
                self._schedule_turn()
                return False
        return True

    def _stuck(self) -> bool:
        if self._stuck_since is None:
            self._stuck_since = self._loop.time()
        return False

    def _schedule_turn(self) -> None:
        if not self._again:
            self._again = True
            self._loop.call_soon(self._scheduled_turn)

    def _scheduled_turn(self) -> None:
        self._again = False
        self.turn()

    # ---- the clock ---------------------------------------------------------------------------------------------

    def _deadline(self) -> float | None:
        deadline = self.exchange.deadline
        write = self.exchange.timeouts.write
        if self._stuck_since is None or write is None:
            return deadline
        return self._stuck_since + write if deadline is None else min(self._stuck_since + write, deadline)

    def _set_timer(self) -> None:
        """Wake up in time. A timer that rings too early is left alone: then a busy association does not set any."""
        deadline = self._deadline()
        if deadline is None or (self._timer is not None and self._due <= deadline):
            return
        self._stop_timer()
        self._due = deadline
        self._timer = self._loop.call_at(deadline, self._ring)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        deadline = self._deadline()
        if deadline is not None and now >= deadline:
            self._expire(now)
        self.turn()

    def _expire(self, now: float) -> None:
        write = self.exchange.timeouts.write
        if self._stuck_since is not None and write is not None and now >= self._stuck_since + write:
            self._failed(DeadlineExceeded(timeout="write", seconds=write, peer=self.exchange.peer))
            self.exchange.receive_eof()
        else:
            self.exchange.tick(now)


class Driver(BaseDriver):
    """A requestor's association: its flows run in the task that calls, one at a time."""

    def __init__(self, exchange: Exchange, transport: Transport) -> None:
        super().__init__(exchange, transport)
        self.failure: Exception | None = None
        self.between: bool = False  # whether a flow stands between two of its results, with more to come
        self._running = True  # from the start: the first flow is about to come
        self._polling = False
        self._written = False
        self._leaving = False
        self._closing = False
        self._waiter: asyncio.Future[None] | None = None
        self._lost: asyncio.Future[None] | None = None

    async def complete(self, flow: Generator[Any, Any, T]) -> T:
        """Run a flow to its end, whatever it yields on the way; its return value."""
        while True:
            over, item = await self.advance(flow)
            if over:
                value: T = item
                return value

    async def advance(self, flow: Generator[Any, Any, Any], *, streaming: bool = False) -> tuple[bool, Any]:
        """Run a flow to its next result, (False, result), or to its end, (True, return value).

        ``streaming``: between its results more of them arrive, and what arrives is for this flow.
        Where it fails it is closed, and the association with it, unless all that was said is complete.
        """
        self._running, self.between = True, False
        self.exchange.restart(self._loop.time())
        try:
            go, value = flow.send, None
            while True:
                item = go(value)
                if item is None or item is POLL or type(item) is Call:
                    go, value = await self._answer(flow, item)
                else:
                    self.between = streaming
                    return False, item
        except StopIteration as stop:
            return True, stop.value
        except BaseException:
            self._abandon(flow)
            raise
        finally:
            self._running = False
            if self._events or self.exchange.sending or not self.exchange.established:
                self.turn()  # what no caller waits for any more, and what was said last

    def close_flow(self, flow: Generator[Any, Any, Any]) -> None:
        """End a flow between its results, and send what it says then; ``between`` is for callers that know it."""
        flow.close()
        self.turn()

    def raise_failure(self) -> None:
        """Raise what went wrong since the last call, if anything did."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def _abandon(self, flow: Generator[Any, Any, Any]) -> None:
        """A flow ends in an exception: what it was sending dies with it, and no message can follow half of one."""
        self.transport.keep_unsent()
        if self.exchange.established and not (self._written and not self.exchange.sending):
            self.exchange.abort()
        flow.close()

    async def _answer(self, flow: Generator[Any, Any, Any], item: Any) -> tuple[Callable[[Any], Any], Any]:
        """Do what a flow asks for: how it goes on then, and with what."""
        try:
            if item is POLL:
                return flow.send, await self._poll()
            if item is None:
                # The flow may have taken its time, to read the next file: that was no silence.
                self.exchange.restart(self._loop.time())
                return flow.send, await self._next_event()
        except DicomNetError as error:
            return flow.throw, error
        try:
            answer = item.function(*item.arguments)
            if isawaitable(answer):
                answer = await answer
        except Exception as error:
            self.exchange.restart(self._loop.time())
            return flow.throw, error
        self.exchange.restart(self._loop.time())
        return flow.send, answer

    async def _next_event(self) -> Event:
        if not self._ready() or self.exchange.sending:
            self.turn()
        if not self._ready():
            await self._wait()
        self.raise_failure()
        if not self._events:
            raise ConnectionFailed("the association is over", peer=self.exchange.peer)
        return self._events.popleft()

    async def _poll(self) -> Event | None:
        """Write everything; the next event if it has arrived."""
        self._polling = True
        try:
            self.turn()
            if not self._ready():
                await self._wait()
        finally:
            self._polling = False
        self.raise_failure()
        return self._events.popleft() if self._events else None

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _ready(self) -> bool:
        """Whether the flow can go on: an event came and all that is to be said before is said, or the end."""
        if self.failure is not None or self.exchange.closed:
            return True
        if self._written or not self.exchange.established:
            return bool(self._events) or self._polling
        return False

    def _work(self) -> None:
        self._write()
        if self._waiter is not None:
            if self._ready() and not self._waiter.done():
                self._waiter.set_result(None)
        elif not self._running and not self.between:
            while self._events:
                self._set_aside(self._events.popleft())
            self._write()
        if self._written and self._closing:
            self.exchange.receive_eof()
        elif self._written and self._leaving:
            self.transport.shutdown()
        if self.transport.lost and self._lost is not None and not self._lost.done():
            self._lost.set_result(None)

    def _write(self) -> None:
        try:
            self._written = self._flush()
        except Exception as error:  # of a data source: there is nothing more of this message
            self._failed(error)
            self._written = self._flush()

    def _set_aside(self, event: Event) -> None:
        """Something happened while no call waits for anything; the next call is told if it was the end."""
        try:
            self.exchange.set_aside(event)
        except DicomNetError as error:
            self.failure = error

    def _deadline(self) -> float | None:
        # Between results it is the caller who takes the time.
        return None if self.between else super()._deadline()

    def _saturated(self) -> bool:
        return len(self._events) > _MOST_EVENTS

    def _failed(self, error: Exception) -> None:
        self.failure = error

    def abort(self) -> None:
        """Abort the association; a call that waits is told, and one between its results, with the next."""
        if self._running or self.between:
            self._failed(AssociationAborted(0, 0, by_peer=False, peer=self.exchange.peer))
        self.exchange.abort()

    def leave(self) -> None:
        """Nothing follows: say what is to be said, and that it was all. The peer closes, or we do later."""
        self._leaving = True
        self.turn()

    async def finish(self) -> None:
        """`leave`, give the peer a moment to close, then close (PS3.8 Section 9.1.4)."""
        self.leave()
        await self._disconnection()

    async def close(self) -> None:
        """Close the transport once all that was said is out, or after a moment."""
        self._closing = True
        self.turn()
        await self._disconnection()
        discard_requests(self._events, self.exchange.deferred, self.exchange.events())

    async def _disconnection(self) -> None:
        if self._lost is None:
            self._lost = self._loop.create_future()
        try:
            if not self.transport.lost:
                async with asyncio.timeout(FAREWELL):
                    await asyncio.shield(self._lost)
        except TimeoutError:
            self._cut()
            await asyncio.shield(self._lost)
        except asyncio.CancelledError:
            self._cut()
            raise

    def _cut(self) -> None:
        self.exchange.receive_eof()
        self.turn()
