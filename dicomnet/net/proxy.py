"""The PROXY protocol, versions 1 and 2: a load balancer says for whom a connection is, before the peer's first byte.

Only sources that the configuration names are believed, and those have to say it: a caller who could choose whether to
would choose its address.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable

from ..errors import ConnectionFailed, InvalidArgument, escaped
from .sockets import address_of

__all__ = ["Header", "Proxies"]

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"  # of version 2
_SHORTEST_LINE = 15  # bytes of "PROXY UNKNOWN" and its end
_LONGEST_LINE = 107  # bytes of a line of version 1, its end included
_LONGEST_BLOCK = 4096  # bytes of addresses and extensions of version 2; proxies send some hundred
_FAMILIES_BY_NAME: dict[str, type[ipaddress.IPv4Address | ipaddress.IPv6Address]] = {
    "TCP4": ipaddress.IPv4Address,
    "TCP6": ipaddress.IPv6Address,
}
_FAMILIES: dict[int, tuple[str, type[ipaddress.IPv4Address | ipaddress.IPv6Address]]] = {
    0x11: ("!4s4sHH", ipaddress.IPv4Address),
    0x21: ("!16s16sHH", ipaddress.IPv6Address),
}


class Proxies:
    """The sources that speak for others.

    Args:
        networks: addresses and networks, such as ``"10.0.0.7"`` or ``"10.1.0.0/16"``.

    Raises:
        InvalidArgument: one of them is none.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        try:
            self._networks = [ipaddress.ip_network(network) for network in networks]
        except ValueError as error:
            raise InvalidArgument(
                f"proxies: {escaped(str(error))}", hint='Write them like "10.0.0.7" or "10.1.0.0/16".'
            ) from error

    def __bool__(self) -> bool:
        return bool(self._networks)

    def header_from(self, address: str) -> Header | None:
        """What reads the header of a connection from ``host:port``; None where there is to be none."""
        host = address.rpartition(":")[0].strip("[]").partition("%")[0]
        try:
            source = ipaddress.ip_address(host)
        except ValueError:
            return None
        return Header() if any(source in network for network in self._networks) else None


class Header:
    """Reads the header of one connection, fed as it arrives.

    Attributes:
        address: ``host:port`` of whom the connection is for; empty where the proxy speaks for itself (health checks).
        whole: whether all of it has come.
    """

    def __init__(self) -> None:
        self.address: str = ""
        self.whole: bool = False
        self._held = bytearray()

    @property
    def wanted(self) -> int:
        """How many bytes of it are missing at least: so many may be read, and none of them is the peer's."""
        held = len(self._held)
        if self._held.startswith(b"P"):
            return max(_SHORTEST_LINE - held, 1)
        if held < 16:
            return (16 if held else _SHORTEST_LINE) - held
        return int(16 + struct.unpack_from("!H", self._held, 14)[0] - held)

    def feed(self, data: bytes | memoryview) -> bytes | None:
        """Take bytes; what follows the header, once it is whole, else None.

        Raises:
            ConnectionFailed: this is none.
        """
        self._held += data
        held = bytes(self._held)
        if held.startswith(_SIGNATURE[: len(held)]):
            rest = self._second(held)
        elif held.startswith(b"PROXY "[: len(held)]):
            rest = self._first(held)
        else:
            raise _no_header("a connection from a proxy begins with no PROXY header")
        self.whole = rest is not None
        return rest

    def _first(self, held: bytes) -> bytes | None:
        line, end, rest = held.partition(b"\r\n")
        if not end and len(held) < _LONGEST_LINE:
            return None
        words = line.decode("ascii", "replace").split(" ")
        if len(words) > 1 and words[1] == "UNKNOWN":
            return rest
        if not end or len(words) != 6 or words[1] not in _FAMILIES_BY_NAME or not words[4].isdecimal():
            raise _no_header("the PROXY header is malformed")
        try:
            self._is_for(_FAMILIES_BY_NAME[words[1]](words[2]), int(words[4]))
        except ValueError as error:
            raise _no_header("the PROXY header names no address") from error
        return rest

    def _second(self, held: bytes) -> bytes | None:
        if len(held) < 16:
            return None
        version, family, size = struct.unpack_from("!BBH", held, 12)
        if version not in (0x20, 0x21) or size > _LONGEST_BLOCK:
            raise _no_header("the PROXY header is malformed")
        if len(held) < 16 + size:
            return None
        if version == 0x21 and family in _FAMILIES:
            layout, kind = _FAMILIES[family]
            if size < struct.calcsize(layout):
                raise _no_header("the PROXY header is shorter than its addresses")
            source, _, port, _ = struct.unpack_from(layout, held, 16)
            self._is_for(kind(source), port)
        return held[16 + size :]

    def _is_for(self, host: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
        self.address = address_of((host, port))


def _no_header(what: str) -> ConnectionFailed:
    return ConnectionFailed(what, hint="Does it send version 1 or 2 of the PROXY protocol?")
