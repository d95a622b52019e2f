# cython: auto_pickle=False
"""`MessageExchange`: the half of `exchange.Exchange` that runs for every message, and what flows ask their drivers for.

It holds what is to be sent, tells what arrived, and knows which requests are under way (PS3.7 Sections 6 to 10). It is
compiled because a small instance costs little else than this; how an association comes about is `exchange`'s.
"""

cimport cython

from collections import deque
from enum import Enum

from ..wire.command_set cimport Command, Message, MessageReader, frame, pdu_headers
from .received cimport RequestReceived, ResponseReceived
from .states cimport State
from .upper_layer cimport UpperLayer

from . import negotiation
from ..config import Limits, Timeouts
from ..errors import LocalProtocolError
from .events import AbortIndication, AssociateAccepted, AssociateIndication, AssociateRejected
from .messages import MESSAGES, DataInMemory, name_of
from .peer_profile import STRICT, Relaxation
from ..files.dataset_sink import MemorySink
from ..log import log
from ..status import Status

__all__ = ["LATER", "POLL", "Call", "MessageExchange", "Outgoing", "Poll", "Request"]

cdef enum:
    C_FIND_RQ = 0x0020       # Command Fields (PS3.7 Annex E.1)
    C_GET_RQ = 0x0010
    C_MOVE_RQ = 0x0021
    C_CANCEL_RQ = 0x0FFF
    RESPONSE = 0x8000        # bit 15 of the Command Field
    DATA_SET = 0x0001
    NO_DATA_SET = 0x0101
    UNRECOGNIZED_OPERATION = 0x0211
    MOST_MESSAGE_ID = 65535

_SEVERAL = (C_FIND_RQ | RESPONSE, C_GET_RQ | RESPONSE, C_MOVE_RQ | RESPONSE)  # that have pending ones before the final
_NOTHING = memoryview(b"")
_LAST_FRAGMENT = memoryview(bytes(2))  # an empty fragment would do, but must not be sent (PS3.8 Annex E.1)


class Poll(Enum):
    """A flow yields ``POLL`` to have everything written and to get the next event, or None where there is none yet.

    It gets ``LATER`` for the answer of a `Call` whose function returned a future, where it said what is done then.
    """

    POLL = "poll"
    LATER = "later"


POLL, LATER = Poll.POLL, Poll.LATER


@cython.final
cdef class Call:
    """A flow yields this to have ``function(*arguments)`` run by its driver: the user's code, or blocking work.

    What it returns is sent back into the flow (awaited first, in asyncio), what it raises is thrown in. A driver that
    has nothing else to do meanwhile just calls the function; the rest is for one that serves other associations, too.

    Attributes:
        inline: the function never blocks, so that it needs no thread of its own.
        background: the flow goes on at once, with None, while the function runs; what it raises is its own business.
        deadline: seconds that it may take; then `DeadlineExceeded` is thrown in. None for no end.
        lane: what it belongs to: functions of one lane share a bounded number of threads.
        later: where the function returns a future, the flow gets `LATER` now, and ``later(answer, error)`` is called
            when the future is done. None: the flow waits for it.
        heed: called with each event that arrives meanwhile; where it is true the flow gets None at once.
        abandoned: the flow went on while what it had called for was still at work.
    """

    def __init__(self, function, *arguments, bint inline=False, bint background=False, deadline=None, lane=None,
                 later=None, heed=None):
        self.function = function
        self.arguments = arguments
        self.inline, self.background = inline, background
        self.deadline, self.lane, self.later, self.heed = deadline, lane, later, heed


@cython.final
cdef class Request:
    """A request of ours that is under way; `MessageExchange.response_to` waits for its responses.

    Attributes:
        context: the presentation context that it went out in.
        command: its command set.
        abandoned: no caller waits for it any more; what still comes for it is dropped (see `MessageExchange.cancel`).
        responses: how many have come.
        answer: the last of them.
    """

    def __init__(self, context, Command command not None):
        self.context = context
        self.command = command


cdef inline bint is_pending(status) except -1:
    """Whether another response follows upon one with this status (PS3.7 Annex C)."""
    return status == 0xFF00 or status == 0xFF01


