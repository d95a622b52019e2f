"""`Deferred`: a future that costs little, for answers that are given thousands of times a second."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from ..log import log_failure

__all__ = ["Deferred"]

T = TypeVar("T")


class Deferred(Future[T]):
    """A `Future` without a lock of its own: what the interpreter does in one step is enough here.

    Most of its life nothing waits for it: it is made in one thread, set in another, and calls back.
    """

    def __init__(self) -> None:
        # Not that of `Future`, whose condition takes longer to make than all else that is done for a small instance.
        self._undecided: list[None] = [None]  # who takes it out decides
        self._is_over = False
        self._is_cancelled = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._waiting: list[Callable[[Any], object]] = []

    def _decides(self) -> bool:
        try:
            self._undecided.pop()
        except IndexError:
            return False
        return True

    def _end(self) -> None:
        self._is_over = True
        while self._waiting:
            try:
                function = self._waiting.pop(0)
            except IndexError:  # the other thread has it
                return
            try:
                function(self)
            except Exception as error:
                log_failure("what was to be called with an answer failed", error)

    def set_result(self, result: T) -> None:
        """It is answered; one that was cancelled stays so."""
        if self._decides():
            self._value = result
            self._end()

    def set_exception(self, exception: BaseException | None) -> None:
        """It failed; one that was cancelled stays so."""
        if self._decides():
            self._error = exception
            self._end()

    def cancel(self) -> bool:
        """Nothing waits for it any more."""
        if self._decides():
            self._is_cancelled = True
            self._end()
        return self._is_cancelled

    def cancelled(self) -> bool:
        """Whether it was cancelled before it was answered."""
        return self._is_cancelled

    def running(self) -> bool:
        """Never: it cannot be told from one that waits."""
        return False

    def done(self) -> bool:
        """Whether it is answered, has failed, or was cancelled."""
        return self._is_over

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Call ``fn`` with this once it is over: at once, or in the thread that ends it."""
        self._waiting.append(fn)
        if self._is_over:
            self._end()

    def result(self, timeout: float | None = None) -> T:
        """The answer.

        Raises:
            TimeoutError: it takes longer.
            CancelledError: it was cancelled.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self._value  # type: ignore[return-value]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Why it failed, if it did."""
        if not self._is_over:
            over = threading.Event()
            self.add_done_callback(lambda _: over.set())
            if not over.wait(timeout):
                raise TimeoutError
        if self._is_cancelled:
            raise CancelledError
        return self._error
