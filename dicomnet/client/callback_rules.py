"""Who may call back: the peer that was asked, from its own host, and other calling AE titles that the user names."""

from __future__ import annotations

import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from .._pdu import AssociateRQ
from ..errors import escaped
from ..log import log
from ..protocol.admission import CallingTitles, Refusal
from ..protocol.negotiation import Caller
from ..services.provider_requests import StoreRequest

__all__ = ["Address", "CallbackRule", "addresses_of"]

Address = IPv4Address | IPv6Address
_MOST_TOLD = 10  # callers; one that makes titles up is not told of for ever
_CALLED_BY = (1, 1, 3)  # permanent, of the service user: calling AE title not recognised (PS3.8 Section 9.3.4)


class CallbackRule:
    """Whether a caller is the peer that was asked, or one that the user named.

    The peer's own title is believed from the peer's host alone; a title that the user named is let in from everywhere.
    Whom it refuses may well be meant, since archives store under other titles and from other hosts than those that are
    asked. So it says so in the log, once for each.

    Args:
        titles: the rule of the listener; one without a list lets in all, from everywhere.
        peer: the AE title of the peer.
        senders: the calling AE titles that the user named.
    """

    def __init__(self, titles: CallingTitles, peer: str, senders: Collection[str]) -> None:
        self._titles = titles
        self._peer = peer
        self._senders = frozenset(senders)
        self._addresses: frozenset[Address] = frozenset()
        self._here = False
        self._told: set[tuple[str, str]] = set()

    def expect_from(self, addresses: Collection[Address]) -> None:
        """These are the addresses of the peer; none are looked at where they are not known."""
        self._addresses = frozenset(addresses)
        self._here = any(map(_is_of_this_host, self._addresses))

    def evaluate(self, request: AssociateRQ, caller: Caller) -> Refusal | None:
        """See `AdmissionRule.evaluate`."""
        title = request.calling_ae_title
        refusal = self._titles.evaluate(request, caller)
        if refusal is not None:
            self._tell(title, f"called from {caller.address} and was refused: it is not {self._peer}")
            return refusal
        if not self._is_strange(title) or self._is_of_the_peer(caller.address):
            return None
        why = f"none of the addresses of {self._peer} ({', '.join(sorted(map(str, self._addresses)))})"
        self._tell(title, f"called from {caller.address} and was refused: that is {why}")
        return Refusal(*_CALLED_BY, f"it calls from {caller.address}, {why}")

    def is_for_another(self, request: StoreRequest, calling: str) -> bool:
        """Whether an instance is sent for the C-MOVE of another user (PS3.7 Section 9.1.1.1: Move Originator).

        Args:
            request: of the peer.
            calling: our AE title.
        """
        originator = request.command.move_originator_ae_title
        if originator in (None, "", calling) or not self._is_strange(request.calling):
            return False
        self._tell(request.calling, f"sent an instance for a C-MOVE of {escaped(str(originator))}; it is not kept")
        return True

    def _is_strange(self, title: str) -> bool:
        """Whether more than this title is looked at: it is the peer's, and the user said no more than to whom to go."""
        return self._titles.titles is not None and title == self._peer and title not in self._senders

    def _is_of_the_peer(self, address: str) -> bool:
        caller = _address(address.rpartition(":")[0].strip("[]"))
        if not self._addresses or caller is None or caller in self._addresses:
            return True
        # A peer on this host is called by one of the host's addresses, and calls by another.
        return self._here and _is_of_this_host(caller)

    def _tell(self, title: str, what: str) -> None:
        title = escaped(title)
        if (title, what[:4]) in self._told or len(self._told) >= _MOST_TOLD:
            return
        self._told.add((title, what[:4]))
        log.warning(
            '%s %s. If it stores or reports for %s, let it in by --from %s (senders=["%s"]).',
            title or "a caller without a title", what, self._peer, title, title,
        )  # fmt: skip


def addresses_of(host: str) -> frozenset[Address]:
    """The addresses of a host; none where it cannot be looked up."""
    try:
        found: list[Any] = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return frozenset()
    return frozenset(one for one in (_address(str(info[4][0])) for info in found) if one is not None)


def _address(text: str) -> Address | None:
    """An address; of an IPv4 address in an IPv6 one, the former."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_of_this_host(address: Address) -> bool:
    """Whether it is an address of this host: then a socket can be bound to it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((str(address), 0))
    except OSError:
        return False
    return True
