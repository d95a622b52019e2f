# cython: auto_pickle=False
"""`Board`: what a provider counts, in memory that its worker processes share, where it has any.

Each process writes its own row, which outlives it, and a number is added in one go while the interpreter's lock is
held: counting takes no other lock, neither between processes nor between threads. It is compiled for that.
"""

cimport cython

import mmap

__all__ = ["Board"]


@cython.final
cdef class Board:
    """Counters by name, one row of them for each process.

    Args:
        names: of the counters.
        rows: how many processes count; one by itself shares nothing.
    """

    cdef dict _columns
    cdef Py_ssize_t _rows, _base
    cdef double[::1] _cells

    def __init__(self, names, Py_ssize_t rows=1):
        self._columns = {name: column for column, name in enumerate(names)}
        self._rows = rows
        size = 8 * len(self._columns) * rows
        self._cells = memoryview(mmap.mmap(-1, size) if rows > 1 else bytearray(size)).cast("d")

    def use_row(self, Py_ssize_t row):
        """From now on this process counts in this row."""
        self._base = row * len(self._columns)

    def add(self, str name not None, double amount=1.0):
        """Count; from any thread."""
        cdef Py_ssize_t cell = self._base + <Py_ssize_t>self._columns[name]
        self._cells[cell] += amount

    def note(self, str name not None, double value, row=None):
        """Write a value that is no sum, such as a time; into another row only where no process writes any more."""
        self._cells[self._cell(name, row)] = value

    def of(self, str name not None, row=None):
        """What a row says, or this process's."""
        return self._cells[self._cell(name, row)]

    cdef Py_ssize_t _cell(self, str name, row) except -1:
        cdef Py_ssize_t base = self._base if row is None else <Py_ssize_t>row * len(self._columns)
        return base + <Py_ssize_t>self._columns[name]

    def values(self, str name not None):
        """What each row says."""
        return [self.of(name, row) for row in range(self._rows)]

    def total(self, str name not None):
        """The sum of all rows."""
        return int(sum(self.values(name)))
