# cython: auto_pickle=False
"""`Serving`: drives the flow that serves one association, between its socket and the threads of its handlers.

A flow runs in the loop's thread until it waits for the peer. What may block runs in a thread of
`handlers.HandlerThreads`, and comes back as a call of the loop; what is answered later, as a future that is done.
"""

cimport cython
from cpython.time cimport monotonic
from libc.math cimport INFINITY as NEVER

from ..files.file_sink cimport FileSink
from ..protocol.message_exchange cimport Call, MessageExchange
from ..protocol.received cimport RequestReceived
from ..wire.command_set cimport Message
from .loop cimport Loop, Watched

from ..errors import ConnectionFailed, DeadlineExceeded, DicomNetError, LocalProtocolError
from ..files.dataset_sink import CollectingSink
from ..log import in_brief, log, log_failure
from ..protocol.message_exchange import LATER, POLL

__all__ = ["Serving"]

cdef double SLICE = 0.002    # seconds that results or responses may take before the others get their turn


@cython.final
cdef class Job:
    """A call that runs in a thread, and comes back to its connection; or a future that does."""

    def __call__(self):
        """Run it; in any thread."""
        try:
            self._answer = self._call.function(*self._call.arguments)
        except BaseException as error:  # it is the association's, not the thread's
            self._error = error

    def done(self, future=None):
        """It has run, or the future is done; in any thread."""
        self._connection.loop.call_soon_threadsafe(self._return)

    def _return(self):
        """In the loop."""
        connection = self._connection
        if self._future is not None:
            if self._future.cancelled():
                self._error = LocalProtocolError("the handler's future was cancelled")
            else:
                self._error = self._future.exception()
                self._answer = None if self._error is not None else self._future.result()
        connection._returned(self)
        # A future knows this job for as long as it lives, and must not keep the request with it.
        self._answer = self._error = self._future = self._call = self._connection = None


@cython.final
cdef class Errand:
    """A call that runs in a thread, and that no flow waits for."""

    def __call__(self):
        """Run it."""
        try:
            self._call.function(*self._call.arguments)
        except Exception as error:
            log_failure("a handler failed", error)

    def done(self):
        """It has run."""
        self._call = None


