"""The console as a web application: its routes, who may come in, and what browsers are told about its pages."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...log import log_failure
from ...server.base import AuditTrail
from ..limits import RateLimit
from ..login import Local, Login
from ..metrics import WebMetrics
from ..problems import Problem
from ..proxies import TrustedProxies
from ..request_log import RequestLog
from ..settings import WebSettings
from ..users import Users
from . import (
    ae_titles,
    clients,
    home,
    manager,
    matrix,
    nodes,
    records,
    remote,
    rules,
    settings_pages,
    shared_settings,
    studies,
    worklist,
)
from .desk import Desk
from .pages import STATIC, Ask, Console

__all__ = ["console_app"]

#: Scripts and styles of our own alone, in no frame of another page: a page that quotes a peer runs nothing of it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_NOT_KEPT = (b"cache-control", b"no-store")
_PARTS = (home, manager, matrix, settings_pages, ae_titles, clients, nodes, shared_settings, studies, worklist,
          remote, rules, records)  # fmt: skip


def console_app(
    desk: Desk,
    *,
    settings: WebSettings | None = None,
    users: Users | None = None,
    site: Callable[[], matrix.Checked] | None = None,
    site_pages: Callable[[Console], list[Route]] | None = None,
    audit: AuditTrail | None = None,
) -> ASGIApp:
    """The console, to be served at the root or mounted anywhere.

    Args:
        desk: the servers that it administers.
        settings: its limits, and the proxies that it trusts.
        users: who may come in; None: every caller of this machine, who administers.
        site: checks the site that the servers are of; None: each server is asked whom it reaches.
        site_pages: the routes of pages that make sites, with "/new-site"; None: there are none.
        audit: hears who logs in; None: there is no audit trail.
    """
    settings = settings or WebSettings()
    console = Console(desk, login=users is not None, key=secrets.token_urlsafe() if users is None else users.key)
    console.site, console.makes_sites = site, site_pages is not None

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await desk.close()

    routes: list[BaseRoute] = [
        Mount("/static", StaticFiles(directory=STATIC)),
        Route("/health", _health),
        *(route for part in _PARTS for route in part.routes(console)),
        *(site_pages(console) if site_pages is not None else ()),
    ]
    app = PageHeaders(Starlette(routes=routes, exception_handlers=_handlers(console), lifespan=lifespan))
    return _guarded(app, settings, users, audit)


def _guarded(app: ASGIApp, settings: WebSettings, users: Users | None, audit: AuditTrail | None) -> ASGIApp:
    """The pages for those who may come in, as often as they may ask."""
    metrics = WebMetrics()
    if users is None:
        app = Local(app)
    else:
        app = Login(app, users, settings.session_hours, metrics, shows_all=True, audit=audit)
    app = RequestLog(RateLimit(app, settings.requests_per_second, settings.burst), metrics)
    return TrustedProxies(app, settings.networks()) if settings.proxies else app


async def _health(_: Request) -> Response:
    return Response("ok\n", media_type="text/plain")


def _handlers(console: Console) -> dict[Any, Any]:
    async def told(request: Request, error: Exception) -> Response:
        return console.failed(Ask(console, request), error)

    async def failed(request: Request, error: Exception) -> Response:
        log_failure("the console failed", error)
        return console.failed(
            Ask(console, request), Problem(500, "the console failed at this request; its log says more")
        )

    return {HTTPException: told, Problem: told, Exception: failed}


class PageHeaders:
    """Adds what browsers are told to each answer; pages are kept by no cache.

    Args:
        app: what serves.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""

        async def typed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), *_HEADERS]
                if not any(name.lower() == b"cache-control" for name, _ in headers):
                    is_file = any(name.lower() == b"etag" for name, _ in headers)
                    headers.append((b"cache-control", b"max-age=86400") if is_file else _NOT_KEPT)
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, typed)
