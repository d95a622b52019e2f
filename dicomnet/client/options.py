"""What clients take as options, and what queries and retrieves would like: extended negotiation (PS3.4 Section C.5)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TypedDict

from .. import uids
from ..config import Limits, Timeouts
from ..errors import InvalidArgument
from ..net.tls import TLS
from ..protocol.events import Tracing
from ..protocol.negotiation import NegotiationOptions, UserIdentity
from ..services import query_models
from .retry import Retry

__all__ = ["ClientOptions", "QueryOptions", "StoreClientOptions"]

_OFFSET = re.compile(r"[+-]\d{4}").fullmatch


class StoreClientOptions(TypedDict, total=False):
    """Options of a `Client`, but for how many associations it may have: a `StoreScu` has its own say there."""

    calling: str | None
    tls: TLS | None
    identity: UserIdentity | None
    extras: NegotiationOptions | None
    idle: float | None
    retry: Retry | None
    requests_per_association: int | None
    limits: Limits | None
    timeouts: Timeouts | None
    tap: Tracing | None


class ClientOptions(StoreClientOptions, total=False):
    """Options of a `Client`, which a component hands on to the one that it makes."""

    associations: int | None


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """What a query or a retrieve would like beyond the baseline; what the peer declines, it does without.

    Attributes:
        relational: keys of any level in one query, without the unique keys above; retrieves likewise. Declined, a
            query below the top level needs those keys.
        combined_datetime: a range of dates with one of times is one span. Declined, the dates are asked for and the
            matches outside of the span are left out here.
        fuzzy: the peer finds names that are like the one given. Declined, it finds those that match literally.
        timezone: our offset from UTC, such as "+0100": dates and times of keys and matches are meant by it. Declined,
            they are meant as the peer's.
    """

    relational: bool = False
    combined_datetime: bool = False
    fuzzy: bool = False
    timezone: str = ""

    def __post_init__(self) -> None:
        if self.timezone and not _OFFSET(self.timezone):
            raise InvalidArgument(f"time zone {self.timezone!r} is no offset from UTC", hint="Write it like +0100.")

    def __bool__(self) -> bool:
        return any(self._flags())

    def _flags(self) -> tuple[bool, bool, bool, bool]:
        return self.relational, self.combined_datetime, self.fuzzy, bool(self.timezone)

    def offer(self, model: str, operations: Iterable[str]) -> dict[str, bytes]:
        """Application information by SOP class, for `NegotiationOptions.extended`; empty where nothing is asked for.

        Args:
            model: as of `query_models.model_of`.
            operations: of "find", "get", "move", those that are proposed.
        """
        information = query_models.model_of(model)
        offered = {}
        for sop_class in filter(None, (getattr(information, operation) for operation in operations)):
            wanted = self._wanted(sop_class)
            if any(wanted):
                offered[sop_class] = bytes(_trimmed(wanted))
        return offered

    def _wanted(self, sop_class: str) -> list[int]:
        """A byte for each sub-field (PS3.4 Tables C.5-1, C.5-3, K.5-1)."""
        relational, combined, fuzzy, timezone = map(int, self._flags())
        if sop_class == uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND:
            return [1, 1, fuzzy, timezone] if fuzzy or timezone else []
        if query_models.model_of(sop_class).find == sop_class:
            return [relational, combined, fuzzy, timezone]
        return [relational]

    def granted(self, sop_class: str, answers: dict[str, bytes]) -> QueryOptions:
        """What is left of them by the peer's answers (``association.extended``); no answer declines all."""
        wanted = self._wanted(sop_class)
        answer = answers.get(sop_class, b"")
        got = [bool(ours and theirs == 1) for ours, theirs in zip(wanted, answer, strict=False)]
        got += [False] * (4 - len(got))
        if sop_class == uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND:
            got[:2] = False, False
        return QueryOptions(got[0], got[1], got[2], self.timezone if got[3] else "")

    def declined(self, granted: QueryOptions) -> list[str]:
        """The names of those that were wanted and are not there."""
        both = zip(fields(self), self._flags(), granted._flags(), strict=True)
        return [one.name for one, ours, theirs in both if ours and not theirs]


def _trimmed(wanted: list[int]) -> list[int]:
    """Without the zeros at the end: peers that know the older, shorter fields take those."""
    last = max(place for place, value in enumerate(wanted) if value)
    return wanted[: last + 1]
