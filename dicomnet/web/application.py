"""The web application: DICOMweb under ``/dicomweb``, the viewer under ``/viewer``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from ..repository.catalog import Level
from ..server.base import AuditTrail
from . import retrieve
from .addresses import base_path
from .browsers import NoSniff
from .json_text import json_bytes
from .limits import RateLimit
from .login import Local, Login
from .metrics import WebMetrics
from .mpps import step_routes
from .openapi import capabilities, openapi
from .problems import Problem, problem_response
from .proxies import TrustedProxies
from .renderer import Renderer
from .rendering import Rendering
from .repository import WebRepository
from .request_log import RequestLog
from .search import search
from .settings import WebSettings
from .store import store
from .surfaces import Surfaces
from .users import Users
from .wado_uri import wado_uri_route
from .workitems import workitem_routes
from .worklist import worklist_routes

__all__ = ["application", "dicomweb"]

_Handler = Callable[[Request, WebRepository], Response]


def dicomweb(repository: WebRepository, renderer: Renderer | None = None) -> Starlette:
    """The DICOMweb services over a repository, to be mounted anywhere (PS3.18).

    Args:
        repository: what there is.
        renderer: draws its pictures; its owner closes it.
    """
    routes = [
        *_routes(repository, renderer or Renderer()),
        *worklist_routes(repository),
        *workitem_routes(repository),
        *(step_routes(repository.steps) if repository.steps is not None else ()),
        Route("/", capabilities, methods=["OPTIONS", "GET"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(NoSniff)], exception_handlers=_HANDLERS)


def _routes(repository: WebRepository, renderer: Renderer) -> list[BaseRoute]:
    packed = retrieve.series_metadata(repository)
    rendering, surfaces = Rendering(repository, renderer), Surfaces(repository, renderer)

    def get(path: str, handler: _Handler) -> Route:
        def endpoint(request: Request) -> Response:
            return handler(request, repository)

        return Route(path, endpoint, methods=["GET"])

    def metadata(request: Request, _: WebRepository) -> Response:
        return retrieve.metadata(request, repository, packed)

    def frames(request: Request, _: WebRepository) -> Response:
        return retrieve.frames(request, repository, renderer)

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
        get(instance + "/frames/{frames}", frames),
        get(instance + "/bulkdata/{path:path}", retrieve.bulk_data),
        get(study + "/instances/{instance}/bulkdata/{path:path}", retrieve.bulk_data),
    ]
    routes += [get(f"{series}/surface", surfaces.surface)]
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


async def _failed(request: Request, error: Exception) -> Response:
    """Our mistake: the log says more than the caller is told."""
    return await problem_response(request, Problem(500, "the server failed at this request; its log says more"))


_HANDLERS: dict[Any, Any] = {Problem: problem_response, HTTPException: _http, Exception: _failed}


def application(
    repository: WebRepository,
    *,
    viewer: ASGIApp | None = None,
    settings: WebSettings | None = None,
    users: Users | None = None,
    audit: AuditTrail | None = None,
) -> ASGIApp:
    """All that an archive serves over HTTP.

    Args:
        repository: what it holds.
        viewer: the application under ``/viewer``; its start page is where ``/`` leads.
        settings: its limits, and the proxies that it trusts.
        users: who may come in; None: every caller that reaches it.
        audit: hears who logs in; None: there is no audit trail.
    """
    settings, metrics, renderer = settings or WebSettings(), WebMetrics(), Renderer()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        renderer.close()

    routes = _application_routes(repository, viewer, metrics, renderer)
    app: ASGIApp = Starlette(routes=routes, exception_handlers=_HANDLERS, lifespan=lifespan)
    app = Login(app, users, settings.session_hours, metrics, audit=audit) if users is not None else Local(app)
    app = RequestLog(RateLimit(app, settings.requests_per_second, settings.burst), metrics)
    return TrustedProxies(app, settings.networks()) if settings.proxies else app


def _application_routes(
    repository: WebRepository, viewer: ASGIApp | None, metrics: WebMetrics, renderer: Renderer
) -> list[BaseRoute]:
    async def home(request: Request) -> Response:
        if viewer is not None:
            return RedirectResponse(f"{base_path(request)}/viewer/")
        return Response(json_bytes({"dicomweb": "dicomweb"}), media_type="application/json")

    async def health(_: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    async def figures(_: Request) -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4")

    routes: list[BaseRoute] = [
        Route("/", home),
        Route("/health", health),
        Route("/metrics", figures),
        Route("/openapi.json", openapi),
        wado_uri_route(repository, Rendering(repository, renderer)),
        Mount("/dicomweb", dicomweb(repository, renderer)),
    ]
    if viewer is not None:
        routes.append(Mount("/viewer", viewer))
    return routes
