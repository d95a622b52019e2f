# cython: auto_pickle=False
"""Where a received data set goes: into memory, or nowhere; to a file that appears whole or not at all, see `file_sink`.

A sink is written to as fragments arrive, closed when the last one has, and discarded when it is not wanted any more.
What goes wrong is raised from `write` or `close` as an OSError, and the sink leaves nothing behind. It is compiled
because each small instance makes a sink of its own.
"""

cimport cython

import errno

from ..errors import OutputFileError

__all__ = ["CollectingSink", "DiscardSink", "MemoryBudget", "MemorySink", "Sink"]


class Sink:
    """What takes the bytes of a data set: any object with these methods, and a ``size``, its bytes so far."""

    size = 0

    def write(self, views):
        """Take the next bytes, a list of memoryviews that die with the call.

        Raises:
            OSError: they cannot be kept. The rest of the data set is not written then.
        """

    def close(self):
        """The data set is whole: there are no more writes."""

    def discard(self):
        """It is not wanted any more; the last call, whatever happened before."""


@cython.final
cdef class DiscardSink:
    """Counts the bytes and drops them."""

    cdef readonly long long size

    def write(self, list views not None):
        """Count."""
        self.size += total_of(views)

    def close(self):
        """Nothing is left to do."""

    def discard(self):
        """Nothing was kept."""


@cython.final
cdef class MemoryBudget:
    """What all sinks in memory that share it may hold together.

    Args:
        limit: bytes; None for any number.

    Attributes:
        held: bytes that they hold now.
    """

    cdef object _limit
    cdef readonly long long held

    def __init__(self, limit=None):
        self._limit = limit

    cdef bint take(self, long long size) except -1:
        """Whether there are so many bytes left; then they are taken."""
        if self._limit is not None and self.held + size > <long long> self._limit:
            return False
        self.held += size
        return True


@cython.final
cdef class MemorySink:
    """Holds the data set in memory, up to a limit.

    Args:
        limit: the most bytes that are taken; None takes them all.
        budget: what it shares with other sinks.
    """

    cdef bytearray _data
    cdef object _limit
    cdef MemoryBudget _budget
    cdef long long _held               # of the budget

    def __init__(self, limit=None, MemoryBudget budget=None):
        self._data = bytearray()
        self._limit = limit
        self._budget = budget

    @property
    def size(self):
        """Bytes so far."""
        return len(self._data)

    def write(self, list views not None):
        """Keep a copy."""
        cdef long long total = total_of(views)
        if self._limit is not None and len(self._data) + total > self._limit:
            raise OutputFileError(f"the data set is longer than the limit of {self._limit} bytes", errno=errno.EFBIG)
        if self._budget is not None and not self._budget.take(total):
            raise OutputFileError("no memory is left of what all associations may hold together", errno=errno.ENOMEM)
        self._held += total
        for view in views:
            self._data += view

    def getvalue(self):
        """The data set, copied."""
        return bytes(self._data)

    def getbuffer(self):
        """The data set, where it is."""
        return memoryview(self._data)

    def close(self):
        """Nothing is left to do."""

    def discard(self):
        """Let go of the memory."""
        self._give_back()
        self._data = bytearray()

    cdef int _give_back(self) except -1:
        if self._budget is not None:
            self._budget.held -= self._held
        self._held = 0
        return 0

    def __del__(self):
        self._give_back()


@cython.final
cdef class CollectingSink:
    """A sink with a collector beside it, which sees what is written and keeps the header of it.

    Attributes:
        inner: the sink.
        collector: see `element_walk.HeaderCollector`.
    """

    cdef readonly object inner, collector

    def __init__(self, inner, collector):
        self.inner = inner
        self.collector = collector

    @property
    def size(self):
        """Bytes so far."""
        return self.inner.size

    def write(self, list views not None):
        """Hand them on, then let the collector see them."""
        self.inner.write(views)
        self.collector.write(views)

    def close(self):
        """The data set is whole."""
        self.inner.close()
        self.collector.close()

    def discard(self):
        """It is not wanted any more."""
        self.inner.discard()


cdef long long total_of(list views) except -1:
    cdef long long total = 0
    for view in views:
        total += len(view)
    return total
