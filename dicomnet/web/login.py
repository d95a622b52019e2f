"""Login: who asks, by a signed cookie or HTTP Basic, and what a role may do.

Browsers log in by a form and get a cookie (HttpOnly, SameSite=Lax, Secure over TLS); programs send HTTP Basic. What
a browser sends that changes something must come from our own pages: it says so in Sec-Fetch-Site, or Origin. That
holds for HTTP Basic, too: a browser that was once given a password sends it again by itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import html
import logging
import re
import secrets
import time
from collections import OrderedDict
from functools import partial
from urllib.parse import parse_qs, quote, urlsplit

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..server.base import AuditTrail
from .addresses import base_path, own_path
from .bodies import small_body
from .limits import Buckets, caller_of, refuse, too_many
from .metrics import WebMetrics
from .problems import Problem
from .settings import is_loopback
from .users import User, Users, allows

__all__ = ["Local", "Login", "needed_right", "needed_role"]

log: logging.Logger = logging.getLogger("dicomnet.web")

SESSION, FORM = "dicomnet_session", "dicomnet_form"
#: What a login form may have, and for how long it is good.
MOST_FORM, FORM_SECONDS = 16 << 10, 3600
#: Failed logins of an address, or for a name: so many at once, then one in so many seconds.
FAILURES, FAILURE_SECONDS = 10, 15.0
#: Seconds for which the answer to a name and password by HTTP Basic is remembered, and how many are.
REMEMBERED, MOST_REMEMBERED = 300.0, 1024
#: The most characters of a name that the audit trail is told.
MOST_NAME = 64
_OPEN = frozenset({"/login", "/logout", "/health"})
_WORK = ("/dicomweb/work", "/dicomweb/modality-")
_is_search = re.compile(r"/dicomweb(/studies/[^/]+(/series/[^/]+)?)?/(studies|series|instances)/?").fullmatch
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>:root{{color-scheme:light dark}}body{{font:16px/1.5 system-ui,sans-serif;max-width:20rem;margin:15vh auto}}
label{{display:block;margin:.8rem 0}}input{{width:100%;font:inherit;box-sizing:border-box;padding:.3rem}}
button{{font:inherit;padding:.3rem 1.2rem}}[role=alert]{{color:#c22}}</style></head>
<body><main><h1>{title}</h1>{message}<form method="post" action="{action}">
<input type="hidden" name="token" value="{token}"><input type="hidden" name="next" value="{next}">{fields}
<button>{title}</button></form></main></body></html>
"""
_FIELDS = """<label>Name<input name="name" autocomplete="username" required autofocus maxlength="64"></label>
<label>Password<input name="password" type="password" autocomplete="current-password" required></label>"""
_WRONG = "This name and this password do not belong together."
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}


def needed_role(method: str, path: str) -> str:
    """What a caller must be for a request: who deletes studies, or reads metrics, administers."""
    if path == "/metrics" or (method == "DELETE" and not path.startswith(_WORK)):
        return "administer"
    return "read" if method in _SAFE else "operate"


def needed_right(method: str, path: str) -> str:
    """Which right a request needs; empty where it needs none: pages, and what there is of the server itself."""
    if path.startswith(("/dicomweb/work", "/dicomweb/modality-", "/dicomweb/subscribers")):
        return "work"
    if path.startswith("/wado"):
        return "retrieve"
    if not path.startswith("/dicomweb") or not path.removeprefix("/dicomweb").strip("/"):
        return ""
    if method in _SAFE:
        return "search" if _is_search(path) else "retrieve"
    return "delete" if method == "DELETE" else "store"


