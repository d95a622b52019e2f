"""What the admin interface needs of a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from ..context import BaseServices
from ..discovery import Found
from ..events import EventLog
from ..health import Check
from ..messages import MessageRegistry
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


class Client(Protocol):
    """A client, as it is listed."""

    @property
    def associated(self) -> bool:
        """Whether it has an association."""

    def brief(self) -> dict[str, Any]:
        """Who it is."""

    def as_json(self, now: float) -> dict[str, Any]:
        """All there is to know."""


class AddIn(Protocol):
    """An add-in, as it is listed."""

    @property
    def name(self) -> str:
        """As it is enabled."""

    @property
    def found(self) -> Found:
        """What was loaded."""

    def as_json(self) -> dict[str, Any]:
        """Who it is, and what it implements."""


class AddIns(Protocol):
    """The add-ins of a server."""

    @property
    def metrics(self) -> Mapping[str, CollectorRegistry]:
        """Those of each add-in."""

    @property
    def broken(self) -> Mapping[str, str]:
        """Optional ones that do not run, and why."""

    def __iter__(self) -> Iterator[Any]:
        """Each `AddIn`."""

    def get(self, name: str) -> Any:
        """The `AddIn` of a name; None where there is none."""

    def resume(self, addin: Any) -> None:
        """Let a suspended one serve again."""


class Metrics(Protocol):
    """What is counted."""

    def exposition(self, others: Iterable[CollectorRegistry] = ()) -> bytes:
        """In Prometheus' text format."""


class Administered(Protocol):
    """A server, as its administrators see it."""

    settings: Settings
    events: EventLog
    messages: MessageRegistry
    base: BaseServices
    log: ServerLog
    request_stop: Callable[[float | None], None]

    @property
    def clients(self) -> Iterable[Client]:
        """Who is connected."""

    @property
    def addins(self) -> AddIns:
        """What is enabled."""

    @property
    def metrics(self) -> Metrics:
        """What is counted."""

    def status(self) -> dict[str, Any]:
        """The server at a glance."""

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that it is one of."""

    def health(self) -> list[Check]:
        """What its readiness depends on."""

    def conformance(self) -> dict[str, Any]:
        """Its conformance statement."""

    def pause(self) -> None:
        """Take no new association."""

    def resume(self) -> None:
        """Take associations again."""

    def reload(self, *, user: str = "") -> Reloaded:
        """Read the settings again, as a user wants."""

    def disconnect(self, number: str) -> None:
        """Abort an association."""
