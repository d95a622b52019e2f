"""What looks for something: queries with typed matches, their options and their end, for every model (PS3.4)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Unpack

from ...aio.association import Association
from ...config import Entity
from ...protocol.negotiation import NegotiationOptions
from ...protocol.peer_profile import Peer
from ...services import presentation_contexts, query_models
from ...services.scu import Match
from .. import events
from ..criteria import Query
from ..matches import TypedMatch, match_class
from ..options import ClientOptions, QueryOptions
from .client import Client
from .service import Service

__all__ = ["Finder"]

_OPERATIONS = ("find", "get", "move")
_MODELS = ("STUDY_ROOT", "PATIENT_ROOT", "WORKLIST")


class Finder(Service):
    """A component that makes queries.

    Args:
        client: the peer; or its address for a client of its own, which takes the other ``options``.
        wanted: what is to be negotiated beyond the baseline; done without where the peer declines.
        options: of the client.

    Attributes:
        declined: the names of the options that the peer declined when it was last asked.
    """

    def __init__(
        self,
        client: Client | str | Entity | Peer,
        *,
        wanted: QueryOptions | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(client, **options)
        self.wanted: QueryOptions = wanted or QueryOptions()
        self.declined: list[str] = []
        self._under_way: list[Association] = []  # that a query or a retrieve waits on
        self._cancelled = 0  # how often `cancel` was called
        if self.wanted:
            self.client.on(events.BeforeAssociate)(self._offer)

    def _offer(self, event: events.BeforeAssociate) -> None:
        """Put what is wanted into an A-ASSOCIATE-RQ that proposes SOP classes it is about."""
        proposed = {context.abstract_syntax for context in event.contexts}
        offered: dict[str, bytes] = {}
        for model in _MODELS:
            offered |= {uid: one for uid, one in self.wanted.offer(model, _OPERATIONS).items() if uid in proposed}
        if offered:
            extras = event.extras or NegotiationOptions()
            event.extras = extras._replace(extended={**extras.extended, **offered})

    def cancel(self) -> None:
        """Ask the peer to end what is under way, from any task; does not wait.

        Queries end with the matches that came; retrieves say that they were ``cancelled``. What is only connecting yet
        goes on.
        """
        self._cancelled += 1
        for association in list(self._under_way):
            association.cancel()

    async def _found(self, query: Query) -> AsyncGenerator[Any, None]:
        """The matches of a query, in the class of their level."""
        event = events.BeforeFind(
            self.peer,
            level=query.level,
            model=query.model.name,
            returning=(),
            query=query.template,
            keys=dict(query.keys),
        )
        await self.hooks.announce(event)
        asked = Query(event.level, model=event.model, template=event.query, **event.keys).returning(*event.returning)
        contexts = presentation_contexts.sop_classes(query_models.model_uid(event.model, "find"))
        async with self.client.association(contexts) as association:
            self._under_way.append(association)
            try:
                async with aclosing(self._matches(association, asked)) as results:
                    async for result in results:
                        yield result
            finally:
                self._under_way.remove(association)

    def _matches(self, association: Association, query: Query) -> AsyncGenerator[TypedMatch, None]:
        granted = self.wanted.granted(query.model.find, association.extended)
        self.declined = self.wanted.declined(granted)
        identifier, is_meant = query.fitted(self.wanted, granted)
        found = association.find(query.level, model=query.model.find, query=identifier)
        kind, above = match_class(query.level, query.model.name), query.above

        def typed(match: Match) -> TypedMatch | None:
            one = kind(match, above)
            return one if is_meant(one.dataset) else None

        return self.hooks.matches(self.peer, association, query.level, found, typed)
