"""What an add-in is given: its settings, the base services, and the ways to tell of itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from .base import AEDirectory, AuditTrail, Identity, NodeDirectory, Requests, Security, SharedSettings, Storage
from .events import Event, EventLog
from .settings import Settings, Table

__all__ = ["AddInContext", "BaseServices", "SharingHost"]

_T = TypeVar("_T")


@dataclass
class BaseServices:
    """The services that add-ins share; see `base` for what each does. An add-in may replace one.

    Attributes:
        requests: sends DICOM requests to known destinations.
        ae_titles: who is known.
        security: TLS settings of listeners and destinations.
        storage: where received instances are kept.
        identity: who a caller's user is.
        audit: the audit trail.
        nodes: the others that do one work with this server; None where it is alone.
        shared: the settings that they have in common; None where there are none.
    """

    requests: Requests
    ae_titles: AEDirectory
    security: Security
    storage: Storage
    identity: Identity
    audit: AuditTrail
    replaced: dict[str, str] = field(default_factory=dict)
    owner: str = ""
    nodes: NodeDirectory | None = None
    shared: SharedSettings | None = None

    def replace(self, name: str, service: Any) -> None:
        """Put another implementation in place of a base service.

        Raises:
            ValueError: there is none of this name, or another add-in has replaced it.
        """
        names = [one for one in self.__dataclass_fields__ if one not in ("replaced", "owner")]
        if name not in names:
            raise ValueError(f"there is no base service {name!r}: they are {', '.join(names)}")
        if name in self.replaced:
            raise ValueError(f"the base service {name!r} is replaced by the add-in {self.replaced[name]} already")
        self.replaced[name] = self.owner
        setattr(self, name, service)


class SharingHost(Protocol):
    """A server, as what shares settings with other nodes needs it."""

    @property
    def own_settings(self) -> Settings:
        """What its file and its environment say."""

    def share(self) -> object:
        """Go over to what `BaseServices.shared` says now, as a reload does."""


class AddInContext:
    """What one add-in is given.

    Attributes:
        name: the add-in's, as it is enabled.
        settings: its table ``[addin.NAME]``, as an instance of its ``Settings``; an empty table where it has none.
        server: the settings of the server. Both are snapshots: a reload puts others here and calls `reload`.
        directory: the server's directory.
        services: the base services.
        log: a logger of its own.
        status: says how the server is, see `Server.status`.
        host: the server, for what shares settings with other nodes; None where none serves.
    """

    def __init__(
        self,
        name: str,
        settings: Table,
        server: Settings,
        directory: Path,
        services: BaseServices,
        events: EventLog,
        loop: Callable[[], asyncio.AbstractEventLoop],
        status: Callable[[], Mapping[str, Any]] = dict,
        host: SharingHost | None = None,
    ) -> None:
        self.host: SharingHost | None = host
        self.name = name
        self.settings: Any = settings
        self.server = server
        self.directory = directory
        self.services = services
        self.log: logging.Logger = logging.getLogger(f"dicomnet.addin.{name}")
        self._events = events
        self._loop = loop
        self.status: Callable[[], Mapping[str, Any]] = status
        self.turns: tuple[Callable[[], object], ...] = ()

    @property
    def data(self) -> Path:
        """A directory of its own, for what it keeps; made when it is first asked for."""
        path = self.directory / "data" / self.name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self, kind: str, **data: Any) -> None:
        """Tell those who follow the server's events: the event is of type ``NAME.KIND``."""
        self._events.publish(f"{self.name}.{kind}", data)

    def listen(self, listener: Callable[[Event], object]) -> Callable[[], None]:
        """Have a function called with each event of the server, where it happens: it must be quick.

        Call what is returned to end it.
        """
        return self._events.listen(listener)

    def on_turn(self, function: Callable[[], object]) -> None:
        """Have a function called at the end of each turn of a listener's loop, in its thread; see `Listener.on_turn`.

        It is for those who gather work, such as a commit of all that a turn brought. It must not block.
        """
        self.turns += (function,)

    def spawn(self, coroutine: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Run a coroutine in the server's event loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop())
