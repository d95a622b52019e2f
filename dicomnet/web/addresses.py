"""Addresses in answers: as the client sees the server, through proxies too (RFC 7239, X-Forwarded headers)."""

from __future__ import annotations

from starlette.requests import Request

from .media_types import parse

__all__ = ["base_path", "base_url"]


def base_url(request: Request) -> str:
    """The address of the DICOMweb service, without a slash at its end.

    A proxy in front says by Forwarded, or X-Forwarded-Proto, -Host and -Prefix, how it was asked; the server trusts
    these headers only from the proxies that it was told of, see `WebSettings.proxies`.
    """
    scheme, host = request.url.scheme, request.headers.get("host", request.url.netloc)
    if request.scope.get("dicomnet.proxied"):
        headers = request.headers
        pairs = parse(f"x;{headers['forwarded'].split(',')[0]}").parameters if "forwarded" in headers else {}
        scheme = pairs.get("proto", headers.get("x-forwarded-proto", scheme))
        host = pairs.get("host", headers.get("x-forwarded-host", host))
    return f"{scheme}://{host}{base_path(request)}"


def base_path(request: Request) -> str:
    """The path of the application that answers, as the client sees it, without a slash at its end."""
    root = str(request.scope.get("root_path", "")).rstrip("/")
    if request.scope.get("dicomnet.proxied"):
        root = request.headers.get("x-forwarded-prefix", "").rstrip("/") + root
    return root