class Local:
    """Without users: this machine's programs, or those with a certificate. No page of another site, by a browser.

    Args:
        app: what serves, at the root.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] in ("http", "websocket"):
            connection = HTTPConnection(scope)
            try:
                _check_host(connection)
                if scope["type"] == "websocket" or scope["method"] not in _SAFE:
                    _check_origin(connection)
            except Problem as problem:
                if scope["type"] == "websocket":
                    await send({"type": "websocket.close", "code": 1008, "reason": problem.detail})
                else:
                    await refuse(scope, receive, send, problem)
                return
        await self._app(scope, receive, send)


class Login:
    """Lets in those who have logged in; serves the pages of login and logout.

    Args:
        app: what serves, at the root.
        users: who may come in.
        hours: how long a login lasts.
        metrics: counts logins.
        shows_all: a user who comes in sees all that there is; one who may see a part of it does not come in.
        audit: hears of logins and logouts; None: there is no audit trail.
    """

    def __init__(
        self, app: ASGIApp, users: Users, hours: float, metrics: WebMetrics, *, shows_all: bool = False,
        audit: AuditTrail | None = None,
    ) -> None:  # fmt: skip
        self._app, self._users, self._seconds, self._metrics = app, users, int(hours * 3600), metrics
        self._shows_all, self._audit = shows_all, audit
        self._failures = Buckets(1 / FAILURE_SECONDS, FAILURES)
        self._refusals = Buckets(1 / FAILURE_SECONDS, 1)  # that are recorded: attempts must not fill the disk
        self._known: OrderedDict[bytes, tuple[float, str, str]] = OrderedDict()
        self._hashing = CapacityLimiter(2)  # each takes a processor, and 64 MiB
        self._pages = {"/login": self._login, "/logout": self._logout}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path = own_path(scope)
        if path in self._pages:
            try:
                response = await self._pages[path](Request(scope, receive))
            except Problem as problem:
                await refuse(scope, receive, send, problem)
                return
            await response(scope, receive, send)
        elif path in _OPEN:
            await self._app(scope, receive, send)
        else:
            await self._guarded(scope, receive, send)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        try:
            user = await self._caller(connection)
            if user is None:
                raise _unknown(connection)
            method = scope.get("method", "GET")
            needed = needed_role(method, own_path(scope))
            if not allows(user.role, needed):
                raise Problem(403, f"{user.name} has the role {user.role}; this needs the role {needed}")
            if self._shows_all and not user.scope.sees_all:
                raise Problem(403, f"{user.name} may see a part of what there is, and this shows all")
            right = needed_right(method, own_path(scope))
            if right and right not in user.rights:
                raise Problem(403, f"{user.name} has not the right {right}")
            if method not in _SAFE or scope["type"] == "websocket":
                _check_origin(connection)
        except Problem as problem:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": "log in first"})
            elif problem.status == 401 and _wants_a_page(connection):
                base = base_path(connection)
                there = RedirectResponse(f"{base}/login?next={quote(base + own_path(scope), safe='/')}", 303)
                await there(scope, receive, send)
            else:
                await refuse(scope, receive, send, problem)
            return
        known = {"dicomnet.user": user.name, "dicomnet.role": user.role, "dicomnet.scope": user.scope}
        await self._app({**scope, **known}, receive, send)

    # ---- who asks ----------------------------------------------------------------------------------------------

    async def _caller(self, connection: HTTPConnection) -> User | None:
        authorization = connection.headers.get("authorization", "")
        if authorization[:6].lower() == "basic ":
            return await self._basic(connection, authorization[6:].strip())
        return self._of_session(connection)

    def _of_session(self, connection: HTTPConnection) -> User | None:
        """Whose cookie it is."""
        try:
            name, stamp = self._signer("session").loads(connection.cookies.get(SESSION, ""), max_age=self._seconds)
        except (BadSignature, ValueError, TypeError):
            return None
        user = self._users.get(name)
        return user if user is not None and secrets.compare_digest(user.stamp, str(stamp)) else None

    async def _basic(self, connection: HTTPConnection, text: str) -> User | None:
        key = hashlib.sha256(f"{self._users.key}:{text}".encode()).digest()
        until, name, stamp = self._known.get(key, (0.0, "", ""))
        user = self._users.get(name)
        if user is not None and user.stamp == stamp and time.monotonic() < until:
            return user
        try:
            name, _, password = base64.b64decode(text, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        user = await self._verified(connection.scope, name, password)
        if user is not None:
            self._known[key] = time.monotonic() + REMEMBERED, user.name, user.stamp
            if len(self._known) > MOST_REMEMBERED:
                self._known.popitem(last=False)
        return user

    async def _verified(self, scope: Scope, name: str, password: str) -> User | None:
        """The user, if the password is right.

        Raises:
            Problem: 429, after too many that were wrong.
        """
        caller = caller_of(scope)
        keys = (caller, f"user {name[:MOST_NAME]}")
        wait = max(map(self._failures.wait, keys))
        if wait:
            self._metrics.login("too many")
            if not self._refusals.wait(caller):
                self._refusals.take(caller)
                await self._record("login", scope, name, "too many logins failed")
            raise too_many(wait)
        for key in keys:  # before the hash is made: attempts at the same time count, too
            self._failures.take(key)
        user = await run_sync(self._users.verify, name, password, limiter=self._hashing)
        self._metrics.login("failed" if user is None else "done")
        if user is None:
            log.warning("a login from %s failed", caller)
        else:
            for key in keys:
                self._failures.give(key)
        await self._record("login", scope, name, "the login failed" if user is None else "")
        return user

    async def _record(self, event: str, scope: Scope, name: str, failure: str = "") -> None:
        """Have the audit trail say who logged in or out, or failed to; in another thread, for it writes to the disk."""
        if self._audit is None:
            return
        outcome = "minor" if failure else "success"
        known = {"user": name[:MOST_NAME], "address": caller_of(scope), "outcome": outcome, "what": failure}
        await run_sync(partial(self._audit.record, event, **known))

    def _signer(self, salt: str) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(self._users.key, salt=f"dicomnet {salt}")

    # ---- pages -------------------------------------------------------------------------------------------------

    async def _login(self, request: Request) -> Response:
        base = base_path(request)
        if request.method != "POST":
            return self._page(request, "Log in", _local(request.query_params.get("next", ""), base), _FIELDS)
        form = await self._form(request)
        there = _local(form.get("next", ""), base)
        try:
            user = await self._verified(request.scope, form.get("name", ""), form.get("password", ""))
        except Problem as problem:
            return self._page(request, "Log in", there, _FIELDS, problem.detail, 429, problem.headers)
        if user is None:
            return self._page(request, "Log in", there, _FIELDS, _WRONG, 403)
        log.info("%s logs in from %s", user.name, caller_of(request.scope))
        response = RedirectResponse(there, 303)
        response.set_cookie(
            SESSION, str(self._signer("session").dumps([user.name, user.stamp])), max_age=self._seconds,
            path=base or "/", secure=request.url.scheme == "https", httponly=True, samesite="lax",
        )  # fmt: skip
        response.delete_cookie(FORM, path=base or "/")
        return response

    async def _logout(self, request: Request) -> Response:
        base = base_path(request)
        if request.method != "POST":
            return self._page(request, "Log out", f"{base}/login", "")
        await self._form(request)
        user = self._of_session(request)
        if user is not None:
            await self._record("logout", request.scope, user.name)
        response = RedirectResponse(f"{base}/login", 303)
        response.delete_cookie(SESSION, path=base or "/")
        return response

    def _page(
        self, request: Request, title: str, there: str, fields: str, message: str = "", status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> Response:  # fmt: skip
        nonce = secrets.token_urlsafe(16)
        base = base_path(request)
        told = f'<p role="alert">{html.escape(message)}</p>' if message else ""
        page = _PAGE.format(
            title=title, message=told, fields=fields, action=html.escape(base + own_path(request.scope)),
            token=self._signer("form").dumps(nonce), next=html.escape(there),
        )  # fmt: skip
        response = HTMLResponse(page, status, _HEADERS | (headers or {}))
        response.set_cookie(
            FORM, nonce, max_age=FORM_SECONDS, path=base or "/", secure=request.url.scheme == "https", httponly=True,
            samesite="strict",
        )  # fmt: skip
        return response

    async def _form(self, request: Request) -> dict[str, str]:
        """What a form says, if it is one of ours.

        Raises:
            Problem: 403 for one that is not, 408, 413.
        """
        body = await small_body(request, MOST_FORM, "a form")
        pairs = parse_qs(body.decode("utf-8", "replace"), max_num_fields=16) if body.count(b"&") < 16 else {}
        form = {name: values[-1] for name, values in pairs.items()}
        try:
            nonce = self._signer("form").loads(form.get("token", ""), max_age=FORM_SECONDS)
        except (BadSignature, ValueError, TypeError):
            nonce = None
        if not isinstance(nonce, str) or not secrets.compare_digest(nonce, request.cookies.get(FORM, "")):
            raise Problem(403, "the form is too old, or is none of this server: load the page again", parameter="token")
        _check_origin(request)
        return form


def _unknown(connection: HTTPConnection) -> Problem:
    """A browser's own scripts get no challenge: the browser would ask for a password on its own."""
    by_script = "sec-fetch-mode" in connection.headers
    headers = None if by_script else {"WWW-Authenticate": 'Basic realm="dicomnet", charset="UTF-8"'}
    return Problem(401, "log in first: by the page /login, or by HTTP Basic", headers=headers)


