"""What users call, as flows: arguments are checked and encoded here, once for both faces, and nothing is sent before.

Each function takes an established exchange and gives a flow for a driver. A failure status is raised as a
`ServiceFailure`; warnings and partial retrieves are returned.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from itertools import cycle
from typing import Any, NamedTuple, TypeAlias

from .. import uids
from ..config import check_ae_title
from ..dataset import codec, transcoding
from ..dataset.types import Dataset, Path, Storable, is_uid_like
from ..errors import InvalidArgument, OutputFileError, OutputProblem, ServiceFailure
from ..files.duplicates import commit_apart
from ..protocol.events import RequestReceived
from ..protocol.exchange import Exchange
from ..protocol.flow import POLL, Call, Flow
from ..protocol.messages import CommandField, Priority
from ..status import Status
from ..wire.command_set import Message
from . import query_models, scu
from .kept import KEYS, KeptCounter
from .provider_requests import StoreRequest
from .scp import AssociationProvider, Provider
from .scu import RetrieveProgress

__all__ = [
    "Commitment",
    "Encoded",
    "Keep",
    "Progress",
    "Reply",
    "Reports",
    "commit",
    "event_report",
    "find",
    "get",
    "keeper",
    "move",
    "normalized",
    "request_commitment",
    "store_many",
]

#: A data set as it is given: a pydicom Dataset, values by keyword, or bytes in the transfer syntax of the context.
Encoded: TypeAlias = "Dataset | Mapping[str, object] | bytes"
#: What takes an instance that arrives; its answer is a status, or None for success. In asyncio it may be awaited.
Keep: TypeAlias = Callable[[StoreRequest], object]
#: What is told of each pending response of a retrieve. In asyncio it may be awaited.
Progress: TypeAlias = Callable[[RetrieveProgress], object]


class Reply:
    """The answer to an N-service.

    Attributes:
        status: success or a warning.
        data: the data set that came with it, bytes in ``transfer_syntax``; empty where there is none.
        transfer_syntax: of ``data``.
        character_set: of ``data``, if they name none; see `peers.Peer`.
        sop_instance_uid: Affected SOP Instance UID; for an N-CREATE the one that the provider chose.
        action_type_id, event_type_id: as the provider repeats them.
    """

    __slots__ = (
        "action_type_id",
        "character_set",
        "data",
        "event_type_id",
        "sop_instance_uid",
        "status",
        "transfer_syntax",
    )

    def __init__(self, message: Message, status: Status, transfer_syntax: str, character_set: str = "") -> None:
        command = message.command
        self.character_set: str = character_set
        self.status: Status = status
        self.data: bytes = scu.data_of(message)
        self.transfer_syntax: str = transfer_syntax
        self.sop_instance_uid: str = command.affected_sop_instance_uid or ""
        self.action_type_id: int | None = command.action_type_id
        self.event_type_id: int | None = command.event_type_id

    @property
    def dataset(self) -> Dataset | None:
        """The data set as a pydicom Dataset; None where there is none."""
        return codec.decode(self.data, self.transfer_syntax, self.character_set) if self.data else None

    def __repr__(self) -> str:
        return f"Reply({self.status!r}, {len(self.data)} bytes)"


_UNKNOWN_DESTINATION = "The peer does not know the AE title that it was to send to: its operator adds it there."

_UNABLE_TO_MOVE = "Does the peer know the AE title that it was to send to, and reach its address? Its log says more."


def _raise_failure(exchange: Exchange, status: Status, what: str) -> None:
    if status.is_failure:
        hint = None
        if what == "C-MOVE" and status == Status.MOVE_DESTINATION_UNKNOWN:
            hint = _UNKNOWN_DESTINATION
        elif what == "C-MOVE" and 0xC000 <= status < 0xD000:  # Orthanc's answer to an unknown destination, too
            hint = _UNABLE_TO_MOVE
        raise ServiceFailure(status, f"{what} failed: {status}", peer=exchange.peer, hint=hint)


def store_many(
    exchange: Exchange,
    sources: Iterable[Storable],
    clock: Callable[[], float],
    *,
    transfer_syntax: str | None = None,
    priority: Priority = Priority.MEDIUM,
    originator: tuple[str, int] | None = None,
    transcode: transcoding.Transcoding | None = None,
    window: int | None = None,
) -> Flow[None]:
    """C-STORE of many instances; see ``Association.store_many``."""
    if window is not None and window < 1:
        raise InvalidArgument(f"a window of {window!r}: at least one instance has to be under way")
    most = min(exchange.window, exchange.limits.window, window or exchange.window)
    wanted = exchange.profile.transcode if transcode is None else transcode
    policy = transcoding.check_policy(wanted or transcoding.NEVER)
    buffers = cycle([bytearray(exchange.limits.file_buffer) for _ in range(2)])  # one is sent, one is read into

    def opened(given: Any) -> Any:
        return codec.open_source(given, transfer_syntax, buffer=next(buffers))

    return scu.store_many(exchange, sources, opened, clock, priority, originator, policy, most)


def find(
    exchange: Exchange,
    level: str,
    *,
    model: str = "STUDY_ROOT",
    returning: Iterable[str] = (),
    query: Dataset | None = None,
    priority: Priority = Priority.MEDIUM,
    **keys: Any,
) -> Flow[Status]:
    """C-FIND; see ``Association.find``."""
    information = query_models.model_of(model)
    dataset = query_models.identifier(information, level, keys, returning, template=query)
    context = exchange.context_for(query_models.model_uid(model, "find"))
    return _find(exchange, scu.find(exchange, context, codec.encode(dataset, context.transfer_syntax), priority))


def _find(exchange: Exchange, flow: Flow[Status]) -> Flow[Status]:
    status = yield from flow
    _raise_failure(exchange, status, "C-FIND")
    return status


def move(
    exchange: Exchange,
    level: str,
    destination: str,
    *,
    model: str = "STUDY_ROOT",
    query: Dataset | None = None,
    priority: Priority = Priority.MEDIUM,
    **keys: Any,
) -> Flow[RetrieveProgress]:
    """C-MOVE; see ``Association.move``."""
    dataset = query_models.identifier(query_models.model_of(model), level, keys, retrieve=True, template=query)
    context = exchange.context_for(query_models.model_uid(model, "move"))
    data = codec.encode(dataset, context.transfer_syntax)
    flow = scu.move(exchange, context, data, check_ae_title(destination), priority)
    return _retrieved(exchange, flow, "C-MOVE")


def move_steps(exchange: Exchange, level: str, destination: str, **named: Any) -> Flow[None]:
    """C-MOVE: yield what the peer reports of it, its outcome last; see ``Association.move_steps``."""
    yield (yield from move(exchange, level, destination, **named))


def get(
    exchange: Exchange,
    level: str,
    to: Path | Keep | Provider,
    *,
    model: str = "STUDY_ROOT",
    query: Dataset | None = None,
    priority: Priority = Priority.MEDIUM,
    **keys: Any,
) -> Flow[RetrieveProgress]:
    """C-GET; see ``Association.get``."""
    dataset = query_models.identifier(query_models.model_of(model), level, keys, retrieve=True, template=query)
    context = exchange.context_for(query_models.model_uid(model, "get"))
    data = codec.encode(dataset, context.transfer_syntax)
    counter = None if isinstance(to, Provider) else KeptCounter(_plain(dataset))
    provider = receiver(to, exchange, counter)
    return _retrieved(exchange, scu.get(exchange, context, data, provider, priority), "C-GET", counter)


def _retrieved(
    exchange: Exchange, flow: Flow[RetrieveProgress], what: str, counter: KeptCounter | None = None
) -> Flow[RetrieveProgress]:
    """Only a retrieve that did nothing at all is a failure to be raised."""
    done = yield from flow
    if counter is not None:
        done = done._replace(kept=counter.kept, unasked=tuple(counter.unasked))
    if not (done.completed or done.failed or done.warning):
        _raise_failure(exchange, done.status, what)
    return done


def receiver(to: Path | Keep | Provider, exchange: Exchange, counter: KeptCounter | None) -> Provider:
    """Who takes the instances of a retrieve: a `Provider`, a function of `StoreRequest`, or a directory for files."""
    if isinstance(to, Provider):
        return to
    provider = Provider(limits=exchange.limits, timeouts=exchange.timeouts)
    spool, keep = keeper(to)

    @provider.on_store(spool=spool, unknown_classes=True, elements=KEYS)
    def kept(request: StoreRequest) -> object:
        answer = keep(request)
        return answer if counter is None else counter.count(request, answer)

    return provider


def _plain(identifier: Dataset) -> dict[str, object]:
    return {element.keyword: element.value for element in identifier if element.VR == "UI"}


def keeper(to: Path | Keep) -> tuple[str | None, Keep]:
    """A spool and a handler of `StoreRequest` that keep what arrives: a function does, or a directory for files.

    A file is called after the SOP Instance UID; where other bytes have the name already, both are kept (``UID-1.dcm``).

    Raises:
        OutputFileError: there can be no such directory, or nothing can be written to it.
    """
    if callable(to):
        return None, to
    if isinstance(to, Provider):
        raise InvalidArgument("a provider is no place for instances here", hint="Give a directory, or a function.")
    directory = str(to)
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        what = f"no directory for what arrives: {error.strerror}"
        raise OutputFileError(what, problem=OutputProblem.NO_DIRECTORY, path=directory, errno=error.errno) from error
    if not os.access(directory, os.W_OK | os.X_OK):  # before anything is asked for that could not be kept
        raise OutputFileError("cannot be written to", problem=OutputProblem.NO_DIRECTORY, path=directory)

    def keep(request: StoreRequest) -> Status:
        uid = request.sop_instance_uid
        named = uids.is_valid(uid) or is_uid_like(uid)
        name = f"{uid if named else uids.new()}.dcm"
        commit_apart(request.file, name, directory, sender=request.calling, uid=uid)
        return Status.SUCCESS

    return directory, keep


_NORMALIZED = {
    "n_get": (CommandField.N_GET_RQ, "requested"),
    "n_set": (CommandField.N_SET_RQ, "requested"),
    "n_action": (CommandField.N_ACTION_RQ, "requested"),
    "n_create": (CommandField.N_CREATE_RQ, "affected"),
    "n_delete": (CommandField.N_DELETE_RQ, "requested"),
    "n_event_report": (CommandField.N_EVENT_REPORT_RQ, "affected"),
}


def normalized(
    exchange: Exchange,
    service: str,
    sop_class_uid: str,
    sop_instance_uid: str | None,
    dataset: Encoded | None = None,
    *,
    context: str = "",
    **elements: object,
) -> Flow[Reply]:
    """One N-service; see ``Association.n_get`` and its sisters.

    Args:
        exchange: an established association.
        service: "n_get", "n_set", "n_action", "n_create", "n_delete" or "n_event_report".
        sop_class_uid, sop_instance_uid: of the instance; an N-CREATE may leave the choice to the provider.
        dataset: what goes with it, a pydicom Dataset or encoded bytes.
        context: the abstract syntax to use, where it is a meta SOP class; by default the SOP class.
        elements: other elements of the command set.
    """
    field, kind = _NORMALIZED[service]
    # Event reports go from the provider of a SOP class to its user: on an association that the provider asked for, it
    # has proposed that role (PS3.4 Section J.3.3); peers that negotiate no roles are told all the same.
    chosen = exchange.context_for(context or sop_class_uid, scp=None if service == "n_event_report" else False)
    data = None if dataset is None else codec.encode(dataset, chosen.transfer_syntax)
    elements[f"{kind}_sop_class_uid"] = sop_class_uid
    if sop_instance_uid is not None:
        elements[f"{kind}_sop_instance_uid"] = sop_instance_uid
    flow = scu.normalized(exchange, chosen, field, data, **elements)
    return _normalized(exchange, field, chosen.transfer_syntax, flow)


def _normalized(exchange: Exchange, field: CommandField, syntax: str, flow: Flow[Message]) -> Flow[Reply]:
    message = yield from flow
    name = field.name.removesuffix("_RQ").replace("_", "-")
    status = scu.status_of(message, name)
    _raise_failure(exchange, status, name)
    return Reply(message, status, syntax, exchange.profile.character_set)


class Reports(Provider):
    """Performs what the peer asks of the association's requestor, in the middle of whatever waits for the peer.

    Attributes:
        heard: event reports that came, and that no call has waited for.
    """

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(limits=exchange.limits, timeouts=exchange.timeouts)
        self.heard: int = 0
        self._exchange = exchange
        exchange.unasked = self._perform

    def _perform(self, message: Message) -> None:
        _perform_now(AssociationProvider(self._exchange, self, self._exchange.peer or "").perform(message))
        self.heard += message.command.command_field == CommandField.N_EVENT_REPORT_RQ


def _perform_now(flow: Flow[None]) -> None:
    """Run a performer whose handler is an ordinary function; it can wait for nothing."""
    try:
        item = flow.send(None)
        while type(item) is Call:
            try:
                answer = item.function(*item.arguments)
            except Exception as error:
                item = flow.throw(error)
            else:
                item = flow.send(answer)
    except StopIteration:
        pass
    finally:
        flow.close()


def event_report(exchange: Exchange, reports: Reports) -> Flow[None]:
    """Wait for an N-EVENT-REPORT, or for none if one has come already that no call has waited for."""
    exchange.expect(True)
    try:
        while not reports.heard:
            exchange.set_aside((yield None))
        reports.heard -= 1
    finally:
        exchange.expect(False)


class Commitment:
    """What became of a storage commitment (PS3.4 Annex J).

    Attributes:
        transaction_uid: as we asked.
        committed: pairs of SOP class and SOP instance UID, of those that were asked for, that the peer takes
            responsibility for.
        failed: triples of SOP class, SOP instance UID and failure reason (0008,1197).
        missing: pairs that were asked for and that the report does not name: they are not committed (PS3.4 J.3.3).
        unasked: pairs that the report names as committed and that were not asked for.
    """

    __slots__ = ("committed", "failed", "missing", "transaction_uid", "unasked")

    def __init__(self, transaction_uid: str, dataset: Dataset, asked: Iterable[tuple[str, str]]) -> None:
        wanted = dict.fromkeys((str(one), str(other)) for one, other in asked)
        named = dict.fromkeys(_reference(item) for item in dataset.get("ReferencedSOPSequence") or ())
        self.transaction_uid: str = transaction_uid
        self.failed: list[tuple[str, str, int]] = [
            (*_reference(item), int(item.get("FailureReason") or 0)) for item in dataset.get("FailedSOPSequence") or ()
        ]
        failed = {uid for _, uid, _ in self.failed}
        self.committed: list[tuple[str, str]] = [pair for pair in wanted if pair in named and pair[1] not in failed]
        self.missing: list[tuple[str, str]] = [pair for pair in wanted if pair not in named and pair[1] not in failed]
        self.unasked: list[tuple[str, str]] = [pair for pair in named if pair not in wanted]

    @property
    def ok(self) -> bool:
        """Everything that was asked for is committed."""
        return bool(self.committed) and not self.failed and not self.missing

    def __repr__(self) -> str:
        missing = f", {len(self.missing)} not mentioned" if self.missing else ""
        return f"Commitment({len(self.committed)} committed, {len(self.failed)} failed{missing})"


def _reference(item: Any) -> tuple[str, str]:
    return str(item.get("ReferencedSOPClassUID", "")), str(item.get("ReferencedSOPInstanceUID", ""))


def commit(exchange: Exchange, instances: Iterable[tuple[str, str]], *, transaction_uid: str = "") -> Flow[Commitment]:
    """Storage commitment: N-ACTION, then wait for the N-EVENT-REPORT on this association (PS3.4 Section J.3)."""
    asked = _Asked(transaction_uid or uids.new(), list(instances))
    return _commit(exchange, asked, _commitment_action(exchange, asked))


def request_commitment(
    exchange: Exchange, instances: Iterable[tuple[str, str]], *, transaction_uid: str = ""
) -> Flow[Commitment | None]:
    """Storage commitment to be reported on another association: N-ACTION, then the release (PS3.4 Section J.3)."""
    asked = _Asked(transaction_uid or uids.new(), list(instances))
    return _commit_elsewhere(exchange, asked, _commitment_action(exchange, asked))


class _Asked(NamedTuple):
    """A storage commitment that is asked for."""

    transaction_uid: str
    instances: list[tuple[str, str]]


def _commitment_action(exchange: Exchange, asked: _Asked) -> Flow[Reply]:
    pairs = asked.instances
    references = [{"ReferencedSOPClassUID": one, "ReferencedSOPInstanceUID": other} for one, other in pairs]
    if not references:
        raise InvalidArgument("a storage commitment needs at least one instance")
    return normalized(
        exchange,
        "n_action",
        uids.STORAGE_COMMITMENT_PUSH_MODEL,
        uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE,
        codec.from_keywords({"TransactionUID": asked.transaction_uid, "ReferencedSOPSequence": references}),
        action_type_id=1,
    )


class _deferring:  # noqa: N801
    """Meanwhile requests of the peer wait, for the report may be the first of them; what is left is answered then."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __enter__(self) -> None:
        self._exchange.defer_requests = True

    def __exit__(self, *_: object) -> None:
        exchange = self._exchange
        exchange.defer_requests = False
        while exchange.deferred and exchange.established:
            exchange.set_aside(exchange.deferred.popleft())


