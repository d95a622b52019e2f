"""`Client`, as scripts: a peer rather than a connection. `client` and `client.aio` give it its faces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from .. import uids
from ..config import Entity, Limits, Timeouts, check_ae_title
from ..errors import (
    AssociationAborted,
    AssociationError,
    DicomNetError,
    InputFileError,
    InvalidArgument,
    LocalProtocolError,
    NoAcceptedContext,
    ServiceFailure,
)
from ..files import instance_source
from ..net.tls import TLS
from ..protocol.events import Tapping
from ..protocol.negotiation import Extras, ProposedContext, UserIdentity
from ..protocol.peer_profile import Peer
from ..services import presentation_contexts, query_models
from ..services.scu import Match, RetrieveProgress, StoreResult
from ..services.user import Commitment, Reply
from ..status import Status
from . import events, peer_directory
from .events import Event, Hooks, Vetoed
from .plan import storing
from .pool import Pool
from .procedure import Call, Face, Left, Results, Script, operation, streaming
from .retry import Retry
from .telling import done, matches, progressing

__all__ = ["Borrowed", "ClientCore", "Component"]

T = TypeVar("T")
H = TypeVar("H", bound=Callable[..., Any])

#: After these an association is as good as before: nothing was sent, or all was answered.
_HARMLESS = (ServiceFailure, NoAcceptedContext, InvalidArgument, InputFileError, Vetoed, Left)


class Component:
    """What has handlers and a face."""

    face: ClassVar[Face]
    hooks: Hooks

    def on(self, kind: type[Event]) -> Callable[[H], H]:
        """Decorate a function that is to be called for such events."""

        def register(handler: H) -> H:
            self.hooks.add(kind, handler)
            return handler

        return register


class ClientCore(Component):
    """A peer, and the associations with it: opened with what an operation needs when it needs it, kept, used again.

    As a context manager it is closed at the end of the block, and aborted if the block ends in an exception. One client
    may be used from several threads, or tasks.

    Args:
        peer: ``AET@host:port``, ``dicoms://AET@host`` for TLS, a name from peers.toml (see `book`), an `Entity`, or the
            profile of a `Peer`. What the file or the profile says holds where nothing else is said here.
        calling: our own AE title; by default "DICOMNET".
        tls: how to secure connections; None is plain, or for ``dicoms://`` what `TLS` is by default.
        identity: who the user is; shorthand for ``extras``.
        extras: what to propose beside presentation contexts.
        associations: how many there may be at a time; by default ``Limits.pool``.
        idle: seconds after which an association that nobody uses is released, 0 at once; by default ``Timeouts.kept``.
        retry: what is tried again, and how often.
        requests_per_association: after so many a new association is opened; None is any number.
        limits, timeouts: of every association.
        tap: who is told of each PDU and message, see `taps.Tap`.
    """

    def __init__(
        self,
        peer: str | Entity | Peer,
        *,
        calling: str | None = None,
        tls: TLS | None = None,
        identity: UserIdentity | None = None,
        extras: Extras | None = None,
        associations: int | None = None,
        idle: float | None = None,
        retry: Retry | None = None,
        requests_per_association: int | None = None,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        tap: Tapping | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.timeouts = timeouts or Timeouts()
        self.profile, usual = _known(peer)
        associations = usual.get("associations") if associations is None else associations
        idle = usual.get("idle", self.timeouts.kept) if idle is None else idle
        self.entity = self.profile.address()
        self.calling = check_ae_title(usual.get("calling", "DICOMNET") if calling is None else calling)
        self.tls = tls or self.profile.tls
        self.extras = extras or (Extras(identity=identity) if identity is not None else None)
        self.retry = retry or Retry()
        self.tap = tap
        self.hooks = Hooks(self)
        most = self.limits.pool if associations is None else associations
        if most < 1 or (requests_per_association or 1) < 1 or (idle or 0) < 0:
            raise InvalidArgument("associations and requests_per_association are at least 1, idle at least 0")
        self.pool = Pool(
            self.face,
            self._open,
            self._release,
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

    @operation
    def echo(self) -> Script[Status]:
        """C-ECHO: the peer's answer (PS3.7 Section 9.1.5)."""
        return (yield from self.using(presentation_contexts.verification(), _echo))

    @operation
    def store(self, /, source: Any, *, transcode: Any = None, **options: Any) -> Script[StoreResult]:
        """C-STORE of one instance; what keeps it from being sent is raised. See ``Association.store``.

        Many are sent by a `StoreScu`, which plans their presentation contexts together.
        """
        event = events.BeforeStore(self.peer, source=source, association=None)
        yield from self.hooks.fire(event)
        event.require()
        pair = instance_source.describe(event.sent)
        policy = transcode or self.profile.transcode or "never"
        contexts = (
            storing(pair, policy) if pair else presentation_contexts.verification()
        )  # whoever opens it finds out why
        answer: StoreResult = yield from self.using(
            contexts,
            lambda association: self._done(
                events.AfterStore, association, association.store, event.sent, transcode=policy, **options
            ),
        )
        return answer

    @streaming
    def find(
        self,
        /,
        level: str = "",
        *,
        model: str = "STUDY_ROOT",
        returning: Iterable[str] = (),
        query: Any = None,
        **keys: Any,
    ) -> Results[Match]:
        """C-FIND: the matches as they come; leaving the loop cancels. See ``Association.find``."""
        event = events.BeforeFind(
            self.peer, association=None, level=level, model=model, returning=returning, query=query, keys=keys
        )
        yield from self.hooks.fire(event)
        event.require()
        contexts = presentation_contexts.sop_classes(query_models.model_uid(event.model, "find"))
        yield from self.using(contexts, lambda association: self._find(association, event))

    def _find(self, association: Any, event: Any) -> Results[Match]:
        found = association.find(
            event.level, model=event.model, returning=event.returning, query=event.query, **event.keys
        )
        yield from matches(self.face, self.hooks, self.peer, association, event.level, found, lambda match: match)

    @operation
    def get(
        self,
        /,
        level: str,
        *,
        to: Any,
        model: str = "STUDY_ROOT",
        query: Any = None,
        progress: Callable[[RetrieveProgress], object] | None = None,
        **keys: Any,
    ) -> Script[RetrieveProgress]:
        """C-GET: the instances come on the same association (PS3.7 Section 9.1.3). See ``Association.get``."""
        event = events.BeforeGet(self.peer, association=None, level=level, to=to, model=model, query=query, keys=keys)
        yield from self.hooks.fire(event)
        event.require()
        named = {"to": event.to, "progress": progressing(self.face, self.hooks, self.peer, progress)}
        contexts = presentation_contexts.retrieving(query_models.model_uid(event.model, "get"))
        return (yield from self._retrieved(events.AfterGet, contexts, "get", event, named))

    @operation
    def move(
        self,
        /,
        level: str,
        *,
        destination: str,
        model: str = "STUDY_ROOT",
        query: Any = None,
        progress: Callable[[RetrieveProgress], object] | None = None,
        **keys: Any,
    ) -> Script[RetrieveProgress]:
        """C-MOVE: the peer sends the instances to ``destination`` (PS3.7 Section 9.1.4). See ``Association.move``."""
        event = events.BeforeMove(
            self.peer, association=None, level=level, destination=destination, model=model, query=query, keys=keys
        )
        yield from self.hooks.fire(event)
        event.require()
        named = {"destination": event.destination, "progress": progressing(self.face, self.hooks, self.peer, progress)}
        contexts = presentation_contexts.sop_classes(query_models.model_uid(event.model, "move"))
        return (yield from self._retrieved(events.AfterMove, contexts, "move", event, named))

    def _retrieved(
        self, after: type[Event], contexts: Sequence[ProposedContext], name: str, event: Any, named: dict[str, Any]
    ) -> Script[RetrieveProgress]:
        answer: RetrieveProgress = yield from self.using(
            contexts,
            lambda association: self._done(
                after,
                association,
                getattr(association, name),
                event.level,
                model=event.model,
                query=event.query,
                **named,
                **event.keys,
            ),
        )
        return answer

    @operation
    def normalized(
        self,
        service: str,
        sop_class_uid: str,
        sop_instance_uid: str | None = None,
        *arguments: Any,
        context: str = "",
    ) -> Script[Reply]:
        """An N-service by its name: "n_get", "n_set", "n_action", "n_create", "n_delete" (PS3.7 Section 10.1).

        Args:
            service: the name of the association's method.
            sop_class_uid, sop_instance_uid: the instance.
            arguments: as the association's method takes them: data sets, action types, tags.
            context: the abstract syntax to use, where that is a meta SOP class.
        """
        event = events.BeforeAction(
            self.peer,
            association=None,
            service=service,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            arguments=list(arguments),
        )
        yield from self.hooks.fire(event)
        event.require()
        answer: Reply = yield from self.using(
            presentation_contexts.sop_classes(context or event.sop_class_uid),
            lambda association: self._done(
                events.AfterAction,
                association,
                getattr(association, event.service),
                event.sop_class_uid,
                event.sop_instance_uid,
                *event.arguments,
                context=context,
            ),
        )
        return answer

    @operation
    def commit(self, instances: Iterable[tuple[str, str]], *, transaction_uid: str = "") -> Script[Commitment]:
        """Storage commitment, reported on the same association (PS3.4 Annex J). See ``Association.commit``."""
        event = events.BeforeAction(
            self.peer,
            association=None,
            service="commit",
            sop_class_uid=uids.STORAGE_COMMITMENT_PUSH_MODEL,
            sop_instance_uid=uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE,
            arguments=[list(instances)],
        )
        yield from self.hooks.fire(event)
        event.require()
        answer: Commitment = yield from self.using(
            presentation_contexts.commitment(),
            lambda association: self._done(
                events.AfterAction, association, association.commit, *event.arguments, transaction_uid=transaction_uid
            ),
        )
        return answer

    # ---- what components are built on --------------------------------------------------------------------------

    def association(self, contexts: Sequence[ProposedContext]) -> Borrowed:
        """An association with these contexts, for the time of a ``with`` block, or ``async with``."""
        return Borrowed(self, contexts)

    def using(self, contexts: Sequence[ProposedContext], body: Callable[[Any], Script[T]]) -> Script[T]:
        """Run a script that takes an association with these contexts; what is left of it is kept, or aborted."""
        lease = yield from self.pool.take(contexts)
        lease.use()
        try:
            answer = yield from body(lease.association)
        except _HARMLESS:
            yield from self.pool.give_back(lease)
            raise
        except BaseException as error:
            yield from self.lost(lease, error)
            raise
        yield from self.pool.give_back(lease)
        return answer

    def lost(self, lease: Any, error: BaseException) -> Script[None]:
        """An operation on this association ended in an error: tell whoever wants to know, and put it away."""
        try:
            if isinstance(error, DicomNetError) and not lease.association.established:
                yield from self.hooks.fire(_end_of(self.peer, lease.association, error))
        finally:
            yield from self.pool.drop(lease)

    def _done(self, after: type[Event], association: Any, method: Any, *arguments: Any, **named: Any) -> Script[Any]:
        return done(self.hooks, self.peer, after, association, method, *arguments, **named)

    def _open(self, contexts: Sequence[ProposedContext]) -> Script[Any]:
        """Connect; what is transient is tried again."""
        pause = self.retry.pauses()
        attempt = 1
        while True:
            try:
                return (yield from self._connect(contexts))
            except DicomNetError as error:
                if attempt >= self.retry.attempts or not self.retry.is_transient(error):
                    raise
            if (yield Call(self.face.wait, self.pool.closing, pause(attempt))):
                raise LocalProtocolError("the client was closed", peer=self.peer)
            attempt += 1

    def _connect(self, contexts: Sequence[ProposedContext]) -> Script[Any]:
        before = events.BeforeConnect(self.peer, entity=self.entity)
        yield from self.hooks.fire(before)
        before.require()
        asked = events.BeforeAssociate(
            self.peer,
            calling=self.calling,
            called=before.entity.ae_title,
            contexts=list(contexts),
            extras=self.extras,
        )
        yield from self.hooks.fire(asked)
        asked.require()
        entity = Entity(asked.called, before.entity.host, before.entity.port, before.entity.tls)
        named = {
            "calling": asked.calling,
            "contexts": asked.contexts,
            "tls": self.tls,
            "extras": asked.extras,
            "limits": self.limits,
            "timeouts": self.timeouts,
            "tap": self.tap,
        }
        try:
            association = yield Call(partial(self.face.connect, **named), self.profile.replace(entity=entity))
        except DicomNetError as error:
            yield from self._connected(None, error)
            raise
        try:
            yield from self._connected(association, None)
        except BaseException:
            yield Call(association.abort)
            raise
        return association

    def _connected(self, association: Any, error: DicomNetError | None) -> Script[None]:
        answered = association is not None or isinstance(error, AssociationError)
        yield from self.hooks.fire(events.AfterConnect(self.peer, error=None if answered else error))
        if association is not None and association.tls is not None:
            yield from self.hooks.fire(events.SecureLinkReady(self.peer, link=association.tls))
        if answered:
            yield from self.hooks.fire(events.AfterAssociate(self.peer, association=association, error=error))

    def _release(self, association: Any) -> Script[None]:
        before = events.BeforeRelease(self.peer, association=association)
        error: DicomNetError | None = None
        try:
            yield from self.hooks.fire(before)
            over = before.skipped or before.vetoed is not None
        except BaseException:
            yield Call(association.abort)
            raise
        try:
            yield Call(association.abort if over else association.release)
        except DicomNetError as problem:
            error = problem
        yield from self.hooks.fire(events.AfterRelease(self.peer, error=error))

    # ---- the end -----------------------------------------------------------------------------------------------

    @operation
    def close(self) -> Script[None]:
        """Release all associations: idle ones now, each of the others when its operation is done. Nothing may follow.

        From any thread, or task of the same loop; a wait between two attempts ends.
        """
        yield from self.pool.close()

    def _leave(self, error: BaseException | None) -> Script[None]:
        yield from self.pool.close(abort=error is not None)

    @operation
    def abort(self) -> Script[None]:
        """Abort all associations, from any thread, or task of the same loop; operations under way raise."""
        yield from self.pool.close(abort=True)


