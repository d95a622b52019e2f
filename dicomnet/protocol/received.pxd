from ..wire.command_set cimport Message


cdef class Received:
    cdef readonly Message message


cdef class RequestReceived(Received):
    pass


cdef class ResponseReceived(Received):
    pass
