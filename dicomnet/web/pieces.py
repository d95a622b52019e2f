"""An answer in a few pieces that are in memory: with its length, and without putting them together first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

__all__ = ["in_pieces"]


class _PiecesResponse(Response):
    """See `in_pieces`."""

    def __init__(self, pieces: Sequence[bytes], headers: Mapping[str, str]) -> None:
        self._pieces = pieces
        super().__init__(headers=dict(headers) | {"Content-Length": str(sum(map(len, pieces)))})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer (ASGI)."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def in_pieces(pieces: Sequence[bytes], headers: Mapping[str, str]) -> Response:
    """An answer that sends pieces one after the other.

    Args:
        pieces: of the body.
        headers: of the answer.
    """
    return _PiecesResponse(pieces, headers)
