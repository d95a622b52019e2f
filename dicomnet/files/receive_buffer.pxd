"""The fields of what a loop receives into, for loops, sinks and who writes for them."""


cdef class Write:
    cdef int run(self) except -1


cdef class BackgroundWriter:
    cdef public bint wanted
    cdef readonly Py_ssize_t waiting
    cdef bint has_room(self) except -1
    cdef bint takes(self) except -1
    cdef int submit(self, Write write) except -1
    cpdef object wait(self)


cdef class ReceiveBuffer(bytearray):
    cdef BackgroundWriter writer
    cdef readonly Py_ssize_t lent


cdef ReceiveBuffer lendable(object view)