cdef str fault_of_response(Command command, Request request, long long limit):
    """What is wrong with a response to ``request``, which counts it; nothing is where this is empty.

    ``limit``: how many pending responses there may be. None for ``request``: we asked for nothing by its message ID.
    """
    if request is None:
        return "without a request of ours"
    cdef int asked = request.command.command_field or 0
    if command.command_field != asked | RESPONSE:
        return f"to {name_of(request.command)}"
    if command.status is None:
        return "without a status"
    if is_pending(command.status) and asked != C_FIND_RQ and asked != C_GET_RQ and asked != C_MOVE_RQ:
        return "with a pending status, which would make it not the last"
    request.responses += 1
    if request.responses > limit + 1:  # the last one is no pending one
        return f"past the limit of {limit} pending responses"
    return ""


cdef Command response_to(Command asked, status, bint has_data, dict elements):
    """The response to a request: its UIDs are repeated, as PS3.7 Section 9.3 allows and old peers expect."""
    cdef Command command = Command(**elements) if elements else Command.__new__(Command)
    if "affected_sop_class_uid" not in elements:
        command.affected_sop_class_uid = asked.affected_sop_class_uid or asked.requested_sop_class_uid
    if "affected_sop_instance_uid" not in elements:
        command.affected_sop_instance_uid = asked.affected_sop_instance_uid or asked.requested_sop_instance_uid
    command.command_field = (asked.command_field or 0) | RESPONSE
    command.message_id_being_responded_to = asked.message_id
    command.command_data_set_type = DATA_SET if has_data else NO_DATA_SET
    command.status = status
    return command


cdef int discard(Message message) except -1:
    """Let go of the data set of a message that is not wanted."""
    if message.data is not None:
        message.data.discard()
    return 0


@cython.final
cdef class Outgoing:
    """A message on its way out, one piece at a time.

    Attributes:
        message_id: of a request; None for a response.
        has_data: whether it brings a data set.
    """

    def __init__(self, int context_id, Command command not None, data, Py_ssize_t unit):
        self.message_id = command.message_id
        self._context_id = context_id
        self._command = command.encode()
        self._unit = unit
        if data is not None:
            self.has_data = True
            self._left = data.size
            self._pieces = data.chunks(unit)
            self._unsized = data if self._left < 0 else None

    cpdef list next_piece(self):
        """The next PDUs of the message: its command set with the first piece of its data set, then piece by piece.

        Raises:
            LocalProtocolError: the data source gave more or fewer bytes than its size, or an empty piece.
        """
        cdef list data = None
        if self._pieces is not None:
            piece = self._next_data()
            data = frame(self._context_id, piece, self._unit, False, self._left == 0)
        if self._command is None:
            return data or []
        buffers = self._framed_command()
        self._command = None
        return buffers + data if data else buffers

    cdef list _framed_command(self):
        """The command set's PDUs; one is all it takes, but for peers with tiny ones, and one buffer then."""
        cdef Py_ssize_t size = len(self._command)
        if size <= self._unit:
            return [pdu_headers(self._context_id, size, self._unit, 1, True, True) + self._command]
        return frame(self._context_id, self._command, self._unit, True, True)

    cdef object _next_data(self):
        piece = next(self._pieces, _NOTHING)
        cdef Py_ssize_t size = len(piece)
        if self._unsized is not None:
            if self._unsized.over and size:
                self._left = size
                self._unsized = None
            else:
                self._left = size + 1  # one byte, at least, is to follow
        self._left -= size
        if self._left < 0 or (self._left and not size):
            raise LocalProtocolError("a data source gave more or fewer bytes than its size")
        if self._left == 0:
            self._pieces = None
        return piece

    def end_early(self):
        """Send no more of the data set than a last fragment, which the peer will not look at."""
        self._pieces, self._left, self._unsized = iter((_LAST_FRAGMENT,)), len(_LAST_FRAGMENT), None

    @property
    def begun(self):
        """Whether any of it has been given out."""
        return self._command is None

    @property
    def done(self):
        """Whether all of it has."""
        return self._command is None and self._pieces is None


