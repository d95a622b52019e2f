"""`ProviderDriver`: a provider's association in an event loop. Its flow runs in callbacks, what it awaits in a task."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from inspect import isawaitable
from typing import Any

from ..config import FAREWELL, LAST_WORD
from ..errors import ConnectionFailed, DeadlineExceeded, DicomNetError, LocalProtocolError, escaped
from ..log import in_brief, log, log_failure
from ..protocol.events import Event, discard_requests
from ..protocol.exchange import LATER, POLL, Call, Exchange
from ..protocol.states import State
from ..services.provider import Serving
from .driver import BaseDriver
from .transport import Transport

__all__ = ["ProviderDriver"]

_SLICE = 0.002  # seconds that a handler's results may take before the loop looks for a C-CANCEL, and at the others


class ProviderDriver(BaseDriver):
    """A provider's association: its flow runs in the callbacks of the loop; what it has to await, in a task."""

    def __init__(
        self,
        exchange: Exchange,
        transport: Transport,
        start: Callable[[ProviderDriver], Serving],
        left: Callable[[ProviderDriver], None],
        done: Callable[[ProviderDriver], None],
    ) -> None:
        """``start`` gives the flow once the connection stands.

        ``left`` is told when the association is over, ``done`` when the connection is closed.
        """
        super().__init__(exchange, transport)
        self._start = start
        self._tell_left = left
        self._done = done
        self._begun = self._left = False
        self._flow: Serving | None = None
        self._item: Any = None  # what the flow waits for
        self._task: asyncio.Task[Any] | None = None
        self._looked = 0.0  # when the loop last had the time to read
        self._looking = 0
        self._heeds: Callable[[Event], bool] | None = None  # whether what comes meanwhile ends the wait for the task
        self._later: set[asyncio.Future[Any]] = set()  # futures that are still to be answered
        self._parting: asyncio.TimerHandle | None = None  # when the connection is closed at the latest
        self._hushing: asyncio.TimerHandle | None = None  # when our side of it is

    def connected(self) -> None:
        """The connection stands."""
        self.exchange.tls = self.transport.link
        self._begun = True
        self._flow = self._start(self)
        self._item = next(self._flow)
        self.turn()

    def disconnected(self) -> None:
        """The connection ended, maybe before it was secure."""
        super().disconnected()
        if not self._begun and self.transport.failure is not None:
            self._begun = True  # it is told once
            log.info("no association: %s", escaped(str(self.transport.failure)))

    def abort(self) -> None:
        """End the association now: the peer is told, and a handler that is awaited is cancelled."""
        if self._task is not None:
            self._task.cancel()
        self._tell_abort()
        self._flush()
        self.exchange.receive_eof()
        self.turn()

    def _tell_abort(self) -> None:
        with suppress(LocalProtocolError):  # there is no association yet, or none any more
            self.exchange.abort()

    def _work(self) -> None:
        """Let the flow go on for as long as it need not wait."""
        if self._task is not None and self._events:
            self._heed(self._task)
        self._go_on()
        self._flush()
        if self._begun and (self.exchange.closed or self.exchange.state is State.STA13_AWAIT_TRANSPORT_CLOSE):
            self._part()
        if self._flow is None:
            discard_requests(self._events)  # no peer is there for them
            self._events.clear()
            if self.transport.lost:
                self._done(self)

    def _go_on(self) -> None:
        while self._flow is not None and self._task is None:
            if type(self._item) is Call:
                self._call(self._flow, self._item)
            elif not self._flush():
                return
            elif self._events and len(self._later) < self.exchange.most_deferred:
                self._resume(self._flow.send, self._events.popleft())
            elif self.exchange.closed:
                self._resume(self._flow.throw, ConnectionFailed("the association is over", peer=self.exchange.peer))
            elif self._item is POLL and self._has_looked():
                self._resume(self._flow.send, None)
            else:
                return

    def _part(self) -> None:
        """The association is over: the peer is to close the connection, and gets a moment for it."""
        if not self._left:
            self._left = True
            self._tell_left(self)
            for future in list(self._later):
                future.cancel()
        if self.exchange.closed:
            self._cancel_parting()
        elif self._parting is None:
            self._parting = self._loop.call_later(FAREWELL, self._part_now)
            if self.exchange.abort_sent:
                self._hush()  # what comes after it is not answered
            elif not self.exchange.released:
                self._hushing = self._loop.call_later(LAST_WORD, self._hush)

    def _hush(self) -> None:
        """Say that nothing more will be sent, unless something still is."""
        if self._flush():
            self.transport.shutdown()

    def _cancel_parting(self) -> None:
        for timer in (self._parting, self._hushing):
            if timer is not None:
                timer.cancel()

    def _part_now(self) -> None:
        self.exchange.receive_eof()
        self.turn()

    def _resume(self, go: Callable[[Any], Any], value: Any) -> None:
        try:
            self._item = go(value)
        except StopIteration:
            self._flow = None
        except Exception as error:
            self._flow = None
            self._failed(error)

    def _call(self, flow: Serving, call: Call) -> None:
        try:
            answer = call.function(*call.arguments)
        except Exception as error:
            self.exchange.restart(self._loop.time())
            self._resume(flow.throw, error)
            return
        if isawaitable(answer) and not asyncio.isfuture(answer):
            task = self._task = self._loop.create_task(_result(answer))
            self._heeds = call.heed
            task.add_done_callback(partial(self._answered, call, self._limit(call, task)))
            return
        self._take_answer(flow, call, answer)

    def _take_answer(self, flow: Serving, call: Call, answer: Any) -> None:
        """The flow goes on with the answer; a future's is waited for, or goes out by itself."""
        self.exchange.restart(self._loop.time())
        if isinstance(answer, concurrent.futures.Future):
            answer = asyncio.wrap_future(answer)
        if not asyncio.isfuture(answer):
            self._resume(flow.send, answer)
        elif call.later is None:
            task = self._task = self._loop.create_task(_result(answer))
            task.add_done_callback(partial(self._answered, call, self._limit(call, task)))
        else:
            self._later.add(answer)
            answer.add_done_callback(partial(self._conclude, call, self._limit(call, answer)))
            self._resume(flow.send, LATER)

    def _limit(self, call: Call, future: asyncio.Future[Any]) -> asyncio.TimerHandle | None:
        """Cancel a future at the call's deadline."""
        return None if call.deadline is None else self._loop.call_later(call.deadline, future.cancel)

    def _error_of(
        self, call: Call, timer: asyncio.TimerHandle | None, future: asyncio.Future[Any]
    ) -> BaseException | None:
        """Why there is no answer."""
        if timer is not None:
            timer.cancel()
        if not future.cancelled():
            return future.exception()
        if timer is not None and call.deadline is not None and self._loop.time() >= timer.when():
            return DeadlineExceeded("handler", call.deadline, peer=self.exchange.peer)
        return LocalProtocolError("the handler was cancelled")

    def _answered(self, call: Call, timer: asyncio.TimerHandle | None, task: asyncio.Task[Any]) -> None:
        error = self._error_of(call, timer, task)
        if task is not self._task:
            return  # the flow has gone on
        self._task = self._heeds = None
        self._looked = 0.0
        self.exchange.restart(self._loop.time())
        if self._flow is not None:
            if error is not None:
                self._resume(self._flow.throw, error)
            else:
                self._take_answer(self._flow, call, task.result())
        self.turn()

    def _conclude(self, call: Call, timer: asyncio.TimerHandle | None, future: asyncio.Future[Any]) -> None:
        """A future that a handler returned is done."""
        self._later.discard(future)
        error = self._error_of(call, timer, future)
        if call.later is not None:
            call.later(None if error is not None else future.result(), error)
        self.turn()

    def _heed(self, task: asyncio.Task[Any]) -> None:
        """Events came while a handler is awaited that may be given up for them."""
        while self._heeds is not None and self._flow is not None and self._events:
            try:
                if not self._heeds(self._events.popleft()):
                    continue
                go, value = self._flow.send, None
            except Exception as error:
                go, value = self._flow.throw, error
            self._task = self._heeds = None
            task.cancel()
            self._resume(go, value)

    def _has_looked(self) -> bool:
        """Whether the loop has looked for what the peer sent, a moment ago at the latest; else it does so now."""
        if self._loop.time() < self._looked + _SLICE:
            return True
        if not self._looking:
            self._looking = 2  # the loop runs what is scheduled before what it has found to read
            self._loop.call_soon(self._look)
        return False

    def _look(self) -> None:
        self._looking -= 1
        if self._looking:
            self._loop.call_soon(self._look)
        else:
            self._looked = self._loop.time()
            self.turn()

    def _failed(self, error: Exception) -> None:
        if isinstance(error, DicomNetError):
            log.info("association ended: %s", in_brief(error))
        else:
            log_failure(f"association with {self.transport.peer_address} failed", error)
        self._tell_abort()

    def _deadline(self) -> float | None:
        # While a handler is awaited it is us who are silent.
        return None if self._task is not None else super()._deadline()

    def _expire(self, now: float) -> None:
        if self._later and self._stuck_since is None and not self.exchange.receiving:
            self.exchange.restart(now)  # the peer waits for us
        else:
            super()._expire(now)

    def _saturated(self) -> bool:
        return (self._task is not None and self._heeds is None) or bool(self._events)

    @property
    def answering(self) -> bool:
        """Whether a request of the peer is under way."""
        return self._task is not None or bool(self._later)


async def _result(answer: Awaitable[Any]) -> Any:
    return await answer
