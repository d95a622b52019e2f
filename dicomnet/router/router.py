"""`Router`: spool, rules and queues, composed, on a listener."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ..config import OPERATIONS_WINDOW, Limits
from ..log import log_failure
from ..protocol.events import AbortIndication, Event, ReleaseIndication
from ..protocol.exchange import Exchange
from ..protocol.negotiation import AcceptancePolicy
from ..repository.incoming import Incoming
from ..repository.receiving import DiskRoom, Receiver
from ..sync import Listener
from .announcements import Announcements
from .forwarder import Forwarder, Pace
from .settings import RouterSettings
from .spool import Accepted, Spool

__all__ = ["OWNER", "Router"]

OWNER = "router"
_LOOK = 1.0  # seconds between two looks at the file of rules
_TIDY = 30  # looks between two rounds of tidying


class Router:
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
        PlanInvalid: its rules are wrong, and none held before.
    """

    def __init__(
        self, directory: Path, settings: RouterSettings | None = None, *, pace: Pace | None = None
    ) -> None:
        self.spool = Spool(directory, settings, serves=True)
        self.settings = self.spool.settings
        self.spool.plans.refresh()
        self.listener = self._listener()
        self.listener.admission = self.listener.admission.with_rules(DiskRoom(self.spool.disk))
        self.forwarder = Forwarder(self.spool, self.settings.ae_title, pace=pace)
        self._ended: set[str] = set()  # associations
        self.storage: Receiver[Accepted] = Receiver(
            self.spool.blobs, self.spool.disk, self._store, turns=True, who="the router"
        )
        self.listener.on_turn(self.storage.committer.turn)
        self.storage.register(self.listener, OWNER)
        self.spool.units.released = self.forwarder.wake
        self.spool.units.count = self.forwarder.count
        self.announcements = Announcements(self.spool.units)
        self.announcements.register(self.listener, OWNER)
        self.listener.intercept = self._watch
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="dicomnet-router-keeper", daemon=True)

    def _listener(self) -> Listener:
        chosen = self.settings
        return Listener(
            None if chosen.any_called_title else chosen.ae_title,
            host=chosen.host,
            port=chosen.port,
            limits=Limits(associations=chosen.associations),
            acceptance=AcceptancePolicy(operations_window=(OPERATIONS_WINDOW, 1)),
        )

    def _store(self, group: Sequence[Incoming]) -> list[Accepted | Exception]:
        accepted = self.spool.store(group)
        names = {new.destination for one in accepted if isinstance(one, Accepted) for new in one.deliveries}
        self.forwarder.wake(sorted(names))
        return accepted

    def _watch(self, exchange: Exchange, event: Event) -> bool:
        """See associations end; all goes on as it would."""
        if isinstance(event, ReleaseIndication | AbortIndication):
            self._ended.add(f"{exchange.calling} {exchange.address}")
        return False

    # ---- its life ----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._start()
        self.listener.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.listener.__exit__(kind, error, traceback)
        finally:
            self.close()

    def serve_forever(self) -> None:
        """Serve until the listener is told to stop."""
        self._start()
        try:
            self.listener.serve_forever()
        finally:
            self.close()

    def _start(self) -> None:
        self.forwarder.start()
        self._keeper.start()

    def _keep(self) -> None:
        """Follow the file of rules, and tidy up."""
        looks = 0
        while not self._stop.wait(_LOOK):
            looks += 1
            try:
                self.look()
                if looks % _TIDY == 0:
                    self.tidy()
            except Exception as error:
                log_failure("the router cannot look after itself", error)

    def look(self) -> None:
        """Follow the file of rules now; another file is another version."""
        if self.spool.plans.refresh():
            self.forwarder.follow()
        while self._ended:
            self.spool.units.ended(self._ended.pop())
        self.spool.units.look()

    def tidy(self) -> None:
        """Delete what is over for long enough."""
        while self.spool.tidy():
            pass
        self.spool.forget()

    def close(self) -> None:
        """Commit what has arrived, end what is under way, and close."""
        self._stop.set()
        self.storage.close()
        self.forwarder.close()
        if self._keeper.is_alive():
            self._keeper.join()
        self.spool.close()
