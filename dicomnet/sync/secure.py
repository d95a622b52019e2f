"""A TLS connection as the drivers see it: a `Transport` with a `Channel` between it and the socket."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from time import monotonic

from ..config import FAREWELL, Limits, Timeouts
from ..errors import ConnectionFailed, DeadlineExceeded, DicomNetError, TLSFailed
from ..net.tls import TLS
from ..protocol.negotiation import SecureLink
from .driver import give_back, take_large, unsent
from .transport import Transport

__all__ = ["SecureTransport", "open_transport"]

_SMALL = 16384  # bytes, a TLS record
# Ciphertext, OpenSSL's copy of it and the plaintext have to fit into a core's cache together: a tenth of the time.
_LARGE = 128 << 10


def open_transport(
    sock: socket.socket, limits: Limits, timeouts: Timeouts, tls: TLS | None = None, host: str | None = None
) -> Transport:
    """The transport of a connection, plain or secure.

    Args:
        sock: the connected socket; closed where there is no way to secure it.
        limits: for the size of the buffers.
        timeouts: for what the system watches.
        tls: None for a plain connection.
        host: what was connected to; None for a connection that arrived.
    """
    busy_poll = None if host is None else timeouts.busy_poll  # a thread that serves has no response to wait for
    if tls is None:
        return Transport(sock, limits, timeouts, busy_poll)
    try:
        return SecureTransport(sock, limits, timeouts, tls, host, busy_poll)
    except BaseException:
        sock.close()
        raise


class SecureTransport(Transport):
    """A connected stream socket with TLS on it; `handshake` comes before all else.

    What is sent counts once it has left encrypted, so that a caller that waits for room waits for the peer.
    """

    def __init__(
        self,
        sock: socket.socket,
        limits: Limits,
        timeouts: Timeouts,
        tls: TLS,
        host: str | None,
        busy_poll: float | None = None,
    ) -> None:
        super().__init__(sock, limits, timeouts, busy_poll)
        self._large = min(self._large, _LARGE)
        self._channel = tls.accept() if host is None else tls.connect(host)
        self._plain = bytearray(_SMALL)
        self._more = True  # whether decrypted bytes may wait in the channel
        self._encrypted = memoryview(b"")
        self._owed = 0  # plaintext bytes of `_encrypted` that the caller has not been told of

    def handshake(self, timeout: float | None) -> SecureLink | None:
        """Shake hands within ``timeout`` seconds; what was negotiated.

        Raises:
            TLSFailed: no version, cipher or certificate in common, or no TLS at all; the peer has been told.
            DeadlineExceeded: the peer is silent, or slow.
        """
        end = None if timeout is None else monotonic() + timeout
        try:
            while not self._channel.handshake():
                self._exchange(end, timeout)
            while not self._flush():
                self._wait_until(end, timeout, write=True)
        except TLSFailed:
            self._say_why()
            raise
        return self._channel.link

    def _exchange(self, end: float | None, timeout: float | None) -> None:
        """Send what the handshake has to say, then hear what the peer says."""
        self._wait_until(end, timeout, write=not self._flush())
        received = super().receive()
        if received is None:
            return
        if not received:
            raise TLSFailed(
                "the peer closed the connection during the TLS handshake", hint="Does it speak TLS on this port?"
            )
        self._channel.receive(received)

    def _wait_until(self, end: float | None, timeout: float | None, *, write: bool) -> None:
        left = None if end is None else end - monotonic()
        if left is not None and timeout is not None and left <= 0:
            hint = "Does the peer speak TLS on this port?"
            raise DeadlineExceeded(timeout="tls", seconds=timeout, hint=hint)
        super().wait(left, write=write)

    def _say_why(self) -> None:
        """Let the alert reach the peer: what is closed with bytes unread is reset, and the alert with it."""
        end = monotonic() + FAREWELL
        try:
            self._flush()
            super().shutdown()
            while (left := end - monotonic()) > 0 and super().wait(left):
                received = super().receive()
                if received is not None and not received:
                    return
        except ConnectionFailed:
            pass

    # ---- the verbs of a transport ------------------------------------------------------------------------------

    def send(self, buffers: Sequence[bytes | bytearray | memoryview]) -> int:
        """Send what the socket takes now, in order; what it did not take must be given again, unchanged."""
        try:
            total = sent = self._send_portion(buffers)
            # A caller of which less than all was sent would wait for room, which there is.
            while sent and not self._owed and (buffers := unsent(list(buffers), sent)):
                sent = self._send_portion(buffers)
                total += sent
            return total
        except ConnectionFailed as error:
            self._look_for_alert()
            raise self.failure or error from error

    def send_last(self, buffers: Sequence[bytes | bytearray | memoryview]) -> None:
        """As `Transport.send_last`: what is encrypted already goes first, and does not count."""
        if self._flush():
            self._owed = 0
            self.send(buffers)

    def _send_portion(self, buffers: Sequence[bytes | bytearray | memoryview]) -> int:
        """Send what the channel encrypts in one go, or what is left of it."""
        if not self._owed:
            if not self._flush():
                return 0  # the channel has something to say itself
            self._owed = self._channel.write(buffers)
            self._encrypted = memoryview(self._channel.outgoing())
        before = len(self._encrypted)
        done = self._flush()
        # The last byte is kept back until all is out, or the caller would not come again for the rest.
        sent = self._owed if done else max(min(before - len(self._encrypted), self._owed - 1), 0)
        self._owed -= sent
        return sent

    def _flush(self) -> bool:
        """Send what is encrypted; True where all of it is out."""
        while True:
            if not self._encrypted:
                self._encrypted = memoryview(self._channel.outgoing())
                if not self._encrypted:
                    return True
            sent = super().send([self._encrypted])
            if not sent:
                return False
            self._encrypted = self._encrypted[sent:]

    def _look_for_alert(self) -> None:
        """The peer does not listen any more: it may have said why."""
        while (received := self.receive()) is not None and len(received):
            pass

    def receive(self) -> memoryview | None:
        """What has arrived, decrypted; see `Transport.receive`."""
        try:
            while True:
                size = self._channel.read_into(memoryview(self._plain))
                if size is not None:
                    return self._received(size)
                self._more = False
                arrived = super().receive()
                if arrived is None:
                    return None
                self._channel.receive(arrived)
        except TLSFailed as error:
            self.failure: DicomNetError | None = error
            return memoryview(b"")

    def _received(self, size: int) -> memoryview:
        received = memoryview(self._plain)[:size]
        self._more = size == len(self._plain)
        if self._more and size < self._large:
            self._plain = take_large(self._large)
        return received

    def rest(self) -> None:
        """Nothing flows for now: give large buffers back."""
        super().rest()
        if len(self._plain) > _SMALL:
            give_back(self._plain)
            self._plain = bytearray(_SMALL)

    def wait(self, timeout: float | None, *, read: bool = True, write: bool = False) -> bool:
        """As `Transport.wait`; what is decrypted already counts as there."""
        return (read and self._more) or super().wait(timeout, read=read, write=write)

    def shutdown(self) -> None:
        """Say that nothing more will be sent, in TLS and in TCP."""
        self._part()
        super().shutdown()

    def close(self) -> None:
        """Say good-bye, if the peer takes it at once, and close the socket."""
        self._part()
        super().close()

    def _part(self) -> None:
        self._channel.close()
        try:
            self._flush()
        except ConnectionFailed:
            pass
