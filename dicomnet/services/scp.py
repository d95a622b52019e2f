"""The services as their provider performs them: the handlers of an AE, and one flow that serves an association.

The flow (`serve`) yields None where it needs the next event, `POLL` between the results of a long operation, and a
`Call` where the user's code is to run; the driver calls or awaits it and sends its result back, or throws its exception
in. What an exception means for the peer is decided here, in one place (`provider.status_of_failure`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import count
from typing import Any

from .. import uids
from ..config import Entity, Limits, Timeouts, check_ae_title
from ..dataset.codec import IF_NEEDED, Transcoding
from ..errors import ConnectionFailed, ServiceFailure
from ..files.dataset_sink import FileSink, MemorySink, Sink
from ..files.part10 import meta_header
from ..log import log, log_failure
from ..protocol.events import AbortIndication, AssociateIndication, Event, ReleaseIndication, RequestReceived
from ..protocol.exchange import Call, Exchange
from ..protocol.messages import CommandField, missing_element
from ..protocol.negotiation import AcceptancePolicy, Caller, PresentationContext, user_identity
from ..protocol.peer_profile import Peer, Peers, Relaxation
from ..protocol.states import State
from ..status import Status
from ..wire.command_set import Command, Message
from . import provider, query_models
from .provider import Handler, Service, Serving, as_status, respond, status_of_failure, success
from .provider_requests import REQUEST_CLASSES, NormalizedRequest

__all__ = ["Handler", "Provider", "host_of", "perform", "serve"]

# An enum's members are looked up by a function in Python, until 3.12; these are looked at for each message.
_C_STORE_RQ, _C_CANCEL_RQ = CommandField.C_STORE_RQ, CommandField.C_CANCEL_RQ
_LOCAL_LIMIT_EXCEEDED = (2, 3, 2)  # transient, by the provider (presentation related), PS3.8 Table 9-21


class _Admission:
    """Lets everybody in at once; a listener has a lock instead."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class Provider:
    """What an AE provides: its handlers, and the policy that follows from them. Both listeners are providers.

    Args:
        ae_title: the called AE title that a requestor must ask for; None takes any.
        limits, timeouts: bounds of every association.
        destinations: where a C-MOVE may send instances, by AE title; nothing else is ever connected to.
        peers: what is known of those who call, and of those to whom a C-MOVE sends.

    Attributes:
        transcode: when the instances of a C-GET or C-MOVE are converted to another transfer syntax.
    """

    _clock: Callable[[], float] = float  # a listener has a better one, in monotonic seconds

    def __init__(
        self,
        ae_title: str | None = None,
        *,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        destinations: Mapping[str, Entity] | None = None,
        acceptance: AcceptancePolicy | None = None,
        peers: Iterable[Peer] = (),
    ) -> None:
        self.ae_title = None if ae_title is None else check_ae_title(ae_title)
        self.limits = limits or Limits()
        self.timeouts = timeouts or Timeouts()
        self.destinations = dict(destinations or {})
        self.acceptance = acceptance or AcceptancePolicy()
        self.peers = Peers(peers)
        self.logins = Logins(self.limits, self.timeouts)
        self.admission: Any = _Admission()
        self.transcode: Transcoding = IF_NEEDED
        self._services: dict[tuple[int, str], Service] = {(CommandField.C_ECHO_RQ, uids.VERIFICATION): Service(success)}
        self._any_storage: Service | None = None

    # ---- registering -------------------------------------------------------------------------------------------

    def on_echo(self, function: Handler) -> Handler:
        """Register the handler of C-ECHO: ``function(EchoRequest) -> Status``. Without one, C-ECHO succeeds."""
        self._services[CommandField.C_ECHO_RQ, uids.VERIFICATION] = Service(function)
        return function

    def on_store(
        self,
        sop_classes: Iterable[str] | None = None,
        *,
        spool: str | None = None,
        durable: bool = False,
        transfer_syntaxes: Iterable[str] = (),
        unknown_classes: bool = False,
    ) -> Callable[[Handler], Handler]:
        """Register a handler of C-STORE: ``function(StoreRequest) -> Status``; None from it is success.

        Args:
            sop_classes: UIDs of the SOP classes it stores; None for every storage class that dicomnet knows.
            spool: a directory for files on their way, on the file system where they are to stay; without one, data
                sets are held in memory up to ``Limits.message``.
            durable: success means that the disk has confirmed the file and its name, at the price of waiting for it.
            transfer_syntaxes: what is taken, in order of preference; empty takes any, as the requestor prefers.
            unknown_classes: also take SOP classes that dicomnet does not know.
        """
        classes = uids.STORAGE_CLASSES if sop_classes is None else tuple(sop_classes)

        def register(function: Handler) -> Handler:
            service = Service(function, tuple(transfer_syntaxes), None if spool is None else str(spool), durable)
            self._register(CommandField.C_STORE_RQ, classes, service)
            if unknown_classes:
                self._any_storage = service
            return function

        return register

    def on_find(self, *models: str) -> Callable[[Handler], Handler]:
        """Register a handler of C-FIND: ``function(FindRequest)`` gives or yields the matches.

        A match is a pydicom Dataset, a mapping of keywords to values, encoded bytes, or a pair of pending status and
        one of these. A generator is closed when the peer cancels; its ``return`` gives the final status, success if it
        gives none.

        Args:
            models: information models, "STUDY_ROOT", "PATIENT_ROOT", "WORKLIST" and so on, or UIDs; see
                `query_models.MODELS`.
        """
        return self._on_models(CommandField.C_FIND_RQ, models, "find")

    def on_get(self, *models: str) -> Callable[[Handler], Handler]:
        """Register a handler of C-GET: ``function(GetRequest)`` gives or yields the instances to send back.

        An instance is anything that can be stored: a path, Part 10 bytes, a pydicom Dataset.
        """
        return self._on_models(CommandField.C_GET_RQ, models, "get")

    def on_move(self, *models: str) -> Callable[[Handler], Handler]:
        """Register a handler of C-MOVE: ``function(MoveRequest)`` gives or yields the instances to send.

        They go to the AE of ``destinations`` that the request names, over an association of their own.
        """
        return self._on_models(CommandField.C_MOVE_RQ, models, "move")

    def on_event_report(self, *sop_classes: str) -> Callable[[Handler], Handler]:
        """Register a handler of N-EVENT-REPORT; for what it may return see `on_n_get`."""
        return self._on_classes(CommandField.N_EVENT_REPORT_RQ, sop_classes)

    def on_n_get(self, *sop_classes: str) -> Callable[[Handler], Handler]:
        """Register a handler of N-GET: ``function(NormalizedRequest)`` returns a data set, a status, or both."""
        return self._on_classes(CommandField.N_GET_RQ, sop_classes)

    def on_n_set(self, *sop_classes: str) -> Callable[[Handler], Handler]:
        """Register a handler of N-SET; for what it may return see `on_n_get`."""
        return self._on_classes(CommandField.N_SET_RQ, sop_classes)

    def on_n_action(self, *sop_classes: str) -> Callable[[Handler], Handler]:
        """Register a handler of N-ACTION; for what it may return see `on_n_get`."""
        return self._on_classes(CommandField.N_ACTION_RQ, sop_classes)

    def on_n_create(self, *sop_classes: str) -> Callable[[Handler], Handler]:
        """Register a handler of N-CREATE; for what it may return see `on_n_get`."""
        return self._on_classes(CommandField.N_CREATE_RQ, sop_classes)

    def on_n_delete(self, *sop_classes: str) -> Callable[[Handler], Handler]:
        """Register a handler of N-DELETE; for what it may return see `on_n_get`."""
        return self._on_classes(CommandField.N_DELETE_RQ, sop_classes)

    def _on_models(self, field: CommandField, models: Iterable[str], operation: str) -> Callable[[Handler], Handler]:
        return self._on_classes(field, [query_models.model_uid(model, operation) for model in models])

    def _on_classes(self, field: CommandField, sop_classes: Iterable[str]) -> Callable[[Handler], Handler]:
        classes = tuple(sop_classes)

        def register(function: Handler) -> Handler:
            self._register(field, classes, Service(function))
            return function

        return register

    def _register(self, field: CommandField, sop_classes: Iterable[str], service: Service) -> None:
        for sop_class in sop_classes:
            self._services[field, sop_class] = service

    # ---- looking up --------------------------------------------------------------------------------------------

    def policy(self) -> AcceptancePolicy:
        """What the handlers make acceptable."""
        syntaxes: dict[str, tuple[str, ...]] = {}
        for (_, sop_class), service in self._services.items():
            syntaxes[sop_class] = syntaxes.get(sop_class, ()) or service.transfer_syntaxes
        gets = any(field == CommandField.C_GET_RQ for field, _ in self._services)
        reported = {uid for field, uid in self._services if field == CommandField.N_EVENT_REPORT_RQ}
        rules = self.acceptance
        return rules.replace(
            ae_title=self.ae_title if self.ae_title is not None else rules.ae_title,
            abstract_syntaxes=syntaxes | dict(rules.abstract_syntaxes),
            requestor_as_scp=rules.requestor_as_scp.union(reported, uids.STORAGE_CLASSES if gets else ()),
            unknown_abstract_syntaxes=rules.unknown_abstract_syntaxes or self._any_storage is not None,
            max_pdu=self.limits.max_pdu,
        )

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

    def flow(
        self, exchange: Exchange, address: str, policy: AcceptancePolicy | None, *, full: Callable[[], bool] = bool
    ) -> Serving:
        """What serves an association, for the driver; see `serve`."""
        return serve(exchange, self, address, policy, full=full)

    def service_for(self, command: Command, abstract_syntax: str) -> Service | None:
        """Who performs this request: by its SOP class, or by the meta SOP class of its presentation context."""
        field = command.command_field
        named = command.affected_sop_class_uid or command.requested_sop_class_uid or abstract_syntax
        service = self._services.get((field, named)) or self._services.get((field, abstract_syntax))
        if service is None and field == CommandField.C_STORE_RQ:
            return self._any_storage
        return service

    def open_sink(self, exchange: Exchange, context: PresentationContext, command: Command) -> Sink:
        """Where the data set of a request goes: to its spool, or into memory.

        Raises:
            ServiceFailure: nowhere: the request is refused before its data set has come (PS3.7 Section 9.3.1.3).
        """
        service = self.service_for(command, context.abstract_syntax)
        status = _unacceptable(exchange, command, context.abstract_syntax, service)
        if status is not None:
            raise ServiceFailure(status, f"refused: {status}")
        return self._sink_for(service, exchange, context, command)

    def _sink_for(
        self, service: Service | None, exchange: Exchange, context: PresentationContext, command: Command
    ) -> Sink:
        """Where the data set of an acceptable request goes."""
        if service is None or service.spool is None:
            return MemorySink(self.limits.message)
        header = meta_header(
            command.affected_sop_class_uid or "",
            command.affected_sop_instance_uid or "",
            context.transfer_syntax,
            exchange.calling,
        )
        return FileSink(service.spool, header, durable=service.durable)


