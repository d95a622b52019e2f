# cython: auto_pickle=False
"""`Loop`: one thread that waits for all sockets, timers and calls of a provider, and what it looks after.

It is compiled as the core is: per message this is most of the way. There is nothing of DICOM in here.
"""

from cpython.exc cimport PyErr_CheckSignals
from cpython.time cimport monotonic
from libc.math cimport INFINITY as NEVER

from ..files.receive_buffer cimport ReceiveBuffer

import heapq
import selectors
import socket
from collections import deque

from .writer_thread import WriterThread

__all__ = ["BusyPoll", "Loop", "Watched", "shifted"]

cdef enum:
    READ = 1                 # as in `selectors`
    MOST_SKIPPED = 63        # waits that begin without a look after looks that saw nothing
    MOST_EVENTS = 64         # that are taken at a time; those that are left have the next turn
    ALONE = 16               # waits in a row for one peer's word, after which it counts as the only one that is busy
    FEW_DEAD = 64            # timers of closed connections that may stay in the heap
    PAGE = 4096
    STRIDE = 2528            # bytes from one start within a page to the next: 128 of them, far apart

cdef double LONGEST = 86400  # seconds of one wait, which goes on after it: epoll takes no more than 24 days
cdef double SLICE = 0.002    # seconds of a turn for reading on, whose parts are equal for all that are ready


cdef class Watched:
    """What a loop looks after: it has a socket, and a time at which it wants to be called at the latest."""

    def __cinit__(self):
        self._due = NEVER

    cdef int ready(self, int events) except -1:
        """There is something to read, or room to write; or it is its turn again."""
        raise NotImplementedError

    cdef int ring(self, double now) except -1:
        """Its time may have come."""
        raise NotImplementedError


cdef extern from *:
    """
    #ifdef _WIN32
    #define dicomnet_stirs(fd) 0
    #else
    #include <poll.h>
    static int dicomnet_stirs(int fd) {
        struct pollfd one = {fd, POLLIN, 0};
        return poll(&one, 1, 0) > 0;
    }
    #endif
    #ifdef __linux__
    #include <sys/epoll.h>
    typedef struct epoll_event dicomnet_event;
    #define dicomnet_events(fd, found, most) epoll_wait(fd, found, most, 0)
    #define dicomnet_fd(event) ((event).data.fd)
    #define dicomnet_kinds(event) (((event).events & ~EPOLLOUT ? 1 : 0) | ((event).events & ~EPOLLIN ? 2 : 0))
    #else
    typedef int dicomnet_event;
    #define dicomnet_events(fd, found, most) 0
    #define dicomnet_fd(event) -1
    #define dicomnet_kinds(event) 0
    #endif
    """
    ctypedef struct Event "dicomnet_event":
        pass
    bint stirs "dicomnet_stirs"(int fd) noexcept nogil  # whether there is something to read now
    # What an epoll object has to tell now, and how many it is; of each the file and, as in `selectors`, for what.
    int events_of "dicomnet_events"(int epoll, Event *found, int most) noexcept nogil
    int fd_of "dicomnet_fd"(Event event) noexcept nogil
    int kinds_of "dicomnet_kinds"(Event event) noexcept nogil


cdef class BusyPoll:
    """Looks for a moment whether there is something to read, before a thread sleeps until there is.

    To be woken takes several times as long as a message on many machines, and the caches are cold then. After looks
    that saw nothing it goes without more and more of them.

    Args:
        moment: seconds of one look.

    Attributes:
        polls: how often it has looked.
    """

    def __init__(self, double moment):
        self._moment = moment

    cdef double begin(self, double most) noexcept:
        """Until when to look this time, at most so many seconds; 0 where it goes without."""
        if self._skipped:
            self._skipped -= 1
            return 0
        self.polls += 1
        return monotonic() + min(most, self._moment)

    cdef int end(self, bint seen) except -1:
        """It has looked."""
        self._vain = 0 if seen else min(2 * self._vain + 1, <int>MOST_SKIPPED)
        self._skipped = self._vain
        PyErr_CheckSignals()  # one that came meanwhile would not end the sleep
        return 0

    cdef bint look(self, int fd, double most) except -1:
        """Look at ``fd``, without the interpreter's lock; at most so many seconds."""
        cdef bint seen = False
        cdef double end = self.begin(most)
        if not end:
            return False
        with nogil:
            while True:
                seen = stirs(fd)
                if seen or monotonic() >= end:
                    break
        self.end(seen)
        return seen


