from collections.abc import Callable, Iterator
from typing import final

from ..wire.command_set import Command
from .messages import Buffer, Sized
from .negotiation import PresentationContext
from .received import Observer
from .seen import Seen, Watched
from .trace import ProtocolTrace

__all__ = ["SeenQueue", "Watch"]

@final
class SeenQueue:
    most: int
    def __init__(self, most: int, wake: Callable[[], object] | None = None) -> None: ...
    @property
    def dropped(self) -> int: ...
    def __call__(self, seen: Seen) -> None: ...
    def take(self) -> Iterator[Seen]: ...

@final
class Watch(Observer):
    def __init__(self, trace: ProtocolTrace, association: Watched, clock: Callable[[], float]) -> None: ...
    def received(self, buffer: Buffer, at: int) -> int: ...
    def sent(self, buffers: list[Buffer]) -> None: ...
    def transition(self, before: int, event: int, action: int, after: int) -> None: ...
    def message(
        self, sent: bool, command: Command, context: PresentationContext | None, data: Sized | None
    ) -> None: ...
