"""The latest of what happened."""


cimport cython


@cython.no_gc
cdef class Noted:
    cdef public long long number
    cdef public double time


cdef class Notes:
    cdef readonly object lock
    cdef object _clock           # None for the system's
    cdef long long _first, _last
    cdef Py_ssize_t _keep
    cdef list _kept              # a ring, once as many are kept as may be
    cdef public dict _waiting    # who waits for what is added next
    cdef readonly set _unheard   # types of what is noted that none listens to
    cdef int add(self, Noted noted) except -1
    cdef int take_note(self, Noted noted) except -1
