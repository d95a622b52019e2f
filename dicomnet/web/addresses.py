"""Addresses in answers: as the client sees the server, through proxies too (RFC 7239, X-Forwarded headers)."""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.types import Scope

from .media_types import parse

__all__ = ["base_path", "base_url", "own_path"]


def base_url(request: HTTPConnection) -> str:
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


def own_path(scope: Scope) -> str:
    """The path of a request below the application that is asked, which may be mounted below another one."""
    path: str = scope["path"]
    root = str(scope.get("root_path", "")).rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def base_path(request: HTTPConnection) -> str:
    """The path of the application that answers, as the client sees it, without a slash at its end."""
    root = str(request.scope.get("root_path", "")).rstrip("/")
    if request.scope.get("dicomnet.proxied"):
        root = request.headers.get("x-forwarded-prefix", "").rstrip("/") + root
    return root
