# Generated from dicomnet/client/aio/query.py by tools/async_to_sync.py: edit that, and run `make twins`.
"""`QueryRetrieveScu`: look for studies, go down to their instances, have them sent (PS3.4 Annex C)."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, TypeAlias, Unpack

from ... import uids
from ...config import Entity, check_ae_title, listed
from ...dataset.types import Path
from ...errors import DicomNetError, InvalidArgument, NoAcceptedContext
from ...net.tls import TLS
from ...protocol.negotiation import MAX_CONTEXTS, AcceptancePolicy, PresentationContext, ProposedContext
from ...protocol.peer_profile import Peer
from ...services import presentation_contexts, query_models
from ...services.scu import RetrieveProgress
from ...services.user import Keep, Progress
from ...sync.association import Association
from .. import events, peer_directory
from ..criteria import Query
from ..matches import InstanceMatch, PatientMatch, SeriesMatch, StudyMatch, TypedMatch
from ..options import ClientOptions, QueryOptions
from ..retrieve_plan import Retrieved, Target, targets
from .client import Client
from .concurrency import call
from .hooks import Hooks
from .query_base import Finder
from .retrieve_receiver import CallbackListener, RetrieveReceiver, listening_address

__all__ = ["QueryRetrieveScu"]

_BOTH = ("get", "move")
_ADDRESS = "Give listen (--listen), such as 0.0.0.0:11112."

#: What is to be retrieved: a match, several of them, or a level for which keys say what is meant.
Wanted: TypeAlias = TypedMatch | Iterable[TypedMatch] | str


class QueryRetrieveScu(Finder):
    """Looks for studies and retrieves them: by C-GET or by C-MOVE to oneself, whichever the peer offers.

    Args:
        client: the peer; or its address for a client of its own, which takes the other ``options``.
        model: "STUDY_ROOT" or "PATIENT_ROOT" (`query_models.MODELS`).
        wanted: what is to be negotiated beyond the baseline; done without where the peer declines.
        by: how to retrieve, the preferred way first: of "get" and "move".
        transfer_syntaxes: in which instances may come by C-GET; compressed ones have to be named.
        listen: where instances of a C-MOVE to oneself are to come to, as "0.0.0.0:11112", with ``dicoms://`` over TLS;
            the peer has to know our AE title, and this address. Without it there is no C-MOVE to oneself; with it, one
            at a time.
        listen_tls: how connections to it are secured; by default as those of the client.
        senders: AE titles by which the peer may call for that, beside its own.
        acceptance: further rules of who may.
        peers: other AEs by title, for matches that are theirs by Retrieve AE Title; by default those of peers.toml.
        options: of the client.
    """

    def __init__(
        self,
        client: Client | str | Entity | Peer,
        *,
        model: str = "STUDY_ROOT",
        wanted: QueryOptions | None = None,
        by: Iterable[str] = _BOTH,
        transfer_syntaxes: Iterable[str] = presentation_contexts.UNCOMPRESSED,
        listen: str | Entity | None = None,
        listen_tls: TLS | None = None,
        senders: Iterable[str] = (),
        acceptance: AcceptancePolicy | None = None,
        peers: Mapping[str, str | Entity] | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(client, wanted=wanted, **options)
        self.model: str = query_models.model_of(model).name
        self.by: tuple[str, ...] = _ways(by)
        self.transfer_syntaxes: tuple[str, ...] = listed(transfer_syntaxes)
        self.listen: Entity | None
        self.listen_tls: TLS | None
        self.listen, self.listen_tls = listening_address(listen, listen_tls or self.client.tls)
        self.senders: frozenset[str] = frozenset(map(check_ae_title, listed(senders)))
        self.acceptance = acceptance
        self.peers: dict[str, Entity] | None = (
            None
            if peers is None
            else {
                check_ae_title(title): Entity.parse(one) if isinstance(one, str) else one
                for title, one in peers.items()
            }
        )

    # ---- looking -----------------------------------------------------------------------------------------------

    def find(self, /, query: Query | str, **keys: Any) -> Generator[TypedMatch, None]:
        """The matches of a query as they come; leaving the loop cancels.

        Args:
            query: a `Query`; or a level for which ``keys`` say what is matched, and what is usual is returned, too.
            keys: values by keyword.

        Raises:
            InvalidArgument: a key that does not fit; nothing was sent.
            ServiceFailure: the peer answered with a failure.
        """
        if isinstance(query, str):
            patients = query.upper() == "PATIENT"
            query = Query(query, model="PATIENT_ROOT" if patients else self.model, **keys).usual()
        elif keys:
            query = query.where(**keys)
        return self._found(query)

    def patients(self, /, **keys: Any) -> Generator[PatientMatch, None]:
        """Patients, in the patient root model."""
        return self._found(Query("PATIENT", model="PATIENT_ROOT", **keys).usual())

    def studies(self, /, patient: PatientMatch | None = None, **keys: Any) -> Generator[StudyMatch, None]:
        """Studies; those of one patient, or of all."""
        above = {} if patient is None else patient.keys
        return self._found(Query("STUDY", model=self.model, **above | keys).usual())

    def series(self, /, study: StudyMatch | str, **keys: Any) -> Generator[SeriesMatch, None]:
        """The series of a study: of a match, or of a Study Instance UID."""
        return self._found(self._series(study, keys))

    def instances(self, /, series: SeriesMatch | StudyMatch | str, **keys: Any) -> Generator[InstanceMatch, None]:
        """The instances of a series, with what the IHE recommends for its modality; those of all series of a study.

        Args:
            series: a match, or a Series Instance UID, which takes a ``StudyInstanceUID`` among the keys.
            keys: values by keyword.
        """
        all_of_them: list[Any] = [series]
        if isinstance(series, StudyMatch):
            with closing(self._found(self._series(series, {}))) as found:
                all_of_them = [one for one in found]
        cancelled = self._cancelled
        for one in all_of_them:
            if self._cancelled == cancelled:
                yield from self._found(self._instances(one, keys))

    def _series(self, study: StudyMatch | str, keys: Mapping[str, Any]) -> Query:
        above = {"StudyInstanceUID": study} if isinstance(study, str) else self._keys_of(study)
        return Query("SERIES", model=self.model, **{**above, **keys}).usual()

    def _instances(self, series: SeriesMatch | str, keys: Mapping[str, Any]) -> Query:
        if isinstance(series, str):
            return Query("IMAGE", model=self.model, **{"SeriesInstanceUID": series, **keys}).usual()
        return Query("IMAGE", model=self.model, **{**self._keys_of(series), **keys}).usual(series.modality)

    def _keys_of(self, match: TypedMatch) -> dict[str, str]:
        """The unique keys of a match that the model has."""
        if not match.uid:
            raise InvalidArgument(f"a match without {match.key} has nothing below it")
        known = {key for _, key in query_models.model_of(self.model).levels}
        return {keyword: value for keyword, value in match.keys.items() if keyword in known}

    # ---- having it sent ----------------------------------------------------------------------------------------

    def move(self, /, what: Wanted, *, destination: str, progress: Progress | None = None, **keys: Any) -> Retrieved:
        """C-MOVE: have studies, series or instances sent to another AE, which the peer has to know.

        Args:
            what: a match, several of them, or a level for which ``keys`` say what is meant.
            destination: the AE title of the receiver.
            progress: called with each pending response.
            keys: values by keyword.

        Raises:
            Unavailable: nothing of it is online or nearline; nothing was sent.
            ServiceFailure: the peer did nothing at all.
        """
        title = check_ae_title(destination)
        wanted, unavailable = self._targets(what, keys)
        outcomes: list[RetrieveProgress] = []
        for target in wanted:
            with self._held(target, ("move",)) as (client, association):
                event = self._before(events.BeforeMove, target, destination=title)
                named = {"destination": event.destination}
                asked = self._asked(client, association, events.AfterMove, "move", event, progress, **named)
                outcomes.append(asked)
            if outcomes[-1].status.is_cancel:
                break
        return Retrieved("move", tuple(outcomes), unavailable)

    def retrieve(
        self,
        /,
        what: Wanted,
        *,
        to: Path | Keep,
        by: Iterable[str] | str | None = None,
        progress: Progress | None = None,
        **keys: Any,
    ) -> Retrieved:
        """Have studies, series or instances sent here, by the first way of ``by`` that the peer offers and that works.

        Args:
            what: a match, several of them, or a level for which ``keys`` say what is meant. Matches are asked for
                where they are: of the AE that they name, if it is known, else of the peer.
            to: a directory for files, or a function of `StoreRequest`.
            by: "get", "move", or both in order; by default as the component was told.
            progress: called with each pending response.
            keys: values by keyword.

        Raises:
            Unavailable: nothing of it is online or nearline; nothing was sent.
            NoAcceptedContext: the peer offers neither way.
            ConnectionFailed: we cannot listen where we are told to.
            ServiceFailure: the peer did nothing at all.

        The result is ``ok`` only where as many instances were kept as the peer says it sent. Instances of a C-MOVE that
        come after its final response are waited for, `config.STRAGGLER_GRACE` after each.
        """
        ways = self._ways_here(by)
        wanted, unavailable = self._targets(what, keys)
        outcomes: list[RetrieveProgress] = []
        way = ""
        for target in wanted:
            with self._held(target, ways) as (client, association):
                way, outcome = self._brought(client, association, target, ways, to, progress)
            outcomes.append(outcome)
            if outcome.status.is_cancel:
                break
        return Retrieved(way, tuple(outcomes), unavailable)

    def _brought(
        self,
        client: Client,
        association: Association,
        target: Target,
        ways: Iterable[str],
        to: Path | Keep,
        progress: Progress | None,
    ) -> tuple[str, RetrieveProgress]:
        """Have one target sent here; what does not come one way is asked for by the next.

        It is the whole target then: what has come already is not passed on again.
        """
        receiver = RetrieveReceiver(client, self.hooks, to, target.keys)
        way, *others = self._offered(association.contexts, self._model_of(target), ways)
        while True:
            brought = self._got if way == "get" else self._moved_here
            outcome = receiver.completed(brought(client, association, target, receiver, progress))
            receiver.heed()
            if not (outcome.failed or outcome.missing) or outcome.status.is_cancel:
                return way, outcome
            if not others:
                return way, self._rest(client, target, receiver, progress, outcome) if way == "get" else outcome
            way = others.pop(0)  # by C-GET, what is compressed does not come from every peer
            receiver.next_way()

    def _rest(
        self,
        client: Client,
        target: Target,
        receiver: RetrieveReceiver,
        progress: Progress | None,
        outcome: RetrieveProgress,
    ) -> RetrieveProgress:
        """A C-GET once more, for the storage classes that did not fit the first association."""
        model = query_models.model_uid(self._model_of(target), "get")
        contexts = presentation_contexts.retrieving(model, transfer_syntaxes=self.transfer_syntaxes, rest=True)
        receiver.next_way()
        try:
            with client.association(contexts) as second:
                again = receiver.completed(self._got(client, second, target, receiver, progress))
        except DicomNetError:  # what it was to bring has failed already
            return outcome
        receiver.heed()
        return again if again.failed + again.missing < outcome.failed + outcome.missing else outcome

    def _targets(self, what: Wanted, keys: Mapping[str, Any]) -> tuple[list[Target], tuple[TypedMatch, ...]]:
        is_patient = (what.upper() if isinstance(what, str) else getattr(what, "level", "")) == "PATIENT"
        return targets(what, "PATIENT_ROOT" if is_patient else self.model, keys, self.peer)

    def _ways_here(self, by: Iterable[str] | str | None) -> tuple[str, ...]:
        """How instances may come here; without an address there is one way."""
        ways = self.by if by is None else _ways((by,) if isinstance(by, str) else by)
        if self.listen is not None:
            return ways
        if "get" not in ways:
            raise InvalidArgument("a C-MOVE to oneself takes an address", hint=_ADDRESS)
        return ("get",)

    def _got(
        self,
        client: Client,
        association: Association,
        target: Target,
        receiver: RetrieveReceiver,
        progress: Progress | None,
    ) -> RetrieveProgress:
        event = self._before(events.BeforeGet, target, to=receiver.provider())
        told = _heeding(receiver, progress)
        outcome = self._asked(client, association, events.AfterGet, "get", event, told, to=event.to)
        return receiver.counted(outcome)

    def _moved_here(
        self,
        client: Client,
        association: Association,
        target: Target,
        receiver: RetrieveReceiver,
        progress: Progress | None,
    ) -> RetrieveProgress:
        assert self.listen is not None
        event = self._before(events.BeforeMove, target, destination=client.calling)
        tls = self.listen_tls if self.listen.tls else None
        calls = CallbackListener(client, self.listen, tls=tls, senders=self.senders, acceptance=self.acceptance)
        receiver.register(calls.listener, calls.callers)
        told, named = _heeding(receiver, progress), {"destination": event.destination}
        with calls:
            receiver.waiting = association
            outcome = self._asked(client, association, events.AfterMove, "move", event, told, **named)
            receiver.waiting = None
            if event.destination == client.calling:
                receiver.wait_for(outcome.completed + outcome.warning)
        return outcome if event.destination != client.calling else receiver.counted(outcome)

    def _offered(self, contexts: Mapping[int, PresentationContext], model: str, ways: Iterable[str]) -> list[str]:
        """The ways that this association has; a C-GET is none where nothing can come by it."""
        accepted = [context for context in contexts.values() if context.accepted]
        offered = {context.abstract_syntax for context in accepted if context.scu}
        # Peers that answer no role item serve a C-GET all the same (PS3.7 Section D.3.3.4).
        brings = any(context.abstract_syntax in uids.STORAGE_CLASSES for context in accepted)
        found = [way for way in ways if query_models.model_uid(model, way) in offered and (way == "move" or brings)]
        if found:
            return found
        hint = f"A C-MOVE to oneself takes an address. {_ADDRESS}" if self.listen is None else None
        raise NoAcceptedContext(query_models.model_uid(model, next(iter(ways))), peer=self.peer, hint=hint)

    def _model_of(self, target: Target) -> str:
        return "PATIENT_ROOT" if target.level == "PATIENT" else self.model

    def _contexts(self, model: str, ways: Iterable[str]) -> list[ProposedContext]:
        asked = presentation_contexts.sop_classes(*(query_models.model_uid(model, way) for way in ways))
        if "get" not in ways:
            return asked
        get = query_models.model_uid(model, "get")
        brought = presentation_contexts.retrieving(get, transfer_syntaxes=self.transfer_syntaxes)[1:]
        return (asked + brought)[:MAX_CONTEXTS]

    def _holder(self, target: Target) -> Entity | Peer:
        """Who is asked: the peer, if it has it, or nothing else is known; else the AE that is known by the title."""
        own = self.client.entity
        if own.ae_title in target.titles or not target.titles:
            return own
        if self.peers is None:
            known = {one.peer.address().ae_title: one.peer for one in peer_directory.load().values()}
            return next((known[title] for title in target.titles if title in known), own)
        return next((self.peers[title] for title in target.titles if title in self.peers), own)

    @contextmanager
    def _held(self, target: Target, ways: Iterable[str]) -> Iterator[tuple[Client, Association]]:
        """An association with the AE that holds a target, and the client that it is of."""
        holder, contexts = self._holder(target), self._contexts(self._model_of(target), ways)
        if holder is self.client.entity:
            with self.client.association(contexts) as association:
                yield self.client, association
            return
        other = _sister(self.client, holder)
        try:
            with other.association(contexts) as association:
                yield other, association
        finally:
            other.pool.close()

    def _before(self, kind: type[Any], target: Target, **facts: Any) -> Any:
        """Ask the handlers about a C-GET or C-MOVE."""
        event = kind(
            self.peer,
            level=target.level,
            model=self._model_of(target),
            query=None,
            keys=dict(target.keys),
            **facts,
        )
        self.hooks.announce(event)
        return event

    def _asked(
        self,
        client: Client,
        association: Association,
        after: type[events.Event],
        name: str,
        event: Any,
        progress: Progress | None,
        **named: Any,
    ) -> RetrieveProgress:
        """Call a method of an association, and tell how far it is and what came of it."""
        self._under_way.append(association)
        try:
            answer: RetrieveProgress = self.hooks.done(
                client.peer,
                after,
                association,
                getattr(association, name),
                event.level,
                model=event.model,
                query=event.query,
                progress=self.hooks.progressing(client.peer, progress),
                **named,
                **event.keys,
            )
        finally:
            self._under_way.remove(association)
        return answer


def _sister(client: Client, holder: Entity | Peer) -> Client:
    """A client like this one for another peer; its events are told to the same handlers."""
    other = type(client)(
        holder,
        calling=client.calling,
        tls=client.tls if Peer.of(holder).address().tls else None,
        extras=client.extras,
        retry=client.retry,
        limits=client.limits,
        timeouts=client.timeouts,
        tap=client.tap,
    )
    other.hooks = Hooks(other, client.hooks)
    return other


def _ways(by: Iterable[str]) -> tuple[str, ...]:
    ways = tuple(dict.fromkeys(way.lower() for way in by))
    if not ways or not set(ways) <= set(_BOTH):
        raise InvalidArgument(f"{', '.join(ways) or 'nothing'}: no way to retrieve", hint="Ways: get, move.")
    return ways


def _heeding(receiver: RetrieveReceiver, progress: Progress | None) -> Progress:
    """Progress that ends the retrieve once a handler has raised."""

    def told(step: RetrieveProgress) -> None:
        receiver.heed()
        if progress is not None:
            call(progress, step)

    return told
