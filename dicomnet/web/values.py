"""Values of instances as answers, read while they are sent, and by range (RFC 9110 Section 14)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import Response

from ..repository.locations import InstanceLocation
from .pieces import streamed
from .problems import Problem
from .repository import WebRepository
from .stored import StoredInstance

__all__ = ["ranged_value", "value_pieces"]


def value_pieces(
    repository: WebRepository, one: InstanceLocation, path: list[str], start: int, end: int
) -> Iterator[bytes]:
    """Bytes of a value of an instance, which is open until they are read or given up.

    Args:
        repository: what there is.
        one: the instance.
        path: of the value: its tag, or tags and numbers of items by turns.
        start, end: which bytes.

    Raises:
        Problem: see `StoredInstance.value`.
    """
    with StoredInstance(repository.blobs, one) as stored:
        yield from stored.value_range(path, start, end)


def ranged_value(
    request: Request, repository: WebRepository, one: InstanceLocation, path: list[str], headers: dict[str, str]
) -> Response:
    """A value, or the range of it that the request asks for.

    Args:
        request: may have a Range of one range of bytes.
        repository: what there is.
        one: the instance.
        path: see `value_pieces`.
        headers: of the answer.

    Raises:
        Problem: 416 for a range that the value does not have; see `StoredInstance.value`.
    """
    with StoredInstance(repository.blobs, one) as stored:
        size = stored.value_size(path)
    headers = headers | {"Accept-Ranges": "bytes"}
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if asked is None or not any(asked.groups()):
        return streamed(value_pieces(repository, one, path, 0, size), headers | {"Content-Length": str(size)})
    first, last = asked.groups()
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if start >= end:
        raise Problem(416, f"the value has {size} bytes", parameter="Range")
    headers |= {"Content-Range": f"bytes {start}-{end - 1}/{size}", "Content-Length": str(end - start)}
    return streamed(value_pieces(repository, one, path, start, end), headers, 206)