def _commit(exchange: Exchange, asked: _Asked, action: Flow[Reply]) -> Flow[Commitment]:
    with _deferring(exchange):  # the report may come before the response
        yield from action
        exchange.expect(True)
        try:
            while True:
                event = exchange.deferred.popleft() if exchange.deferred else (yield None)
                report = _report_on(exchange, asked, event)
                if report is not None:
                    return report
        finally:
            exchange.expect(False)


def _commit_elsewhere(exchange: Exchange, asked: _Asked, action: Flow[Reply]) -> Flow[Commitment | None]:
    """A report that crosses our release is heard, though nothing can be answered any more: the peer was hasty."""
    found: Commitment | None = None
    with _deferring(exchange):
        yield from action
        while (event := exchange.deferred.popleft() if exchange.deferred else (yield POLL)) is not None:
            found = _report_on(exchange, asked, event) or found
    release = scu.release(exchange)
    wanted = next(release)
    try:
        while True:
            event = yield wanted
            found = found or _report_on(exchange, asked, event)
            wanted = release.send(event)
    except StopIteration:
        return found


def _report_on(exchange: Exchange, asked: _Asked, event: Any) -> Commitment | None:
    """The report on this transaction, if this event is it; answered, where there still can be an answer."""
    if not isinstance(event, RequestReceived) or event.command.command_field != CommandField.N_EVENT_REPORT_RQ:
        if exchange.established and isinstance(event, RequestReceived):
            exchange.unasked(event.message)  # set aside it would wait for us, and we for it
        elif exchange.established:
            exchange.set_aside(event)
        return None
    syntax = exchange.contexts[event.message.context_id].transfer_syntax
    dataset = codec.decode(scu.data_of(event.message), syntax)
    ours = str(dataset.get("TransactionUID", "")) == asked.transaction_uid
    if exchange.established:
        exchange.respond(
            event.message,
            Status.SUCCESS if ours else Status.INVALID_ARGUMENT_VALUE,
            event_type_id=event.command.event_type_id,
        )
    return Commitment(asked.transaction_uid, dataset, asked.instances) if ours else None