cdef class MessageExchange:
    """Messages over an `UpperLayer`; see `exchange.Exchange` for its attributes, and for how it is driven."""

    def __init__(self, limits=None, timeouts=None, observer=None):
        self.limits = limits or Limits()
        self.timeouts = timeouts or Timeouts()
        self.profile = STRICT
        cdef object me = self, upper  # whose methods Python binds
        self.open_sink = me._open_memory
        self.unasked = me.decline  # what becomes of requests that no flow waits for
        self.contexts, self.pending, self.cancelled, self._answered = {}, {}, set(), set()
        self.window = 1
        self._performing = []  # message IDs of the peer's requests that are not answered
        self._queue = deque()
        self._happened = []
        self._reader = MessageReader(me._open_sink, self.limits)
        self._upper = upper = UpperLayer(self.limits, self.timeouts, self._reader)
        self._observer = observer
        self.receive, self.receive_eof, self.tick, self.restart = (
            upper.receive, upper.receive_eof, upper.tick, upper.restart)
        if observer is not None:
            self.receive, self._upper.on_transition = me._receive_observed, observer.transition

    # ---- driving -----------------------------------------------------------------------------------------------

    @property
    def closed(self):
        """True once the association is over: close the transport."""
        return self._upper.is_closed()

    @property
    def established(self):
        """True while messages can be exchanged."""
        return self._upper._state == State.STA6_ESTABLISHED

    @property
    def deadline(self):
        """When `tick` wants to be called at the latest; None for never."""
        return self._upper.deadline

    @property
    def state(self):
        """The state of the association (PS3.8 Section 9.2)."""
        return self._upper.state

    @property
    def streaming(self):
        """True while a data set arrives."""
        return self._reader.in_data

    @property
    def receiving(self):
        """True in the middle of an incoming message or PDU: more is on its way."""
        return self.is_receiving()

    cdef bint is_receiving(self) noexcept:
        return self._reader.busy or self._upper.is_reading()

    @property
    def sending(self):
        """True while a message of ours has not gone out whole."""
        return len(self._queue) > 0

    @property
    def abort_sent(self):
        """True once we have aborted; whatever follows is not answered."""
        return self._upper.abort_sent

    @property
    def fault(self):
        """What was wrong with the bytes that the peer sent; empty while nothing is."""
        return self._upper.abort_detail

    cpdef list outgoing(self):
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
        cdef list buffers = self._upper.outgoing()
        if self._observer is not None:
            self._observer.sent(buffers)
        return buffers

    def _receive_observed(self, buffer):
        cdef object view = buffer
        if type(buffer) is not memoryview or buffer.format != "B":
            view = memoryview(buffer).cast("B")
        cdef Py_ssize_t at = 0, end, size = len(view)
        while at < size:
            end = self._observer.received(view, at)
            self._upper.receive_part(view, at, end)
            self._collect()  # what a PDU completes is told before the next PDU is
            at = end

    cdef int _send_pieces(self) except -1:
        """The next piece of a message that brings a data set, and all messages before it that bring none."""
        cdef Outgoing message
        if self._upper._state != State.STA6_ESTABLISHED:
            self._queue.clear()
            return 0
        while self._queue:
            message = self._queue[0]
            try:
                buffers = message.next_piece()
            except BaseException:
                if message._command is None:
                    self.abort()
                else:
                    self._queue.popleft()
                    self._forget(message.message_id)
                raise
            if message._pieces is None:
                self._queue.popleft()
            self._upper.send_framed(buffers)
            if message.has_data:
                return 0  # what it gave is valid until the next call
        return 0

    cpdef list events(self):
        """What happened since the last call, in order."""
        self._collect()
        happened = self._happened
        if happened:
            self._happened = []
        return happened

    cpdef object _collect(self):
        """Look at what the upper layer tells."""
        if not self._upper._events:
            return
        for happened in self._upper.events():
            event = self._translate(happened)
            if event is not None:
                self._happened.append(event)

    cdef object _translate(self, event):
        if self._over:
            if isinstance(event, Message):
                discard(event)
            return None
        if isinstance(event, Message):
            return self._message(event)
        if isinstance(event, AssociateAccepted) and not self._unit:
            return self._refuse(f"it takes PDUs of {negotiation.maximum_length(event.accept)} bytes: no data fits")
        if isinstance(event, AssociateIndication):
            self._asked(event.request)
        elif isinstance(event, AbortIndication):
            self._over = True
            self._queue.clear()
            self._failure = self.error_of(event)
        return event

    cdef object _message(self, Message message):
        """Is it a message that may come now? What is not ends the association, or is answered in place."""
        cdef Command command = message.command
        cdef int field = command.command_field
        cdef bint is_cancel = field == C_CANCEL_RQ
        if self._observer is not None:
            self._observer.message(False, message.encoded, self.contexts.get(message.context_id), message.data)
        if field & RESPONSE:
            return self._response(message)
        if (command.message_id_being_responded_to if is_cancel else command.message_id) is None:
            return self._refuse(f"{name_of(command)} without a message ID", message)
        if field not in MESSAGES:
            self.decline(message)
            return None
        if not is_cancel:
            self._performing.append(command.message_id)
        return RequestReceived(message)

    cdef object _response(self, Message message):
        cdef Command command = message.command
        cdef Request request = self.pending.get(command.message_id_being_responded_to or 0)
        if request is None and (Relaxation.STRAY_RESPONSES in self.profile.relax or self._is_late(command)):
            discard(message)
            return None
        fault = self._fault_of(command, request)
        if request is None or fault:
            return self._refuse(f"{name_of(command)} {fault}", message)
        if not is_pending(command.status):
            self._forget(request.command.message_id)
            request.answer = message
            if command.command_field in _SEVERAL:
                self._answered.add(request.command.message_id)
        if request.abandoned:
            discard(message)
            return None
        return ResponseReceived(message)

    cdef bint _is_late(self, Command command) except -1:
        """A pending response behind the final one, as of a provider whose threads overtake each other."""
        if not is_pending(command.status) or command.message_id_being_responded_to not in self._answered:
            return False
        log.debug("a pending %s after the final one is passed over", name_of(command))
        return True

    cdef str _fault_of(self, Command command, Request request):
        """What is wrong with a response; nothing is where this is empty."""
        cdef Outgoing unsent
        fault = fault_of_response(command, request, self.limits.responses)
        if fault or command.status is None:
            return fault
        for unsent in self._queue:
            if unsent.message_id == request.command.message_id:
                return self._refused_early(unsent, command.status)
        return ""

    def _refused_early(self, Outgoing unsent, code):
        """A response to a request that is still on its way: the peer may refuse, and do nothing else."""
        if unsent.begun and is_pending(code):
            return ""
        status = Status(code)
        if not unsent.begun or status.is_success or status.is_warning:
            return "before its request was complete"
        # PS3.7 Section 9.3.1.3: the peer has refused already; end the data set early instead of sending it all.
        unsent.end_early()
        return ""

    cdef int _forget(self, message_id) except -1:
        """A request of ours is done with; messages without an ID are no requests."""
        if self.pending.pop(message_id or 0, None) is not None:
            self._upper.wait_for_response(len(self.pending) > 0)
        return 0

    cpdef object _refuse(self, str detail, Message message=None):
        """The peer broke a rule of DIMSE: abort, where that is not done already, and tell the owner why."""
        self._over = True
        self._queue.clear()
        if message is not None:
            discard(message)
        if self._upper._state not in (State.STA1_IDLE, State.STA13_AWAIT_TRANSPORT_CLOSE):
            self._upper.abort()
        event = AbortIndication(0, 0, False, detail)
        self._failure = self.error_of(event)
        return event

    cpdef object abort(self):
        """Abort the association; what has not gone out is dropped."""
        self._queue.clear()
        self._upper.abort()

    def error_of(self, event):
        """The exception that an event is for the caller that waits on the association; None where it goes on."""
        if isinstance(event, AssociateRejected):
            return event.error(self.peer, self.calling)
        if not isinstance(event, AbortIndication):
            return None
        return (self.failure if event.lost else None) or event.error(self.peer, self.timeouts)

    # ---- messages ----------------------------------------------------------------------------------------------

    def request(self, context, int field, data=None, **elements):
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
        # Those that no caller waits for do not count: their provider was told, or is about to be done with them.
        if len(self.pending) >= self.window <= sum([not one.abandoned for one in self.pending.values()]):
            raise LocalProtocolError("as many requests are unanswered as the operations window allows", peer=self.peer,
                                     hint="Take all results first, or leave the loop over them.")
        message_id = self._next_message_id()
        kind = NO_DATA_SET if data is None else DATA_SET
        command = Command(command_field=field, message_id=message_id, command_data_set_type=kind, **elements)
        request = Request(context, command)
        self._send(context.id, command, data)
        self.pending[message_id] = request
        self._upper.wait_for_response(True)
        return request

    def expect(self, bint expected):
        """The peer is to send something of its own accord: the response timer runs while it is waited for."""
        self._upper.wait_for_response(expected or len(self.pending) > 0)

    def cancel(self, Request request not None, *, bint abandon=True):
        """Send a C-CANCEL for ``request`` (PS3.7 Section 9.3.2.3); if abandoned, what is still said of it is dropped.

        Does nothing where the final response has arrived or the association is over.
        """
        message_id = request.command.message_id
        if self.pending.get(message_id or 0) is not request or self._upper._state != State.STA6_ESTABLISHED:
            return
        request.abandoned = abandon
        command = Command(command_field=C_CANCEL_RQ, message_id_being_responded_to=message_id)
        self._send(request.context.id, command, None)

    def respond(self, Message message not None, status, data=None, **elements):
        """Answer a request of the peer, in the context in which it came, repeating its UIDs (PS3.7 Section 9.3)."""
        asked = message.command
        self._send(message.context_id, response_to(asked, status, data is not None, elements), data)
        if not is_pending(status) and asked.message_id in self._performing:
            self._performing.remove(asked.message_id)
            self.cancelled.discard(asked.message_id)
            if self.on_answer is not None:
                self.on_answer(message, status)

    def decline(self, Message message not None, int status=UNRECOGNIZED_OPERATION):
        """Answer a request that is not performed here: 0211H, unrecognised operation (PS3.7 Annex C.5.23), or why."""
        discard(message)
        if self._upper._state == State.STA6_ESTABLISHED and message.command.command_field != C_CANCEL_RQ:
            self.respond(message, status)

    cdef int _send(self, int context_id, Command command, data) except -1:
        if self._upper._state != State.STA6_ESTABLISHED:
            raise LocalProtocolError("there is no association to send a message on", peer=self.peer)
        if isinstance(data, (bytes, bytearray, memoryview)):
            data = DataInMemory(data, self.limits.file_buffer)
        cdef Outgoing message = Outgoing(context_id, command, data, self._unit)
        if self._observer is not None:
            self._observer.message(True, message._command, self.contexts.get(context_id), data)
        self._queue.append(message)
        return 0

    cdef object _next_message_id(self):
        """A message ID that no outstanding request has (PS3.7 Section 9.3: unique among outstanding operations)."""
        if len(self.pending) >= MOST_MESSAGE_ID:
            raise LocalProtocolError("65535 requests are outstanding already")
        while True:
            self._last_id = self._last_id % MOST_MESSAGE_ID + 1
            message_id = self._last_id
            if message_id not in self.pending:
                return message_id

    # ---- for flows ---------------------------------------------------------------------------------------------

    def response_to(self, Request request not None, event=None):
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

    def answers(self, Message message not None, Request request not None):
        """Whether ``message`` is a response to ``request``."""
        return message.command.message_id_being_responded_to == request.command.message_id

    # ---- sinks -------------------------------------------------------------------------------------------------

    def _open_sink(self, int context_id, Command command not None):
        if command.is_response:
            return MemorySink(self.limits.message)
        return self.open_sink(self.contexts[context_id], command)

    def _open_memory(self, _, __):
        return MemorySink(self.limits.message)
