"""A connected socket as the drivers see it: send buffers, receive into a buffer, wait. Nothing of DICOM.

The socket does not block; `Transport.wait` is the one place where a thread sleeps, with an end. So a peer that answers
while we still send is heard, and a dead one cannot hold a thread.
"""

from __future__ import annotations

# What `socket` is made of: the enums, selectors and files that it adds, and nobody here needs, would be a fifteenth of
# what a short command takes.
import _socket as socket
import errno
import select
from collections import deque
from collections.abc import Sequence

from ..config import Limits, Timeouts
from ..errors import ConnectionFailed, DicomNetError
from ..negotiation import SecureLink

__all__ = ["IOV_MAX", "QUICK_ACK", "Transport", "gone", "watch_host"]

IOV_MAX = 1024  # buffers per sendmsg; Linux, macOS and Windows take at least as many
# Linux: it holds until the kernel thinks otherwise. Without it a peer with Nagle's algorithm (DCMTK, Orthanc) takes
# 40 ms for each message that it writes in two parts.
QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)
_SMALL = 16384  # bytes of receive buffer while nothing flows
_MOST_SPARE = 16  # large receive buffers kept for the next message


class Transport:
    """A connected stream socket, which it owns.

    Attributes:
        peer_address: where the peer is, ``host:port``.
        failure: why the stream ended, where there is more to say than that it did.
    """

    failure: DicomNetError | None = None

    def __init__(self, sock: socket.socket, limits: Limits, timeouts: Timeouts) -> None:
        sock.setblocking(False)
        self._internet = sock.family in (socket.AF_INET, socket.AF_INET6)
        if self._internet:
            # A request that ends in a small segment must not wait for a delayed ACK.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            watch_host(sock, timeouts)
        self._sock = sock
        self._large = limits.receive_buffer
        self._buffer = bytearray(_SMALL)
        self._waiter = _PollWaiter(sock) if hasattr(select, "poll") else _SelectWaiter(sock)
        self.peer_address = _address(sock)

    def handshake(self, timeout: float | None) -> SecureLink | None:
        """Do what comes before the first byte, and say what was negotiated: on a plain connection, nothing."""

    def send(self, buffers: Sequence[bytes | bytearray | memoryview]) -> int:
        """Send what the socket takes now, in order; 0 where it takes nothing."""
        try:
            return self._sock.sendmsg(buffers if len(buffers) <= IOV_MAX else buffers[:IOV_MAX])
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            what = f"the connection broke while sending: {error.strerror}"
            raise ConnectionFailed(what, errno=error.errno) from error

    def receive(self) -> memoryview | None:
        """What has arrived, valid until the next call; empty at the end of the stream, None where nothing is there."""
        try:
            size = self._sock.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            size = 0  # a reset connection is a closed one
            self.failure = self.failure or gone(error)
        return memoryview(self._buffer)[:size]

    def grow(self) -> None:
        """A data set flows: read more of it at a time from now on, until `rest`."""
        if len(self._buffer) < self._large:
            self._buffer = take_large(self._large)

    def acknowledge(self) -> None:
        """Acknowledge what has arrived now, not 40 ms later: many peers hold back their next segment until then."""
        if QUICK_ACK is not None and self._internet:
            self._sock.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)

    def rest(self) -> None:
        """Nothing flows for now: give a large buffer back."""
        if len(self._buffer) > _SMALL:
            give_back(self._buffer)
            self._buffer = bytearray(_SMALL)

    def wait(self, timeout: float | None, *, read: bool = True, write: bool = False) -> bool:
        """Sleep until there is something to read or room to write, at most ``timeout`` seconds; True if to read."""
        return self._waiter.wait(timeout, read, write)

    def shutdown(self) -> None:
        """Say that nothing more will be sent, without losing what was: the peer still reads it, then sees the end."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the peer was faster

    def hush(self) -> None:
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


def watch_host(sock: socket.socket, timeouts: Timeouts) -> None:
    """Let the system find out that the peer's host has vanished, which no timer of ours tells from patience."""
    if timeouts.keepalive is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        third = max(round(timeouts.keepalive / 3), 1)
        _set_option(sock, _KEEPALIVE_IDLE, max(round(timeouts.keepalive), 1))
        _set_option(sock, "TCP_KEEPINTVL", third)
        _set_option(sock, "TCP_KEEPCNT", 2)
    if timeouts.acknowledge is not None:
        _set_option(sock, "TCP_USER_TIMEOUT", max(round(timeouts.acknowledge * 1000), 1))


_KEEPALIVE_IDLE = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"  # as macOS calls it


def _set_option(sock: socket.socket, name: str, value: int) -> None:
    """Set an option of TCP, where the system has it."""
    option = getattr(socket, name, None)
    if option is not None:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def gone(error: OSError) -> ConnectionFailed | None:
    """What an error of the stream says beyond that it ended."""
    if error.errno not in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH):
        return None
    hint = "Its host is off, or the network between is; time-outs keepalive and acknowledge say when that is noticed."
    return ConnectionFailed("the peer's host does not answer any more", errno=error.errno, hint=hint)


# Large buffers that nobody uses: a new one for every message would be zeroed, and its pages mapped, each time.
_spare: deque[bytearray] = deque(maxlen=_MOST_SPARE)


def give_back(buffer: bytearray) -> None:
    """Keep a large buffer for whoever needs one next."""
    _spare.append(buffer)


def take_large(size: int) -> bytearray:
    """A buffer of so many bytes, whatever is in them."""
    while _spare:
        try:
            buffer = _spare.pop()
        except IndexError:  # another thread was faster
            break
        if len(buffer) == size:
            return buffer
    return bytearray(size)


class _PollWaiter:
    def __init__(self, sock: socket.socket) -> None:
        self._polls = {}
        for read, write in ((True, False), (False, True), (True, True)):
            poll = self._polls[read, write] = select.poll()
            poll.register(sock, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))

    def wait(self, timeout: float | None, read: bool, write: bool) -> bool:
        milliseconds = None if timeout is None else max(int(timeout * 1000) + 1, 0)
        ready = self._polls[read, write].poll(milliseconds)
        return bool(ready and ready[0][1] & ~select.POLLOUT)


class _SelectWaiter:
    """For systems without poll (Windows)."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def wait(self, timeout: float | None, read: bool, write: bool) -> bool:
        readable, _, _ = select.select([self._sock] if read else [], [self._sock] if write else [], [], timeout)
        return bool(readable)


def _address(sock: socket.socket) -> str:
    try:
        name = sock.getpeername()
    except OSError:
        return ""
    if not isinstance(name, tuple):
        return str(name)
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
