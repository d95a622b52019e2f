"""`UpsScu`: makes, performs and watches unified procedure steps (PS3.4 Annex CC)."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from ... import uids
from ...aio.association import Association
from ...config import Entity
from ...dataset import codec
from ...dataset.types import Dataset
from ...errors import DeadlineExceeded, InvalidArgument, ServiceFailure
from ...log import log
from ...net.tls import TLS
from ...services import presentation_contexts, query_models
from ...services.provider_requests import NormalizedRequest
from ...services.user import Reply
from ...status import Status
from .. import events
from ..criteria import Query
from ..matches import WorkitemMatch
from ..workitem import (
    ALL,
    KNOWN_BY,
    MATCHING,
    Code,
    Workitem,
    WorkitemEvent,
    WorkitemState,
    cancelled,
    performed,
    scheduled,
)
from .concurrency import Gate, now, wait
from .query_base import Finder
from .retrieve_receiver import CallbackListener, listening_address

__all__ = ["UpsScu", "WorkitemWatch"]

_PUSH, _PULL = uids.UNIFIED_PROCEDURE_STEP_PUSH, uids.UNIFIED_PROCEDURE_STEP_PULL
_WATCH, _EVENT = uids.UNIFIED_PROCEDURE_STEP_WATCH, uids.UNIFIED_PROCEDURE_STEP_EVENT
_SERVICE = "Unified Procedure Step"
#: Action types (PS3.4 Tables CC.2.1-1, CC.2.2-1 and CC.2.3-1).
_CHANGE_STATE, _REQUEST_CANCEL, _SUBSCRIBE, _UNSUBSCRIBE, _SUSPEND = 1, 2, 3, 4, 5
_MOST_TOLD = 1000  # events that wait for `WorkitemWatch.next`


class UpsScu(Finder):
    """Makes work items at a peer, looks for them, performs them, and watches what becomes of them.

    Every failure of the peer is a `ServiceFailure` with the status of PS3.4 Annex CC; nothing else was done then.

    Args:
        client: the peer; or its address for a client of its own, which takes the other ``options``.
    """

    async def create(self, label: str, /, *, uid: str = "", **attributes: Any) -> Workitem:
        """N-CREATE: a new item. What the standard wants present is there, if need be without a value.

        Args:
            label: Procedure Step Label.
            uid: of the item; a new one by default.
            attributes: by keyword; the start is now, the priority MEDIUM, and the input READY where they do not say.

        Raises:
            InvalidArgument: a value that an attribute cannot have; nothing was sent.
            ServiceFailure: the peer refuses.
        """
        uid = uid or uids.new()
        reply = await self._send("n_create", uid, _dataset(scheduled(label, attributes)), among=(_PUSH,))
        return Workitem(reply.sop_instance_uid or uid, status=reply.status.of_service(_SERVICE))

    def items(
        self, /, query: Query | None = None, *, model: str = "UPS", **keys: Any
    ) -> AsyncGenerator[WorkitemMatch, None]:
        """C-FIND: the items that match, as they come; leaving the loop cancels.

        Args:
            query: one of one's own, instead of keys.
            model: "UPS", "UPS_WATCH" or "UPS_QUERY": by which SOP class it is asked.
            keys: what is looked for; what an item is known by is returned, too.

        Raises:
            InvalidArgument: a key that does not fit; nothing was sent.
        """
        if query is not None and keys:
            raise InvalidArgument("a query has its keys already")
        return self._found(query or Query(model=model, **keys).returning(*KNOWN_BY))

    async def get(self, item: Workitem | str, /, *keywords: str) -> Dataset:
        """N-GET: an item, or only these attributes of it."""
        reply = await self._send("n_get", _uid(item), keywords, among=(_PULL, _WATCH, _PUSH))
        return reply.dataset or codec.from_keywords({})

    # ---- to perform an item ------------------------------------------------------------------------------------

    async def claim(self, item: Workitem | str, /, *, transaction_uid: str = "") -> Workitem:
        """N-ACTION: take an item; it is IN PROGRESS, and ours, if this returns.

        Args:
            item: that is SCHEDULED.
            transaction_uid: the lock; a new one by default.

        Raises:
            ServiceFailure: C301, if another one has it; C300, if it has ended.
        """
        held = Workitem(_uid(item), transaction_uid or uids.new())
        await self._move(held, WorkitemState.IN_PROGRESS)
        return held

    async def update(self, item: Workitem, /, **attributes: Any) -> None:
        """N-SET: attributes of an item; while it is SCHEDULED any AE may set them, later only its performer."""
        lock = {"TransactionUID": item.transaction_uid} if item.transaction_uid else {}
        reply = await self._send("n_set", item.uid, _dataset(attributes | lock), among=(_PULL,))
        item.status = reply.status.of_service(_SERVICE)

    async def progress(self, item: Workitem, /, percent: float, description: str = "") -> None:
        """N-SET: how far we are; those who watch are told.

        Raises:
            LocalProtocolError: we do not perform it; nothing was sent. So with `complete` and `discontinue`.
        """
        item.require_ours()
        said = {"ProcedureStepProgress": f"{percent:g}", "ProcedureStepProgressDescription": description}
        said = {keyword: value for keyword, value in said.items() if value}
        await self.update(item, ProcedureStepProgressInformationSequence=[said])

    async def complete(
        self,
        item: Workitem,
        /,
        *,
        station: Code,
        work: Code,
        start: datetime | str,
        end: datetime | str | None = None,
        output: Iterable[Mapping[str, Any]] = (),
        **more: Any,
    ) -> None:
        """N-SET and N-ACTION: what was done, and that it is COMPLETED.

        Args:
            item: that we perform.
            station: a code for where, as ``("WS1", "99SITE", "Workstation 1")``.
            work: a code for what.
            start, end: when; the end is now where it is not said.
            output: items of Output Information Sequence, by keyword.
            more: other attributes of the item of the performed procedure.

        Raises:
            ServiceFailure: C304 names what the peer still misses.
        """
        item.require_ours()
        await self.update(item, **performed(station, work, start, end, output, more))
        await self._move(item, WorkitemState.COMPLETED)

    async def discontinue(self, item: Workitem, /, *, reason: str = "", code: Code | None = None) -> None:
        """N-SET and N-ACTION: why, and that an item that we perform is CANCELED.

        Args:
            item: that we perform; see `request_cancel` for that of another one.
            reason: in words.
            code: of PS3.16 CID 9300, as ``("110513", "DCM", "Discontinued for unspecified reason")``.
        """
        item.require_ours()
        why = cancelled(reason, code)
        if why:
            await self.update(item, ProcedureStepProgressInformationSequence=[why])
        await self._move(item, WorkitemState.CANCELED)

    async def _move(self, item: Workitem, state: WorkitemState) -> None:
        values = {"ProcedureStepState": state.value, "TransactionUID": item.transaction_uid}
        item.status = await self._act(item.uid, _CHANGE_STATE, values, among=(_PULL,))
        item.state = state

    # ---- to watch items ----------------------------------------------------------------------------------------

    async def request_cancel(
        self, item: Workitem | str, /, *, reason: str = "", code: Code | None = None, contact: str = "", uri: str = ""
    ) -> Status:
        """N-ACTION: ask that an item be cancelled; a SCHEDULED one is cancelled, the performer of another told.

        Args:
            item: also one that another AE performs.
            reason, code: why, as of `discontinue`.
            contact, uri: with whom the performer may speak of it.

        Returns:
            Success, or B304 where it is CANCELED already.

        Raises:
            ServiceFailure: C311, if it is COMPLETED; C312 and C313, if the performer is not told, or does not want to.
        """
        return await self._act(
            _uid(item), _REQUEST_CANCEL, cancelled(reason, code, contact, uri), among=(_PUSH, _WATCH)
        )

    async def subscribe(
        self, item: Workitem | str = ALL, /, *, receiver: str = "", lock: bool = False, **keys: Any
    ) -> Status:
        """N-ACTION: have an AE told of an item from now on, or of all, or of all that match keys.

        Args:
            item: one of them; all by default.
            receiver: the AE title that is told; by default our own. The peer has to know its address.
            lock: the peer keeps what has ended until it is unsubscribed from.
            keys: of those that are to be told of, in place of all.

        Returns:
            Success, or B301 where the lock is not granted.

        Raises:
            ServiceFailure: C308, if the peer does not know the receiver; C315, if it reports nothing.
        """
        uid = _uid(item)
        if keys and uid != ALL:
            raise InvalidArgument("keys are of a subscription to all work items")
        values = {"ReceivingAE": receiver or self.client.calling, "DeletionLock": "TRUE" if lock else "FALSE"} | keys
        return await self._act(MATCHING if keys else uid, _SUBSCRIBE, values, among=(_WATCH,))

    async def unsubscribe(self, item: Workitem | str = ALL, /, *, receiver: str = "") -> Status:
        """N-ACTION: have an AE told no more of an item, or of any; its deletion locks go."""
        return await self._act(_uid(item), _UNSUBSCRIBE, self._receiver(receiver), among=(_WATCH,))

    async def suspend(self, *, receiver: str = "") -> Status:
        """N-ACTION: have an AE told of no new items; of those that it is subscribed to it is told."""
        return await self._act(ALL, _SUSPEND, self._receiver(receiver), among=(_WATCH,))

    def _receiver(self, receiver: str) -> dict[str, str]:
        return {"ReceivingAE": receiver or self.client.calling}

    def watch(
        self, listen: str | Entity, *, listen_tls: TLS | None = None, senders: Iterable[str] = ()
    ) -> WorkitemWatch:
        """Hear what the peer tells, as a context; `subscribe` says of what.

        Args:
            listen: where the peer reports to, as "0.0.0.0:11112": it has to know our AE title, and this address.
            listen_tls: how connections to it are secured; by default as those of the client.
            senders: AE titles by which the peer may call for that, beside its own.
        """
        place, tls = listening_address(listen, listen_tls or self.client.tls)
        assert place is not None
        return WorkitemWatch(
            self, CallbackListener(self.client, place, tls=tls if place.tls else None, senders=senders)
        )

    # ---- messages ----------------------------------------------------------------------------------------------

    async def _act(self, uid: str, action: int, values: Mapping[str, Any], *, among: tuple[str, ...]) -> Status:
        information = (_dataset(values),) if values else ()
        reply = await self._send("n_action", uid, action, *information, among=among)
        return reply.status.of_service(_SERVICE)

    async def _send(self, service: str, uid: str, *arguments: Any, among: tuple[str, ...]) -> Reply:
        """One message, in the first context of these SOP classes that the peer accepts (PS3.4 Section CC.3.1)."""
        event = events.BeforeAction(
            self.peer, service=service, sop_class_uid=_PUSH, sop_instance_uid=uid, arguments=list(arguments)
        )
        await self.hooks.announce(event)
        async with self.client.association(presentation_contexts.sop_classes(_PUSH, _PULL, _WATCH)) as association:
            try:
                reply: Reply = await self.hooks.act(event, association, context=_accepted(association, among))
            except ServiceFailure as error:
                status = error.status.of_service(_SERVICE)
                raise ServiceFailure(status, f"the peer says {status}", peer=error.peer) from error
        return reply


class WorkitemWatch:
    """What a peer tells of work items, in the order in which it comes; see `UpsScu.watch`.

    Attributes:
        address: where it listens, host and port.
    """

    def __init__(self, scu: UpsScu, calls: CallbackListener) -> None:
        self._scu, self._calls = scu, calls
        self._told: deque[WorkitemEvent] = deque()
        self._news = Gate()
        calls.listener.on_event_report(_EVENT)(self._take)

    async def __aenter__(self) -> Self:
        await self._calls.__aenter__()
        self.address: tuple[str, int] = self._calls.listener.address
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._calls.__aexit__(kind, error, traceback)

    def _take(self, request: NormalizedRequest) -> Status:
        if len(self._told) >= _MOST_TOLD:
            log.warning("%s tells more of work items than is taken: an event is refused", self._scu.peer)
            return Status(Status.RESOURCE_LIMITATION, comment="too many events wait")
        dataset = request.dataset if request.size else codec.from_keywords({})
        self._told.append(WorkitemEvent(request.sop_instance_uid, request.event_type_id or 0, dataset))
        self._news.set()
        return Status.SUCCESS

    async def next(self, patience: float) -> WorkitemEvent:
        """The next event, which has come already or comes within so many seconds.

        Raises:
            DeadlineExceeded: none has come.
        """
        end = now() + patience
        while not self._told:
            self._news.clear()
            if not self._told and not await wait(self._news, max(end - now(), 0)):
                hint = "Are we subscribed, and does the peer know our AE title and the address that is listened at?"
                raise DeadlineExceeded("an event of a work item", patience, peer=self._scu.peer, hint=hint)
        event = self._told.popleft()
        await self._scu.hooks.fire(
            events.Reported(
                self._scu.peer, sop_class_uid=_PUSH, sop_instance_uid=event.uid, event_type_id=event.kind,
                dataset=event.dataset,
            )
        )  # fmt: skip
        return event


def _uid(item: Workitem | str) -> str:
    return item if isinstance(item, str) else item.uid


def _dataset(values: Mapping[str, Any]) -> Dataset:
    said = {key: query_models.format_temporal(key, value) for key, value in values.items()}
    dataset: Dataset = codec.from_keywords(said)
    return dataset


def _accepted(association: Association, among: tuple[str, ...]) -> str:
    """The first of these SOP classes that the peer has accepted; the first of all, where it has none."""
    accepted = {one.abstract_syntax for one in association.contexts.values() if one.accepted}
    return next((one for one in among if one in accepted), among[0])
