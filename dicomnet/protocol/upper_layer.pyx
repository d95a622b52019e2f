# cython: auto_pickle=False
"""`UpperLayer`: runs the state table over PDUs (PS3.8 Section 9). It owns no socket, no clock and no thread.

The owner connects, reads and writes; this object turns what was read into events and what is wanted into bytes. Bytes
of P-DATA-TF PDUs are walked where they lie: fragments go on as slices of the owner's buffer, so that a PDU larger than
the buffer costs no memory. Everything else is collected up to its limit and decoded whole.
"""

cimport cython

from cpython.buffer cimport PyBUF_SIMPLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport INFINITY as NEVER

from .states cimport Event, State
from ..wire.cursor cimport Cursor, peek_u32be, read_bytes, read_u8, remaining, skip
from ..wire.command_set cimport MessageReader
from .._pdu cimport PDU_ABORT, PDU_ASSOCIATE_AC, PDU_ASSOCIATE_RQ, PDU_DATA_TF, decode_body, malformed_data, \
    unrecognized

from . import states
from .._pdu import PDV, Abort, AssociateRJ, PDataTF, ReleaseRP, ReleaseRQ
from ..config import Limits, Timeouts
from ..errors import LocalProtocolError, MalformedPDU
from .events import AbortIndication, AssociateAccepted, AssociateIndication, AssociateRejected, DataIndication, \
    ReleaseConfirmation, ReleaseIndication

__all__ = ["UpperLayer"]

# The fields of `config.Timeouts` that say how long the timers run, in their order.
_TIMERS = ("artim", "associate", "release", "response", "progress", "idle")

ctypedef int (*ActionFunction)(UpperLayer, object) except -1

cdef ActionFunction ACTIONS[29]
cdef unsigned char CELL_ACTION[20][14]
cdef unsigned char CELL_NEXT[20][14]

# The event that a PDU of each type is (PS3.8 Table 9-10).
cdef int[8] PDU_EVENT = [
    0, Event.RECV_ASSOCIATE_RQ, Event.RECV_ASSOCIATE_AC, Event.RECV_ASSOCIATE_RJ, Event.RECV_P_DATA_TF,
    Event.RECV_RELEASE_RQ, Event.RECV_RELEASE_RP, Event.RECV_ABORT,
]


