"""`Router`: a `Routing` on a listener."""

from __future__ import annotations

from pathlib import Path

from ..config import OPERATIONS_WINDOW, Limits
from ..protocol.events import AbortIndication, Event, ReleaseIndication
from ..protocol.exchange import Exchange
from ..protocol.negotiation import AcceptancePolicy
from ..repository.application import Application
from ..repository.receiving import DiskRoom
from ..sync import Listener
from .forwarder import Pace
from .routing import Routing
from .settings import RouterSettings

__all__ = ["OWNER", "Router"]

OWNER = "router"


class Router(Routing, Application):
    """A router that serves.

    As a context manager it serves in threads of its own until the block ends::

        with Router(Path("router")) as router:
            print(router.listener.address)

    Args:
        directory: of the router; see `RouterSettings.make` for a new one.
        settings: by default those in its directory.
        pace: how long destinations are left alone that are not there, or refuse.

    Raises:
        InvalidArgument: there is no router, or its settings make no sense.

    Attributes:
        listener: where it listens.
    """

    def __init__(self, directory: Path, settings: RouterSettings | None = None, *, pace: Pace | None = None) -> None:
        super().__init__(directory, settings, pace=pace)
        self.listener: Listener = self._listener()
        self.listener.admission = self.listener.admission.with_rules(DiskRoom(self.spool.disk))
        self.listener.on_turn(self.storage.committer.turn)
        self.listener.intercept = self._watch
        self.register(self.listener, OWNER)

    def _listener(self) -> Listener:
        chosen = self.settings
        return Listener(
            None if chosen.any_called_title else chosen.ae_title,
            host=chosen.host,
            port=chosen.port,
            limits=Limits(associations=chosen.associations),
            acceptance=AcceptancePolicy(operations_window=(OPERATIONS_WINDOW, 1)),
        )

    def _watch(self, exchange: Exchange, event: Event) -> bool:
        """See associations end; all goes on as it would."""
        if isinstance(event, ReleaseIndication | AbortIndication):
            self.ended(exchange.calling, exchange.address)
        return False
