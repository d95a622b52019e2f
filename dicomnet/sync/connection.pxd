"""The fields of a connection, for the one that has TLS on it."""

from .serving cimport Serving


cdef class Connection(Serving):
    cdef readonly object sock
    cdef object _header, _recv_into, _sendmsg
    cdef list _unsent
    cdef object _failure            # why the connection ended, where there is more to say
    cdef bint _mute                 # nothing more can be said
    cdef bint _internet, _in_data, _half_closed, _left
    cdef bint _disconnected         # the socket is closed
    cdef int _interest              # what the selector looks for
    cdef double _stuck              # since when nothing could be sent
    cdef double _parting, _hush     # when the connection is closed at the latest; when our side of it is
    cdef int _begin(self) except -1
    cdef int _start(self) except -1
    cdef int _introduce(self, view) except -1
    cdef int _arrived(self, view) except -1
    cdef int _received(self, view) except -1
    cdef bint _more_to_come(self) except -1
    cdef bint _is_behind(self) except -1
    cdef int _hang_up(self) except -1
    cdef bint _send(self, list buffers) except -1
    cdef bint _write(self, list buffers) except -1
    cdef double _deadline(self) except? -1
    cdef int _expire(self, double now) except -1
    cdef int _part(self) except -1
    cdef int _shutdown(self) except -1
    cdef int _disconnect(self) except -1
    cdef int _look_for(self, int interest) except -1