def _wants_a_page(connection: HTTPConnection) -> bool:
    return connection.scope.get("method") in _SAFE and "text/html" in connection.headers.get("accept", "")


def _check_host(connection: HTTPConnection) -> None:
    """Refuse a name that another site gave the loopback address: its pages would be ours to a browser (DNS rebinding).

    Raises:
        Problem: 421.
    """
    server = connection.scope.get("server") or ("",)
    if connection.scope.get("dicomnet.proxied") or not is_loopback(str(server[0])):
        return
    try:
        host = urlsplit(f"//{connection.headers.get('host', '')}").hostname or ""
    except ValueError:  # an opening bracket without its end
        host = ""
    if not is_loopback(host):
        raise Problem(421, "without a login this server goes by the name localhost alone", parameter="Host")


def _check_origin(connection: HTTPConnection) -> None:
    """Refuse what a page of another site makes a browser ask.

    Raises:
        Problem: 403.
    """
    headers: Headers = connection.headers
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site in ("same-origin", "none"):
        return
    hosts = {headers.get("host", "")}
    if connection.scope.get("dicomnet.proxied"):
        hosts.add(headers.get("x-forwarded-host", ""))
    if site is None and (origin is None or origin.partition("://")[2] in hosts - {""}):
        return
    raise Problem(403, "this comes from a page of another site", parameter="Origin")


def _local(there: str, base: str) -> str:
    """An address of this server, the start page instead of any other."""
    harmless = there.startswith("/") and not there.startswith("//") and there.isprintable() and "\\" not in there
    return there if harmless else f"{base}/"