cdef class Loop:
    """Waits for sockets, timers and calls of other threads; all else happens in `turn`, in one thread.

    Args:
        size: bytes of the buffer into which all connections read.
        handlers: where calls run that may block.
        busy_poll: seconds to look before it sleeps; None sleeps at once.

    Attributes:
        hooks: called at the end of each turn.
    """

    def __init__(self, Py_ssize_t size, handlers, busy_poll=None):
        self._selector = selectors.DefaultSelector()
        self._modify, self._select = self._selector.modify, self._selector.select
        self._is_epoll = isinstance(self._selector, getattr(selectors, "EpollSelector", ()))
        self._fd = getattr(self._selector, "fileno", int)()  # kqueue has one, too
        self._busy_poll = BusyPoll(busy_poll) if busy_poll and self._fd else None
        self._watched = {}
        self._awake, self._alarm = socket.socketpair()
        for end in (self._awake, self._alarm):
            end.setblocking(False)
        self._calls, self._again, self._timers, self.hooks = deque(), [], [], []
        self._size = size
        self._writer, self._buffers = WriterThread(), []
        self._add_buffer()
        self._plain = None
        self.handlers = handlers
        self._register(self._awake, READ, self._drain_alarm)

    def watch(self, file, function):
        """Call ``function`` whenever there is something to read from ``file``."""
        self._register(file, READ, function)

    def unwatch(self, file):
        """The opposite."""
        self._unregister(file)

    cdef int _register(self, file, int interest, what) except -1:
        self._selector.register(file, interest, what)
        self._watched[file.fileno()] = what
        return 0

    cdef int _unregister(self, file) except -1:
        self._selector.unregister(file)
        del self._watched[file.fileno()]
        return 0

    def call_soon_threadsafe(self, function, *arguments):
        """Have the loop call this, soon; from any thread, and from signal handlers."""
        self._calls.append((function, arguments))
        if self._sleeping:
            self._sleeping = False
            self.wake()

    @property
    def polls(self):
        """How often it has looked for a moment before it slept, or need not."""
        return 0 if self._busy_poll is None else self._busy_poll.polls

    def wake(self):
        """End the loop's sleep."""
        try:
            self._alarm.send(b"\0")
        except OSError:
            pass  # it has not even heard the last ones, or is closed

    def fileno(self):
        """Of what wakes the loop, for `signal.set_wakeup_fd`."""
        return self._alarm.fileno()

    def _drain_alarm(self):
        try:
            self._awake.recv(4096)
        except (BlockingIOError, InterruptedError):
            pass

    def turn(self, double until=NEVER):
        """Wait for something to do, at the latest ``until`` then (monotonic seconds), and do it."""
        cdef Watched connection
        cdef list found = self._ready(until)
        self._share = SLICE / max(len(found), 1)
        self._writer.wanted = self._alone < ALONE
        for what, events in found:
            if isinstance(what, Watched):
                if self._last is not <void *>what:
                    self._last, self._alone = <void *>what, 0
                (<Watched>what).ready(events)
            else:
                what()
        for _ in range(len(self._calls)):  # those that come meanwhile have the next turn, and sockets theirs before
            function, arguments = self._calls.popleft()
            function(*arguments)
        if self._again:
            again, self._again = self._again, []
            for connection in again:
                connection._scheduled = False
                connection.ready(0)
        if self._timers:
            self._ring()
        for hook in self.hooks:
            hook()

    cdef list _ready(self, double until):
        """What there is to do for sockets, with their events, once there is any or time is up."""
        cdef double end = until
        cdef list found
        if self._timers:
            end = min(end, <double>self._timers[0][0])
        self._sleeping = True
        try:
            if self._calls or self._again:
                end = 0
            PyErr_CheckSignals()  # one that came since the last line of Python would not end the wait
            found = self._look(end)
            if found or (self._is_epoll and end <= 0):
                return found
            left = None if end == NEVER else min(max(end - monotonic(), 0.0), LONGEST)
            return [(key.data, events) for key, events in self._select(left)]
        finally:
            self._sleeping = False

    cdef list _look(self, double end):
        """What there is to do now; where that is nothing, look for a moment, without the interpreter's lock."""
        cdef Event[MOST_EVENTS] found
        cdef int count = 0, index
        cdef double until = 0
        # While handlers run in threads the processor is theirs; where several peers are busy by turns it is those'.
        cdef bint may_look = end > 0 and self._busy_poll is not None and self._alone >= ALONE and not self.handlers.busy
        self._alone = min(self._alone + 1, <int>ALONE)
        if not self._is_epoll:
            if may_look:
                self._busy_poll.look(self._fd, end - monotonic())
        elif end <= 0:
            count = events_of(self._fd, found, MOST_EVENTS)
        elif may_look:
            until = self._busy_poll.begin(end - monotonic())
        if until:
            with nogil:
                while True:
                    count = events_of(self._fd, found, MOST_EVENTS)
                    if count or monotonic() >= until:
                        break
            self._busy_poll.end(count > 0)
        cdef list ready = []
        for index in range(count):
            what = self._watched.get(fd_of(found[index]))
            if what is not None:
                ready.append((what, kinds_of(found[index])))
        return ready

    cdef int _ring(self) except -1:
        """Wake the connections whose time has come."""
        cdef Watched connection
        cdef double now = monotonic(), when
        while self._timers and <double>self._timers[0][0] <= now:
            when, _, connection = heapq.heappop(self._timers)
            connection._entries -= 1
            if connection._over:
                self._dead -= 1
            elif when == connection._due:
                connection._due = NEVER
                connection.ring(now)
        return 0

    cdef int _set_timer(self, double when, Watched connection) except -1:
        self._number += 1
        connection._due = when
        connection._entries += 1
        heapq.heappush(self._timers, (when, self._number, connection))
        return 0

    cdef int _bury(self, Watched connection) except -1:
        """A connection is over: its timers go, once they are many."""
        self._dead += connection._entries
        if self._dead > FEW_DEAD and 2 * self._dead > len(self._timers):
            self._timers = [timer for timer in self._timers if not (<Watched>timer[2])._over]
            heapq.heapify(self._timers)
            self._dead = 0
        return 0

    cdef object _free_view(self):
        """Where to read to: nothing lies there that is still to be written."""
        if self._memory.lent:
            self._change_buffer()
        return self._view

    cdef int _change_buffer(self) except -1:
        cdef ReceiveBuffer buffer
        for buffer in self._buffers:
            if not buffer.lent:
                self._memory = buffer
                return self._shift()
        return self._add_buffer()  # there are no more than a writer has room for, and this one

    cdef int _add_buffer(self) except -1:
        self._memory = ReceiveBuffer(self._writer, self._size + PAGE)
        self._buffers.append(self._memory)
        return self._shift()

    cdef int _shift(self) except -1:
        """A data set begins to arrive."""
        self._view = shifted(self._memory, self._size)
        return 0

    cdef object _plain_view(self):
        if self._plain is None:
            self._plain = memoryview(bytearray(self._size))
        return self._plain

    def settle(self):
        """Wait until all that was received is written, and have those go on that waited for it."""
        self._writer.wait()
        self.turn(0)

    def close(self):
        """Let go of what the system has for the loop."""
        self._writer.close()
        self._selector.close()
        self._awake.close()
        self._alarm.close()


cdef Py_ssize_t _start = 0


cpdef object shifted(object memory, Py_ssize_t size):
    """A place for so many bytes in memory that has a page more: it begins elsewhere in its page with each message.

    To copy to a place that is 1 to 15 bytes further on in its page than the source is in its own takes AMD's
    processors five times as long, by rep movsb, which the kernel uses: where the messages of a peer are cut alike, one
    start for all would hit upon that with many of them.
    """
    global _start
    _start = (_start + STRIDE) % PAGE
    return memoryview(memory)[_start : _start + size]
