"""What the web services are, for programs: OpenAPI, and the capabilities of PS3.18 Section 8.9, from one table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any
from xml.sax.saxutils import quoteattr

from starlette.requests import Request
from starlette.responses import Response

from ..server.admin.problems import problem_schema
from ..version import __version__
from .addresses import base_path, base_url
from .json_text import json_bytes
from .media_types import DICOM, DICOM_JSON, best, ranges_of

__all__ = ["OPERATIONS", "Operation", "capabilities", "description", "openapi"]

_PICTURES = ("image/jpeg", "image/png", "image/gif")
_PAGING = ("limit", "offset")
_MULTIPART = "multipart/related"
_RENDERED = (*_PICTURES, "application/pdf", "text/xml", "video/mp4")
_FRAMES = (
    _MULTIPART, "application/octet-stream", "image/jpeg", "image/jls", "image/jp2", "image/jphc", "image/dicom-rle",
)  # fmt: skip
_PROBLEM = "application/problem+json"
_WADL = "application/vnd.sun.wadl+xml"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        method, path: of HTTP, at the root of the web server; parameters of the path in braces.
        summary: what it does.
        query: names of its parameters; others may be keys of a search.
        takes: media types of its body.
        gives: media types of what it answers with; empty: an answer without a body.
        statuses: of success.
        role: what a caller must be who has logged in.
    """

    method: str
    path: str
    summary: str
    query: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
    statuses: tuple[int, ...] = (200,)
    role: str = "read"


_STUDY, _SERIES = "/dicomweb/studies/{study}", "/dicomweb/studies/{study}/series/{series}"
_INSTANCE, _FRAME = _SERIES + "/instances/{instance}", _SERIES + "/instances/{instance}/frames/{frames}"
_LEVELS = ((_STUDY, "study"), (_SERIES, "series"), (_INSTANCE, "instance"))
_SEARCHES = (
    "/dicomweb/studies", "/dicomweb/series", "/dicomweb/instances", _STUDY + "/series", _STUDY + "/instances",
    _SERIES + "/instances",
)  # fmt: skip
_PICTURE = ("window", "viewport", "quality", "accept")
_ITEM, _SUBSCRIBER = "/dicomweb/workitems/{workitem}", "/dicomweb/workitems/{workitem}/subscribers/{aet}"
_WORKLIST = "/dicomweb/modality-scheduled-procedure-steps"
_STEP = "/dicomweb/modality-performed-procedure-steps/{step}"
_JSON = (DICOM_JSON,)

OPERATIONS: tuple[Operation, ...] = (
    *(
        Operation("GET", path, f"Search {path.rpartition('/')[2]} (QIDO-RS)",
                  (*_PAGING, "includefield", "fuzzymatching", "emptyvaluematching", "PatientID"),
                  gives=(*_JSON, _MULTIPART),
                  statuses=(200, 204))
        for path in _SEARCHES
    ),
    *(Operation("GET", path, f"Retrieve a {name} (WADO-RS)", ("accept",), gives=(_MULTIPART, DICOM))
      for path, name in _LEVELS),
    *(Operation("GET", f"{path}/metadata", f"Metadata of a {name}", ("accept",), gives=(*_JSON, _MULTIPART))
      for path, name in _LEVELS),
    *(Operation("GET", f"{path}/rendered", f"A picture of a {name}", _PICTURE, gives=_RENDERED)
      for path, name in _LEVELS),
    Operation("GET", f"{_SERIES}/surface", "The surface of a series at a level, as triangles: binary PLY, "
              "of each vertex six float32 (place in LPS and mm, normal), of each triangle three int32",
              ("level", "triangles"), gives=("model/ply",)),
    *(Operation("GET", f"{path}/thumbnail", f"A small picture of a {name}", _PICTURE, gives=_PICTURES)
      for path, name in _LEVELS),
    Operation("GET", _FRAME, "Frames", ("accept",), gives=_FRAMES),
    Operation("GET", f"{_FRAME}/rendered", "A picture of a frame", _PICTURE, gives=_PICTURES),
    Operation("GET", f"{_FRAME}/thumbnail", "A small picture of a frame", _PICTURE, gives=_PICTURES),
    Operation("GET", f"{_INSTANCE}/bulkdata/{{path}}", "One value", gives=(_MULTIPART, "application/octet-stream"),
              statuses=(200, 206)),
    *(Operation("POST", path, "Store instances (STOW-RS)", takes=(_MULTIPART, DICOM), gives=_JSON,
                statuses=(200, 202), role="operate") for path in ("/dicomweb/studies", _STUDY)),
    *(Operation("DELETE", path, f"Delete a {name}", statuses=(204,), role="administer") for path, name in _LEVELS),
    Operation("GET", "/wado", "An instance or a picture of it (WADO-URI)",
              ("requestType", "studyUID", "seriesUID", "objectUID", "contentType", "frameNumber", "rows", "columns",
               "region", "windowCenter", "windowWidth", "imageQuality", "transferSyntax", "presentationUID"),
              gives=(DICOM, *_RENDERED)),
    Operation("GET", _WORKLIST, "Search scheduled procedure steps", _PAGING, gives=_JSON, statuses=(200, 204)),
    Operation("POST", _WORKLIST, "Add an item to the worklist", takes=_JSON, gives=_JSON, statuses=(201,),
              role="operate"),
    Operation("GET", _WORKLIST + "/{item}", "An item of the worklist", gives=_JSON),
    Operation("PATCH", _WORKLIST + "/{item}", "Change an item of the worklist", takes=_JSON, gives=_JSON,
              role="operate"),
    Operation("DELETE", _WORKLIST + "/{item}", "Remove an item of the worklist", statuses=(204,), role="operate"),
    Operation("POST", _STEP, "Begin a performed procedure step; with update: change it", ("update",), takes=_JSON,
              statuses=(200, 201), role="operate"),
    Operation("GET", _STEP, "A performed procedure step", gives=_JSON),
    Operation("DELETE", _STEP, "Forget a performed procedure step", statuses=(204,), role="operate"),
    Operation("GET", "/dicomweb/workitems", "Search work items (UPS-RS)", _PAGING, gives=_JSON, statuses=(200, 204)),
    Operation("POST", "/dicomweb/workitems", "Create a work item", ("workitem",), takes=_JSON, statuses=(201,),
              role="operate"),
    Operation("GET", _ITEM, "A work item", gives=_JSON),
    Operation("POST", _ITEM, "Change a work item", ("transaction-uid",), takes=_JSON, role="operate"),
    Operation("PUT", f"{_ITEM}/state", "Take, complete or cancel a work item", takes=_JSON, role="operate"),
    Operation("POST", f"{_ITEM}/cancelrequest", "Ask that a work item be cancelled", takes=_JSON, statuses=(202,),
              role="operate"),
    Operation("POST", _SUBSCRIBER, "Subscribe to a work item, or to all", ("deletionlock", "filter"), statuses=(201,),
              role="operate"),
    Operation("DELETE", _SUBSCRIBER, "Unsubscribe", role="operate"),
    Operation("POST", f"{_SUBSCRIBER}/suspend", "Subscribe to no more new items", role="operate"),
    Operation("OPTIONS", "/dicomweb/", "Capabilities", gives=(_WADL, "application/json")),
    Operation("GET", "/health", "Whether the server lives", gives=("text/plain",)),
    Operation("GET", "/metrics", "Metrics for Prometheus", gives=("text/plain",), role="administer"),
)  # fmt: skip

