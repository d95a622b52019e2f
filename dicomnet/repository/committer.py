"""Group commit: what arrives while the disk confirms one group is the next group.

A thread of its own takes all that waits and hands it, as one group, to a function that makes it durable; the future of
each item is done then, and only then. So one sender that waits for each answer is slowed down by one sync, and a
hundred senders share one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from ..errors import LocalProtocolError
from ..log import log_failure

__all__ = ["MOST_IN_GROUP", "Committer"]

#: Items of a group: a longer one makes the first of it wait without being faster.
MOST_IN_GROUP = 256

T = TypeVar("T")
R = TypeVar("R")


class Committer(Generic[T, R]):
    """Hands items to ``commit`` in groups.

    Args:
        commit: makes a group durable: a result, or an exception, for each item. What it raises is everyone's.
        turns: items wait for `turn`, which a listener's loop calls when it has received all that has come; else they
            are taken as soon as the thread is free.
        at_once: how many groups may be committed side by side, where what confirms them is far away.
        size: bytes of an item, and ``most_bytes`` of a group: what is beyond is another group, of another thread, and
            neither waits for the other. An item that is larger is a group of its own.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[T]], Sequence[R | Exception]],
        *,
        turns: bool = False,
        at_once: int = 1,
        size: Callable[[T], int] = lambda _: 0,
        most_bytes: int | None = None,
    ) -> None:
        self._commit, self._turns, self._size, self._most_bytes = commit, turns, size, most_bytes
        self._waiting: list[tuple[T, Callable[[R | Exception], object]]] = []
        self._lock = threading.Lock()
        self._ready = threading.Condition(self._lock)
        self._told = False
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name="dicomnet-committer", daemon=True) for _ in range(at_once)
        ]
        self._started = False
        self.groups: int
        self.items: int
        self.groups = self.items = 0

    @property
    def waiting(self) -> int:
        """Items that are in no group yet."""
        return len(self._waiting)

    def submit(self, item: T) -> Future[R]:
        """Commit an item with the next group, from any thread.

        Raises:
            LocalProtocolError: it is closed.
        """
        future: Future[R] = Future()

        def settle(result: R | Exception) -> None:
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        self.hand(item, settle)
        return future

    def hand(self, item: T, settle: Callable[[R | Exception], object]) -> None:
        """As `submit`, for what calls ``settle`` with the result, in the committer's thread."""
        with self._lock:
            if self._closed:
                raise LocalProtocolError("nothing is committed any more: the archive stops")
            if not self._started:
                self._started = True
                for thread in self._threads:
                    thread.start()  # late: a process that forks is best alone
            self._waiting.append((item, settle))
            if not self._turns:
                self._told = True
                self._ready.notify()

    def together(self, items: Iterable[T]) -> list[R | Exception]:
        """Commit items at once, from any thread, and wait: of each its result, or why it failed.

        Raises:
            LocalProtocolError: it is closed.
        """
        futures = [self.submit(one) for one in items]
        self.turn()  # they came in no turn of a listener's loop
        outcomes = list[R | Exception]()
        for one in futures:
            error = one.exception()
            outcomes.append(error if isinstance(error, Exception) else one.result())
        return outcomes

    def turn(self) -> None:
        """All that came in this turn of a loop is there: it is a group."""
        if self._waiting and not self._told:
            with self._lock:
                self._told = True
                self._ready.notify()

    def close(self) -> None:
        """Commit what waits, then end."""
        with self._lock:
            self._closed = True
            self._told = True
            self._ready.notify_all()
        for thread in self._threads if self._started else ():
            thread.join()

    def _run(self) -> None:
        while group := self._next():
            self._settle(group)

    def _next(self) -> list[tuple[T, Callable[[R | Exception], object]]]:
        """The next group; empty at the end."""
        with self._lock:
            while not (self._waiting and self._told) and not self._closed:
                self._ready.wait()
            count = self._fitting()
            group, self._waiting = self._waiting[:count], self._waiting[count:]
            self._told = bool(self._waiting)
            if self._told:
                self._ready.notify()  # another thread, if one is free
            self.groups += bool(group)
            self.items += len(group)
            return group

    def _fitting(self) -> int:
        """How many of the items that wait are one group."""
        if self._most_bytes is None:
            return MOST_IN_GROUP
        total = 0
        for count, (item, _) in enumerate(self._waiting[:MOST_IN_GROUP]):
            total += self._size(item)
            if count and total > self._most_bytes:
                return count
        return MOST_IN_GROUP

    def _settle(self, group: list[tuple[T, Callable[[R | Exception], object]]]) -> None:
        try:
            results: Sequence[R | Exception] = self._commit([item for item, _ in group])
        except Exception as error:
            if not isinstance(error, OSError):
                log_failure("a group could not be committed", error)
            results = [error] * len(group)
        for (_, settle), result in zip(group, results, strict=True):
            settle(result)
