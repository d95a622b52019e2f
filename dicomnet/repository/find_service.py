"""C-FIND over the index, in both roots (PS3.4 Section C.4.1)."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial

from ..log import log
from ..services.provider_requests import FindRequest
from ..services.service_registry import Registering
from ..status import Status
from .audited import Recorder
from .catalog import Level
from .holdings import Holdings
from .index import QueryTooLong
from .keys import Identifier, InvalidKey, QueryOptions
from .responses import Answers, Match

__all__ = ["QueryService"]

#: Seconds that a query may spend in the index, and the most matches that it is answered with.
QUERY_SECONDS = 10.0
MOST_MATCHES = 100_000

# What is granted beyond the baseline (PS3.4 Table C.5-1): relational queries, dates with their times as one range, and
# dates and times in the asker's time zone; fuzzy matching of names is not.
_EXTENDED = b"\1\1\0\1"

Answer = tuple[Status, bytes]


class QueryService:
    """Answers queries.

    Args:
        holdings: the index that is asked.
        retrieve_ae_title: what answers say that instances are retrieved from.
        audit: records what is asked; None: there is no audit trail.
    """

    def __init__(self, holdings: Holdings, retrieve_ae_title: str, audit: Recorder | None = None) -> None:
        self._holdings, self._audit = holdings, audit
        self._answers = Answers(retrieve_ae_title=retrieve_ae_title)

    def register(self, services: Registering, owner: str) -> None:
        """Offer C-FIND in both roots."""
        for model, root in (("STUDY_ROOT", Level.STUDY), ("PATIENT_ROOT", Level.PATIENT)):
            find = self.find if self._audit is None else partial(self._recorded, self._audit)
            services.on_find(model, owner=owner, extended=_EXTENDED)(partial(find, root=root))

    def _recorded(
        self, audit: Recorder, request: FindRequest, *, root: Level
    ) -> Generator[Answer, None, Status] | Status:
        """`find`, in the audit trail."""
        outcome = "serious"
        try:
            answer = self.find(request, root=root)
            outcome = "minor" if isinstance(answer, Status) else "success"
        finally:
            audit.queried(request, outcome)
        return answer

    def find(self, request: FindRequest, *, root: Level) -> Generator[Answer, None, Status] | Status:
        """The matches of a query, one by one, or why it cannot be answered."""
        index = self._holdings.index
        try:
            identifier = Identifier.decode(
                request.data,
                request.transfer_syntax_uid,
                options=self._options(request.negotiated),
                character_set=self._holdings.settings.character_set,
            )
            plan, _ = index.planned(identifier, root=root)
            scope = self._holdings.scope_of(request.calling)
            matches = index.find(identifier, root=root, seconds=QUERY_SECONDS, answers=self._answers, scope=scope)
        except InvalidKey as error:
            log.info("a query by %s is refused: %s", request.calling, error.message)
            comment, offending = error.message, (error.tag,)
            return Status(Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, comment=comment, offending=offending)
        pending = Status.PENDING_WARNING if plan.unsupported else Status.PENDING
        return self._told(request, matches, pending)

    def _options(self, negotiated: bytes) -> QueryOptions:
        """What holds for a query: what was negotiated, and what is granted to all."""
        relational, combined, _, timezone = (flag == 1 for flag in negotiated.ljust(4, b"\0")[:4])
        relational = self._holdings.settings.relational or relational
        return QueryOptions(relational=relational, combined_datetime=combined, timezone=timezone)

    def _told(self, request: FindRequest, matches: Iterator[Match], pending: Status) -> Generator[Answer, None, Status]:
        """Each match as it is sent. The peer may cancel: this is closed then, and gives its connection back."""
        syntax = request.transfer_syntax_uid
        count = 0
        try:
            for match in matches:
                if count == MOST_MATCHES:
                    log.info("a query by %s matches more than %d", request.calling, MOST_MATCHES)
                    return Status(Status.OUT_OF_RESOURCES, comment=f"more than {MOST_MATCHES} matches")
                count += 1
                yield pending, match.encode(syntax)
        except QueryTooLong as error:
            log.warning("a query by %s took too long: %d matches so far", request.calling, count)
            return Status(Status.OUT_OF_RESOURCES, comment=error.message)
        log.debug("a query by %s matched %d", request.calling, count)
        return Status.SUCCESS
