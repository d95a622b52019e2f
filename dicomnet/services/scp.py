"""The services as their provider performs them: the handlers of an AE, and one flow that serves an association.

The flow (`AssociationProvider.serve`) yields None where it needs the next event, `POLL` between the results of a long
operation, and a `Call` where the user's code is to run; the driver calls or awaits it and sends its result back, or
throws its exception in. What an exception means for the peer is decided here, in one place
(`provider.status_of_failure`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from itertools import count
from typing import Any

from .. import uids
from .._pdu import AssociateRQ
from ..config import HEADER, PENDING_EVERY, Entity, Limits, Timeouts, check_ae_title
from ..dataset.transcoding import IF_NEEDED, Transcoding
from ..errors import ConnectionFailed, InvalidArgument, ServiceFailure, escaped
from ..files.dataset_sink import CollectingSink, MemoryBudget, MemorySink, Sink
from ..files.file_sink import FileSink
from ..log import log, log_failure
from ..protocol.admission import LOCAL_LIMIT_EXCEEDED, TEMPORARY_CONGESTION, Admission, Refusal
from ..protocol.events import AbortIndication, AssociateIndication, Event, ReleaseIndication, RequestReceived
from ..protocol.exchange import Call, Exchange
from ..protocol.messages import CommandField, missing_element, name_of
from ..protocol.negotiation import (
    ABSTRACT_SYNTAX_NOT_SUPPORTED,
    AcceptancePolicy,
    Caller,
    PresentationContext,
    accept,
    user_identity,
)
from ..protocol.peer_profile import Peer, Peers, Relaxation
from ..protocol.states import State
from ..status import Status
from ..wire.command_set import Command, Message
from ..wire.element_walk import HeaderCollector
from . import provider, retrieve_provider
from .gathered_stores import GatheredStores
from .logins import Logins
from .move_sender import MoveSender
from .provider import (
    Serving,
    answer_by,
    answer_now,
    conclude,
    handler_call,
    let_go,
    respond,
    status_of_failure,
)
from .provider_requests import REQUEST_CLASSES, Arrival, NormalizedRequest, Request, StoreRequest, file_sink
from .service_registry import (
    ANY_CLASS,
    Handler,
    Registering,
    Registration,
    ServiceRegistry,
    ServiceSnapshot,
    success,
)

__all__ = ["COUNTED", "AssociationProvider", "Handler", "Provider", "TakeNext", "host_of"]

#: What a provider counts, beside the connections and associations that a listener counts.
COUNTED = ("contexts_refused", "requests_refused")

# An enum's members are looked up by a function in Python, until 3.12; these are looked at for each message.
_C_STORE_RQ, _C_CANCEL_RQ = CommandField.C_STORE_RQ, CommandField.C_CANCEL_RQ
_DEFLATED = uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
_FULL = Refusal(*LOCAL_LIMIT_EXCEEDED, "as many associations are open as Limits.associations allows")
_CLOSING = Refusal(*TEMPORARY_CONGESTION, "the listener is about to stop")
_IDENTIFY = "identify"  # the lane: handlers that hang keep no user out
_SYNTAXES_TOLD = 5  # of a refused context, in the log

TakeNext = Callable[[Callable[[Event], bool]], Event | None]


class _NoLock:
    """Of a provider in a single thread; a listener that serves in several has a lock instead."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class Provider(Registering):
    """What an AE provides: its services, and the policy that follows from them. Both listeners are providers.

    Its decorators (`on_store` and so on) are those of its `ServiceRegistry`.

    Args:
        ae_title: the called AE title that a requestor must ask for; None takes any.
        limits, timeouts: bounds of every association.
        destinations: where a C-MOVE may send instances, by AE title; nothing else is ever connected to.
        peers: what is known of those who call, and of those to whom a C-MOVE sends.
        services: the registry of its handlers, which several providers may share; by default one of its own.

    Attributes:
        transcode: when the instances of a C-GET or C-MOVE are converted to another transfer syntax.
        intercept: called with the exchange and each `Event` of an association before anything is done about it; where
            it gives true, it has dealt with the event itself. For tests, and for spies that may veto.
        move_sender: what sends the instances of a C-MOVE; None opens an association for each C-MOVE.
        pending_every: seconds from one pending response of a C-GET or C-MOVE to the next; 0 is one after each instance.
        closing: whether new associations are rejected, for it is about to stop.
    """

    def __init__(
        self,
        ae_title: str | None = None,
        *,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        destinations: Mapping[str, Entity] | None = None,
        acceptance: AcceptancePolicy | None = None,
        peers: Iterable[Peer] = (),
        services: ServiceRegistry | None = None,
    ) -> None:
        self.services: ServiceRegistry = ServiceRegistry() if services is None else services
        self.ae_title: str | None = None if ae_title is None else check_ae_title(ae_title)
        self.limits: Limits = limits or Limits()
        self.timeouts: Timeouts = timeouts or Timeouts()
        self.destinations: dict[str, Entity] = dict(destinations or {})
        self.acceptance: AcceptancePolicy = acceptance or AcceptancePolicy()
        self.peers: Peers = Peers(peers)
        self.logins: Logins = Logins(self.limits, self.timeouts)
        self.intercept: Callable[[Exchange, Event], bool] | None = None
        self.move_sender: MoveSender | None = None
        self.pending_every: float = PENDING_EVERY
        self.closing = False
        self.seating: Any = _NoLock()
        self.memory: MemoryBudget = MemoryBudget(self.limits.memory)
        self._admission: Admission | None = None
        self._admission_by_rules: tuple[AcceptancePolicy, Admission] | None = None
        self.transcode: Transcoding = IF_NEEDED
        self._rules: tuple[tuple[AcceptancePolicy, str | None, int], AcceptancePolicy] | None = None

    def register(self, registration: Registration) -> Registration:
        """Have requests performed by a handler from the next association on; see `ServiceRegistry.register`."""
        return self.services.register(registration)

    # ---- looking up --------------------------------------------------------------------------------------------

    def policy(self) -> AcceptancePolicy:
        """What is acceptable to an association that is asked for now: by the rules, and by what is registered."""
        return self.policy_of(self.services.snapshot())

    @property
    def admission(self) -> Admission:
        """Who may have an association from now on: by default what `acceptance` and the AE title say.

        Another one that is assigned takes its place, for the next association; None goes back to the default.
        """
        if self._admission is not None:
            return self._admission
        rules = self._own_rules()
        if self._admission_by_rules is None or self._admission_by_rules[0] is not rules:
            self._admission_by_rules = rules, Admission.of(rules)
        return self._admission_by_rules[1]

    @admission.setter
    def admission(self, admission: Admission | None) -> None:
        if not isinstance(admission, Admission | None):
            raise InvalidArgument(f"{admission!r} is no Admission", hint="Give dicomnet.Admission(rules).")
        self._admission = admission

    def policy_of(self, services: ServiceSnapshot) -> AcceptancePolicy:
        """What is acceptable, by the rules of now and by these services."""
        return services.acceptance(self._own_rules())

    def _own_rules(self) -> AcceptancePolicy:
        """The rules without what follows from services; the same object until they change."""
        now = self.acceptance, self.ae_title, self.limits.max_pdu
        if self._rules is None or self._rules[0] != now or self._rules[0][0] is not now[0]:
            title = self.ae_title if self.ae_title is not None else self.acceptance.ae_title
            self._rules = now, self.acceptance._replace(ae_title=title, max_pdu=self.limits.max_pdu)
        return self._rules[1]

    def clock(self) -> float:
        """Monotonic seconds; only a listener has a clock."""
        return 0.0

    def present(self) -> Iterable[Exchange]:
        """The associations that are served now; a listener knows."""
        return ()

    def counted(self, exchange: Exchange) -> tuple[int, int]:
        """How many other associations have the AE title, and the host, of this one."""
        others = [one for one in self.present() if one is not exchange and one.established]
        host = host_of(exchange.address)
        return (
            sum(one.calling == exchange.calling for one in others),
            sum(host_of(one.address) == host for one in others),
        )

    def seat(self, exchange: Exchange) -> None:
        """An association is accepted, where they are counted by AE title or host."""

    def unseat(self, exchange: Exchange) -> None:
        """An association is about to be released."""

    def count(self, name: str, number: int = 1) -> None:
        """Something happened that is counted; a listener has counters, see ``COUNTED``."""

    def flow(
        self, exchange: Exchange, address: str, *, full: Callable[[], bool] = bool, take_next: TakeNext | None = None
    ) -> Serving:
        """What serves an association, for the driver; see `AssociationProvider` and its `serve`."""
        return AssociationProvider(exchange, self, address, take_next).serve(full=full)


