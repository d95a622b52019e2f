"""What stands between an add-in's handlers and the server: failures are counted, and too many of them suspend it."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..errors import ServiceFailure
from ..services.service_registry import Handler
from ..status import Status

__all__ = ["Guard", "Running"]


@dataclass(eq=False, slots=True)
class Running:
    """A handler that runs.

    Attributes:
        since: when it was called, in monotonic seconds.
        deadline: seconds that it gets; None for any time.
        what: the message, for people.
        late: whether it has been counted as late.
    """

    since: float
    deadline: float | None
    what: str
    late: bool = field(default=False)

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
    """

    def __init__(
        self,
        name: str,
        failures: int,
        abandoned: int,
        loop: Callable[[], asyncio.AbstractEventLoop],
        suspend: Callable[[str], None],
    ) -> None:
        self.name = name
        self.in_a_row = self.failures = self.calls = 0
        self.suspended = ""
        self._most = failures
        self._most_abandoned = abandoned
        self._loop = loop
        self._suspend = suspend
        self._lock = threading.Lock()
        self._running: set[Running] = set()

    def wrap(self, handler: Handler, deadline: float | None) -> Handler:
        """A handler that is watched; an asynchronous one is run in the server's event loop, and waited for."""
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__):
            handler = self._blocking(handler, deadline)

        def watched(request: Any) -> Any:
            with self._watch(request, deadline):
                answer = handler(request)
            if inspect.isgenerator(answer):
                return self._generator(answer)
            return self._asynchronous(answer) if inspect.isasyncgen(answer) else answer

        return watched

    def _blocking(self, handler: Handler, deadline: float | None) -> Handler:
        def run(request: Any) -> Any:
            future = asyncio.run_coroutine_threadsafe(handler(request), self._loop())
            try:
                return future.result(deadline)
            except TimeoutError as error:
                future.cancel()
                raise ServiceFailure(Status(Status.PROCESSING_FAILURE, comment="too late"), "too late") from error

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

    @contextmanager
    def _watch(self, request: Any, deadline: float | None) -> Iterator[None]:
        running = Running(time.monotonic(), deadline, type(request).__name__)
        self._running.add(running)
        try:
            yield
        except Exception as error:
            self._failed(error)
            raise
        else:
            self._succeeded(running)
        finally:
            self.calls += 1
            self._running.discard(running)

    def _succeeded(self, running: Running) -> None:
        if not running.late:
            self.in_a_row = 0

    def _failed(self, error: Exception) -> None:
        if isinstance(error, ServiceFailure) and not isinstance(error.__cause__, TimeoutError):
            return  # an answer that the handler chose
        self._count(f"{type(error).__name__}")

    def _count(self, what: str) -> None:
        with self._lock:
            self.failures += 1
            self.in_a_row += 1
            due = self.in_a_row >= self._most
        if due:
            self.suspend(f"{self.in_a_row} failures in a row, the last one {what}")

    def check(self, now: float) -> int:
        """Count the handlers that did not return in time; how many there are now."""
        late = [one for one in tuple(self._running) if one.overdue(now)]
        for one in late:
            if not one.late:
                one.late = True
                self._count(f"a handler of {one.what} that did not return in time")
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
