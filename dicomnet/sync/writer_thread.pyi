from typing_extensions import disjoint_base

from ..files.receive_buffer import BackgroundWriter

__all__ = ["WriterThread"]

@disjoint_base
class WriterThread(BackgroundWriter):
    def __init__(self, late: float = ...) -> None: ...
    def close(self) -> None: ...
