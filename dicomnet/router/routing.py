"""`Routing`: spool, rules, queues and their keeper, without a listener: what a router and an add-in share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .. import uids
from ..errors import InvalidArgument
from ..files.part10 import meta_header
from ..log import log, log_failure
from ..repository.blob_store import NewBlob
from ..repository.incoming import Incoming
from ..server.directory_lock import DirectoryLock
from ..services.provider_requests import NormalizedRequest
from ..services.service_registry import Registering
from .announcements import Announcements
from .cut_receiver import CutReceiver
from .cut_through import CutThrough
from .facts import TRIGGERS, Facts
from .forwarder import Forwarder, Pace
from .queries import Queries
from .queue import State
from .settings import RouterSettings
from .spool import Accepted, Spool, Told

__all__ = ["DestinationState", "Routing"]

_LOOK = 1.0  # seconds between two looks at the file of rules
_TIDY = 30  # looks between two rounds of tidying

Tell = Callable[..., object]


@dataclass(frozen=True, slots=True)
class DestinationState:
    """How a destination is: what waits for it, for how long, and whether that is an alarm.

    Attributes:
        oldest: seconds since the oldest instance that waits was received.
        why: why it gets nothing at the moment.
    """

    name: str
    waiting: int = 0
    held: int = 0
    parked: int = 0
    sent: int = 0
    oldest: float = 0.0
    alarm: bool = False
    why: str = ""


class Routing:
    """A router's directory, served.

    Args:
        directory: of the router; see `RouterSettings.make` for a new one.
        settings: by default those in its directory.
        pace: how long destinations are left alone that are not there, or refuse.
        tell: told what happens, by its kind and its facts.

    Raises:
        InvalidArgument: there is no router, its settings make no sense, or another process serves it.

    Attributes:
        spool, forwarder, cuts, storage: its parts.
    """

    def __init__(
        self,
        directory: Path,
        settings: RouterSettings | None = None,
        *,
        pace: Pace | None = None,
        tell: Tell = lambda kind, **facts: None,
    ) -> None:
        with ExitStack() as opened:
            opened.enter_context(DirectoryLock(directory))
            self.spool: Spool = opened.enter_context(Spool(directory, settings, serves=True))
            self._opened = opened.pop_all()
        self.settings: RouterSettings = self.spool.settings
        self.spool.plans.refresh()
        self.forwarder: Forwarder = Forwarder(self.spool, self.settings.ae_title, pace=pace, tell=tell)
        self.spool.units.released = self.forwarder.wake
        self.spool.units.count = self.forwarder.count
        self.cuts: CutThrough = CutThrough(self.spool, self.settings.ae_title, self.forwarder)
        self.storage: CutReceiver = CutReceiver(
            self.spool, self.spool.disk, self._store, self.cuts, self.forwarder.passed_on, self.forwarder.tell
        )
        self.queries: Queries = Queries(self.spool, self.settings.ae_title, self._put)
        self._announcements = Announcements(self.spool.units, self._told)
        self._tell = tell
        self._alarms: set[str] = set()
        self._ended: set[str] = set()  # associations
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="dicomnet-router-keeper", daemon=True)

    def register(self, services: Registering, owner: str) -> None:
        """Offer storage of every class, take what modalities say of their instances, and what rules are asked about."""
        self.storage.register(services, owner)
        self._announcements.register(services, owner)
        self.queries.register(services, owner)

    def _store(self, group: Sequence[Incoming]) -> list[Accepted | Exception]:
        accepted = self.spool.store(group)
        names = {new.destination for one in accepted if isinstance(one, Accepted) for new in one.deliveries}
        self.forwarder.wake(sorted(names))
        return accepted

    def _told(self, request: NormalizedRequest) -> bool:
        """Have what rules say of a message done; False where it is not durable, and is to come again."""
        plan = self.spool.plans.current[1]
        named = request.sop_class_uid, request.sop_instance_uid, request.transfer_syntax_uid
        data = request.data
        if not plan.asks_about(TRIGGERS[named[0]]) or not uids.is_valid(named[1]) or not data:
            return True
        facts = Facts(data, named[2], named[0], calling=request.calling, called=request.called,
                      address=request.address, at=self.spool.now(), wanted=plan.wanted, whole=True)  # fmt: skip
        try:
            if not plan.decide(facts).fired:
                return True
        except InvalidArgument:
            pass  # what no rule can read is parked, and seen
        blob = NewBlob(*named, meta_header(*named, request.calling), [data], b"", len(data))
        told = Told(
            blob, data, request.calling, request.called, request.address, request.operation.name.removesuffix("-RQ")
        )
        [result] = self._put([told])
        return not isinstance(result, Exception)

    def _put(self, told: Sequence[Told]) -> list[Accepted | Exception]:
        """Have messages and what rules want done about them durable."""
        return self.storage.committer.together(told)

    def ended(self, calling: str, address: str) -> None:
        """An association is over; from any thread, at once."""
        self._ended.add(f"{calling} {address}")

    # ---- its life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to send, in threads of its own."""
        self.forwarder.start()
        self._keeper.start()

    def _keep(self) -> None:
        """Follow the file of rules, see what is complete, and tidy up."""
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
        """Follow the file of rules now; another file is another version. See what is complete, and what is late."""
        if self.spool.plans.refresh():
            self.forwarder.follow()
            self.queries.offer()
            self._tell("rules", version=self.spool.plans.current[0])
        while self._ended:
            self.spool.units.ended(self._ended.pop())
        self.spool.units.look()

    def tidy(self) -> None:
        """Delete what is over for long enough, and raise the alarms."""
        while self.spool.tidy():
            pass
        self.spool.forget()
        self.spool.compaction.run()
        self.check_alarms()

    def check_alarms(self) -> None:
        """Tell of destinations whose oldest instance waits for too long, once each, and when that is over."""
        late = {one.name for one in self.states() if one.alarm}
        for name in late - self._alarms:
            log.warning("what waits for %s waits for too long", name)
            self._tell("alarm", destination=name, on=True)
        for name in self._alarms - late:
            self._tell("alarm", destination=name, on=False)
        self._alarms = late

    def states(self) -> list[DestinationState]:
        """How each destination is; the one without a name is of what no rule wants."""
        now, plan = self.spool.queue.now(), self.spool.plans.current[1]
        counts: dict[str, dict[State, int]] = {name: {} for name in plan.destinations}
        oldest: dict[str, float] = {}
        for one in self.spool.queue.counts():
            found = counts.setdefault(one.destination, {})
            found[one.state] = one.deliveries
            if one.state in (State.WAITING, State.LEASED):
                oldest[one.destination] = min(oldest.get(one.destination, one.oldest), one.oldest)
        return [self._state(name, found, oldest.get(name), now) for name, found in counts.items()]

    def _state(self, name: str, counts: dict[State, int], oldest: float | None, now: float) -> DestinationState:
        health = self.forwarder.health.get(name)
        destination = self.spool.plans.current[1].destinations.get(name)
        age = 0.0 if oldest is None else max(now - oldest, 0.0)
        away = health is not None and health.until > time.monotonic()
        return DestinationState(
            name,
            waiting=counts.get(State.WAITING, 0) + counts.get(State.LEASED, 0),
            held=counts.get(State.HELD, 0),
            parked=counts.get(State.PARKED, 0),
            sent=health.sent if health else 0,
            oldest=age,
            alarm=destination is not None and age > destination.alarm,
            why=health.why if health is not None and away else "",
        )

    def close(self) -> None:
        """Commit what has arrived, end what is under way, and close."""
        self._stop.set()
        self.cuts.close()
        self.storage.close()
        self.forwarder.close()
        if self._keeper.is_alive():
            self._keeper.join()
        self._opened.close()
