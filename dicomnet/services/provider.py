"""How each DIMSE request is performed: handlers are called, their results sent, their exceptions made statuses.

Each performer is a flow (see `exchange`), called as ``performer(exchange, provider, service, message, request)``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator
from contextlib import ExitStack
from functools import partial
from typing import Any

from .. import uids
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
from ..log import in_brief, log, log_failure
from ..protocol.events import Event
from ..protocol.exchange import POLL, Call, Exchange
from ..protocol.messages import CommandField, name_of
from ..protocol.negotiation import PresentationContext, ProposedContext
from ..status import Status
from ..wire.command_set import Command, Message
from . import presentation_contexts
from .handler_results import HandlerResults
from .provider_requests import FindRequest, MoveRequest, NormalizedRequest, Request
from .service_registry import Handler, Registration
from .transfer_choice import fitting

__all__ = [
    "Serving",
    "as_status",
    "handler_call",
    "perform_find",
    "perform_get",
    "perform_move",
    "perform_normalized",
    "respond",
    "status_of_failure",
]

_RESOURCE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EFBIG})
_MOST_COUNTED = 0xFFFF  # of sub-operations, by the VR of their counts
_MAX_COMMENT = 64  # characters of an Error Comment, VR LO

Serving = Generator[Any, Any, None]


def handler_call(exchange: Exchange, service: Registration, request: Request, **options: Any) -> Call:
    """The call of a registration's handler, in its lane and with its deadline."""
    deadline = exchange.timeouts.handler if service.deadline is None else service.deadline
    call = Call(service.handler, request, lane=service, deadline=deadline, inline=service.inline, **options)
    request.call = call
    return call


def call_for(exchange: Exchange, service: Registration, function: Handler, *arguments: Any, **options: Any) -> Call:
    """A call of something that a handler gave."""
    deadline = exchange.timeouts.handler if service.deadline is None else service.deadline
    return Call(function, *arguments, **{"lane": service, "deadline": deadline, **options})


def respond(exchange: Exchange, message: Message, status: Status, data: bytes | None = None, **elements: Any) -> None:
    """Answer, if there is still a peer to answer."""
    if not exchange.established:
        return
    if status.comment:
        elements["error_comment"] = _error_comment(status.comment)
    if status.offending:
        elements["offending_element"] = status.offending
    if status.error_id:
        elements["error_id"] = status.error_id
    exchange.respond(message, status, data, **elements)


def _error_comment(text: str) -> str:
    """What Error Comment can hold of a text: VR LO, in the default character repertoire."""
    return "".join(one if " " <= one <= "~" and one != "\\" else "?" for one in text[:_MAX_COMMENT])


def as_status(answer: Any) -> Status:
    """What a handler returned, as a status: nothing is success."""
    return Status.SUCCESS if answer is None else answer if isinstance(answer, Status) else Status(answer)


def perform_normalized(
    exchange: Exchange, _: Any, service: Registration, message: Message, request: NormalizedRequest
) -> Serving:
    """The six N-services: one call, one response, then the event reports that the handler asked for."""
    command, data = message.command, None
    elements: dict[str, Any] = {}
    if command.command_field == CommandField.N_CREATE_RQ and not command.affected_sop_instance_uid:
        request.created_uid = uids.new()
    try:
        status, dataset = _status_and_dataset((yield handler_call(exchange, service, request)))
        if dataset is not None:
            data = codec.encode(dataset, request.transfer_syntax_uid)
    except Exception as error:
        status = status_of_failure(error, exchange, command)
    if request.created_uid:
        elements["affected_sop_instance_uid"] = request.created_uid
    if command.action_type_id is not None:
        elements["action_type_id"] = command.action_type_id
    if command.event_type_id is not None:
        elements["event_type_id"] = command.event_type_id
    respond(exchange, message, status, data, **elements)
    for report in request.reports:
        yield from _report(exchange, message.context_id, *report)


def _status_and_dataset(answer: Any) -> tuple[Status, Any]:
    if isinstance(answer, tuple):
        status, dataset = answer
        return as_status(status), dataset
    if answer is None or isinstance(answer, int):
        return as_status(answer), None
    return Status.SUCCESS, answer


def _report(exchange: Exchange, context_id: int, sop_class: str, instance: str, event: int, dataset: Any) -> Serving:
    """Send an N-EVENT-REPORT and wait for its response; a peer that declines is not an error of ours."""
    if not exchange.established:
        return
    context = exchange.contexts[context_id]
    data = None if dataset is None else codec.encode(dataset, context.transfer_syntax)
    request = exchange.request(
        context,
        CommandField.N_EVENT_REPORT_RQ,
        data,
        affected_sop_class_uid=sop_class,
        affected_sop_instance_uid=instance,
        event_type_id=event,
    )
    response = yield from exchange.response_to(request)
    status = Status(response.command.status, service="N-EVENT-REPORT")
    if not status.is_success:
        log.warning("%s answered an event report with %s", exchange.peer, status)


