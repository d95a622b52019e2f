"""`Exchange`: DIMSE messages over an association (PS3.7), without a socket, a clock or a thread.

An exchange is driven as an `UpperLayer` is: ``receive`` what was read, write what ``outgoing`` gives, take ``events``,
wake it with ``tick`` at ``deadline``, close the transport once it is ``closed``. Data sets go out piece by piece, as
fast as `outgoing` is called, and come in through a sink, so that nothing is held that the owner did not ask to hold.

A service is a generator over an exchange (`Flow`): it yields None where it needs the next event, `POLL` where it can go
on without one, a `Call` where other code is to run, anything else as a result for the user; and returns its final
answer. `scu` and `scp` hold them; ``sync`` and ``aio`` drive them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence

from . import messages, negotiation
from ._dimse import Command, Message, MessageReader, fragment_size
from ._pdu import AssociateAC, AssociateRJ, AssociateRQ
from ._typing import Any
from ._upper import UpperLayer
from .config import Limits, Timeouts
from .errors import AssociationError, DicomNetError, LocalProtocolError, NoAcceptedContext
from .events import (
    AbortIndication,
    AssociateAccepted,
    AssociateIndication,
    AssociateRejected,
    Event,
    Observer,
    ReleaseIndication,
    RequestReceived,
    ResponseReceived,
)
from .flows import POLL, Call, Flow, Poll
from .messages import Buffer, DataSource, Request
from .negotiation import (
    AcceptancePolicy,
    Caller,
    Extras,
    PresentationContext,
    ProposedContext,
    SecureLink,
    UserIdentity,
)
from .peers import STRICT, Peer, Peers, Relaxation, mended, tidied
from .sinks import MemorySink, Sink
from .states import State
from .status import Status

__all__ = ["POLL", "Buffer", "Call", "DataSource", "Exchange", "Flow", "Poll", "Request"]

OpenSink = Callable[[PresentationContext, Command], Sink]

_UNRECOGNIZED_OPERATION = 0x0211
_MAX_MESSAGE_ID = 65535
_ENDED = (State.STA1_IDLE, State.STA13_AWAIT_TRANSPORT_CLOSE)
_MOST_REST = 5  # bytes after the last PDV of a P-DATA-TF; six would be the header of another


class Exchange:
    """One association and the messages on it; make one with `requestor` or `acceptor`.

    Attributes:
        contexts: the negotiated presentation contexts by ID, refused ones too.
        calling, called: the AE titles of the association, known once it is requested.
        peer: how messages for people name the other side; set by whoever knows its address.
        address: where the peer connected from, ``host:port``, on the accepting side.
        user: whom the acceptance policy has identified as the requestor's user; None where it was not asked to.
        profile: what is known of the peer, and relaxed for it.
        pending: requests of ours that wait for responses, by message ID.
        rests: which pause of its provider this is; 0 while anything is performed.
        tls: what TLS negotiated, and ``failure`` why the transport ended; set by whoever owns it.
        window: how many of our requests may be unanswered at a time, as negotiated (PS3.7 Annex D.3.3.3).
        deferred: requests of the peer that are still to be performed.
        cancelled: the message IDs of those requests of the peer that it wants no more of.
        open_sink: called with the context and the command set of each request that brings a data set; by default data
            sets are held in memory, up to ``Limits.message``.
    """

    def __init__(
        self, limits: Limits | None = None, timeouts: Timeouts | None = None, observer: Observer | None = None
    ) -> None:
        self.limits = limits or Limits()
        self.timeouts = timeouts or Timeouts()
        self.contexts: dict[int, PresentationContext] = {}
        self.calling = self.called = self.address = ""
        self.peer: str | None = None
        self.tls: SecureLink | None = None
        self.user: UserIdentity | None = None
        self.failure: DicomNetError | None = None
        self.profile = STRICT
        self.open_sink: OpenSink = self._open_memory
        self.defer_requests, self.rests = False, 0
        self.deferred: deque[RequestReceived] = deque()
        self.cancelled: set[int] = set()
        self.window = 1
        self.request_pdu: AssociateRQ | None = None
        self.accept_pdu: AssociateAC | None = None
        self._reader = MessageReader(self._open_sink, self.limits)
        self._upper = UpperLayer(self.limits, self.timeouts, self._reader)
        self._by_syntax: dict[tuple[str, str], PresentationContext] = {}
        self.pending: dict[int, Request] = {}
        self._performing: list[int] = []  # message IDs of the peer's requests that are not answered
        self._most_deferred = 1 + self.limits.requests_ahead
        self._queue: deque[messages.Outgoing] = deque()
        self._last_id = 0
        self._unit = 0
        self._happened: list[Event] = []
        self._over = False
        self._failure: DicomNetError | None = None
        self._upper.on_accept = self._on_accept
        self._peers: Peers | None = None
        self._observer = observer
        self.receive: Callable[[Buffer], None] = self._upper.receive
        self.receive_eof = self._upper.receive_eof
        if observer is not None:
            self.receive, self._upper.on_transition = self._receive_observed, observer.transition
        self.tick, self.restart = self._upper.tick, self._upper.restart
        self.unasked: Callable[[Message], None] = self.decline  # what becomes of requests that no flow waits for

    @classmethod
    def requestor(
        cls, *, calling: str, called: str, contexts: Sequence[ProposedContext], extras: Extras | None = None,
        limits: Limits | None = None, timeouts: Timeouts | None = None,
        observer: Observer | None = None, profile: Peer = STRICT,
    ) -> Exchange:
        """The requesting side, over a transport that is connected; its A-ASSOCIATE-RQ waits in `outgoing`."""
        # Whoever uses an association may leave it idle; only a provider has to protect itself from that.
        self = cls(limits, (timeouts or Timeouts()).replace(idle=None), observer)
        self.calling, self.called = calling, called
        self.peer = str(profile.entity) if profile.entity is not None else None
        self._adopt(profile)
        self.request_pdu = negotiation.propose(
            contexts, calling=calling, called=called, max_pdu=self.limits.max_pdu, extras=profile.proposing(extras)
        )
        self._upper.associate(self.request_pdu)
        self._upper.transport_connected()
        return self

    @classmethod
    def acceptor(
        cls, *, limits: Limits | None = None, timeouts: Timeouts | None = None, now: float = 0.0,
        observer: Observer | None = None, peers: Peers | None = None,
    ) -> Exchange:
        """The accepting side of a transport that was opened at ``now``; ARTIM runs from then on."""
        self = cls(limits, timeouts, observer)
        if peers:
            self._peers, self._upper.mend = peers, self._mend
        self._upper.tick(now)
        self._upper.transport_opened()
        return self

    # ---- driving -----------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """True once the association is over: close the transport."""
        return self._upper.closed

    @property
    def established(self) -> bool:
        """True while messages can be exchanged."""
        return self._upper.established

    @property
    def deadline(self) -> float | None:
        """When `tick` wants to be called at the latest; None for never."""
        return self._upper.deadline

    @property
    def state(self) -> State:
        """The state of the association (PS3.8 Section 9.2)."""
        return self._upper.state

    @property
    def requested(self) -> bool:
        """Whether an association was asked for; until then there is only a connection."""
        return self.request_pdu is not None

    @property
    def streaming(self) -> bool:
        """True while a data set arrives."""
        return self._reader.in_data

    @property
    def receiving(self) -> bool:
        """True in the middle of an incoming message or PDU: more is on its way."""
        return self._reader.busy or self._upper.reading

    @property
    def sending(self) -> bool:
        """True while a message of ours has not gone out whole."""
        return bool(self._queue)

    @property
    def fault(self) -> str:
        """What was wrong with the bytes that the peer sent; empty while nothing is."""
        return self._upper.abort_detail

    def outgoing(self) -> list[Buffer]:
        """Buffers to write now, in order; empty once everything is out.

        Of a message on its way this gives the next piece. Buffers are valid until the next call, so write them first:
        that is also what keeps memory constant, whatever the size of the data set.

        Raises:
            DicomNetError, OSError: what the source of a data set raised; where half of its message is out already, the
                association is aborted.
        """
        if self._queue:
            self._collect()  # an early refusal, or the end of the association, stops what is being sent
        if self._queue:
            self._send_pieces()
        buffers = self._upper.outgoing()
        if self._observer is not None:
            self._observer.sent(buffers)
        return buffers

    def _receive_observed(self, buffer: Buffer) -> None:
        assert self._observer is not None
        for piece in self._observer.received(buffer):
            self._upper.receive(piece)
            self._collect()  # what a PDU completes is told before the next PDU is

    def _send_pieces(self) -> None:
        """The next piece of a message that brings a data set, and all messages before it that bring none."""
        if not self._upper.established:
            self._queue.clear()
            return
        while self._queue:
            message = self._queue[0]
            try:
                buffers = message.next_piece()
            except BaseException:
                if message.begun:
                    self.abort()
                else:
                    self._queue.popleft()
                    self._forget(message.message_id)
                raise
            if message.done:
                self._queue.popleft()
            self._upper.send_framed(buffers)
            if message.has_data:
                return  # what it gave is valid until the next call

    def events(self) -> list[Event]:
        """What happened since the last call, in order."""
        self._collect()
        happened = self._happened
        if happened:
            self._happened = []
        return happened

    def _collect(self) -> None:
        """Look at what the upper layer tells."""
        for happened in self._upper.events():
            if (event := self._translate(happened)) is not None:
                self._happened.append(event)

    def _translate(self, event: Message | Event) -> Event | None:
        if self._over:
            if isinstance(event, Message):
                messages.discard(event)
            return None
        if isinstance(event, Message):
            return self._message(event)
        if isinstance(event, AssociateAccepted) and not self._unit:
            return self._refuse(f"it takes PDUs of {negotiation.maximum_length(event.accept)} bytes: no data fits")
        if isinstance(event, AssociateIndication):
            self.request_pdu = event.request
            self.calling, self.called = event.request.calling_ae_title, event.request.called_ae_title
        elif isinstance(event, AbortIndication):
            self._over = True
            self._queue.clear()
            self._failure = self.error_of(event)
        translated: Event = event
        return translated

    def _message(self, message: Message) -> Event | None:
        """Is it a message that may come now? What is not ends the association, or is answered in place."""
        command = message.command
        if self._observer is not None:
            self._observer.message(False, command, self.contexts.get(message.context_id), message.data)
        if command.is_response:
            return self._response(message)
        is_cancel = command.command_field == messages.CommandField.C_CANCEL_RQ
        if (command.message_id_being_responded_to if is_cancel else command.message_id) is None:
            return self._refuse(f"{messages.name_of(command)} without a message ID", message)
        if command.command_field not in messages.MESSAGES:
            self.decline(message)
            return None
        if not is_cancel:
            self._performing.append(command.message_id)
        return RequestReceived(message)

    def _response(self, message: Message) -> Event | None:
        command = message.command
        request = self.pending.get(command.message_id_being_responded_to or 0)
        if request is None and Relaxation.STRAY_RESPONSES in self.profile.relax:
            messages.discard(message)
            return None
        if (fault := self._fault_of(command, request)) or request is None:
            return self._refuse(f"{messages.name_of(command)} {fault}", message)
        if command.status not in messages.PENDING:
            self._forget(request.command.message_id)
            request.answer = message
        if request.abandoned:
            messages.discard(message)
            return None
        return ResponseReceived(message)

    def _fault_of(self, command: Command, request: Request | None) -> str:
        """What is wrong with a response; nothing is where this is empty."""
        fault = messages.fault_of_response(command, request, self.limits.responses)
        if fault or request is None or command.status is None:
            return fault
        asked = request.command.message_id
        unsent = next((one for one in self._queue if one.message_id == asked), None) if self._queue else None
        if unsent is None or (unsent.begun and command.status in messages.PENDING):
            return ""
        status = Status(command.status)
        if not unsent.begun or status.is_success or status.is_warning:
            return "before its request was complete"
        # PS3.7 Section 9.3.1.3: the peer has refused already; end the data set early instead of sending it all.
        unsent.end_early()
        return ""

    def _forget(self, message_id: int | None) -> None:
        """A request of ours is done with; messages without an ID are no requests."""
        if self.pending.pop(message_id or 0, None) is not None:
            self._upper.wait_for_response(bool(self.pending))

    def _refuse(self, detail: str, message: Message | None = None) -> AbortIndication:
        """The peer broke a rule of DIMSE: abort, where that is not done already, and tell the owner why."""
        self._over = True
        self._queue.clear()
        if message is not None:
            messages.discard(message)
        if self._upper.state not in _ENDED:
            self._upper.abort()
        event = AbortIndication(0, 0, False, detail)
        self._failure = self.error_of(event)
        return event

    # ---- the association ---------------------------------------------------------------------------------------

    def judge(self, policy: AcceptancePolicy, caller: Caller | None = None) -> bool:
        """Answer the `AssociateIndication` by ``policy`` and who is asking; true where it was accepted."""
        if self.request_pdu is None:
            raise LocalProtocolError("there is no association request to answer")
        answer = negotiation.judge(tidied(self.request_pdu, policy.ae_title, self.profile.relax), policy, caller)
        if isinstance(answer, AssociateRJ):
            self._upper.reject(answer)
            return False
        self.accept(answer)
        return True

    def accept(self, accept: AssociateAC) -> None:
        """Answer the `AssociateIndication` with this A-ASSOCIATE-AC."""
        if self.request_pdu is None:
            raise LocalProtocolError("there is no association request to answer")
        unit = fragment_size(negotiation.maximum_length(self.request_pdu), self.limits.outgoing_pdu)
        self._upper.accept(accept)
        performed, invoked = negotiation.operations_window(self.request_pdu, accept)
        self._establish(accept, unit, invoked, performed)

    def reject(self, result: int, source: int, reason: int) -> None:
        """Answer the `AssociateIndication` with an A-ASSOCIATE-RJ (PS3.8 Section 9.3.4)."""
        self._upper.reject(AssociateRJ(result, source, reason))

    def _adopt(self, profile: Peer) -> None:
        """Heed what is known of the peer."""
        self.profile = profile
        if profile.relax:
            self._upper.mend = self._mend
            self._upper.tolerated_pdu = self.limits.tolerated_pdu if Relaxation.LONG_PDUS in profile.relax else 0
            self._upper.tolerated_rest = _MOST_REST if Relaxation.PADDED_PDUS in profile.relax else 0

    def _mend(self, kind: int, body: bytes) -> bytes:
        """An A-ASSOCIATE-RQ or -AC arrives: find out whose it is, and mend what may be wrong in it."""
        if self._peers is not None:
            self._adopt(self._peers.calling(body))
        return mended(kind, body, self.profile.relax)

    def _on_accept(self, accept: AssociateAC) -> None:
        """The peer accepted. Called while its bytes are walked: the next ones may be a message."""
        peer_max_pdu = negotiation.maximum_length(accept)
        if not 0 < peer_max_pdu < negotiation.SMALLEST_PDU:
            unit = fragment_size(peer_max_pdu, self.limits.outgoing_pdu)
            self._establish(accept, unit, *negotiation.operations_window(self.request_pdu, accept))

    def _establish(self, accept: AssociateAC, unit: int, invoked: int, performed: int) -> None:
        assert self.request_pdu is not None
        self.accept_pdu = accept
        self.contexts = negotiation.outcome(self.request_pdu, accept)
        accepted = [context for context in self.contexts.values() if context.accepted]
        self._reader.accept_contexts(context.id for context in accepted)
        for context in reversed(accepted):
            self._by_syntax[context.abstract_syntax, context.transfer_syntax] = context
            self._by_syntax[context.abstract_syntax, ""] = context
        self._unit = unit
        self.window = invoked or _MAX_MESSAGE_ID
        self._most_deferred = (performed or _MAX_MESSAGE_ID) + self.limits.requests_ahead

    def require_association(self) -> None:
        """Raise what ended the association, where it is over."""
        if not self.established:
            raise self._failure or LocalProtocolError("the association is over", peer=self.peer)

    def context_for(
        self, abstract_syntax: str, transfer_syntax: str = "", *, scp: bool | None = False
    ) -> PresentationContext:
        """The first accepted context for an abstract syntax, in this transfer syntax if one is given.

        Args:
            abstract_syntax: the SOP class or meta SOP class.
            transfer_syntax: a UID; empty takes any.
            scp: the association's requestor must be provider in it, as in a C-GET, rather than user; None takes both.

        Raises:
            NoAcceptedContext: there is none.
        """
        context = self._by_syntax.get((abstract_syntax, transfer_syntax))
        if context is None or (scp is not None and not (context.scp if scp else context.scu)):
            raise NoAcceptedContext(
                abstract_syntax=abstract_syntax,
                transfer_syntaxes=(transfer_syntax,) if transfer_syntax else (),
                peer=self.peer,
            )
        return context

    def release(self) -> None:
        """Ask for the release; a `ReleaseConfirmation` follows (PS3.8 Section 7.2)."""
        if self._queue and self._upper.established:
            raise LocalProtocolError("a message is still to be sent", peer=self.peer)
        self._upper.release()

    def release_response(self) -> None:
        """Agree to the peer's release."""
        self._upper.release_response()

    def abort(self) -> None:
        """Abort the association; what has not gone out is dropped."""
        self._queue.clear()
        self._upper.abort()

    # ---- messages ----------------------------------------------------------------------------------------------

    def request(
        self, context: PresentationContext, field: int, data: DataSource | Buffer | None = None, **elements: Any
    ) -> Request:
        """Send a request; the message ID is chosen here.

        Args:
            context: the presentation context of the message and its data set.
            field: the Command Field, see `messages.CommandField`.
            data: the data set in the context's transfer syntax, if there is one.
            elements: the other elements of the command set, by their attribute of `Command`.

        Raises:
            LocalProtocolError: there is no association, or as many requests are unanswered as ``window`` allows.
        """
        if not context.accepted:
            raise LocalProtocolError(f"presentation context {context.id} was not accepted", peer=self.peer)
        # Those that nobody waits for do not count: their provider was told, or is about to be done with them.
        if len(self.pending) >= self.window <= sum(not one.abandoned for one in self.pending.values()):
            raise LocalProtocolError("as many requests are unanswered as the operations window allows", peer=self.peer,
                                     hint="Take all results first, or leave the loop over them.")
        message_id = self._next_message_id()
        kind = 0x0101 if data is None else 0x0001
        command = Command(command_field=field, message_id=message_id, command_data_set_type=kind, **elements)
        request = Request(context, command)
        self._send(context.id, command, data)
        self.pending[message_id] = request
        self._upper.wait_for_response(True)
        return request

    def expect(self, expected: bool) -> None:
        """The peer is to send something of its own accord: the response timer runs while it is waited for."""
        self._upper.wait_for_response(expected or bool(self.pending))

    def cancel(self, request: Request, *, abandon: bool = True) -> None:
        """Send a C-CANCEL for ``request`` (PS3.7 Section 9.3.2.3); if abandoned, what is still said of it is dropped.

        Does nothing where the final response has arrived or the association is over.
        """
        message_id = request.command.message_id
        if self.pending.get(message_id or 0) is not request or not self._upper.established:
            return
        request.abandoned = abandon
        asked = messages.CommandField.C_CANCEL_RQ
        self._send(request.context.id, Command(command_field=asked, message_id_being_responded_to=message_id), None)

    def respond(self, message: Message, status: int, data: DataSource | Buffer | None = None, **elements: Any) -> None:
        """Answer a request of the peer, in the context in which it came; see `messages.response_to`."""
        asked = message.command
        command = messages.response_to(asked, status, data is not None, elements)
        self._send(message.context_id, command, data)
        if status not in messages.PENDING and asked.message_id in self._performing:
            self._performing.remove(asked.message_id)
            self.cancelled.discard(asked.message_id)

    def decline(self, message: Message, status: int = _UNRECOGNIZED_OPERATION) -> None:
        """Answer a request that is not performed here: 0211H, unrecognised operation (PS3.7 Annex C.5.23), or why."""
        messages.discard(message)
        if self._upper.established and message.command.command_field != messages.CommandField.C_CANCEL_RQ:
            self.respond(message, status)

    def _send(self, context_id: int, command: Command, data: DataSource | Buffer | None) -> None:
        if not self._upper.established:
            raise LocalProtocolError("there is no association to send a message on", peer=self.peer)
        if isinstance(data, bytes | bytearray | memoryview):
            data = messages.DataInMemory(data, self.limits.file_buffer)
        if self._observer is not None:
            self._observer.message(True, command, self.contexts.get(context_id), data)
        self._queue.append(messages.Outgoing(context_id, command, data, self._unit))

    def _next_message_id(self) -> int:
        """A message ID that no outstanding request has (PS3.7 Section 9.3: unique among outstanding operations)."""
        if len(self.pending) >= _MAX_MESSAGE_ID:
            raise LocalProtocolError("65535 requests are outstanding already")
        while True:
            self._last_id = self._last_id % _MAX_MESSAGE_ID + 1
            if self._last_id not in self.pending:
                return self._last_id

    # ---- for flows ---------------------------------------------------------------------------------------------

    def response_to(self, request: Request, event: Event | None = None) -> Generator[Any, Any, Message]:
        """Wait for the next response to ``request``; ``event`` is one that came already.

        Raises:
            AssociationError, ConnectionFailed, DeadlineExceeded, RemoteProtocolError: the association ended instead.
        """
        try:
            while True:
                if event is None:
                    event = yield None
                if type(event) is ResponseReceived and self.answers(event.message, request):
                    return event.message
                self.set_aside(event)
                event = None
        except GeneratorExit:
            request.abandoned = True
            raise

    def answers(self, message: Message, request: Request) -> bool:
        """Whether ``message`` is a response to ``request``."""
        return message.command.message_id_being_responded_to == request.command.message_id

    def set_aside(self, event: Event) -> None:
        """An event that the running flow did not ask for: the end of the association raises, a request is declined."""
        if isinstance(event, RequestReceived):
            self._set_request_aside(event)
        elif isinstance(event, ReleaseIndication):
            if self._upper.state is State.STA8_AWAIT_LOCAL_RELEASE_RESPONSE:
                self.release_response()
            raise AssociationError("the peer released the association", peer=self.peer)
        else:
            self.raise_for(event)

    def _set_request_aside(self, event: RequestReceived) -> None:
        cancelled = event.command.message_id_being_responded_to
        if event.command.command_field == messages.CommandField.C_CANCEL_RQ:
            if cancelled in self._performing:
                self.cancelled.add(cancelled)
        elif not self.defer_requests:
            self.unasked(event.message)
        elif len(self.deferred) >= self._most_deferred:
            self.raise_for(self._refuse(f"{len(self.deferred)} requests wait for the end of another", event.message))
        elif messages.fits(event.message, (kept.message for kept in self.deferred), self.limits.message):
            self.deferred.append(event)
        else:
            self.decline(event.message, Status.OUT_OF_RESOURCES)

    def raise_for(self, event: Event) -> None:
        """Raise what an event means for whoever waits on the association; does nothing where it goes on."""
        error = self.error_of(event)
        if error is not None:
            raise error

    def error_of(self, event: Event) -> DicomNetError | None:
        """The exception that an event is for whoever waits on the association; None where it goes on."""
        if isinstance(event, AssociateRejected):
            return event.error(self.peer, self.calling)
        if not isinstance(event, AbortIndication):
            return None
        return (self.failure if event.lost else None) or event.error(self.peer, self.timeouts)

    # ---- sinks -------------------------------------------------------------------------------------------------

    def _open_sink(self, context_id: int, command: Command) -> Sink:
        if command.is_response:
            return MemorySink(self.limits.message)
        return self.open_sink(self.contexts[context_id], command)

    def _open_memory(self, _: PresentationContext, __: Command) -> Sink:
        return MemorySink(self.limits.message)
