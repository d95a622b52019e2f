"""The latest of what happened."""


cimport cython


@cython.no_gc
cdef class Noted:
    cdef public long long number
    cdef public double time


cdef class Notes:
    cdef readonly object lock, _clock, _kept
    cdef object _acquire, _release   # of the lock: a `with` takes twice as long
    cdef long long _last
    cdef public dict _waiting    # who waits for what is added next
    cdef readonly set _unheard   # kinds of what is noted that none listens to
    cpdef long long _next(self)
