"""`Forwarder`: the workers of all destinations. Each destination has its own, so that none holds up another.

A destination that cannot be reached is asked again after a second, then half as long again, up to some minutes; what
waits for it keeps its place and its tries. What it refuses costs the instance a try, and no other.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..client import Client, QueryRetrieveScu
from ..errors import DicomNetError
from ..log import log, log_failure
from ..repository.outbox import RetryClass
from .destinations import DimseDestination, FolderDestination, S3Destination, StowDestination
from .folder import FolderSender
from .following import following
from .planning import opening
from .preparing import load_of
from .queue import BACKOFF, LEASE, Delivery, State
from .s3 import S3Sender
from .senders import DimseSender, Load, Result, Sender, Verdict
from .spool import Spool
from .stow import StowSender

__all__ = ["Forwarder", "Pace", "make_sender"]

#: Deliveries taken at a time: enough to fill an association, few enough that a stop does not wait for them.
BATCH = 64
#: Seconds for which an instance that is on its way may go on, where the router stops or its destination is changed.
GRACE = 10.0
_MOST_PAUSE = 5.0  # seconds between two looks at a queue: another process may have put something there
_FLUSHED = 32  # results that are written in one transaction, or those of
_FLUSH_SECONDS = 0.25
# Half as long again each time: of a pause that ends meanwhile no more than a third is lost.
_UNREACHABLE = RetryClass(first=1, factor=1.5, most=300, attempts=1 << 30)
_BUSY_IN_A_ROW = 3  # refusals for want of resources after which the destination is left alone for a while
_REFUSED_IN_A_ROW = 8  # refusals of any kind, with nothing taken between them, after which it is
# Short: behind what is refused there may be what is not.
_REFUSING = RetryClass(first=1, factor=1.5, most=5, attempts=1 << 30)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long is waited for what.

    Attributes:
        unreachable: between two attempts to reach a destination.
        refusing: between a few instances and the next few, while a destination refuses all of them.
        busy: before an instance is offered again for which the destination had no resources; it never gives up.
        refused: before an instance is offered again that was refused; the tries are those of the destination.
    """

    unreachable: RetryClass = _UNREACHABLE
    refusing: RetryClass = _REFUSING
    busy: RetryClass = BACKOFF
    refused: RetryClass = BACKOFF


def make_sender(destination: Any, title: str) -> Sender:
    """The sender for a destination.

    Raises:
        InvalidArgument: what it needs is not installed.
    """
    if isinstance(destination, DimseDestination):
        return DimseSender(destination, title)
    if isinstance(destination, FolderDestination):
        return FolderSender(destination, title)
    if isinstance(destination, StowDestination):
        return StowSender(destination, title)
    assert isinstance(destination, S3Destination)
    return S3Sender(destination, title)


