# Generated from dicomnet/client/aio/component.py by tools/async_to_sync.py: edit that, and run `make twins`.
"""What has handlers and an end: clients, and the components over them."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from ..events import Event
from .hooks import Hooks

__all__ = ["Component"]

H = TypeVar("H", bound=Callable[..., Any])


class Component:
    """What has handlers; as a context manager it is closed at the end of the block."""

    hooks: Hooks

    def on(self, kind: type[Event]) -> Callable[[H], H]:
        """Decorate a function that is to be called for such events."""

        def register(handler: H) -> H:
            self.hooks.add(kind, handler)
            return handler

        return register

    def _leave(self, error: BaseException | None) -> None:
        """The block is over, or has ended in an error."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._leave(error)
