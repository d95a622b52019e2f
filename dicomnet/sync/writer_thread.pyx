# cython: auto_pickle=False
"""`WriterThread`: writes what has arrived, while the loop that received it reads from other peers."""

from cpython.time cimport monotonic

from ..files.receive_buffer cimport BackgroundWriter, Write

import threading
from queue import SimpleQueue

__all__ = ["WriterThread"]

cdef enum:
    MOST_SKIPPED = 255   # writes that it does not take after it was late, and late again
    MOST_WAITING = 5     # writes; beyond them sinks write themselves, and who has some here reads no more


cdef class Barrier(Write):
    """Nothing to write: when its turn has come, all before it is written."""

    cdef object _reached

    def __cinit__(self):
        self._reached = threading.Event()

    cdef int run(self) except -1:
        self._reached.set()
        return 0


cdef class WriterThread(BackgroundWriter):
    """One thread, which starts with the first write.

    Where no processor is free for it, it costs time and saves none: after writes that it began late it goes without
    more and more of them.

    Args:
        late: seconds from a write that is given to it, until it begins, after which that is late.
    """

    cdef object _jobs, _thread
    cdef double _late, _given    # when the first that waits came, while it has not begun
    cdef int _vain, _skipped     # writes to go without, after the last one that was late; those that are left

    def __init__(self, double late=1e-4):
        self._jobs, self._late = SimpleQueue(), late

    cdef bint has_room(self) except -1:
        return self.waiting < MOST_WAITING

    cdef bint takes(self) except -1:
        if not self.wanted or not self.has_room():
            return False
        if self._skipped:
            self._skipped -= 1
            return False
        return self._thread is not None or self._start()

    cdef bint _start(self) except -1:
        thread = threading.Thread(target=self._run, name="dicomnet-writer", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread for it: sinks write themselves
            return False
        self._thread = thread
        return True

    cdef int submit(self, Write write) except -1:
        if not self.waiting:
            self._given = monotonic()
        self.waiting += 1
        self._jobs.put(write)
        return 0

    def _run(self):
        get = self._jobs.get
        while True:
            job = get()
            if job is None:
                return
            if self._given:
                self._begin()
            try:
                (<Write>job).run()
            finally:
                self.waiting -= 1
            del job  # it must not live until the next one comes

    cdef int _begin(self) except -1:
        """The first of those that wait is about to be written."""
        cdef bint late = monotonic() - self._given >= self._late
        self._given = 0
        self._vain = min(2 * self._vain + 1, <int>MOST_SKIPPED) if late else 0
        self._skipped = self._vain
        return 0

    cpdef object wait(self):
        cdef Barrier barrier
        if self.waiting:
            barrier = Barrier()
            self.submit(barrier)
            barrier._reached.wait()

    def close(self):
        """Write what is left, and end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            thread.join()
