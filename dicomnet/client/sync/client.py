# Generated from dicomnet/client/aio/client.py by tools/async_to_sync.py: edit that, and run `make twins`.
"""`Client`: a peer rather than a connection."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from ... import uids
from ...config import Entity, Limits, Timeouts, check_ae_title
from ...dataset.transcoding import Transcoding
from ...dataset.types import Dataset, Path, Storable
from ...errors import (
    AssociationAborted,
    AssociationError,
    DicomNetError,
    InputFileError,
    InvalidArgument,
    LocalProtocolError,
    NoAcceptedContext,
    ServiceFailure,
)
from ...files import instance_source
from ...net.tls import TLS
from ...protocol.events import Tracing
from ...protocol.messages import Priority
from ...protocol.negotiation import NegotiationOptions, ProposedContext, UserIdentity
from ...protocol.peer_profile import Peer
from ...services import presentation_contexts, query_models
from ...services.scp import Provider
from ...services.scu import Match, RetrieveProgress, StoreResult
from ...services.user import Commitment, Keep, Progress, Reply
from ...status import Status
from ...sync.association import Association, connect
from .. import events, peer_directory
from ..events import Event, Vetoed
from ..retry import Retry
from .component import Component
from .concurrency import wait
from .hooks import Hooks
from .pool import Lease, Pool

__all__ = ["Borrowed", "Client"]

#: After these an association is as good as before: nothing was sent, or all was answered.
_HARMLESS = (ServiceFailure, NoAcceptedContext, InvalidArgument, InputFileError, Vetoed, GeneratorExit)


class Client(Component):
    """A peer, and the associations with it: opened with what an operation needs when it needs it, kept, used again.

    As a context manager it is closed at the end of the block, and aborted if the block ends in an exception. One client
    may be used from several threads.

    Args:
        peer: ``AET@host:port``, ``dicoms://AET@host`` for TLS, a name from peers.toml (see `peer_directory`), an
            `Entity`, or the profile of a `Peer`. What the file or the profile says holds where nothing else is said
            here.
        calling: our own AE title; by default "DICOMNET".
        tls: how to secure connections; None is plain, or for ``dicoms://`` what `TLS` is by default.
        identity: who the user is; shorthand for ``extras``.
        extras: what to propose beside presentation contexts.
        associations: how many there may be at a time; by default ``Limits.pool``.
        idle: seconds after which an association that is not used is released, 0 at once; by default ``Timeouts.kept``.
        retry: what is tried again, and how often.
        requests_per_association: after so many a new association is opened; None is any number.
        limits, timeouts: of every association.
        tap: is told of each PDU and message, see `ProtocolTrace`.

    Attributes:
        entity: the peer's title and address.
        profile: what is known of it.
        pool: the associations.
        hooks: the handlers.
    """

    profile: Peer
    extras: NegotiationOptions | None

    def __init__(
        self,
        peer: str | Entity | Peer,
        *,
        calling: str | None = None,
        tls: TLS | None = None,
        identity: UserIdentity | None = None,
        extras: NegotiationOptions | None = None,
        associations: int | None = None,
        idle: float | None = None,
        retry: Retry | None = None,
        requests_per_association: int | None = None,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        tap: Tracing | None = None,
    ) -> None:
        self.limits: Limits = limits or Limits()
        self.timeouts: Timeouts = timeouts or Timeouts()
        self.profile, usual = _known(peer)
        associations = usual.get("associations") if associations is None else associations
        idle = usual.get("idle", self.timeouts.kept) if idle is None else idle
        self.entity: Entity = self.profile.address()
        own = usual.get("calling") or self.profile.calling or "DICOMNET"
        self.calling: str = check_ae_title(own if calling is None else calling)
        self.tls: TLS | None = tls or self.profile.tls
        self.extras = extras or (NegotiationOptions(identity=identity) if identity is not None else None)
        self.retry: Retry = retry or Retry()
        self.tap = tap
        self.hooks: Hooks = Hooks(self)
        most = self.limits.pool if associations is None else associations
        if most < 1 or (requests_per_association is not None and requests_per_association < 1) or (idle or 0) < 0:
            raise InvalidArgument("associations and requests_per_association are at least 1, idle at least 0")
        self.pool: Pool = Pool(
            self,
            most=most,
            idle=idle,
            patience=self.timeouts.pool,
            requests=requests_per_association or usual.get("requests_per_association"),
        )

    @property
    def peer(self) -> str:
        """The peer as people write it: "AET@host:port"."""
        return str(self.entity)

    # ---- operations --------------------------------------------------------------------------------------------

    def echo(self) -> Status:
        """C-ECHO: the peer's answer (PS3.7 Section 9.1.5)."""
        with self.association(presentation_contexts.verification()) as association:
            return association.echo()

    def store(
        self,
        /,
        source: Storable,
        *,
        transcode: Transcoding | None = None,
        transfer_syntax: str | None = None,
        priority: Priority = Priority.MEDIUM,
    ) -> StoreResult:
        """C-STORE of one instance; what keeps it from being sent is raised. See ``Association.store``.

        Many are sent by a `StoreScu`, which plans their presentation contexts together.
        """
        event = events.BeforeStore(self.peer, source=source)
        self.hooks.announce(event)
        pair = instance_source.describe(event.sent)
        policy = transcode or self.profile.transcode or "never"
        # Where it cannot be described, the association says why.
        contexts = presentation_contexts.storing(pair, policy) if pair else presentation_contexts.verification()
        named = {"transcode": policy, "transfer_syntax": transfer_syntax, "priority": priority}
        with self.association(contexts) as association:
            after, method = events.AfterStore, association.store
            result: StoreResult = self.hooks.done(self.peer, after, association, method, event.sent, **named)
            return result

    def find(
        self,
        /,
        level: str = "",
        *,
        model: str = "STUDY_ROOT",
        returning: Iterable[str] = (),
        query: Dataset | None = None,
        **keys: Any,
    ) -> Generator[Match, None]:
        """C-FIND: the matches as they come; leaving the loop cancels. See ``Association.find``."""
        event = events.BeforeFind(self.peer, level=level, model=model, returning=returning, query=query, keys=keys)
        self.hooks.announce(event)
        contexts = presentation_contexts.sop_classes(query_models.model_uid(event.model, "find"))
        with self.association(contexts) as association:
            found = association.find(
                event.level, model=event.model, returning=event.returning, query=event.query, **event.keys
            )
            matches = self.hooks.matches(self.peer, association, event.level, found, lambda match: match)
            yield from matches

    def get(
        self,
        /,
        level: str,
        *,
        to: Path | Keep | Provider,
        model: str = "STUDY_ROOT",
        query: Dataset | None = None,
        progress: Progress | None = None,
        **keys: Any,
    ) -> RetrieveProgress:
        """C-GET: the instances come on the same association (PS3.7 Section 9.1.3). See ``Association.get``."""
        event = events.BeforeGet(self.peer, level=level, to=to, model=model, query=query, keys=keys)
        self.hooks.announce(event)
        contexts = presentation_contexts.retrieving(query_models.model_uid(event.model, "get"))
        with self.association(contexts) as association:
            return self._retrieved(events.AfterGet, association, "get", event, progress, to=event.to)

    def move(
        self,
        /,
        level: str,
        *,
        destination: str,
        model: str = "STUDY_ROOT",
        query: Dataset | None = None,
        progress: Progress | None = None,
        **keys: Any,
    ) -> RetrieveProgress:
        """C-MOVE: the peer sends the instances to ``destination`` (PS3.7 Section 9.1.4). See ``Association.move``."""
        event = events.BeforeMove(self.peer, level=level, destination=destination, model=model, query=query, keys=keys)
        self.hooks.announce(event)
        contexts = presentation_contexts.sop_classes(query_models.model_uid(event.model, "move"))
        with self.association(contexts) as association:
            named = {"destination": event.destination}
            return self._retrieved(events.AfterMove, association, "move", event, progress, **named)

    def _retrieved(
        self,
        after: type[Event],
        association: Association,
        name: str,
        event: events.BeforeGet | events.BeforeMove,
        progress: Progress | None,
        **named: Any,
    ) -> RetrieveProgress:
        answer: RetrieveProgress = self.hooks.done(
            self.peer,
            after,
            association,
            getattr(association, name),
            event.level,
            model=event.model,
            query=event.query,
            progress=self.hooks.progressing(self.peer, progress),
            **named,
            **event.keys,
        )
        return answer

    def normalized(
        self,
        service: str,
        sop_class_uid: str,
        sop_instance_uid: str | None = None,
        *arguments: Any,
        context: str = "",
    ) -> Reply:
        """An N-service by its name: "n_get", "n_set", "n_action", "n_create", "n_delete" (PS3.7 Section 10.1).

        Args:
            service: the name of the association's method.
            sop_class_uid, sop_instance_uid: the instance.
            arguments: as the association's method takes them: data sets, action types, tags.
            context: the abstract syntax to use, where that is a meta SOP class.
        """
        event = events.BeforeAction(
            self.peer,
            service=service,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            arguments=list(arguments),
        )
        self.hooks.announce(event)
        contexts = presentation_contexts.sop_classes(context or event.sop_class_uid)
        with self.association(contexts) as association:
            reply: Reply = self.hooks.act(event, association, context=context)
            return reply

    def commit(self, instances: Iterable[tuple[str, str]], *, transaction_uid: str = "") -> Commitment:
        """Storage commitment, reported on the same association (PS3.4 Annex J). See ``Association.commit``."""
        event = events.BeforeAction(
            self.peer,
            service="commit",
            sop_class_uid=uids.STORAGE_COMMITMENT_PUSH_MODEL,
            sop_instance_uid=uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE,
            arguments=[list(instances)],
        )
        self.hooks.announce(event)
        with self.association(presentation_contexts.commitment()) as association:
            after, method, named = events.AfterAction, association.commit, {"transaction_uid": transaction_uid}
            answer: Commitment = self.hooks.done(self.peer, after, association, method, *event.arguments, **named)
            return answer

    # ---- what components are built on --------------------------------------------------------------------------

    def association(self, contexts: Sequence[ProposedContext]) -> Borrowed:
        """An association with these contexts, for the time of an ``with`` block."""
        return Borrowed(self, contexts)

    def discard(self, lease: Lease, error: BaseException) -> None:
        """Put an association away on which an operation ended in this error; handlers are told of its end."""
        try:
            if isinstance(error, DicomNetError) and not lease.association.established:
                self.hooks.fire(_end_of(self.peer, lease.association, error))
        finally:
            self.pool.drop(lease)

    def open_association(self, contexts: Sequence[ProposedContext]) -> Association:
        """Connect, which handlers see and may change; what is transient is tried again. For the pool."""
        pause = self.retry.pauses()
        attempt = 1
        while True:
            try:
                return self._connect(contexts)
            except DicomNetError as error:
                if attempt >= self.retry.attempts or not self.retry.is_transient(error):
                    raise
            if wait(self.pool.closing, pause(attempt)):
                raise LocalProtocolError("the client was closed", peer=self.peer)
            attempt += 1

    def _connect(self, contexts: Sequence[ProposedContext]) -> Association:
        before = events.BeforeConnect(self.peer, entity=self.entity)
        self.hooks.announce(before)
        asked = events.BeforeAssociate(
            self.peer,
            calling=self.calling,
            called=before.entity.ae_title,
            contexts=list(contexts),
            extras=self.extras,
        )
        self.hooks.announce(asked)
        try:
            association = connect(
                replace(self.profile, entity=replace(before.entity, ae_title=asked.called)),
                calling=asked.calling,
                contexts=asked.contexts,
                tls=self.tls,
                extras=asked.extras,
                limits=self.limits,
                timeouts=self.timeouts,
                tap=self.tap,
            )
        except DicomNetError as error:
            self._connected(None, error)
            raise
        try:
            self._connected(association, None)
        except BaseException:
            association.abort()
            raise
        return association

    def _connected(self, association: Association | None, error: DicomNetError | None) -> None:
        answered = association is not None or isinstance(error, AssociationError)
        self.hooks.fire(events.AfterConnect(self.peer, error=None if answered else error))
        if association is not None and association.tls is not None:
            self.hooks.fire(events.SecureLinkReady(self.peer, link=association.tls))
        if answered:
            self.hooks.fire(events.AfterAssociate(self.peer, association=association, error=error))

    def release_association(self, association: Association) -> None:
        """Release an association, unless a handler does not want it: then it is aborted. For the pool."""
        before = events.BeforeRelease(self.peer, association=association)
        error: DicomNetError | None = None
        try:
            self.hooks.fire(before)
        except BaseException:
            association.abort()
            raise
        try:
            if before.skipped or before.vetoed is not None:
                association.abort()
            else:
                association.release()
        except DicomNetError as problem:
            error = problem
        self.hooks.fire(events.AfterRelease(self.peer, error=error))

    # ---- the end -----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Release all associations: idle ones now, each of the others when its operation is done. Nothing may follow.

        From any thread; a wait between two attempts ends.
        """
        self.pool.close()

    def abort(self) -> None:
        """Abort all associations, from any thread; operations under way raise."""
        self.pool.close(abort=True)

    def _leave(self, error: BaseException | None) -> None:
        self.pool.close(abort=error is not None)


def _known(peer: str | Entity | Peer) -> tuple[Peer, Mapping[str, Any]]:
    """The profile of a peer, and what else a file says of it."""
    if isinstance(peer, str) and peer_directory.is_name(peer):
        known = peer_directory.find(peer)
        return known.peer, known.options
    return Peer.of(peer), {}


def _end_of(peer: str, association: Association, error: DicomNetError) -> Event:
    """The event for the unexpected end of an association."""
    if isinstance(error, AssociationAborted):
        return events.Aborted(
            peer,
            association=association,
            by_peer=error.by_peer,
            source=error.source,
            reason=error.reason,
            error=error,
        )
    return events.Closed(peer, association=association, error=error)


class Borrowed:
    """An association of a client for the time of a block; the client keeps it afterwards, or aborts it."""

    def __init__(self, client: Client, contexts: Sequence[ProposedContext]) -> None:
        self._client = client
        self._contexts = contexts
        self._lease: Lease | None = None

    def __enter__(self) -> Association:
        self._lease = self._client.pool.take(self._contexts)
        self._lease.use()
        return self._lease.association

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        assert self._lease is not None
        if error is None or isinstance(error, _HARMLESS):
            self._client.pool.give_back(self._lease)
        else:
            self._client.discard(self._lease, error)
