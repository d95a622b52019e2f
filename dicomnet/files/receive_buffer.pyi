from typing_extensions import disjoint_base

__all__ = ["BackgroundWriter", "ReceiveBuffer"]

@disjoint_base
class BackgroundWriter:
    wanted: bool
    @property
    def waiting(self) -> int: ...
    def wait(self) -> None: ...

@disjoint_base
class ReceiveBuffer(bytearray):
    def __init__(self, writer: BackgroundWriter, size: int) -> None: ...
    @property
    def lent(self) -> int: ...
