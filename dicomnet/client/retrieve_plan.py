"""From matches to requests: what is retrieved together, and from whom (PS3.4 Sections C.4.2 and C.4.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import DicomNetError, InvalidArgument
from ..services import query_models
from ..services.scu import RetrieveProgress
from ..status import Status
from .matches import Availability, TypedMatch

__all__ = ["Retrieved", "Target", "Unavailable", "targets"]

_OUT_OF_REACH = (Availability.OFFLINE, Availability.UNAVAILABLE)


class Unavailable(DicomNetError):
    """What was to be retrieved is offline, or cannot be had: the peer said so when it was looked for.

    Attributes:
        matches: what it is about.
    """

    def __init__(self, matches: Iterable[TypedMatch], *, peer: str | None = None) -> None:
        self.matches: tuple[TypedMatch, ...] = tuple(matches)
        first = self.matches[0]
        state = "offline" if first.availability is Availability.OFFLINE else "unavailable"
        more = f", and {len(self.matches) - 1} more" if len(self.matches) > 1 else ""
        hint = "An operator has to bring it back online first." if state == "offline" else None
        super().__init__(f"{first.level.lower()} {first.uid} is {state}{more}", peer=peer, hint=hint)


@dataclass(frozen=True, slots=True)
class Target:
    """One request of a retrieve.

    Attributes:
        level: Query/Retrieve Level.
        keys: the unique keys down to it; of the last, one UID or a list.
        titles: AE titles that have it; empty where the archive does not say.
    """

    level: str
    keys: Mapping[str, Any]
    titles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What came of a retrieve.

    Attributes:
        by: "get" or "move"; empty where nothing was asked for.
        outcomes: the final response to each request.
        unavailable: matches that were not asked for, since they are offline or unavailable.
    """

    by: str
    outcomes: tuple[RetrieveProgress, ...] = ()
    unavailable: tuple[TypedMatch, ...] = ()

    @property
    def completed(self) -> int:
        """Instances that were sent."""
        return sum(one.completed for one in self.outcomes)

    @property
    def failed(self) -> int:
        """Instances that were not."""
        return sum(one.failed for one in self.outcomes)

    @property
    def warning(self) -> int:
        """Instances that were sent, about which their receiver has something to say."""
        return sum(one.warning for one in self.outcomes)

    @property
    def missing(self) -> int:
        """Instances that the peer says it sent, and that were not kept here."""
        return sum(one.missing for one in self.outcomes)

    @property
    def unasked(self) -> list[str]:
        """SOP Instance UIDs of instances that came, and were kept, though they belong to nothing that was named."""
        return [uid for one in self.outcomes for uid in one.unasked]

    @property
    def problem(self) -> str:
        """What is wrong with a retrieve whose instances are missing here, and what to try; else empty."""
        if not self.missing:
            return ""
        said = self.completed + self.warning
        what = f"{self.missing} of {said} instances that the peer says it sent were not kept here."
        if self.by == "move":
            return f"{what} Does the peer have our AE title at another address?"
        return f"{what} Storing them failed, or the peer counts what it did not send."

    @property
    def status(self) -> Status:
        """Of the last request: it ends with the first that was cancelled."""
        return self.outcomes[-1].status if self.outcomes else Status.SUCCESS

    @property
    def failed_uids(self) -> list[str]:
        """Those that were not sent, as far as the peer names them."""
        return [uid for one in self.outcomes for uid in one.failed_uids]

    @property
    def cancelled(self) -> bool:
        """The user cancelled it: the peer has ended it before its end."""
        return any(one.status.is_cancel for one in self.outcomes)

    @property
    def ok(self) -> bool:
        """Everything was sent, warnings included, and kept where it was to come here."""
        return not self.unavailable and all(one.ok for one in self.outcomes)


def targets(
    what: Any, model: str, keys: Mapping[str, Any], peer: str | None = None
) -> tuple[list[Target], tuple[TypedMatch, ...]]:
    """The requests for what is wanted, and which of the matches cannot be had.

    Args:
        what: a match, several of them, or a level for which ``keys`` say what is meant.
        model: the information model.
        keys: values by keyword; only with a level.
        peer: for errors.

    Raises:
        InvalidArgument: nothing is wanted, something without its unique key, or with a level that the model has not.
        Unavailable: nothing of it can be had.
    """
    information = query_models.model_of(model)
    if isinstance(what, str):
        query_models.identifier(information, what, keys, retrieve=True)
        return [Target(what.upper(), dict(keys))], ()
    if keys:
        raise InvalidArgument(f"{', '.join(sorted(keys))}: a match has its keys already")
    matches = [what] if isinstance(what, TypedMatch) else list(what)
    if not matches:
        raise InvalidArgument("nothing is to be retrieved")
    found = [match for match in matches if match.availability not in _OUT_OF_REACH]
    if not found:
        raise Unavailable(matches, peer=peer)
    return _grouped(information, found), tuple(match for match in matches if match.availability in _OUT_OF_REACH)


def _grouped(model: query_models.Model, matches: Iterable[TypedMatch]) -> list[Target]:
    """Siblings at the same place are asked for together: a list of UIDs is one request (PS3.4 Section C.4.2.1.4.1)."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for match in matches:
        names = _keys_to(model, match)
        above = tuple((name, match.keys[name]) for name in names[:-1] if match.keys.get(name))
        groups.setdefault((match.level, names[-1], above, match.retrieve_ae_titles), []).append(match.uid)
    return [
        Target(level, {**dict(above), name: uids[0] if len(uids) == 1 else uids}, titles)
        for (level, name, above, titles), uids in groups.items()
    ]


def _keys_to(model: query_models.Model, match: TypedMatch) -> list[str]:
    names = [key for _, key in model.levels]
    if match.level not in dict(model.levels):
        raise InvalidArgument(f"information model {model.name} has no level {match.level}")
    if not match.uid:
        raise InvalidArgument(f"a match without {match.key} cannot be retrieved")
    return names[: names.index(match.key) + 1]
