"""A connection as the drivers see it: send buffers, hear what arrives, know when there is room. Nothing of DICOM.

What asyncio's transport cannot write at once it copies. So a plain socket is written to directly, scatter lists as they
are; where it is full, the transport gets only a little of what is left, and when that is out there is room again.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from contextlib import suppress
from typing import Protocol, cast

from ..config import Limits, Timeouts
from ..errors import DicomNetError
from ..net.sockets import QUICK_ACK, address_of, gone, watch_host
from ..protocol.exchange import Buffer
from ..protocol.negotiation import SecureLink
from ..sync.driver import IOV_MAX, unsent

__all__ = ["LoopBuffer", "Owner", "Transport"]

_LITTLE = 64 << 10  # bytes for asyncio's transport to wait with; enough that it does not fit by accident


class LoopBuffer(threading.local):
    """A buffer for all connections of a thread's event loop.

    A loop fills a buffer and hands it on in one step, so one does for any number of connections: it is large at the
    first byte, and an idle connection holds none.
    """

    def __init__(self) -> None:
        self._buffer = memoryview(b"")

    def get(self, size: int) -> memoryview:
        """So many bytes of it."""
        if len(self._buffer) < size:
            self._buffer = memoryview(bytearray(size))
        return self._buffer[:size]


_received = LoopBuffer()


class Owner(Protocol):
    """Who drives a connection: what it is told, always from the event loop."""

    def connected(self) -> None:
        """The connection stands; nothing else is told before."""

    def received(self, data: memoryview) -> None:
        """Bytes arrived; they are valid until this returns."""

    def writable(self) -> None:
        """There is room again after `Transport.send` or `Transport.push` said that there was none."""

    def disconnected(self) -> None:
        """The connection ended, in order or not; told again when it is closed on this side, too."""


class Transport(asyncio.BufferedProtocol):
    """A connected stream, which it owns; give it to the loop as the protocol of the connection.

    Attributes:
        peer_address: where the peer is, ``host:port``.
        link: what TLS negotiated.
        failure: why the stream ended, where there is more to say than that it did.
    """

    link: SecureLink | None = None
    failure: DicomNetError | None = None

    def __init__(self, limits: Limits, timeouts: Timeouts) -> None:
        self.owner: Owner | None = None
        self.peer_address: str = ""
        self.lost: bool = False
        self._limits = limits
        self._timeouts = timeouts
        self._transport: asyncio.Transport | None = None
        self._fd = -1  # of a socket that may be written to directly
        self._buffer: memoryview = memoryview(b"")
        self._unsent: list[Buffer] = []
        self._full = False
        self._mute = False  # whether nothing can be said any more
        self._reading = True
        self._internet: socket.socket | None = None

    # ---- what asyncio says -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast(asyncio.Transport, transport)
        self._buffer = _received.get(self._limits.receive_buffer)
        self.peer_address = self.peer_address or address_of(transport.get_extra_info("peername"))
        encrypted = transport.get_extra_info("sslcontext") is not None
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            # A request that ends in a small segment must not wait for a delayed ACK.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            watch_host(sock, self._timeouts)
            self._internet = sock
        if sock is not None and not encrypted and hasattr(os, "writev"):
            self._fd = sock.fileno()
        # Tell as soon as anything is left, and again when nothing is. TLS pauses at its mark, the others above it.
        self._transport.set_write_buffer_limits(high=1 if encrypted else 0, low=0)
        self.stand()

    def stand(self) -> None:
        """The connection stands: the owner is told."""
        if self.owner is not None:
            self.owner.connected()

    async def handshake(self) -> None:
        """Wait for what comes before the first byte: on a plain connection, nothing."""

    def acknowledge(self) -> None:
        """Acknowledge what has arrived now, not 40 ms later: many peers hold back their next segment until then."""
        if QUICK_ACK is not None and self._internet is not None and not self.lost:
            self._internet.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the loop puts what arrives."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes arrived."""
        if self.owner is not None:
            self.owner.received(self._buffer[:nbytes])

    def eof_received(self) -> None:
        """The peer says no more; for DICOM that is the end."""
        if self.owner is not None:
            self.owner.disconnected()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed on this side, too."""
        self.lost = self._mute = True
        self._fd = -1  # the number may be that of another file from now on
        self._unsent = []
        if isinstance(exc, OSError):
            self.failure = self.failure or gone(exc)
        if self.owner is not None:
            self.owner.disconnected()

    def pause_writing(self) -> None:
        """Something of what was written is left."""
        self._full = True

    def resume_writing(self) -> None:
        """All that was written is out."""
        self._full = False
        if self.owner is not None:
            self.owner.writable()

    # ---- what the owner wants ----------------------------------------------------------------------------------

    def send(self, buffers: list[Buffer]) -> bool:
        """Send buffers, in order; True where all of them are out, else `Owner.writable` tells when there is room.

        Until all of them are out they must stay as they are, and nothing else may be sent.
        """
        self._unsent = buffers
        return self.push()

    def push(self) -> bool:
        """Go on with what is not out yet; True where all is out, or there is no peer left to take it."""
        if self._transport is None:
            return False
        if self._mute or self._transport.is_closing():
            self._unsent = []
            return True
        while self._unsent and not self._full:
            if self._fd < 0:
                # One write, since it makes one TLS record of many small buffers. `writelines` would not do: that of
                # Python 3.12.0 to 3.12.8 neither pauses nor bounds what it holds.
                data, self._unsent = b"".join(self._unsent), []
                self._transport.write(data)
            else:
                self._write_directly(self._transport)
        return not self._unsent and not self._full

    def _write_directly(self, transport: asyncio.Transport) -> None:
        count = len(self._unsent)
        try:
            sent = os.writev(self._fd, self._unsent[:IOV_MAX])
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            # Reading goes on: it tells what the peer had to say before it left.
            self._mute = True
            self._unsent = []
            return
        self._unsent = unsent(self._unsent, sent)
        if len(self._unsent) > max(count - IOV_MAX, 0):
            little = bytes(memoryview(self._unsent[0])[:_LITTLE])
            self._unsent = unsent(self._unsent, len(little))
            transport.write(little)

    def keep_unsent(self) -> None:
        """The buffers that are not out yet are about to die: copy what they hold."""
        if self._unsent:
            self._unsent = [b"".join(self._unsent)]

    def read(self, wanted: bool) -> None:
        """Whether to read; what the peer sends meanwhile waits in the system's buffers, and then at the peer."""
        if wanted == self._reading or self._transport is None:
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def shutdown(self) -> None:
        """Say that nothing more will be sent, without losing what was: the peer still reads it, then sees the end."""
        if self._transport is not None and not self._mute and self._transport.can_write_eof():
            self._mute = True
            with suppress(OSError):  # the peer was faster
                self._transport.write_eof()

    def close(self) -> None:
        """Close the connection; what is not out yet is dropped. `Owner.disconnected` follows."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._unsent or self._full:
            self._transport.abort()  # an orderly close would wait for a peer that need not ever read
        else:
            self._transport.close()
