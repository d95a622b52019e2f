# cython: auto_pickle=False
"""`ReceiveBuffer`: memory that a loop receives into. A sink may borrow it until a `BackgroundWriter` has written it.

To write a large data set takes as long as to receive it. Where several peers send at a time, a loop that did both would
keep one processor busy, and leave the others idle.
"""

__all__ = ["BackgroundWriter", "ReceiveBuffer"]


cdef class Write:
    """Something to write. What goes wrong is part of the outcome, and not raised."""

    cdef int run(self) except -1:
        """Write it; in the thread of a `BackgroundWriter`."""
        raise NotImplementedError


cdef class BackgroundWriter:
    """Writes what it is given, in that order, while who gives it goes on; `sync.writer_thread` has one.

    Attributes:
        wanted: whether it is worth while now, for who receives has other peers to attend to.
        waiting: how many writes are not done yet.
    """

    cdef bint has_room(self) except -1:
        """Whether another write may wait."""
        raise NotImplementedError

    cdef bint takes(self) except -1:
        """Whether a sink is to leave its next write to it."""
        raise NotImplementedError

    cdef int submit(self, Write write) except -1:
        """Have something written, soon: after `takes` has said so, or while something waits."""
        raise NotImplementedError

    cpdef object wait(self):
        """Return when all that was submitted is written."""
        raise NotImplementedError


cdef class ReceiveBuffer(bytearray):
    """Memory that a loop receives into. While `lent` is above 0, a sink still has something to write that lies in it.

    Args:
        writer: what writes it.
        size: bytes.
    """

    def __init__(self, BackgroundWriter writer not None, Py_ssize_t size):
        super().__init__(size)
        self.writer = writer


cdef ReceiveBuffer lendable(object view):
    """The buffer in which a memoryview lies, if it is one that may be borrowed; else None."""
    memory = view.obj if isinstance(view, memoryview) else None
    return <ReceiveBuffer>memory if isinstance(memory, ReceiveBuffer) else None
