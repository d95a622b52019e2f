"""The admin interface as an application of Starlette: HTTP, JSON and server-sent events.

The same application is served over the Unix socket, over loopback TCP with a token, and below the web console.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ...version import __version__
from ..events import Event
from ..settings import Role
from .api import OPERATIONS, Given, Message, Operation
from .face import Administered
from .openapi import description
from .problems import Problem, problem_of, problem_response
from .roles import allows

__all__ = ["HEARTBEAT", "MOST_BODY", "create_app", "live", "ready_endpoint"]

#: Bytes of a request's body.
MOST_BODY = 1 << 20
#: Seconds after which a stream of events says that it is still there.
HEARTBEAT = 15.0

RoleOf = Callable[[Request], Role | None]
Endpoint = Callable[[Request], Awaitable[Response]]


def create_app(server: Administered, role_of: RoleOf) -> Starlette:
    """The application.

    Args:
        server: what is administered.
        role_of: what the caller of a request may do; None is nothing.
    """
    asked = _Roles(server, role_of)
    grouped: dict[str, dict[str, Endpoint]] = {}
    for one in OPERATIONS:
        grouped.setdefault(one.path, {})[one.method] = _endpoint(asked, one)
    grouped["/v1/messages"]["POST"] = _message_endpoint(asked)
    grouped["/v1/events"] = {"GET": _events_endpoint(asked)}
    grouped["/v1/health/live"] = {"GET": live}
    grouped["/v1/health/ready"] = {"GET": ready_endpoint(server)}
    grouped["/metrics"] = {"GET": _metrics_endpoint(asked)}
    document = description(__version__)
    grouped["/openapi.json"] = {"GET": _document_endpoint(document)}
    routes = [Route(_matched(path), _dispatch(methods), methods=list(methods)) for path, methods in grouped.items()]
    handlers: dict[Any, Any] = {Exception: problem_response, HTTPException: problem_response, Problem: problem_response}
    return Starlette(routes=routes, exception_handlers=handlers)


def _matched(path: str) -> str:
    """A path for Starlette: an AE title may have a slash in it."""
    return path.replace("{title}", "{title:path}")


def _dispatch(methods: dict[str, Endpoint]) -> Endpoint:
    async def dispatch(request: Request) -> Response:
        endpoint = methods["GET" if request.method == "HEAD" and "GET" in methods else request.method]
        try:
            return await endpoint(request)
        except Exception as error:
            return await problem_response(request, error)

    return dispatch


class _Roles:
    def __init__(self, server: Administered, role_of: RoleOf) -> None:
        self.server = server
        self._role_of = role_of

    def require(self, request: Request, needed: Role) -> Role:
        """What the caller may do.

        Raises:
            Problem: not this.
        """
        role = self._role_of(request)
        if role is None or not allows(role, needed):
            name = _caller(request) or "an unknown caller"
            what = f"{request.method} {request.url.path}"
            self.server.base.audit.record("security-alert", user=name, what=f"refused: {what}")
            raise Problem(403, f"{name} may not {what}: that needs the role {needed}")
        return role


async def _read_body(request: Request, model: type[BaseModel]) -> Any:
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(415, "the body must be application/json")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY:
            raise Problem(413, f"the body is longer than {MOST_BODY} bytes")
    try:
        given = json.loads(bytes(body) or b"{}")
        json.dumps(given, ensure_ascii=False).encode()  # half of a surrogate pair is no text: no answer could quote it
    except (ValueError, RecursionError) as error:
        raise Problem(400, "the body is not JSON") from error
    try:
        return model.model_validate(given)
    except ValidationError as error:
        wrong = [
            {"field": ".".join(map(str, one["loc"])), "what": one["msg"]}
            for one in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise Problem(422, "the body does not fit", problems=wrong) from error


def _endpoint(asked: _Roles, operation: Operation) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        role = asked.require(request, operation.role)
        body = None if operation.body is None else await _read_body(request, operation.body)
        given = Given(asked.server, role, request.path_params, body, _caller(request))
        answer = await run_in_threadpool(operation.function, given)
        if operation.status == 204:
            return Response(status_code=204)
        return JSONResponse(answer, operation.status)

    return endpoint


def _caller(request: Request) -> str:
    caller = getattr(request.state, "caller", None)
    return "" if caller is None else str(caller.name)


def _message_endpoint(asked: _Roles) -> Endpoint:
    """The classic envelope: what fails in a message is told in it, with status 200, as its users expect."""

    async def endpoint(request: Request) -> Response:
        role = asked.require(request, "read")
        envelope: Message = await _read_body(request, Message)
        try:
            message = asked.server.messages.get(envelope.message)
            if not allows(role, message.role):
                asked.require(request, message.role)
            if envelope.service and message.owner and envelope.service != message.owner:
                raise Problem(404, f"{envelope.message} is a message of {message.owner}, not of {envelope.service}")
            data = await run_in_threadpool(message.answer, envelope.data)
        except Exception as error:
            problem = problem_of(error)
            if problem.status == 403:
                raise problem from error
            hint = problem.more.get("hint")
            said = f"{problem.detail}. {hint}" if hint else problem.detail
            return JSONResponse({"success": False, "error": said, "data": None})
        return JSONResponse({"success": True, "error": None, "data": data})

    return endpoint


def _events_endpoint(asked: _Roles) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        asked.require(request, "read")
        after = _after(request)
        types = frozenset(filter(None, request.query_params.get("types", "").split(",")))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_stream(asked.server, after, types), media_type="text/event-stream", headers=headers)

    return endpoint


def _after(request: Request) -> int | None:
    """The id after which to begin: of the header that a browser sends when it comes back, or of the query."""
    text = request.headers.get("last-event-id") or request.query_params.get("after")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise Problem(400, "the id of an event is a whole number")
    return int(text)


async def _stream(server: Administered, after: int | None, types: frozenset[str]) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    async for event in server.events.follow(after, heartbeat=HEARTBEAT):
        if event is None:
            yield b":\n\n"
        elif not types or event.type == "gap" or any(_matches(event.type, one) for one in types):
            yield encoded(event)


def _matches(kind: str, wanted: str) -> bool:
    """Whether an event is of a type, or of those below it: "client" takes "client.connected"."""
    return kind == wanted or kind.startswith(f"{wanted}.")


def encoded(event: Event) -> bytes:
    """An event as it goes over the wire."""
    return f"id: {event.id}\nevent: {event.type}\ndata: {json.dumps(event.as_json())}\n\n".encode()


async def live(_: Request) -> Response:
    """That the event loop answers."""
    return JSONResponse({"ok": True})


def ready_endpoint(server: Administered) -> Endpoint:
    """Whether the server is ready; 503 where it is not."""

    async def endpoint(_: Request) -> Response:
        checks = await run_in_threadpool(server.health)
        ok = all(one.ok for one in checks)
        found = [{"name": one.name, "ok": one.ok, "detail": one.detail} for one in checks]
        return JSONResponse({"ok": ok, "checks": found}, 200 if ok else 503)

    return endpoint


def _metrics_endpoint(asked: _Roles) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        asked.require(request, "read")
        server = asked.server
        text = await run_in_threadpool(server.metrics.exposition, list(server.addins.metrics.values()))
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return endpoint


def _document_endpoint(document: dict[str, Any]) -> Endpoint:
    async def endpoint(_: Request) -> Response:
        return JSONResponse(document)

    return endpoint
