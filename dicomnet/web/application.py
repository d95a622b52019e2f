"""The web application: DICOMweb under ``/dicomweb``, the viewer under ``/viewer``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import perf_counter

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..repository.catalog import Level
from . import rendering, retrieve
from .json_text import json_bytes
from .problems import Problem, problem_response
from .repository import WebRepository
from .search import search
from .store import store

__all__ = ["application", "dicomweb"]

log = logging.getLogger("dicomnet.web")

_Handler = Callable[[Request, WebRepository], Response]


def dicomweb(repository: WebRepository) -> Starlette:
    """The DICOMweb services over a repository, to be mounted anywhere (PS3.18 Chapter 10)."""
    return Starlette(routes=_routes(repository), exception_handlers={Problem: problem_response, HTTPException: _http})


def _routes(repository: WebRepository) -> list[BaseRoute]:
    packed = retrieve.series_metadata(repository)

    def get(path: str, handler: _Handler) -> Route:
        def endpoint(request: Request) -> Response:
            return handler(request, repository)

        return Route(path, endpoint, methods=["GET"])

    def metadata(request: Request, _: WebRepository) -> Response:
        return retrieve.metadata(request, repository, packed)

    async def stow(request: Request) -> Response:
        return await store(request, repository)

    study, series = "/studies/{study}", "/studies/{study}/series/{series}"
    instance = series + "/instances/{instance}"
    routes: list[BaseRoute] = [get(path, _searching(level)) for path, level in _searches(study, series)]
    routes += [Route(path, stow, methods=["POST"]) for path in ("/studies", study)]
    routes += [get(f"{path}/metadata", metadata) for path in (study, series, instance)]
    routes += [get(f"{path}/thumbnail", rendering.thumbnail) for path in (study, series, instance)]
    routes += [get(f"{path}/rendered", rendering.rendered) for path in (study, series, instance)]
    routes += [
        get(instance + "/frames/{frames}/rendered", rendering.rendered),
        get(instance + "/frames/{frames}/thumbnail", rendering.thumbnail),
        get(instance + "/frames/{frames}", retrieve.frames),
        get(instance + "/bulkdata/{path:path}", retrieve.bulk_data),
        get(study + "/instances/{instance}/bulkdata/{path:path}", retrieve.bulk_data),
    ]
    routes += [get(path, retrieve.instances) for path in (instance, series, study)]
    if repository.delete is not None:
        routes += [Route(path, _deleting(repository), methods=["DELETE"]) for path in (instance, series, study)]
    return routes


def _searches(study: str, series: str) -> list[tuple[str, Level]]:
    return [
        ("/studies", Level.STUDY),
        ("/series", Level.SERIES),
        ("/instances", Level.IMAGE),
        (f"{study}/series", Level.SERIES),
        (f"{study}/instances", Level.IMAGE),
        (f"{series}/instances", Level.IMAGE),
    ]


def _searching(level: Level) -> _Handler:
    def handler(request: Request, repository: WebRepository) -> Response:
        return search(request, repository, level)

    return handler


def _deleting(repository: WebRepository) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        assert repository.delete is not None
        repository.delete([one.uid for one in retrieve.found(request, repository)])
        return Response(status_code=204)

    return endpoint


async def _http(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: an unknown path, a method that is not offered."""
    assert isinstance(error, HTTPException)
    return await problem_response(
        request, Problem(error.status_code, str(error.detail), headers=dict(error.headers or {}))
    )


def application(repository: WebRepository, *, viewer: ASGIApp | None = None) -> ASGIApp:
    """All that an archive serves over HTTP.

    Args:
        repository: what it holds.
        viewer: the application under ``/viewer``; its start page is where ``/`` leads.
    """

    async def home(request: Request) -> Response:
        if viewer is not None:
            return RedirectResponse(f"{request.scope.get('root_path', '')}/viewer/")
        return Response(json_bytes({"dicomweb": "dicomweb"}), media_type="application/json")

    async def health(_: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    routes: list[BaseRoute] = [
        Route("/", home),
        Route("/health", health),
        Mount("/dicomweb", dicomweb(repository)),
    ]
    if viewer is not None:
        routes.append(Mount("/viewer", viewer))
    app = Starlette(routes=routes, exception_handlers={Problem: problem_response, HTTPException: _http})
    return RequestLog(app)


class RequestLog:
    """Logs each request in one line, without its query: the path holds UIDs, and no patient data.

    Args:
        app: what serves.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, size = perf_counter(), 0, 0

        async def counted(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            client = scope.get("client") or ("", 0)
            seconds = perf_counter() - start
            log.info(
                "%s %s %s from %s: %d bytes in %.3f s", scope["method"], scope["path"], status, client[0], size, seconds
            )
