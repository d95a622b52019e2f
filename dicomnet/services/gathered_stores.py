"""C-STOREs of one association that came together: their handler is called for one after the other in one hand-over.

To hand a request to a thread, and its answer back, costs more than a handler that is fast. With an operations window
several requests are there at a time: as long as their handlers are fast, one hand-over is for several of them. Each has
its own response and its own deadline, in the order in which they came; one that takes its time is the last of its turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from itertools import islice
from typing import Any

from ..config import OPERATIONS_WINDOW
from ..protocol.exchange import LATER, Call, Exchange
from ..wire.command_set import Message
from .provider import call_for, conclude, respond, same, status_of_outcome
from .provider_requests import StoreRequest
from .service_registry import Registration

__all__ = ["GatheredStores"]

_MOMENT = 0.002  # seconds: handlers that take longer than this together are handed over one by one, until they do not
_Stored = tuple[Message, StoreRequest]
_Outcome = tuple[Any, BaseException | None]


class GatheredStores:
    """How an association gathers C-STOREs, and how many at a time.

    Args:
        exchange: of the association.
        clock: gives the time in seconds; called in the handlers' threads, too.
    """

    __slots__ = ("_clock", "_exchange", "most")

    def __init__(self, exchange: Exchange, clock: Callable[[], float]) -> None:
        self._exchange, self._clock = exchange, clock
        #: How many requests one hand-over is for: twice as many after each one that was fast.
        self.most: int = 1

    def perform(
        self, service: Registration, first: _Stored, more: Callable[[], _Stored | None]
    ) -> Generator[Any, Any, None]:
        """Have the handler called for a request, and for those that have come after it; answer each.

        Args:
            service: whose handler.
            first: the request, and what its handler is called with.
            more: the next one that has come and is of the same kind; None where there is none.
        """
        waiting = deque([first])
        turn = None
        try:
            while len(waiting) < self.most and (another := more()) is not None:
                waiting.append(another)
            while waiting:
                turn = _Turn(service, list(islice(waiting, self.most)), self._clock)
                yield from self._take(turn, service, waiting)
        finally:
            if waiting:  # the flow was closed
                _let_go(waiting, turn)

    def _take(self, turn: _Turn, service: Registration, waiting: deque[_Stored]) -> Generator[Any, Any, None]:
        """Hand over once, and answer what was performed."""
        began, error = self._clock(), None
        turn.call = call_for(self._exchange, service, _run, turn)
        for request in turn.requests:
            request.call = turn.call
        try:
            yield turn.call
        except Exception as failure:
            error = failure
        late = turn.call.abandoned
        outcomes = list(turn.outcomes)  # a thread that was given up may yet add one, which is not heeded
        if not late:
            # The call refers to the turn, and so does the traceback of what a handler raised: they would wait for the
            # garbage collector, and the requests with them.
            turn.call = None
            turn.outcomes.clear()
        for answer, failed in outcomes:
            message, request = waiting.popleft()
            request.call = None
            yield from self._answer(service, message, answer, failed)
        if error is not None and len(outcomes) < len(turn.requests):  # that of the one that was under way
            message, request = waiting.popleft()
            request.call = None
            self._respond(message, None, error, reads_on=late)
        fast = error is None and self._clock() < began + _MOMENT
        self.most = min(2 * self.most, OPERATIONS_WINDOW) if fast else 1
        error = None  # its traceback refers to this frame

    def _answer(
        self, service: Registration, message: Message, answer: Any, error: BaseException | None
    ) -> Generator[Any, Any, None]:
        if error is None and hasattr(answer, "add_done_callback"):
            later = partial(conclude, self._exchange, message)
            answer = yield call_for(self._exchange, service, same, answer, inline=True, later=later)
            if answer is LATER:
                return
        self._respond(message, answer, error)

    def _respond(self, message: Message, answer: Any, error: BaseException | None, *, reads_on: bool = False) -> None:
        """Answer; the data set goes, unless an abandoned handler may be about to read it."""
        respond(self._exchange, message, status_of_outcome(self._exchange, message, answer, error))
        if message.data is not None and not reads_on:
            message.data.discard()


class _Turn:
    """What a thread gets to do: requests, whose handler is called for one after the other."""

    def __init__(self, service: Registration, taken: list[_Stored], clock: Callable[[], float]) -> None:
        self.handler, self.clock = service.handler, clock
        self.requests = [request for _, request in taken]
        self.outcomes: list[_Outcome] = []
        self.call: Call | None = None


def _run(turn: _Turn) -> None:
    """Call the handler until a moment is over; in a thread."""
    end = turn.clock() + _MOMENT
    for request in turn.requests:
        try:
            turn.outcomes.append((turn.handler(request), None))
        except Exception as error:
            turn.outcomes.append((None, error))
        if turn.clock() >= end or (turn.call is not None and turn.call.abandoned):
            return


def _let_go(waiting: deque[_Stored], turn: _Turn | None) -> None:
    """No answer is wanted any more: the data sets go, but for that of a handler that may be about to read it."""
    reading = -1
    if turn is not None and turn.call is not None:
        reading = len(turn.outcomes) if turn.call.abandoned else -1
        turn.call.abandoned = True
    for index, (message, request) in enumerate(waiting):
        request.call = None
        if message.data is not None and index != reading:
            message.data.discard()