class AssociationProvider:
    """What performs the requests of one association, by the services that were registered when it began.

    Args:
        exchange: the acceptor's side of a transport that just opened, or the requestor's of a C-GET.
        provider: whose services and rules.
        address: of the peer, for handlers and the log.
        take_next: gives the next event that has come if it is wanted; where handlers run in threads.

    Attributes:
        on_request: called with each request that is about to be performed, and each C-CANCEL; None: nothing is called.
    """

    __slots__ = (
        "_found", "_service", "_take_next", "address", "exchange", "gathered", "on_request", "provider", "services",
    )  # fmt: skip

    def __init__(
        self, exchange: Exchange, provider: Provider, address: str = "", take_next: TakeNext | None = None
    ) -> None:
        # Who performs the last request, and what was asked for: a request is looked up twice, and the next is alike.
        self._found: tuple[object, ...] = ()
        self._service: Registration | None = None
        self.exchange: Exchange = exchange
        self.provider: Provider = provider
        self.address: str = address
        self.services: ServiceSnapshot = provider.services.snapshot()
        self._take_next = take_next
        self.on_request: Callable[[Message], object] | None = None
        self.gathered: GatheredStores | None = None if take_next is None else GatheredStores(exchange, provider.clock)

    def service_for(self, command: Command, context: PresentationContext) -> Registration | None:
        """Who performs this request: by its SOP class, or by the meta SOP class of its presentation context."""
        field, services = command.command_field or 0, self.services
        named = command.affected_sop_class_uid or command.requested_sop_class_uid or context.abstract_syntax
        asked = services, context, field, named
        if asked == self._found:
            return self._service
        find, syntax = services.find, context.transfer_syntax
        service = find(field, named, syntax)
        if service is None and named != context.abstract_syntax:
            service = find(field, context.abstract_syntax, syntax)
        if service is None:
            service = find(field, ANY_CLASS, syntax)
        self._found, self._service = asked, service
        return service

    def open_sink(self, context: PresentationContext, command: Command) -> Sink:
        """Where the data set of a request goes: to its spool, or into memory.

        Raises:
            ServiceFailure: nowhere: the request is refused before its data set has come (PS3.7 Section 9.3.1.3).
        """
        service = self.service_for(command, context)
        status = _unacceptable(self.exchange, command, context.abstract_syntax, service)
        if status is not None:
            self._tell_refused_request(command, status)
            raise ServiceFailure(status, f"refused: {status}")
        assert service is not None
        sink = self._sink_for(service, context, command)
        if isinstance(sink, FileSink):
            sink.awaited = True  # by the driver, before the request is performed
        if service.elements is None or isinstance(sink, MemorySink) or context.transfer_syntax == _DEFLATED:
            return sink
        return CollectingSink(sink, HeaderCollector(context.transfer_syntax, HEADER))

    def _sink_for(self, service: Registration, context: PresentationContext, command: Command) -> Sink:
        if service.sink is not None:
            return service.sink(Arrival(self.exchange, context, command))
        if service.spool is not None:
            return file_sink(service.spool, context, command, self.exchange.calling, durable=service.durable)
        limits = self.provider.limits
        most = limits.message if command.command_field == _C_STORE_RQ else limits.identifier or limits.message
        return MemorySink(most, self.provider.memory)

    def serve(self, *, full: Callable[[], bool] = bool) -> Serving:
        """Serve until the association is closed; the driver closes this flow then.

        Args:
            full: asked when an association is: whether there are more than the limit allows; it is rejected then.
        """
        exchange, address = self.exchange, self.address
        exchange.open_sink = self.open_sink
        exchange.defer_requests = True
        exchange.address = address
        for pause in count(1):
            exchange.rests = pause
            try:
                event: Event = exchange.deferred.popleft() if exchange.deferred else (yield None)
            except ConnectionFailed:  # the driver says that the association is over; nothing was going on
                if exchange.request_pdu is None and exchange.fault:
                    log.info("no association with %s: %s", address, exchange.fault)
                return
            exchange.rests = 0
            if self.provider.intercept is not None and self.provider.intercept(exchange, event):
                continue
            if type(event) is RequestReceived:
                begun = self.begin(event.message, checked=True)
                if begun is not None:
                    yield from begun
            elif isinstance(event, AssociateIndication):
                self.services = self.provider.services.snapshot()
                yield from self.admit(full)
            elif isinstance(event, ReleaseIndication) and exchange.state is State.STA8_AWAIT_LOCAL_RELEASE_RESPONSE:
                self.provider.unseat(exchange)
                exchange.release_response()
            elif isinstance(event, AbortIndication):
                log.info("association with %s ended: %s", address, exchange.error_of(event))

    def admit(self, full: Callable[[], bool]) -> Serving:
        """Find out who is calling, and answer by the rules of now and the services of this association."""
        exchange, provider = self.exchange, self.provider
        if not _is_asked(exchange) or exchange.request_pdu is None:
            return  # the peer thought better of it already
        admission, policy = provider.admission, provider.policy_of(self.services)
        request = exchange.normalized_request(policy.ae_title)
        caller = Caller(self.address, exchange.tls)
        refusal = _CLOSING if provider.closing else admission.evaluate(request, caller, early=True)
        if refusal is not None or full():
            self.refuse(refusal or _FULL, counted=refusal is None)
            return
        verdict = yield from self._identify(admission, request, caller)
        if not _is_asked(exchange):
            return  # the peer did not wait for it
        with provider.seating:  # two at a time could both be the last one that there is room for
            same = provider.counted(exchange) if admission.counts else (0, 0)
            caller = Caller(self.address, exchange.tls, *same, None if isinstance(verdict, Refusal) else verdict)
            refusal = verdict if isinstance(verdict, Refusal) else admission.evaluate(request, caller)
            if refusal is None:
                exchange.accept(accept(request, policy, caller))
                if admission.counts:
                    provider.seat(exchange)
        if refusal is not None:
            self.refuse(refusal)
        else:
            self._tell_refused_contexts()

    def _identify(
        self, admission: Admission, request: AssociateRQ, caller: Caller
    ) -> Generator[Any, Any, bool | bytes | Refusal | None]:
        """Who the user is, if that is asked: the verdict, or a refusal to look at it."""
        exchange, provider, host = self.exchange, self.provider, host_of(self.address)
        identity = user_identity(request)
        if identity is None or admission.identify is None or not 1 <= identity.type <= 5:
            return None
        with provider.seating:
            may_try = provider.logins.may_try(host, provider.clock())
        if not may_try:
            return Refusal(*LOCAL_LIMIT_EXCEEDED, "too many logins from its host have failed")
        verdict: bool | bytes | None = None
        try:
            verdict = yield Call(
                admission.identify, identity, caller, deadline=exchange.timeouts.handler, lane=_IDENTIFY
            )
        except Exception as error:
            log_failure(f"the identity of a user at {self.address} cannot be judged", error)
        if verdict is not None and verdict is not False:
            with provider.seating:
                provider.logins.succeeded(host)
            exchange.user = identity
        return verdict

    def refuse(self, refusal: Refusal, *, counted: bool = False) -> None:
        """Reject the association, and say so in the log."""
        exchange = self.exchange
        exchange.reject(refusal.result, refusal.source, refusal.reason)
        if not counted:
            self.provider.count("refused")
        log.info("refused an association to %s at %s: %s", _title(exchange.calling), self.address, refusal.why)

    def _tell_refused_contexts(self) -> None:
        for context in self.exchange.contexts.values():
            if not context.accepted:
                self.provider.count("contexts_refused")
                log.info(
                    "refused context %d of %s at %s, %s: %s",
                    context.id, _title(self.exchange.calling), self.address,
                    escaped(uids.name_of(context.abstract_syntax)), _why_refused(context),
                )  # fmt: skip

    def _tell_refused_request(self, command: Command, status: Status) -> None:
        named = command.affected_sop_class_uid or command.requested_sop_class_uid or ""
        self.provider.count("requests_refused")
        log.info(
            "refused a %s of %s by %s at %s: %s",
            name_of(command), escaped(uids.name_of(named)), _title(self.exchange.calling), self.address, status,
        )  # fmt: skip

    def perform(self, message: Message) -> Serving:
        """Perform one request of the peer and answer it."""
        begun = self.begin(message)
        if begun is not None:
            yield from begun

    def begin(self, message: Message, *, checked: bool = False) -> Serving | None:
        """Begin to perform a request of the peer: the flow that goes on with it; None where it is answered already.

        ``checked``: a request with a data set is acceptable if that was taken, for `open_sink` took it.
        """
        exchange, command = self.exchange, message.command
        if self.on_request is not None:
            self.on_request(message)
        if command.command_field == _C_CANCEL_RQ:
            return None  # what it was for is over already
        begun: Serving | None = None
        try:
            service = self.service_for(command, exchange.contexts[message.context_id])
            status = None
            if not checked or message.data is None or message.error is not None:
                status = _refusal(exchange, message, service)
            if status is not None:
                if message.error is None:  # otherwise it was told when the data set began to arrive
                    self._tell_refused_request(command, status)
                respond(exchange, message, status)
                return None
            assert service is not None  # otherwise the request is refused
            if service.handler is success:
                respond(exchange, message, Status.SUCCESS)
            else:
                begun = self._begun(service, message)
        finally:
            if begun is None:
                let_go(message, None)
        return begun

    def _begun(self, service: Registration, message: Message) -> Serving | None:
        """The flow by which a handler answers a request; None where it has, for it never blocks."""
        exchange, field = self.exchange, message.command.command_field
        request = REQUEST_CLASSES.get(field, NormalizedRequest)(exchange, message, self.address)
        performer = _PERFORMERS.get(field)
        if performer is not None:
            flow = performer(exchange, self.provider, service, message, request)
            return _letting_go(flow, message, request)
        if isinstance(request, StoreRequest):
            if service.elements is not None:
                request.collect(service.elements)
            if self.gathered is not None and not service.inline:
                return self.gathered.perform(service, (message, request), self.another)
        if self.gathered is not None and service.inline:
            return answer_now(exchange, service, message, request)
        call = handler_call(exchange, service, request, later=partial(conclude, exchange, message))
        return answer_by(call, exchange, message, request)

    def another(self) -> tuple[Message, StoreRequest] | None:
        """The next request that has come, where it is a C-STORE for the handler of the last; else it waits its turn."""
        if self._take_next is None or self.provider.intercept is not None or self.exchange.deferred:
            return None
        event = self._take_next(self._is_alike)
        if not isinstance(event, RequestReceived):
            return None
        if self.on_request is not None:
            self.on_request(event.message)
        request = StoreRequest(self.exchange, event.message, self.address)
        if self._service is not None and self._service.elements is not None:
            request.collect(self._service.elements)
        return event.message, request

    def _is_alike(self, event: Event) -> bool:
        """Whether an event is a C-STORE with its data set, for the handler that was found last."""
        if type(event) is not RequestReceived:
            return False
        message, before = event.message, self._service
        return (
            message.command.command_field == _C_STORE_RQ
            and message.error is None
            and message.data is not None
            and before is not None
            and self.service_for(message.command, self.exchange.contexts[message.context_id]) is before
        )


