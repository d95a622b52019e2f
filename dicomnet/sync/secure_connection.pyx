# cython: auto_pickle=False
"""`SecureConnection`: a connection in a loop with TLS on it, by the I/O-free `net.tls_channel.Channel`."""

cimport cython
from cpython.time cimport monotonic
from libc.math cimport INFINITY as NEVER

from ..protocol.message_exchange cimport MessageExchange
from .connection cimport Connection
from .loop cimport Loop

from ..config import FAREWELL
from ..errors import DeadlineExceeded, TLSFailed
from ..log import in_brief, log
from .driver import unsent

__all__ = ["SecureConnection"]


@cython.final
cdef class SecureConnection(Connection):
    """A connection with TLS on it; its flow starts once the handshake is done.

    Args:
        channel: the TLS of this connection.
    """

    cdef object _channel, _encrypted
    cdef bint _shaken, _lost
    cdef double _shake_by

    def __init__(self, Loop loop not None, sock, address, MessageExchange exchange not None, owner, header, channel):
        super().__init__(loop, sock, address, exchange, owner, header)
        self._channel = channel
        self._encrypted = memoryview(b"")
        seconds = exchange.timeouts.tls
        self._shake_by = NEVER if seconds is None else monotonic() + <double>seconds

    cdef int _begin(self) except -1:
        return 0  # the peer has the first word

    cdef int _arrived(self, view) except -1:
        if self._lost:
            return 0
        try:
            self._channel.receive(view)
            if not self._shaken and not self._shake():
                return 0
        except TLSFailed as error:
            self._lose(error)
            return 0
        self._decrypt()
        return 0

    cdef bint _shake(self) except -1:
        """Go on with the handshake; whether it is done."""
        self._shaken = self._channel.handshake()
        self._say()
        if self._shaken:
            self.exchange.tls = self._channel.link
            self._start()
        return self._shaken

    cdef int _decrypt(self) except -1:
        plain = self.loop._plain_view()
        try:
            while True:
                size = self._channel.read_into(plain)
                if size is None:
                    break
                if not size:
                    self._hang_up()
                    break
                self._received(plain[:size])
        except TLSFailed as error:
            self._failure = error
            self._hang_up()
        self._say()
        return 0

    cdef int _lose(self, error) except -1:
        """There is no secure connection: let the alert reach the peer, who closes, or we do later."""
        self._lost = True
        error.peer = error.peer or self.exchange.peer or self.address
        log.info("association ended: %s", in_brief(error))
        self._say()
        self._half_closed = True
        Connection._shutdown(self)
        self._parting = monotonic() + <double>FAREWELL
        return 0

    cdef int _hang_up(self) except -1:
        if not self._shaken and not self._lost:
            why = "the peer closed the connection during the TLS handshake"
            self._lose(TLSFailed(why, hint="Does it speak TLS on this port?"))
        Connection._hang_up(self)
        return 0

    cdef bint _say(self) except -1:
        """Send what is encrypted; True where all of it is out. What is not encrypted yet waits on."""
        cdef list waiting = self._unsent
        cdef bint out = True
        while out:
            if not len(self._encrypted):
                self._encrypted = memoryview(self._channel.outgoing())
                if not len(self._encrypted):
                    break
            out = self._write([self._encrypted])
            self._encrypted = memoryview(b"") if out else self._unsent[0]
        self._unsent = waiting
        self._blocked = not self._mute and (not out or len(waiting) > 0)
        return out

    cdef bint _send(self, list buffers) except -1:
        try:
            while True:
                if not self._say():
                    self._unsent = buffers  # they stay as they are until they are encrypted
                    return False
                if not buffers or self._mute:
                    self._unsent, self._blocked = [], False
                    return True
                buffers = unsent(buffers, self._channel.write(buffers))
        except TLSFailed as error:
            self._failure, self._mute, self._blocked = error, True, False
            return True

    cdef double _deadline(self) except? -1:
        if not self._shaken and not self._lost:
            return min(self._shake_by, self._parting)
        return Connection._deadline(self)

    cdef int _expire(self, double now) except -1:
        if not self._shaken and not self._lost and now >= self._shake_by:
            hint = "Does the peer speak TLS on this port?"
            self._lose(DeadlineExceeded("tls", self.exchange.timeouts.tls, hint=hint))
            self.exchange.receive_eof()
            return 0
        return Connection._expire(self, now)

    cdef int _shutdown(self) except -1:
        self._channel.close()
        self._say()
        return Connection._shutdown(self)

    cdef int _disconnect(self) except -1:
        if not self._disconnected and not self._lost and not self._blocked and not self._half_closed:
            self._channel.close()
            self._say()
        return Connection._disconnect(self)
