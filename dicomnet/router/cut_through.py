"""Cut-through: what one destination is to get is passed on while it arrives, and its sender gets that peer's answer.

What is acknowledged is at the destination, which has said so, or in the queue, on the disk. Until then a copy is kept:
where the destination is away, slow, busy, or ends the association, the queue takes the whole instance, and the sender
is answered when that is durable. A refusal goes back to the sender as it is, and nothing is kept.

A destination has as many associations for this as it is `width` wide, beside those of its queue. Each is opened with
the first instance that wants it, and kept for those that follow.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from ..errors import DicomNetError, NoAcceptedContext
from ..log import log, log_failure
from ..protocol.negotiation import ProposedContext
from ..protocol.peer_profile import STRICT
from ..services.scu import StoreResult
from ..status import Status
from ..sync.association import Association, connect
from .destinations import DimseDestination
from .facts import Facts
from .forwarder import Forwarder
from .planning import deliveries_of, passing
from .senders import LEARNED, Verdict, verdict_on
from .spool import LOOP_SECONDS, Spool
from .transit import Answer, Transit

__all__ = ["CutThrough"]

#: Seconds for which an association is kept that nothing goes over.
KEPT = 20.0
#: Seconds for which all goes by the queue: after a failure, and after an instance that was not answered in time.
REST, SLOW_REST = 2.0, 60.0
#: Seconds in which what is on its way may end when the router stops.
CLOSING = 5.0
#: Seconds for which an answer may wait for one that has begun to arrive to be whole, and to be sent before it.
AHEAD_SECONDS = 0.001
_MOST_WAITING = 32  # instances of one sender that wait for one association
_MOST_CONTEXTS = 64
_MOST_RECENT = 20_000  # UIDs that are remembered: what comes again goes by the queue, which guards against loops
_CLOCK = 0.25
#: Several may be unanswered at a time, where a peer is known to keep to that.
_SEVERAL = STRICT.storing(None)


class _Passage:
    """One association to a destination, and the thread that sends over it."""

    def __init__(self, way: _Way) -> None:
        self._way = way
        self._waiting: deque[Transit] = deque()
        self._under_way: list[Transit] = []
        self.sender = ""
        self._association: Association | None = None
        self._calling = ""
        self._contexts: dict[tuple[str, str], None] = {}
        self._is_closed = False
        self._changed = threading.Condition()
        self.thread = threading.Thread(target=self._run, name=f"dicomnet-through-{way.name}", daemon=True)

    @property
    def on_their_way(self) -> list[Transit]:
        """What waits, and what is being sent."""
        with self._changed:
            return [*self._under_way, *self._waiting]

    @property
    def current(self) -> Transit | None:
        """The one whose answer is waited for first."""
        with self._changed:
            return next(iter(self._under_way), None)

    def takes(self, sender: str) -> bool:
        """Whether an instance of a sender would wait for no other sender's."""
        with self._changed:
            is_free = not self._under_way and not self._waiting
            return is_free or (self.sender == sender and len(self._waiting) < _MOST_WAITING)

    def put(self, transit: Transit, sender: str) -> None:
        """Send an instance after those that wait."""
        with self._changed:
            self.sender = sender
            self._waiting.append(transit)
            if not self.thread.ident:
                self.thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while not self._is_closed:
            with self._changed:
                if not self._waiting and not self._is_closed:
                    self._changed.wait(KEPT if self._association is not None else None)
                first = self._take()
            if first is None:
                self._leave()
                continue
            try:
                self._pass(first)
            except Exception as error:
                log_failure(f"an instance cannot be passed on to {self._way.name}", error)
                self._drop()
                self._abandon(type(error).__name__)
        self.give_up("its destination was changed, or the router stops")
        self._leave()

    def _take(self) -> Transit | None:
        """Have the next one under way; the lock is the caller's."""
        if self._waiting:
            self._under_way.append(self._waiting.popleft())
            return self._under_way[-1]
        return None

    def _pass(self, first: Transit) -> None:
        try:
            with closing(self._association_for(first).store_many(self._following(first))) as results:
                for result in results:
                    if not self._judge(result):
                        break
        except NoAcceptedContext as error:  # of all that it was proposed
            self._refused(first, error)
        except (DicomNetError, OSError) as error:
            self._fail(error)
        self._abandon("the association ended before its answer")

    def _following(self, first: Transit) -> Iterator[Transit]:
        """That one, and those behind it that are whole by the time that the one before is sent.

        While a destination makes one durable it receives the next. One that is still arriving would keep the answer to
        the one before from being read.
        """
        yield first
        while True:
            with self._changed:
                following = self._waiting[0] if self._waiting else None
            if following is None or self._needs_another(following) or not following.comes_whole(AHEAD_SECONDS):
                return
            with self._changed:
                if not self._waiting or self._waiting[0] is not following:  # it was given up
                    return
                self._take()
            yield following

    def _judge(self, result: StoreResult) -> bool:
        """Answer one; whether the association goes on."""
        transit = result.source
        assert isinstance(transit, Transit)
        error, status = result.error, result.status
        if isinstance(error, NoAcceptedContext):
            self._refused(transit, error)
            return True
        if error is not None or status is None:
            self._fail(error or DicomNetError("it was not answered"))
            return False
        if verdict_on(status) is Verdict.BUSY:
            self._way.rest(REST, f"it answers {status}")
            self._end(transit, why=f"it answers {status}")
            self.give_up("it is busy")
            return True
        if not transit.over and not status.is_failure:
            self._drop()
            self._end(transit, why="it was answered before it was there")
            return False
        self._end(transit, status)
        return True

    def _refused(self, transit: Transit, error: NoAcceptedContext) -> None:
        self._way.learn(transit, str(error))
        self._end(transit, why=str(error))

    def _fail(self, error: Exception) -> None:
        """The association is over, with all that was under way."""
        self._drop()
        with self._changed:
            is_left = any(one.is_left for one in self._under_way)
        if not is_left:  # who sent it left it; that says nothing of the destination
            self._way.rest(REST, str(error))
        self._abandon(str(error))
        if not is_left:
            self.give_up(str(error))

    def _end(self, transit: Transit, status: Status | None = None, why: str = "") -> None:
        """It is answered, or goes by the queue."""
        with self._changed:
            if transit in self._under_way:
                self._under_way.remove(transit)
        if status is None:
            transit.give_up(why)
            return
        transit.answer.set_result(Answer(status))
        transit.close()

    def _abandon(self, why: str) -> None:
        """All that is under way goes by the queue, in its order."""
        with self._changed:
            over, self._under_way = self._under_way, []
        for one in over:
            one.give_up(why)

    def _calling_for(self, transit: Transit) -> str:
        destination = self._way.destination
        usual = destination.calling or self._way.title
        return (transit.facts.calling or usual) if destination.pass_calling else usual

    def _needs_another(self, transit: Transit) -> bool:
        """Whether the association that is open does not have what it wants."""
        wanted = transit.sop_class_uid, transit.transfer_syntax_uid
        return wanted not in self._contexts or self._calling_for(transit) != self._calling

    def _association_for(self, transit: Transit) -> Association:
        """The association that is open, or another one where that is over, or does not have what is wanted."""
        association = self._association
        if association is not None and not self._needs_another(transit) and association.check():
            return association
        self._leave()
        destination, wanted = self._way.destination, (transit.sop_class_uid, transit.transfer_syntax_uid)
        calling = self._calling_for(transit)
        if len(self._contexts) >= _MOST_CONTEXTS:
            self._contexts.clear()
        self._contexts[wanted] = None
        contexts = [ProposedContext(cls, (syntax,)) for cls, syntax in self._contexts]
        self._association = association = connect(
            destination.entity, calling=calling, contexts=contexts, tls=destination.tls(), extras=_SEVERAL
        )
        self._calling = calling
        return association

    def give_up(self, why: str) -> None:
        """All that waits goes by the queue, in its order."""
        with self._changed:
            waiting, self._waiting = self._waiting, deque()
        for one in waiting:
            one.give_up(why)

    def interrupt(self) -> None:
        """End what is under way, from any thread."""
        association = self._association
        if association is not None:
            association.interrupt()

    def _leave(self) -> None:
        """Release the association."""
        association, self._association = self._association, None
        if association is not None:
            try:
                association.release()
            except (DicomNetError, OSError):
                pass  # it is over in any case

    def _drop(self) -> None:
        """Abort the association: it is over, or in the middle of what cannot be ended."""
        association, self._association = self._association, None
        if association is not None:
            association.abort()

    def close(self) -> None:
        """Pass nothing on any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()


class _Way:
    """A destination that instances are passed on to."""

    def __init__(self, name: str, destination: DimseDestination, title: str) -> None:
        self.name, self.destination, self.title = name, destination, title
        self.passages = [_Passage(self) for _ in range(destination.width)]
        self._until = 0.0
        self._refused: dict[tuple[str, str], float] = {}

    def passage_for(self, uids: tuple[str, str, str], sender: str) -> _Passage | None:
        """The association by which an instance of a sender can go at once, if there is one."""
        now = time.monotonic()
        if now < self._until or now - self._refused.get((uids[0], uids[2]), -LEARNED) < LEARNED:
            return None
        able = [one for one in self.passages if one.takes(sender)]
        return next((one for one in able if one.sender == sender), next(iter(able), None))

    def learn(self, transit: Transit, why: str) -> None:
        """The peer takes none of this kind: its queue converts it, or says so."""
        self._refused[transit.sop_class_uid, transit.transfer_syntax_uid] = time.monotonic()
        log.info("nothing of this kind is passed on to %s for %d s: %s", self.name, LEARNED, why)

    def rest(self, seconds: float, why: str) -> None:
        """For a while all goes by the queue."""
        until = time.monotonic() + seconds
        if until <= self._until:  # as where the association ends of one that was too slow
            return
        self._until = until
        log.warning("for %d s nothing is passed on to %s while it arrives: %s", seconds, self.name, why)


class CutThrough:
    """Passes instances on while they arrive.

    Args:
        spool: with the rules.
        title: our own AE title.
        forwarder: the queues: while one has something waiting, nothing overtakes it.
        clock: seconds, which do not jump.
    """

    def __init__(
        self, spool: Spool, title: str, forwarder: Forwarder, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._spool, self._title, self._forwarder, self._clock = spool, title, forwarder, clock
        self._ways: dict[str, _Way] = {}
        self._recent: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()
        self._is_closed = False
        self._under_way = threading.Event()
        self._watch: threading.Thread | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether any rule asks for it."""
        return self._spool.plans.current[1].passes_on

    def begin(self, facts: Facts, uids: tuple[str, str, str], sender: str) -> Transit | None:
        """Begin to pass on an instance of which the header has come; None where it goes by the queue.

        Args:
            facts: what rules ask about.
            uids: its SOP class, SOP instance and transfer syntax.
            sender: names the association that it comes on.
        """
        version, plan = self._spool.plans.current
        deliveries = deliveries_of(plan, version, facts, sender)
        action, _ = passing(plan, deliveries, facts)
        if action is None:
            return None
        name, destination = deliveries[0].destination, plan.destinations[deliveries[0].destination]
        if not isinstance(destination, DimseDestination) or not destination.is_open(facts.at.time()):
            return None
        with self._lock:
            if self._is_closed or self._is_recent(uids[1]) or not self._forwarder.is_idle(name):
                return None
            passage = self._way(name, destination).passage_for(uids, sender)
            if passage is None:
                return None
            transit = Transit(uids, facts, deliveries[0], action.patience)
            passage.put(transit, sender)
            if self._watch is None:  # late: a process that forks is best alone
                self._watch = threading.Thread(target=self._run, name="dicomnet-through-clock", daemon=True)
                self._watch.start()
            self._under_way.set()
        return transit

    def _way(self, name: str, destination: DimseDestination) -> _Way:
        way = self._ways.get(name)
        if way is None or way.destination != destination:  # it was edited: what is under way ends as it was
            for one in way.passages if way is not None else ():
                one.close()
            way = self._ways[name] = _Way(name, destination, self._title)
        return way

    def _is_recent(self, uid: str) -> bool:
        """Whether an instance was here a moment ago, or still is: it may go round in a loop."""
        now = self._clock()
        since = self._recent.pop(uid, None)
        self._recent[uid] = now
        if len(self._recent) > _MOST_RECENT:
            self._recent.popitem(last=False)
        return since is not None and now - since < LOOP_SECONDS

    def _run(self) -> None:
        """Give up what is not answered in time."""
        while not self._is_closed:
            self._under_way.wait()
            if not self._look():
                self._under_way.clear()
                if self._on_their_way():
                    self._under_way.set()  # it came between the two
            else:
                threading.Event().wait(_CLOCK)

    def _on_their_way(self) -> list[Transit]:
        with self._lock:
            return [one for way in self._ways.values() for passage in way.passages for one in passage.on_their_way]

    def _look(self) -> bool:
        """Give up what is late; whether anything is on its way."""
        now, any_left = time.monotonic(), False
        with self._lock:
            passages = [(way, passage) for way in self._ways.values() for passage in way.passages]
        for way, passage in passages:
            transits = passage.on_their_way
            any_left = any_left or bool(transits)
            late = [one for one in transits if one.due <= now]
            if not late:
                continue
            way.rest(SLOW_REST, "it does not answer in time")
            passage.give_up("the one before it is not answered in time")
            for one in late:
                one.give_up("it is not answered in time")
            passage.interrupt()
        return any_left

    def close(self) -> None:
        """Begin nothing more; what is on its way may end, or goes by the queue."""
        with self._lock:
            self._is_closed = True
            passages = [passage for way in self._ways.values() for passage in way.passages]
        end = time.monotonic() + CLOSING
        for transit in self._on_their_way():
            _wait(transit, end - time.monotonic())
        for passage in passages:
            for one in passage.on_their_way:
                one.give_up("the router stops")
            passage.interrupt()
            passage.close()
        self._under_way.set()
        _join([passage.thread for passage in passages] + ([self._watch] if self._watch is not None else []))


def _wait(transit: Transit, seconds: float) -> None:
    try:
        transit.answer.exception(max(seconds, 0.0))
    except TimeoutError:
        pass


def _join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        if thread.ident and thread is not threading.current_thread():
            thread.join(CLOSING)
