"""What stands between an add-in's handlers and the server: failures are counted, and too many of them suspend it."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import ServiceFailure
from ..services.service_registry import Handler
from ..status import Status
from .handler_threads import HandlerThreads, TooLate

__all__ = ["Guard", "Running"]


@dataclass(eq=False, slots=True)
class Running:
    """A handler that runs.

    Attributes:
        since: when it was called, in monotonic seconds.
        deadline: seconds that it gets; None for any time.
        what: the message, for people.
    """

    since: float
    deadline: float | None
    what: str

    def overdue(self, now: float) -> bool:
        """Whether its time is over."""
        return self.deadline is not None and now > self.since + self.deadline


class Guard:
    """Counts what an add-in's handlers do, and says when it is to be suspended.

    Args:
        name: the add-in's.
        failures: so many in a row suspend it.
        abandoned: so many handlers that did not return suspend it.
        loop: where asynchronous handlers run.
        suspend: called once, with the reason.
        threads: where handlers run that may block.
    """

    def __init__(
        self,
        name: str,
        failures: int,
        abandoned: int,
        loop: Callable[[], asyncio.AbstractEventLoop],
        suspend: Callable[[str], None],
        threads: HandlerThreads,
    ) -> None:
        self.name = name
        self.in_a_row = self.failures = self.calls = 0
        self.suspended = ""
        self._most = failures
        self._most_abandoned = abandoned
        self._loop = loop
        self._threads = threads
        self._suspend = suspend
        self._lock = threading.Lock()
        self._running: set[Running] = set()

    def wrap(self, handler: Handler, deadline: float | None, *, inline: bool = False) -> Handler:
        """A handler that is watched, and answered for at its deadline.

        An asynchronous one is run in the server's event loop; others in a thread, unless they are ``inline``.
        """
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__):
            handler, inline = self._blocking(handler, deadline), True

        def watched(request: Any) -> Any:
            running = Running(time.monotonic(), deadline, type(request).__name__)
            self._running.add(running)
            try:
                answer = self._call(handler, request, running, inline)
            except Exception as error:
                self._failed(error)
                raise
            finally:
                self.calls += 1
            if inspect.isgenerator(answer):
                return self._generator(answer)
            if inspect.isasyncgen(answer):
                return self._asynchronous(answer)
            self.in_a_row = 0
            return answer

        return watched

    def _call(self, handler: Handler, request: Any, running: Running, inline: bool) -> Any:
        def job() -> Any:
            try:
                return handler(request)
            finally:
                self._running.discard(running)

        if inline or running.deadline is None:
            return job()
        try:
            return self._threads.run(job, running.deadline)
        except TooLate as error:
            raise _late() from error

    def _blocking(self, handler: Handler, deadline: float | None) -> Handler:
        def run(request: Any) -> Any:
            future = asyncio.run_coroutine_threadsafe(handler(request), self._loop())
            try:
                return future.result(deadline)
            except TimeoutError as error:
                if future.done():
                    raise  # the handler's own
                future.cancel()
                raise _late() from error

        return run

    def _generator(self, results: Iterator[Any]) -> Iterator[Any]:
        try:
            return (yield from results)
        except Exception as error:
            self._failed(error)
            raise

    async def _asynchronous(self, results: AsyncIterator[Any]) -> AsyncIterator[Any]:
        try:
            async for result in results:
                yield result
        except Exception as error:
            self._failed(error)
            raise

    def _failed(self, error: Exception) -> None:
        if isinstance(error, ServiceFailure) and not isinstance(error.__cause__, TimeoutError | TooLate):
            return  # an answer that the handler chose
        late = isinstance(error, ServiceFailure)
        self._count("a handler that did not return in time" if late else type(error).__name__)

    def _count(self, what: str) -> None:
        with self._lock:
            self.failures += 1
            self.in_a_row += 1
            due = self.in_a_row >= self._most
        if due:
            self.suspend(f"{self.in_a_row} failures in a row, the last one {what}")

    def check(self, now: float) -> int:
        """How many handlers there are that did not return in time; too many suspend the add-in."""
        late = sum(one.overdue(now) for one in tuple(self._running))
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


def _late() -> ServiceFailure:
    return ServiceFailure(Status(Status.PROCESSING_FAILURE, comment="too late"), "a handler did not return in time")
