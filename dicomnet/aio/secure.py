"""A TLS connection as the drivers see it: a `Transport` with a `Channel` between it and the loop's transport."""

from __future__ import annotations

import asyncio

from ..config import FAREWELL, Limits, Timeouts
from ..errors import DeadlineExceeded, DicomNetError, TLSFailed
from ..net.tls import TLS
from ..net.tls_channel import Channel
from ..protocol.negotiation import SecureLink
from ..sync.driver import unsent
from .transport import LoopBuffer, Transport

__all__ = ["SecureTransport", "make_transport"]

_decrypted = LoopBuffer()


def make_transport(limits: Limits, timeouts: Timeouts, tls: TLS | None = None, host: str | None = None) -> Transport:
    """The transport of a connection, plain or secure.

    Args:
        limits: for the size of the buffers.
        timeouts: for the handshake, and what the system watches.
        tls: None for a plain connection.
        host: what is connected to; None for a connection that arrives.
    """
    if tls is None:
        return Transport(limits, timeouts)
    return SecureTransport(limits, timeouts, tls.accept() if host is None else tls.connect(host))


class SecureTransport(Transport):
    """A connected stream with TLS on it; its owner is told of it once the handshake is done."""

    link: SecureLink | None = None
    failure: DicomNetError | None = None

    def __init__(self, limits: Limits, timeouts: Timeouts, channel: Channel) -> None:
        super().__init__(limits, timeouts)
        self._channel = channel
        self._timeout = timeouts.tls
        self._loop = asyncio.get_running_loop()
        self._shaken: asyncio.Future[None] = self._loop.create_future()
        self._shaken.add_done_callback(lambda done: done.cancelled() or done.exception())  # there may be no caller left
        self._timer: asyncio.TimerHandle | None = None

    async def handshake(self) -> None:
        """Wait for the end of the handshake.

        Raises:
            TLSFailed, DeadlineExceeded: it failed; the connection is closed.
        """
        await asyncio.shield(self._shaken)

    def stand(self) -> None:
        """The connection stands: the handshake begins."""
        if self._timeout is not None:
            self._timer = self._loop.call_later(self._timeout, self._late)
        self._shake()

    def _shake(self) -> None:
        try:
            done = self._channel.handshake()
        except TLSFailed as error:
            self._fail(error)
            return
        self._say()
        if done and not self._shaken.done():
            self._end_handshake()
            self.link = self._channel.link
            self._shaken.set_result(None)
            if self.owner is not None:
                self.owner.connected()
            self._deliver()

    def _late(self) -> None:
        if self._timeout is not None and not self._shaken.done():
            hint = "Does the peer speak TLS on this port?"
            self._fail(DeadlineExceeded(timeout="tls", seconds=self._timeout, hint=hint))
            super().close()

    def _end_handshake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _fail(self, error: DicomNetError) -> None:
        """No secure connection: let the alert reach the peer, and tell the owner."""
        if self._shaken.done():
            return
        self._end_handshake()
        self.failure = error
        self._say()
        super().shutdown()
        self._loop.call_later(FAREWELL, super().close)
        self._shaken.set_exception(error)
        if self.owner is not None:
            self.owner.disconnected()

    # ---- what asyncio says -------------------------------------------------------------------------------------

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes arrived."""
        if self.failure is not None:
            return
        try:
            self._channel.receive(self._buffer[:nbytes])
        except TLSFailed as error:
            self._fail(error)
            return
        if self._shaken.done():
            self._deliver()
        else:
            self._shake()

    def _deliver(self) -> None:
        """Decrypt what arrived, and hand it on."""
        plain = _decrypted.get(self._limits.receive_buffer)
        try:
            while size := self._channel.read_into(plain):
                if self.owner is not None:
                    self.owner.received(plain[:size])
        except TLSFailed as error:
            self.failure = error
            size = 0
        self._say()
        if size == 0 and self.owner is not None:
            self.owner.disconnected()

    def eof_received(self) -> None:
        """The peer says no more; for DICOM that is the end, with or without a close_notify."""
        self._hung_up()
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed on this side, too."""
        self._hung_up()
        super().connection_lost(exc)

    def _hung_up(self) -> None:
        why = "the peer closed the connection during the TLS handshake"
        self._fail(TLSFailed(why, hint="Does it speak TLS on this port?"))

    # ---- what the owner wants ----------------------------------------------------------------------------------

    def push(self) -> bool:
        """Go on with what is not out yet; True where all is out, or there is no peer left to take it."""
        if self._transport is None:
            return False
        if self._mute or self._transport.is_closing() or not self._shaken.done():
            self._unsent = []
            return True
        while self._unsent and not self._full:
            try:
                self._unsent = unsent(self._unsent, self._channel.write(self._unsent))
            except TLSFailed as error:
                self.failure, self._mute, self._unsent = error, True, []
            self._say()
        return not self._unsent and not self._full

    def _say(self) -> None:
        """Write what the channel has for the peer."""
        data = self._channel.outgoing()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def shutdown(self) -> None:
        """Say that nothing more will be sent, in TLS and in TCP."""
        if not self._mute:
            self._channel.close()
            self._say()
        super().shutdown()

    def close(self) -> None:
        """Close the connection; what is not out yet is dropped."""
        if self._shaken.done() and self.failure is not None and not self.lost:
            return  # the farewell is under way
        if not self._mute and not self._unsent:
            self._channel.close()
            self._say()
        super().close()
