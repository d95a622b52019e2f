"""Drives an `Exchange` over a `Transport`: the whole of the asyncio I/O, by callbacks.

Nothing runs while nothing happens: an idle association has no task, no buffer and one timer. Whatever happens leads to
`Driver.turn`: take the events, write what there is to write, let the flow go on, and see how long to wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from inspect import isawaitable
from typing import Any, TypeVar

from ..errors import AssociationAborted, ConnectionFailed, DeadlineExceeded, DicomNetError, LocalProtocolError, escaped
from ..events import Event
from ..exchange import Exchange
from ..scp import Call
from .transport import Transport

__all__ = ["Driver", "ProviderDriver"]

log = logging.getLogger("dicomnet")

T = TypeVar("T")
Serving = Generator[Call | None, Any, None]

_PORTION = 1 << 20  # bytes that a message may send before other connections of the loop get their turn
_MOST_EVENTS = 8  # events that wait for a user who does not ask for them; past it nothing more is read


class _Driver:
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
        self.turn()

    def received(self, data: memoryview) -> None:
        """Bytes arrived."""
        if not self.exchange.closed:
            # What arrived counts before any timer that ran out while the loop was busy elsewhere.
            self.exchange.restart(self._loop.time())
            self.exchange.receive(data)
            self.turn()

    def writable(self) -> None:
        """What was sent is out: the peer is alive, and there is room for more."""
        self._stuck_since = None
        self.exchange.restart(self._loop.time())
        self.turn()

    def disconnected(self) -> None:
        """The connection ended."""
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


class Driver(_Driver):
    """A requestor's association: its flows run in the task that calls, one at a time."""

    def __init__(self, exchange: Exchange, transport: Transport) -> None:
        super().__init__(exchange, transport)
        self.failure: Exception | None = None
        self._running = True  # from the start: the first flow is about to come
        self._written = False
        self._leaving = False
        self._waiter: asyncio.Future[None] | None = None
        self._lost: asyncio.Future[None] | None = None

    async def complete(self, flow: Generator[None, Event, T]) -> T:
        """Run a flow that yields no results to its end; its return value."""
        try:
            self._begin()
            next(flow)  # to its first wait
            while True:
                flow.send(await self._next_event())
        except StopIteration as stop:
            result: T = stop.value
            return result
        except BaseException:
            self._abandon()
            raise
        finally:
            flow.close()
            self._end()

    async def result(self, flow: Generator[T | None, Event, Any]) -> T | None:
        """Run a flow to its next result; None where there are no more. It is closed then, and where it fails."""
        try:
            self._begin()
            item = next(flow)
            while item is None:
                item = flow.send(await self._next_event())
            return item
        except StopIteration:
            return None
        except BaseException:
            self._abandon()
            flow.close()
            raise
        finally:
            self._end()

    def take_failure(self) -> Exception | None:
        """Why the association ended while nobody waited for anything; told once."""
        failure, self.failure = self.failure, None
        return failure

    def _begin(self) -> None:
        self._running = True
        self.exchange.restart(self._loop.time())

    def _end(self) -> None:
        self._running = False
        self.turn()

    def _abandon(self) -> None:
        """A flow ends in an exception: what it was sending dies with it, and no message can follow half of one."""
        self.transport.keep_unsent()
        if self.exchange.established and not (self._written and not self.exchange.sending):
            self.exchange.abort()

    async def _next_event(self) -> Event:
        self.turn()
        if not self._ready():
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        failure = self.take_failure()
        if failure is not None:
            raise failure
        if not self._events:
            raise ConnectionFailed("the association is over", peer=self.exchange.peer)
        return self._events.popleft()

    def _ready(self) -> bool:
        """Whether the flow can go on: an event came and all that is to be said before is said, or the end."""
        if self.failure is not None or self.exchange.closed:
            return True
        return bool(self._events) and (self._written or not self.exchange.established)

    def _work(self) -> None:
        self._write()
        if self._waiter is not None:
            if self._ready() and not self._waiter.done():
                self._waiter.set_result(None)
        elif not self._running:
            while self._events:
                self._set_aside(self._events.popleft())
            self._write()
        if self._leaving and self._written:
            self.transport.shutdown()
        if self.transport.lost and self._lost is not None and not self._lost.done():
            self._lost.set_result(None)

    def _write(self) -> None:
        try:
            self._written = self._flush()
        except Exception as error:  # of a data source: the rest of the message will never come
            self._failed(error)
            self.exchange.abort()
            self._written = self._flush()

    def _set_aside(self, event: Event) -> None:
        """Something happened while nobody waits for anything: the next call is told if it was the end."""
        try:
            self.exchange.set_aside(event)
        except DicomNetError as error:
            self.failure = error

    def _saturated(self) -> bool:
        return len(self._events) > _MOST_EVENTS

    def _failed(self, error: Exception) -> None:
        self.failure = error

    def abort(self) -> None:
        """Abort the association; who waits for an event of it is told."""
        if self._running:
            self._failed(AssociationAborted(0, 0, by_peer=False, peer=self.exchange.peer))
        self.exchange.abort()

    async def finish(self) -> None:
        """After the last event: let an A-ABORT or A-ASSOCIATE-RJ reach the peer, then close (PS3.8 Section 9.1.4)."""
        self._leaving = True
        self.turn()
        await self._disconnection()

    async def close(self) -> None:
        """Close the transport, whatever is on its way."""
        self.exchange.receive_eof()
        self.turn()
        await self._disconnection()

    async def _disconnection(self) -> None:
        if self.transport.lost:
            return
        if self._lost is None:
            self._lost = self._loop.create_future()
        try:
            await asyncio.shield(self._lost)
        except asyncio.CancelledError:
            self.exchange.receive_eof()
            self.turn()
            raise