@dataclass
class Health:
    """How a destination is, for people and metrics; of its workers together."""

    sent: int = 0
    refused: int = 0
    failures: int = 0
    why: str = ""
    until: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Worker:
    """One of a destination's workers: a share of its series, a thread, and connections of its own."""

    def __init__(self, owner: Forwarder, name: str, destination: Any, slot: int, health: Health) -> None:
        self.name: str = name
        self.destination: Any = destination
        self.slot: int = slot
        self.health: Health = health
        self._owner = owner
        self.wake: threading.Event = threading.Event()
        self.stop: threading.Event = threading.Event()
        self.under_way: tuple[Delivery, ...] = ()
        self.woken: int = 0  # how often it was told that there may be something
        self._idle_since = -1  # what that was when it last found nothing that waits
        self._busy_in_a_row = 0
        self._refused_in_a_row = 0
        self._again: list[tuple[Delivery, str, RetryClass]] = []  # refused, and to be offered again
        self._sender: Sender | None = None
        self.thread: threading.Thread = threading.Thread(
            target=self._run, name=f"dicomnet-to-{name}-{slot}", daemon=True
        )

    def _run(self) -> None:
        while not self.stop.is_set():
            self.wake.clear()
            try:
                pause = self._turn()
            except Exception as error:
                log_failure(f"the queue of {self.name} cannot be served", error)
                pause = _MOST_PAUSE
            if pause > 0:
                self.wake.wait(pause)
        if self._sender is not None:
            self._sender.close()

    def rouse(self) -> None:
        """There may be something to send."""
        self.woken += 1
        self.wake.set()

    @property
    def is_idle(self) -> bool:
        """It has found nothing that waits, and was told of nothing since."""
        return self._idle_since == self.woken

    def _turn(self) -> float:
        """Send what is due; the seconds until there may be something again."""
        left = self.health.until - time.monotonic()
        if left > 0:
            self.stop.wait(min(left, _MOST_PAUSE))
            return 0.0
        if not self.destination.is_open(self._owner.now().time()):
            return _MOST_PAUSE
        queue, woken = self._owner.spool.queue, self.woken
        most = _REFUSED_IN_A_ROW if self.health.failures else BATCH
        items = queue.lease(self.name, most=most, slot=self.slot, slots=self.destination.width)
        if not items:
            due = queue.next_due(self.name)
            self._idle_since = woken if due is None else -1
            return _MOST_PAUSE if due is None else min(max(due - queue.now(), 0.01), _MOST_PAUSE)
        self.under_way = tuple(items)
        try:
            self._send(items)
        finally:
            self.under_way = ()
        return 0.0

    # ---- a batch -----------------------------------------------------------------------------------------------

    def _send(self, items: Sequence[Delivery]) -> None:
        left = {one.id: one for one in items}
        done: list[tuple[Delivery, State, str]] = []
        flushed = time.monotonic()
        why = ""
        try:
            loads = self._loads(items, left)
            notes = {load.delivery.id: load.note for load in loads if load.note}
            if self._sender is None:
                self._sender = make_sender(self.destination, self._owner.title)
            results = self._sender.send(loads) if loads else iter(())
            for result in results:
                left.pop(result.delivery.id, None)
                why = self._judge(result, left, done, notes) or why
                if len(done) + len(self._again) >= _FLUSHED or time.monotonic() - flushed > _FLUSH_SECONDS:
                    self._flush(done)
                    flushed = time.monotonic()
                if self.stop.is_set() or self._refused_in_a_row >= _REFUSED_IN_A_ROW:
                    break
        except (DicomNetError, OSError) as error:
            why = str(error)
        finally:
            self._flush(done)
            self._owner.spool.queue.give_back(list(left.values()), why)
        if why:
            self._leave_alone(why, self._owner.pace.unreachable)
        elif self._refused_in_a_row >= _REFUSED_IN_A_ROW:
            self._refused_in_a_row = 0
            self._leave_alone("it refuses one instance after the other", self._owner.pace.refusing)
        self._owner.tell()

    def _flush(self, done: list[tuple[Delivery, State, str]]) -> None:
        """Write down what has become of deliveries: some at a time, for others wait for their turn to write."""
        self._owner.finish(done)
        done.clear()
        self._owner.spool.queue.retry_later(self._again)
        self._again.clear()

    def _loads(self, items: Sequence[Delivery], left: dict[int, Delivery]) -> list[Load]:
        """What is sent for each; what cannot be made is parked, what is not to be sent now waits."""
        loads: list[Load] = []
        for item in items:
            try:
                if not self._is_late(item):
                    loads.append(self._owner.load(item))
            except Exception as error:  # whatever a data set may hold: it is parked alone, and the others go on
                said = str(error) if isinstance(error, DicomNetError | OSError) else type(error).__name__
                left.pop(item.id)
                self._owner.spool.queue.park(item, f"it cannot be made ready: {said}")
        return loads

    def _is_late(self, item: Delivery) -> bool:
        """Whether the time of the day is over at which its rule sends; then it waits for the next."""
        window = self._owner.window_of(item)
        due = opening(window, self._owner.now()) if window is not None else 0.0
        if due:
            self._owner.spool.queue.postpone(item, due)
        return due > 0

    def _judge(
        self,
        result: Result,
        left: dict[int, Delivery],
        done: list[tuple[Delivery, State, str]],
        notes: Mapping[int, str],
    ) -> str:
        """Write down what became of a delivery; why the destination is to be left alone, if it is."""
        queue, item = self._owner.spool.queue, result.delivery
        if result.verdict is Verdict.DELIVERED:
            done.append((item, State.SENT, "; ".join(filter(None, (notes.get(item.id), result.why)))))
            self._is_well()
            return ""
        if result.verdict is Verdict.UNREACHABLE or self.stop.is_set():  # who stops aborts, which is no one's fault
            left[item.id] = item
            return result.why or "it cannot be reached"
        self.health.refused += 1
        self._refused_in_a_row += result.verdict is Verdict.REFUSED
        if result.verdict is Verdict.BUSY:
            self._busy_in_a_row += 1
            self._again.append((item, result.why, self._owner.pace.busy))
            return result.why if self._busy_in_a_row >= _BUSY_IN_A_ROW else ""
        if result.verdict is Verdict.UNREADABLE:
            queue.park(item, result.why)
            return ""
        pace = self._owner.pace.refused
        tries = RetryClass(pace.first, pace.factor, pace.most, self.destination.tries)
        self._again.append((item, result.why, tries))
        if tries.pause(item.attempts) is None:
            log.warning("%s for %s is parked: %s", item.uid, self.name, result.why)
            self._owner.publish("parked", destination=self.name, sop_instance_uid=item.uid, why=result.why)
        return ""

    def _is_well(self) -> None:
        self._busy_in_a_row = self._refused_in_a_row = 0
        with self.health.lock:
            self.health.sent += 1
            if self.health.failures:
                log.info("%s takes instances again", self.name)
                self._owner.publish("destination", name=self.name, well=True, why="")
            self.health.failures, self.health.why, self.health.until = 0, "", 0.0

    def _leave_alone(self, why: str, pace: RetryClass) -> None:
        """The destination is not there, or takes nothing: some time passes before it is asked again."""
        with self.health.lock:
            if self.stop.is_set():
                return
            self.health.failures += 1
            pause = pace.pause(self.health.failures) or 0.0
            pause *= 1 + random.random() / 4
            if self.health.failures == 1 or why != self.health.why:
                log.warning("%s takes nothing, and is asked again in %.1f s: %s", self.name, pause, why)
                self._owner.publish("destination", name=self.name, well=False, why=why)
            self.health.why, self.health.until = why, time.monotonic() + pause

    def close(self) -> None:
        """End after what is on its way."""
        self.stop.set()
        self.wake.set()

    def abort(self) -> None:
        """End what is on its way."""
        if self._sender is not None:
            self._sender.abort()


