"""A message that was seen, and is made in compiled code."""

cimport cython

from ..wire.command_set cimport Command


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class MessageSeen:
    cdef readonly double time
    cdef readonly object association, context
    cdef readonly bint sent
    cdef readonly Py_ssize_t size
    cdef bytes encoded
    cdef Command decoded
