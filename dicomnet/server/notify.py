"""How a service manager is told: sd_notify(3), the protocol of systemd."""

from __future__ import annotations

import os
import socket

__all__ = ["Notifier", "notify"]


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
        self.interval = int(microseconds) / 2e6 if microseconds.isdigit() and mine else None
        self._next = 0.0

    def alive(self, now: float) -> None:
        """The server's loop answers; now, by the monotonic clock."""
        if self.interval is not None and now >= self._next:
            self._next = now + self.interval
            notify("WATCHDOG=1")
