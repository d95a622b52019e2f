# cython: auto_pickle=False
"""`Notes`: the latest of what happened, numbered as it is added.

It is compiled for what happens with each message: in Python that took as long as what is counted of the message.
"""

import threading
import time
from collections import deque

__all__ = ["Notes"]


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
        self._clock, self._last = clock, first
        self._kept = deque(maxlen=keep)
        self._waiting, self._unheard = {}, set()

    @property
    def last_id(self):
        """The id of the latest event."""
        return self._last

    def note(self, noted not None):
        """Add what happens with each message: it costs little where no one listens. From any thread."""
        with self.lock:
            noted.number = self._next()
            noted.time = self._clock()
            self._kept.append(noted)
            kind = noted.kind
            if (self._waiting or kind not in self._unheard) and not self._tell(kind, noted):
                self._unheard.add(kind)

    cpdef long long _next(self):
        """The number of what is added now, under the lock."""
        self._last += 1
        return self._last