@cython.final
cdef class UpperLayer:
    """One association's upper layer, either role (PS3.8 Section 9).

    Drive it so: after every read call `receive`, after every verb and every read write what `outgoing` gives, then take
    `events`. Wake it with `tick` at `deadline`. When `closed` is true, close the transport.

    Args:
        limits: the bounds of what a peer may send.
        timeouts: ARTIM and every other timer of the association, in seconds.
        reader: takes the fragments of P-DATA-TF PDUs; without one they become `DataIndication` events.

    Attributes:
        on_accept: called with the peer's A-ASSOCIATE-AC before the bytes behind it are walked: they may be messages.
        on_transition: called with the state before, the event, the action, and the state after; not for data.
        mend: called with the type and the body of an A-ASSOCIATE-RQ or -AC; gives the body that is decoded.
        tolerated_pdu: the longest P-DATA-TF that is taken, where that is more than what was announced.
        tolerated_rest: the most bytes that may follow the last PDV of a P-DATA-TF.
    """

    def __init__(self, limits=None, timeouts=None, MessageReader reader=None):
        limits, timeouts = limits or Limits(), timeouts or Timeouts()
        self._state, self._artim = State.STA1_IDLE, -1.0
        self._associate_limit, self._data_limit = limits.associate_pdu, limits.max_pdu
        self._least = int(limits.least_rate * (timeouts.progress or 0))
        for timer, period in enumerate([getattr(timeouts, name) for name in _TIMERS]):
            self._periods[timer] = -1.0 if period is None else period
        self._periods[NO_TIMER], self.abort_reason, self.abort_detail = -1.0, -1, ""
        self._body, self._reader = bytearray(), reader
        self._out, self._events, self._pdvs = [], [], []
        if reader is not None:
            reader.events = self._events

    # ---- what the owner reads ----------------------------------------------------------------------------------

    @property
    def state(self):
        """The `states.State` of the association."""
        return states.State(self._state)

    @property
    def closed(self):
        """True once the association is over and the transport is to be closed (or is closed)."""
        return self.is_closed()

    cdef bint is_closed(self) noexcept:
        return self._state == State.STA1_IDLE and (self._opened or self._request is not None)

    @property
    def established(self):
        """True while data can be exchanged: Sta6."""
        return self._state == State.STA6_ESTABLISHED

    @property
    def reading(self):
        """True in the middle of a PDU."""
        return self.is_reading()

    cdef bint is_reading(self) noexcept:
        return self._part != PART_HEADER or self._have > 0

    @property
    def deadline(self):
        """When `tick` wants to be called at the latest, in the owner's monotonic seconds; None for never."""
        cdef double next_ = self.next_deadline()
        return None if next_ == NEVER else next_

    cdef double next_deadline(self) noexcept:
        """The same, and `NEVER` for never."""
        if self._artim >= 0:
            return self._artim
        cdef double period = self._periods[self._timer()]
        if self._least and self._receiving():
            paced = self._paced + self._periods[PROGRESS]
            return paced if period < 0 else min(paced, self._since + period)
        return NEVER if period < 0 else self._since + period

    cpdef list outgoing(self):
        """Buffers to write, in order; calling it hands them over."""
        out, self._out = self._out, []
        return out

    cpdef list events(self):
        """What happened since the last call, in order."""
        if not self._events:
            return []
        events = self._events[:]
        self._events.clear()
        return events

    # ---- what the transport says -------------------------------------------------------------------------------

    cpdef object tick(self, double now):
        """Tell the time (monotonic seconds); timers that are due expire. Call it before `receive`, too."""
        if not self._timed:
            self.restart(now)  # the first time that is told: whatever waits has waited for nothing yet
        self._now = now
        cdef int timer = self._timer()
        if self._artim >= 0:
            if now >= self._artim:
                self._fire(Event.ARTIM_EXPIRED, None)
        elif self._periods[timer] >= 0 and now >= self._since + self._periods[timer]:
            self._expire(timer, "nothing")
        elif self._least and now >= self._paced + self._periods[PROGRESS] and self._receiving():
            if self._arrived < self._least:
                self._expire(PROGRESS, f"only {self._arrived} bytes of a message")
            self._paced, self._arrived = now, 0

    cpdef object restart(self, double now, bint heard=False):
        """Tell the time after the owner was busy, and nothing expires: what it did itself is no silence of the peer.

        Silence is counted anew in an established association; an answer that is due elsewhere stays due. ``heard``: it
        is because bytes arrived, which ends the silence, but may be a drip.
        """
        if not self._timed and self._artim >= 0:
            self._artim += now
        if self._state == State.STA6_ESTABLISHED or not self._timed:
            self._since = now
        if not heard:
            self._paced, self._arrived = now, 0
        self._timed, self._now = True, now

    def transport_opened(self):
        """The peer connected to us: AE-5, ARTIM runs until its A-ASSOCIATE-RQ is complete."""
        self._local(Event.TRANSPORT_INDICATION, None)

    def transport_connected(self):
        """The connection asked for by `associate` stands: the A-ASSOCIATE-RQ goes out."""
        self._local(Event.TRANSPORT_CONFIRM, None)

    def receive_eof(self):
        """The transport closed, in order or not."""
        self._fire(Event.TRANSPORT_CLOSED, None)

    def receive(self, buffer):
        """Take bytes of the transport, cut anywhere. Nothing is raised for what the peer did wrong.

        Fragments reach the reader's sink as slices of ``buffer``: they are not used after this call.
        """
        # Not as `const unsigned char[:]`: what Cython brings along for that takes longer to load than all of this.
        cdef object view = memoryview(buffer)
        if view.ndim != 1 or view.itemsize != 1 or not view.c_contiguous:
            raise LocalProtocolError("what was received is to be given as bytes, without gaps between them")
        self.receive_part(view, 0, len(view))

    # ---- what the owner wants ----------------------------------------------------------------------------------

    def associate(self, request):
        """Ask for an association (Evt1). Connect, then call `transport_connected`."""
        self._local(Event.ASSOCIATE_REQUEST, (request.maximum_length(), request.encode()))

    def accept(self, accept):
        """Answer an `AssociateIndication` with this A-ASSOCIATE-AC."""
        self._local(Event.ASSOCIATE_RESPONSE_ACCEPT, (accept.maximum_length(), accept.encode()))

    def reject(self, reject):
        """Answer an `AssociateIndication` with this A-ASSOCIATE-RJ; the peer closes, or ARTIM does."""
        self._local(Event.ASSOCIATE_RESPONSE_REJECT, reject.encode())

    def send(self, pdvs):
        """Send a P-DATA-TF with these PDVs; the caller keeps to the peer's maximum length."""
        self._local(Event.P_DATA_REQUEST, [PDataTF(tuple(pdvs)).encode()])

    cpdef object send_framed(self, list buffers):
        """Send P-DATA-TF PDUs that `_dimse.frame` laid out."""
        self._local(Event.P_DATA_REQUEST, buffers)

    def release(self):
        """Ask for the release of the association (Evt11)."""
        self._local(Event.RELEASE_REQUEST, None)

    def release_response(self):
        """Agree to the peer's release (Evt14)."""
        self._local(Event.RELEASE_RESPONSE, None)

    def abort(self):
        """Abort as the service-user (Evt15)."""
        self._local(Event.ABORT_REQUEST, None)

    cpdef object wait_for_response(self, bint waiting):
        """Choose the timer of an established association: ``response`` while waiting, else ``idle``."""
        if waiting != self._waiting:
            self._waiting = waiting
            self._since = self._now

    # ---- timers ------------------------------------------------------------------------------------------------

    cdef int _timer(self) noexcept:
        """The timer that runs beside ARTIM in this state."""
        if self._state == State.STA6_ESTABLISHED:
            return RESPONSE if self._waiting else PROGRESS if self._receiving() else IDLE
        if self._state == State.STA5_AWAIT_ASSOCIATE_RESPONSE:
            return ASSOCIATE
        if self._state in (
            State.STA7_AWAIT_RELEASE_RP,
            State.STA10_COLLISION_ACCEPTOR_AWAIT_RP,
            State.STA11_COLLISION_REQUESTOR_AWAIT_RP,
        ):
            return RELEASE
        return NO_TIMER

    cdef bint _receiving(self) noexcept:
        """Whether a message has begun to arrive, and not ended; a drip of it must not hold us for ever."""
        if self._state != State.STA6_ESTABLISHED:
            return False
        return self.is_reading() or (self._reader is not None and self._reader.busy)

    cdef int _expire(self, int timer, str arrived) except -1:
        self._fire(Event.ABORT_REQUEST, None)
        detail = f"{arrived} from the peer for {self._periods[timer]:g} s"
        self._events.append(AbortIndication(0, 0, False, detail, _TIMERS[timer]))
        return 0

    # ---- the walk over the bytes -------------------------------------------------------------------------------

    cdef int receive_part(self, view, Py_ssize_t begin, Py_ssize_t end) except -1:
        """Take a part of what was received; `receive` has looked at the buffer."""
        cdef Py_buffer raw
        if not self._opened:
            raise LocalProtocolError("bytes were given without a transport connection")
        if self._state == State.STA6_ESTABLISHED:
            self._since = self._now      # elsewhere an answer is due, and a drip of bytes puts nothing off
            if not self._receiving():
                self._paced, self._arrived = self._now, 0
            self._arrived += end - begin
        PyObject_GetBuffer(view, &raw, PyBUF_SIMPLE)
        cdef Cursor data = Cursor(<const unsigned char *>raw.buf, begin, end, -1)
        try:
            while remaining(&data) > 0 and self._state != State.STA1_IDLE and self._part != PART_NOISE:
                try:
                    self._step(view, &data)
                except MalformedPDU as error:
                    if self._state != State.STA13_AWAIT_TRANSPORT_CLOSE:
                        self.abort_reason, self.abort_detail = error.reason, error.message
                    self._fire(Event.RECV_INVALID_PDU, None)
        finally:
            PyBuffer_Release(&raw)
        if self._reader is not None:
            self._reader.flush()
        return 0

    cdef int _step(self, view, Cursor* data) except -1:
        """Take the bytes of one part. The cursor is past them before anything is raised, so the walk can go on."""
        if self._part == PART_FRAGMENT:
            self._take_fragment(view, data)
        elif self._part == PART_BODY:
            self._take_body(data)
        elif self._part == PART_SKIP:
            self._take_body_unread(data)
        else:
            self._take_header(data)
        return 0

    cdef int _take_header(self, Cursor* data) except -1:
        while self._have < HEADER_SIZE and remaining(data) > 0:
            self._header[self._have] = read_u8(data)
            self._have += 1
        if self._part == PART_HEADER and not 1 <= self._header[0] <= 7:
            # The type is judged as soon as it is there: the rest of what is not DICOM is not waited for.
            self._part = PART_NOISE
            raise unrecognized(self._header[0])
        if self._have < HEADER_SIZE:
            return 0
        self._have = 0
        if self._part == PART_HEADER:
            self._begin_pdu(self._header[0], peek_u32be(self._header, 2))
        else:
            self._begin_fragment(peek_u32be(self._header, 0), self._header[4], self._header[5])
        return 0

    cdef int _begin_pdu(self, int kind, unsigned long length) except -1:
        """A PDU header is complete: type before length, length before body."""
        if length > self._longest(kind) or (kind in (3, 5, 6, 7) and length != FIXED_LENGTH):
            self._part = PART_NOISE
            raise MalformedPDU(f"a PDU of type {kind:#04x} claims {length} bytes", reason=REASON_INVALID_VALUE,
                               pdu_type=kind, offset=2)
        self._type = kind
        self._body_left = length
        if kind == PDU_DATA_TF and self._state in (State.STA6_ESTABLISHED, State.STA7_AWAIT_RELEASE_RP):
            if length < HEADER_SIZE:
                self._skip_body()
                raise malformed_data(f"a P-DATA-TF of {length} bytes has no room for a PDV")
            self._part = PART_PDV_HEADER
        elif kind == PDU_DATA_TF or (self._state == State.STA13_AWAIT_TRANSPORT_CLOSE and kind != PDU_ABORT):
            self._skip_body()
            self._fire(PDU_EVENT[kind], None)
        elif length:
            self._part = PART_BODY
        else:
            self._decode(b"")
        return 0

    cdef unsigned long _longest(self, int kind):
        if kind == PDU_DATA_TF:
            return self._data_limit
        return self._associate_limit if kind <= PDU_ASSOCIATE_AC else FIXED_LENGTH

    cdef void _skip_body(self) noexcept:
        self._part = PART_SKIP if self._body_left else PART_HEADER

    cdef int _take_body(self, Cursor* data) except -1:
        cdef Py_ssize_t take = min(<Py_ssize_t>self._body_left, remaining(data))
        cdef object body = read_bytes(data, take)
        self._body_left -= take
        if self._body_left or self._body:
            self._body += body
            if self._body_left:
                return 0
            body, self._body = self._body, bytearray()
        self._decode(body)
        return 0

    cdef int _decode(self, body) except -1:
        self._part = PART_HEADER
        if self._type == PDU_ASSOCIATE_RQ:
            self._echoed = bytes(body[4:68])
        if self.mend is not None and self._type <= PDU_ASSOCIATE_AC:
            body = self.mend(self._type, bytes(body))
        self._fire(PDU_EVENT[self._type], decode_body(self._type, body))
        return 0

    cdef void _take_body_unread(self, Cursor* data) noexcept:
        cdef Py_ssize_t take = min(<Py_ssize_t>self._body_left, remaining(data))
        skip(data, take)
        self._body_left -= take
        self._skip_body()

    cdef int _begin_fragment(self, unsigned long length, int context_id, int control) except -1:
        """A PDV header is complete: the fragment must fit into what is left of its PDU (PS3.8 Section 9.3.5.1)."""
        self._body_left -= HEADER_SIZE
        self._skip_body()
        if length < 2 or <long long>length - 2 > self._body_left:
            raise malformed_data(f"a PDV claims {length} bytes where {self._body_left + 2} are left")
        self._pdv_left = length - 2
        self._pdv_context = context_id
        self._pdv_control = control
        if self._reader is not None:
            self._reader.begin(context_id, control)
        self._part = PART_FRAGMENT
        if self._pdv_left == 0:
            self._end_fragment()
        return 0

    cdef int _take_fragment(self, view, Cursor* data) except -1:
        cdef Py_ssize_t start = data.pos
        cdef Py_ssize_t take = min(<Py_ssize_t>self._pdv_left, remaining(data))
        self._pdv_left -= take
        self._body_left -= take
        if self._reader is None:
            self._body += read_bytes(data, take)
        else:
            skip(data, take)
            self._reader.take(view, start, data.pos)
        if self._pdv_left == 0:
            self._end_fragment()
        return 0

    cdef int _end_fragment(self) except -1:
        self._part = PART_PDV_HEADER
        if self._body_left < HEADER_SIZE:
            self._skip_body()
        if self._reader is None:
            self._pdvs.append(PDV(self._pdv_context, bytes(self._body), bool(self._pdv_control & 1),
                                  bool(self._pdv_control & 2)))
            self._body.clear()
            if self._part == PART_HEADER:
                self._fire(Event.RECV_P_DATA_TF, tuple(self._pdvs))
                self._pdvs.clear()
        else:
            self._reader.end()
        if self._part == PART_SKIP and <unsigned long>self._body_left > self.tolerated_rest:
            raise malformed_data(f"{self._body_left} bytes follow the last PDV of a PDU")
        return 0

    # ---- the runner of the table -------------------------------------------------------------------------------

    cdef int _local(self, int event, object argument) except -1:
        """A primitive of the local user: where the table has no cell, nothing is sent and nothing changes."""
        if CELL_ACTION[event][self._state] == 0 or self.is_closed():
            raise LocalProtocolError(
                f"{states.Event(event).name} is not possible in state {states.State(self._state).name}"
            )
        return self._fire(event, argument)

    cdef int _fire(self, int event, object argument) except -1:
        cdef int action = CELL_ACTION[event][self._state]
        if action == 0:
            return 0
        before = self._state
        self._state = CELL_NEXT[event][before]
        if self._state == State.STA6_ESTABLISHED or self._state != before:
            self._since = self._now
        ACTIONS[action](self, argument)
        if self._state == State.STA13_AWAIT_TRANSPORT_CLOSE and before != State.STA13_AWAIT_TRANSPORT_CLOSE:
            self._discard()
        if self.on_transition is not None and (event != Event.P_DATA_REQUEST or before != self._state):
            self.on_transition(before, event, action, self._state)
        return 0

    cdef int _discard(self) except -1:
        """Sta13 begins: nothing but an A-ABORT is read any more, and what is left of the PDU in hand is passed over."""
        if self._part == PART_BODY and self._type == PDU_ABORT:
            return 0
        self._body.clear()
        if self._part == PART_PDV_HEADER:
            self._body_left -= self._have
            self._have = 0
        if self._part in (PART_BODY, PART_PDV_HEADER, PART_FRAGMENT):
            self._skip_body()
        return 0

    cdef int _start_artim(self) except -1:
        self._artim = self._now + self._periods[ARTIM] if self._periods[ARTIM] >= 0 else -1.0
        return 0

    cdef int _indicate(self, event) except -1:
        self._events.append(event)
        return 0

    cdef int _send_abort(self, int source, int reason) except -1:
        self.abort_sent = True
        self._out.append(Abort(source, reason).encode())
        return 0

    cdef int _lost(self) except -1:
        """The association is over on our side without a word of the peer's user."""
        return 0 if self._reader is None else self._reader.cancel()

    cdef int _announce(self, argument) except -1:
        """What we announce as maximum length is what we enforce (PS3.8 Annex D.1)."""
        limit, encoded = argument
        if limit is not None:
            self._data_limit = max(<unsigned long>(limit or 0xFFFFFFFF), self.tolerated_pdu)
        self._out.append(encoded)
        return 0


