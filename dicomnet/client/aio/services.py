"""`VerificationScu`, `WorklistScu` and `CommitmentScu` (PS3.4 Annexes A, K and J)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any, Unpack

from ... import uids
from ...config import COMMITMENT_PATIENCE, Entity, check_ae_title, listed
from ...dataset import codec
from ...errors import AssociationAborted, ConnectionFailed, DeadlineExceeded, InvalidArgument
from ...net.tls import TLS
from ...protocol.negotiation import AcceptancePolicy
from ...protocol.peer_profile import Peer
from ...services import presentation_contexts
from ...services.provider_requests import NormalizedRequest
from ...services.scp import Provider
from ...services.user import Commitment
from ...status import Status
from .. import events
from ..criteria import Query
from ..matches import WorklistItem
from ..options import ClientOptions
from .client import Client
from .concurrency import Gate, wait
from .query_base import Finder
from .retrieve_receiver import CallbackListener, listening_address
from .service import Service

__all__ = ["CommitmentScu", "VerificationScu", "WorklistScu"]

_REPORTS_LATER = "Does the peer report on an association of its own? Give listen (--listen), an address that it knows."


class VerificationScu(Service):
    """Verifies that a peer is there and speaks DICOM.

    Args:
        client: the peer; or its address for a client of its own, which takes the other ``options``.
    """

    async def verify(self) -> Status:
        """C-ECHO: the peer's answer.

        Raises:
            ConnectionFailed, AssociationError, DeadlineExceeded: there is none.
        """
        return await self.client.echo()


class WorklistScu(Finder):
    """Asks for modality worklists.

    Args:
        client: the peer; or its address for a client of its own, which takes the other ``options``.
        wanted: what is to be negotiated beyond the baseline: fuzzy, timezone.
    """

    def items(
        self, /, query: Query | None = None, *, step: Mapping[str, Any] | None = None, **keys: Any
    ) -> AsyncGenerator[WorklistItem, None]:
        """The items of a worklist as they come, with all that a modality needs; leaving the loop cancels.

        Args:
            query: one of one's own, instead of keys; see `Query.worklist`.
            step: keys of the scheduled procedure step: ``Modality``, ``ScheduledStationAETitle``,
                ``ScheduledProcedureStepStartDate`` and so on.
            keys: those of the item itself.

        Raises:
            InvalidArgument: a key that does not fit; nothing was sent.
        """
        if query is not None and (step or keys):
            raise InvalidArgument("a query has its keys already")
        return self._found(query or Query.worklist(step=step, **keys))


class CommitmentScu(Service):
    """Asks peers to take responsibility for instances; their reports come on the same association, or on a later one.

    Args:
        client: the peer; or its address for a client of its own, which takes the other ``options``.
        listen: where reports on associations of the peer's own are to come to, as "0.0.0.0:11112", with ``dicoms://``
            over TLS; the peer has to know our AE title, and this address. Without it they have to come on ours.
        listen_tls: how connections to it are secured; by default as those of the client.
        senders: AE titles by which the peer may call for that, beside its own.
        acceptance: further rules of who may.
        patience: seconds to wait for a report on another association.
    """

    def __init__(
        self,
        client: Client | str | Entity | Peer,
        *,
        listen: str | Entity | None = None,
        listen_tls: TLS | None = None,
        senders: Iterable[str] = (),
        acceptance: AcceptancePolicy | None = None,
        patience: float = COMMITMENT_PATIENCE,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(client, **options)
        self.listen: Entity | None
        self.listen_tls: TLS | None
        self.listen, self.listen_tls = listening_address(listen, listen_tls or self.client.tls)
        self.senders: frozenset[str] = frozenset(map(check_ae_title, listed(senders)))
        self.acceptance = acceptance
        self.patience = patience

    async def commit(self, instances: Iterable[tuple[str, str]], *, transaction_uid: str = "") -> Commitment:
        """What the peer takes responsibility for, of these pairs of SOP class and instance UID.

        Raises:
            ServiceFailure: the peer does not even look.
            DeadlineExceeded: no report has come.
            ConnectionFailed: we cannot listen where we are told to.
        """
        event = events.BeforeAction(
            self.peer,
            service="commit",
            sop_class_uid=uids.STORAGE_COMMITMENT_PUSH_MODEL,
            sop_instance_uid=uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE,
            arguments=[list(instances)],
        )
        await self.hooks.announce(event)
        asked, uid = event.arguments[0], transaction_uid or uids.new()
        result = await (self._reported_here(asked, uid) if self.listen is None else self._reported_later(asked, uid))
        await self.hooks.fire(events.AfterAction(self.peer, association=None, result=result, error=None))
        return result

    async def _reported_here(self, instances: list[tuple[str, str]], uid: str) -> Commitment:
        try:
            async with self.client.association(presentation_contexts.commitment()) as association:
                return await association.commit(instances, transaction_uid=uid)
        except (AssociationAborted, ConnectionFailed) as error:  # many report on an association of their own
            error.hint = error.hint or _REPORTS_LATER
            raise

    async def _reported_later(self, instances: list[tuple[str, str]], uid: str) -> Commitment:
        assert self.listen is not None
        tls = self.listen_tls if self.listen.tls else None
        reports = _Reports(uid, instances)
        calls = CallbackListener(self.client, self.listen, tls=tls, senders=self.senders, acceptance=self.acceptance)
        reports.register(calls.listener)
        async with calls:
            async with self.client.association(presentation_contexts.commitment()) as association:
                early = await association.request_commitment(instances, transaction_uid=uid)
            if early is not None:
                return early
            if not await wait(reports.gate, self.patience):
                hint = "Does the peer know our AE title, and the address that is listened at?"
                raise DeadlineExceeded("commitment", self.patience, peer=self.peer, hint=hint)
        assert reports.found is not None
        return reports.found


class _Reports:
    """Waits for the report on one transaction; others are none of ours (PS3.4 Section J.3.3)."""

    def __init__(self, uid: str, instances: list[tuple[str, str]]) -> None:
        self.gate = Gate()
        self.found: Commitment | None = None
        self._uid = uid
        self._instances = instances

    def register(self, provider: Provider) -> None:
        provider.on_event_report(uids.STORAGE_COMMITMENT_PUSH_MODEL)(self._report)

    def _report(self, request: NormalizedRequest) -> Status:
        dataset = codec.decode(request.data, request.transfer_syntax_uid)
        if str(dataset.get("TransactionUID", "")) != self._uid:
            return Status(Status.INVALID_ARGUMENT_VALUE, comment="unknown transaction")
        self.found = self.found or Commitment(self._uid, dataset, self._instances)
        self.gate.set()
        return Status.SUCCESS
