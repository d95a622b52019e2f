"""What drivers and their kin see of the compiled half of an exchange."""

cimport cython

from ..wire.command_set cimport Command, Message, MessageReader
from .received cimport Observer
from .upper_layer cimport UpperLayer


@cython.final
cdef class Call:
    cdef readonly object function
    cdef readonly tuple arguments
    cdef readonly object deadline, lane, later, heed
    cdef readonly bint inline, background
    cdef public bint abandoned


@cython.final
cdef class Request:
    cdef readonly object context
    cdef readonly Command command
    cdef public bint abandoned
    cdef public int responses
    cdef public Message answer


@cython.final
cdef class Outgoing:
    cdef readonly object message_id
    cdef readonly bint has_data
    cdef int _context_id
    cdef bytes _command
    cdef Py_ssize_t _unit
    cdef long long _left
    cdef object _pieces
    cdef object _unsized            # a data source that learns its size as it goes
    cpdef list next_piece(self)
    cdef object _next_data(self)
    cdef list _framed_command(self)


cdef class MessageExchange:
    cdef public object limits, timeouts, failure, profile, peer, open_sink, unasked, on_answer
    cdef public dict contexts, pending
    cdef public set cancelled
    cdef set _answered
    cdef public long window
    cdef public object receive, receive_eof, tick, restart
    cdef readonly UpperLayer _upper
    cdef readonly MessageReader _reader
    cdef readonly object _queue
    cdef readonly list _performing
    cdef readonly object _failure
    cdef public Py_ssize_t _unit
    cdef list _happened
    cdef Observer _observer
    cdef bint _over
    cdef public long _last_id
    cdef bint is_receiving(self) noexcept
    cpdef list outgoing(self)
    cpdef list events(self)
    cpdef object _collect(self)
    cpdef object abort(self)
    cpdef object _refuse(self, str detail, Message message=*)
    cdef int _send_pieces(self) except -1
    cdef object _translate(self, object event)
    cdef object _message(self, Message message)
    cdef object _response(self, Message message)
    cdef bint _is_late(self, Command command) except -1
    cdef str _fault_of(self, Command command, Request request)
    cdef int _forget(self, object message_id) except -1
    cdef int _send(self, int context_id, Command command, object data) except -1
    cdef object _next_message_id(self)
