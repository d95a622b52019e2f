"""The services as their user sees them: each procedure once, as a flow over an exchange (PS3.4, PS3.7 Section 9)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any, NamedTuple

from .. import uids
from ..dataset import character_sets, codec
from ..dataset.codec import NATIVE
from ..dataset.transcoding import NEVER, Transcoding
from ..dataset.types import Dataset
from ..errors import (
    AssociationAborted,
    DicomNetError,
    InputFileError,
    InvalidArgument,
    NoAcceptedContext,
    RemoteProtocolError,
)
from ..files.instance_source import Source
from ..log import log
from ..protocol.events import (
    AssociateAccepted,
    ReleaseConfirmation,
    ReleaseIndication,
    RequestReceived,
    ResponseReceived,
)
from ..protocol.exchange import Exchange, Request
from ..protocol.flow import POLL, Flow
from ..protocol.messages import CommandField, Priority
from ..protocol.negotiation import PresentationContext, offers_window
from ..protocol.states import State
from ..status import Status
from ..wire.command_set import Message
from .retrieve_progress import RetrieveProgress
from .scp import AssociationProvider, Provider
from .transfer_choice import fitting

__all__ = [
    "Match",
    "RetrieveProgress",
    "StoreResult",
    "associate",
    "cancel",
    "echo",
    "find",
    "get",
    "move",
    "normalized",
    "release",
    "store_many",
]

_LOOKED_AT = 16  # matches with bytes beyond ASCII, which may be numbers
_UNNAMED = (
    "%s: matches have characters beyond ASCII and name no character set. Ask for it (-k SpecificCharacterSet, "
    'SpecificCharacterSet=""), or say in the profile of the peer which it is (character_set in peers.toml).'
)
_CANCELLABLE = (CommandField.C_FIND_RQ, CommandField.C_GET_RQ, CommandField.C_MOVE_RQ)
_OURS_TO_ANSWER = (State.STA9_COLLISION_REQUESTOR_AWAIT_LOCAL, State.STA12_COLLISION_ACCEPTOR_AWAIT_LOCAL)


class StoreResult(NamedTuple):
    """What became of one instance.

    Attributes:
        source: what was asked to be stored, as it was given.
        status: the peer's answer; None where nothing was sent.
        error: why nothing was sent; None where there is a status.
        sop_class_uid, sop_instance_uid, transfer_syntax_uid: of the instance, as far as they are known.
        size: bytes of its data set.
        seconds: from its first byte sent to its response.
    """

    source: object
    status: Status | None = None
    error: Exception | None = None
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    transfer_syntax_uid: str = ""
    size: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """The peer has it: success, or a warning."""
        return self.status is not None and (self.status.is_success or self.status.is_warning)


class Match:
    """One match of a query; a pydicom Dataset once it is touched: ``match.StudyInstanceUID``.

    Attributes:
        status: pending; with a warning where an optional key was not supported (FF01).
        data: the identifier as the peer sent it, bytes in ``transfer_syntax``.
        transfer_syntax: of ``data``.
        character_set: of the identifier, if it names none; see `peers.Peer`.
        dataset: the identifier, decoded when first asked for.
    """

    __slots__ = ("_dataset", "character_set", "data", "status", "transfer_syntax")

    def __init__(self, status: Status, data: bytes, transfer_syntax: str, character_set: str = "") -> None:
        self.status: Status = status
        self.data: bytes = data
        self.character_set: str = character_set
        self.transfer_syntax: str = transfer_syntax
        self._dataset: Dataset | None = None

    @property
    def dataset(self) -> Dataset:
        """The identifier as a pydicom Dataset."""
        if self._dataset is None:
            self._dataset = codec.decode(self.data, self.transfer_syntax, self.character_set)
        decoded: Dataset = self._dataset
        return decoded

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, key: Any) -> Any:
        return self.dataset[key]

    def __contains__(self, key: Any) -> bool:
        return key in self.dataset

    def __repr__(self) -> str:
        return f"Match({self.status!r}, {len(self.data)} bytes)"


def associate(exchange: Exchange) -> Flow[None]:
    """Wait for the answer to our A-ASSOCIATE-RQ.

    Raises:
        AssociationRejected, AssociationAborted, ConnectionFailed, DeadlineExceeded: there is no association.
    """
    try:
        while not isinstance(event := (yield None), AssociateAccepted):
            exchange.raise_for(event)
    except DicomNetError as error:  # what else arrived with the answer is for those who come next
        ours = isinstance(error, AssociationAborted) and not error.by_peer  # it says why then
        if error.hint is None and not ours and offers_window(exchange.request_pdu):
            error.hint = "Some devices hang up where an operations window is proposed: `--window 1` proposes none."
        raise


def release(exchange: Exchange) -> Flow[None]:
    """Release the association; a collision with the peer's release is resolved as PS3.8 Section 7.2.2 wants it.

    There the requestor of the association answers first; its acceptor answers once its own release is confirmed.
    """
    exchange.release()
    confirmed = False
    while not confirmed:
        event = yield None
        confirmed = isinstance(event, ReleaseConfirmation)
        if exchange.state in _OURS_TO_ANSWER and (confirmed or isinstance(event, ReleaseIndication)):
            exchange.release_response()
        exchange.raise_for(event)


def echo(exchange: Exchange) -> Flow[Status]:
    """C-ECHO: is the peer there, and does it speak DICOM (PS3.7 Section 9.1.5)?"""
    context = exchange.context_for(uids.VERIFICATION)
    request = exchange.request(context, CommandField.C_ECHO_RQ, affected_sop_class_uid=uids.VERIFICATION)
    response = yield from exchange.response_to(request)
    return status_of(response, "C-ECHO")


def store_many(
    exchange: Exchange,
    sources: Iterable[object],
    open_source: Callable[[object], Source],
    clock: Callable[[], float],
    priority: Priority = Priority.MEDIUM,
    originator: tuple[str, int] | None = None,
    transcode: Transcoding = NEVER,
    window: int = 1,
) -> Flow[None]:
    """C-STORE of one instance after another, each in the transfer syntax that it has (PS3.7 Section 9.1.1).

    Yields a result for each, in their order, and goes on after one that cannot be sent.

    Args:
        exchange: an established association.
        sources: what to store, each as ``open_source`` takes it.
        open_source: opens one of them; closed here once its bytes are out.
        clock: gives the time in seconds, for the results.
        priority: of every C-STORE.
        originator: AE title and message ID of the C-MOVE that this is for.
        transcode: when to convert to another transfer syntax; see `transfer_choice.fitting`.
        window: how many may be unanswered at a time; no more than ``exchange.window``.

    Raises:
        AssociationError, ConnectionFailed, DeadlineExceeded, RemoteProtocolError: the association ended.
    """
    send = partial(_send_store, exchange, clock, priority, originator, transcode)
    opened = _open_each(sources, open_source)
    under_way: deque[_Store] = deque()
    try:
        yield from _store_each(exchange, opened, send, under_way, clock, window)
    except DicomNetError as error:
        _tell_unanswered(error, under_way)
        yield from [store.result() for store in under_way if store.done]
        raise
    finally:
        opened.close()
        _abandon(under_way)


def _tell_unanswered(error: DicomNetError, under_way: Iterable[_Store]) -> None:
    error.unanswered = tuple(store.given for store in under_way if not store.done)
    if len(error.unanswered) > 1 and error.hint is None:
        error.hint = "Several instances were under way: `--window 1` sends one at a time."


class _Store:
    """One instance: opened, or why not; then its request, and what came of it."""

    __slots__ = ("done", "error", "given", "request", "seconds", "sent", "source", "status")

    def __init__(self, given: object, source: Source | None, error: Exception | None) -> None:
        self.given = given
        self.source = source  # until its bytes are out
        self.error = error
        self.done = source is None
        self.sent = source  # as it goes out
        self.request: Request | None = None
        self.status: Status | None = None
        self.seconds = 0.0

    def close(self) -> None:
        """Its bytes are out, or never will be."""
        if self.source is not None:
            self.source.close()
            self.source = None

    def abandon(self) -> None:
        """No caller waits for it any more."""
        self.close()
        if self.request is not None:
            self.request.abandoned = True

    def result(self) -> StoreResult:
        """What became of it."""
        sent = self.sent
        if sent is None:
            return StoreResult(self.given, None, self.error)
        return StoreResult(
            self.given,
            self.status,
            self.error,
            sent.sop_class_uid,
            sent.sop_instance_uid,
            sent.transfer_syntax_uid,
            sent.size,
            self.seconds,
        )


def _abandon(under_way: Iterable[_Store]) -> None:
    for store in under_way:
        store.abandon()


def _store_each(
    exchange: Exchange,
    opened: Generator[_Store, None, None],
    send: Callable[[_Store], bool],
    under_way: deque[_Store],
    clock: Callable[[], float],
    window: int,
) -> Flow[None]:
    """Keep so many ``under_way``; what is done leaves at the front."""
    following = next(opened, None)
    while following is not None or under_way:
        event = None
        if following is not None and len(under_way) < window and exchange.established:
            under_way.append(following)
            if send(following):
                event = yield POLL
            following.close()  # everything is written now: the source is not needed any more
            following = next(opened, None)  # a fifth of the time of a small file, while the peer stores this one
        else:
            event = yield None
        if event is not None and type(event) is not ResponseReceived:
            exchange.set_aside(event)
        _take_answers(under_way, clock)
        while under_way and under_way[0].done:
            yield under_way.popleft().result()
            _take_answers(under_way, clock)  # they may have come to another call


def _take_answers(under_way: Iterable[_Store], clock: Callable[[], float]) -> None:
    for store in under_way:
        if not store.done and store.request is not None and store.request.answer is not None:
            store.status = status_of(store.request.answer, "C-STORE")
            store.seconds += clock()
            store.done = True


def _open_each(sources: Iterable[object], open_source: Callable[[object], Source]) -> Generator[_Store, None, None]:
    """Open one after another; the one that was not taken is closed with the generator."""
    store = None
    try:
        for given in sources:
            try:
                store = _Store(given, _opened(given, open_source), None)
            except (InputFileError, InvalidArgument) as error:
                store = _Store(given, None, error)
            yield store
    finally:
        if store is not None:
            store.close()


def _opened(given: object, open_source: Callable[[object], Source]) -> Source:
    source = open_source(given)
    try:
        _ = source.size  # a source of an archive opens its instance now, which may be gone
    except DicomNetError:
        source.close()
        raise
    return source


def _send_store(
    exchange: Exchange,
    clock: Callable[[], float],
    priority: Priority,
    originator: tuple[str, int] | None,
    transcode: Transcoding,
    store: _Store,
) -> bool:
    """Send the request of an instance; false where there is none, or no way to."""
    if store.source is None:
        return False
    store.seconds = -clock()
    try:
        context, store.sent = _fitting(exchange, store.source, transcode)
        store.request = _request_store(exchange, context, store.sent, priority, originator)
    except (NoAcceptedContext, InvalidArgument) as refusal:
        refusal.peer = exchange.peer
        store.error, store.done = refusal, True
        return False
    return True


def _fitting(exchange: Exchange, source: Source, transcode: Transcoding) -> tuple[PresentationContext, Source]:
    if transcode == NEVER:  # the way of nearly everything that is sent
        try:
            return exchange.context_for(source.sop_class_uid, source.transfer_syntax_uid), source
        except NoAcceptedContext:
            if source.transfer_syntax_uid not in NATIVE:
                raise
    return fitting(source, exchange.contexts.values(), transcode)


def _request_store(
    exchange: Exchange,
    context: PresentationContext,
    instance: Source,
    priority: Priority,
    originator: tuple[str, int] | None,
) -> Request:
    return exchange.request(
        context,
        CommandField.C_STORE_RQ,
        instance,
        affected_sop_class_uid=instance.sop_class_uid,
        affected_sop_instance_uid=instance.sop_instance_uid,
        priority=priority,
        move_originator_ae_title=originator[0] if originator else None,
        move_originator_message_id=originator[1] if originator else None,
    )


def find(
    exchange: Exchange, context: PresentationContext, identifier: bytes, priority: Priority = Priority.MEDIUM
) -> Flow[Status]:
    """C-FIND: yield each match, return the final status (PS3.7 Section 9.1.2).

    Closing the flow before its end cancels: C-CANCEL goes out, and what the peer still sends is dropped.

    Args:
        exchange: an established association.
        context: of the information model.
        identifier: the keys, encoded in the context's transfer syntax.
        priority: of the operation.
    """
    request = exchange.request(
        context,
        CommandField.C_FIND_RQ,
        identifier,
        affected_sop_class_uid=context.abstract_syntax,
        priority=priority,
    )
    syntax, character_set = context.transfer_syntax, exchange.profile.character_set
    looked_at = _LOOKED_AT if not character_set else 0
    try:
        while True:
            response = yield from exchange.response_to(request)
            status = status_of(response, "C-FIND")
            if not status.is_pending:
                return status
            data = data_of(response)
            if looked_at and not data.isascii():
                looked_at -= 1
                if character_sets.is_unnamed(data, syntax):
                    looked_at = 0
                    log.warning(_UNNAMED, exchange.peer)
            yield Match(status, data, syntax, character_set)
    except GeneratorExit:
        exchange.cancel(request)
        raise


def move(
    exchange: Exchange,
    context: PresentationContext,
    identifier: bytes,
    destination: str,
    priority: Priority = Priority.MEDIUM,
) -> Flow[RetrieveProgress]:
    """C-MOVE: yield the progress that the peer reports, return the outcome (PS3.7 Section 9.1.4)."""
    request = exchange.request(
        context,
        CommandField.C_MOVE_RQ,
        identifier,
        affected_sop_class_uid=context.abstract_syntax,
        priority=priority,
        move_destination=destination,
    )
    return (yield from _retrieve(exchange, request, "C-MOVE", None))


def get(
    exchange: Exchange,
    context: PresentationContext,
    identifier: bytes,
    provider: Provider,
    priority: Priority = Priority.MEDIUM,
) -> Flow[RetrieveProgress]:
    """C-GET: the instances arrive as C-STOREs, and ``provider`` stores them (PS3.7 Section 9.1.3)."""
    performer = AssociationProvider(exchange, provider, exchange.peer or "")
    exchange.open_sink = performer.open_sink
    request = exchange.request(
        context,
        CommandField.C_GET_RQ,
        identifier,
        affected_sop_class_uid=context.abstract_syntax,
        priority=priority,
    )
    return (yield from _retrieve(exchange, request, "C-GET", performer))


def _retrieve(
    exchange: Exchange, request: Request, service: str, performer: AssociationProvider | None
) -> Flow[RetrieveProgress]:
    try:
        while True:
            event = yield None
            if isinstance(event, RequestReceived) and performer is not None:
                yield from performer.perform(event.message)
            elif isinstance(event, ResponseReceived) and exchange.answers(event.message, request):
                progress = _progress(event.message, service, request.context.transfer_syntax)
                if not progress.status.is_pending:
                    return progress
                yield progress
            else:
                exchange.set_aside(event)
    except GeneratorExit:
        exchange.cancel(request)
        raise


def cancel(exchange: Exchange) -> None:
    """Ask the peer to end each C-FIND, C-GET and C-MOVE that is under way (PS3.7 Section 9.3.2.3).

    Their flows go on to the final response, which says that they were cancelled, or that it was too late.
    """
    for request in list(exchange.pending.values()):
        if request.command.command_field in _CANCELLABLE and not request.abandoned:
            exchange.cancel(request, abandon=False)


def normalized(
    exchange: Exchange,
    context: PresentationContext,
    field: CommandField,
    data: bytes | None = None,
    **elements: Any,
) -> Flow[Message]:
    """One N-service: N-EVENT-REPORT, N-GET, N-SET, N-ACTION, N-CREATE or N-DELETE; its response (PS3.7 Section 10.1).

    Args:
        exchange: an established association.
        context: for the SOP class, or the meta SOP class that it belongs to.
        field: the request's Command Field.
        data: the attributes or the information, encoded in the context's transfer syntax.
        elements: the request's other elements, by their attribute of `Command`.
    """
    request = exchange.request(context, field, data, **elements)
    response: Message = yield from exchange.response_to(request)
    return response


def data_of(response: Message) -> bytes:
    """The data set of a response as bytes; empty where there is none.

    Raises:
        RemoteProtocolError: it did not fit the limit for data sets in memory.
    """
    if response.error is not None:
        raise RemoteProtocolError(f"a response's data set could not be kept: {response.error}") from response.error
    return response.data.getvalue() if response.data is not None else b""


def _progress(response: Message, service: str, transfer_syntax: str) -> RetrieveProgress:
    command = response.command
    return RetrieveProgress(
        status_of(response, service),
        command.number_of_remaining_suboperations or 0,
        command.number_of_completed_suboperations or 0,
        command.number_of_failed_suboperations or 0,
        command.number_of_warning_suboperations or 0,
        data_of(response),
        transfer_syntax,
    )


def status_of(response: Message, service: str) -> Status:
    """The status of a response, with what the peer said about it (PS3.7 Annex C)."""
    command = response.command
    return Status(
        command.status,
        service=service,
        comment=command.error_comment,
        offending=command.offending_element or (),
        error_id=command.error_id or 0,
    )