cdef class Serving(Watched):
    """The flow that serves an association, driven: events and answers go in, calls come out.

    Its socket is a `Connection`'s.

    Args:
        loop: whose thread it lives in.
        address: of the peer, ``host:port``.
        exchange: the acceptor's side of the association.
        owner: has ``start(connection)``, which gives the flow once the connection stands, ``left(connection)`` for when
            the association is over, and ``gone(connection)`` for when nothing of it is left.
    """

    def __init__(self, Loop loop not None, address, MessageExchange exchange not None, owner):
        self.loop, self.address, self.exchange, self._owner = loop, address, exchange, owner
        self._events = []

    cdef int _turn(self) except -1:
        """Do all that can be done now, and see what to wait for."""
        raise NotImplementedError

    cdef bint _flush(self) except -1:
        """Write what there is to write; True where all of it is out."""
        raise NotImplementedError

    cdef int _read(self) except -1:
        """Take what has arrived, if anything has."""
        raise NotImplementedError

    cdef int _close(self) except -1:
        """Let go of everything."""
        raise NotImplementedError

    cdef bint _gather(self) except -1:
        """Queue what the exchange has to tell; whether there is any."""
        cdef list events = self.exchange.events()
        if not events:
            return False
        if self._at:
            del self._events[: self._at]
            self._at = 0
        self._events.extend(events)
        return True

    def take_next(self, wanted):
        """The next event that has come, if it is wanted; else it stays where it is, and None is returned."""
        if self._at == len(self._events) or self._is_full() or self._is_being_written():
            return None
        return self._next_event() if wanted(self._events[self._at]) else None

    cdef object _next_event(self):
        event = self._events[self._at]
        self._at += 1
        if self._at == len(self._events):
            self._events.clear()
            self._at = 0
        return event

    cdef int _go_on(self) except -1:
        """Let the flow go on for as long as it need not wait."""
        cdef MessageExchange exchange = self.exchange
        cdef double begun = monotonic()
        while self._flow is not None and self._running is None:
            if type(self._item) is Call:
                self._call(<Call>self._item)
            elif self._blocked and not self._flush():
                return 0
            elif self._at < len(self._events) and not self._is_full():
                if not self._give_next():
                    return 0
            elif exchange._upper.is_closed():
                self._throw(self._ending())
            elif not self._flush():
                return 0
            elif self._gather():
                continue  # a refusal, perhaps, which ends a message early
            elif self._item is not POLL:
                return 0
            elif monotonic() >= begun + SLICE:
                self._schedule()  # others have their turn, and what the peer says meanwhile is heard
                return 0
            else:
                self._read()  # a C-CANCEL, perhaps: nothing was heard while the last call ran
                if not self._gather():
                    self._resume(None)
        if not exchange._upper.is_closed():
            self._flush()
        return 0

    cdef bint _give_next(self) except -1:
        """Have the flow go on with the next event; False where that has to wait."""
        if self._is_being_written():
            if not self.exchange._upper.is_closed():
                self._flush()  # what is answered already does not wait for the disk
            return False
        # Requests that came together are answered together, unless their handlers take their time.
        if self.exchange._queue and monotonic() >= self._flushed + SLICE and not self._flush():
            return False
        self._resume(self._next_event())
        return True

    cdef object _ending(self):
        return self.exchange.failure or ConnectionFailed("the association is over", peer=self.exchange.peer)

    cdef bint _is_being_written(self) except -1:
        """Whether the data set of the next request is still on its way to its file."""
        cdef Message message
        cdef FileSink sink
        event = self._events[self._at]
        if type(event) is not RequestReceived:
            return False
        message = (<RequestReceived>event).message
        sink = file_of(message.data)
        if sink is None:
            return False
        if self._awaits(sink):
            return True
        if message.error is None:
            message.error = sink.background_failure()
        return False

    cdef bint _awaits(self, FileSink sink) except -1:
        """Whether something is still to be written to a file; then it is the turn of this association once it is."""
        if not sink.pending:
            return False
        sink.settled = self._settled
        self._awaits_file = sink.pending > 0  # the thread that writes may just have been faster
        return self._awaits_file

    def _settled(self):
        """It is written; in another thread."""
        self.loop.call_soon_threadsafe(self._written)

    def _written(self):
        """In the loop."""
        self._awaits_file = False
        if self._over:
            return
        try:
            self.exchange._upper.restart(monotonic())
            self._turn()
        except Exception as error:
            self._crash(error)

    cdef int _schedule(self) except -1:
        if not self._scheduled:
            self._scheduled = True
            self.loop._again.append(self)
        return 0

    cdef bint _saturated(self) except -1:
        """Whether enough has arrived for now."""
        if self._at < len(self._events):
            return True
        return self._running is not None and self._running.heed is None

    cdef bint _is_full(self) except -1:
        """Whether as many answers are outstanding as the peer may ask for."""
        return self._later is not None and len(self._later) >= self.exchange.most_deferred

    cdef int _resume(self, value) except -1:
        self._item = None
        try:
            self._item = self._flow.send(value)
        except StopIteration:
            self._flow = None
        except Exception as error:
            self._fail(error)
        return 0

    cdef int _throw(self, error) except -1:
        self._item = None
        try:
            self._item = self._flow.throw(error)
        except StopIteration:
            self._flow = None
        except Exception as failure:
            self._fail(failure)
        return 0

    cdef int _fail(self, error) except -1:
        """The association cannot go on."""
        self._flow = None
        if isinstance(error, DicomNetError):
            log.info("association ended: %s", in_brief(error))
        else:
            log_failure(f"association with {self.address} failed", error)
        self._tell_abort()
        return 0

    cdef int _crash(self, error) except -1:
        """Something is wrong here; nothing of it reaches another association."""
        flow, self._flow = self._flow, None
        log_failure(f"association with {self.address} failed", error)
        try:
            if flow is not None:
                flow.close()
            self.exchange.receive_eof()
        except Exception as failure:
            log_failure(f"association with {self.address} failed", failure)
        self._close()
        return 0

    cdef int _tell_abort(self) except -1:
        try:
            self.exchange.abort()
        except LocalProtocolError:
            pass  # there is no association yet, or none any more
        return 0

    cdef int _call(self, Call call) except -1:
        """Do what the flow asks for, here or in a thread."""
        self._item = None
        self._running = call
        if call.inline:
            try:
                answer = call.function(*call.arguments)
            except Exception as error:
                self._failed_to_answer(error)
            else:
                self._answer(call, answer)
        else:
            try:
                self._submit(call)
            except RuntimeError as error:  # there is no thread to be had
                self._failed_to_answer(error)
        if self._running is call and call.heed is not None and self._at < len(self._events):
            self._heed()
        return 0

    cdef int _submit(self, Call call) except -1:
        """Have a call run in a thread."""
        cdef Errand errand
        if call.background:
            errand = Errand.__new__(Errand)
            errand._call = call
            self.loop.handlers.submit(call.lane, errand)
            self._running = None
            self._resume(None)
        else:
            self._job = self._job_of(call)
            self.loop.handlers.submit(call.lane, self._job)
        return 0

    cdef Job _job_of(self, Call call, future=None):
        cdef Job job = Job.__new__(Job)
        job._connection, job._call, job._future = self, call, future
        job._due = NEVER if call.deadline is None else monotonic() + <double>call.deadline
        if future is not None:
            future.add_done_callback(job.done)
        return job

    cdef int _returned(self, Job job) except -1:
        """A call, or a future, is done."""
        try:
            if self._job is job:
                if job._error is None:
                    self._answer(job._call, job._answer)
                else:
                    self._failed_to_answer(job._error)
            elif self._later is not None and job in self._later:
                self._later.remove(job)
                job._call.later(job._answer, job._error)
            else:
                return 0  # it was given up, or its association is over
            self._turn()
        except Exception as error:
            self._crash(error)
        return 0

    cdef int _answer(self, Call call, answer) except -1:
        self.exchange._upper.restart(monotonic())
        if answer is None or not hasattr(answer, "add_done_callback"):
            self._running = self._job = None
        elif call.later is None:
            self._job = self._job_of(call, answer)
            return 0
        else:
            self._running = self._job = None
            if self._later is None:
                self._later = []
            self._later.append(self._job_of(call, answer))
            answer = LATER
        self._resume(answer)
        return 0

    cdef int _failed_to_answer(self, error) except -1:
        self.exchange._upper.restart(monotonic())
        self._running = self._job = None
        self._throw(error)
        return 0

    cdef int _heed(self) except -1:
        """Events came while a call runs that may be given up for them."""
        try:
            while self._at < len(self._events) and not self._is_being_written():
                if self._running.heed(self._next_event()):
                    self._abandon(None)
                    return 0
        except Exception as error:
            self._abandon(error)
        return 0

    cdef int _abandon(self, error) except -1:
        """The flow goes on without the answer; what still runs is let go when it ends."""
        self._running.abandoned = True
        if error is not None:
            self._failed_to_answer(error)
            return 0
        self._running = self._job = None
        self._resume(None)
        return 0

    cdef int _expire_later(self, double now) except -1:
        """Answers that took too long: the peer is told that its request failed."""
        cdef Job job
        for job in self._later[:]:
            if now >= job._due:
                self._later.remove(job)
                job._future.cancel()
                job._call.later(None, self._late(job._call))
        return 0

    cdef object _late(self, Call call):
        return DeadlineExceeded("handler", call.deadline, peer=self.exchange.peer)

    @property
    def answering(self):
        """Whether a request of the peer is under way."""
        return self._running is not None or self._awaits_file or bool(self._later)

    cdef int _drop_later(self) except -1:
        """No peer is there for these answers any more."""
        cdef Job job
        later, self._later = self._later, None
        for job in later or ():
            job._call.abandoned = True
            job._future.cancel()
        return 0


cdef FileSink file_of(data):
    """The file that a data set goes to; None where it goes elsewhere."""
    if type(data) is CollectingSink:
        data = data.inner
    return <FileSink>data if type(data) is FileSink else None
