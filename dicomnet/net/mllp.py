"""MLLP blocks: HL7 v2 messages in a stream of bytes (HL7 Implementation Support Guide, Appendix C)."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["MOST_BYTES", "MllpReader", "framed"]

_START, _END = b"\x0b", b"\x1c\r"
MOST_BYTES = 4 << 20  # of a message


def framed(message: bytes) -> bytes:
    """A message in its block."""
    return _START + message + _END


class MllpReader:
    """Takes bytes as they come, and gives messages. What stands between blocks is passed over.

    Args:
        limit: the most bytes of a message.
    """

    def __init__(self, limit: int = MOST_BYTES) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are whole with these bytes.

        Raises:
            ValueError: a message is longer than the limit.
        """
        self._buffer += data
        while (message := self._next()) is not None:
            yield message
        if len(self._buffer) > self._limit:
            raise ValueError(f"a message of more than {self._limit} bytes")

    def _next(self) -> bytes | None:
        start = self._buffer.find(_START)
        if start < 0:
            self._buffer.clear()
            self._searched = 0
            return None
        if start:
            del self._buffer[:start]
            self._searched = 0
        end = self._buffer.find(_END, max(self._searched, 1))
        if end < 0:
            self._searched = len(self._buffer) - 1  # its end may be cut in two
            return None
        message = bytes(self._buffer[1:end])
        del self._buffer[: end + len(_END)]
        self._searched = 0
        return message
