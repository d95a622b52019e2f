from collections.abc import Iterator
from typing import Any

from typing_extensions import disjoint_base

from dicomnet.services.service_registry import Handler

__all__ = ["Calls"]

@disjoint_base
class Calls:
    in_a_row: int
    @property
    def calls(self) -> int: ...
    def in_thread(self, handler: Handler, deadline: float) -> Handler: ...
    def inline(self, handler: Handler) -> Handler: ...
    def step(self, results: Iterator[Any], deadline: float) -> Any: ...
    def late(self, now: float) -> int: ...