def _letting_go(flow: Serving, message: Message, request: Request) -> Serving:
    """A flow that performs a request, and what is to be done at its end."""
    try:
        yield from flow
    finally:
        let_go(message, request)


def pause_of(exchange: Exchange) -> int:
    """Which pause an association is in, 0 for none: where it is the same twice, nothing happened in between.

    To a listener that stops, what is no association yet, or none any more, is one that pauses, too.
    """
    if not exchange.requested or exchange.state is State.STA13_AWAIT_TRANSPORT_CLOSE:
        return -1
    return exchange.rests if exchange.established and not (exchange.receiving or exchange.sending) else 0


def _title(ae_title: str) -> str:
    """An AE title for the log."""
    return escaped(ae_title) or "no AE title"


def _why_refused(context: PresentationContext) -> str:
    """Why a presentation context was refused, with what was offered in it."""
    if context.result == ABSTRACT_SYNTAX_NOT_SUPPORTED:
        return "no service for this SOP class is registered"
    named = [escaped(uids.name_of(one)) for one in context.offered[:_SYNTAXES_TOLD]]
    more = len(context.offered) - len(named)
    return f"none of its transfer syntaxes is taken: {', '.join(named)}{f' and {more} more' if more else ''}"


def _is_asked(exchange: Exchange) -> bool:
    return exchange.state is State.STA3_AWAIT_LOCAL_ASSOCIATE_RESPONSE


