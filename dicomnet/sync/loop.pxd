"""The fields of a provider's loop, for those that it looks after."""

from ..files.receive_buffer cimport BackgroundWriter, ReceiveBuffer


cdef class Watched:
    cdef bint _scheduled     # whether the loop is to call it with the next turn
    cdef bint _over          # whether nothing is left to do
    cdef Py_ssize_t _entries  # in the loop's heap
    cdef double _due         # the earliest of them that counts
    cdef int ready(self, int events) except -1
    cdef int ring(self, double now) except -1


cdef class BusyPoll:
    cdef readonly long polls
    cdef double _moment
    cdef int _vain, _skipped   # waits to begin without a look, after the last one in vain; those that are left
    cdef double begin(self, double most) noexcept
    cdef int end(self, bint seen) except -1
    cdef bint look(self, int fd, double most) except -1


cdef class Loop:
    cdef object _selector, _modify, _select
    cdef dict _watched           # what is called for each file
    cdef bint _is_epoll
    cdef object _awake, _alarm   # a socket pair: what other threads wake the loop by
    cdef object _calls           # of other threads, a deque
    cdef list _again             # connections that go on with the next turn
    cdef list _timers            # a heap of (when, number, connection)
    cdef long long _number
    cdef Py_ssize_t _dead        # timers of connections that are closed
    cdef bint _sleeping
    cdef BusyPoll _busy_poll
    cdef void *_last             # what had something last; never followed
    cdef int _alone              # waits since another one had something
    cdef int _fd                 # of what waits for all sockets
    cdef double _share           # seconds for which each that is ready in this turn may read on
    cdef Py_ssize_t _size
    cdef BackgroundWriter _writer
    cdef list _buffers
    cdef ReceiveBuffer _memory   # of these, where connections read now
    cdef object _view, _plain    # its part that they read to; where secure ones decrypt
    cdef readonly object handlers
    cdef readonly list hooks
    cdef int _register(self, object file, int interest, object what) except -1
    cdef int _unregister(self, object file) except -1
    cdef list _ready(self, double until)
    cdef list _look(self, double end)
    cdef int _ring(self) except -1
    cdef int _set_timer(self, double when, Watched connection) except -1
    cdef int _bury(self, Watched connection) except -1
    cdef object _free_view(self)
    cdef int _change_buffer(self) except -1
    cdef int _add_buffer(self) except -1
    cdef int _shift(self) except -1
    cdef object _plain_view(self)


cpdef object shifted(object memory, Py_ssize_t size)
