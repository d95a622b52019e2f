"""A connected socket as the drivers see it: send buffers, receive into a buffer, wait. Nothing of DICOM.

The socket does not block; `Transport.wait` is the one place where a thread sleeps, with an end. So a peer that answers
while we still send is heard, and a dead one cannot hold a thread.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence

from ..config import Limits, Timeouts
from ..errors import ConnectionFailed
from ..net.sockets import QUICK_ACK, address_of, gone, prepare
from ..protocol.negotiation import SecureLink
from .driver import Stream

__all__ = ["Transport"]


class Transport(Stream):
    """A connected stream socket, which it owns.

    Args:
        sock: the socket.
        limits: for the size of the buffers.
        timeouts: for what the system watches.
        busy_poll: seconds to look for the peer's next word before the thread sleeps; None sleeps at once.

    Attributes:
        peer_address: where the peer is, ``host:port``.
        failure: why the stream ended, where there is more to say than that it did.
    """

    def __init__(self, sock: socket.socket, limits: Limits, timeouts: Timeouts, busy_poll: float | None = None) -> None:
        prepare(sock, timeouts)
        self._waiter = _PollWaiter(sock) if hasattr(select, "poll") else _SelectWaiter(sock)
        super().__init__(sock, self._waiter.readable, limits.receive_buffer, busy_poll)
        self._internet = sock.family in (socket.AF_INET, socket.AF_INET6)
        self.peer_address: str = _address(sock)

    def handshake(self, timeout: float | None) -> SecureLink | None:
        """Do what comes before the first byte, and say what was negotiated: on a plain connection, nothing."""

    def acknowledge(self) -> None:
        """Acknowledge what has arrived now, not 40 ms later: many peers hold back their next segment until then."""
        if QUICK_ACK is not None and self._internet:
            self._sock.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)

    def _wait_for(self, timeout: float | None, read: bool, write: bool) -> bool:
        return self._waiter.wait(timeout, read, write)

    def _gone(self, error: OSError) -> ConnectionFailed | None:
        return gone(error)

    def shutdown(self) -> None:
        """Say that nothing more will be sent, without losing what was: the peer still reads it, then sees the end."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the peer was faster

    def shutdown_read(self) -> None:
        """Take nothing more from the peer, from any thread: who waits on the socket wakes up, and may still write."""
        try:
            self._sock.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # it is over already

    def interrupt(self) -> None:
        """End both directions at once, from any thread: who waits on the socket wakes up and sees the end."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class _PollWaiter:
    """Waits for one socket.

    Attributes:
        readable: sleeps until there is something to read, so many milliseconds at most; gives nothing where there is
            not. None where only `wait` can do it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._fd = sock.fileno()  # which a socket that another thread has closed does not tell any more
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        self.readable: Callable[[int | None], Sequence[object]] | None = poll.poll

    def wait(self, timeout: float | None, read: bool, write: bool) -> bool:
        poll = select.poll()
        poll.register(self._fd, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
        ready = poll.poll(None if timeout is None else max(int(timeout * 1000) + 1, 0))
        return bool(ready and ready[0][1] & ~select.POLLOUT)


class _SelectWaiter:
    """For systems without poll (Windows)."""

    readable: Callable[[int | None], Sequence[object]] | None = None

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def wait(self, timeout: float | None, read: bool, write: bool) -> bool:
        readable, _, _ = select.select([self._sock] if read else [], [self._sock] if write else [], [], timeout)
        return bool(readable)


def _address(sock: socket.socket) -> str:
    try:
        return address_of(sock.getpeername())
    except OSError:
        return ""
