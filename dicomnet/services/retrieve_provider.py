"""How a C-GET or a C-MOVE is performed: the instances that a handler gives are sent, and counted (PS3.4 Annex C)."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack
from functools import partial
from typing import Any

from ..config import Entity
from ..dataset import codec, transcoding
from ..errors import (
    AssociationError,
    ConnectionFailed,
    DeadlineExceeded,
    DicomNetError,
    InputFileError,
    InvalidArgument,
    NoAcceptedContext,
    escaped,
)
from ..files.instance_source import Source
from ..log import in_brief, log
from ..protocol.exchange import POLL, Call, Exchange
from ..protocol.messages import CommandField
from ..protocol.negotiation import PresentationContext, ProposedContext
from ..status import Status
from ..wire.command_set import Command, Message
from . import presentation_contexts
from .handler_results import HandlerResults
from .provider import Serving, as_status, call_for, cancelled, handler_call, respond, status_of_failure
from .provider_requests import FindRequest, MoveRequest
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


Instances = list[Any]


def _collect(
    exchange: Exchange, provider: Any, service: Registration, message: Message, answer: Any
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
                respond(exchange, message, Status.PENDING, **_Counts(len(instances)).elements(final=False))
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


def _retrieve(
    exchange: Exchange,
    message: Message,
    instances: Instances,
    final: Status | None,
    send: Callable[[Any], Generator[Any, Any, tuple[Status | None, str]]],
) -> Generator[Any, Any, None]:
    """Send each instance with ``send``, telling the progress after each, until done or cancelled."""
    counts = _Counts(remaining=len(instances))
    for instance in instances:
        counts.count(*(yield from send(instance)))
        if not exchange.established:
            return
        if counts.remaining:
            respond(exchange, message, Status.PENDING, **counts.elements(final=False))
        if cancelled(exchange, message, (yield POLL)):
            _finish_retrieve(exchange, message, counts, Status.CANCEL)
            return
    _conclude(exchange, message, counts, final)


def perform_get(
    exchange: Exchange, provider: Any, service: Registration, message: Message, request: FindRequest
) -> Serving:
    """C-GET: C-STORE sub-operations on this association (PS3.7 Section 9.1.3.2)."""
    try:
        answer = yield handler_call(exchange, service, request)
        if answer is None or isinstance(answer, int):
            respond(exchange, message, as_status(answer))
            return
        buffer = bytearray(exchange.limits.file_buffer)

        def send(given: Any) -> Generator[Any, Any, tuple[Status | None, str]]:
            return _send_back(exchange, provider, message, given, buffer)

        yield from _stream(exchange, provider, service, message, answer, send)
    except Exception as error:
        respond(exchange, message, status_of_failure(error, exchange, message.command))


def _stream(
    exchange: Exchange,
    provider: Any,
    service: Registration,
    message: Message,
    answer: Any,
    send: Callable[[Any], Generator[Any, Any, tuple[Status | None, str]]],
) -> Generator[Any, Any, None]:
    """Send each instance as the handler gives it, and answer in the end."""
    counts = _Counts(len(answer) if hasattr(answer, "__len__") else 0)
    results = HandlerResults(answer, partial(call_for, exchange, service), provider.clock)
    driven = True
    try:
        stopped = yield from _send_given(exchange, message, results, counts, send)
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
    send: Callable[[Any], Generator[Any, Any, tuple[Status | None, str]]],
) -> Generator[Any, Any, Status | None]:
    """Send what a handler gives, until its end: a status where it is cancelled before.

    Of a generator it is not known how many follow: what it has made is. The peer is told before each but the first.
    """
    known, heed = counts.remaining > 0, partial(cancelled, exchange, message)
    while not results.over:
        given = yield from results.take(heed)
        if given is None:
            return Status.CANCEL
        for number, instance in enumerate(given):
            counts.remaining = counts.remaining if known else len(given) - number
            if counts.over:
                respond(exchange, message, Status.PENDING, **counts.elements(final=False))
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


def _send_back(
    exchange: Exchange, provider: Any, message: Message, given: Any, buffer: bytearray
) -> Generator[Any, Any, tuple[Status | None, str]]:
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
    destination = provider.destinations.get(request.destination)
    if destination is None:
        log.warning("%s asked for a move to %r, which is not configured", exchange.peer, request.destination)
        respond(exchange, message, Status.MOVE_DESTINATION_UNKNOWN)
        return
    mover = _Mover(provider, destination, exchange, message)
    try:
        instances, final = yield from _collect(
            exchange, provider, service, message, (yield handler_call(exchange, service, request))
        )
        planned = yield mover.call(mover.plan, instances)
        yield from _retrieve(exchange, message, planned, final, mover.send)
    except Exception as error:
        respond(exchange, message, _status_of_move(error, exchange, message.command))
    except GeneratorExit:
        mover.forget()
        raise
    finally:
        yield from mover.close()


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
        self._association: Any = None
        self._buffer = bytearray(exchange.limits.file_buffer)
        self._plans: dict[int, list[ProposedContext]] = {}
        self._sent = 0

    def call(self, function: Callable[..., Any], *arguments: Any) -> Call:
        """What waits for files or the destination: in threads of that one, so that a dead one holds up no other."""
        return Call(function, *arguments, lane=(_Mover, self._destination.ae_title))

    def plan(self, instances: Instances) -> Instances:
        """The instances in the order in which they can be sent with the fewest associations."""
        ordered: Instances = []
        also, fallback = transcoding.preferred(self._transcode), self._transcode != transcoding.NEVER
        for batch in presentation_contexts.batches(instances, also=also, fallback=fallback):
            self._plans[len(ordered)] = batch.contexts
            ordered.extend(batch.instances)
        return ordered

    def send(self, given: Any) -> Generator[Any, Any, tuple[Status | None, str]]:
        """One C-STORE sub-operation."""
        contexts = self._plans.get(self._sent)
        self._sent += 1
        if contexts is not None:
            yield from self.close()
            self._association = yield self.call(self._connect, self._destination, contexts, self._calling)
        originator = (self._originator, self._message_id)
        uid = ""
        try:
            opened = yield self.call(partial(codec.open_source, given, buffer=self._buffer))
            with opened as source:
                uid = source.sop_instance_uid
                options = {"originator": originator, "transcode": self._transcode}
                result = yield self.call(partial(self._association.store, source, **options))
        except (NoAcceptedContext, InputFileError, InvalidArgument) as error:
            log.error("C-MOVE sub-operation: %s", in_brief(error))
            return None, uid
        return result.status, uid

    def close(self) -> Serving:
        """Release the association that is open; what was sent on it is answered for, however that ends."""
        association, self._association = self._association, None
        try:
            if association is not None:
                yield self.call(association.release)
        except DicomNetError as error:
            log.warning("the destination of a C-MOVE did not agree to the release: %s", in_brief(error))

    def forget(self) -> None:
        """Let go of the association that is open, where no caller can wait for its release."""
        self._association = None