def status_of_failure(error: Exception, exchange: Exchange, command: Command) -> Status:
    """What the peer is told about an exception: A700 where a resource ran out, C000 for a data set that cannot be
    read, else 0110 processing failure. Where there is no peer any more, the exception goes on.
    """
    if not exchange.established:
        raise error
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _RESOURCE_ERRORS):
        log.error("%s failed: %s", name_of(command), in_brief(error))
        return Status(Status.OUT_OF_RESOURCES, comment="out of resources")
    if isinstance(error, codec.UndecodableDataSet):
        log.error("%s failed: %s", name_of(command), escaped(str(error)))
        return Status(Status.UNABLE_TO_PROCESS, comment="the data set cannot be decoded")
    if isinstance(error, DicomNetError) and not isinstance(error, InvalidArgument):
        log.error("%s failed: %s", name_of(command), in_brief(error))
    else:
        log_failure(f"{name_of(command)} failed", error)
    return Status(Status.PROCESSING_FAILURE, comment="processing failure")


# ---- what handlers yield -----------------------------------------------------------------------------------------


def _cancelled(exchange: Exchange, message: Message, event: Event | None) -> bool:
    """Whether this operation is cancelled, now or meanwhile; what else came is kept or ends the association."""
    if event is not None:
        exchange.set_aside(event)
    return message.command.message_id in exchange.cancelled


def perform_find(
    exchange: Exchange, provider: Any, service: Registration, message: Message, request: FindRequest
) -> Serving:
    """C-FIND: a pending response for each match, then the final one (PS3.7 Section 9.1.2.2)."""
    results = None
    try:
        answer = yield handler_call(exchange, service, request)
        if answer is None or isinstance(answer, int):
            respond(exchange, message, as_status(answer))
            return
        encode = partial(_encoded_match, request.transfer_syntax_uid)
        results = HandlerResults(answer, partial(call_for, exchange, service), provider.clock, encode)
        status = yield from _send_matches(exchange, message, results)
    except Exception as error:
        status = status_of_failure(error, exchange, message.command)
    except GeneratorExit:
        results = None  # no driver runs this flow any more: a generator closes as it is let go
        raise
    finally:
        if results is not None:
            yield from results.close()
    respond(exchange, message, status)


def _encoded_match(syntax: str, match: Any) -> tuple[int, bytes]:
    """The status and the data set of a response."""
    status, dataset = match if isinstance(match, tuple) else (Status.PENDING, match)
    return status, codec.encode(dataset, syntax)


def _send_matches(exchange: Exchange, message: Message, results: HandlerResults) -> Generator[Any, Any, Status]:
    left = exchange.limits.responses
    heed = partial(_cancelled, exchange, message)
    while not results.over:
        matches = yield from results.take(heed)
        if matches is None:
            return Status.CANCEL
        for status, data in matches:
            if not left:
                return Status(Status.OUT_OF_RESOURCES, comment=f"more than {exchange.limits.responses} matches")
            left -= 1
            respond(exchange, message, status, data)
        if heed((yield POLL)):
            return Status.CANCEL
    return as_status(results.final)


# ---- C-GET and C-MOVE --------------------------------------------------------------------------------------------


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
    """All instances that the handler gives, since their number is to be told, and its final status, if any."""
    if isinstance(answer, int):
        return [], as_status(answer)
    instances: Instances = []
    call = partial(call_for, exchange, service)
    results = HandlerResults(() if answer is None else answer, call, provider.clock)
    heed = partial(_cancelled, exchange, message)
    driven = True
    try:
        while not results.over:
            given = yield from results.take(heed)
            if given is None:
                return [], Status.CANCEL
            instances.extend(given)
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
    if final is not None and not instances:
        respond(exchange, message, final)
        return
    counts = _Counts(remaining=len(instances))
    for instance in instances:
        counts.count(*(yield from send(instance)))
        if not exchange.established:
            return
        if counts.remaining:
            respond(exchange, message, Status.PENDING, **counts.elements(final=False))
        if _cancelled(exchange, message, (yield POLL)):
            _finish_retrieve(exchange, message, counts, Status.CANCEL)
            return
    sent = counts.status()
    _finish_retrieve(exchange, message, counts, sent if final is None or not sent.is_success else final)


def perform_get(
    exchange: Exchange, provider: Any, service: Registration, message: Message, request: FindRequest
) -> Serving:
    """C-GET: C-STORE sub-operations on this association (PS3.7 Section 9.1.3.2)."""
    try:
        instances, final = yield from _collect(
            exchange, provider, service, message, (yield handler_call(exchange, service, request))
        )
        buffer = bytearray(exchange.limits.file_buffer)
        yield from _retrieve(
            exchange, message, instances, final, lambda given: _send_back(exchange, provider, message, given, buffer)
        )
    except Exception as error:
        respond(exchange, message, status_of_failure(error, exchange, message.command))


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

    def __init__(
        self, provider: Any, destination: Entity, exchange: Exchange, message: Message
    ) -> None:
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
