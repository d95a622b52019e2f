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
from typing import Any

from ..errors import ServiceFailure
from ..services.service_registry import Registration
from .guarding import Calls

__all__ = ["Guard"]

Loop = Callable[[], asyncio.AbstractEventLoop]


class Guard(Calls):
    """Counts what an add-in's handlers do, and says when it is to be suspended.

    Args:
        failures: so many in a row suspend it.
        abandoned: so many handlers that did not return suspend it.
        loop: where asynchronous handlers run.
        suspend: called once, with the reason.

    Attributes:
        failures: how many there were; `Calls` has more.
        suspended: why it is; empty where it is not.
    """

    in_a_row: int  # of `Calls`, which counts the failures that come one after the other

    def __init__(self, failures: int, abandoned: int, loop: Loop, suspend: Callable[[str], None]) -> None:
        self.failures: int = 0
        self.suspended: str = ""
        self._most = failures
        self._most_abandoned = abandoned
        self._loop = loop
        self._suspend = suspend
        self._lock = threading.Lock()

    def watched(self, registration: Registration, deadline: float) -> Registration:
        """A registration whose handler is watched, and has a deadline in seconds.

        A coroutine runs in the server's event loop, and takes no thread meanwhile.
        """
        handler = registration.handler
        asynchronous = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)
        if asynchronous:
            handler = partial(_begin, self._loop, handler, deadline)
        inline = registration.inline or asynchronous
        call = self.inline(handler) if inline else self.in_thread(handler, deadline)
        return replace(registration, handler=call, deadline=deadline, inline=inline)

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

    def _result(self, answer: Any, deadline: float) -> Any:
        """What a handler returned that is no status."""
        if inspect.isasyncgen(answer):
            return self._steps(_drained(self._loop, answer, deadline), deadline)
        if inspect.isgenerator(answer):
            return self._steps(answer, deadline)
        return self._noted(answer)

    def _steps(self, results: Iterator[Any], deadline: float) -> Generator[Any, None, Any]:
        """The results of a generator, each of which is timed."""
        try:
            while True:
                try:
                    result = self.step(results, deadline)
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
        late = self.late(now)
        if late >= self._most_abandoned:
            self.suspend(f"{late} handlers did not return")
        return late

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
