"""Reverse proxies that are trusted: their headers say who asks, by which scheme, and below which path."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .settings import Network

__all__ = ["TrustedProxies"]


class TrustedProxies:
    """Believes the X-Forwarded headers of known addresses, and of no other.

    Args:
        app: what serves.
        networks: of the proxies.
    """

    def __init__(self, app: ASGIApp, networks: Sequence[Network]) -> None:
        self._app, self._networks = app, networks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] in ("http", "websocket") and self._trusts((scope.get("client") or ("", 0))[0]):
            headers = Headers(scope=scope)
            scope = {**scope, "dicomnet.proxied": True}
            if _last(headers, "x-forwarded-proto").lower() == "https":
                scope["scheme"] = "https" if scope["type"] == "http" else "wss"
            known = _last(headers, "x-forwarded-for")
            if _address(known) is not None:
                scope["client"] = (known, 0)
        await self._app(scope, receive, send)

    def _trusts(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in one for one in self._networks)


def _last(headers: Headers, name: str) -> str:
    """The value that the proxy itself added; those before it, and lines before its own, are what its caller says."""
    return ",".join(headers.getlist(name)).rpartition(",")[2].strip()


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
