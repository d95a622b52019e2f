"""Peers by name, on the command line: loaded where PEER is no address."""

from __future__ import annotations

from dataclasses import replace

from ..client import peer_directory
from ..protocol.peer_profile import Peer

__all__ = ["known"]


def known(name: str) -> Peer:
    """The peer of this name.

    Raises:
        InvalidArgument: there is none, or a file is wrong.
    """
    found = peer_directory.find(name)
    entity = found.peer.address()
    secured = replace(entity, tls=entity.tls or found.peer.tls is not None)
    return replace(found.peer, entity=secured, calling=found.options.get("calling", ""))