def serve(
    exchange: Exchange,
    provider: Provider,
    address: str = "",
    policy: AcceptancePolicy | None = None,
    *,
    full: Callable[[], bool] = bool,
) -> Serving:
    """Serve one association until it is closed; the driver closes this flow then.

    Args:
        exchange: the acceptor's side of a transport that just opened.
        provider: the handlers.
        address: of the peer, for handlers and the log.
        policy: the provider's policy, where the caller holds it already.
        full: asked when an association is: whether there are more than the limit allows; this one is rejected then.
    """
    policy = policy or provider.policy()
    exchange.open_sink = partial(provider.open_sink, exchange)
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
        if type(event) is RequestReceived:
            yield from perform(exchange, provider, event.message, address, checked=True)
        elif isinstance(event, AssociateIndication):
            yield from _admit(exchange, provider, policy, full)
        elif isinstance(event, ReleaseIndication) and exchange.state is State.STA8_AWAIT_LOCAL_RELEASE_RESPONSE:
            provider.unseat(exchange)
            exchange.release_response()
        elif isinstance(event, AbortIndication):
            log.info("association with %s ended: %s", address, exchange.error_of(event))


class Logins:
    """The failed logins of each host, so that nobody tries one passcode after the other.

    Each try is counted before it is judged, and taken back where it succeeds: many at once are many, too.
    """

    def __init__(self, limits: Limits, timeouts: Timeouts) -> None:
        self._limits = limits
        self._seconds = timeouts.login
        self._tries: dict[str, tuple[int, float]] = {}  # how many, since when; the oldest first

    def may_try(self, host: str, now: float) -> bool:
        """Whether an identity from there is looked at; then it counts as failed until it succeeds."""
        if self._seconds is None:
            return True
        tries, since = self._tries.get(host, (0, now))
        if now >= since + self._seconds:
            del self._tries[host]
            tries, since = 0, now
        if tries >= self._limits.failed_logins:
            return False
        if not tries and len(self._tries) >= self._limits.failing_hosts:
            del self._tries[next(iter(self._tries))]
        self._tries[host] = tries + 1, since
        if tries + 1 == self._limits.failed_logins:
            log.warning("%d failed logins from %s: no more of them for %g s", tries + 1, host, self._seconds)
        return True

    def succeeded(self, host: str) -> None:
        """The last try from there was none of those."""
        tries, since = self._tries.get(host, (0, 0.0))
        if tries > 1:
            self._tries[host] = tries - 1, since
        else:
            self._tries.pop(host, None)


