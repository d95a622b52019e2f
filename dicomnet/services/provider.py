"""How each DIMSE request is performed: handlers are called, their results sent, their exceptions made statuses.

Each performer is a flow (see `exchange`), called as ``performer(exchange, provider, service, message, request)``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from .. import uids
from ..dataset import codec
from ..errors import (
    AssociationError,
    DeadlineExceeded,
    DicomNetError,
    InvalidArgument,
    escaped,
)
from ..log import in_brief, log, log_failure
from ..protocol.events import Event
from ..protocol.exchange import LATER, POLL, Call, Exchange
from ..protocol.messages import CommandField, name_of
from ..status import Status
from ..wire.command_set import Command, Message
from .handler_results import HandlerResults
from .provider_requests import FindRequest, NormalizedRequest, Request
from .service_registry import Handler, Registration

__all__ = [
    "Serving",
    "answer_by",
    "answer_now",
    "as_status",
    "call_for",
    "cancelled",
    "conclude",
    "handler_call",
    "let_go",
    "perform_find",
    "perform_normalized",
    "respond",
    "same",
    "status_of_failure",
    "status_of_outcome",
]

_RESOURCE_ERRORS = frozenset(
    {
        errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EFBIG,
        errno.EIO, errno.EROFS,  # a disk that fails, or that the system does not write to any more
    }
)  # fmt: skip
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


def answer_now(exchange: Exchange, service: Registration, message: Message, request: Request) -> Serving | None:
    """C-ECHO and C-STORE by a handler that never blocks: it is called now; a flow waits where it returns a future."""
    try:
        answer = service.handler(request)
        if hasattr(answer, "add_done_callback"):
            later = partial(conclude, exchange, message)
            call = request.call = call_for(exchange, service, same, answer, inline=True, later=later)
            return answer_by(call, exchange, message, request)
        status = as_status(answer)
    except Exception as error:
        status = status_of_failure(error, exchange, message.command)
    respond(exchange, message, status)
    return None


def answer_by(call: Call, exchange: Exchange, message: Message, request: Request) -> Serving:
    """C-ECHO and C-STORE: one call, one response; by itself, and later, where the handler returns a future."""
    try:
        try:
            answer = yield call
            if answer is LATER:
                call.abandoned = True
                return
            status = as_status(answer)
        except Exception as error:
            status = status_of_failure(error, exchange, message.command)
        respond(exchange, message, status)
    finally:
        let_go(message, request)


def same(answer: Any) -> Any:
    """What is called where there is an answer already, a future: the driver waits for it."""
    return answer


def conclude(exchange: Exchange, message: Message, answer: Any, error: BaseException | None) -> None:
    """Answer a request whose outcome is there, if the association still stands; its data set goes."""
    try:
        if exchange.established:
            respond(exchange, message, status_of_outcome(exchange, message, answer, error))
    finally:
        if message.data is not None and not isinstance(error, DeadlineExceeded):  # who computes the answer may use it
            message.data.discard()


def status_of_outcome(exchange: Exchange, message: Message, answer: Any, error: BaseException | None) -> Status:
    """What is answered where a handler gave this answer, or failed."""
    if isinstance(error, Exception):  # not raised again: its traceback would refer to this frame, and that to all
        return status_of_failure(error, exchange, message.command)
    if error is not None:
        raise error
    try:
        return as_status(answer)
    except Exception as failure:
        return status_of_failure(failure, exchange, message.command)


def let_go(message: Message, request: Request | None) -> None:
    """A request is performed: its data set goes, unless its handler may be about to read it; then it dies with that."""
    kept = False
    if request is not None and request.call is not None:
        kept, request.call = request.call.abandoned, None
    if message.data is not None and not kept:
        message.data.discard()


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
            data = codec.encode(codec.without_commands(dataset), request.transfer_syntax_uid)
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
    for made in request.made_reports:
        yield from _report_made(exchange, service, message.context_id, request, *made)


def _status_and_dataset(answer: Any) -> tuple[Status, Any]:
    if isinstance(answer, tuple):
        status, dataset = answer
        return as_status(status), dataset
    if answer is None or isinstance(answer, int):
        return as_status(answer), None
    return Status.SUCCESS, answer


def _report(
    exchange: Exchange, context_id: int, sop_class: str, instance: str, event: int, dataset: Any, own: bool
) -> Generator[Any, Any, bool]:
    """Send an N-EVENT-REPORT and wait for its response; a peer that declines is not an error of ours.

    It goes in the context of its SOP class where that was accepted, else, unless it may go in no other, in that of the
    request: a meta SOP class has the reports of those in it. Whether the peer took it.
    """
    if not exchange.established:
        return False
    theirs = [one for one in exchange.contexts.values() if one.accepted and one.abstract_syntax == sop_class]
    if own and not theirs:
        return False
    context = theirs[0] if theirs else exchange.contexts[context_id]
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
    return status.is_success


def _report_made(
    exchange: Exchange,
    service: Registration,
    context_id: int,
    request: NormalizedRequest,
    make: Callable[..., tuple[int, Any] | None],
    told: Callable[[bool], object],
    deadline: float | None,
) -> Serving:
    """Make a report, and send it unless the peer has said something meanwhile; see `report_when_made`.

    It is made in a lane of its own: reports that take long hold up no requests.
    """
    taken = False
    options: dict[str, Any] = {} if deadline is None else {"deadline": deadline}
    try:
        made = yield call_for(
            exchange, service, make, heed=partial(_spoke, exchange), lane=(_report_made, service), **options
        )
        if made is not None:
            event, dataset = made
            instance = request.sop_instance_uid
            taken = yield from _report(exchange, context_id, request.sop_class_uid, instance, event, dataset, False)
    except AssociationError:
        raise
    except Exception as error:  # the report comes to nothing here, the association goes on
        log_failure("an event report was not made", error)
    finally:
        told(taken)


def _spoke(exchange: Exchange, event: Event) -> bool:
    exchange.set_aside(event)
    return True


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


def cancelled(exchange: Exchange, message: Message, event: Event | None) -> bool:
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
        call, most = partial(call_for, exchange, service), exchange.limits.responses + 1  # one that is too many
        results = HandlerResults(answer, call, provider.clock, encode, most)
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
    return status, codec.encode(codec.without_commands(dataset), syntax)


def _send_matches(exchange: Exchange, message: Message, results: HandlerResults) -> Generator[Any, Any, Status]:
    left = exchange.limits.responses
    heed = partial(cancelled, exchange, message)
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
