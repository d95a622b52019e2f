"""Asynchronous associations as a requestor: `connect` gives one, its methods are the services."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import monotonic, time
from types import TracebackType
from typing import Any, Self

from .. import uids
from ..config import Entity, Limits, Timeouts
from ..dataset import codec
from ..dataset.transcoding import Transcoding
from ..dataset.types import Dataset, Path, Storable
from ..errors import NoAcceptedContext
from ..net.tls import TLS
from ..protocol.events import Tracing
from ..protocol.exchange import Exchange
from ..protocol.messages import Priority
from ..protocol.negotiation import (
    NegotiationOptions,
    PresentationContext,
    ProposedContext,
    SecureLink,
    extended_answers,
    identity_response,
    operations_window,
)
from ..protocol.peer_profile import Peer
from ..services import scu, user
from ..services.scp import Handler, Provider
from ..services.scu import Match, RetrieveProgress, StoreResult
from ..services.user import Commitment, Encoded, Keep, Progress, Reply
from ..status import Status
from .requestor import Requestor, Results, open_requestor

__all__ = ["Association", "connect"]


async def connect(
    peer: str | Entity | Peer,
    *,
    calling: str = "DICOMNET",
    contexts: Sequence[ProposedContext],
    tls: TLS | None = None,
    extras: NegotiationOptions | None = None,
    limits: Limits | None = None,
    timeouts: Timeouts | None = None,
    tap: Tracing | None = None,
) -> Association:
    """Connect to a peer and associate with it.

    Args:
        peer: ``AET@host:port``, ``host:port``, ``dicoms://AET@host`` for TLS, an `Entity`, or a `Peer`: its profile.
        calling: our own AE title.
        contexts: what to propose; see ``dicomnet.contexts``.
        tls: how to secure the connection; None is as the profile says, else plain; for ``dicoms://`` a plain `TLS`.
        extras: what to propose beside them: a user's identity, an operations window, extended negotiation.
        limits: bounds of what the peer may send; ``max_pdu`` is announced.
        timeouts: seconds of each wait.
        tap: is told of each PDU, change of state and message, see `ProtocolTrace`.

    Raises:
        ConnectionFailed: nothing listens there; as `TLSFailed`, there is no trust between us.
        AssociationRejected, AssociationAborted: the peer does not want to.
        NoAcceptedContext: the peer accepted the association but none of its contexts.
        DeadlineExceeded: the peer is silent.
    """
    profile = Peer.of(peer)
    entity = profile.address()
    limits, timeouts = limits or Limits(), timeouts or Timeouts()
    exchange = Exchange.requestor(
        calling=calling, called=entity.ae_title, contexts=contexts, extras=extras, limits=limits, timeouts=timeouts,
        observer=tap.observe(str(entity), True, time) if tap is not None else None, profile=profile,
    )  # fmt: skip
    tls = tls or profile.tls or (TLS() if entity.tls else None)
    association = Association(await open_requestor(exchange, entity, tls))
    await association._require_a_context()
    return association


class Association:
    """An established association; made by `connect`.

    As a context manager it is released at the end of the block, and aborted if the block ends in an exception. Calls
    of several tasks take turns; while the matches of a query are being read, there is no other.

    Attributes:
        contexts: the negotiated presentation contexts by ID, refused ones too.
    """

    def __init__(self, requestor: Requestor) -> None:
        self._requestor = requestor
        self._exchange = requestor.driver.exchange
        self._reports: user.Reports | None = None

    async def _require_a_context(self) -> None:
        contexts = self.contexts.values()
        if any(context.accepted for context in contexts):
            return
        await self.release()
        refused = next(iter(contexts))
        raise NoAcceptedContext(
            abstract_syntax=refused.abstract_syntax, transfer_syntaxes=refused.offered, peer=self._exchange.peer
        )

    @property
    def contexts(self) -> dict[int, PresentationContext]:
        """The negotiated presentation contexts by ID, refused ones too."""
        return self._exchange.contexts

    @property
    def tls(self) -> SecureLink | None:
        """What TLS negotiated, with the peer's certificate; None on a plain connection."""
        return self._exchange.tls

    @property
    def identity_response(self) -> bytes | None:
        """The peer's positive response to our user's identity; None where there is none (PS3.7 Annex D.3.3.7)."""
        return identity_response(self._exchange.accept_pdu)

    @property
    def operations_window(self) -> tuple[int, int]:
        """How many operations at a time we may invoke, and perform; 0 is any number (PS3.7 Annex D.3.3.3)."""
        return operations_window(self._exchange.request_pdu, self._exchange.accept_pdu)

    @property
    def extended(self) -> dict[str, bytes]:
        """The peer's answers to extended negotiation, by SOP class (PS3.7 Annex D.3.3.5)."""
        return extended_answers(self._exchange.request_pdu, self._exchange.accept_pdu)

    @property
    def established(self) -> bool:
        """Whether services can be asked for."""
        return self._exchange.established

    async def echo(self) -> Status:
        """C-ECHO: the peer's answer (PS3.7 Section 9.1.5).

        Raises:
            NoAcceptedContext: verification was not proposed, or not accepted.
            AssociationError, ConnectionFailed, DeadlineExceeded: anything but an answer.
        """
        return await self._requestor.complete(scu.echo(self._exchange))

    async def store(
        self,
        source: Storable,
        *,
        transfer_syntax: str | None = None,
        priority: Priority = Priority.MEDIUM,
        transcode: Transcoding | None = None,
        originator: tuple[str, int] | None = None,
    ) -> StoreResult:
        """C-STORE of one instance; see `store_many`. What keeps it from being sent is raised."""
        results = self.store_many(
            [source],
            transfer_syntax=transfer_syntax,
            priority=priority,
            transcode=transcode,
            originator=originator,
        )
        result = await anext(results)
        await results.aclose()
        if result.error is not None:
            raise result.error
        return result

    def store_many(
        self,
        sources: Iterable[Storable],
        *,
        transfer_syntax: str | None = None,
        priority: Priority = Priority.MEDIUM,
        transcode: Transcoding | None = None,
        originator: tuple[str, int] | None = None,
        window: int | None = None,
    ) -> Results[StoreResult]:
        """C-STORE of many instances, a result for each, in their order (PS3.7 Section 9.1.1).

        An instance that cannot be read, or for which there is no context, becomes a result with its ``error``; the
        next one is tried all the same. As many are under way as the operations window allows: one, unless more were
        asked for and granted. Leave the loop early and those under way may arrive, or not.

        Args:
            sources: paths, open binary files, Part 10 bytes, pydicom data sets, or `Source` objects.
            transfer_syntax: of data sets that do not know theirs.
            priority: of every C-STORE.
            transcode: "never", "if needed", or a list of transfer syntaxes to be preferred (`transfer_choice.fitting`).
            originator: AE title and message ID of the C-MOVE that this is for.
            window: fewer under way at a time than negotiated.

        Raises:
            AssociationError, ConnectionFailed, DeadlineExceeded, RemoteProtocolError: the association ended. Its
                ``unanswered`` are the instances that were sent, and may have arrived.
        """
        flow = user.store_many(
            self._exchange,
            sources,
            monotonic,
            transfer_syntax=transfer_syntax,
            priority=priority,
            transcode=transcode,
            originator=originator,
            window=window,
        )
        return self._requestor.stored(flow)

    def find(
        self,
        level: str = "",
        *,
        model: str = "STUDY_ROOT",
        returning: Iterable[str] = (),
        query: Dataset | None = None,
        **keys: Any,
    ) -> Results[Match]:
        """C-FIND: the matches as they come; leaving the loop cancels (PS3.7 Section 9.1.2).

        Until they are read, or the loop is left, other calls are refused: what comes is for the matches.

        Args:
            level: PATIENT, STUDY, SERIES or IMAGE; nothing for a model without levels.
            model: "STUDY_ROOT", "PATIENT_ROOT", "WORKLIST" … (`queries.MODELS`).
            returning: keywords of attributes that are wanted back.
            query: a pydicom Dataset under the keys.
            keys: values by keyword.

        Raises:
            InvalidArgument: a key, value or level that does not fit; nothing was sent.
            NoAcceptedContext: the model was not proposed, or not accepted.
            ServiceFailure: the peer answered with a failure.
        """
        flow = user.find(self._exchange, level, model=model, returning=returning, query=query, **keys)
        return self._requestor.results(flow)

    def worklist(self, *, returning: Iterable[str] = (), query: Dataset | None = None, **keys: Any) -> Results[Match]:
        """C-FIND in the modality worklist (PS3.4 Annex K); see `find`."""
        return self.find(model="WORKLIST", returning=returning, query=query, **keys)

    async def get(
        self,
        level: str,
        *,
        to: Path | Keep | Provider,
        model: str = "STUDY_ROOT",
        query: Dataset | None = None,
        progress: Progress | None = None,
        **keys: Any,
    ) -> RetrieveProgress:
        """C-GET: the instances come on this association (PS3.7 Section 9.1.3).

        Args:
            level: of what is asked for; its unique key must be among the keys.
            to: a directory for files, a function of `StoreRequest`, or a `Provider`.
            model, query, keys: see `find`.
            progress: called with each pending response.

        Raises:
            ServiceFailure: nothing was sent at all.
        """
        flow = user.get(self._exchange, level, to, model=model, query=query, **keys)
        return await self._requestor.retrieve(flow, progress)

    async def move(
        self,
        level: str,
        *,
        destination: str,
        model: str = "STUDY_ROOT",
        query: Dataset | None = None,
        progress: Progress | None = None,
        **keys: Any,
    ) -> RetrieveProgress:
        """C-MOVE: the peer sends the instances to the AE ``destination`` (PS3.7 Section 9.1.4); see `get`."""
        flow = user.move(self._exchange, level, destination, model=model, query=query, **keys)
        return await self._requestor.retrieve(flow, progress)

    def move_steps(
        self,
        level: str,
        *,
        destination: str,
        model: str = "STUDY_ROOT",
        query: Dataset | None = None,
        **keys: Any,
    ) -> Results[RetrieveProgress]:
        """C-MOVE: what the peer reports as it comes, the outcome last; leaving the loop cancels. See `move`."""
        flow = user.move_steps(self._exchange, level, destination, model=model, query=query, **keys)
        return self._requestor.results(flow)

    async def n_get(
        self, sop_class_uid: str, sop_instance_uid: str, tags: Iterable[int | str] = (), *, context: str = ""
    ) -> Reply:
        """N-GET: attributes of an instance, all of them or those of ``tags`` (PS3.7 Section 10.1.2).

        Args:
            sop_class_uid, sop_instance_uid: the instance.
            tags: ints, or keywords.
            context: the abstract syntax to use, where that is a meta SOP class.

        Raises:
            ServiceFailure: the peer answered with a failure. So do its sisters.
        """
        wanted = codec.tags(tags)
        return await self._normalized(
            "n_get", sop_class_uid, sop_instance_uid, context=context, attribute_identifier_list=wanted
        )

    async def n_set(self, sop_class_uid: str, sop_instance_uid: str, dataset: Encoded, *, context: str = "") -> Reply:
        """N-SET: change attributes of an instance (PS3.7 Section 10.1.3)."""
        return await self._normalized("n_set", sop_class_uid, sop_instance_uid, dataset, context=context)

    async def n_action(
        self,
        sop_class_uid: str,
        sop_instance_uid: str,
        action: int,
        dataset: Encoded | None = None,
        *,
        context: str = "",
    ) -> Reply:
        """N-ACTION: have the peer do something with an instance (PS3.7 Section 10.1.4)."""
        return await self._normalized(
            "n_action", sop_class_uid, sop_instance_uid, dataset, context=context, action_type_id=action
        )

    async def n_create(
        self,
        sop_class_uid: str,
        sop_instance_uid: str | None = None,
        dataset: Encoded | None = None,
        *,
        context: str = "",
    ) -> Reply:
        """N-CREATE: make an instance; without a UID the peer chooses one (PS3.7 Section 10.1.5)."""
        return await self._normalized("n_create", sop_class_uid, sop_instance_uid, dataset, context=context)

    async def n_delete(self, sop_class_uid: str, sop_instance_uid: str, *, context: str = "") -> Reply:
        """N-DELETE: delete an instance (PS3.7 Section 10.1.6)."""
        return await self._normalized("n_delete", sop_class_uid, sop_instance_uid, context=context)

    async def n_event_report(
        self,
        sop_class_uid: str,
        sop_instance_uid: str,
        event: int,
        dataset: Encoded | None = None,
        *,
        context: str = "",
    ) -> Reply:
        """N-EVENT-REPORT: tell the peer of an event of an instance (PS3.7 Section 10.1.1)."""
        return await self._normalized(
            "n_event_report", sop_class_uid, sop_instance_uid, dataset, context=context, event_type_id=event
        )

    def on_event_report(self, *sop_classes: str) -> Callable[[Handler], Handler]:
        """Register a handler of N-EVENT-REPORTs that the peer sends on this association (PS3.7 Section 10.1.1).

        It is an ordinary function of `NormalizedRequest`, called while an operation waits for the peer, or
        `wait_for_event_report` does, in asyncio at any time; what it returns is the status. Without one, reports are
        declined.
        """
        self._reports = self._reports or user.Reports(self._exchange)
        return self._reports.on_event_report(*sop_classes)

    async def wait_for_event_report(self) -> None:
        """Wait for an N-EVENT-REPORT, as long as for a response; one that came since the last time will do.

        Raises:
            AssociationError, ConnectionFailed, DeadlineExceeded: the association ended before.
        """
        self._reports = self._reports or user.Reports(self._exchange)
        await self._requestor.complete(user.event_report(self._exchange, self._reports))

    async def commit(self, instances: Iterable[tuple[str, str]], *, transaction_uid: str = "") -> Commitment:
        """Storage commitment of pairs of SOP class and instance UID, reported on this association (PS3.4 Annex J).

        The wait for the report is that of every response, ``Timeouts.response``. A peer that reports on an association
        of its own is served by a `Listener` with ``on_event_report``, and asked by `request_commitment`.
        """
        return await self._requestor.complete(user.commit(self._exchange, instances, transaction_uid=transaction_uid))

    async def request_commitment(
        self, instances: Iterable[tuple[str, str]], *, transaction_uid: str = ""
    ) -> Commitment | None:
        """Ask for storage commitment, and release: the report is to come on an association of the peer's own.

        A report that is on its way already is returned.
        """
        flow = user.request_commitment(self._exchange, instances, transaction_uid=transaction_uid)
        return await self._requestor.complete(flow)

    async def mpps_create(self, dataset: Encoded, sop_instance_uid: str | None = None) -> Reply:
        """Begin a modality performed procedure step: IN PROGRESS (PS3.4 Section F.7.2.1)."""
        uid = sop_instance_uid or uids.new()
        return await self.n_create(uids.MODALITY_PERFORMED_PROCEDURE_STEP, uid, dataset)

    async def mpps_set(self, sop_instance_uid: str, dataset: Encoded) -> Reply:
        """Change a modality performed procedure step, or end it: COMPLETED, DISCONTINUED (PS3.4 Section F.7.2.2)."""
        return await self.n_set(uids.MODALITY_PERFORMED_PROCEDURE_STEP, sop_instance_uid, dataset)

    async def _normalized(
        self,
        service: str,
        sop_class_uid: str,
        sop_instance_uid: str | None,
        dataset: Encoded | None = None,
        *,
        context: str,
        **elements: object,
    ) -> Reply:
        flow = user.normalized(
            self._exchange, service, sop_class_uid, sop_instance_uid, dataset, context=context, **elements
        )
        return await self._requestor.complete(flow)

    async def release(self) -> None:
        """Release the association and close the connection; does nothing where it is over already."""
        await self._requestor.release()

    async def abort(self) -> None:
        """Abort the association and close the connection; a call under way in another task raises."""
        await self._requestor.abort()

    def interrupt(self) -> None:
        """Abort the association from another task, without waiting; a call under way raises `AssociationAborted`."""
        self._requestor.interrupt()

    def cancel(self) -> None:
        """Ask the peer to end the C-FIND, C-GET or C-MOVE that is under way, from another task, without waiting.

        The call goes on to the final response, whose status says that it was cancelled, or that it was too late.
        """
        self._requestor.cancel()

    def heard(self) -> None:
        """Begin the time-out of a response anew, from another task.

        What the call under way is about goes on elsewhere: the instances of a C-MOVE to ourselves come on other
        associations.
        """
        self._requestor.heard()

    def check(self) -> bool:
        """Whether the association goes on, after a look at what the peer has said meanwhile; does not wait."""
        return self._requestor.check()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if kind is None:
            await self.release()
        else:
            await self.abort()
