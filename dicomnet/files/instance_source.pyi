import io
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Protocol, Self

from _typeshed import ReadableBuffer
from typing_extensions import disjoint_base

__all__ = ["BytesSource", "FileSource", "Source", "describe", "open_source"]

DEFLATED: frozenset[str]

class Source(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def sop_class_uid(self) -> str: ...
    @property
    def sop_instance_uid(self) -> str: ...
    @property
    def transfer_syntax_uid(self) -> str: ...
    @property
    def size(self) -> int: ...
    def chunks(self, unit: int) -> Iterator[memoryview]: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None: ...

@disjoint_base
class _Described:
    name: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    size: int
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

@disjoint_base
class FileSource(_Described):
    def __init__(
        self,
        path: str | os.PathLike[str] | io.FileIO | io.BufferedReader | io.BufferedRandom,
        buffer: bytearray | None = None,
    ) -> None: ...
    def chunks(self, unit: int) -> Iterator[memoryview]: ...
    def __del__(self) -> None: ...

@disjoint_base
class BytesSource(_Described):
    def __init__(
        self,
        data: ReadableBuffer,
        transfer_syntax_uid: str | None = None,
        sop_class_uid: str | None = None,
        sop_instance_uid: str | None = None,
        *,
        name: str = "data set in memory",
        force: bool = False,
    ) -> None: ...
    def chunks(self, unit: int) -> Iterator[memoryview]: ...

def open_source(item: Any, transfer_syntax: str | None = None, *, buffer: bytearray | None = None) -> Source: ...
def describe(item: object) -> tuple[str, str] | None: ...
