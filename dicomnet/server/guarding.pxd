"""The calls of an add-in's handlers."""

cimport cython


@cython.final
cdef class Running:
    cdef double due


cdef class Calls:
    cdef readonly long long calls
    cdef public long long in_a_row
    cdef list _running           # a place for each that runs at a time
    cdef Running _place(self)
    cdef object _run(self, object function, object argument, double deadline, bint is_step)