# ---- actions: what PS3.8 Tables 9-6 to 9-9 say, one function each ------------------------------------------------
# The state has already changed when an action runs; AE-6 and AR-8 choose theirs.

cdef int _ae_1(UpperLayer self, argument) except -1:
    self._requestor = True
    self._request = argument
    return 0

cdef int _ae_2(UpperLayer self, argument) except -1:
    self._opened = True
    return self._announce(self._request)

cdef int _ae_3(UpperLayer self, argument) except -1:
    if self.on_accept is not None:
        self.on_accept(argument)
    return self._indicate(AssociateAccepted(argument))

cdef int _ae_4(UpperLayer self, argument) except -1:
    return self._indicate(AssociateRejected(argument))

cdef int _ae_5(UpperLayer self, argument) except -1:
    self._opened = True
    return self._start_artim()

cdef int _ae_6(UpperLayer self, argument) except -1:
    self._artim = -1.0
    if argument.protocol_version & 1:
        return self._indicate(AssociateIndication(argument))
    self._state = State.STA13_AWAIT_TRANSPORT_CLOSE
    self._out.append(AssociateRJ(1, 2, 2).encode())
    return self._start_artim()

cdef int _ae_7(UpperLayer self, argument) except -1:
    limit, encoded = argument    # bytes 11 to 74, titles and reserved, go back as they came (PS3.8 Table 9-17)
    return self._announce((limit, encoded[:10] + self._echoed + encoded[74:]))

