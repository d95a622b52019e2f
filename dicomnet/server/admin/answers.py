"""What the clients of the admin interface, blocking and asyncio, make of its answers, and need for requests."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import httpx_sse

from ...errors import ConnectionFailed, DeadlineExceeded, DicomNetError, InvalidArgument
from ..settings import Settings

__all__ = [
    "JSON",
    "PATIENCE",
    "AdminError",
    "checked",
    "data_of",
    "event_of",
    "failure",
    "message_of",
    "query_of",
    "socket_of",
    "title_path",
]

#: Seconds for an answer; a reload may start add-ins.
PATIENCE = 60.0
JSON = dict[str, Any]


class AdminError(DicomNetError):
    """The server declined a request.

    Attributes:
        status: of HTTP: 403 not allowed, 404 not known, 409 in conflict, 422 does not fit.
        problem: the whole problem document.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        detail = str(problem.get("detail", f"the server answered {status}"))
        lines = [f"[{one.get('table')}] {one.get('field')}: {one.get('what')}; expected {one.get('expected')}"
                 if "table" in one else f"{one.get('field')}: {one.get('what')}"
                 for one in problem.get("problems", ())]  # fmt: skip
        super().__init__("; ".join([detail, *lines]), hint=problem.get("hint"))
        self.status = status
        self.problem: dict[str, Any] = dict(problem)


def socket_of(place: str | os.PathLike[str]) -> Path:
    """The admin socket: of a server's directory, or the socket itself."""
    path = Path(place)
    if not path.is_dir():
        return path
    return Settings.load(path).admin.socket


def checked(response: httpx.Response) -> JSON:
    """What an answer says.

    Raises:
        AdminError: the server declined.
    """
    if response.status_code == 204:
        return {}
    try:
        answer = response.json()
    except ValueError as error:
        raise AdminError(response.status_code, {"detail": "the answer is not JSON"}) from error
    if response.status_code >= 400 and not (response.status_code == 503 and "checks" in answer):
        raise AdminError(response.status_code, answer)
    return dict(answer)


def failure(error: httpx.TransportError, path: Path, patience: float = PATIENCE) -> DicomNetError:
    """What to raise where no answer comes."""
    if isinstance(error, httpx.TimeoutException):
        return DeadlineExceeded("admin", patience, f"the server at {path} does not answer")
    return ConnectionFailed(f"no server answers at {path}: {error}", hint="Does it run? `dicomnet server list` shows.")


def event_of(one: httpx_sse.ServerSentEvent) -> JSON:
    """An event of the stream."""
    return dict(json.loads(one.data))


def query_of(after: int | None, types: tuple[str, ...]) -> dict[str, str]:
    """The query of the events after an id, of some types."""
    query = {} if after is None else {"after": str(after)}
    return query | ({"types": ",".join(types)} if types else {})


def title_path(title: str) -> str:
    """The path of an AE title."""
    if not title:
        raise InvalidArgument("an AE title is needed")
    return f"/v1/ae-titles/{quote(title, safe='')}"


def message_of(name: str, data: Mapping[str, Any], service: str) -> JSON:
    """The body of a message."""
    return {"message": name, "service": service, "data": dict(data)}


def data_of(envelope: JSON) -> Any:
    """The data of the answer to a message.

    Raises:
        AdminError: it was not done.
    """
    if not envelope["success"]:
        raise AdminError(422, {"detail": envelope["error"]})
    return envelope["data"]
