# cython: auto_pickle=False
"""`Notes`: the latest of what happened, numbered as it is added.

It is compiled for what happens with each message: in Python that took as long as what is counted of the message. What
is compiled here calls nothing of Python's between the number and the place of what is added, nor while it gathers what
is kept; and it makes no container there, for on Python 3.11 the garbage collector may run whenever one is made, and
with it whatever finalizers do. So no other thread comes in between, and neither needs the lock.
"""

from cpython.time cimport time as system_time

import threading
import time

__all__ = ["Noted", "Notes"]


cdef class Noted:
    """What becomes an event once a follower or listener wants it.

    Attributes:
        number, time: the id and the time of the event; given by the log.
        kind: its type; a subclass has one.
    """

    kind = ""

    def event(self):
        """The event."""
        raise NotImplementedError


cdef class Notes:
    """What happened lately, each with a number and its time; `events.EventLog` tells others of it.

    Args:
        keep: how many are kept.
        first: the number before that of the first one.
        clock: seconds since the epoch.

    A subclass has `_tell`, which is called under the lock with what was added; it says whether any listens to its kind.
    """

    def __init__(self, Py_ssize_t keep=10_000, *, long long first=0, clock=time.time):
        if keep < 0:
            raise ValueError("keep is 0 or more")
        self.lock = threading.RLock()
        self._clock = None if clock is time.time else clock
        self._keep, self._first, self._last = keep, first, first
        self._kept = []
        self._waiting, self._unheard = {}, set()

    @property
    def last_id(self):
        """The id of the latest event."""
        return self._last

    def now(self):
        """Seconds since the epoch."""
        return system_time() if self._clock is None else self._clock()

    cdef int add(self, Noted noted) except -1:
        """Number it, and keep it."""
        noted.time = system_time() if self._clock is None else self._clock()
        self._last += 1
        noted.number = self._last
        if len(self._kept) < self._keep:
            self._kept.append(noted)
        elif self._keep:
            self._kept[(self._last - self._first - 1) % self._keep] = noted
        return 0

    def _add(self, Noted noted not None):
        """Add what is told of in any case; under the lock."""
        self.add(noted)

    cdef int take_note(self, Noted noted) except -1:
        """Add what happens with each message: it costs little where no one listens. From any thread."""
        if type(noted) in self._unheard:
            self.add(noted)
            if self._waiting:
                with self.lock:
                    self._tell(noted)
        else:
            with self.lock:
                self.add(noted)
                if not self._tell(noted):
                    self._unheard.add(type(noted))
        return 0

    def note(self, Noted noted not None):
        """Add what happens often, and costs little where no one listens; from any thread."""
        self.take_note(noted)

    def _kept_after(self, long long last):
        """What is kept of that after a number, and the number where it begins: a later one, where some of it is lost.

        After a number that is still to come, all is.
        """
        cdef list found = []  # before anything is looked at: see above
        cdef long long begin = last + 1, oldest = self._last + 1 - len(self._kept), number
        if not oldest <= begin <= self._last + 1:
            begin = oldest
        for number in range(begin, self._last + 1):
            found.append(self._kept[(number - self._first - 1) % self._keep])
        return begin, found
