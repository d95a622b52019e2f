"""What stands between an add-in's handlers and the server: failures are counted, and too many of them suspend it.

The listener's loop runs handlers, and answers for those that are late. What is here only watches.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from functools import partial
from threading import get_ident
from time import monotonic
from typing import Any, NoReturn

from ..errors import ServiceFailure
from ..services.service_registry import Handler, Registration

__all__ = ["Guard"]

Loop = Callable[[], asyncio.AbstractEventLoop]


class Guard:
    """Counts what an add-in's handlers do, and says when it is to be suspended.

    Args:
        failures: so many in a row suspend it.
        abandoned: so many handlers that did not return suspend it.
        loop: where asynchronous handlers run.
        suspend: called once, with the reason.

    Attributes:
        calls, failures: how many there were.
        in_a_row: failures since the last success.
        suspended: why it is; empty where it is not.
    """

    def __init__(self, failures: int, abandoned: int, loop: Loop, suspend: Callable[[str], None]) -> None:
        self.failures: int
        self.in_a_row: int
        self.in_a_row = self.failures = self.calls = 0
        self.suspended: str = ""
        self._most = failures
        self._most_abandoned = abandoned
        self._loop = loop
        self._suspend = suspend
        self._lock = threading.Lock()
        # By thread, when what runs there is late, in monotonic seconds; negative once that was counted.
        self._running: dict[int, float] = {}

    def watched(self, registration: Registration, deadline: float) -> Registration:
        """A registration whose handler is watched, and has a deadline in seconds.

        A coroutine runs in the server's event loop, and takes no thread meanwhile.
        """
        handler = registration.handler
        asynchronous = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)
        if asynchronous:
            handler = partial(_begin, self._loop, handler, deadline)
        inline = registration.inline or asynchronous
        call = self._inline(handler) if inline else self._in_thread(handler, deadline)
        return replace(registration, handler=call, deadline=deadline, inline=inline)

    def _inline(self, handler: Handler) -> Handler:
        """One that does not block: there is no time that could be over."""

        def watched(request: Any) -> Any:
            self.calls += 1
            try:
                answer = handler(request)
            except Exception as error:
                self._failed(error)
                raise
            return self._noted(answer)

        return watched

    def _noted(self, answer: Any) -> Any:
        if isinstance(answer, Future):
            answer.add_done_callback(self._settled)
        else:
            self.in_a_row = 0
        return answer

    def _settled(self, answer: Future[Any]) -> None:
        error = CancelledError() if answer.cancelled() else answer.exception()
        if error is None:
            self.in_a_row = 0
        elif isinstance(error, Exception):
            self._failed(error)

    def _in_thread(self, handler: Handler, deadline: float) -> Handler:
        running = self._running

        def watched(request: Any) -> Any:  # as `_timed`, whose frame each message would pay for
            self.calls += 1
            thread = get_ident()
            running[thread] = monotonic() + deadline
            try:
                answer = handler(request)
            except Exception as error:
                self._failed(error)
                raise
            finally:
                due = running.pop(thread)
            if monotonic() > due:
                self._give_up(due)
            if answer is None or isinstance(answer, int):
                self.in_a_row = 0
                return answer
            if inspect.isasyncgen(answer):
                return self._steps(_drained(self._loop, answer, deadline), deadline)
            if inspect.isgenerator(answer):
                return self._steps(answer, deadline)
            return self._noted(answer)

        return watched

    def _timed(self, function: Callable[[Any], Any], argument: Any, deadline: float) -> Any:
        """Call something that may take its time; where it takes more, no caller waits for its answer."""
        running, thread = self._running, get_ident()
        running[thread] = monotonic() + deadline
        try:
            answer = function(argument)
        except StopIteration:
            raise
        except Exception as error:
            self._failed(error)
            raise
        finally:
            due = running.pop(thread)
        if monotonic() > due:
            self._give_up(due)
        return answer

    def _give_up(self, due: float) -> NoReturn:
        """A handler returned after its deadline: its caller has its answer already."""
        if due >= 0:
            self._late()
        raise TimeoutError("a handler did not return in time")

    def _steps(self, results: Iterator[Any], deadline: float) -> Generator[Any, None, Any]:
        """The results of a generator, each of which is timed."""
        try:
            while True:
                try:
                    result = self._timed(next, results, deadline)
                except StopIteration as stop:
                    self.in_a_row = 0
                    return stop.value
                yield result
        finally:
            getattr(results, "close", bool)()

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, ServiceFailure):  # that is an answer, which the handler chose
            self._count("a handler that was given up" if isinstance(error, CancelledError) else type(error).__name__)

    def _late(self) -> None:
        self._count("a handler that did not return in time")

    def _count(self, what: str) -> None:
        with self._lock:
            self.failures += 1
            self.in_a_row += 1
            due = self.in_a_row >= self._most
        if due:
            self.suspend(f"{self.in_a_row} failures in a row, the last one {what}")

    def check(self, now: float) -> int:
        """How many handlers there are that did not return in time; too many suspend the add-in."""
        running = self._running
        late = [(thread, due) for thread, due in tuple(running.items()) if now > due]
        for thread, due in late:
            if due >= 0 and running.get(thread) == due:
                running[thread] = -due
                self._late()
        if len(late) >= self._most_abandoned:
            self.suspend(f"{len(late)} handlers did not return")
        return len(late)

    def suspend(self, reason: str) -> None:
        """Suspend the add-in, unless it is."""
        with self._lock:
            if self.suspended:
                return
            self.suspended = reason
        self._suspend(reason)

    def resume(self) -> None:
        """Begin anew."""
        with self._lock:
            self.suspended = ""
            self.in_a_row = 0


def _begin(loop: Loop, handler: Callable[[Any], Coroutine[Any, Any, Any]], deadline: float, request: Any) -> Any:
    """Have the event loop run a coroutine; it is cancelled at its deadline."""
    return asyncio.run_coroutine_threadsafe(asyncio.wait_for(handler(request), deadline), loop())


def _drained(loop: Loop, results: AsyncIterator[Any], deadline: float) -> Iterator[Any]:
    """The results of an asynchronous generator, for a thread that waits for each."""

    async def step() -> Any:
        return await anext(results)

    try:
        while True:
            try:
                yield asyncio.run_coroutine_threadsafe(asyncio.wait_for(step(), deadline), loop()).result()
            except StopAsyncIteration:
                return
    finally:
        asyncio.run_coroutine_threadsafe(results.aclose(), loop())  # type: ignore[attr-defined]
