"""The fields of the compiled half of blocking I/O."""

cimport cython

from ..protocol.message_exchange cimport Call, MessageExchange
from .loop cimport BusyPoll


cdef class Stream:
    cdef public object failure
    cdef readonly object _sock
    cdef object _recv_into, _sendmsg, _polled, _view
    cdef bytearray _buffer
    cdef public Py_ssize_t _large
    cdef int _fd
    cdef BusyPoll _busy_poll
    cdef int _use(self, bytearray buffer) except -1


@cython.final
cdef class Driver:
    cdef readonly MessageExchange exchange
    cdef readonly object transport
    cdef object _events        # a deque of what arrived
    cdef object _at_work       # a lock, held but while the thread of the association rests
    cdef bint _cancelling, _interrupted
    cdef list _unsent          # what another thread could not send of a C-CANCEL
    cdef object _unread        # the flow whose results are still to come
    cpdef object complete(self, flow)
    cpdef object flush(self)
    cpdef object _send(self, list buffers)
    cdef object _go_on(self, flow, item)
    cdef object _call(self, flow, Call item)
    cdef object _polled_event(self)
    cdef object _next_event(self)
    cdef object _over(self)
    cdef int _pump(self) except -1
    cdef int _heed(self) except -1
    cdef int _hear_out(self) except -1
    cdef int _end(self) except -1
    cdef int _cancel(self) except -1
    cdef bint _rest(self, timeout) except -1
    cdef int _wait_for_room(self, double since) except -1
    cdef int _read(self, double end) except -1
    cdef bint _take(self) except -1
