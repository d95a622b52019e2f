# cython: auto_pickle=False
"""`Connection`: the socket of one association in a loop: reading, writing what it takes, the clock, and the end.

What arrives is read into one buffer for all connections of the loop and acted upon at once; what cannot be sent is
kept, and nothing more is made until it is out. So an idle connection is an object, and a stuck one holds a bounded
amount.
"""

from cpython.time cimport monotonic
from libc.math cimport INFINITY as NEVER

from ..files.file_sink cimport FileSink
from ..protocol.message_exchange cimport MessageExchange
from .loop cimport Loop
from .serving cimport Job, Serving, file_of

import socket
from functools import partial

from ..config import FAREWELL, LAST_WORD
from ..errors import AssociationAborted, DeadlineExceeded, DicomNetError
from ..net.sockets import QUICK_ACK, gone
from ..protocol.events import discard_requests
from .driver import IOV_MAX, send_first, unsent

__all__ = ["Connection"]

cdef enum:
    READ = 1                 # as in `selectors`
    WRITE = 2
    ESTABLISHED = 6          # Sta6
    OVER = 13                # Sta13: the peer is to close
    PORTION = 1 << 20        # bytes that a message may send before other connections get their turn


cdef class Connection(Serving):
    """One connection, from accept to close, with the exchange and the flow that serve it.

    Args:
        loop: whose thread it lives in.
        sock: the connected socket, which it owns.
        address: of the peer, ``host:port``.
        exchange: the acceptor's side of the association.
        owner: has ``start(connection)``, which gives the flow once the connection stands, ``left(connection)`` for when
            the association is over, and ``gone(connection)`` for when nothing of it is left.
        header: what reads the header of a trusted proxy (`net.proxy.Header`), where one is to come first.
    """

    def __init__(self, Loop loop not None, sock, address, MessageExchange exchange not None, owner, header=None):
        super().__init__(loop, address, exchange, owner)
        self.sock, self._header = sock, header
        self._recv_into = sock.recv_into
        self._sendmsg = getattr(sock, "sendmsg", None) or partial(send_first, sock)
        self._internet = QUICK_ACK is not None and sock.family in (socket.AF_INET, socket.AF_INET6)
        self._unsent = []
        self._parting = self._hush = NEVER
        self._stuck = -1.0

    def open(self):
        """Begin: from now on the loop looks after it."""
        self._look_for(READ)
        try:
            if self._header is None:
                self._begin()
            self._turn()
        except Exception as error:
            self._crash(error)

    cdef int _begin(self) except -1:
        """What comes before the first byte is done."""
        self._start()
        return 0

    cdef int _start(self) except -1:
        self._flow = self._owner.start(self)
        self._resume(None)
        return 0

    # ---- what the loop says ------------------------------------------------------------------------------------

    cdef int ready(self, int events) except -1:
        """There is something to read, or room to write."""
        if self._over:
            return 0
        try:
            if events & READ and not self._disconnected:
                if self._saturated() or self._is_behind():
                    self._look_for(self._interest & ~READ)  # what came waits in the system's buffers, then at the peer
                else:
                    self._read()
            self._turn()
        except Exception as error:
            self._crash(error)
        return 0

    cdef int ring(self, double now) except -1:
        """Its time may have come."""
        try:
            if now >= self._deadline():
                self._expire(now)
            self._turn()
        except Exception as error:
            self._crash(error)
        return 0

    cdef int _read(self) except -1:
        """Take what has arrived, if anything has; of a data set all that is there, until the others get their turn."""
        cdef double end = monotonic() + self.loop._share
        cdef Py_ssize_t size
        cdef Py_ssize_t most = self.loop._size
        while not self._is_behind():
            view = self.loop._free_view()
            try:
                size = self._recv_into(view)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._failure = self._failure or gone(error)
                size = 0  # a reset connection is a closed one
            if not size:
                self._hang_up()
                return 0
            if self._header is None:
                self._arrived(view[:size])
            else:
                self._introduce(view[:size])
            if size < most:
                break
            if not self._more_to_come() or monotonic() >= end:
                return 0
        if self._internet and self.exchange.is_receiving():
            # Acknowledge it now, not 40 ms later: many peers hold back their next segment until then.
            self.sock.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)
        return 0

    cdef bint _more_to_come(self) except -1:
        """Whether a data set is arriving, and nothing else has happened that is to be acted upon."""
        cdef MessageExchange exchange = self.exchange
        return exchange._reader.in_data and not (
            exchange._happened or exchange._upper._events or exchange._upper.is_closed()
        )

    cdef bint _is_behind(self) except -1:
        """Whether so much of its data set is still to be written that no more of it is to be read."""
        cdef FileSink sink
        if self.loop._writer.has_room():
            return False
        sink = file_of(self.exchange._reader._sink)
        return sink is not None and self._awaits(sink)

    cdef int _introduce(self, view) except -1:
        """A proxy says for whom it speaks; what follows is the peer's."""
        rest = self._header.feed(view)
        if rest is not None:
            self.address = self._header.address or self.address
            self._header = None
            self._begin()
            if len(rest):
                self._arrived(memoryview(rest))
        return 0

    cdef int _arrived(self, view) except -1:
        """Bytes came from the transport."""
        self._received(view)
        return 0

    cdef int _received(self, view) except -1:
        """Bytes of the association came."""
        cdef MessageExchange exchange = self.exchange
        if exchange._upper.is_closed():
            return 0
        if exchange._upper._state == ESTABLISHED:
            # What arrived counts before a timer that ran out while the loop was busy elsewhere.
            exchange._upper.restart(monotonic(), True)
        else:
            exchange._upper.tick(monotonic())
        exchange.receive(view)
        if exchange._reader.in_data:
            if not self._in_data:
                self.loop._shift()
                self._in_data = True
        else:
            self._in_data = False
        return 0

    cdef int _hang_up(self) except -1:
        """Nothing more comes."""
        failure = self._failure
        if isinstance(failure, DicomNetError):
            failure.peer = failure.peer or self.exchange.peer or self.address
        self.exchange.failure = failure
        self.exchange.receive_eof()
        return 0

    # ---- one turn ----------------------------------------------------------------------------------------------

    cdef int _turn(self) except -1:
        """Do all that can be done now, and see what to wait for."""
        self._gather()
        if self._running is not None and self._running.heed is not None and self._at < len(self._events):
            self._heed()
        self._go_on()
        if self.exchange._upper._state == OVER or self.exchange._upper.is_closed():
            self._part()
        if self._over:
            return 0
        cdef int interest = self._interest
        if not self._disconnected:
            if not self._saturated() and not self._is_behind():
                interest |= READ
            self._look_for(interest | WRITE if self._blocked else interest & ~WRITE)
        cdef double deadline = self._deadline()
        if deadline < self._due:
            self.loop._set_timer(deadline, self)
        return 0

    cdef bint _flush(self) except -1:
        """Write what there is to write; True where all of it is out."""
        cdef MessageExchange exchange = self.exchange
        cdef Py_ssize_t left = PORTION
        cdef list buffers
        if self._blocked and not self._send(self._unsent):
            return False
        while True:
            try:
                buffers = exchange.outgoing()
            except Exception as error:  # of a data source
                self._fail(error)
                continue
            if not buffers:
                break
            if not self._send(buffers):
                return False
            if not exchange._queue:
                break
            for buffer in buffers:
                left -= len(buffer)
            if left <= 0:
                self._schedule()
                return False
        self._flushed = monotonic()
        return True

    cdef bint _send(self, list buffers) except -1:
        """Write to the transport; False where it does not take all of it, and the rest is kept."""
        return self._write(buffers)

    cdef bint _write(self, list buffers) except -1:
        cdef Py_ssize_t sent
        while buffers and not self._mute:
            try:
                sent = self._sendmsg(buffers if len(buffers) <= <Py_ssize_t>IOV_MAX else buffers[:IOV_MAX])
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self._mute = True  # reading goes on: it tells what the peer had to say before it left
                break
            if sent:
                self._stuck = -1.0
                self.exchange._upper.restart(monotonic())  # what leaves ends the silence, too
                buffers = unsent(buffers, sent)
            else:
                if self._stuck < 0:
                    self._stuck = monotonic()
                self._unsent, self._blocked = buffers, True
                return False
        self._unsent, self._blocked, self._stuck = [], False, -1.0
        return True

    # ---- the clock ---------------------------------------------------------------------------------------------

    cdef double _deadline(self) except? -1:
        """When to wake up at the latest."""
        cdef double end = self._parting if self._blocked else min(self._parting, self._hush)
        cdef Job job
        if self._job is not None:
            end = min(end, self._job._due)  # while a handler runs it is us who are silent
        elif not self._awaits_file:
            end = min(end, self.exchange._upper.next_deadline())
        if self._stuck >= 0 and self.exchange.timeouts.write is not None:
            end = min(end, self._stuck + <double>self.exchange.timeouts.write)
        if self._later is not None:
            for job in self._later:
                end = min(end, job._due)
        return end

    cdef int _expire(self, double now) except -1:
        write = self.exchange.timeouts.write
        if now >= self._parting:
            self.exchange.receive_eof()
        elif now >= self._hush:
            pass  # `_part` sees to it
        elif self._stuck >= 0 and write is not None and now >= self._stuck + <double>write:
            self._mute, self._blocked, self._stuck, self._unsent = True, False, -1.0, []
            self.exchange.failure = DeadlineExceeded("write", write, peer=self.exchange.peer)
            self.exchange.receive_eof()
        elif self._job is not None:
            if now >= self._job._due:
                self._abandon(self._late(self._running))
        elif self._later:
            self._expire_later(now)
            if self._awaits_file or not self.exchange.is_receiving():
                self.exchange._upper.restart(now)  # the peer waits for us
            else:
                self.exchange._upper.tick(now)
        else:
            self.exchange._upper.tick(now)
        return 0

    # ---- the end -----------------------------------------------------------------------------------------------

    def abort(self):
        """End the association now: the peer is told, what still runs is let go."""
        if self._disconnected:
            return
        try:
            self._tell_abort()
            self._flush()
            self.exchange.failure = AssociationAborted(0, 0, by_peer=False, peer=self.exchange.peer)
            self.exchange.receive_eof()
            if self._running is not None:
                self._abandon(self._ending())
            self._turn()
        except Exception as error:
            self._crash(error)

    def cut(self):
        """End both directions of the connection at once, from any thread: the loop sees the end of it."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    @property
    def host(self):
        """Where the peer is; empty while a proxy has not said for whom it speaks."""
        return "" if self._header is not None else self.address.rpartition(":")[0]

    cdef int _part(self) except -1:
        """The association is over: the peer is to close the connection, and gets a moment for it."""
        cdef MessageExchange exchange = self.exchange
        cdef double now
        if not self._left:
            self._left = True
            self._owner.left(self)
            self._drop_later()
        if exchange._upper.is_closed():
            self._disconnect()
            if self._flow is None and self._running is None:
                self._close()  # else the flow has something to tidy up
            return 0
        now = monotonic()
        if self._parting == NEVER:
            self._parting = now + <double>FAREWELL
            if not exchange.released:
                # What comes after an A-ABORT is not answered; a rejected peer that goes on is told once more (AA-7).
                self._hush = now if exchange._upper.abort_sent else now + <double>LAST_WORD
        if now >= self._hush and not self._blocked:
            self._hush = NEVER
            if not self._half_closed:
                self._half_closed = True
                self._shutdown()
        return 0

    cdef int _shutdown(self) except -1:
        """Say that nothing more will be sent; the peer still reads what was."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the peer was faster
        return 0

    cdef int _disconnect(self) except -1:
        """Close the socket."""
        if not self._disconnected:
            self._disconnected, self._parting, self._hush = True, NEVER, NEVER
            self._look_for(0)
            self.sock.close()
        return 0

    cdef int _close(self) except -1:
        """Nothing is left to do."""
        if self._over:
            return 0
        self._over = True
        if not self._left:
            self._left = True
            self._owner.left(self)
        self._drop_later()
        self._disconnect()
        self.loop._bury(self)
        if self._running is not None:
            self._running.abandoned = True
        discard_requests(self._events[self._at :], self.exchange.deferred, self.exchange.events())
        self._owner.gone(self)
        self._events, self._unsent, self._at = [], [], 0
        self._running = self._job = None
        self._flow = self._item = self._recv_into = self._sendmsg = self._failure = None
        return 0

    cdef int _look_for(self, int interest) except -1:
        """Have the selector look for this, and nothing else."""
        if interest == self._interest:
            return 0
        if not self._interest:
            self.loop._register(self.sock, interest, self)
        elif interest:
            self.loop._modify(self.sock, interest, self)
        else:
            self.loop._unregister(self.sock)
        self._interest = interest
        return 0
