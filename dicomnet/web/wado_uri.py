"""WADO-URI: one instance, or a picture of it, by the parameters of a query (PS3.18 Section 9)."""

from __future__ import annotations

import dataclasses

from starlette.datastructures import QueryParams
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .. import uids
from ..repository.catalog import Level
from ..repository.locations import InstanceLocation
from ..repository.scope import Scope
from .browsers import NoSniff
from .drawing import Wish
from .media_types import DICOM, MediaType, accepted, best
from .pieces import streamed
from .problems import Problem
from .rendering import IMAGE_TYPES, Rendering, wish_of
from .repository import WebRepository
from .retrieve import as_part, frame_count
from .users import scope_of

__all__ = ["wado_uri_route"]

_OF_PICTURES = ("rows", "columns", "region", "windowCenter", "windowWidth", "imageQuality", "presentationUID")


def wado_uri_route(repository: WebRepository, rendering: Rendering) -> Route:
    """The route ``/wado``."""

    def endpoint(request: Request) -> Response:
        query = request.query_params
        if query.get("requestType", "").upper() != "WADO":
            raise Problem(400, "requestType is WADO", parameter="requestType")
        if query.get("anonymize", "no").lower() not in ("", "no"):
            raise Problem(400, "instances are not anonymized here", parameter="anonymize")
        scope = scope_of(request)
        one = _found(query, repository, scope)
        ranges = _wanted(request)
        offered = IMAGE_TYPES if _is_picture(one, repository) else (DICOM, *IMAGE_TYPES)
        if best(ranges, (*offered, DICOM, "application/pdf", "text/xml", "video/mp4")) == DICOM:
            return _instance(query, repository, one)
        number = _whole(query, "frameNumber", 1)
        if one.ts and not any(range_.accepts(kind) for range_ in ranges for kind in IMAGE_TYPES):
            return rendering.answer(request, one, ranges, number)
        wish = _wish(query, best(ranges, IMAGE_TYPES))
        body = rendering.picture(one, number, wish, _state(query, repository, scope), scope)
        return Response(body, media_type=wish.media_type)

    return Route("/wado", endpoint, methods=["GET"], middleware=[Middleware(NoSniff)])


def _found(query: QueryParams, repository: WebRepository, scope: Scope) -> InstanceLocation:
    for name in ("studyUID", "seriesUID", "objectUID"):
        if not uids.is_valid(query.get(name, "")):
            raise Problem(400, f"{name} is a UID", parameter=name)
    for one in repository.index.instances(Level.IMAGE, [query["objectUID"]], scope=scope):
        if (one.study_uid, one.series_uid) == (query["studyUID"], query["seriesUID"]):
            return one
    raise Problem(404, "there is no such instance", parameter="objectUID")


def _wanted(request: Request) -> list[MediaType]:
    """What ``contentType`` says; the Accept header where it does not say."""
    return accepted(request.headers.getlist("accept"), request.query_params.get("contentType"))


def _is_picture(one: InstanceLocation, repository: WebRepository) -> bool:
    """Whether it comes as a picture where it is not said: a single frame (PS3.18 Table 9.1.2.2.1)."""
    return frame_count(repository, one) == 1


def _instance(query: QueryParams, repository: WebRepository, one: InstanceLocation) -> Response:
    for name in _OF_PICTURES:
        if query.get(name):
            raise Problem(400, f"{name} is for pictures", parameter=name)
    syntax = query.get("transferSyntax", "")
    if syntax and not uids.is_valid(syntax):
        raise Problem(400, "transferSyntax is a UID", parameter="transferSyntax")
    part = as_part(repository, one, syntax)
    return streamed(part.chunks, {"Content-Type": part.content_type})


def _wish(query: QueryParams, kind: str) -> Wish:
    """The parameters of ``rendered``, from those of WADO-URI."""
    centre, width = query.get("windowCenter", ""), query.get("windowWidth", "")
    if bool(centre) != bool(width):
        raise Problem(400, "windowCenter and windowWidth go together", parameter="windowCenter")
    rows, columns = _whole(query, "rows", 0), _whole(query, "columns", 0)
    names = {
        "window": f"{centre},{width}" if centre else "",
        "viewport": f"{columns or rows},{rows or columns}" if rows or columns else "",
        "quality": query.get("imageQuality", ""),
    }
    wish = wish_of(QueryParams({name: value for name, value in names.items() if value}), kind)
    return dataclasses.replace(wish, share=_region(query)) if query.get("region") else wish


def _region(query: QueryParams) -> tuple[float, float, float, float]:
    """Left, top, right and bottom as shares of the image."""
    try:
        left, top, right, bottom = (float(one) for one in query["region"].split(","))
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError
    except ValueError as error:
        raise Problem(400, "region is xmin,ymin,xmax,ymax from 0.0 to 1.0", parameter="region") from error
    return left, top, right, bottom


def _whole(query: QueryParams, name: str, default: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and int(text[:9]) > 0 and len(text) < 9):
        raise Problem(400, f"{name} is a number from 1 on", parameter=name)
    return int(text)


def _state(query: QueryParams, repository: WebRepository, scope: Scope) -> InstanceLocation | None:
    uid = query.get("presentationUID", "")
    if not uid:
        return None
    series = query.get("presentationSeriesUID", "")
    for one in repository.index.instances(Level.IMAGE, [uid], scope=scope):
        if one.study_uid == query["studyUID"] and series in ("", one.series_uid):
            return one
    raise Problem(404, "there is no such presentation state", parameter="presentationUID")
