from collections.abc import Generator
from typing import Any, Protocol, final

from typing_extensions import disjoint_base

from dicomnet.protocol.exchange import Exchange
from dicomnet.sync.loop import Loop, Watched

__all__ = ["Serving"]

class _Owner(Protocol):
    def start(self, connection: Any) -> Generator[Any, Any]: ...
    def left(self, connection: Any) -> None: ...
    def gone(self, connection: Any) -> None: ...

@final
class Job:
    def __call__(self) -> None: ...
    def done(self, future: object = None) -> None: ...

@disjoint_base
class Serving(Watched):
    address: str
    slot: int | None
    def __init__(self, loop: Loop, address: str, exchange: Exchange, owner: _Owner) -> None: ...
    @property
    def loop(self) -> Loop: ...
    @property
    def exchange(self) -> Exchange: ...
    @property
    def answering(self) -> bool: ...
