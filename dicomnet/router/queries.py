"""What a router is asked for: queries, worklist queries and retrieves, which a peer answers that a rule names (R4).

C-FIND and C-MOVE are passed on as they come, and so are their answers. Rules are asked about each of them, and about
each worklist item on its way back: they may have earlier studies sent meanwhile. A router has no answers of its own:
where no rule says who is to be asked, it says so with status C001.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from .. import uids
from ..client import Client
from ..errors import DicomNetError, InvalidArgument, ServiceFailure
from ..files.part10 import meta_header
from ..log import in_brief, log
from ..protocol.negotiation import NegotiationOptions
from ..repository.blob_store import NewBlob
from ..services import presentation_contexts
from ..services.provider_requests import FindRequest, MoveRequest
from ..services.retrieve_progress import RetrieveProgress
from ..services.service_registry import HandlerOptions, Registering
from ..status import Status
from ..sync.association import Association
from .destinations import DimseDestination
from .extended import granted, missing
from .facts import ASKED, ITEM, RETRIEVE, WORKLIST, Facts
from .plan import Plan
from .planning import NO_ANSWER, deliveries_of, who_answers
from .queue import New, State
from .spool import Spool, Told

__all__ = ["NOBODY_ASKED", "Queries"]

#: No rule says who answers; of "unable to process", C000 to CFFF (PS3.4 Sections C.4.1.1.4 and C.4.2.1.5).
NOBODY_ASKED = 0xC001
_MISMATCH = 0xA900  # the identifier does not match the SOP class
_MOST_RECENT = 20_000  # studies and patients of which it is remembered that something was done for them
_MOST_ALIKE = 8  # requests of one caller, the same to the letter, that are passed on at a time
_MOST_ITEMS = 500  # of a worklist for which rules want something, before that is put into the queues

Steps = Generator[RetrieveProgress, None, Status | None]


class Queries:
    """Takes them, has them answered, and puts what rules want beside that into the queues.

    Args:
        spool: with the rules.
        title: our own AE title.
        put: makes messages durable, with what is to be done about them; exceptions in the place of what failed.
        clock: seconds, which do not jump.
    """

    def __init__(
        self, spool: Spool, title: str, put: Callable[[list[Told]], Sequence[Any]],
        *, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._spool, self._title, self._put, self._clock = spool, title, put, clock
        self._done: OrderedDict[tuple[str, int, str], float] = OrderedDict()  # until when it is not done again
        self._under_way: Counter[tuple[str, str, str, bytes]] = Counter()
        self._lock = threading.Lock()
        self._services: Registering | None = None
        self._owner = ""
        self._offered: dict[str, bytes] = {}  # with what is granted of extended negotiation

    def register(self, services: Registering, owner: str) -> None:
        """Offer what rules are asked about; see `offer`."""
        self._services, self._owner = services, owner
        self.offer()

    def offer(self) -> None:
        """Offer what rules are asked about by now, from the next association on; what was offered stays so.

        What is granted beside, by extended negotiation, is what all peers grant that rules have answer by now.

        Raises:
            InvalidArgument: another one performs it.
        """
        services, plan = self._services, self._spool.plans.current[1]
        if services is None:
            return
        wanted = {one for one in ASKED if plan.asks_about(one)} | self._offered.keys()
        if plan.asks_about(ITEM):
            wanted.add(WORKLIST)
        for one in sorted(wanted):
            extended, before = granted(plan, one), self._offered.get(one)
            if extended == before:
                continue
            models = ("WORKLIST",) if one == WORKLIST else ("STUDY_ROOT", "PATIENT_ROOT")
            options: HandlerOptions = {
                "owner": self._owner, "extended": extended, "replace": before is not None, "relays": one == RETRIEVE,
            }  # fmt: skip
            if one == RETRIEVE:
                services.on_move(*models, **options)(self._move)
            else:
                services.on_find(*models, **options)(self._find)
            self._offered[one] = extended

    # ---- what is asked -----------------------------------------------------------------------------------------

    def _find(self, request: FindRequest) -> Any:
        peer = self._asked(request, "C-FIND")
        return peer if isinstance(peer, Status) else self._matches(request, *peer)

    def _move(self, request: MoveRequest) -> Any:
        peer = self._asked(request, "C-MOVE", request.destination)
        return peer if isinstance(peer, Status) else self._progress(request, *peer)

    def _asked(
        self, request: FindRequest, message: str, destination: str = ""
    ) -> tuple[str, DimseDestination] | Status:
        """Who is to answer; or what is answered at once. What rules want beside that is in the queues."""
        _ = request.identifier  # one that cannot be decoded is answered so
        version, plan = self._spool.plans.current
        told = self._told(request, message, request.data, destination)
        facts = self._facts(told, plan)
        try:
            facts.check()
            fired = plan.decide(facts).fired
        except InvalidArgument as error:
            log.warning("a %s of %s cannot be read by rules: %s", message, request.calling, in_brief(error))
            return Status(Status.UNABLE_TO_PROCESS, comment="rules cannot read it")
        self._queue([told] if self._is_new(plan, version, facts) else [])
        name, _, why = who_answers(plan, fired, facts)
        peer = plan.destinations.get(name)
        if not isinstance(peer, DimseDestination):
            return Status(NOBODY_ASKED if why == NO_ANSWER else _unable(message), comment=why)
        if peer.entity.ae_title == request.calling:
            return Status(NOBODY_ASKED, comment="who asks is who would be asked: a loop")
        return name, peer

    @contextmanager
    def _passing(self, request: FindRequest, message: str, destination: str = "") -> Iterator[None]:
        """Refuse a request that has come back again and again, and is still under way: nothing else may show a loop.

        A peer that asks us in turn, or one behind it, passes the title of the first caller on.
        """
        key = request.calling, message, destination, request.data
        with self._lock:
            self._under_way[key] += 1
            times = self._under_way[key]
        try:
            if times > _MOST_ALIKE:
                raise ServiceFailure(Status(NOBODY_ASKED, comment="it comes back each time it is passed on: a loop"))
            yield
        finally:
            with self._lock:
                self._under_way[key] -= 1
                if not self._under_way[key]:
                    del self._under_way[key]

    def _client(self, peer: DimseDestination, request: FindRequest) -> Client:
        """To a peer, which is asked for what was granted to who asks."""
        calling = request.calling if peer.pass_calling else peer.calling or self._title
        extended = {request.sop_class_uid: request.negotiated} if any(request.negotiated) else {}
        return Client(peer.entity, calling=calling, tls=peer.tls(), extras=NegotiationOptions(extended=extended))

    @contextmanager
    def _association(self, request: FindRequest, name: str, peer: DimseDestination) -> Iterator[Association]:
        """To a peer that grants what was granted to who asks.

        Raises:
            ServiceFailure: it grants less: its answers might be others than those that were asked for.
        """
        model = request.sop_class_uid
        contexts = presentation_contexts.sop_classes(model)
        with self._client(peer, request) as client, client.association(contexts) as association:
            lacking = missing(model, request.negotiated, association.extended.get(model, b""))
            if lacking:
                comment = f"{name} does not grant: {', '.join(lacking)}"
                raise ServiceFailure(Status(Status.UNABLE_TO_PROCESS, comment=comment), comment)
            yield association

    def _matches(self, request: FindRequest, name: str, peer: DimseDestination) -> Generator[Any, None, Status | None]:
        """The answers of a peer, as they come; what rules want for items of a worklist is done beside."""
        version, plan = self._spool.plans.current
        syntax, model = request.transfer_syntax_uid, request.sop_class_uid
        items = model == uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND and plan.asks_about(ITEM)
        wanted: list[Told] = []
        try:
            with (
                self._passing(request, "C-FIND"),
                self._association(request, name, peer) as association,
                closing(association.find(request.level, model=model, query=request.identifier)) as found,
            ):
                for match in found:
                    if items:
                        item = self._told(request, "C-FIND-RSP", match.data, syntax=match.transfer_syntax, trigger=ITEM)
                        wanted += [item] if self._is_wanted(item, plan, version) else []
                    if len(wanted) >= _MOST_ITEMS:
                        now, wanted = wanted, []
                        self._queue(now)
                    yield match.status, match.data if match.transfer_syntax == syntax else match.dataset
        except (DicomNetError, OSError) as error:
            return _status_of(error, name, "C-FIND")
        finally:
            self._queue(wanted)
        return None

    def _progress(self, request: MoveRequest, name: str, peer: DimseDestination) -> Steps:
        """What a peer reports of a retrieve, as it comes."""
        try:
            with (
                self._passing(request, "C-MOVE", request.destination),
                self._association(request, name, peer) as association,
            ):
                yield from association.move_steps(
                    request.level,
                    destination=request.destination,
                    model=request.sop_class_uid,
                    query=request.identifier,
                )
        except (DicomNetError, OSError) as error:
            return _status_of(error, name, "C-MOVE")
        return None

    # ---- what is done beside -----------------------------------------------------------------------------------

    def _told(
        self, request: FindRequest, message: str, data: bytes, destination: str = "", *, syntax: str = "",
        trigger: str = "",
    ) -> Told:  # fmt: skip
        named = request.sop_class_uid, uids.new(), syntax or request.transfer_syntax_uid
        blob = NewBlob(*named, meta_header(*named, request.calling), [data], b"", len(data))
        return Told(blob, data, request.calling, request.called, request.address, message, destination, trigger)

    def _facts(self, told: Told, plan: Plan) -> Facts:
        return self._spool.facts_of(told, plan.wanted)

    def _is_wanted(self, told: Told, plan: Plan, version: int) -> bool:
        """Whether rules want something done for an answer that they can read."""
        facts = self._facts(told, plan)
        try:
            facts.check()
            return bool(plan.decide(facts).fired) and self._is_new(plan, version, facts)
        except InvalidArgument as error:
            log.warning("a worklist item cannot be read by rules: %s", in_brief(error))
            return False

    def _is_new(self, plan: Plan, version: int, facts: Facts) -> bool:
        """Whether something is to be done that was not done a moment ago; it is remembered."""
        if not facts.sets_going:
            return False
        wanted = [one for one in deliveries_of(plan, version, facts) if one.state is State.WAITING]
        fresh = [self._remember(one) for one in wanted]  # each of them
        return any(fresh)

    def _remember(self, new: New) -> bool:
        now, key = self._clock(), (new.rule, new.step, new.key)
        if not new.key:
            return True
        with self._lock:
            if self._done.get(key, now) > now:
                return False
            self._done[key] = now + new.again
            self._done.move_to_end(key)
            while len(self._done) > _MOST_RECENT:
                self._done.popitem(last=False)
        return True

    def _queue(self, told: list[Told]) -> None:
        """Have it done; who asks gets an answer even where that is impossible."""
        if not told:
            return
        failures = [one for one in self._put(told) if isinstance(one, Exception)]
        if failures:
            with self._lock:
                self._done.clear()
            log.error("what rules want done for a query cannot be kept: %s", in_brief(failures[0]))


def _status_of(error: Exception, name: str, message: str) -> Status:
    """What who asks is told where the peer fails, or cannot be asked."""
    log.warning("%s does not answer a %s that is passed on: %s", name, message, in_brief(error))
    if isinstance(error, ServiceFailure):
        return error.status
    if isinstance(error, InvalidArgument):
        return Status(_MISMATCH, comment=str(error))
    return Status(_unable(message), comment=f"{name} cannot be asked")


def _unable(message: str) -> Status:
    return Status.UNABLE_TO_PERFORM_SUB_OPERATIONS if message == "C-MOVE" else Status.UNABLE_TO_PROCESS
