"""`VerificationScu`, `WorklistScu` and `CommitmentScu`, as scripts (PS3.4 Annexes A, K and J)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .. import uids
from ..config import COMMITMENT_PATIENCE, Entity, check_ae_title
from ..dataset import codec
from ..errors import AssociationAborted, ConnectionFailed, DeadlineExceeded, InvalidArgument
from ..net.tls import TLS
from ..protocol.negotiation import AcceptancePolicy
from ..protocol.peer_profile import Peer
from ..services import presentation_contexts
from ..services.user import COMMITMENT_INSTANCE, Commitment
from ..status import Status
from . import events
from .core import ClientCore
from .criteria import Query
from .matches import WorklistItem
from .procedure import Call, Results, Script, operation, streaming
from .query_base import Finder
from .retrieve_receiver import Door, door_at
from .service import Service

__all__ = ["CommitmentCore", "VerificationCore", "WorklistCore"]

_REPORTS_LATER = "Does the peer report on an association of its own? Give listen (--listen), an address that it knows."


class VerificationCore(Service):
    """Verifies that a peer is there and speaks DICOM.

    Args:
        client: the peer; or its address for a client of its own, which takes the other ``options``.
    """

    @operation
    def verify(self) -> Script[Status]:
        """C-ECHO: the peer's answer.

        Raises:
            ConnectionFailed, AssociationError, DeadlineExceeded: there is none.
        """
        client: Any = self.client  # of either face
        status: Status = yield Call(client.echo)
        return status


class WorklistCore(Finder):
    """Asks for modality worklists.

    Args:
        client: the peer; or its address for a client of its own, which takes the other ``options``.
        wanted: what is to be negotiated beyond the baseline: fuzzy, timezone.
    """

    @streaming
    def items(
        self, /, query: Query | None = None, *, step: Mapping[str, Any] | None = None, **keys: Any
    ) -> Results[WorklistItem]:
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
        yield from self._found(query or Query.worklist(step=step, **keys))


class CommitmentCore(Service):
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
        client: ClientCore | str | Entity | Peer,
        *,
        listen: str | Entity | None = None,
        listen_tls: TLS | None = None,
        senders: Iterable[str] = (),
        acceptance: AcceptancePolicy | None = None,
        patience: float = COMMITMENT_PATIENCE,
        **options: Any,
    ) -> None:
        super().__init__(client, **options)
        self.listen, self.listen_tls = door_at(listen, listen_tls or self.client.tls)
        self.senders = frozenset(map(check_ae_title, senders))
        self.acceptance = acceptance
        self.patience = patience

    @operation
    def commit(self, instances: Iterable[tuple[str, str]], *, transaction_uid: str = "") -> Script[Commitment]:
        """What the peer takes responsibility for, of these pairs of SOP class and instance UID.

        Raises:
            ServiceFailure: the peer does not even look.
            DeadlineExceeded: no report has come.
            ConnectionFailed: we cannot listen where we are told to.
        """
        event = events.BeforeAction(
            self.peer,
            association=None,
            service="commit",
            sop_class_uid=uids.STORAGE_COMMITMENT_PUSH_MODEL,
            sop_instance_uid=COMMITMENT_INSTANCE,
            arguments=[list(instances)],
        )
        yield from self.hooks.fire(event)
        event.require()
        uid = transaction_uid or uids.new()
        result = yield from self._reported(event.arguments[0], uid)
        yield from self.hooks.fire(events.AfterAction(self.peer, association=None, result=result, error=None))
        return result

    def _reported(self, instances: list[tuple[str, str]], uid: str) -> Script[Commitment]:
        if self.listen is None:
            try:
                here: Commitment = yield from self.client.using(
                    presentation_contexts.commitment(), _asking("commit", instances, uid)
                )
            except (AssociationAborted, ConnectionFailed) as error:  # many report on an association of their own
                error.hint = error.hint or _REPORTS_LATER
                raise
            return here
        reports = _Reports(self.client, uid)
        tls = self.listen_tls if self.listen.tls else None
        door = Door(self.client, self.listen, tls=tls, senders=self.senders, acceptance=self.acceptance)
        answer: Commitment = yield from door.open_for(reports.register, lambda: self._later(reports, instances, uid))
        return answer

    def _later(self, reports: _Reports, instances: list[tuple[str, str]], uid: str) -> Script[Commitment]:
        early = yield from self.client.using(
            presentation_contexts.commitment(), _asking("request_commitment", instances, uid)
        )
        if early is None and not (yield Call(self.client.face.wait, reports.gate, self.patience)):
            hint = "Does the peer know our AE title, and the address that is listened at?"
            raise DeadlineExceeded("commitment", self.patience, peer=self.peer, hint=hint)
        result = early if early is not None else reports.found
        assert isinstance(result, Commitment)
        return result


def _asking(method: str, instances: list[tuple[str, str]], uid: str) -> Callable[[Any], Script[Any]]:
    def ask(association: Any) -> Script[Any]:
        return (yield Call(lambda: getattr(association, method)(instances, transaction_uid=uid)))

    return ask


class _Reports:
    """Waits for the report on one transaction; others are none of ours (PS3.4 Section J.3.3)."""

    def __init__(self, client: ClientCore, uid: str) -> None:
        self.gate = client.face.gate()
        self.found: Commitment | None = None
        self._uid = uid

    def register(self, listener: Any) -> None:
        listener.on_event_report(uids.STORAGE_COMMITMENT_PUSH_MODEL)(self._report)

    def _report(self, request: Any) -> Status:
        dataset = codec.decode(request.data, request.transfer_syntax_uid)
        if str(dataset.get("TransactionUID", "")) != self._uid:
            return Status(Status.INVALID_ARGUMENT_VALUE, comment="unknown transaction")
        self.found = self.found or Commitment(self._uid, dataset)
        self.gate.set()
        return Status.SUCCESS
