"""What both faces ask of the system's sockets: to listen, to say who called, to notice that a host has vanished."""

from __future__ import annotations

import errno
import ipaddress
import socket

from ..config import Timeouts
from ..errors import ConnectionFailed, cannot_listen

__all__ = ["QUICK_ACK", "address_of", "gone", "listen", "prepare", "watch_host"]

_BACKLOG = 1024  # a full one would cost a peer a second, until it tries again

# Linux: it holds until the kernel thinks otherwise. Without it a peer with Nagle's algorithm (DCMTK, Orthanc) takes
# 40 ms for each message that it writes in two parts.
QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, and does not block.

    Args:
        host: the address to bind, or a name of one, of which IPv4 is preferred; empty takes every address of the
            machine, IPv4 and IPv6 by one socket.
        port: 0 picks a free one.

    Raises:
        CannotListen: the address is taken, or not ours.
    """
    try:
        if not host and socket.has_dualstack_ipv6():
            sock = socket.create_server(("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)
        else:
            found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
            sock = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except UnicodeError as error:  # a name that can be none
        raise cannot_listen(OSError("that is no name of a host"), host, port) from error
    except OSError as error:
        raise cannot_listen(error, host, port) from error
    sock.setblocking(False)
    return sock


def address_of(name: object) -> str:
    """``host:port`` of what a socket calls its peer; an IPv4 address that came by an IPv6 socket as what it is."""
    if not isinstance(name, tuple):
        return str(name or "")
    host = str(name[0])
    if ":" not in host:
        return f"{host}:{name[1]}"
    mapped = ipaddress.IPv6Address(host.partition("%")[0]).ipv4_mapped
    return f"{mapped}:{name[1]}" if mapped is not None else f"[{host}]:{name[1]}"


def prepare(sock: socket.socket, timeouts: Timeouts) -> None:
    """What every connection of ours has: it does not block, it does not wait for a delayed ACK, its host is watched."""
    sock.setblocking(False)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        # A request that ends in a small segment must not wait for a delayed ACK.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        watch_host(sock, timeouts)


def watch_host(sock: socket.socket, timeouts: Timeouts) -> None:
    """Let the system find out that the peer's host has vanished, which no timer of ours tells from patience."""
    if timeouts.keepalive is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        third = max(round(timeouts.keepalive / 3), 1)
        _set_option(sock, _KEEPALIVE_IDLE, max(round(timeouts.keepalive), 1))
        _set_option(sock, "TCP_KEEPINTVL", third)
        _set_option(sock, "TCP_KEEPCNT", 2)
    if timeouts.acknowledge is not None:
        _set_option(sock, "TCP_USER_TIMEOUT", max(round(timeouts.acknowledge * 1000), 1))


_KEEPALIVE_IDLE = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"  # as macOS calls it


def _set_option(sock: socket.socket, name: str, value: int) -> None:
    """Set an option of TCP, where the system has it."""
    option = getattr(socket, name, None)
    if option is not None:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def gone(error: OSError) -> ConnectionFailed | None:
    """What an error of the stream says beyond that it ended."""
    if error.errno not in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH):
        return None
    hint = "Its host is off, or the network between is; time-outs keepalive and acknowledge say when that is noticed."
    return ConnectionFailed("the peer's host does not answer any more", errno=error.errno, hint=hint)
