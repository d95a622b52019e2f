"""How a C-GET or a C-MOVE is performed: the instances that a handler gives are sent, and counted (PS3.4 Annex C)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from contextlib import ExitStack
from functools import partial
from math import inf
from typing import Any

from ..config import Entity
from ..dataset import codec, transcoding
from ..errors import (
    AssociationError,
    ConnectionFailed,
    DeadlineExceeded,
    DicomNetError,
    InvalidArgument,
    NoAcceptedContext,
    escaped,
)
from ..files.instance_source import Source
from ..log import in_brief, log, log_failure
from ..protocol.exchange import POLL, Call, Exchange
from ..protocol.messages import CommandField
from ..protocol.negotiation import PresentationContext
from ..status import Status
from ..wire.command_set import Command, Message
from . import presentation_contexts
from .handler_results import HandlerResults
from .move_sender import Sent
from .provider import Serving, as_status, call_for, cancelled, handler_call, respond, status_of_failure
from .provider_requests import FindRequest, MoveRequest
from .retrieve_progress import RetrieveProgress
from .service_registry import Registration
from .transfer_choice import fitting

__all__ = ["perform_get", "perform_move"]

_MOST_COUNTED = 0xFFFF  # of sub-operations, by the VR of their counts


class _Counts:
    """Sub-operations of a retrieve (PS3.7 Section 9.1.3.1)."""

    __slots__ = ("completed", "failed", "failed_uids", "remaining", "warning")

    def __init__(self, remaining: int) -> None:
        self.remaining = remaining
        self.completed = self.failed = self.warning = 0
        self.failed_uids: list[str] = []

    def count(self, status: Status | None, sop_instance_uid: str) -> None:
        """One more sub-operation is over; a None status is one that could not even be tried."""
        self.remaining -= 1
        if status is not None and status.is_success:
            self.completed += 1
        elif status is not None and status.is_warning:
            self.warning += 1
        else:
            self.failed += 1
            if sop_instance_uid:
                self.failed_uids.append(sop_instance_uid)

    @property
    def over(self) -> int:
        """How many had their turn."""
        return self.completed + self.failed + self.warning

    def elements(self, *, final: bool) -> dict[str, Any]:
        """For a response; a final one that is no cancel has no remaining count. What does not fit VR US is left out."""
        counts = {
            "number_of_completed_suboperations": self.completed,
            "number_of_failed_suboperations": self.failed,
            "number_of_warning_suboperations": self.warning,
        }
        if not final:
            counts["number_of_remaining_suboperations"] = self.remaining
        return {name: count for name, count in counts.items() if count <= _MOST_COUNTED}

    def status(self) -> Status:
        """The final status: all done, some failed, all failed (PS3.4 Sections C.4.2.1.5 and C.4.3.1.4)."""
        if not self.failed and not self.warning:
            return Status.SUCCESS
        done = self.completed + self.warning
        return Status.SUB_OPERATIONS_WARNING if done else Status.UNABLE_TO_PERFORM_SUB_OPERATIONS


class _Progress:
    """Tells the requestor how far a retrieve is: how often is the provider's to choose (PS3.4 Section C.4.2.3.1).

    Args:
        exchange, message: of the retrieve.
        every: seconds from one pending response to the next; 0 is one after each sub-operation.
        clock: seconds, of any beginning.
    """

    def __init__(self, exchange: Exchange, message: Message, every: float, clock: Callable[[], float]) -> None:
        self._exchange, self._message = exchange, message
        self.every, self._clock = every, clock
        self._told = -inf

    def tell(self, counts: _Counts) -> None:
        """Send a pending response, if the last one is so long ago."""
        if (now := self._clock()) >= self._told + self.every:
            self._told = now
            respond(self._exchange, self._message, Status.PENDING, **counts.elements(final=False))

    @property
    def next(self) -> float:
        """When the next one is due, by the clock."""
        return self._told + self.every


Instances = list[Any]
Outcome = tuple[Status | None, str]  # of a sub-operation; no status: it could not be tried; and the SOP Instance UID
_UNTOLD: Outcome = (None, "")  # of which a sender of the program said nothing


def _collect(
    exchange: Exchange, provider: Any, service: Registration, message: Message, answer: Any, progress: _Progress
) -> Generator[Any, Any, tuple[Instances, Status | None]]:
    """All instances that the handler gives, since it is planned what to propose, and its final status, if any.

    While a generator makes them the peer is told how many there are, lest it take us for dead.
    """
    if isinstance(answer, int):
        return [], as_status(answer)
    instances: Instances = []
    results = HandlerResults(() if answer is None else answer, partial(call_for, exchange, service), provider.clock)
    heed = partial(cancelled, exchange, message)
    driven, slow = True, not hasattr(answer, "__len__")
    try:
        while not results.over:
            given = yield from results.take(heed)
            if given is None:
                return [], Status.CANCEL
            instances.extend(given)
            if slow and given and not results.over:
                progress.tell(_Counts(len(instances)))
            if heed((yield POLL)):
                return [], Status.CANCEL
        return instances, None if results.final is None else as_status(results.final)
    except GeneratorExit:
        driven = False
        raise
    finally:
        if driven:
            yield from results.close()


def _finish_retrieve(exchange: Exchange, message: Message, counts: _Counts, status: Status) -> None:
    """The final response, with the UIDs that failed (PS3.4 Section C.4.2.1.4.2)."""
    data = None
    if counts.failed_uids and exchange.established:
        syntax = exchange.contexts[message.context_id].transfer_syntax
        data = codec.encode(codec.from_keywords({"FailedSOPInstanceUIDList": counts.failed_uids}), syntax)
    final = not status.is_cancel
    respond(exchange, message, status, data, **counts.elements(final=final))


def _move_all(
    exchange: Exchange, message: Message, mover: _Mover, counts: _Counts, final: Status | None, progress: _Progress
) -> Serving:
    """Send what the mover has planned, telling the progress now and then, until done or cancelled."""
    counts.remaining = mover.planned
    while counts.remaining > 0:
        outcomes = yield from mover.send(progress.next)
        for outcome in outcomes or [_UNTOLD] * counts.remaining:
            counts.count(*outcome)
        if not exchange.established:
            return
        if counts.remaining > 0:
            progress.tell(counts)
        if cancelled(exchange, message, (yield POLL)):
            _finish_retrieve(exchange, message, counts, Status.CANCEL)
            return
    _conclude(exchange, message, counts, final)


def perform_get(
    exchange: Exchange, provider: Any, service: Registration, message: Message, request: FindRequest
) -> Serving:
    """C-GET: C-STORE sub-operations on this association (PS3.7 Section 9.1.3.2)."""
    counts = _Counts(0)
    try:
        answer = yield handler_call(exchange, service, request)
        if answer is None or isinstance(answer, int):
            respond(exchange, message, as_status(answer))
            return
        buffer = bytearray(exchange.limits.file_buffer)

        def send(given: Any) -> Generator[Any, Any, Outcome]:
            return _send_back(exchange, provider, message, given, buffer)

        yield from _stream(exchange, provider, service, message, answer, send, counts)
    except Exception as error:
        respond(exchange, message, status_of_failure(error, exchange, message.command))
    finally:
        _tell_end(request, counts)


def _stream(
    exchange: Exchange,
    provider: Any,
    service: Registration,
    message: Message,
    answer: Any,
    send: Callable[[Any], Generator[Any, Any, Outcome]],
    counts: _Counts,
) -> Generator[Any, Any, None]:
    """Send each instance as the handler gives it, and answer in the end."""
    counts.remaining = len(answer) if hasattr(answer, "__len__") else 0
    progress = _Progress(exchange, message, provider.pending_every, provider.clock)
    results = HandlerResults(answer, partial(call_for, exchange, service), provider.clock)
    driven = True
    try:
        stopped = yield from _send_given(exchange, message, results, counts, send, progress)
        if stopped is not None:
            _finish_retrieve(exchange, message, counts, stopped)
        else:
            _conclude(exchange, message, counts, None if results.final is None else as_status(results.final))
    except GeneratorExit:
        driven = False
        raise
    except Exception as error:
        _finish_retrieve(exchange, message, counts, status_of_failure(error, exchange, message.command))
    finally:
        if driven:
            yield from results.close()


def _send_given(
    exchange: Exchange,
    message: Message,
    results: HandlerResults,
    counts: _Counts,
    send: Callable[[Any], Generator[Any, Any, Outcome]],
    progress: _Progress,
) -> Generator[Any, Any, Status | None]:
    """Send what a handler gives, until its end: a status where it is cancelled before.

    Of a generator it is not known how many follow: what it has made is. The peer is told before one that is not first.
    """
    known, heed = counts.remaining > 0, partial(cancelled, exchange, message)
    while not results.over:
        given = yield from results.take(heed)
        if given is None:
            return Status.CANCEL
        for number, instance in enumerate(given):
            counts.remaining = counts.remaining if known else len(given) - number
            if counts.over:
                progress.tell(counts)
            counts.count(*(yield from send(instance)))
            if not exchange.established or heed((yield POLL)):
                return Status.CANCEL
    return None


def _conclude(exchange: Exchange, message: Message, counts: _Counts, final: Status | None) -> None:
    """The final response, when every instance has had its turn; ``final`` is what the handler says."""
    if final is not None and not counts.over:
        respond(exchange, message, final)
        return
    sent = counts.status()
    _finish_retrieve(exchange, message, counts, sent if final is None or not sent.is_success else final)


def _tell_end(request: FindRequest, counts: _Counts) -> None:
    """Tell a handler that wants to know how many instances were sent; see `FindRequest.ended`."""
    if request.ended is None:
        return
    try:
        request.ended(counts.completed + counts.warning)
    except Exception as error:  # the peer has its answer, and what was opened is to be closed
        log_failure("what hears of the end of a retrieve failed", error)


def _send_back(
    exchange: Exchange, provider: Any, message: Message, given: Any, buffer: bytearray
) -> Generator[Any, Any, Outcome]:
    """One C-STORE sub-operation of a C-GET: the requestor is its provider."""
    transcode = exchange.profile.transcode or provider.transcode
    try:
        source, context, sent = yield Call(_opened_for, exchange, transcode, given, buffer, lane=_send_back)
    except _Unsent as error:
        log.error("C-GET sub-operation: %s", in_brief(error.why))
        return None, error.sop_instance_uid
    with source:
        sub = exchange.request(
            context,
            CommandField.C_STORE_RQ,
            sent,
            affected_sop_class_uid=source.sop_class_uid,
            affected_sop_instance_uid=source.sop_instance_uid,
            priority=message.command.priority,
        )
        response = yield from exchange.response_to(sub)
        return Status(response.command.status, service="C-STORE"), source.sop_instance_uid


class _Unsent(Exception):
    """An instance of a C-GET that cannot be sent, and why; not even its UID may be known."""

    def __init__(self, why: DicomNetError, sop_instance_uid: str = "") -> None:
        self.why = why
        self.sop_instance_uid = sop_instance_uid


def _opened_for(
    exchange: Exchange, transcode: transcoding.Transcoding, given: Any, buffer: bytearray
) -> tuple[Source, PresentationContext, Source]:
    """An instance that is to be sent back, its context, and what is sent there, converted where that helps."""
    uid = ""
    try:
        source: Source = codec.open_source(given, buffer=buffer)
        uid = source.sop_instance_uid
        _ = source.size  # a source of an archive opens its instance now, which may be gone
    except DicomNetError as error:
        raise _Unsent(error, uid) from error
    with ExitStack() as opened:
        opened.enter_context(source)
        try:
            context, sent = fitting(source, exchange.contexts.values(), transcode, scp=True)
        except (NoAcceptedContext, InvalidArgument) as error:
            raise _Unsent(error, source.sop_instance_uid) from error
        opened.pop_all()  # who asked for it closes it
        return source, context, sent


def perform_move(
    exchange: Exchange, provider: Any, service: Registration, message: Message, request: MoveRequest
) -> Serving:
    """C-MOVE: C-STORE sub-operations on associations of their own, to a configured destination only."""
    if service.relays:
        yield from _relay_move(exchange, provider, service, message, request)
        return
    destination = provider.destinations.get(request.destination)
    if destination is None:
        log.warning("%s asked for a move to %r, which is not configured", exchange.peer, request.destination)
        respond(exchange, message, Status.MOVE_DESTINATION_UNKNOWN)
        return
    mover, counts = _Mover(provider, destination, exchange, message), _Counts(0)
    progress = _Progress(exchange, message, provider.pending_every, provider.clock)
    try:
        answer = yield handler_call(exchange, service, request)
        instances, final = yield from _collect(exchange, provider, service, message, answer, progress)
        yield mover.call(mover.plan, instances)
        yield from _move_all(exchange, message, mover, counts, final, progress)
    except Exception as error:
        respond(exchange, message, _status_of_move(error, exchange, message.command))
    except GeneratorExit:
        mover.forget()
        raise
    finally:
        _tell_end(request, counts)
        yield from mover.close()


def _relay_move(
    exchange: Exchange, provider: Any, service: Registration, message: Message, request: MoveRequest
) -> Serving:
    """C-MOVE that another provider performs: what the handler hears of it is passed on."""
    results = None
    try:
        answer = yield handler_call(exchange, service, request)
        if answer is None or isinstance(answer, int):
            respond(exchange, message, as_status(answer))
            return
        results = HandlerResults(answer, partial(call_for, exchange, service), provider.clock)
        heed, step = partial(cancelled, exchange, message), RetrieveProgress(Status.SUCCESS)
        while not results.over:
            given = yield from results.take(heed)
            if given is None or heed((yield POLL)):
                _report(exchange, message, step._replace(status=Status.CANCEL, data=b""))
                return
            step = given[-1] if given else step
            if given and step.status.is_pending:
                _report(exchange, message, step)
        status = step.status if results.final is None else as_status(results.final)
        if status.is_pending:  # who asks would wait for another response
            status = Status(Status.PROCESSING_FAILURE, comment="nothing was said of the outcome")
        _report(exchange, message, step._replace(status=status))
    except Exception as error:
        respond(exchange, message, _status_of_move(error, exchange, message.command))
    except GeneratorExit:
        results = None  # no driver runs this flow any more: a generator closes as it is let go
        raise
    finally:
        if results is not None:
            yield from results.close()


def _report(exchange: Exchange, message: Message, step: RetrieveProgress) -> None:
    """Answer as another provider does: with its status, its counts, and its list of failed instances."""
    if not exchange.established:
        return
    counts = _Counts(step.remaining)
    counts.completed, counts.failed, counts.warning = step.completed, step.failed, step.warning
    counts.failed_uids = step.failed_uids
    if step.status.is_pending:
        respond(exchange, message, step.status, **counts.elements(final=False))
    else:
        _finish_retrieve(exchange, message, counts, step.status)


def _status_of_move(error: Exception, exchange: Exchange, command: Command) -> Status:
    """A destination that cannot be reached is A702; everything else as for every service."""
    if isinstance(error, AssociationError | ConnectionFailed | DeadlineExceeded) and exchange.established:
        log.error("C-MOVE-RQ failed: %s", escaped(str(error)))
        return Status(Status.UNABLE_TO_PERFORM_SUB_OPERATIONS, comment=error.message)
    return status_of_failure(error, exchange, command)


class _Mover:
    """Sends instances to the destination of a C-MOVE, over as many associations, one after the other, as it takes."""

    def __init__(self, provider: Any, destination: Entity, exchange: Exchange, message: Message) -> None:
        self._connect: Callable[..., Any] = (provider.move_sender or provider).connect
        self._transcode = provider.peers.named(destination.ae_title).transcode or provider.transcode
        self._destination = destination
        self._calling = provider.ae_title or exchange.called
        self._message_id: int = message.command.message_id
        self._originator = exchange.calling
        self._clock: Callable[[], float] = provider.clock
        self._association: Any = None
        self._results: Any = None  # what the association stores now
        self._batches: deque[presentation_contexts.StoreBatch] = deque()
        self._unreadable: Instances = []
        self.planned = 0

    def call(self, function: Callable[..., Any], *arguments: Any) -> Call:
        """What waits for files or the destination: in threads of that one, so that a dead one holds up no other."""
        return Call(function, *arguments, lane=(_Mover, self._destination.ae_title))

    def plan(self, instances: Instances) -> None:
        """Order the instances so that they can be sent with the fewest associations."""
        also, fallback = transcoding.preferred(self._transcode), self._transcode != transcoding.NEVER
        self._batches.extend(presentation_contexts.batches(instances, also=also, fallback=fallback))
        self._unreadable = [] if self._batches else instances
        self.planned = len(instances)

    def send(self, until: float) -> Generator[Any, Any, list[Outcome]]:
        """C-STORE sub-operations until that time, at least one where there is one: so many in a turn of a thread.

        Nothing where all associations are over, whatever is still counted as remaining.
        """
        while True:
            if self._results is None and not self._batches:
                return [(None, getattr(one, "sop_instance_uid", "")) for one in self._unreadable]
            if self._results is None:
                yield from self._begin(self._batches.popleft())
            asynchronous = hasattr(self._results, "__anext__")
            results = yield self.call(self._taken_awaited if asynchronous else self._taken, until)
            if results:
                return [_outcome(result) for result in results]
            self._results = None

    def _begin(self, batch: presentation_contexts.StoreBatch) -> Serving:
        """Store what goes over one association."""
        yield from self.close()
        self._association = yield self.call(self._connect, self._destination, batch.contexts, self._calling)
        originator = (self._originator, self._message_id)
        self._results = self._association.store_many(batch.instances, originator=originator, transcode=self._transcode)

    def _taken(self, until: float) -> list[Any]:
        """The next results; none at the end of what the association stores."""
        taken: list[Any] = []
        for result in self._results:
            taken.append(result)
            if self._clock() >= until:
                break
        return taken

    async def _taken_awaited(self, until: float) -> list[Any]:
        taken: list[Any] = []
        async for result in self._results:
            taken.append(result)
            if self._clock() >= until:
                break
        return taken

    def close(self) -> Serving:
        """Release the association that is open. One that ends otherwise is told of in the log: the C-MOVE goes on."""
        association, results = self._association, self._results
        self._association = self._results = None
        try:
            if results is not None:
                yield self.call(getattr(results, "aclose", None) or results.close)
            if association is not None:
                yield self.call(association.release)
        except DicomNetError as error:
            log.warning("the destination of a C-MOVE did not agree to the release: %s", in_brief(error))

    def forget(self) -> None:
        """Let go of the association that is open, where no caller can wait for its release."""
        self._association = self._results = None


def _outcome(result: Sent) -> Outcome:
    if result.error is not None:
        log.error("C-MOVE sub-operation: %s", in_brief(result.error))
    return result.status, result.sop_instance_uid or getattr(result.source, "sop_instance_uid", "")
