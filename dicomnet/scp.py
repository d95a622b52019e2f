"""The services as their provider performs them: which handlers there are, and one flow that serves an association.

The flow (`serve`) yields None where it needs the next event and a `Call` where the user's code is to run; the driver
calls or awaits it and sends its result back, or throws its exception in. What an exception means for the peer is
decided here, in one place (`status_of_failure`).
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

from . import datasets, uids
from ._dimse import Command, Message
from ._part10 import meta_header
from .config import Limits, Timeouts, check_ae_title
from .events import AssociateIndication, Event, ReleaseIndication, RequestReceived
from .exchange import Call, Exchange
from .messages import CommandField, missing_element, name_of
from .negotiation import AcceptancePolicy, PresentationContext
from .sinks import FileSink, MemorySink, Sink
from .status import Status

__all__ = ["EchoRequest", "Handler", "Provider", "StoreRequest", "serve"]

log = logging.getLogger("dicomnet")

_RESOURCE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EFBIG})
_LOCAL_LIMIT_EXCEEDED = (2, 3, 2)  # transient, by the provider (presentation related), PS3.8 Table 9-21
_MAX_COMMENT = 64  # characters of an Error Comment, VR LO

Handler = Callable[[Any], Any]


class EchoRequest:
    """A C-ECHO-RQ, as its handler gets it (PS3.7 Section 9.1.5).

    Attributes:
        context: the presentation context that it came in.
        command: its command set.
        calling, called: the AE titles of the association.
        address: where the peer connected from, ``host:port``.
    """

    __slots__ = ("address", "called", "calling", "command", "context")

    def __init__(self, exchange: Exchange, message: Message, address: str) -> None:
        self.context: PresentationContext = exchange.contexts[message.context_id]
        self.command: Command = message.command
        self.calling = exchange.calling
        self.called = exchange.called
        self.address = address


class StoreRequest(EchoRequest):
    """A C-STORE-RQ whose data set has arrived, as its handler gets it (PS3.7 Section 9.1.1).

    With a spool, ``file`` holds the instance as a Part 10 file that is not visible yet: ``file.commit(path)`` puts it
    in its place; what is not committed is deleted when the handler returns. Without one, ``data`` holds its bytes.
    """

    __slots__ = ("_sink",)

    def __init__(self, exchange: Exchange, message: Message, address: str) -> None:
        super().__init__(exchange, message, address)
        self._sink: Sink = message.data

    @property
    def sop_class_uid(self) -> str:
        """Affected SOP Class UID, as the peer sent it."""
        return self.command.affected_sop_class_uid or ""

    @property
    def sop_instance_uid(self) -> str:
        """Affected SOP Instance UID, as the peer sent it: it need not be a UID (`uids.is_valid`)."""
        return self.command.affected_sop_instance_uid or ""

    @property
    def transfer_syntax_uid(self) -> str:
        """The transfer syntax of the data set."""
        return self.context.transfer_syntax

    @property
    def size(self) -> int:
        """Bytes of the data set."""
        return self._sink.size

    @property
    def file(self) -> FileSink:
        """The spooled file; only where the handler was registered with a spool."""
        if not isinstance(self._sink, FileSink):
            raise TypeError("this handler has no spool: read request.data, or register it with on_store(spool=...)")
        return self._sink

    @property
    def data(self) -> bytes:
        """The bytes of the data set, without file meta information; only where the handler has no spool."""
        if not isinstance(self._sink, MemorySink):
            raise TypeError("this handler has a spool: the data set is in request.file")
        return self._sink.getvalue()

    @property
    def dataset(self) -> Any:
        """The data set as a pydicom Dataset, decoded now (needs ``data``)."""
        return datasets.decode(self.data, self.transfer_syntax_uid)


@dataclass(slots=True)
class _StoreService:
    function: Handler
    spool: str | None
    transfer_syntaxes: tuple[str, ...]


def _success(_: object) -> Status:
    return Status.SUCCESS


@dataclass(slots=True)
class _Services:
    echo: Handler = _success
    store: dict[str, _StoreService] = field(default_factory=dict)
    store_unknown: _StoreService | None = None


class Provider:
    """What an AE provides: its handlers, and the policy that follows from them. Both listeners are providers.

    Args:
        ae_title: the called AE title that a requestor must ask for; None takes any.
        limits, timeouts: bounds of every association.
    """

    def __init__(
        self, ae_title: str | None = None, *, limits: Limits | None = None, timeouts: Timeouts | None = None
    ) -> None:
        self.ae_title = None if ae_title is None else check_ae_title(ae_title)
        self.limits = limits or Limits()
        self.timeouts = timeouts or Timeouts()
        self._services = _Services()

    def on_echo(self, function: Handler) -> Handler:
        """Register the handler of C-ECHO: ``function(EchoRequest) -> Status``. Without one, C-ECHO succeeds."""
        self._services.echo = function
        return function

    def on_store(
        self,
        sop_classes: Iterable[str] | None = None,
        *,
        spool: str | None = None,
        transfer_syntaxes: Iterable[str] = (),
        unknown_classes: bool = False,
    ) -> Callable[[Handler], Handler]:
        """Register a handler of C-STORE: ``function(StoreRequest) -> Status``; None from it is success.

        Args:
            sop_classes: UIDs of the SOP classes it stores; None for every storage class that dicomnet knows.
            spool: a directory for files on their way, on the file system where they are to stay; without one, data
                sets are held in memory up to ``Limits.message``.
            transfer_syntaxes: what is taken, in order of preference; empty takes any, as the requestor prefers.
            unknown_classes: also take SOP classes that dicomnet does not know.
        """

        def register(function: Handler) -> Handler:
            service = _StoreService(function, None if spool is None else str(spool), tuple(transfer_syntaxes))
            for sop_class in uids.STORAGE_CLASSES if sop_classes is None else sop_classes:
                self._services.store[sop_class] = service
            if unknown_classes:
                self._services.store_unknown = service
            return function

        return register

    def policy(self) -> AcceptancePolicy:
        """What the handlers make acceptable."""
        syntaxes = {sop_class: service.transfer_syntaxes for sop_class, service in self._services.store.items()}
        return AcceptancePolicy(
            ae_title=self.ae_title,
            abstract_syntaxes={uids.VERIFICATION: ()} | syntaxes,
            unknown_abstract_syntaxes=self._services.store_unknown is not None,
            max_pdu=self.limits.max_pdu,
        )

    def open_sink(self, exchange: Exchange, context: PresentationContext, command: Command) -> Sink:
        """Where the data set of a request goes: to its spool, or into memory."""
        service = self.store_service(command)
        if service is None or service.spool is None or command.command_field != CommandField.C_STORE_RQ:
            return MemorySink(self.limits.message)
        header = meta_header(
            command.affected_sop_class_uid or "",
            command.affected_sop_instance_uid or "",
            context.transfer_syntax,
            exchange.calling,
        )
        return FileSink(service.spool, header)

    def echo_handler(self) -> Handler:
        """The handler of C-ECHO."""
        return self._services.echo

    def store_service(self, command: Command) -> _StoreService | None:
        """Who stores instances of this SOP class."""
        return self._services.store.get(command.affected_sop_class_uid or "", self._services.store_unknown)


Serving = Generator[Call | None, Any, None]


def serve(
    exchange: Exchange,
    provider: Provider,
    address: str = "",
    policy: AcceptancePolicy | None = None,
    *,
    full: bool = False,
) -> Serving:
    """Serve one association until it is closed; the driver closes this flow then.

    Args:
        exchange: the acceptor's side of a transport that just opened.
        provider: the handlers.
        address: of the peer, for handlers and the log.
        policy: the provider's policy, where the caller holds it already.
        full: there are as many associations as the limit allows; this one is rejected.
    """
    policy = policy or provider.policy()
    exchange.open_sink = lambda context, command: provider.open_sink(exchange, context, command)
    while True:
        event: Event = yield None
        if type(event) is RequestReceived:
            yield from _perform(exchange, provider, event.message, address)
        elif isinstance(event, AssociateIndication):
            if full:
                exchange.reject(*_LOCAL_LIMIT_EXCEEDED)
            else:
                exchange.judge(policy)
        elif isinstance(event, ReleaseIndication):
            exchange.release_response()


def _perform(exchange: Exchange, provider: Provider, message: Message, address: str) -> Serving:
    command = message.command
    if command.command_field == CommandField.C_ECHO_RQ:
        status = yield from _call(provider.echo_handler(), EchoRequest(exchange, message, address), command)
    elif command.command_field == CommandField.C_STORE_RQ:
        status = yield from _store(exchange, provider, message, address)
    elif command.command_field == CommandField.C_CANCEL_RQ:
        return
    else:
        status = Status(Status.UNRECOGNIZED_OPERATION)
        if isinstance(message.data, MemorySink):
            message.data.discard()
    if exchange.established:
        comment = status.comment[:_MAX_COMMENT] if status.comment else None
        exchange.respond(message, status, error_comment=comment, offending_element=status.offending or None)


def _store(exchange: Exchange, provider: Provider, message: Message, address: str) -> Generator[Call | None, Any, Status]:
    command = message.command
    sink = message.data
    try:
        service = provider.store_service(command)
        missing = missing_element(command)
        if message.error is not None:
            return status_of_failure(message.error, command)
        if sink is None or missing:
            return Status(Status.MISTYPED_ARGUMENT, comment=f"missing: {missing or 'data set'}")
        if service is None:
            return Status(Status.SOP_CLASS_NOT_SUPPORTED)
        return (yield from _call(service.function, StoreRequest(exchange, message, address), command))
    finally:
        if sink is not None:
            sink.discard()


def _call(function: Handler, request: object, command: Command) -> Generator[Call | None, Any, Status]:
    """Run the user's code; whatever it raises becomes a status, and goes no further."""
    if function is _success:
        return Status.SUCCESS
    try:
        answer = yield Call(function, request)
        return Status.SUCCESS if answer is None else answer if isinstance(answer, Status) else Status(answer)
    except Exception as error:
        return status_of_failure(error, command)


def status_of_failure(error: BaseException, command: Command) -> Status:
    """What the peer is told about an exception: A700 where a resource ran out, else 0110 processing failure."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _RESOURCE_ERRORS):
        log.error("%s failed: %s", name_of(command), error)
        return Status(Status.OUT_OF_RESOURCES, comment="out of resources")
    log.error("%s failed", name_of(command), exc_info=error)
    return Status(Status.PROCESSING_FAILURE, comment="processing failure")