cdef int _ae_8(UpperLayer self, argument) except -1:
    self._out.append(argument)
    return self._start_artim()

cdef int _send_data(UpperLayer self, argument) except -1:
    """DT-1 and AR-7: send P-DATA-TF."""
    self._out.extend(argument)
    return 0

cdef int _indicate_data(UpperLayer self, argument) except -1:
    """DT-2 and AR-6: P-DATA indication."""
    return self._indicate(DataIndication(argument))

cdef int _ar_1(UpperLayer self, argument) except -1:
    self._out.append(ReleaseRQ().encode())
    return 0

cdef int _ar_2(UpperLayer self, argument) except -1:
    return self._indicate(ReleaseIndication(False))

cdef int _confirm_release(UpperLayer self, argument) except -1:
    """AR-3 and AR-10: A-RELEASE confirmation."""
    self._lost()
    return self._indicate(ReleaseConfirmation())

cdef int _ar_4(UpperLayer self, argument) except -1:
    self._out.append(ReleaseRP().encode())
    return self._start_artim()

cdef int _stop_artim(UpperLayer self, argument) except -1:
    """AR-5, AA-5, and AA-2, whose closing of the transport is `UpperLayer.closed`."""
    self._artim = -1.0
    return self._lost()

cdef int _ar_8(UpperLayer self, argument) except -1:
    self._state = (
        State.STA9_COLLISION_REQUESTOR_AWAIT_LOCAL if self._requestor else State.STA10_COLLISION_ACCEPTOR_AWAIT_RP
    )
    return self._indicate(ReleaseIndication(True))

