# cython: auto_pickle=False
"""`Driver`: drives an `Exchange` over a `Transport`, the blocking I/O of a requestor; `Stream`: its socket.

They are compiled, as the core is: in a small message nearly all of the time is spent on the way from the socket to the
service and back. There is nothing of DICOM in here.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.time cimport monotonic
from libc.math cimport INFINITY as NEVER

from collections import deque
from functools import partial
from threading import Lock

from ..protocol.message_exchange cimport Call, MessageExchange
from .loop cimport BusyPoll, shifted

from ..services import scu
from ..protocol.message_exchange import POLL
from ..errors import AssociationAborted, ConnectionFailed, DeadlineExceeded, DicomNetError, LocalProtocolError
from ..protocol.events import discard_requests

__all__ = ["IOV_MAX", "Driver", "Stream", "give_back", "send_first", "take_large", "unsent"]

IOV_MAX = 1024  # buffers per sendmsg; Linux and macOS take at least as many

cdef double LONGEST = 86400  # seconds of one wait, which goes on after it: poll takes no more than 24 days

cdef enum:
    GLANCES = 16         # reads of one look at what came: it is not to wait, not even for a peer that never stops
    SMALL = 16384        # bytes of receive buffer while nothing flows
    MOST_SPARE = 16      # large receive buffers kept for the next message
    PAGE = 4096

cdef class Stream:
    """What every message passes through of a `Transport`: a connected socket that does not block, and a buffer.

    Before the thread of a requestor sleeps it looks for a moment whether there is something to read, ``busy_poll``
    seconds: on many machines to be woken takes several times as long as a message, and the caches are cold then. After
    looks that saw nothing it goes without more and more of them.

    Attributes:
        failure: why the stream ended, where there is more to say than that it did.
    """

    def __init__(self, sock, polled, Py_ssize_t large, busy_poll=None):
        self._sock = sock
        self._busy_poll = BusyPoll(busy_poll) if busy_poll else None
        self._fd = sock.fileno() if busy_poll else -1
        self._recv_into, self._polled = sock.recv_into, polled
        self._sendmsg = getattr(sock, "sendmsg", None) or partial(send_first, sock)
        self._large = large
        self._use(bytearray(SMALL))

    cdef int _use(self, bytearray buffer) except -1:
        self._buffer, self._view = buffer, memoryview(buffer)
        return 0

    @property
    def polls(self):
        """How often it has looked, for a moment, before it slept or need not."""
        return 0 if self._busy_poll is None else self._busy_poll.polls

    def send(self, buffers):
        """Send what the socket takes now, in order; 0 where it takes nothing."""
        try:
            return self._sendmsg(buffers if len(buffers) <= IOV_MAX else buffers[:IOV_MAX])
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            what = f"the connection broke while sending: {error.strerror}"
            raise ConnectionFailed(what, errno=error.errno) from error

    def send_last(self, buffers):
        """Send what nothing follows, as far as the socket takes it now, whatever of others was not sent before."""
        self.send(buffers)

    def receive(self):
        """What has arrived, valid until the next call; empty at the end of the stream, None where nothing is there."""
        cdef Py_ssize_t size
        try:
            size = self._recv_into(self._view)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            size = 0  # a reset connection is a closed one
            self.failure = self.failure or self._gone(error)
        return self._view[:size]

    def wait(self, timeout, *, bint read=True, bint write=False):
        """Sleep until there is something to read or room to write, at most ``timeout`` seconds; True if to read."""
        if timeout is not None and timeout > LONGEST:
            timeout = LONGEST
        if write or not read or self._polled is None:
            return self._wait_for(timeout, read, write)
        if self._busy_poll is not None and self._busy_poll.look(self._fd, NEVER if timeout is None else timeout):
            return True
        return bool(self._polled(None if timeout is None else max(<long long>(<double>timeout * 1000) + 1, 0)))

    def _wait_for(self, timeout, read, write):
        """`wait`, where there is more to wait for than something to read."""
        raise NotImplementedError

    def _gone(self, error):
        """What an error of the stream says beyond that it ended; None for nothing."""
        return None

    def grow(self):
        """A data set flows: read more of it at a time from now on, until `rest`."""
        if len(self._buffer) < self._large:
            self._buffer = take_large(self._large)
            self._view = shifted(self._buffer, self._large)

    def rest(self):
        """Nothing flows for now: give a large buffer back."""
        if len(self._buffer) > SMALL:
            give_back(self._buffer)
            self._use(bytearray(SMALL))


def send_first(sock, buffers):
    """Windows has no sendmsg: what the socket takes of the first buffer that is not empty."""
    return sock.send(next(filter(len, buffers), b""))


# Large buffers that are not in use: a new one for every message would be zeroed, and its pages mapped, each time.
_spare = deque(maxlen=MOST_SPARE)


def give_back(bytearray buffer not None):
    """Keep a large buffer for the next association that needs one."""
    _spare.append(buffer)


def take_large(Py_ssize_t size):
    """A buffer of so many bytes and a page, whatever is in them."""
    size += PAGE
    while _spare:
        try:
            buffer = _spare.pop()
        except IndexError:  # another thread was faster
            break
        if len(buffer) == size:
            return buffer
    return bytearray(size)


@cython.final
cdef class Driver:
    """Reads, writes and waits for one association; owns the transport."""

    def __init__(self, MessageExchange exchange not None, transport):
        self.exchange = exchange
        self.transport = transport
        self._events = deque()
        self._at_work = Lock()
        self._at_work.acquire()
        self._unsent = []
        exchange._upper.tick(monotonic())

    def secure(self):
        """Do the handshake of the transport; where it fails, the connection is closed.

        Raises:
            TLSFailed, DeadlineExceeded: there is no secure connection.
        """
        try:
            self.exchange.tls = self.transport.handshake(self.exchange.timeouts.tls)
        except BaseException as error:
            self._name_peer(error)
            self.close()
            raise

    def _name_peer(self, error):
        if isinstance(error, DicomNetError):
            error.peer = error.peer or self.exchange.peer

    cpdef object complete(self, flow):
        """Run a flow to its end, whatever it yields on the way; its return value."""
        self.exchange._upper.restart(monotonic())
        self._cancelling = False
        try:
            item = flow.send(None)
            while True:
                item = self._go_on(flow, item)
        except StopIteration as stop:
            self.flush()  # its last word may be a response
            return stop.value
        finally:
            flow.close()

    def require_turn(self, flow):
        """Raise where another flow stands between its results: what comes next is for that one."""
        if self._unread is not None and self._unread is not flow:
            raise LocalProtocolError(
                "the results of another call are still to come",
                peer=self.exchange.peer,
                hint="Take all of them first, or leave the loop over them.",
            )

    def results(self, flow, *, bint streaming=False):
        """Run a flow and pass on its results; leaving the loop closes the flow, and sends what it says then.

        ``streaming``: between its results more of them arrive, and what arrives is for this flow.
        """
        self.exchange._upper.restart(monotonic())
        self._cancelling = False
        try:
            item = flow.send(None)
            while True:
                if item is not None and item is not POLL and type(item) is not Call:
                    if streaming:
                        self._unread = flow
                    yield item
                    self.require_turn(flow)
                item = self._go_on(flow, item)
        except StopIteration as stop:
            self.flush()  # its last word may be a response
            return stop.value
        except GeneratorExit:
            flow.close()
            self.flush()
            raise
        finally:
            if self._unread is flow:
                self._unread = None
            flow.close()

    cdef object _go_on(self, flow, item):
        """Do what a flow has asked for, and let it go on; what it asks for then."""
        if type(item) is Call:
            return self._call(flow, item)
        if item is not None and item is not POLL:
            return flow.send(None)  # it was a result
        try:
            if item is None:
                # The flow may have taken its time, to read the next file or for the user: that was no silence.
                self.exchange._upper.restart(monotonic())
                event = self._next_event()
            else:
                event = self._polled_event()
        except DicomNetError as error:
            return flow.throw(error)
        return flow.send(event)

    cdef object _call(self, flow, Call item):
        try:
            answer = item.function(*item.arguments)
        except Exception as error:
            self.exchange._upper.restart(monotonic())
            return flow.throw(error)
        self.exchange._upper.restart(monotonic())
        return flow.send(answer)

    cdef object _polled_event(self):
        """Write everything; the next event if it has arrived."""
        self.flush()
        if not self._events and not self.exchange._upper.is_closed() and self._take():
            self._heed()
        return self._events.popleft() if self._events else None

    cdef object _next_event(self):
        if self._cancelling:
            self._cancel()
        while not self._events:
            if self.exchange._upper.is_closed():
                raise self._over()
            self._pump()
        return self._events.popleft()

    cdef object _over(self):
        if self._interrupted and self.exchange.failure is not None:
            return self.exchange.failure
        return ConnectionFailed("the association is over", peer=self.exchange.peer)

    cdef int _pump(self) except -1:
        """Write what is to be written, then wait once for the peer or for a timer, and take what came."""
        if self._cancelling:
            self._cancel()
        self.flush()
        if not self._events and not self.exchange._upper.is_closed():
            self._read(NEVER)
            self._heed()
        return 0

    cdef int _heed(self) except -1:
        """Queue what the exchange has to tell."""
        cdef list events = self.exchange.events()
        if events:
            self._events.extend(events)
        return 0

    cpdef object flush(self):
        """Write everything, reading when the peer has something to say meanwhile."""
        cdef MessageExchange exchange = self.exchange
        cdef list buffers
        if self._unsent:
            buffers, self._unsent = self._unsent, []
            self._send(buffers)
        while True:
            PyErr_CheckSignals()  # no line of Python need be run for as long as data flow, either way
            buffers = exchange.outgoing()
            if not buffers:
                break
            self._send(buffers)
            if not exchange._queue:
                break
            if not self._events and self._take():
                self._heed()  # a refusal, perhaps, which ends the message early
        self._heed()

    cpdef object _send(self, list buffers):
        cdef double since = -1.0
        cdef Py_ssize_t sent
        while buffers and not self.exchange._upper.is_closed():
            try:
                sent = self.transport.send(buffers)
            except ConnectionFailed:
                self._hear_out()
                return
            if sent or since < 0:
                since = monotonic()
            if sent:
                self.exchange._upper.restart(since)
                buffers = unsent(buffers, sent)
            if buffers:
                self._wait_for_room(since)

    cdef int _hear_out(self) except -1:
        """Nothing can be sent any more; what the peer said before it left says why."""
        while not self.exchange._upper.is_closed() and self._take():
            pass
        return self._end()

    cdef int _end(self) except -1:
        failure = self.transport.failure
        if self._interrupted:
            failure = AssociationAborted(0, 0, by_peer=False)
            self.leave()
        self._name_peer(failure)
        self.exchange.failure = failure
        self.exchange.receive_eof()
        return 0

    def interrupt(self):
        """Abort from any thread: the thread that waits on the association wakes up, tells the peer, and is told."""
        self._interrupted = True
        self.transport.shutdown_read()

    def cancel(self):
        """Ask the peer to end what is under way, from any thread; a call that waits goes on to the last response."""
        self._cancelling = True
        if self._at_work.acquire(blocking=False):  # else the thread that works on the association will see
            try:
                self._cancel()
                buffers = [*self._unsent, *self.exchange.outgoing()]
                self._unsent = unsent(buffers, self.transport.send(buffers)) if buffers else []
            except ConnectionFailed:
                pass  # the thread that waits is told
            finally:
                self._at_work.release()

    cdef int _cancel(self) except -1:
        self._cancelling = False
        scu.cancel(self.exchange)
        return 0

    cdef bint _rest(self, timeout) except -1:
        """Wait for the peer; meanwhile other threads may cancel. Whether there is something to read."""
        PyErr_CheckSignals()  # one that came since the last line of Python would not end the wait
        self._at_work.release()
        try:
            return not self._cancelling and self.transport.wait(timeout)
        finally:
            self._at_work.acquire()

    def look(self):
        """Take what came while no call waited for anything, without waiting; whether the association goes on."""
        try:
            self.settle()
            for _ in range(GLANCES):
                if self.exchange._upper.is_closed() or self._events or not self._take():
                    break
                self._heed()
                self.settle()
            self.flush()
        except DicomNetError:
            pass  # it does not go on
        return self.exchange.established

    cdef int _wait_for_room(self, double since) except -1:
        """The peer does not take more for now; if that lasts, it is dead or stuck.

        What it says meanwhile is heard, but no more than that: it could say as much as it does not read.
        """
        seconds = self.exchange.timeouts.write
        left = None if seconds is None else max(since + seconds - monotonic(), 0.0)
        readable = self.transport.wait(left, read=not self._events, write=True)
        now = monotonic()
        self.exchange._upper.tick(now)
        if readable:
            self._take()
            self._heed()
        elif seconds is not None and now >= since + seconds:
            self.exchange.receive_eof()
            raise DeadlineExceeded(timeout="write", seconds=seconds, peer=self.exchange.peer)
        return 0

    cdef int _read(self, double end) except -1:
        """Wait once for the peer or for a timer, at most until ``end``."""
        cdef MessageExchange exchange = self.exchange
        if exchange.is_receiving() and self._take():
            return 0  # in the middle of a message the rest is usually there already
        if exchange.is_receiving():
            self.transport.acknowledge()
        else:
            self.transport.rest()
        end = min(end, exchange._upper.next_deadline())
        cdef bint readable = self._rest(None if end == NEVER else max(end - monotonic(), 0.0))
        exchange._upper.tick(monotonic())
        if readable:
            self._take()
        return 0

    cdef bint _take(self) except -1:
        """Take what has arrived; false where nothing has."""
        if self._interrupted:
            self._end()
            return True
        received = self.transport.receive()
        if received is None:
            return False
        if len(received):
            self.exchange.receive(received)
            if self.exchange._reader.in_data:
                self.transport.grow()
        else:
            self._end()
        return True

    def settle(self):
        """Heed what happened while no call waited for anything; the end of the association raises."""
        while self._events:
            self.exchange.set_aside(self._events.popleft())

    def leave(self):
        """Nothing follows: say what is to be said, and that it was all. The peer closes, or we do later.

        It is a few bytes, such as an A-ABORT; where there is no room for them, the peer does not read them either.
        """
        try:
            self.exchange.abort()
        except LocalProtocolError:
            pass  # there is no association yet, or none any more
        try:
            if buffers := self.exchange.outgoing():
                self.transport.send_last(buffers)
        except ConnectionFailed:
            pass
        if not self.exchange._upper.is_closed():
            self.transport.shutdown()

    def finish(self, double patience=NEVER):
        """`leave`, give the peer so many seconds to close, then close (PS3.8 Section 9.1.4)."""
        self.leave()
        end = monotonic() + patience
        while not self.exchange._upper.is_closed() and monotonic() < end:
            self._read(end)
            self.exchange.outgoing()
        self.close()

    def close(self):
        """Close the transport, whatever is on its way."""
        if not self.exchange._upper.is_closed():
            self.leave()
        self.exchange.receive_eof()
        self.transport.close()
        discard_requests(self._events, self.exchange.deferred, self.exchange.events())


def unsent(list buffers, Py_ssize_t sent):
    """What is left of ``buffers`` after the first ``sent`` bytes."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[index + 1 :]] if sent else buffers[index:]
        sent -= len(buffer)
    return []
