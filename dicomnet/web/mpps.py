"""Modality performed procedure steps over HTTP (PS3.18 Section 15): create, update, retrieve, delete."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..status import Status
from .addresses import base_url
from .bodies import json_answer, json_item
from .problems import Problem
from .repository import Steps

__all__ = ["PATH", "step_routes"]

PATH = "/modality-performed-procedure-steps"
#: Who tells of a step that comes over HTTP.
CALLING = "WEB"
_STATUSES = {
    int(Status.DUPLICATE_SOP_INSTANCE): 409,
    int(Status.NO_SUCH_SOP_INSTANCE): 404,
    int(Status.NO_SUCH_ATTRIBUTE): 409,
    int(Status.PROCESSING_FAILURE): 409,
}


def step_routes(steps: Steps) -> list[BaseRoute]:
    """The routes of performed procedure steps below DICOMweb."""

    async def report(request: Request) -> Response:
        """A step begins; with ``?update`` it changes."""
        item, uid = await json_item(request), str(request.path_params["uid"])
        item = {tag: one for tag, one in item.items() if tag not in ("00080005", "00080016", "00080018")}
        changes = "update" in request.query_params
        status = await run_in_threadpool(steps.report if changes else steps.begin, uid, item, CALLING)
        if not status.is_success:
            raise Problem(_STATUSES.get(int(status), 400), status.comment or str(status), parameter="body")
        headers = {"Location": f"{base_url(request)}{PATH}/{uid}"}
        return Response(status_code=200) if changes else Response(status_code=201, headers=headers)

    def get(request: Request) -> Response:
        step = steps.find(str(request.path_params["uid"]))
        if step is None:
            raise Problem(404, "there is no such performed procedure step")
        return json_answer(request, [step.item | {"00080018": {"vr": "UI", "Value": [step.uid]}}])

    def remove(request: Request) -> Response:
        if not steps.remove(str(request.path_params["uid"])):
            raise Problem(404, "there is no such performed procedure step")
        return Response(status_code=204)

    one = PATH + "/{uid}"
    return [
        Route(one, report, methods=["POST"]),
        Route(one, get, methods=["GET"]),
        Route(one, remove, methods=["DELETE"]),
    ]
