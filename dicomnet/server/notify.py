"""What is between us and a service manager: sd_notify(3), its watchdog, and sockets that it passes, as systemd does."""

from __future__ import annotations

import os
import socket

from ..errors import InvalidArgument

__all__ = ["SOCKET_NAMES", "Notifier", "inherited", "notify"]

#: What a socket that is passed may be called, by ``FileDescriptorName=`` of its unit.
SOCKET_NAMES = ("plain", "tls", "web", "admin")
_FIRST = 3  # the descriptor of the first socket that is passed, sd_listen_fds(3)


def notify(*lines: str) -> bool:
    """Tell the service manager that started us, if there is one: "READY=1", "STOPPING=1", "WATCHDOG=1"."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto("\n".join(lines).encode(), address)
    except OSError:
        return False
    return True


class Notifier:
    """Keeps the watchdog of the service manager quiet, as often as it wants."""

    def __init__(self) -> None:
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.interval: float | None = int(microseconds) / 2e6 if microseconds.isdigit() and mine else None
        self._next = 0.0

    def alive(self, now: float) -> None:
        """The server's loop answers; now, by the monotonic clock."""
        if self.interval is not None and now >= self._next:
            self._next = now + self.interval
            notify("WATCHDOG=1")


def inherited() -> dict[str, socket.socket]:
    """The sockets that the service manager has opened for us, by name; this process has them from then on.

    Raises:
        InvalidArgument: one has a name that means nothing here.
    """
    number = os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()) or not number.isdigit():
        return {}
    found: dict[str, socket.socket] = {}
    for place in range(int(number)):
        name = names[place] if place < len(names) else ""
        if name not in SOCKET_NAMES or name in found:
            hint = f"FileDescriptorName= of its unit is one of {', '.join(SOCKET_NAMES)}."
            raise InvalidArgument(f'a socket is passed by the name "{name}"', hint=hint)
        sock = found[name] = socket.socket(fileno=_FIRST + place)
        sock.set_inheritable(False)
        sock.setblocking(False)
    return found
