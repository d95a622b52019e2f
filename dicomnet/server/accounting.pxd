"""What is counted of each message."""

cimport cython

from ..wire.command_set cimport Command, Message
from .noting cimport Noted


@cython.final
cdef class Performed:
    cdef readonly tuple labels
    cdef readonly dict statuses
    cdef readonly long long bytes
    cdef readonly double seconds
    cdef long long _buckets[16]
    cdef int add(self, int status, long long size, double seconds) except -1


@cython.final
@cython.no_gc
cdef class Action(Noted):
    cdef str id, calling, sop_class
    cdef int field, status
    cdef double seconds


cdef class Account:
    cdef readonly str id
    cdef public str calling
    cdef readonly dict pending
    cdef readonly long long messages, received
    cdef readonly Command command
    cdef readonly int status
    cdef readonly double latest
    cdef object _note, _cell_of, _sop_class
    cdef Performed _cell
    cdef int _field
    cdef Performed _cell_for(self, Command command)
