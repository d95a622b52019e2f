# cython: auto_pickle=False
"""`Notes`: the latest of what happened, numbered as it is added.

It is compiled for what happens with each message: in Python that took as long as what is counted of the message.
"""

import threading
import time
from collections import deque

__all__ = ["Noted", "Notes"]


cdef class Noted:
    """What becomes an event once a follower or listener wants it; it holds no other object that is collected.

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

    A subclass has `_tell`, which is called under the lock with the kind and what was added; it says whether any
    listens to that kind.
    """

    def __init__(self, keep=10_000, *, first=0, clock=time.time):
        self.lock = threading.RLock()
        self._acquire, self._release = self.lock.acquire, self.lock.release
        self._clock, self._last = clock, first
        self._kept = deque(maxlen=keep)
        self._waiting, self._unheard = {}, set()

    @property
    def last_id(self):
        """The id of the latest event."""
        return self._last

    def note(self, Noted noted not None):
        """Add what happens with each message: it costs little where no one listens. From any thread."""
        self._acquire()
        try:
            self._last += 1
            noted.number, noted.time = self._last, self._clock()
            self._kept.append(noted)
            kind = noted.kind
            if (self._waiting or kind not in self._unheard) and not self._tell(kind, noted):
                self._unheard.add(kind)
        finally:
            self._release()

    cpdef long long _next(self):
        """The number of what is added now, under the lock."""
        self._last += 1
        return self._last
