"""Bodies of requests, held to their bounds, and DICOM JSON in them (PS3.18 Annex F), held to its form."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from .. import uids
from ..dataset import codec
from ..dataset.vr import PERSON_NAME_GROUPS
from ..repository.dicom_json import DicomJson
from .json_text import json_bytes
from .media_types import DICOM_JSON, best, parse, ranges_of
from .problems import Problem

__all__ = [
    "MOST_DEPTH",
    "body_chunks",
    "check_item",
    "json_answer",
    "json_item",
    "json_items",
    "small_body",
]

#: Bytes of a data set in JSON, and how deep its sequences may nest.
MOST_BODY, MOST_DEPTH = 4 << 20, 16
#: Seconds within which a body that is held in memory has come.
BODY_SECONDS = 30.0
#: Seconds for which a body may stand still that is taken piece by piece.
STALL = 60.0
_is_tag = re.compile(r"[0-9A-F]{8}").fullmatch
_is_vr = re.compile(r"[A-Z]{2}").fullmatch


async def small_body(request: Request, most: int, what: str) -> bytes:
    """A body that is held in memory.

    Args:
        request: that brings it.
        most: bytes of it.
        what: it is, for the caller who sends more.

    Raises:
        Problem: 408 for one that does not come in time, 413.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise Problem(413, f"{what} has at most {most} bytes", parameter="body")
    except TimeoutError as error:
        raise Problem(408, f"the body has not come within {BODY_SECONDS:g} s", parameter="body") from error
    except ClientDisconnect as error:
        raise Problem(408, "the client went away", parameter="body") from error
    return bytes(body)


async def body_chunks(request: Request) -> AsyncIterator[bytes]:
    """A body piece by piece, and an empty piece where it ends.

    Raises:
        Problem: 408 for a client that goes away, or sends nothing for `STALL` seconds.
    """
    stream = request.stream()
    try:
        while True:
            async with asyncio.timeout(STALL):
                chunk = await anext(stream, None)
            if chunk is None:
                break
            if chunk:
                yield chunk
    except TimeoutError as error:
        raise Problem(408, f"nothing came for {STALL:g} s", parameter="body") from error
    except ClientDisconnect as error:
        raise Problem(408, "the client went away", parameter="body") from error
    yield b""


async def json_item(request: Request) -> DicomJson:
    """The data set that a request brings: an object, or an array of one.

    Raises:
        Problem: 400 for what is none, 408, 413, 415.
    """
    kind = parse(request.headers.get("content-type", DICOM_JSON)).type
    if kind not in (DICOM_JSON, "application/json"):
        raise Problem(415, f"data sets come as {DICOM_JSON}", parameter="Content-Type")
    body = await small_body(request, MOST_BODY, "a data set")
    try:
        value = json.loads(body, parse_constant=_no_constant) if body else {}
    except (ValueError, RecursionError) as error:
        raise Problem(400, "the body is not JSON", parameter="body") from error
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    check_item(value)
    found: DicomJson = value
    await run_in_threadpool(_check_encodable, found)
    return found


def json_items(body: bytes) -> list[DicomJson]:
    """The data sets of a text: an array of objects.

    Raises:
        Problem: 400 for what is none.
    """
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "the part is not JSON", parameter="body") from error
    items: list[DicomJson] = value if isinstance(value, list) else [value]
    for item in items:
        check_item(item)
    return items


def _check_encodable(item: DicomJson) -> None:
    """What could not be told over DIMSE is not taken over HTTP, either."""
    from pydicom.dataset import Dataset  # noqa: PLC0415 late on purpose

    try:
        dataset = Dataset.from_json(item)
        dataset.SpecificCharacterSet = "ISO_IR 192"
        codec.encode(dataset, uids.EXPLICIT_VR_LITTLE_ENDIAN)
    except Exception as error:  # whatever pydicom stumbles over
        raise Problem(400, "a value is none of its value representation", parameter="body") from error


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def check_item(item: Any, path: str = "", depth: int = 0) -> None:
    """See that something is a data set in the DICOM JSON model.

    Raises:
        Problem: 400, it is not.
    """
    if not isinstance(item, dict):
        raise Problem(400, f"{path or 'the body'} is no data set: an object of elements by tag", parameter="body")
    if depth > MOST_DEPTH:
        raise Problem(400, "sequences nest too deep", parameter="body")
    for tag, element in item.items():
        if not _is_tag(tag):
            raise Problem(400, f"{tag[:16]!r} is no tag: eight hexadecimal digits, in capitals", parameter="body")
        where = f"{path}{tag}"
        if not isinstance(element, dict) or not isinstance(element.get("vr"), str) or not _is_vr(element["vr"]):
            raise Problem(400, "an element is an object with its vr", parameter=where)
        values = element.get("Value", [])
        if not isinstance(values, list) or not isinstance(element.get("InlineBinary", ""), str):
            raise Problem(400, "Value is an array, and InlineBinary text", parameter=where)
        for value in values:
            _check_value(value, element["vr"], where, depth)


def _check_value(value: Any, vr: str, where: str, depth: int) -> None:
    if vr == "SQ":
        if value is not None:
            check_item(value, f"{where}.", depth + 1)
    elif vr == "PN" and isinstance(value, dict):
        if not value.keys() <= set(PERSON_NAME_GROUPS) or not all(isinstance(one, str) for one in value.values()):
            raise Problem(400, f"a name has {', '.join(PERSON_NAME_GROUPS)}", parameter=where)
    elif isinstance(value, dict | list):
        raise Problem(400, "a value is text or a number", parameter=where)
    elif isinstance(value, str) and "\0" in value:
        raise Problem(400, "a value has no NUL", parameter=where)


def json_answer(request: Request, value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A data set, or several, as DICOM JSON.

    Raises:
        Problem: 406, where the request does not take it.
    """
    kind = best(ranges_of(request), (DICOM_JSON, "application/json"))
    return Response(json_bytes(value), status, {"Cache-Control": "no-store", **(headers or {})}, media_type=kind)
