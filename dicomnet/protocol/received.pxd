from ..wire.command_set cimport Message


cdef class Received:
    cdef readonly Message message


cdef class RequestReceived(Received):
    pass


cdef class ResponseReceived(Received):
    pass


cdef class Observer:
    cpdef Py_ssize_t received(self, object buffer, Py_ssize_t at) except -1
    cpdef object sent(self, list buffers)
    cpdef object message(self, bint sent, bytes command, object context, object data)
