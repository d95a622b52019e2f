from collections.abc import Callable
from typing import final

from typing_extensions import disjoint_base

from dicomnet.server.events import Event
from dicomnet.server.noting import Noted, Notes
from dicomnet.wire.command_set import Command, Message

__all__ = ["BOUNDS", "Account", "Action", "Performed"]

BOUNDS: tuple[float, ...]

@final
class Performed:
    def __init__(self, labels: tuple[str, str, str]) -> None: ...
    @property
    def labels(self) -> tuple[str, str, str]: ...
    @property
    def statuses(self) -> dict[int, int]: ...
    @property
    def bytes(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def buckets(self) -> list[int]: ...

@final
class Action(Noted):
    kind: str
    def event(self) -> Event: ...

@disjoint_base
class Account:
    calling: str
    def __init__(
        self,
        id: str,
        latest: float,
        notes: Notes,
        cell_of: Callable[[str, int, str | None], Performed],
    ) -> None: ...
    @property
    def id(self) -> str: ...
    @property
    def pending(self) -> list[int]: ...
    @property
    def under_way(self) -> float: ...
    @property
    def messages(self) -> int: ...
    @property
    def received(self) -> int: ...
    @property
    def command(self) -> Command | None: ...
    @property
    def status(self) -> int: ...
    @property
    def latest(self) -> float: ...
    def begin(self, message: Message) -> None: ...
    def answered(self, message: Message, status: int) -> None: ...