def host_of(address: str) -> str:
    """The host of ``host:port``."""
    return address.rpartition(":")[0]


def _refusal(exchange: Exchange, message: Message, service: Registration | None) -> Status | None:
    """Why a request is not handed to a handler; None where it is."""
    if isinstance(message.error, ServiceFailure):
        return message.error.status
    if message.error is not None:
        return status_of_failure(message.error, exchange, message.command)
    negotiated = exchange.contexts[message.context_id].abstract_syntax
    status = _unacceptable(exchange, message.command, negotiated, service)
    if status is None and message.data is None and message.command.command_field in _WITH_DATA:
        return Status(Status.MISTYPED_ARGUMENT, comment="missing: data set")
    return status


def _unacceptable(exchange: Exchange, command: Command, negotiated: str, service: Registration | None) -> Status | None:
    """What is wrong with a command set in a context of this abstract syntax; None where nothing is."""
    if service is None:
        known = command.command_field in _PERFORMERS or command.command_field in _PLAIN
        return Status.SOP_CLASS_NOT_SUPPORTED if known else Status.UNRECOGNIZED_OPERATION
    missing = missing_element(command)
    if missing and not (missing == "priority" and Relaxation.NO_PRIORITY in exchange.profile.relax):
        return Status(Status.MISTYPED_ARGUMENT, comment=f"missing: {missing}")
    # Its transfer syntaxes were negotiated for one SOP class, and so was that the peer may store it.
    other = command.command_field == _C_STORE_RQ and command.affected_sop_class_uid != negotiated
    if other and Relaxation.MISMATCHED_CLASS not in exchange.profile.relax:
        return Status(Status.SOP_CLASS_NOT_SUPPORTED, comment="not the SOP class of its presentation context")
    return None


_PERFORMERS: dict[int, Callable[..., Serving]] = {
    CommandField.C_FIND_RQ: provider.perform_find,
    CommandField.C_GET_RQ: retrieve_provider.perform_get,
    CommandField.C_MOVE_RQ: retrieve_provider.perform_move,
    CommandField.N_EVENT_REPORT_RQ: provider.perform_normalized,
    CommandField.N_GET_RQ: provider.perform_normalized,
    CommandField.N_SET_RQ: provider.perform_normalized,
    CommandField.N_ACTION_RQ: provider.perform_normalized,
    CommandField.N_CREATE_RQ: provider.perform_normalized,
    CommandField.N_DELETE_RQ: provider.perform_normalized,
}
_PLAIN = (CommandField.C_ECHO_RQ, CommandField.C_STORE_RQ)
_WITH_DATA = frozenset(
    {
        CommandField.C_STORE_RQ,
        CommandField.C_FIND_RQ,
        CommandField.C_GET_RQ,
        CommandField.C_MOVE_RQ,
        CommandField.N_SET_RQ,
    }
)
