"""A line in the log for each request, which says nothing of a patient, and the figures of it."""

from __future__ import annotations

import logging
import re
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .addresses import own_path
from .limits import caller_of
from .metrics import WebMetrics

__all__ = ["RequestLog", "loggable"]

log: logging.Logger = logging.getLogger("dicomnet.web")

#: UIDs, numbers and tags; what else stands in a path may be anything, a name too.
_is_number = re.compile(r"[0-9.,]{1,64}|[0-9A-F]{8}").fullmatch
_KNOWN = frozenset(
    {
        "dicomweb", "studies", "series", "instances", "frames", "metadata", "rendered", "thumbnail", "bulkdata",
        "surface", "viewer",
        "wado", "login", "logout", "health", "metrics", "workitems", "state", "subscribers", "suspend",
        "cancelrequest", "capabilities", "servers", "clients", "ae-titles", "settings", "worklist", "steps",
        "commitment", "rules", "queue", "jobs", "remote", "import", "sending", "log", "audit", "check", "live",
        "static", "act", "delete", "export", "start", "stop", "pause", "resume", "reload", "echo", "remove",
        "disconnect", "console", "modality-scheduled-procedure-steps", "modality-performed-procedure-steps",
    }
)  # fmt: skip


def loggable(path: str) -> str:
    """A path without what is neither a word of ours, nor a UID, a number or a tag; a viewer's file is just that."""
    if path.startswith("/viewer/"):
        return "/viewer/…"
    return "/".join(one if not one or one in _KNOWN or _is_number(one) else "*" for one in path.split("/")[:16])


class RequestLog:
    """Logs each request in one line, without its query, and counts it.

    Args:
        app: what serves.
        metrics: of the server.
    """

    def __init__(self, app: ASGIApp, metrics: WebMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, size = perf_counter(), 0, 0

        async def counted(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            size += len(message.get("body", b""))
            await send(message)

        self._metrics.under_way.inc()
        try:
            await self._app(scope, receive, counted)
        finally:
            self._metrics.under_way.dec()
            seconds = perf_counter() - start
            self._metrics.answered(scope["method"], own_path(scope), status, size, seconds)
            log.info(
                "%s %s %s from %s: %d bytes in %.3f s",
                scope["method"], loggable(own_path(scope)), status, caller_of(scope), size, seconds,
            )  # fmt: skip
