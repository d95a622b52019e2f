"""Ports of this machine: which are free, and which process has one that is not (Linux: /proc)."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

__all__ = ["free_port", "is_free", "owner_of"]

_LISTEN = "0A"  # TCP_LISTEN, as /proc/net/tcp has it
_PROC = Path("/proc")


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            return True
    except (OSError, UnicodeError):  # the latter: a name that cannot be one
        return False


def free_port(host: str, taken: set[int]) -> int:
    """A free port that is none of those taken; it is among them then."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        with socket.create_server((host, 0), family=family) as found:
            port: int = found.getsockname()[1]
        if port not in taken:
            taken.add(port)
            return port


def owner_of(port: int) -> str:
    """The process that listens at a port, for people: "process 4711 (nginx)"; empty where that cannot be seen."""
    inodes = {inode for name in ("tcp", "tcp6") for inode in _listening(_PROC / "net" / name, port)}
    if not inodes:
        return ""
    for process in filter(str.isdigit, os.listdir(_PROC)):
        with suppress(OSError):  # of another user, or just gone
            for link in os.scandir(_PROC / process / "fd"):
                if os.readlink(link.path) in inodes:
                    return f"process {process} ({(_PROC / process / 'comm').read_text().strip()})"
    return "a process of another user"


def _listening(table: Path, port: int) -> set[str]:
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return set()
    rows = (line.split() for line in lines)
    return {f"socket:[{row[9]}]" for row in rows if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port}
