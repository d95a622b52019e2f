"""Serves the admin interface: over a Unix socket, whose callers the system names, and loopback TCP with a token."""

from __future__ import annotations

import os
import secrets
import socket
import stat
import struct
from pathlib import Path
from typing import Any

from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from ...errors import CannotListen, InvalidArgument
from ...net.sockets import listen
from ..http_serving import HttpServing
from ..loop_thread import LoopThread
from ..settings import Role
from .app import create_app
from .face import Administered
from .roles import Caller, role_of

__all__ = ["LONGEST_PATH", "AdminServing", "open_socket"]

#: Bytes of a Unix socket's path, without its NUL.
LONGEST_PATH = 107
_NOBODY = Caller(None, None, None)


class _NamedProtocol(H11Protocol):
    """HTTP whose requests know the process at the other end."""

    def connection_made(self, transport: Any) -> None:
        caller = _NOBODY
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family == socket.AF_UNIX:
            pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            caller = Caller(uid, gid, pid)
        self.app_state = {**self.app_state, "caller": caller}
        super().connection_made(transport)


class AdminServing:
    """The admin interface of a server that runs.

    Args:
        server: what is administered.
        loop: where it is served.
        directory: of the server, for the token.
        sock: listens at the settings' path already, where a service manager has passed it.
    """

    def __init__(
        self, server: Administered, loop: LoopThread, directory: Path, sock: socket.socket | None = None
    ) -> None:
        self._server = server
        self._loop = loop
        self._token_file = directory / "run" / "admin.token"
        self._token = ""
        self._sockets: list[socket.socket] = []
        self._passed = sock
        self._http = HttpServing(create_app(server, self._role_of), _NamedProtocol)
        self._group: int | None = None
        self.tcp_port: int | None = None

    def start(self) -> None:
        """Open the socket, and serve.

        Raises:
            CannotListen, InvalidArgument: the socket, or the port, cannot be had.
        """
        settings = self._server.settings.admin
        try:
            self._sockets.append(self._passed or open_socket(settings.socket))
            self._group = os.stat(settings.socket).st_gid
            if settings.tcp_port is not None:
                self._sockets.append(self._open_tcp(settings.tcp_port))
            self._loop.run(self._http.start(self._sockets))
        except BaseException:
            self._close_sockets()
            raise

    def _open_tcp(self, port: int) -> socket.socket:
        self._token = secrets.token_urlsafe(32)
        self._token_file.unlink(missing_ok=True)  # of a server that died, or planted for us to write through
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._token_file, flags, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self._token + "\n")
        sock = listen("127.0.0.1", port)
        self.tcp_port = sock.getsockname()[1]
        return sock

    def _role_of(self, request: Request) -> Role | None:
        caller = getattr(request.state, "caller", _NOBODY)
        authorization = request.headers.get("authorization", "")
        return role_of(caller, self._server.settings.admin, self._group, authorization, self._token)

    def stop(self) -> None:
        """End it; open streams do not hold it up."""
        self._server.events.stop()
        self._loop.run(self._http.stop())
        self._close_sockets()

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            if sock.family == socket.AF_UNIX and sock is not self._passed:
                self._server.settings.admin.socket.unlink(missing_ok=True)
            sock.close()
        self._sockets = []
        self._token_file.unlink(missing_ok=True)


def open_socket(path: Path) -> socket.socket:
    """Listen on a Unix socket: its directory has mode 0750, itself 0660. Call it with the directory's lock held.

    A file that a dead server left is removed, once a connection to it was refused.

    Raises:
        InvalidArgument: the path is too long, or is something else.
        CannotListen: another server listens there, or the system does not let us.
    """
    size = len(os.fsencode(path))
    if size > LONGEST_PATH:
        raise InvalidArgument(
            f"the admin socket {path} has a path of {size} bytes; {LONGEST_PATH} is the most",
            hint='Name a shorter one: [admin] socket = "/run/dicomnet/NAME.sock".',
        )
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        path.parent.chmod(0o750)
        _remove_stale(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(os.fspath(path))
        path.chmod(0o660)
        sock.listen(512)
    except OSError as error:
        raise CannotListen(f"cannot listen on {path}: {error.strerror}", errno=error.errno) from error
    return sock


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise InvalidArgument(f"{path} is there, and no socket; it is left alone")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise CannotListen(f"another server listens on {path}")