def pause_of(exchange: Exchange) -> int:
    """Which pause an association is in, 0 for none: where it is the same twice, nothing happened in between.

    To a listener that stops, what is no association yet, or none any more, is one that pauses, too.
    """
    if not exchange.requested or exchange.state is State.STA13_AWAIT_TRANSPORT_CLOSE:
        return -1
    return exchange.rests if exchange.established and not (exchange.receiving or exchange.sending) else 0


def _admit(exchange: Exchange, provider: Provider, policy: AcceptancePolicy, full: Callable[[], bool]) -> Serving:
    """Find out who is calling, and answer by the policy."""
    if not _is_asked(exchange) or exchange.request_pdu is None:
        return  # the peer thought better of it already
    if full():
        exchange.reject(*_LOCAL_LIMIT_EXCEEDED)
        return
    address = exchange.address
    caller = Caller(address, exchange.tls)
    identity = user_identity(exchange.request_pdu)
    verdict: bool | bytes | None = None
    if identity is not None and policy.identify is not None and 1 <= identity.type <= 5:
        with provider.admission:
            may_try = provider.logins.may_try(host_of(address), provider._clock())
        if not may_try:
            exchange.reject(*_LOCAL_LIMIT_EXCEEDED)
            return
        try:
            verdict = yield Call(policy.identify, identity, caller)
        except Exception as error:
            log_failure(f"the identity of a user at {address} cannot be judged", error)
        if verdict is not None and verdict is not False:
            with provider.admission:
                provider.logins.succeeded(host_of(address))
            exchange.user = identity
        if not _is_asked(exchange):
            return  # the peer did not wait for it
    with provider.admission:  # two at a time could both be the last one that there is room for
        same = provider.counted(exchange) if policy.counts else (0, 0)
        if exchange.judge(policy, Caller(address, exchange.tls, *same, verdict)) and policy.counts:
            provider.seat(exchange)


