"""Answers in pieces: a few that are in memory, or what is read while it is sent and is closed with the answer."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import suppress

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

__all__ = ["in_pieces", "streamed"]


def streamed(pieces: Iterable[bytes | memoryview], headers: Mapping[str, str], status: int = 200) -> Response:
    """An answer whose pieces are sent as they are made; what makes them is closed at the end, or when the client goes.

    Without that a file they are read from would stay open until the garbage collector comes by.

    Args:
        pieces: of the body.
        headers: of the answer.
        status: of the answer.
    """
    return _Streamed(pieces, headers, status)


class _Streamed(StreamingResponse):
    def __init__(self, pieces: Iterable[bytes | memoryview], headers: Mapping[str, str], status: int) -> None:
        self._pieces = _each(pieces)
        super().__init__(self._pieces, status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer (ASGI)."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with suppress(ValueError):  # the server stops while a thread still reads
                self._pieces.close()


def _each(pieces: Iterable[bytes | memoryview]) -> Generator[bytes, None, None]:
    try:
        for piece in pieces:
            yield bytes(piece)
    finally:
        if isinstance(pieces, Generator):
            pieces.close()


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
