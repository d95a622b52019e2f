from typing import final

from ..wire.command_set import Command
from .negotiation import PresentationContext
from .seen import Watched

__all__ = ["MessageSeen"]

@final
class MessageSeen:
    __match_args__ = ("time", "association", "sent", "command", "context", "size")
    def __init__(
        self,
        time: float,
        association: Watched,
        sent: bool,
        command: Command,
        context: PresentationContext | None,
        size: int,
    ) -> None: ...
    @property
    def time(self) -> float: ...
    @property
    def association(self) -> Watched: ...
    @property
    def sent(self) -> bool: ...
    @property
    def command(self) -> Command: ...
    @property
    def context(self) -> PresentationContext | None: ...
    @property
    def size(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def message_id(self) -> int | None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