def _is_asked(exchange: Exchange) -> bool:
    return exchange.state is State.STA3_AWAIT_LOCAL_ASSOCIATE_RESPONSE


def host_of(address: str) -> str:
    """The host of ``host:port``."""
    return address.rpartition(":")[0]


def perform(
    exchange: Exchange, provider: Provider, message: Message, address: str, *, checked: bool = False
) -> Serving:
    """Perform one request of the peer and answer it.

    ``checked``: a request with a data set is acceptable if that was taken, for `Provider.open_sink` took it.
    """
    command = message.command
    if command.command_field == _C_CANCEL_RQ:
        return  # what it was for is over already
    service = provider.service_for(command, exchange.contexts[message.context_id].abstract_syntax)
    try:
        status = _refusal(exchange, message, service, checked)
        if status is not None:
            respond(exchange, message, status)
            return
        assert service is not None
        performer = _PERFORMERS.get(command.command_field)
        if performer is not None:
            request = REQUEST_CLASSES.get(command.command_field, NormalizedRequest)(exchange, message, address)
            yield from performer(exchange, provider, service, message, request)
            return
        # C-ECHO and C-STORE: one call, one response, and no flow of their own, for there are many.
        if service.function is not success:
            request = REQUEST_CLASSES[command.command_field](exchange, message, address)
            try:
                status = as_status((yield Call(service.function, request)))
            except Exception as error:
                status = status_of_failure(error, exchange, command)
        respond(exchange, message, Status.SUCCESS if status is None else status)
    finally:
        if message.data is not None:
            message.data.discard()


def _refusal(exchange: Exchange, message: Message, service: Service | None, checked: bool) -> Status | None:
    """Why a request is not handed to a handler; None where it is."""
    if isinstance(message.error, ServiceFailure):
        return message.error.status
    if message.error is not None:
        return status_of_failure(message.error, exchange, message.command)
    if checked and message.data is not None:
        return None
    negotiated = exchange.contexts[message.context_id].abstract_syntax
    status = _unacceptable(exchange, message.command, negotiated, service)
    if status is None and message.data is None and message.command.command_field in _WITH_DATA:
        return Status(Status.MISTYPED_ARGUMENT, comment="missing: data set")
    return status


def _unacceptable(exchange: Exchange, command: Command, negotiated: str, service: Service | None) -> Status | None:
    """What is wrong with a command set in a context of this abstract syntax; None where nothing is."""
    if service is None:
        known = command.command_field in _PERFORMERS or command.command_field in _PLAIN
        return Status.SOP_CLASS_NOT_SUPPORTED if known else Status.UNRECOGNIZED_OPERATION
    relax = exchange.profile.relax
    missing = missing_element(command)
    if missing and not (missing == "priority" and Relaxation.NO_PRIORITY in relax):
        return Status(Status.MISTYPED_ARGUMENT, comment=f"missing: {missing}")
    # Its transfer syntaxes were negotiated for one SOP class, and so was that the peer may store it.
    other = command.command_field == _C_STORE_RQ and command.affected_sop_class_uid != negotiated
    if other and Relaxation.MISMATCHED_CLASS not in relax:
        return Status(Status.SOP_CLASS_NOT_SUPPORTED, comment="not the SOP class of its presentation context")
    return None


_PERFORMERS: dict[int, Callable[..., Serving]] = {
    CommandField.C_FIND_RQ: provider.perform_find,
    CommandField.C_GET_RQ: provider.perform_get,
    CommandField.C_MOVE_RQ: provider.perform_move,
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