_DATA_SET = {
    "type": "object",
    "description": "DICOM JSON (PS3.18 Annex F)",
    "propertyNames": {"pattern": "^[0-9A-F]{8}$"},
    "additionalProperties": {
        "type": "object",
        "required": ["vr"],
        "properties": {
            "vr": {"type": "string", "pattern": "^[A-Z]{2}$"},
            "Value": {"type": "array"},
            "BulkDataURI": {"type": "string"},
            "InlineBinary": {"type": "string"},
        },
    },
}


@cache
def description(root: str = "") -> dict[str, Any]:
    """The OpenAPI 3.1 document of a server whose paths begin with ``root``."""
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {"title": "dicomnet web services", "version": __version__},
        "servers": [{"url": root or "/"}],
        "paths": paths,
        "components": {
            "schemas": {"Problem": problem_schema("parameter"), "DataSet": _DATA_SET},
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
        },
    }


def _operation(one: Operation) -> dict[str, Any]:
    text = {"type": "string"}
    path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)}", one.path)
    ]
    query = [{"name": name, "in": "query", "required": False, "schema": text} for name in one.query]
    problem = {"content": {_PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    found: dict[str, Any] = {
        "summary": one.summary,
        "operationId": f"{one.method.lower()}{re.sub(r'[^a-zA-Z]+', '_', one.path)}",
        "parameters": path + query,
        "responses": {
            **{str(status): _answer(one, status) for status in one.statuses},
            "4XX": {"description": "a problem document, or the outcome of each instance", **problem},
            "503": {"description": "not now", **problem},
        },
        "x-role": one.role,
    }
    found["responses"]["4XX"]["content"] |= {DICOM_JSON: {}} if "STOW" in one.summary else {}
    if one.takes:
        data_set = {"$ref": "#/components/schemas/DataSet"}
        content = {kind: {"schema": data_set if kind == DICOM_JSON else {"type": "string"}} for kind in one.takes}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _answer(one: Operation, status: int) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "done"}
    if one.gives and status != 204:
        answer["content"] = {kind: {} for kind in one.gives}
    return answer


async def openapi(request: Request) -> Response:
    """``GET /openapi.json``."""
    return Response(json_bytes(description(base_path(request))), media_type="application/json")


async def capabilities(request: Request) -> Response:
    """``OPTIONS /``: as WADL, or as the OpenAPI document."""
    if best(ranges_of(request), (_WADL, "application/json")) == "application/json":
        # Its paths begin at the root of the server, which has us at /dicomweb.
        document = description(base_path(request).removesuffix("/dicomweb"))
        return Response(json_bytes(document), media_type="application/json")
    return Response(_wadl(base_url(request)), media_type=_WADL)


def _wadl(base: str) -> str:
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<application xmlns="http://wadl.dev.java.net/2009/02"><resources base={quoteattr(base)}>',
    ]
    for path in dict.fromkeys(one.path for one in OPERATIONS if one.path.startswith("/dicomweb/")):
        lines.append(f"<resource path={quoteattr(path.removeprefix('/dicomweb/'))}>")
        lines += [_wadl_method(one) for one in OPERATIONS if one.path == path]
        lines.append("</resource>")
    return "\n".join([*lines, "</resources></application>", ""])


def _wadl_method(one: Operation) -> str:
    parameters = "".join(f'<param name="{name}" style="query"/>' for name in one.query)
    takes = "".join(f'<representation mediaType="{kind}"/>' for kind in one.takes)
    gives = "".join(f'<representation mediaType="{kind}"/>' for kind in one.gives)
    statuses = " ".join(map(str, one.statuses))
    request = f"<request>{parameters}{takes}</request>"
    return f'<method name="{one.method}">{request}<response status="{statuses}">{gives}</response></method>'
