"""Starts and stops servers as processes of their own, under systemd where it runs, and else by ourselves."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from ..errors import DeadlineExceeded, InvalidArgument
from .admin import Client
from .directory import ServerDirectory
from .directory_lock import wait_until_free
from .privileges import will_become

__all__ = ["START_PATIENCE", "start", "stop", "unit"]

#: Seconds that a server gets until it listens.
START_PATIENCE = 60.0
#: Seconds beyond its drain that a server gets to end.
STOP_PATIENCE = 10.0
_LOOK = 0.05  # seconds for a word of the process, before a look at whether it has ended


def start(server: ServerDirectory, environment: Mapping[str, str] | None = None) -> int:
    """Start a server in a process of its own; its number, once the ports are open.

    Args:
        server: which.
        environment: variables that it gets beside ours.

    Raises:
        InvalidArgument: it runs already, it is disabled, or it does not start: the reason is its own.
        DeadlineExceeded: it does not get ready.
    """
    if server.process() is not None:
        raise InvalidArgument(f"the server {server.name} runs already")
    if server.settings().server.start_mode == "disabled":
        hint = "`dicomnet server edit --set server.start_mode=manual` allows it."
        raise InvalidArgument(f"the server {server.name} is disabled", hint=hint)
    logs = server.path / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dicomnet-") as folder, _open_log(logs) as output:
        address = os.path.join(folder, "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as ready:
            ready.bind(address)
            if will_become(server.settings().server.user):  # that user says so, and is to reach it
                os.chmod(folder, 0o711)
                os.chmod(address, 0o622)
            begun = output.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "dicomnet", "server", "run", str(server.path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {}), "NOTIFY_SOCKET": address},
                cwd="/",
                start_new_session=True,
            )
            _wait_until_ready(server, process, ready, begun, logs / "run.log")
    return process.pid


def _open_log(logs: Path) -> TextIO:
    """What the process says goes there; where we are root, no link of the server's user leads it elsewhere.

    Raises:
        InvalidArgument: it cannot be opened.
    """
    no_link = os.O_NOFOLLOW if os.geteuid() == 0 else 0
    try:
        folder = os.open(logs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | no_link)
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | no_link
            return os.fdopen(os.open("run.log", flags, 0o666, dir_fd=folder), "a")
        finally:
            os.close(folder)
    except OSError as error:
        hint = "Root follows no link there: remove it." if no_link else None
        raise InvalidArgument(f"{logs / 'run.log'} cannot be opened: {error.strerror}", hint=hint) from error


def _wait_until_ready(
    server: ServerDirectory, process: subprocess.Popen[bytes], ready: socket.socket, begun: int, log: Path
) -> None:
    deadline = time.monotonic() + START_PATIENCE
    ready.settimeout(_LOOK)
    while time.monotonic() < deadline:
        try:
            if b"READY=1" in ready.recv(4096):
                return
        except TimeoutError:
            pass
        if process.poll() is not None:
            with open(log, encoding="utf-8", errors="replace") as file:
                file.seek(begun)
                said = file.read().strip().splitlines()
            why = said[-1].removeprefix("error: ") if said else f"exit code {process.returncode}"
            raise InvalidArgument(f"the server {server.name} does not start: {why}")
    process.kill()
    raise DeadlineExceeded("start", START_PATIENCE, f"the server {server.name} does not get ready")


def stop(server: ServerDirectory, drain: float | None = None) -> None:
    """Stop a server, and wait until it has.

    Raises:
        InvalidArgument: it does not run.
        DeadlineExceeded: it does not stop.
    """
    if server.process() is None:
        raise InvalidArgument(f"the server {server.name} does not run")
    patience = (server.settings().timeouts.drain if drain is None else drain) + STOP_PATIENCE
    with Client(server.path) as client:
        client.stop(drain)
    if not wait_until_free(server.path, patience):
        raise DeadlineExceeded("stop", patience, f"the server {server.name} does not stop")


def unit(server: ServerDirectory, user: str = "dicomnet") -> str:
    """The systemd unit of a server."""
    settings = server.settings()
    drain = int(settings.timeouts.drain) + 5
    return f"""[Unit]
Description=DICOM server {settings.server.ae_title}
Documentation=https://dicomnet.readthedocs.io
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={sys.executable} -m dicomnet server run {server.path}
ExecReload=/bin/kill -HUP $MAINPID
KillMode=mixed
TimeoutStopSec={drain}
WatchdogSec=30
Restart=on-failure
RestartSec=2
User={user}
UMask=0027
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ReadWritePaths={server.path}
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE

[Install]
WantedBy=multi-user.target
"""
