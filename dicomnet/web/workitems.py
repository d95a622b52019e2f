"""UPS-RS: work items, their states, and who is told of them (PS3.18 Section 11)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from .. import uids
from ..config import check_ae_title
from ..errors import InvalidArgument
from ..repository.dicom_json import text_at
from ..repository.workitem_rules import MEANINGS, STATE, TRANSACTION, WorkitemRefused
from ..repository.workitems import FILTERED, GLOBAL, Workitems
from .addresses import base_url
from .bodies import json_answer, json_item
from .channels import Channels
from .problems import Problem
from .repository import WebRepository
from .search import cut, flagged, identifier_of, page_of, query_keys

__all__ = ["workitem_routes"]

#: Codes of PS3.4 Annex CC -> statuses of HTTP; what is not here is a 400.
_STATUSES = {
    0x0111: 409, 0xB304: 409, 0xC300: 409, 0xC302: 409, 0xC303: 409, 0xC304: 409, 0xC307: 404, 0xC310: 409, 0xC311: 409,
    0xC312: 409,
}  # fmt: skip
_ENDED = 0xC300

T = TypeVar("T")


def workitem_routes(repository: WebRepository) -> list[BaseRoute]:
    """The routes of work items below DICOMweb."""
    served = _Served(repository.workitems or Workitems(repository.index.database), Channels())
    one, subscriber = "/workitems/{uid}", "/workitems/{uid}/subscribers/{aet}"
    return [
        Route("/workitems", served.search, methods=["GET"]),
        Route("/workitems", served.create, methods=["POST"]),
        Route(one, served.get, methods=["GET"]),
        Route(one, served.change, methods=["POST"]),
        Route(one + "/state", served.change_state, methods=["PUT"]),
        Route(one + "/cancelrequest", served.cancel, methods=["POST"]),
        Route(subscriber, served.subscribe, methods=["POST"]),
        Route(subscriber, served.unsubscribe, methods=["DELETE"]),
        Route(subscriber + "/suspend", served.suspend, methods=["POST"]),
        WebSocketRoute("/subscribers/{aet}", served.channel),
    ]


def _tried(work: Callable[[], T]) -> T:
    """Do it, or say as a problem why not."""
    try:
        return work()
    except WorkitemRefused as refused:
        headers = {}
        if refused.code >= 0xB000 and refused.code != 0xC307:
            headers["Warning"] = f"299 dicomnet: {refused.message}"
        raise Problem(_STATUSES.get(refused.code, 400), refused.message, headers=headers) from refused


def _warning(code: int) -> dict[str, str]:
    return {"Warning": f"299 dicomnet: {MEANINGS[code]}"} if code else {}


class _Served:
    def __init__(self, items: Workitems, channels: Channels) -> None:
        self._items, self._channels = items, channels
        items.listen(channels.publish, everywhere=True)

    async def create(self, request: Request) -> Response:
        """``POST /workitems?{uid}``."""
        item = await json_item(request)
        uid = _uid_of(request) or text_at(item, 0x00080018) or uids.new()
        if not uids.is_valid(uid):
            raise Problem(400, "the UID of a work item is no UID", parameter="workitem")
        warning = await run_in_threadpool(_tried, lambda: self._items.create(item, uid))
        location = f"{base_url(request)}/workitems/{uid}"
        headers = {"Location": location, "Content-Location": location} | _warning(warning)
        return Response(status_code=201, headers=headers)

    def get(self, request: Request) -> Response:
        """``GET /workitems/{uid}``."""
        return json_answer(request, [_tried(lambda: self._items.get(request.path_params["uid"]))])

    def search(self, request: Request) -> Response:
        """``GET /workitems``."""
        query = request.query_params
        limit, offset = page_of(query)
        keys = identifier_of(query_keys(query))
        found = self._items.search(keys, offset, limit + 1)
        headers = cut(found, limit)
        return json_answer(request, found, headers=headers) if found else Response(status_code=204, headers=headers)

    async def change(self, request: Request) -> Response:
        """``POST /workitems/{uid}?{transaction-uid}``."""
        changes, uid, transaction = await json_item(request), request.path_params["uid"], _transaction(request)

        def work() -> None:
            try:
                self._items.change(uid, changes, transaction)
            except WorkitemRefused as refused:
                if refused.code != _ENDED:
                    raise
                # An item that has ended is a bad request here, and a conflict elsewhere (PS3.18 Table 11.6.3-1).
                warning = {"Warning": f"299 dicomnet: {refused.message}"}
                raise Problem(400, refused.message, headers=warning) from refused

        await run_in_threadpool(_tried, work)
        return Response(status_code=200, headers={"Content-Location": f"{base_url(request)}/workitems/{uid}"})

    async def change_state(self, request: Request) -> Response:
        """``PUT /workitems/{uid}/state``."""
        item, uid = await json_item(request), request.path_params["uid"]
        state, transaction = text_at(item, STATE), text_at(item, TRANSACTION)
        work = self._items.change_state
        warning = await run_in_threadpool(_tried, lambda: work(uid, state, transaction))
        return Response(headers=_warning(warning))

    async def cancel(self, request: Request) -> Response:
        """``POST /workitems/{uid}/cancelrequest``."""
        why, uid = await json_item(request), request.path_params["uid"]
        await run_in_threadpool(_tried, lambda: self._items.request_cancel(uid, why))
        return Response(status_code=202)

    # ---- subscriptions -----------------------------------------------------------------------------------------

    async def subscribe(self, request: Request) -> Response:
        """``POST /workitems/{uid}/subscribers/{aet}?deletionlock=true``; with ``filter=`` for those that match."""
        uid, aet = request.path_params["uid"], _title(request.path_params["aet"])
        locked = flagged(request.query_params, "deletionlock")
        keys = _filter(request) if uid in (GLOBAL, FILTERED) else None
        if keys and uid == GLOBAL:
            uid = FILTERED
        if uid == FILTERED and not keys:
            raise Problem(400, "a filtered subscription has a filter", parameter="filter")
        identifier, text = (identifier_of(keys), json.dumps(keys)) if keys else (None, "")
        subscribe = self._items.subscribe
        warning = await run_in_threadpool(
            _tried, lambda: subscribe(aet, uid, locked=locked, keys=identifier, text=text)
        )
        base = base_url(request)
        channel = f"ws{base.removeprefix('http')}/subscribers/{aet}"
        headers = {"Content-Location": channel, "Location": channel} | _warning(warning)
        return Response(status_code=201, headers=headers)

    def unsubscribe(self, request: Request) -> Response:
        """``DELETE /workitems/{uid}/subscribers/{aet}``."""
        uid, aet = request.path_params["uid"], _title(request.path_params["aet"])
        _tried(lambda: self._items.unsubscribe(aet, uid))
        return Response()

    def suspend(self, request: Request) -> Response:
        """``POST /workitems/{uid}/subscribers/{aet}/suspend``, for the well-known UIDs."""
        uid, aet = request.path_params["uid"], _title(request.path_params["aet"])
        _tried(lambda: self._items.suspend(aet, uid))
        return Response()

    async def channel(self, socket: WebSocket) -> None:
        """``GET /subscribers/{aet}``, which becomes a WebSocket."""
        try:
            aet = _title(socket.path_params["aet"])
        except Problem:
            await socket.close(1008)
            return
        await self._channels.serve(socket, aet)


def _title(text: str) -> str:
    try:
        return check_ae_title(text)
    except InvalidArgument as error:
        raise Problem(400, "the subscriber has no AE title", parameter="aet") from error


def _uid_of(request: Request) -> str:
    """``?workitem=UID``, or ``?UID``."""
    return request.query_params.get("workitem") or _bare(request)


def _transaction(request: Request) -> str:
    """``?transaction-uid=UID``, or ``?UID``."""
    return request.query_params.get("transaction-uid") or _bare(request)


def _bare(request: Request) -> str:
    """A UID that is a parameter by itself."""
    return next((name for name, value in request.query_params.items() if not value and name[:1].isdigit()), "")


def _filter(request: Request) -> dict[str, Any]:
    """``filter=Keyword=value,Keyword=value``, or the same as parameters of their own."""
    query = request.query_params
    keys = query_keys(query, besides=("deletionlock", "filter"))
    for text in query.getlist("filter"):
        for pair in filter(None, text.split(",")):
            name, _, value = pair.partition("=")
            keys[name.strip()] = value.strip()
    return keys
