"""Instances that a retrieve brings: over its own association, or to a listener that is there for it alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Self

from ...aio.association import Association
from ...aio.listener import Listener
from ...config import RECEIVE_DRAIN, STRAGGLER_GRACE, Entity
from ...dataset.types import Path
from ...errors import InvalidArgument
from ...net.tls import TLS
from ...protocol.admission import Admission, CallingTitles
from ...protocol.negotiation import AcceptancePolicy
from ...services import user
from ...services.kept import KEYS, KeptCounter
from ...services.provider import as_status
from ...services.provider_requests import StoreRequest
from ...services.scp import Provider
from ...services.scu import RetrieveProgress
from ...services.user import Keep
from ...status import Status
from ..callback_rules import CallbackRule, addresses_of
from ..events import Received
from .client import Client
from .concurrency import Gate, aside, call, wait
from .hooks import Hooks

__all__ = ["CallbackListener", "RetrieveReceiver", "listening_address"]


class RetrieveReceiver:
    """Takes what arrives, as ``Association.get`` does, and tells the handlers of each instance.

    Args:
        client: whose limits hold.
        hooks: are told `events.Received`.
        to: a directory for files, or a function of `StoreRequest`.
        keys: what is asked for, by keyword.

    Attributes:
        failure: what a handler raised; the retrieve is over then.
        arrived: how many instances have come.
        waiting: the association of a C-MOVE, whose progress they are.
    """

    def __init__(self, client: Client, hooks: Hooks, to: Path | Keep, keys: Mapping[str, Any]) -> None:
        self._client = client
        self._hooks = hooks
        self._spool, self._keep = user.keeper(to)
        self.failure: BaseException | None = None
        self.arrived: int = 0
        self.waiting: Association | None = None
        self._callers: CallbackRule | None = None
        self._counter = KeptCounter(keys)
        self._have: set[str] = set()
        self._coming: set[str] = set()
        self._news = Gate()

    def counted(self, outcome: RetrieveProgress) -> RetrieveProgress:
        """The outcome of a retrieve, with what was kept here of it, and what was kept beside it."""
        return outcome._replace(kept=self._counter.kept, unasked=tuple(self._counter.unasked))

    def provider(self) -> Provider:
        """What takes them on the association that asked for them."""
        provider = Provider(limits=self._client.limits, timeouts=self._client.timeouts)
        self.register(provider)
        return provider

    def register(self, provider: Provider, callers: CallbackRule | None = None) -> None:
        """Have this provider take them, of a C-MOVE what these callers send for it."""
        self._callers = callers
        provider.on_store(spool=self._spool, unknown_classes=True, elements=KEYS)(self._arrived)

    async def _arrived(self, request: StoreRequest) -> object:
        """Ask the handlers; what none of them objects to is kept."""
        if self._callers is not None and self._callers.is_for_another(request, self._client.calling):
            return Status(Status.NOT_AUTHORIZED, comment="it is for the C-MOVE of another AE")
        if self.waiting is not None:
            self.waiting.heard()
        try:
            answer = await self._answered(request)
            self._counter.count(request, answer)
            return answer
        except Exception as error:
            self.failure = self.failure or error
            raise
        finally:
            self.arrived += 1
            self._news.set()

    async def _answered(self, request: StoreRequest) -> object:
        if request.sop_instance_uid in self._have:
            return Status.SUCCESS  # it came by the first way already
        event = Received(self._client.peer, request=request)
        await self._hooks.fire(event)
        if event.vetoed is not None:
            return Status(Status.NOT_AUTHORIZED, comment=event.vetoed.message)
        if event.skipped:
            return Status.SUCCESS
        answer = await call(self._keep, request)
        if as_status(answer).is_success or as_status(answer).is_warning:
            self._coming.add(request.sop_instance_uid)
        return answer

    def next_way(self) -> None:
        """What came so far need not be kept again."""
        self._have |= self._coming
        self.arrived, self._counter = 0, self._counter.again()

    def completed(self, outcome: RetrieveProgress) -> RetrieveProgress:
        """The outcome of a retrieve, of which what failed this way may have come by the way before."""
        failed = outcome.failed_uids
        if not failed or len(failed) != outcome.failed or not self._have.issuperset(failed):
            return outcome
        kept = None if outcome.kept is None else outcome.kept + len(failed)
        completed = outcome.completed + len(failed)
        return outcome._replace(status=Status.SUCCESS, completed=completed, failed=0, data=b"", kept=kept)

    async def wait_for(self, instances: int) -> None:
        """Wait until so many have come, or for so long nothing: some peers send after the final response."""
        while self.arrived < instances:
            self._news.clear()
            if self.arrived < instances and not await wait(self._news, STRAGGLER_GRACE):
                return

    def heed(self) -> None:
        """Raise what a handler raised."""
        if self.failure is not None:
            raise self.failure


class CallbackListener:
    """Where a peer calls back: open for an ``async with`` block, and for the peer that was asked alone.

    Args:
        client: the peer that is asked.
        where: the address to listen at, as an `Entity` whose title does not matter.
        tls: how connections are secured; None is plain.
        senders: calling AE titles that are let in beside that of the peer.
        acceptance: further rules of who may call.

    Attributes:
        listener: takes the handlers of what is to come.
        callers: the rule of who may call.
    """

    def __init__(
        self,
        client: Client,
        where: Entity,
        *,
        tls: TLS | None = None,
        senders: Iterable[str] = (),
        acceptance: AcceptancePolicy | None = None,
    ) -> None:
        rules = acceptance or AcceptancePolicy()
        named = {*senders, *(rules.calling_ae_titles or ()), *rules.certificates}
        known = frozenset({client.entity.ae_title, *named})
        self._host = client.entity.host
        self.listener: Listener = Listener(
            client.calling,
            host=where.host,
            port=where.port,
            tls=tls,
            limits=client.limits,
            timeouts=client.timeouts,
            acceptance=rules._replace(calling_ae_titles=known),
            drain=RECEIVE_DRAIN,
            tap=client.tap,
            peers=[replace(client.profile, entity=client.entity)],
        )
        rules_of_calls = self.listener.admission.rules
        titles = next(rule for rule in rules_of_calls if isinstance(rule, CallingTitles))
        self.callers: CallbackRule = CallbackRule(titles, client.entity.ae_title, named)
        self.listener.admission = Admission(*(self.callers if rule is titles else rule for rule in rules_of_calls))

    async def __aenter__(self) -> Self:
        self.callers.expect_from(await aside(addresses_of, self._host))
        await self.listener.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.listener.__aexit__(None, None, None)


def listening_address(where: str | Entity | None, tls: TLS | None) -> tuple[Entity | None, TLS | None]:
    """Where a peer is to call back, as people write it, and how that is secured.

    Raises:
        InvalidArgument: it is no address, or is to be secured by nothing.
    """
    place = Entity.parse(where) if isinstance(where, str) else where
    if place is not None and place.tls and tls is None:
        raise InvalidArgument("listening with TLS takes a certificate", hint="Give listen_tls=TLS(cert=…).")
    return place, tls
