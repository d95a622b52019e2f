"""A server as a node: what it tells of itself to those who look at several."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from ..uids import IMPLEMENTATION_VERSION_NAME

__all__ = ["address_of", "alone", "figures"]

_ANY = ("0.0.0.0", "[::]")


def address_of(status: Mapping[str, Any]) -> str:
    """Where a server takes DICOM, ``AET@host:port``; the title alone where it does not listen (yet)."""
    listening = status.get("listening", {})
    place = listening.get("plain") or listening.get("tls")
    if place is None:
        return str(status.get("ae_title", ""))
    host, _, port = place.rpartition(":")
    return f"{status['ae_title']}@{socket.gethostname() if host in _ANY else host}:{port}"


def figures(status: Mapping[str, Any]) -> dict[str, Any]:
    """What of a server's status the others are told."""
    found = {name: status[name] for name in ("state", "associations", "clients") if name in status}
    web = status.get("listening", {}).get("web")
    return found | ({"web": web} if web else {})


def alone(status: Mapping[str, Any]) -> dict[str, Any]:
    """A server that is the only node; see `base.NodeDirectory`."""
    now = time.time()
    return {
        "id": "", "name": f"{socket.gethostname()}:{os.getpid()}", "address": address_of(status),
        "version": IMPLEMENTATION_VERSION_NAME, "since": now - status.get("uptime", 0.0), "seen": now, "alive": True,
        "duties": [], "facts": figures(status),
    }  # fmt: skip
