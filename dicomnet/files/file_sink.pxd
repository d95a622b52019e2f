"""The fields of a file in the making, for those who wait until it is written."""

cimport cython

from .receive_buffer cimport BackgroundWriter

cdef enum Stage:
    OPEN
    CLOSED     # all of it is in the file, which still has its own hidden name
    COMMITTED
    GONE


@cython.final
cdef class FileSink:
    cdef Stage _stage
    cdef bint _durable
    cdef public bint awaited
    cdef int _fd
    cdef object _directory, _header
    cdef BackgroundWriter _writer     # of what is pending
    cdef readonly object path, failure
    cdef readonly long long size
    cdef readonly Py_ssize_t pending
    cdef public object settled
    cdef bint _leave(self, list views, long long total) except -1
    cdef int _settle(self) except -1
    cdef int _finish(self) except -1
    cdef object background_failure(self)
    cdef int _create(self) except -1
    cdef int _close_file(self) except -1
    cdef int _delete(self) except -1
    cdef object _failed(self, error)
    cpdef object close(self)
    cpdef object discard(self)
