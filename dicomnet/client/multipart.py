"""multipart/related, written and read as a stream (RFC 2387, PS3.18 Section 8.6.1): nothing is held whole.

Readers take what senders send: line feeds alone, a preamble, no Content-Length, parts cut anywhere.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..errors import RemoteProtocolError

__all__ = ["BadMultipart", "Begun", "Part", "PartReader", "boundary", "written"]

_rest_of_line = re.compile(rb"[ \t]*\r?\n").match
_blank_line = re.compile(rb"\r?\n").match
_end_of_headers = re.compile(rb"\r?\n\r?\n").search

#: Headers of a part end within so many bytes, or it is no part.
MOST_HEADER_BYTES = 16 << 10


class BadMultipart(RemoteProtocolError):
    """A body that is no multipart."""


def boundary() -> str:
    """A long random one, which no pixel data contain."""
    return f"dicomnet-{secrets.token_hex(24)}"


@dataclass(slots=True)
class Part:
    """A part to be written.

    Attributes:
        content_type: of the part.
        chunks: its bytes.
        location: Content-Location, where it has one.
    """

    content_type: str
    chunks: Iterable[bytes | memoryview]
    location: str = ""


def written(parts: Iterable[Part], mark: str) -> Iterator[bytes]:
    """The body of a multipart."""
    for part in parts:
        header = f"--{mark}\r\nContent-Type: {part.content_type}\r\n"
        if part.location:
            header += f"Content-Location: {part.location}\r\n"
        yield (header + "\r\n").encode("latin-1", "replace")
        for chunk in part.chunks:
            yield chunk if isinstance(chunk, bytes) else bytes(chunk)
        yield b"\r\n"
    yield f"--{mark}--\r\n".encode("latin-1")


@dataclass(slots=True)
class Begun:
    """A part has begun.

    Attributes:
        headers: by name in lower case.
    """

    headers: dict[str, str] = field(default_factory=dict)


class PartReader:
    """Reads a multipart as it comes.

    `feed` gives `Begun` where a part begins, bytes of it, and None where it ends.

    Args:
        mark: the boundary.
    """

    def __init__(self, mark: str) -> None:
        self._dashes = b"--" + mark.encode("latin-1", "replace")
        self._longest = len(mark) + 80  # what may be the beginning of a boundary is kept back
        self._buffer = b""
        self._at = 0  # what stands before it in the buffer was read
        self._state = "preamble"

    @property
    def ended(self) -> bool:
        """Whether the last boundary has come."""
        return self._state == "ended"

    def feed(self, data: bytes, *, last: bool = False) -> Iterator[Begun | bytes | None]:
        """Take the next bytes of the body.

        Args:
            data: any number of them.
            last: no more will come.

        Raises:
            BadMultipart: the body ends within a part, or a part's headers do not.
        """
        self._buffer, self._at = self._buffer[self._at :] + data, 0
        while True:
            step = {"preamble": self._between, "headers": self._headers, "body": self._body}.get(self._state)
            found = step(last) if step else None
            if found is None:
                break
            yield from found
        if last and not self.ended:
            raise BadMultipart("the multipart body ends before its last boundary")

    def _between(self, last: bool) -> list[Begun | bytes | None] | None:
        found = self._boundary()
        if found is None:
            keep = self._longest if not last else 0
            self._at = max(len(self._buffer) - keep, self._at)
            return None
        self._pass(found)
        return []

    def _pass(self, boundary: tuple[int, int, bool]) -> None:
        self._at = boundary[1]
        self._state = "ended" if boundary[2] else "headers"

    def _boundary(self) -> tuple[int, int, bool] | None:
        """Where the next boundary begins and ends, and whether it is the last."""
        buffer, size, begin = self._buffer, len(self._dashes), self._at
        at = buffer.find(self._dashes, begin)
        while at >= 0:
            if at == begin or buffer[at - 1] == 0x0A:
                start = at - 1 if at > begin else begin
                start -= at > begin + 1 and buffer[at - 2] == 0x0D
                if buffer.startswith(b"--", at + size):
                    return start, at + size + 2, True
                line = _rest_of_line(buffer, at + size)
                if line is not None:
                    return start, line.end(), False
            at = buffer.find(self._dashes, at + 1)
        return None

    def _headers(self, _: bool) -> list[Begun | bytes | None] | None:
        blank = _blank_line(self._buffer, self._at) or _end_of_headers(self._buffer, self._at)
        if blank is None:
            if len(self._buffer) - self._at > MOST_HEADER_BYTES:
                raise BadMultipart(f"the headers of a part are longer than {MOST_HEADER_BYTES} bytes")
            return None
        lines = self._buffer[self._at : blank.start()].decode("latin-1").splitlines()
        self._at = blank.end()
        self._state = "body"
        pairs = (line.partition(":") for line in lines)
        return [Begun({name.strip().lower(): value.strip() for name, _, value in pairs})]

    def _body(self, last: bool) -> list[Begun | bytes | None] | None:
        found = self._boundary()
        begin = self._at
        if found is not None:
            self._pass(found)
            data = self._buffer[begin : found[0]]
            return [data, None] if data else [None]
        end = len(self._buffer) - self._longest
        if end <= begin or last:
            return None
        self._at = end
        return [self._buffer[begin:end]]
