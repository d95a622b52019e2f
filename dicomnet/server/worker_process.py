"""A worker of a server: a process of its own, as the one that administers all of them sees it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConnectionFailed, DeadlineExceeded, DicomNetError, InvalidArgument
from .admin.client import Client

__all__ = ["WorkerProcess", "directory_of"]

log: logging.Logger = logging.getLogger("dicomnet.server")

#: Seconds from the end of a worker that died to its next start.
RESTART_PAUSE = 1.0
_AGAIN = 0.1  # seconds until a stream of events that broke is opened anew
#: What a service manager tells the process that it started, and no other.
_NOT_THEIRS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID")


def directory_of(directory: Path, number: int) -> Path:
    """Where a worker keeps its lock, its admin socket and its queue of audit messages."""
    return directory / "run" / f"worker-{number}"


class WorkerProcess:
    """One worker, started again where it dies.

    Args:
        number: its own, from 1.
        directory: of the server.
        sockets: what it accepts connections from, by name.
        told: called with the type and the data of each of its events.
    """

    def __init__(
        self,
        number: int,
        directory: Path,
        sockets: Mapping[str, socket.socket],
        told: Callable[[str, Mapping[str, Any]], object],
    ) -> None:
        self.number = number
        self._directory = directory
        self._sockets = sockets
        self._told = told
        self._process: subprocess.Popen[str] | None = None
        self._last = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name=f"dicomnet-worker-{number}", daemon=True)
        self.client: Client = Client(directory_of(directory, number) / "admin.sock")

    @property
    def pid(self) -> int:
        """Its process; 0 where there is none."""
        return 0 if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it; once this returns it takes connections.

        Raises:
            InvalidArgument: it does not start; it has said why on standard error.
        """
        self._spawn()
        self._thread.start()

    def _spawn(self) -> None:
        directory_of(self._directory, self.number).mkdir(mode=0o750, parents=True, exist_ok=True)
        passed = {name: sock.fileno() for name, sock in self._sockets.items()}
        command = [sys.executable, "-m", "dicomnet", "server", "run", str(self._directory)]
        command += ["--worker", str(self.number)]
        for name, descriptor in passed.items():
            command += ["--socket", f"{name}={descriptor}"]
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_THEIRS}
        # It ends when its standard input does: with us, however we end.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=tuple(passed.values()),
            env=environment, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise InvalidArgument(f"worker {self.number} does not start: exit code {self._process.wait()}")

    def _look_after(self) -> None:
        while True:
            assert self._process is not None
            self._follow()
            while self._process.poll() is None and not self._stopping.wait(_AGAIN):
                self._follow()
            code = self._process.wait()
            if self._stopping.is_set():
                return
            log.error("worker %d (process %d) has ended with %d, and is started again", self.number, self.pid, code)
            self._told("server.worker-died", {"worker": self.number, "code": code})
            while not self._stopping.wait(RESTART_PAUSE):
                if self._is_back():
                    break
            else:
                return

    def _is_back(self) -> bool:
        try:
            self._spawn()
        except (DicomNetError, OSError) as error:
            log.error("worker %d: %s", self.number, error)
            return False
        self._told("server.worker-back", {"worker": self.number})
        return True

    def _follow(self) -> None:
        """Pass on its events until it ends."""
        try:
            for event in self.client.events(self._last, "client", "addin"):
                self._last = event["id"]
                if event["type"] != "gap":  # of a new worker, which had no event before its first
                    self._told(event["type"], event["data"])
        except DicomNetError:
            pass  # it has ended, in whatever way

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask its admin interface; nothing where it cannot be reached just now."""
        try:
            return self.client.request(method, path, body)
        except (ConnectionFailed, DeadlineExceeded):
            return {}

    def metrics(self) -> str:
        """Its metrics; none where it cannot be reached just now."""
        try:
            return self.client.metrics()
        except (ConnectionFailed, DeadlineExceeded):
            return ""

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def stop(self, drain: float | None) -> None:
        """Have it stop, as a server does."""
        self._stopping.set()
        self.ask("POST", "/v1/stop", {"drain": drain})

    def join(self, patience: float) -> None:
        """Wait until it has ended, and end it where that takes too long."""
        self._stopping.set()
        if self._process is None:
            return
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            log.error("worker %d (process %d) did not end, and is killed", self.number, self.pid)
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        if self._thread.ident is not None:
            self._thread.join(1.0)
        self.client.close()
