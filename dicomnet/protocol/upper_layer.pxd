"""What `message_exchange` sees of the upper layer: it asks for the state at every step, which is to cost nothing."""

cimport cython

from ..wire.cursor cimport Cursor
from ..wire.command_set cimport MessageReader

# The timers.
cdef enum:
    ARTIM, ASSOCIATE, RELEASE, RESPONSE, PROGRESS, IDLE, NO_TIMER

cdef enum:
    HEADER_SIZE = 6          # PDU-type, reserved, PDU-length; a PDV's length, context and control are six bytes too
    REASON_UNEXPECTED_PDU = 2
    REASON_INVALID_VALUE = 6
    FIXED_LENGTH = 4         # of A-ASSOCIATE-RJ, A-RELEASE and A-ABORT

# What the next byte of the stream is part of.
cdef enum Part:
    PART_HEADER              # six bytes of PDU header
    PART_BODY                # the body of a PDU that is decoded whole
    PART_PDV_HEADER          # six bytes of PDV header
    PART_FRAGMENT            # a fragment, handed on as it comes
    PART_SKIP                # the body of a PDU that is not wanted (AA-6, AA-7)
    PART_NOISE               # the framing is lost: everything up to the end of the connection


@cython.final
cdef class UpperLayer:
    cdef int _state, _part, _type, _have, _pdv_control, _pdv_context
    cdef bint _requestor, _opened, _waiting, _timed
    cdef readonly bint abort_sent
    cdef unsigned char _header[6]
    cdef long long _body_left, _pdv_left
    cdef unsigned long _associate_limit, _data_limit
    cdef double _now, _artim, _since, _paced
    cdef long long _arrived, _least
    cdef double _periods[NO_TIMER + 1]
    cdef bytearray _body
    cdef list _out, _events, _pdvs
    cdef MessageReader _reader
    cdef object _request, _echoed
    cdef public object on_accept, on_transition, mend
    cdef public unsigned long tolerated_pdu, tolerated_rest
    cdef readonly int abort_reason
    cdef readonly str abort_detail
    cdef bint is_closed(self) noexcept
    cdef bint is_reading(self) noexcept
    cdef double next_deadline(self) noexcept
    cdef int receive_part(self, object view, Py_ssize_t begin, Py_ssize_t end) except -1
    cpdef list outgoing(self)
    cpdef list events(self)
    cpdef object tick(self, double now)
    cpdef object restart(self, double now, bint heard=*)
    cpdef object wait_for_response(self, bint waiting)
    cpdef object send_framed(self, list buffers)
    cdef int _timer(self) noexcept
    cdef bint _receiving(self) noexcept
    cdef int _expire(self, int timer, str arrived) except -1
    cdef int _step(self, view, Cursor* data) except -1
    cdef int _take_header(self, Cursor* data) except -1
    cdef int _begin_pdu(self, int kind, unsigned long length) except -1
    cdef unsigned long _longest(self, int kind)
    cdef void _skip_body(self) noexcept
    cdef int _take_body(self, Cursor* data) except -1
    cdef int _decode(self, body) except -1
    cdef void _take_body_unread(self, Cursor* data) noexcept
    cdef int _begin_fragment(self, unsigned long length, int context_id, int control) except -1
    cdef int _take_fragment(self, view, Cursor* data) except -1
    cdef int _end_fragment(self) except -1
    cdef int _local(self, int event, object argument) except -1
    cdef int _fire(self, int event, object argument) except -1
    cdef int _discard(self) except -1
    cdef int _start_artim(self) except -1
    cdef int _indicate(self, event) except -1
    cdef int _send_abort(self, int source, int reason) except -1
    cdef int _lost(self) except -1
    cdef int _announce(self, argument) except -1
