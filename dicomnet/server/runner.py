"""A server as a process of its own: signals, privileges, and the service manager."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from ..config import LAST_CALL
from ..errors import DicomNetError
from .listening import open_ports
from .notify import inherited, notify
from .privileges import become, check_owners, will_become
from .server import StartFailed
from .settings import Settings

__all__ = ["run"]

log: logging.Logger = logging.getLogger("dicomnet.server")

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
_STOPPED = 0  # no signal has this number


class Runs(Protocol):
    """A server, as far as its process is concerned: a `Server`, or a `Fleet`."""

    directory: Path
    settings: Settings
    sockets: dict[str, socket.socket]
    request_stop: Callable[[float | None], None]

    @property
    def listening(self) -> dict[str, str]:
        """Where it listens."""

    def start(self) -> None:
        """Start."""

    def turn_away(self) -> None:
        """Reject new associations."""

    def stop(self, drain: float | None = None) -> None:
        """Stop."""

    def hurry(self) -> None:
        """End a stop that is under way."""

    def reload(self) -> object:
        """Read the settings again."""

    def reopen_log(self) -> None:
        """Open the log anew."""


class _Run:
    """What the main thread does: it reads numbers of signals from a socket.

    The interpreter writes them there as they come (`signal.set_wakeup_fd`), in whichever thread that is. A lock or a
    queue would not do: the system may hand a signal to another thread, and the main one sleeps on.
    """

    def __init__(self, server: Runs) -> None:
        self.server = server
        self._wanted, self._wants = socket.socketpair()
        self._wants.setblocking(False)
        self._stopping: threading.Thread | None = None
        server.request_stop = self._request_stop
        self._drain: float | None = None
        self._hurried = threading.Event()

    def _request_stop(self, drain: float | None) -> None:
        self._drain = drain
        self._wants.send(bytes([signal.SIGTERM]))

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Have signals come here while the block lasts."""
        woken = signal.set_wakeup_fd(self._wants.fileno(), warn_on_full_buffer=False)
        before = {number: signal.signal(number, _noted) for number in _SIGNALS}
        # A program that waits for its own signals has them blocked, and so has what it starts.
        blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(woken)
            self._wanted.close()
            self._wants.close()

    def until_stopped(self) -> None:
        """Do what signals and administrators want, until the server has stopped."""
        while True:
            for number in self._wanted.recv(1024):
                match number:
                    case signal.SIGTERM | signal.SIGINT:
                        self._stop()
                    case signal.SIGHUP:
                        self._reload()
                    case signal.SIGUSR1:
                        self.server.reopen_log()
                    case 0:
                        return

    def _stop(self) -> None:
        notify("STOPPING=1")
        if self._stopping is None:
            self._stopping = threading.Thread(target=self._until_over, name="dicomnet-stop")
            self._stopping.start()
        else:
            log.warning("told to stop a second time: associations are aborted now")
            self._hurried.set()
            self.server.hurry()

    def _until_over(self) -> None:
        try:
            self.server.turn_away()  # callers that are just under way are told, before the ports close
            self.server.stop(0.0 if self._hurried.wait(LAST_CALL) else self._drain)
        finally:
            self._wants.send(bytes([_STOPPED]))

    def _reload(self) -> None:
        notify("RELOADING=1")
        try:
            self.server.reload()
        except (DicomNetError, ValueError, OSError) as error:
            log.error("the settings are not reloaded, and the old ones hold: %s", error)
        notify("READY=1")


def run(server: Runs, ready: Callable[[], object] = lambda: None) -> None:
    """Run a server until SIGTERM, SIGINT, or the admin interface stops it. Call it in the main thread.

    SIGTERM stops gracefully, a second one now; SIGHUP reads the settings again, SIGUSR1 opens the log anew.

    Args:
        server: which is not started yet.
        ready: called once its ports are open.

    Raises:
        StartFailed: it does not start.
        InvalidArgument: the service manager passes a socket that means nothing here, there is no user to become, or
            root would have to trust the settings or add-ins of another user.
    """
    process = _Run(server)
    server.sockets.update(inherited())
    with process.signals():
        check_owners(server.directory)
        if will_become(server.settings.server.user):
            _bind(server)
            become(server.settings.server.user, server.directory)
        server.start()  # it imports add-ins and opens files as the user, who may have planted things there
        gc.freeze()  # what is there by now stays: collections need not look at it
        ready()
        notify("READY=1", f"STATUS=listening on {', '.join(server.listening.values())}", f"MAINPID={os.getpid()}")
        process.until_stopped()


def _bind(server: Runs) -> None:
    """Bind its ports, which root alone may where they are below 1024."""
    try:
        server.sockets.update(open_ports(server.settings, server.sockets))
    except (DicomNetError, ValueError, OSError) as error:
        raise StartFailed("listeners", error) from error


def _noted(number: int, frame: FrameType | None) -> None:
    """A signal came; its number is in the socket."""
