"""Waiting, and work beside other work, in threads; `client.aio.concurrency` has the same names for asyncio."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from time import monotonic as now
from typing import Any, TypeVar

__all__ = ["AHEAD", "Gate", "Together", "Worker", "aside", "call", "join", "now", "start", "wait"]

T = TypeVar("T")

#: Results of each of several sources that may wait until they are asked for.
AHEAD = 4

#: Something to wait for: closed until it is set.
Gate = threading.Event
#: What was started beside everything else.
Worker = threading.Thread


def call(function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
    """Call what the user gave."""
    return function(*arguments, **named)


def aside(function: Callable[..., T], /, *arguments: Any) -> T:
    """The result of a function that may block."""
    return function(*arguments)


def wait(gate: Gate, seconds: float | None) -> bool:
    """Wait for a gate, so long at most; whether it is open."""
    return gate.wait(seconds)


def start(function: Callable[[], None], name: str) -> Worker:
    """Run this beside everything else."""
    thread = threading.Thread(target=function, name=name, daemon=True)
    thread.start()
    return thread


def join(worker: Worker) -> None:
    """Wait for the end of what was started."""
    worker.join()


class Together(Iterator[T]):
    """The results of several sources, each in a thread of its own, as they come.

    Results that are not asked for hold the sources up. The first exception of a source ends the others, each where it
    gives its next result, and is raised.
    """

    def __init__(self, sources: Iterable[Generator[T, None, None]]) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[T] = deque()
        self._failure: BaseException | None = None
        self._left = False
        self._threads = [
            threading.Thread(target=self._run, args=(source,), name="dicomnet-client", daemon=True)
            for source in sources
        ]
        self._running = len(self._threads)
        self._most = AHEAD * self._running
        for thread in self._threads:
            thread.start()

    def _run(self, source: Generator[T, None, None]) -> None:
        try:
            with closing(source) as results:
                for result in results:
                    if not self._put(result):
                        break
        except BaseException as error:
            with self._changed:
                self._failure = self._failure or error
                self._left = True
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _put(self, result: T) -> bool:
        """Hand over a result; whether more are wanted."""
        with self._changed:
            self._waiting.append(result)
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._waiting) < self._most or self._left)
            return not self._left

    def __next__(self) -> T:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._running)
            if self._waiting:
                result = self._waiting.popleft()
                self._changed.notify_all()
                return result
        self._join()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        raise StopIteration

    def close(self) -> None:
        """Want no more results: each source ends where it gives its next one."""
        with self._changed:
            self._left = True
            self._changed.notify_all()
        self._join()

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()