def _known(peer: str | Entity | Peer) -> tuple[Peer, Mapping[str, Any]]:
    """The profile of a peer, and what else a file says of it."""
    if isinstance(peer, str) and peer_directory.is_name(peer):
        known = peer_directory.find(peer)
        return known.peer, known.options
    return Peer.of(peer), {}


def _end_of(peer: str, association: Any, error: DicomNetError) -> Event:
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


def _echo(association: Any) -> Script[Status]:
    status: Status = yield Call(association.echo)
    return status


class Borrowed:
    """An association of a client for the time of a block; the client keeps it afterwards, or aborts it."""

    def __init__(self, client: ClientCore, contexts: Sequence[ProposedContext]) -> None:
        self._client = client
        self._contexts = contexts
        self._lease: Any = None

    def _enter(self) -> Script[Any]:
        self._lease = yield from self._client.pool.take(self._contexts)
        self._lease.use()
        return self._lease.association

    def _exit(self, error: BaseException | None) -> Script[None]:
        if error is None or isinstance(error, _HARMLESS):
            yield from self._client.pool.give_back(self._lease)
        else:
            yield from self._client.lost(self._lease, error)

    def __enter__(self) -> Any:
        return self._client.face.complete(self._enter())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._client.face.complete(self._exit(error))

    async def __aenter__(self) -> Any:
        return await self._client.face.complete(self._enter())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self._client.face.complete(self._exit(error))