cdef int _ar_9(UpperLayer self, argument) except -1:
    self._out.append(ReleaseRP().encode())
    return 0

cdef int _aa_1(UpperLayer self, argument) except -1:
    # The text gives the service-user as source even where the peer erred (in Sta2); follow the text.
    self._lost()
    self._send_abort(0, 0)
    return self._start_artim()

cdef int _aa_3(UpperLayer self, argument) except -1:
    self._lost()
    return self._indicate(AbortIndication(argument.source, argument.reason, True))

cdef int _aa_4(UpperLayer self, argument) except -1:
    self._lost()
    return self._indicate(AbortIndication(2, 0, False, "the transport connection was lost", lost=True))

cdef int _aa_6(UpperLayer self, argument) except -1:
    return 0

cdef int _aa_7(UpperLayer self, argument) except -1:
    # The text does not name the source; once an A-ABORT went out there is nothing to add to it, however much follows.
    return 0 if self.abort_sent else self._send_abort(2, REASON_UNEXPECTED_PDU)

cdef int _aa_8(UpperLayer self, argument) except -1:
    self._lost()
    reason, detail = self.abort_reason, self.abort_detail
    if reason < 0:
        reason, detail = REASON_UNEXPECTED_PDU, f"PDU type {self._type:#04x} was not expected"
    self._send_abort(2, reason)
    self._indicate(AbortIndication(2, reason, False, detail))
    return self._start_artim()


for (event, state), (action, following) in states.TABLE.items():
    CELL_ACTION[<int>event][<int>state] = action
    CELL_NEXT[<int>event][<int>state] = following[0]
ACTIONS[:] = [
    NULL, _ae_1, _ae_2, _ae_3, _ae_4, _ae_5, _ae_6, _ae_7, _ae_8, _send_data, _indicate_data, _ar_1, _ar_2,
    _confirm_release, _ar_4, _stop_artim, _indicate_data, _send_data, _ar_8, _ar_9, _confirm_release, _aa_1,
    _stop_artim, _aa_3, _aa_4, _stop_artim, _aa_6, _aa_7, _aa_8,
]