class Forwarder:
    """Serves the queues of a spool.

    Args:
        spool: the queues, and the instances.
        title: our own AE title.
        pace: how long is waited.
        tell: told what happens, by its kind and its facts.

    Attributes:
        grace: seconds for which what is on its way may go on once it is to end.
        health: of each destination.
        changed: notified when something has become of deliveries, or of a destination.
    """

    def __init__(
        self,
        spool: Spool,
        title: str,
        *,
        pace: Pace | None = None,
        tell: Callable[..., object] = lambda kind, **facts: None,
    ) -> None:
        self.publish: Callable[..., object] = tell
        self.grace: float = GRACE
        self.spool: Spool = spool
        self.title: str = title
        self.pace: Pace = pace or Pace()
        self.changed: threading.Condition = threading.Condition()
        self._workers: dict[str, list[Worker]] = {}
        self.health: dict[str, Health] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="dicomnet-router-leases", daemon=True)

    def now(self) -> datetime:
        """The time of the day, as rules mean it."""
        return self.spool.now()

    def start(self) -> None:
        """Begin to send."""
        self.follow()
        self._heart.start()

    def follow(self) -> None:
        """Serve the destinations that there are by now, as they are by now; the queue of one that is gone is parked."""
        _, plan = self.spool.plans.current
        with self._lock:
            if self._stop.is_set():
                return
            known = {name: workers[0].destination for name, workers in self._workers.items()}
            over = [name for name, one in known.items() if plan.destinations.get(name) != one]
            gone = [worker for name in over for worker in self._workers.pop(name)]
        self._end(gone)
        for name in over:
            if name not in plan.destinations:
                self._park(name)
        with self._lock:
            for name, destination in plan.destinations.items():
                if name not in self._workers:
                    self._begin(name, destination)

    def _begin(self, name: str, destination: Any) -> None:
        health = self.health[name] = Health()
        self._workers[name] = [Worker(self, name, destination, slot, health) for slot in range(destination.width)]
        for worker in self._workers[name]:
            worker.thread.start()

    def _park(self, name: str) -> None:
        self.health.pop(name, None)
        parked = self.spool.queue.park_all(name, f"the destination {name} was removed")
        if parked:
            log.warning("the destination %s is gone: %d deliveries are parked", name, parked)

    def wake(self, names: Sequence[str] | None = None) -> None:
        """There may be something to send: to these destinations, or to any."""
        for name, workers in tuple(self._workers.items()):
            if names is None or name in names:
                for worker in workers:
                    worker.rouse()

    def is_idle(self, name: str) -> bool:
        """Whether nothing waits for a destination, nor is on its way to it from its queue."""
        workers = self._workers.get(name)
        return workers is not None and all(one.is_idle for one in workers)

    def passed_on(self, name: str) -> None:
        """A destination has taken an instance while it arrived."""
        health = self.health.get(name)
        if health is not None:
            with health.lock:
                health.sent += 1

    def load(self, item: Delivery) -> Load:
        """See `preparing.load_of`."""
        return load_of(self.spool, item, self.spool.plans.of(item.plan))

    def window_of(self, item: Delivery) -> Any:
        """The time of the day at which the rule of a delivery sends."""
        plan = self.spool.plans.of(item.plan)
        rule = next((one for one in plan.rules if one.name == item.rule), None)
        return getattr(rule.actions[item.step], "between", None) if rule is not None else None

    def count(self, name: str, study: str) -> int | None:
        """How many instances a study has at a destination, by C-FIND; None where it does not say."""
        destination = self.spool.plans.current[1].destinations.get(name)
        if not isinstance(destination, DimseDestination):
            return None
        calling = destination.calling or self.title
        try:
            with Client(destination.entity, calling=calling, tls=destination.tls()) as client:
                query = QueryRetrieveScu(client)
                for match in query.studies(StudyInstanceUID=study):
                    number = match.dataset.get("NumberOfStudyRelatedInstances")
                    return None if number in (None, "") else int(number)
        except DicomNetError as error:
            log.warning("%s does not say how many instances %s has: %s", name, study, error)
        return None

    def finish(self, done: Sequence[tuple[Delivery, State, str]]) -> None:
        """Write down what is over."""
        if done:
            after = following(self.spool, done)
            self.spool.queue.finish(done, after)
            if after:
                self.wake(sorted({new.destination for several in after.values() for new in several}))
            self.tell()

    def tell(self) -> None:
        """Something has changed: have those know who wait for that."""
        with self.changed:
            self.changed.notify_all()

    def _beat(self) -> None:
        """Keep the leases of what is under way, however long it takes."""
        while not self._stop.wait(LEASE / 4):
            for workers in tuple(self._workers.values()):
                for worker in workers:
                    if worker.under_way:
                        self.spool.queue.extend(worker.under_way)

    def close(self) -> None:
        """Send nothing more; what is on its way ends, what waits stays."""
        self._stop.set()
        with self._lock:
            workers = [one for several in self._workers.values() for one in several]
            self._workers = {}
        self._end(workers)

    def _end(self, workers: Sequence[Worker]) -> None:
        """End workers after what is on its way; one that takes too long over it is aborted, and its instances wait."""
        for worker in workers:
            worker.close()
        end = time.monotonic() + self.grace
        for worker in workers:
            worker.thread.join(max(end - time.monotonic(), 0.0))
        late = [worker for worker in workers if worker.thread.is_alive()]
        for worker in late:
            worker.abort()
        for worker in late:
            worker.thread.join(self.grace)
