import asyncio
import threading
from collections.abc import Callable

from typing_extensions import disjoint_base

from dicomnet.server.events import Event

__all__ = ["Noted", "Notes"]

@disjoint_base
class Noted:
    number: int
    time: float
    kind: str
    def event(self) -> Event: ...

@disjoint_base
class Notes:
    _waiting: dict[asyncio.Event, asyncio.AbstractEventLoop]
    def __init__(self, keep: int = 10_000, *, first: int = 0, clock: Callable[[], float] = ...) -> None: ...
    @property
    def lock(self) -> threading.RLock: ...
    @property
    def last_id(self) -> int: ...
    @property
    def _unheard(self) -> set[type[Noted]]: ...
    def now(self) -> float: ...
    def note(self, noted: Noted) -> None: ...
    def _add(self, noted: Noted) -> None: ...
    def _kept_after(self, last: int) -> tuple[int, list[Noted]]: ...
