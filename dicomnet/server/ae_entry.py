"""One application entity that a server knows: its title, addresses, rights, and what is relaxed for it."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ..config import Entity
from ..protocol.peer_profile import Peer, Relaxation
from .settings import AETitle, Port, Table

__all__ = ["RIGHTS", "AEEntry", "Right", "key_of", "plain_address"]

#: What a caller may be allowed to ask for.
Right = Literal["echo", "store", "find", "get", "move", "worklist", "mpps", "commit", "other"]
RIGHTS: tuple[Right, ...] = ("echo", "store", "find", "get", "move", "worklist", "mpps", "commit", "other")


def _trimmed(title: object) -> object:
    """As titles come from the wire and from old configurations: padded, or cut at a NUL."""
    return title.split("\0")[0].strip(" ") if isinstance(title, str) else title


def _known_rule(name: str) -> str:
    if name not in {rule.value for rule in Relaxation}:
        raise ValueError(f"expected one of {', '.join(rule.value for rule in Relaxation)}")
    return name


Title = Annotated[AETitle, BeforeValidator(_trimmed)]
Host = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\s/@\[\]]+$")]
Modality = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[A-Z0-9_ ]+$"), BeforeValidator(_trimmed)]  # CS
Issuer = Annotated[str, Field(max_length=64, pattern=r"^[^\\\x00-\x1f]*$"), BeforeValidator(_trimmed)]  # VR LO
Quirk = Annotated[str, AfterValidator(_known_rule)]


def key_of(title: str) -> str:
    """What makes a title unique: padding, what follows a NUL, and case do not count."""
    return title.split("\0", maxsplit=1)[0].strip(" ").upper()


def plain_address(text: str) -> str:
    """An address in one form: IPv4 mapped into IPv6 is IPv4, zones and brackets go."""
    bare = text.strip("[]").split("%")[0]
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return bare.lower()
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


class AEEntry(Table):
    """An application entity that is known."""

    title: Title
    """Its AE title."""
    id: int = 0
    """Its number in the server's database, which stays through a change of title; 0 before it is added."""
    host: Host | None = None
    """Where it listens, for requests to it: a name or an address."""
    port: Annotated[Port, Field(ge=1)] | None = None
    """The port where it listens."""
    tls: bool = False
    """Whether it listens with TLS."""
    addresses: tuple[Host, ...] = ()
    """Where it may call from, beside `host`; empty is from anywhere, unless `access.require_address` is set."""
    certificates: tuple[str, ...] = ()
    """SHA-256 fingerprints of the certificates by which it is known over TLS; empty takes any that is vouched for."""
    rights: tuple[Right, ...] = RIGHTS
    """What it may ask for."""
    modalities: tuple[Modality, ...] = ()
    """The modalities of the series that it may find and retrieve; empty is any."""
    issuers: tuple[Issuer, ...] = ()
    """The issuers of the Patient IDs that it may find and retrieve, "" for those without one; empty is any."""
    move_to: tuple[Title, ...] = ()
    """Where its C-MOVE may send; empty is to all that are known."""
    relax: tuple[Quirk, ...] = ()
    """The rules that are relaxed for it, see docs/peers.md."""
    aliases: tuple[Title, ...] = ()
    """Other titles of the same entity."""
    character_set: str = ""
    """Specific Character Set of its data sets that name none."""
    description: str = Field(default="", max_length=1024)
    """What it is, for people."""

    @property
    def entity(self) -> Entity | None:
        """Where requests to it go; None where that is not known."""
        if self.host is None or self.port is None:
            return None
        return Entity(self.title, self.host, self.port, self.tls)

    def profile(self) -> Peer:
        """How its associations are treated."""
        return Peer(
            self.entity or Entity(self.title, self.host or "0.0.0.0", self.port or 0),
            relax=frozenset(rule for rule in Relaxation if rule.value in self.relax),
            character_set=self.character_set,
        )

    def may_call_from(self, host: str) -> bool:
        """Whether a caller's address is one of its own; one that is kept as a name is not looked up."""
        known = {plain_address(one) for one in (*self.addresses, *([self.host] if self.host else []))}
        return plain_address(host) in known
