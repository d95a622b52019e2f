"""`HandlerResults`: what a handler yields, made where handlers run, and taken as it comes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from math import inf
from types import GeneratorType
from typing import Any

from ..log import log_failure
from ..protocol.events import Event
from ..protocol.flow import Flow
from ..protocol.message_exchange import Call

__all__ = ["HandlerResults"]

# A generator is stepped ahead of what is sent, as long as it is fast: so many results at most, and so long until others
# that wait for a thread have their turn. What is there is taken at once, so that a slow one is not held back.
_MOST_AHEAD = 32
_TURN = 0.002  # seconds
_CLOSING = "closing"  # the lane: steps that wait for a thread do not delay it


class _Notice:
    """What a driver needs of a future, without locks: it is done once, and true."""

    def __init__(self) -> None:
        self._done = False
        self._callbacks: list[Callable[[_Notice], object]] = []

    def add_done_callback(self, function: Callable[[_Notice], object]) -> None:
        """Have ``function`` called when it is done; the driver asks for one."""
        self._callbacks.append(function)
        if self._done:
            self._tell()

    def give(self) -> None:
        """It is done."""
        self._done = True
        self._tell()

    def _tell(self) -> None:
        with suppress(IndexError):
            self._callbacks.pop()(self)

    def cancelled(self) -> bool:
        """Never."""
        return False

    def exception(self) -> None:
        """None: it cannot fail."""

    def result(self) -> bool:
        """Always true."""
        return True


class HandlerResults:
    """The results of a handler, a few at a time, whether it is a generator, an asynchronous one, or gives a list.

    The user's code and the flow may be in two threads. What they share is changed by calls of lists and by assignments,
    each of which is one step to the other thread, in an order in which nothing is lost; so it takes no lock.

    Args:
        answer: what the handler returned.
        call: makes the call of a function of the handler's.
        clock: seconds, of any beginning.
        encode: what becomes of each result, where the handler runs.
        most: how many results are made in all.

    Attributes:
        final: what a generator returned.
    """

    def __init__(
        self, answer: Any, call: Callable[..., Call], clock: Callable[[], float],
        encode: Callable[[Any], Any] | None = None, most: float = inf,
    ) -> None:  # fmt: skip
        self._steps = answer if hasattr(answer, "__aiter__") else iter(answer)
        self._call = call
        self._clock = clock
        self._encode = encode or (lambda result: result)
        self._left = most
        self._token = [True]  # who holds it may touch the generator; the other one sees that it is unwanted
        self._made: list[Any] = []
        self._waiting: list[_Notice] = []  # the flow, for something to be made; one at most
        self._making = self._ended = self._unwanted = False
        self._error: BaseException | None = None
        self.final: Any = None

    @property
    def over(self) -> bool:
        """Whether there are no more, and nothing failed that is still to be raised."""
        return self._ended and not self._made and self._error is None

    def take(self, heed: Callable[[Event], bool]) -> Flow[list[Any] | None]:
        """Take what is made, and wait where nothing is; it may be the end, and an empty list. None: it is given up."""
        if hasattr(self._steps, "__anext__"):
            taken: list[Any] | None = yield self._call(self._next, heed=heed)
            return taken
        while not self._made and not self._ended:
            if not self._making:
                self._making = True
                yield self._call(self._make, background=True)
            elif (yield self._call(self._something, inline=True, heed=heed)) is None:
                return None
        if self._error is not None and not self._made:
            raise self._error
        made = self._made[:]
        del self._made[: len(made)]  # more may have come since
        return made

    def _something(self) -> _Notice:
        """Done as soon as there is something to take."""
        notice = _Notice()
        self._waiting.append(notice)
        if self._made or not self._making:
            self._tell()
        return notice

    def _tell(self) -> None:
        with suppress(IndexError):
            self._waiting.pop().give()

    def _make(self) -> None:
        """Where handlers run: make a few results."""
        with suppress(IndexError):  # it was closed before it came to this
            self._token.pop()
            end = self._clock() + _TURN
            try:
                while self._left > 0:
                    self._left -= 1
                    self._made.append(self._encode(next(self._steps)))
                    self._tell()
                    if self._unwanted or len(self._made) >= _MOST_AHEAD or self._clock() >= end:
                        break
            except StopIteration as stop:
                self.final, self._ended = stop.value, True
            except BaseException as error:  # it is the flow's
                self._error, self._ended = error, True
            self._token.append(True)
            if self._unwanted:
                self._close_unwanted()
            self._making = False
            self._tell()

    async def _next(self) -> list[Any]:
        try:
            return [self._encode(await self._steps.__anext__())]
        except StopAsyncIteration:
            self._ended = True
            return []

    def close(self) -> Flow[None]:
        """Close a generator before its end; nothing happens to a list. What fails then changes no answer any more."""
        self._unwanted = True
        close = getattr(self._steps, "aclose", None) or (self._close if hasattr(self._steps, "close") else None)
        if close is None or (self._ended and isinstance(self._steps, GeneratorType)):
            return
        try:
            yield self._call(close, lane=_CLOSING)
        except Exception as error:
            log_failure("a handler failed as it was closed", error)

    def _close_unwanted(self) -> None:
        """Close what was given up while a step ran; nothing happens to a list."""
        try:
            if hasattr(self._steps, "close"):
                self._close()
        except Exception as error:
            log_failure("a handler failed as it was closed", error)

    def _close(self) -> None:
        with suppress(IndexError):  # a step runs, and will see to it
            self._token.pop()
            self._steps.close()
