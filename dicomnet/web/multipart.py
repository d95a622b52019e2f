"""multipart/related as `client.multipart` reads and writes it; what is wrong with one is a problem."""

from __future__ import annotations

from collections.abc import Iterator

from ..client import multipart
from ..client.multipart import BadMultipart, Begun, Part, boundary, written
from .problems import Problem

__all__ = ["Begun", "Part", "PartReader", "boundary", "written"]


class PartReader(multipart.PartReader):
    """A reader of what clients send."""

    def feed(self, data: bytes, *, last: bool = False) -> Iterator[Begun | bytes | None]:
        """Take the next bytes of the body.

        Raises:
            Problem: 400; it is no multipart.
        """
        try:
            yield from super().feed(data, last=last)
        except BadMultipart as error:
            raise Problem(400, error.message, parameter="body") from error
