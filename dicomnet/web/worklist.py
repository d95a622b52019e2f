"""The modality worklist over HTTP: search (PS3.18 Section 14), and items that are made, changed and removed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TypeVar

from sqlalchemy.exc import IntegrityError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..errors import InvalidArgument
from ..repository.worklist import NoSuchItem, Worklist, WorklistConflict
from ..repository.worklist_item import Entry
from ..repository.worklist_query import WorklistQuery
from .addresses import base_url
from .bodies import json_answer, json_item
from .problems import Problem
from .repository import WebRepository
from .search import cut, identifier_of, page_of, query_keys

__all__ = ["PATH", "worklist_routes"]

PATH = "/modality-scheduled-procedure-steps"
_RETRIEVE_URL = "00081190"

T = TypeVar("T")


def worklist_routes(repository: WebRepository) -> list[BaseRoute]:
    """The routes of the worklist below DICOMweb."""
    served, one = _Served(Worklist(repository.index.database)), PATH + "/{number}"
    return [
        Route(PATH, served.search, methods=["GET"]),
        Route(PATH, served.add, methods=["POST"]),
        Route(one, served.get, methods=["GET"]),
        Route(one, served.change, methods=["PATCH", "POST"]),
        Route(one, served.remove, methods=["DELETE"]),
    ]


class _Served:
    def __init__(self, worklist: Worklist) -> None:
        self._worklist = worklist

    def search(self, request: Request) -> Response:
        query = request.query_params
        limit, offset = page_of(query)
        matches = self._worklist.search(WorklistQuery(identifier_of(query_keys(query))))
        base = base_url(request)
        found = [item | _address(base, number) for number, item in islice(matches, offset, offset + limit + 1)]
        headers = cut(found, limit)
        return json_answer(request, found, headers=headers) if found else Response(status_code=204, headers=headers)

    async def add(self, request: Request) -> Response:
        item = await json_item(request)
        item.pop(_RETRIEVE_URL, None)
        entry = await run_in_threadpool(_tried, lambda: self._worklist.add(item))
        return _answer(request, entry, 201, {"Location": f"{base_url(request)}{PATH}/{entry.id}"})

    def get(self, request: Request) -> Response:
        return _answer(request, _tried(lambda: self._worklist.get(_number(request))))

    async def change(self, request: Request) -> Response:
        changes, number, version = await json_item(request), _number(request), _version(request)
        changes.pop(_RETRIEVE_URL, None)
        change = self._worklist.change
        entry = await run_in_threadpool(_tried, lambda: change(number, changes, version=version))
        return _answer(request, entry)

    def remove(self, request: Request) -> Response:
        _tried(lambda: self._worklist.remove(_number(request)))
        return Response(status_code=204)


def _answer(request: Request, entry: Entry, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    item = entry.item | _address(base_url(request), entry.id)
    return json_answer(request, [item], status, {"ETag": f'"{entry.version}"', **(headers or {})})


def _address(base: str, number: int) -> dict[str, dict[str, object]]:
    return {_RETRIEVE_URL: {"vr": "UR", "Value": [f"{base}{PATH}/{number}"]}}


def _number(request: Request) -> int:
    text = str(request.path_params["number"])
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise Problem(404, "there is no such item of the worklist")
    return int(text)


def _version(request: Request) -> int | None:
    """The version that an item must have, by If-Match."""
    text = request.headers.get("if-match", "").strip().strip('"')
    if text in ("", "*"):
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


def _tried(work: Callable[[], T]) -> T:
    """Do it, or say as a problem why not."""
    try:
        return work()
    except NoSuchItem as error:
        raise Problem(404, "there is no such item of the worklist") from error
    except WorklistConflict as error:
        raise Problem(409, error.message, parameter="body") from error
    except IntegrityError as error:
        raise Problem(409, "the item contradicts another one", parameter="body") from error
    except InvalidArgument as error:
        raise Problem(400, error.message, parameter="body") from error
