"""A PDU that was seen, and is made in compiled code."""

cimport cython


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class PDUSeen:
    cdef readonly double time
    cdef readonly object association
    cdef readonly bint sent, whole
    cdef readonly bytes body
    cdef unsigned char _header[6]
    cdef Py_ssize_t _begun           # bytes of it that there are
