"""Threads for handlers that have a deadline: one that does not return is left behind, and its caller is not."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

__all__ = ["HandlerThreads", "TooLate"]

_T = TypeVar("_T")


class TooLate(Exception):
    """A handler did not return in time; it may do so yet, to no purpose."""


class HandlerThreads:
    """Runs functions in threads that are used again.

    Args:
        most: threads that are kept when they have nothing to do.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._idle: deque[_Worker] = deque()

    def run(self, function: Callable[[], _T], deadline: float) -> _T:
        """Call a function, and wait for it.

        Raises:
            TooLate: it did not return in so many seconds; its thread is left behind until it does.
        """
        future: Future[_T] = Future()
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = _Worker(self)
        worker.jobs.put(lambda: _settle(future, function))
        try:
            return future.result(deadline)
        except TimeoutError:
            if future.done():
                raise  # the handler's own
            raise TooLate from None

    def is_free(self, worker: _Worker) -> bool:
        """Keep a worker that has nothing to do; False where there are enough."""
        if len(self._idle) >= self._most:
            return False
        self._idle.append(worker)
        return True

    def stop(self) -> None:
        """End the threads that have nothing to do."""
        self._most = 0
        while self._idle:
            self._idle.pop().jobs.put(None)


class _Worker:
    """A daemon: a handler that never returns does not keep the process."""

    def __init__(self, pool: HandlerThreads) -> None:
        self.jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._pool = pool
        threading.Thread(target=self._run, name="dicomnet-handler", daemon=True).start()

    def _run(self) -> None:
        while (job := self.jobs.get()) is not None:
            job()
            del job
            if not self._pool.is_free(self):
                return


def _settle(future: Future[_T], function: Callable[[], _T]) -> None:
    try:
        result = function()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
