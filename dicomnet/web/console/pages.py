"""Pages: templates, roles, messages after an action, and errors that a person can read."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

import jinja2
from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from ...errors import ConnectionFailed, DeadlineExceeded, DicomNetError, escaped
from ...server.admin import AdminError, AsyncClient
from ...server.directory import ServerDirectory
from ..addresses import base_path
from ..bodies import body_chunks, small_body
from ..problems import Problem
from ..users import allows
from .desk import Desk
from .forms import Form
from .live import Live

__all__ = ["Ask", "Console", "Handler"]

log: logging.Logger = logging.getLogger("dicomnet.web.console")

HERE = Path(__file__).parent
STATIC = HERE / "static"
#: Bytes of a form, fields of one, and seconds for which the message after an action waits for its page.
MOST_FORM, MOST_FIELDS, SAID_SECONDS = 1 << 20, 2000, 60
#: Bytes and files of an upload.
MOST_UPLOAD, MOST_FILES = 2 << 30, 5000
#: Seconds for what is done with many instances: imported, exported, deleted.
WORK_SECONDS = 3600.0
SAID = "dicomnet_said"
HTMX = ("vendor/htmx.min.js", "vendor/sse.min.js")


class Console:
    """What all pages of a console share.

    Args:
        desk: the servers.
        login: whether users log in; without, every caller administers.
        key: signs the message that waits for the next page.
    """

    def __init__(self, desk: Desk, *, login: bool, key: str) -> None:
        self.desk = desk
        self.login = login
        self.site: Callable[[], Any] | None = None
        self.makes_sites: bool = False
        self.live: Live = Live(desk, self.rendered)
        self._said = URLSafeTimedSerializer(key, salt="dicomnet said")
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._templates.filters.update(
            size=_size, ago=_duration, moment=_moment, brief=_brief, day=_day, clock=_clock,
            uri=lambda text: quote(str(text), safe=""),
        )  # fmt: skip

    @cached_property
    def scripts(self) -> tuple[str, ...]:
        """The scripts that there are; without them all pages work as plain forms."""
        return tuple(self.asset(name) for name in HTMX) if all((STATIC / name).is_file() for name in HTMX) else ()

    @cached_property
    def style(self) -> str:
        """The style sheet."""
        return self.asset("console.css")

    def asset(self, name: str) -> str:
        """The address of a file, which changes with what is in it."""
        digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
        return f"static/{name}?{digest}"

    def rendered(self, template: str, **values: Any) -> str:
        """A template, filled in."""
        return self._templates.get_template(template).render(values)

    def route(
        self,
        path: str,
        *,
        get: Handler | None = None,
        post: Handler | None = None,
        role: str = "read",
        post_role: str = "operate",
    ) -> Route:
        """A route whose handlers are called for those alone who have the role."""
        handlers = {"GET": (get, role), "HEAD": (get, role), "POST": (post, post_role)}
        methods = [name for name, (handler, _) in handlers.items() if handler is not None]

        async def endpoint(request: Request) -> Response:
            handler, needed = handlers[request.method]
            assert handler is not None
            ask = Ask(self, request)
            try:
                ask.require(needed)
                return await handler(ask)
            except (Problem, HTTPException, DicomNetError) as error:
                return self.failed(ask, error)

        return Route(path, endpoint, methods=methods)

    def failed(self, ask: Ask, error: Exception) -> Response:
        """The page that says why there is no other."""
        status, detail, hint = _told(error)
        if ask.is_fragment:
            part = self.rendered("_notice.html", kind="error", text=detail, hint=hint)
            response: Response = HTMLResponse(part, status)
        else:
            response = ask.render("error.html", status=status, title="That did not work", detail=detail, hint=hint)
        response.headers.update((error.headers or {}) if isinstance(error, Problem) else {})
        return response

    def sign(self, kind: str, text: str) -> str:
        """A message for the next page."""
        return str(self._said.dumps([kind, text[:1000]]))

    def signed(self, value: str) -> tuple[str, str] | None:
        """The message that waits, if it is one of ours."""
        with suppress(BadSignature, ValueError, TypeError):
            kind, text = self._said.loads(value, max_age=SAID_SECONDS)
            return str(kind), str(text)
        return None


class Ask:
    """One request for a page.

    Attributes:
        console: whose.
        request: of Starlette.
        user, role: who asks, and what that user may do.
    """

    def __init__(self, console: Console, request: Request) -> None:
        self.console = console
        self.request = request
        self.user: str = request.scope.get("dicomnet.user", "")
        self.role: str = request.scope.get("dicomnet.role", "read") if console.login else "administer"

    @property
    def base(self) -> str:
        """The path of the console, as the browser sees it."""
        return base_path(self.request)

    @property
    def is_fragment(self) -> bool:
        """Whether a script asks for a part of a page."""
        return "hx-request" in self.request.headers

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the address."""
        return {name: value[:1024] for name, value in self.request.query_params.items()}

    @cached_property
    def server(self) -> ServerDirectory:
        """The server that the path names.

        Raises:
            Problem: 404.
        """
        return self.console.desk.find(self.request.path_params["server"])

    @property
    def client(self) -> AsyncClient:
        """A client of that server."""
        return self.console.desk.client(self.server)

    def may(self, role: str) -> bool:
        """Whether the user has a role."""
        return allows(self.role, role)

    def require(self, role: str) -> None:
        """Go on with that role alone.

        Raises:
            Problem: 403.
        """
        if not self.may(role):
            log.warning("%s may not %s %s", self.user, self.request.method, self.request.url.path)
            raise Problem(403, f"{self.user} has the role {self.role}; this needs the role {role}")

    async def send(self, message: str, **data: Any) -> Any:
        """A message to the server's add-ins; the data of its answer."""
        return await self.client.send(message, data)

    async def work(self, message: str, **data: Any) -> Any:
        """A message about many instances, which takes as long as those do; see `send`."""
        return await self.client.send(message, data, patience=WORK_SECONDS)

    async def form(self) -> Form:
        """What the browser sent, held in memory.

        Raises:
            Problem: 400, 408, 413, 415.
        """
        kind = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in ("application/x-www-form-urlencoded", ""):
            raise Problem(415, "a form comes as application/x-www-form-urlencoded", parameter="Content-Type")
        body = await small_body(self.request, MOST_FORM, "a form")
        try:
            return Form(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS))
        except (ValueError, UnicodeDecodeError) as error:
            raise Problem(400, "the form cannot be read: too many fields, or no UTF-8", parameter="body") from error

    async def upload(self) -> Form:
        """A form with files, which are kept in files while they come.

        Raises:
            Problem: 400, 408, 413, 415.
        """
        if not self.request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise Problem(415, "files come as multipart/form-data", parameter="Content-Type")
        taken = 0

        async def bounded() -> Any:
            nonlocal taken
            async for chunk in body_chunks(self.request):
                taken += len(chunk)
                if taken > MOST_UPLOAD:
                    raise Problem(413, f"an upload has at most {_size(MOST_UPLOAD)}", parameter="body")
                yield chunk

        parser = MultiPartParser(self.request.headers, bounded(), max_files=MOST_FILES, max_fields=100)
        try:
            given = await parser.parse()
        except MultiPartException as error:
            raise Problem(400, f"the upload cannot be read: {error.message}", parameter="body") from error
        pairs = [(name, value) for name, value in given.multi_items() if isinstance(value, str)]
        return Form(pairs, [one for _, one in given.multi_items() if isinstance(one, UploadFile)])

    def render(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """A page, or its part for a script."""
        server = self.request.path_params.get("server", "")
        said = self.console.signed(self.request.cookies.get(SAID, ""))
        addins: tuple[str, ...] = ()
        if server:
            with suppress(Problem):
                addins = self.console.desk.addins(self.server)
        text = self.console.rendered(
            template, ask=self, base=self.base, said=said, name=server, addins=addins, status=status, **values
        )
        response = HTMLResponse(text, status)
        if said is not None:
            response.delete_cookie(SAID, path=self.base or "/")
        return response

    def found_at(self, page: str) -> str:
        """The path of a page of this server, with the search that the form was sent from."""
        query = self.request.url.query
        return f"/servers/{self.server.name}/{page}" + (f"?{query}" if query else "")

    def done(self, text: str, path: str, kind: str = "done") -> Response:
        """Another page, which says what was done; a reload does nothing again."""
        log.info("%s: %s %s", self.user or "local", self.request.method, self.request.url.path)
        where = f"{self.base}{path}"
        if self.is_fragment:
            return HTMLResponse(self.console.rendered("_notice.html", kind=kind, text=text, hint=""))
        response = RedirectResponse(where, 303)
        response.set_cookie(
            SAID, self.console.sign(kind, text), max_age=SAID_SECONDS, path=self.base or "/", httponly=True,
            secure=self.request.url.scheme == "https", samesite="strict",
        )  # fmt: skip
        return response


Handler = Callable[[Ask], Awaitable[Response]]


def problems_of(error: DicomNetError) -> list[dict[str, Any]]:
    """The mistakes that an answer names, each with its field."""
    return list(error.problem.get("problems", ())) if isinstance(error, AdminError) else []


def _told(error: Exception) -> tuple[int, str, str]:
    """Status, sentence and hint of an error."""
    if isinstance(error, Problem):
        return error.status, error.detail, ""
    if isinstance(error, HTTPException):
        return error.status_code, str(error.detail), ""
    assert isinstance(error, DicomNetError)
    status = 422
    if isinstance(error, AdminError):
        status = error.status
    elif isinstance(error, ConnectionFailed | DeadlineExceeded):
        status = 503
    return status, escaped(error.message), error.hint or ""


def _size(value: float | None) -> str:
    if value is None:
        return ""
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _moment(seconds: float | None) -> str:
    return "" if not seconds else datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _day(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text


def _clock(text: str) -> str:
    return f"{text[:2]}:{text[2:4]}" if len(text) >= 4 and text[:4].isdigit() else text


def _brief(uid: str) -> str:
    return uid if len(uid) <= 24 else f"{uid[:12]}…{uid[-8:]}"
