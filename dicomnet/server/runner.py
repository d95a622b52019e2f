"""A server as a process of its own: signals, privileges, and the service manager."""

from __future__ import annotations

import gc
import logging
import os
import pwd
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from ..config import LAST_CALL
from ..errors import DicomNetError, InvalidArgument
from .notify import inherited, notify
from .settings import Settings

__all__ = ["run"]

log: logging.Logger = logging.getLogger("dicomnet.server")

#: Seconds that associations get to end after a second SIGTERM.
HURRY = 2.0
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
        try:
            yield
        finally:
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
        InvalidArgument: the service manager passes a socket that means nothing here.
    """
    process = _Run(server)
    server.sockets.update(inherited())
    with process.signals():
        server.start()
        become(server.settings.server.user, server.directory)
        gc.freeze()  # what is there by now stays: collections need not look at it
        ready()
        notify("READY=1", f"STATUS=listening on {', '.join(server.listening.values())}", f"MAINPID={os.getpid()}")
        process.until_stopped()


def _noted(number: int, frame: FrameType | None) -> None:
    """A signal came; its number is in the socket."""


def become(user: str, directory: Path) -> None:
    """Give up the privileges of root for good; nothing where no user is named, or we are not root.

    The server's directory is the user's from then on: what was made in it so far was made by root.

    Raises:
        InvalidArgument: there is no such user.
    """
    if not user or os.geteuid() != 0:
        return
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise InvalidArgument(f'there is no user "{user}" to become', hint="[server] user names it.") from error
    for folder, _, files in os.walk(directory):
        for path in (folder, *(os.path.join(folder, one) for one in files)):
            os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
