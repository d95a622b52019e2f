"""The modality worklist: C-FIND of what is scheduled, one answer for each step (PS3.4 Annex K)."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping

from ..log import log
from ..repository.attributes import Attributes
from ..repository.finding import QueryTooLong
from ..repository.headers import read_elements
from ..repository.keys import CHARACTER_SET, Identifier, InvalidKey
from ..repository.responses import ItemAnswering
from ..repository.text import clean_uid
from ..repository.worklist_query import WorklistQuery
from ..services.provider_requests import FindRequest
from ..services.service_registry import Registering
from ..status import Status
from .holdings import Holdings

__all__ = ["WorklistService"]

#: Seconds that a query may spend in the database, and the most steps that it is answered with.
QUERY_SECONDS = 10.0
MOST_MATCHES = 10_000
#: Character sets that one encoding covers; what a device wants in others it gets in UTF-8.
_SINGLE = ("ISO_IR 6", "ISO_IR 1", "ISO_IR 203", "GB18030", "GBK")

Answer = tuple[Status, bytes]


class WorklistService:
    """Answers what modalities ask their worklists for.

    Args:
        holdings: where the worklist is.
    """

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings

    def register(self, services: Registering, owner: str) -> None:
        """Offer the worklist."""
        services.on_find("WORKLIST", owner=owner)(self.find)

    def find(self, request: FindRequest) -> Generator[Answer, None, Status] | Status:
        """The matches of a query, one by one, or why it cannot be answered."""
        own = self._holdings.settings.character_set
        syntax = request.transfer_syntax_uid
        try:
            identifier = Identifier.decode(request.data, syntax, character_set=own)
        except InvalidKey as error:
            log.info("a worklist query by %s is refused: %s", request.calling, error.message)
            status = Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS
            return Status(status, comment=error.message, offending=(error.tag,))
        query = WorklistQuery(identifier, _both_ways(self._holdings.settings.stations))
        answering = ItemAnswering(identifier, syntax, _character_set(request) or own)
        pending = Status.PENDING_WARNING if query.unsupported else Status.PENDING
        matches = query.find(self._holdings.database, seconds=QUERY_SECONDS)
        return self._told(request.calling, matches, answering, pending)

    def _told(
        self, calling: str, matches: Iterator[Attributes], answering: ItemAnswering, pending: Status
    ) -> Generator[Answer, None, Status]:
        count = 0
        try:
            for match in matches:
                if count == MOST_MATCHES:
                    log.info("a worklist query by %s matches more than %d steps", calling, MOST_MATCHES)
                    return Status(Status.OUT_OF_RESOURCES, comment=f"more than {MOST_MATCHES} matches")
                count += 1
                yield pending, answering.encode(match)
        except QueryTooLong as error:
            log.warning("a worklist query by %s took too long: %d steps so far", calling, count)
            return Status(Status.OUT_OF_RESOURCES, comment=error.message)
        log.debug("a worklist query by %s matched %d steps", calling, count)
        return Status.SUCCESS


def _character_set(request: FindRequest) -> str:
    """In what the peer asks, it can read."""
    for element in read_elements(request.data, request.transfer_syntax_uid, (CHARACTER_SET,)):
        if isinstance(element.value, bytes) and (named := clean_uid(element.value)).startswith(_SINGLE):
            return named if "\\" not in named and named != "ISO_IR 13" else ""
    return ""


def _both_ways(stations: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """All titles of a station by each of them."""
    groups = [(title, *others) for title, others in stations.items()]
    return {title: tuple(one for one in group if one != title) for group in groups for title in group}
