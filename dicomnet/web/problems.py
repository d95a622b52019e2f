"""What is wrong with a request, as a problem document (RFC 9457), with the parameter or part that is at fault."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

__all__ = ["Problem", "problem_response"]


class Problem(Exception):
    """An answer other than the one that was asked for.

    Args:
        status: of HTTP, 4xx or 5xx.
        detail: one sentence for the caller; it quotes no patient data.
        parameter: the query parameter, header or part that is at fault.
        headers: of the answer.
    """

    def __init__(self, status: int, detail: str, *, parameter: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status: int = status
        self.detail: str = detail
        self.parameter: str = parameter
        self.headers: dict[str, str] | None = headers


async def problem_response(_: Request, problem: Exception) -> Response:
    """The problem document of a `Problem`."""
    assert isinstance(problem, Problem)
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem.parameter:
        body["parameter"] = problem.parameter
    return JSONResponse(body, problem.status, problem.headers, media_type="application/problem+json")
