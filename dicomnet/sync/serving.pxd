"""The fields of what drives a provider's flow, for its connection."""

cimport cython

from ..files.file_sink cimport FileSink
from ..protocol.message_exchange cimport Call, MessageExchange
from .loop cimport Loop, Watched


@cython.final
cdef class Job:
    cdef Serving _connection
    cdef Call _call
    cdef double _due
    cdef object _future, _answer, _error


@cython.final
cdef class Errand:
    cdef Call _call


cdef class Serving(Watched):
    cdef readonly Loop loop
    cdef public object address, slot
    cdef readonly MessageExchange exchange
    cdef object _owner
    cdef object _flow, _item        # what serves the association, and what it waits for
    cdef list _events               # what arrived, from `_at` on
    cdef Py_ssize_t _at
    cdef Call _running              # whose answer is waited for
    cdef Job _job
    cdef list _later                # futures that are still to be answered
    cdef bint _awaits_file          # the next request's data set is still being written
    cdef bint _blocked              # the socket takes nothing for now
    cdef double _flushed            # when everything was written
    cdef int _turn(self) except -1
    cdef bint _flush(self) except -1
    cdef int _read(self) except -1
    cdef int _close(self) except -1
    cdef bint _gather(self) except -1
    cdef object _next_event(self)
    cdef int _go_on(self) except -1
    cdef bint _give_next(self) except -1
    cdef object _ending(self)
    cdef int _schedule(self) except -1
    cdef bint _saturated(self) except -1
    cdef bint _is_full(self) except -1
    cdef bint _is_being_written(self) except -1
    cdef bint _awaits(self, FileSink sink) except -1
    cdef int _resume(self, value) except -1
    cdef int _throw(self, error) except -1
    cdef int _fail(self, error) except -1
    cdef int _crash(self, error) except -1
    cdef int _tell_abort(self) except -1
    cdef int _call(self, Call call) except -1
    cdef int _submit(self, Call call) except -1
    cdef Job _job_of(self, Call call, future=*)
    cdef int _returned(self, Job job) except -1
    cdef int _answer(self, Call call, answer) except -1
    cdef int _failed_to_answer(self, error) except -1
    cdef int _heed(self) except -1
    cdef int _abandon(self, error) except -1
    cdef int _expire_later(self, double now) except -1
    cdef object _late(self, Call call)
    cdef int _drop_later(self) except -1


cdef FileSink file_of(data)
