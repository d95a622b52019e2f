"""What is counted of each message."""

cimport cython

from ..wire.command_set cimport Command, Message
from .noting cimport Noted, Notes


@cython.final
cdef class Performed:
    cdef readonly tuple labels
    cdef readonly long long bytes
    cdef readonly double seconds
    cdef dict _statuses          # but for those of the latest status, which are most
    cdef int _status
    cdef long long _alike
    cdef long long _buckets[16]
    cdef int add(self, int status, long long size, double seconds) except -1


cdef struct Begun:
    # A request that is under way.
    int message_id
    long long size
    double since


@cython.final
@cython.no_gc
cdef class Action(Noted):
    cdef str id, calling, sop_class
    cdef int field, status
    cdef double seconds


cdef class Account:
    cdef readonly str id
    cdef public str calling
    cdef readonly long long messages, received
    cdef readonly Command command
    cdef readonly int status
    cdef readonly double latest
    cdef Begun *_pending
    cdef Py_ssize_t _waiting, _room
    cdef Notes _notes
    cdef object _cell_of, _sop_class
    cdef Performed _cell
    cdef int _field
    cdef int _take(self, int message_id, Begun *found) noexcept
    cdef Performed _cell_for(self, Command command)
