"""What a web server is told: where it listens, how it is secured, who may come in, and its limits."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import InvalidArgument
from ..net.tls import TLS

__all__ = ["Network", "WebSettings", "is_loopback", "parse_address"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_address(text: str) -> tuple[str, int]:
    """``[HOST:]PORT`` as host and port; the host is the loopback address unless it is named.

    Raises:
        InvalidArgument: it is none.
    """
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise InvalidArgument(f"{text!r} is no [HOST:]PORT", hint="For instance 8042, or 127.0.0.1:8042.")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether this machine alone goes by this name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class WebSettings:
    """How the web services are served.

    Attributes:
        listen: ``[HOST:]PORT``; empty: they are not served. Port 0 picks a free one.
        cert, key: certificate and private key for TLS, in PEM form; both may be in ``cert``.
        ca: authority of client certificates; with it no caller comes in without one.
        users: the file of users; with one that has users, callers have to log in. See `Users`.
        proxies: addresses or networks of reverse proxies, whose Forwarded and X-Forwarded headers are believed.
        session_hours: how long a login lasts.
        requests_per_second, burst: of one address, beyond the loopback address; more get 429.
        concurrent: the most requests and connections at a time; more get 503.
    """

    listen: str = ""
    cert: str = ""
    key: str = ""
    ca: str = ""
    users: str = "users.json"
    proxies: tuple[str, ...] = ()
    session_hours: float = 10.0
    requests_per_second: float = 200.0
    burst: int = 4000
    concurrent: int = 512

    def __post_init__(self) -> None:
        if self.listen:
            parse_address(self.listen)
        self.networks()
        if self.key and not self.cert:
            raise InvalidArgument("web: a private key without its certificate")
        for name in ("session_hours", "requests_per_second", "burst", "concurrent"):
            if not getattr(self, name) > 0:
                raise InvalidArgument(f"web: {name} = {getattr(self, name)}: more than 0")

    @classmethod
    def read(cls, values: Mapping[str, Any], folder: Path) -> WebSettings:
        """Settings from a table of TOML; paths are relative to a folder.

        Raises:
            InvalidArgument: there is no such setting, or it makes no sense.
        """
        names = {one.name for one in fields(cls)}
        unknown = sorted(set(values) - names)
        if unknown:
            raise InvalidArgument(f'[web] has no setting "{unknown[0]}"', hint=f"It has {', '.join(sorted(names))}.")
        given = dict(values)
        if "listen" in given:
            given["listen"] = str(given["listen"])
        given["proxies"] = tuple(given.get("proxies", ()))
        return cls(**given).below(folder)

    def below(self, folder: Path) -> WebSettings:
        """The same, with paths that are relative to a folder."""
        paths = {
            name: str(folder / getattr(self, name)) for name in ("cert", "key", "ca", "users") if getattr(self, name)
        }
        return WebSettings(**{one.name: getattr(self, one.name) for one in fields(self)} | paths)

    def networks(self) -> tuple[Network, ...]:
        """The proxies, as networks.

        Raises:
            InvalidArgument: one is none.
        """
        try:
            return tuple(ipaddress.ip_network(one, strict=False) for one in self.proxies)
        except ValueError as error:
            raise InvalidArgument(f"web: proxies: {error}", hint="Addresses, or networks as 10.0.0.0/8.") from error

    def tls(self) -> TLS | None:
        """How connections are secured."""
        if not self.cert:
            return None
        asked = "required" if self.ca else "ignored"
        return TLS(ca=self.ca or None, cert=self.cert, key=self.key or None, client_certificate=asked)

    def check_open(self, *, login: bool) -> tuple[str, int]:
        """Where to listen, if it may be listened there.

        Args:
            login: whether callers have to log in.

        Raises:
            InvalidArgument: others than this machine could come in without a login or a certificate.
        """
        host, port = parse_address(self.listen)
        if not login and not (self.cert and self.ca) and not is_loopback(host):
            raise InvalidArgument(
                f"the web services do not listen on {host} without a login: other machines could read all of it",
                hint="Add a user (`dicomnet web user add DIR NAME`), or take certificates (--web-cert, --web-ca).",
            )
        return host, port
