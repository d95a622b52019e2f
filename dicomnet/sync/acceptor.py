"""`Acceptor`: the connections of one process, from accept to the end of the drain; all of it in the loop's thread."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import inf
from time import monotonic, time
from typing import Protocol

from ..config import ACCEPT_PAUSE, SAY_AGAIN, Limits, Timeouts
from ..errors import InvalidArgument
from ..log import log
from ..net.admission import Connections, most_connections
from ..net.proxy import Proxies
from ..net.sockets import address_of, prepare
from ..net.tls import TLS
from ..protocol.events import Tracing
from ..protocol.exchange import Exchange
from ..protocol.peer_profile import Peers
from ..services.provider import Serving
from ..services.scp import TakeNext, pause_of
from .board import Board
from .connection import Connection
from .handlers import HandlerThreads
from .loop import Loop
from .secure_connection import SecureConnection
from .shared_state import AssociationSlots

__all__ = ["Acceptor"]

_TIDYING = 2.0  # seconds that handlers get whose associations were cut off


class Provided(Protocol):
    """What an acceptor serves: a listener, as far as one of its processes is concerned."""

    limits: Limits
    timeouts: Timeouts
    tls: TLS | None
    closing: bool
    last_call: float
    tap: Tracing | None
    peers: Peers
    proxies: Proxies

    def flow(
        self, exchange: Exchange, address: str, *, full: Callable[[], bool] = bool, take_next: TakeNext | None = None
    ) -> Serving:
        """What serves an association."""

    def is_full(self, connection: Connection) -> bool:
        """Whether there is room for its association, which counts from now on."""


class Acceptor:
    """Takes connections, has its loop serve them, and lets them end.

    Args:
        listener: whose handlers and limits hold.
        board: counts.
        slots: of the associations of all processes; None where there is but this one.

    Attributes:
        loop: what serves them.
        connections: who is there.
        stopping: no more connections are taken.
    """

    def __init__(self, listener: Provided, board: Board, slots: AssociationSlots | None = None) -> None:
        self._listener = listener
        self._board = board
        self._slots = slots
        limits = listener.limits
        handlers = HandlerThreads(limits.handler_threads)
        self.loop: Loop = Loop(limits.receive_buffer, handlers, listener.timeouts.busy_poll)
        self.connections: Connections[Connection] = Connections(lambda: listener.limits, Connection.abort)
        self._sock: socket.socket | None = None
        self._watched = self._paused = self._hurried = self._last_call = False
        self.stopping: bool = False
        self._resume_at = inf  # when the backlog is looked at again
        self._complained = -inf
        self._most = most_connections(self.loop.fileno())

    # ---- taking connections ------------------------------------------------------------------------------------

    def listen(self, sock: socket.socket) -> None:
        """Take connections from here."""
        self._sock = sock
        self._watch()

    def pause(self) -> None:
        """Take none for now: they wait in the backlog."""
        self._paused = True
        self._watch()

    def resume(self) -> None:
        """Take them again."""
        self._paused = False
        self._watch()

    def _watch(self) -> None:
        """Look at the backlog, or not, as it should be."""
        if self._sock is None:
            return
        open_ = not self.stopping or self._last_call
        wanted = open_ and not self._paused and self._resume_at == inf
        if wanted and not self._watched:
            self.loop.watch(self._sock, self._accept)
        elif not wanted and self._watched:
            self.loop.unwatch(self._sock)
        self._watched = wanted

    def _accept(self) -> None:
        """Take one connection: a burst must not make the first of it the oldest before it has been looked at."""
        assert self._sock is not None
        try:
            sock, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            self._hold(error)
            return
        self.take(sock)

    def _hold(self, error: OSError) -> None:
        """Out of descriptors: leave the backlog alone for a moment, and let go of what is of least use."""
        now = monotonic()
        if now >= self._complained + SAY_AGAIN:
            self._complained = now
            log.error("cannot accept a connection: %s; others wait until one is closed", error)
        self._resume_at = now + ACCEPT_PAUSE
        self._watch()
        self.connections.make_room()

    def take(self, sock: socket.socket) -> None:
        """Serve a new connection."""
        self._board.add("connections")
        if len(self.connections) >= self._most:
            self.connections.make_room()
        try:
            connection = self._connection(sock)
        except OSError as error:  # the peer has reset it already, and may do so as often as it likes
            log.info("a connection ended before it began: %s", error)
        except InvalidArgument as error:
            log.error("cannot serve a connection: %s", error)
        else:
            self.connections.arrive(connection, connection.host)
            connection.open()
            return
        sock.close()
        self._board.add("ended")

    def lose(self) -> None:
        """A connection was handed over, and there was no descriptor for it."""
        log.error("a connection was lost: the process is out of descriptors")
        self._board.add("connections")
        self._board.add("ended")
        self.connections.make_room()

    def _connection(self, sock: socket.socket) -> Connection:
        listener = self._listener
        prepare(sock, listener.timeouts)
        address = address_of(sock.getpeername())
        observer = listener.tap.observe(address, False, time) if listener.tap is not None else None
        exchange = Exchange.acceptor(
            limits=listener.limits, timeouts=listener.timeouts, now=monotonic(), observer=observer, peers=listener.peers
        )
        header = listener.proxies.header_from(address) if listener.proxies else None
        if listener.tls is None:
            return Connection(self.loop, sock, address, exchange, self, header)
        return SecureConnection(self.loop, sock, address, exchange, self, header, listener.tls.accept())

    # ---- what connections say ----------------------------------------------------------------------------------

    def start(self, connection: Connection) -> Serving:
        """A connection stands: what serves it."""
        address = connection.exchange.peer = connection.address
        if not self.connections.pending[connection]:
            self.connections.move(connection, connection.host)
        listener = self._listener
        full = partial(listener.is_full, connection)
        return listener.flow(connection.exchange, address, full=full, take_next=connection.take_next)

    def is_full(self, connection: Connection) -> bool:
        """Asked when an association is: whether the limit is reached; if not, this one counts from now on."""
        full = not self.connections.admit(connection)
        if not full and self._slots is not None:
            connection.slot = self._slots.take()
            full = connection.slot is None
            if full:
                self.connections.leave(connection)
        self._board.add("refused" if full else "associations")
        return full

    def left(self, connection: Connection) -> None:
        """Its association is over, or never was one."""
        self.connections.leave(connection)
        if self._slots is not None and connection.slot is not None:
            self._slots.leave(connection.slot)
            connection.slot = None

    def gone(self, connection: Connection) -> None:
        """It is closed."""
        self.connections.part(connection)
        self._board.add("ended")
        if self._resume_at < inf:
            self._resume_at = 0.0  # there is a descriptor

    # ---- serving -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until `stopping`."""
        with self._woken_by_signals():
            turn = self.loop.turn
            while not self.stopping:
                turn(self._resume_at)
                if self._resume_at < inf:
                    self._look_again()

    def _look_again(self) -> None:
        """At the backlog, where that was left alone for long enough."""
        if monotonic() >= self._resume_at:
            self._resume_at = inf
            self._watch()

    @contextmanager
    def _woken_by_signals(self) -> Iterator[None]:
        """A signal that arrives just before the loop sleeps wakes it, too."""
        if threading.current_thread() is not threading.main_thread() or os.name == "nt":
            yield
            return
        before = signal.set_wakeup_fd(self.loop.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)

    def stop(self) -> None:
        """Take no more connections; `run` returns. From any thread."""
        self.stopping = True
        self.loop.wake()

    def end(self, drain: float) -> None:
        """Wait for the associations in flight; abort those that are idle, and those that do not end in time."""
        self.stopping = True
        try:
            with self._woken_by_signals():
                self._call_last()
                self._close_port()
                self._drain(drain)
        finally:
            self._close_port()
            for connection in self.connections:
                connection.abort()
            self.loop.settle()  # what waits for the disk cannot end before
            self._hurried = False
            end = monotonic() + min(drain, _TIDYING)
            self._serve_until(end)  # what generators do as they are closed
            self.loop.handlers.join(end)
            self.loop.close()

    def turn_away(self) -> None:
        """Take connections for the last time: associations are rejected from now on."""
        self._listener.closing = True

    def _call_last(self) -> None:
        if self._sock is None or not self._listener.last_call:
            return  # the port is the supervisor's, or is to close at once
        self.turn_away()
        self._last_call = True
        self._watch()
        end = monotonic() + self._listener.last_call
        while monotonic() < end and not self._hurried:
            self.loop.turn(min(end, self._resume_at))
            self._look_again()
        self._last_call = False

    def _close_port(self) -> None:
        self._last_call = False
        self._watch()
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def hurry(self) -> None:
        """End every association now. From any thread, and from signal handlers."""
        self.stopping = self._hurried = True
        self.loop.wake()

    def _drain(self, drain: float) -> None:
        end = monotonic() + drain
        quiet = self._listener.timeouts.quiet
        while len(self.connections) and (now := monotonic()) < end and not self._hurried:
            paused = [(one, pause_of(one.exchange)) for one in self.connections if not one.answering]
            self._serve_until(min(now + (drain if quiet is None else quiet), end))
            for one, pause in paused:
                if pause and pause == pause_of(one.exchange):
                    one.abort()

    def _serve_until(self, end: float) -> None:
        while len(self.connections) and monotonic() < end and not self._hurried:
            self.loop.turn(end)
