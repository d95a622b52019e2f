"""The asyncio face of scripts: calls are awaited, scripts beside each other are tasks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable
from contextlib import suppress
from functools import wraps
from inspect import isawaitable
from time import monotonic
from typing import Any, TypeVar

from ..aio import Listener, connect
from .procedure import AHEAD, END, Call, Face, Gate, Left, Results, Script, step

__all__ = ["FACE", "complete", "results"]

T = TypeVar("T")


async def results(script: Generator[Any, Any, Any]) -> AsyncGenerator[Any, None]:
    """Run a script and pass on its results; leaving the loop lets it say its last words first."""
    over, item = await _to_result(script, step(script.send, None))
    while not over:
        try:
            yield item
        except GeneratorExit:
            await _leave(script)
            raise
        over, item = await _to_result(script, step(script.send, None))


async def complete(script: Script[T]) -> T:
    """Run a script to its end; what it returns."""
    over, item = await _to_result(script, step(script.send, None))
    while not over:
        over, item = await _to_result(script, step(script.send, None))
    value: T = item
    return value


async def _to_result(script: Generator[Any, Any, Any], taken: tuple[bool, Any]) -> tuple[bool, Any]:
    """Do what the script asks for, until it has a result, (False, result), or ends, (True, return value)."""
    over, item = taken
    while not over and type(item) is Call:
        try:
            answer = item.function(*item.arguments)
            if isawaitable(answer):
                answer = await answer
        except BaseException as error:  # also a cancellation: the script tidies up, and lets it pass
            over, item = step(script.throw, error)
        else:
            over, item = step(script.send, answer)
    return over, item


async def _leave(script: Generator[Any, Any, Any]) -> None:
    with suppress(Left):
        over, _ = await _to_result(script, step(script.throw, Left()))
        while not over:  # what it still yields, nobody wants
            over, _ = await _to_result(script, step(script.send, None))


class Together(AsyncIterator[Any]):
    """The results of several scripts, each in a task of its own; see `Face.together`."""

    def __init__(self, scripts: Iterable[Results[Any]]) -> None:
        self._changed = asyncio.Condition()
        self._waiting: deque[Any] = deque()
        self._failure: BaseException | None = None
        self._left = False
        self._tasks = [asyncio.create_task(self._run(script), name="dicomnet-client") for script in scripts]
        self._running = len(self._tasks)
        self._most = AHEAD * self._running

    async def _run(self, script: Results[Any]) -> None:
        running = results(script)
        try:
            async for result in running:
                if not await self._put(result):
                    break
        except BaseException as error:
            self._failure = self._failure or error
            self._left = True
        finally:
            self._running -= 1
            await running.aclose()
            async with self._changed:
                self._changed.notify_all()

    async def _put(self, result: Any) -> bool:
        """Hand over a result; whether more are wanted."""
        async with self._changed:
            self._waiting.append(result)
            self._changed.notify_all()
            await self._changed.wait_for(lambda: len(self._waiting) < self._most or self._left)
            return not self._left

    async def __anext__(self) -> Any:
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
        """Want no more results: each script ends where it yields its next one."""
        self._left = True
        async with self._changed:
            self._changed.notify_all()
        await self._join()

    async def _join(self) -> None:
        try:
            await asyncio.gather(*self._tasks)
        except asyncio.CancelledError:
            for task in self._tasks:
                task.cancel()
            raise


class _Tasks:
    """See `Face`."""

    connect = staticmethod(connect)
    Listener = Listener
    now = staticmethod(monotonic)
    complete = staticmethod(complete)
    together = staticmethod(Together)

    def operation(self, script: Callable[..., Script[Any]]) -> Callable[..., Any]:
        @wraps(script)
        async def method(*arguments: Any, **named: Any) -> Any:
            return await complete(script(*arguments, **named))

        return method

    def streaming(self, script: Callable[..., Results[Any]]) -> Callable[..., Any]:
        @wraps(script)
        def method(*arguments: Any, **named: Any) -> Any:
            return results(script(*arguments, **named))

        return method

    def next(self, results: Any) -> Any:
        return anext(results, END)

    def close(self, results: Any) -> Any:
        return results.aclose()

    def gate(self) -> Gate:
        return asyncio.Event()

    async def wait(self, gate: Any, seconds: float | None) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await gate.wait()
        return bool(gate.is_set())

    def start(self, script: Script[None], name: str) -> asyncio.Task[None]:
        return asyncio.create_task(complete(script), name=name)

    async def join(self, started: asyncio.Task[None]) -> None:
        await started


#: What the asynchronous classes run on.
FACE: Face = _Tasks()