class ProviderDriver(_Driver):
    """A provider's association: its flow runs in the callbacks of the loop, and asynchronous handlers in a task."""

    def __init__(
        self,
        exchange: Exchange,
        transport: Transport,
        start: Callable[[ProviderDriver], Serving],
        done: Callable[[ProviderDriver], None],
    ) -> None:
        """``start`` gives the flow once the connection stands; ``done`` is told when it is over and closed."""
        super().__init__(exchange, transport)
        self._start = start
        self._done = done
        self._flow: Serving | None = None
        self._handler: asyncio.Task[Any] | None = None

    def connected(self) -> None:
        """The connection stands."""
        self._flow = self._start(self)
        next(self._flow)  # to its first wait
        self.turn()

    def abort(self) -> None:
        """End the association now: the peer is told, and a handler that is awaited is cancelled."""
        if self._handler is not None:
            self._handler.cancel()
        self._tell_abort()
        self._flush()
        self.exchange.receive_eof()
        self.turn()

    def _tell_abort(self) -> None:
        with suppress(LocalProtocolError):  # there is no association yet, or none any more
            self.exchange.abort()

    def _work(self) -> None:
        while self._flush() and self._events and self._handler is None:
            self._resume(self._events.popleft())
        if not self.exchange.closed or self._events or self._handler is not None:
            return
        if self._flow is not None:
            self._flow.close()
            self._flow = None
        if self.transport.lost:
            self._done(self)

    def _resume(self, value: Any, error: BaseException | None = None) -> None:
        """Let the flow go on with what it waited for, and run the user's code where it asks for it."""
        if self._flow is None:
            return
        try:
            call = self._flow.send(value) if error is None else self._flow.throw(error)
            while call is not None:
                call = self._call(self._flow, call)
        except Exception as failure:
            self._flow = None
            self._failed(failure)

    def _call(self, flow: Serving, call: Call) -> Call | None:
        try:
            answer = call.function(call.request)
        except Exception as error:
            self.exchange.restart(self._loop.time())
            return flow.throw(error)
        if isawaitable(answer):
            self._handler = self._loop.create_task(_result(answer))
            self._handler.add_done_callback(self._answered)
            return None
        self.exchange.restart(self._loop.time())
        return flow.send(answer)

    def _answered(self, handler: asyncio.Task[Any]) -> None:
        self._handler = None
        self.exchange.restart(self._loop.time())
        if handler.cancelled():
            self._resume(None, RuntimeError("the handler was cancelled"))
        elif (error := handler.exception()) is not None:
            self._resume(None, error)
        else:
            self._resume(handler.result())
        self.turn()

    def _failed(self, error: Exception) -> None:
        if isinstance(error, DicomNetError):
            log.info("association ended: %s", escaped(str(error)))
        else:
            log.error("association with %s failed", self.transport.peer_address, exc_info=error)
        self._tell_abort()

    def _deadline(self) -> float | None:
        # While a handler is awaited it is us who are silent.
        return None if self._handler is not None else super()._deadline()

    def _saturated(self) -> bool:
        return self._handler is not None or bool(self._events)


async def _result(answer: Awaitable[Any]) -> Any:
    return await answer
