from collections.abc import Iterable
from typing import Any

from _typeshed import ReadableBuffer

__all__ = ["encode_text", "fault_of"]

def fault_of(buffer: ReadableBuffer, implicit: bool, little_endian: bool = True) -> str | None: ...
def encode_text(elements: Iterable[tuple[int, str, Any]], implicit: bool, utf_8: bool = False) -> bytes | None: ...
