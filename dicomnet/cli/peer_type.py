"""Peers by name, on the command line: loaded where PEER is no address."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..client import peer_directory
from ..config import Entity
from ..protocol.peer_profile import STRICT, Peer

__all__ = ["KnownEntity", "known"]


@dataclass(frozen=True, slots=True)
class KnownEntity(Entity):
    """A peer from peers.toml.

    Attributes:
        profile: what the file says of it.
        calling: our AE title for it; None where the file does not say.
    """

    profile: Peer = STRICT
    calling: str | None = None

    @property
    def peer(self) -> Peer:
        """The profile, with the address as it is here."""
        return replace(self.profile, entity=Entity(self.ae_title, self.host, self.port, self.tls))


def known(name: str) -> KnownEntity:
    """The peer of this name.

    Raises:
        InvalidArgument: there is none, or a file is wrong.
    """
    found = peer_directory.find(name)
    entity = found.peer.address()
    secured = entity.tls or found.peer.tls is not None
    calling = found.options.get("calling")
    return KnownEntity(entity.ae_title, entity.host, entity.port, secured, found.peer, calling)
