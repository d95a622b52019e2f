"""What the admin interface needs of a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..addins import AddIns
from ..clients import Clients
from ..context import BaseServices
from ..events import EventLog
from ..health import Check
from ..messages import MessageRegistry
from ..metrics import Metrics
from ..server_log import ServerLog
from ..settings import Settings

__all__ = ["Administered", "Reloaded"]


class Reloaded(Protocol):
    """What a reload did."""

    @property
    def changed(self) -> tuple[str, ...]:
        """The fields that have another value now."""

    @property
    def pending_restart(self) -> tuple[str, ...]:
        """The fields whose change waits for the next start."""


class Administered(Protocol):
    """A server, as its administrators see it."""

    settings: Settings
    events: EventLog
    clients: Clients
    addins: AddIns
    messages: MessageRegistry
    metrics: Metrics
    base: BaseServices
    log: ServerLog
    request_stop: Callable[[float | None], None]

    def status(self) -> dict[str, Any]:
        """The server at a glance."""

    def health(self) -> list[Check]:
        """What its readiness depends on."""

    def conformance(self) -> dict[str, Any]:
        """Its conformance statement."""

    def pause(self) -> None:
        """Take no new association."""

    def resume(self) -> None:
        """Take associations again."""

    def reload(self) -> Reloaded:
        """Read the settings again."""

    def disconnect(self, number: str) -> None:
        """Abort an association."""
