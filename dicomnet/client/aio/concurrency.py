"""Waiting, and work beside other work, in asyncio; `client.sync.concurrency` has the same names for threads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from inspect import isawaitable
from time import monotonic as now
from typing import Any, TypeVar

__all__ = ["AHEAD", "Gate", "Together", "Worker", "aside", "call", "join", "now", "start", "wait"]

T = TypeVar("T")

#: Results of each of several sources that may wait until they are asked for.
AHEAD = 4

#: Something to wait for: closed until it is set.
Gate = asyncio.Event
#: What was started beside everything else.
Worker = asyncio.Task[None]


async def call(function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
    """Call what the user gave: an ordinary function, or one whose answer is awaited."""
    answer = function(*arguments, **named)
    return await answer if isawaitable(answer) else answer


async def aside(function: Callable[..., T], /, *arguments: Any) -> T:
    """The result of a function that may block, while other tasks go on."""
    return await asyncio.to_thread(function, *arguments)


async def wait(gate: Gate, seconds: float | None) -> bool:
    """Wait for a gate, so long at most; whether it is open."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await gate.wait()
    return gate.is_set()


def start(function: Callable[[], Awaitable[None]], name: str) -> Worker:
    """Run this beside everything else."""

    async def run() -> None:
        await function()

    return asyncio.create_task(run(), name=name)


async def join(worker: Worker) -> None:
    """Wait for the end of what was started."""
    await worker


class Together(AsyncIterator[T]):
    """The results of several sources, each in a task of its own, as they come.

    Results that are not asked for hold the sources up. The first exception of a source ends the others, each where it
    gives its next result, and is raised.
    """

    def __init__(self, sources: Iterable[AsyncGenerator[T, None]]) -> None:
        self._changed = asyncio.Condition()
        self._waiting: deque[T] = deque()
        self._failure: BaseException | None = None
        self._left = False
        self._tasks = [asyncio.create_task(self._run(source), name="dicomnet-client") for source in sources]
        self._running = len(self._tasks)
        self._most = AHEAD * self._running

    async def _run(self, source: AsyncGenerator[T, None]) -> None:
        try:
            async with aclosing(source) as results:
                async for result in results:
                    if not await self._put(result):
                        break
        except BaseException as error:
            self._failure = self._failure or error
            self._left = True
        finally:
            self._running -= 1
            async with self._changed:
                self._changed.notify_all()

    async def _put(self, result: T) -> bool:
        """Hand over a result; whether more are wanted."""
        async with self._changed:
            self._waiting.append(result)
            self._changed.notify_all()
            await self._changed.wait_for(lambda: len(self._waiting) < self._most or self._left)
            return not self._left

    async def __anext__(self) -> T:
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting or not self._running)
            if self._waiting:
                result = self._waiting.popleft()
                self._changed.notify_all()
                return result
        await self._join()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Want no more results: each source ends where it gives its next one."""
        self._left = True
        async with self._changed:
            self._changed.notify_all()
        await self._join()

    async def _join(self) -> None:
        await asyncio.gather(*self._tasks)  # which passes a cancellation on to them, and waits
