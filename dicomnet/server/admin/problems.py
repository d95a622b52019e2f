"""Problem documents (RFC 9457): what a request that cannot be answered gets."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...errors import (
    AssociationError,
    ConnectionFailed,
    DeadlineExceeded,
    DicomNetError,
    InvalidArgument,
    ServiceFailure,
    escaped,
)
from ...log import log_failure
from ..ae_titles import Conflict, InUse, NotKnown
from ..base import NotNow
from ..setting_errors import SettingsInvalid
from .answers import AdminError

__all__ = ["PROBLEM", "Problem", "problem_of", "problem_response", "problem_schema"]

PROBLEM = "application/problem+json"
_SAID = ("type", "title", "status", "detail")  # of each problem document
_TITLES = {
    400: "malformed request", 401: "who are you?", 403: "not allowed", 404: "not found", 405: "method not allowed",
    409: "conflict", 413: "too large", 415: "unsupported media type", 422: "data that do not fit", 500: "our mistake",
    502: "the peer failed", 503: "not now",
}  # fmt: skip


def problem_schema(*more: str) -> dict[str, Any]:
    """The JSON schema of a problem document; `more` are members of text that may be missing."""
    texts = {name: {"type": "string"} for name in ("type", "title", "detail", *more)}
    return {"type": "object", "required": list(_SAID), "properties": texts | {"status": {"type": "integer"}}}


class Problem(Exception):
    """A request that is answered with a problem document.

    Attributes:
        status: of HTTP.
        detail: what is wrong, in a sentence.
        more: other members of the document.
    """

    def __init__(self, status: int, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.more = more

    def document(self) -> dict[str, Any]:
        """As JSON."""
        title = _TITLES.get(self.status, "problem")
        return {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail, **self.more}


def problem_of(error: Exception) -> Problem:
    """What an exception is for the caller of the interface."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        return Problem(error.status_code, str(error.detail))
    if isinstance(error, AdminError):  # of a worker that was asked
        more = {name: value for name, value in error.problem.items() if name not in _SAID}
        return Problem(error.status, str(error.problem.get("detail", error.message)), **more)
    if isinstance(error, SettingsInvalid):
        found = [one.as_json() for one in error.problems]
        return Problem(422, "the settings are wrong; the old ones hold", problems=found)
    kinds: tuple[tuple[type[Exception], int], ...] = (
        (NotKnown, 404), (Conflict, 409), (InUse, 409), (InvalidArgument, 422), (AssociationError, 502),
        (ConnectionFailed, 502), (DeadlineExceeded, 502), (ServiceFailure, 502), (NotNow, 503),
    )  # fmt: skip
    for kind, status in kinds:
        if isinstance(error, kind) and isinstance(error, DicomNetError):
            hint = {"hint": error.hint} if error.hint else {}
            return Problem(status, escaped(error.message), **hint)
    log_failure("the admin interface failed", error)
    return Problem(500, "the server failed at this request; its log says more")


async def problem_response(_: Request, error: Exception) -> Response:
    """The answer to a request that failed."""
    problem = problem_of(error)
    headers = {"WWW-Authenticate": "Bearer"} if problem.status == 401 else None
    if isinstance(error, HTTPException) and error.headers:
        headers = dict(error.headers)
    return JSONResponse(problem.document(), problem.status, headers, media_type=PROBLEM)
