"""The latest of what happened."""


cdef class Notes:
    cdef readonly object lock, _clock, _kept
    cdef long long _last
    cdef public dict _waiting    # who waits for what is added next
    cdef readonly set _unheard   # kinds of what is noted that none listens to
    cpdef long long _next(self)
