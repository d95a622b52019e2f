"""The query builder: what is looked for, checked as it is built, before a peer is called (PS3.4 Annexes C and K)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ..config import Limits
from ..dataset import codec
from ..errors import InvalidArgument
from ..services import query_models
from .options import QueryOptions
from .return_keys import BY_LEVEL, WORKLIST, instance_keys

__all__ = ["Query"]

Keys = dict[str, Any]


class Query:
    """What is looked for at one level of an information model. It does not change: each method gives another one.

    Args:
        level: PATIENT, STUDY, SERIES or IMAGE, in any case; nothing for a model without levels.
        model: "STUDY_ROOT", "PATIENT_ROOT", "WORKLIST" … (`query_models.MODELS`).
        template: a pydicom Dataset, or the path of a file with one, over which the keys are laid.
        keys: values by keyword, as of ``Association.find``.

    Attributes:
        model: the information model.
        level: in upper case.
        keys: what is matched, and with None what is only returned.
        template: a pydicom Dataset under them; None where there is none.

    Raises:
        InvalidArgument: a keyword, a value, a date or a level that does not fit.
        InputFileError: the template cannot be read.
    """

    def __init__(self, level: str = "", *, model: str = "STUDY_ROOT", template: Any = None, **keys: Any) -> None:
        self.model: query_models.Model = query_models.model_of(model)
        self.level: str = level.upper()
        self.keys: Keys = dict(keys)
        self.template: Any = self._read(template)
        self._check()

    @staticmethod
    def _read(template: Any) -> Any:
        if isinstance(template, str | os.PathLike):
            return codec.read(template, Limits().message)
        return template

    def _check(self) -> None:
        query_models.identifier(self.model, self.level, self.keys, template=self.template)

    @classmethod
    def worklist(cls, *, template: Any = None, step: Mapping[str, Any] | None = None, **keys: Any) -> Query:
        """For a modality worklist, with all that a modality needs back (PS3.4 Annex K).

        Args:
            template: see above.
            step: keys of the scheduled procedure step: ``Modality``, ``ScheduledStationAETitle``,
                ``ScheduledProcedureStepStartDate`` and so on.
            keys: those of the item itself.
        """
        wanted = WORKLIST | keys
        if step:
            wanted["ScheduledProcedureStepSequence"] = [WORKLIST["ScheduledProcedureStepSequence"][0] | dict(step)]
        return cls(model="WORKLIST", template=template, **wanted)

    def where(self, **keys: Any) -> Query:
        """With these keys, too; one that is there already gets the new value."""
        return self._but(keys=self.keys | keys)

    def returning(self, *keywords: str) -> Query:
        """With these attributes wanted back."""
        return self._but(keys=dict.fromkeys(keywords) | self.keys)

    def over(self, template: Any) -> Query:
        """Laid over this template instead."""
        return self._but(template=self._read(template))

    def usual(self, modality: str = "") -> Query:
        """With what its level usually wants back; of instances, what the IHE recommends for their modality."""
        usual = instance_keys(modality) if self.level == "IMAGE" else BY_LEVEL.get(self.level, {})
        in_template = () if self.template is None else {keyword for keyword in usual if keyword in self.template}
        asked = {keyword: value for keyword, value in usual.items() if keyword not in in_template}
        return self._but(keys=asked | self.keys)

    def _but(self, **changes: Any) -> Query:
        query = Query.__new__(Query)
        vars(query).update(vars(self) | changes)
        query._check()
        return query

    @property
    def identifier(self) -> Any:
        """The pydicom Dataset that goes out, as it is with nothing negotiated."""
        return query_models.identifier(self.model, self.level, self.keys, template=self.template)

    @property
    def above(self) -> dict[str, str]:
        """The unique keys of the levels above that it names, each with its one value."""
        found = {}
        for name, key in self.model.levels:
            if name == self.level:
                break
            value = self._value(key)
            if isinstance(value, str) and value and not any(mark in value for mark in "*?\\"):
                found[key] = str(value)
        return found

    def _value(self, keyword: str) -> Any:
        value = self.keys.get(keyword)
        return value if value is not None or self.template is None else self.template.get(keyword)

    def fitted(self, wanted: QueryOptions, granted: QueryOptions) -> tuple[Any, Callable[[Any], bool]]:
        """What goes out with these options, and which of the matches are meant: what was declined is made up for here.

        Raises:
            InvalidArgument: it is a relational query, which the peer has declined.
        """
        if wanted.relational and not granted.relational:
            self._require_hierarchy()
        keys, spans = dict(self.keys), []
        if wanted.combined_datetime and not granted.combined_datetime:
            spans = _spans(keys)
            keys |= {time: None for _, time, _, _ in spans}
        if granted.timezone:
            keys["TimezoneOffsetFromUTC"] = granted.timezone
        identifier = query_models.identifier(self.model, self.level, keys, template=self.template)
        return identifier, lambda dataset: all(_within(dataset, *span) for span in spans)

    def _require_hierarchy(self) -> None:
        above = self.above
        for name, key in self.model.levels:
            if name == self.level:
                return
            if key not in above:
                raise InvalidArgument(
                    f"the peer declined relational queries, and this one at level {self.level} has no {key}",
                    hint=f"Give {key}=…, or look for the {name.lower()} first.",
                )

    def __repr__(self) -> str:
        return f"Query({self.level or self.model.name!r}, {', '.join(self.keys)})"


Span = tuple[str, str, str, str]


def _spans(keys: Keys) -> list[Span]:
    """Pairs of a date and a time of which both are ranges, as (date, time, begin, end); begin or end may be empty."""
    spans = []
    for date in keys:
        time = f"{date.removesuffix('Date')}Time"
        if not date.endswith("Date") or not keys.get(time):
            continue
        days = str(query_models.format_temporal(date, keys[date]) or "").partition("-")
        hours = str(query_models.format_temporal(time, keys[time]) or "").partition("-")
        if days[1] and hours[1]:
            begin, end = (day and f"{day}{hour}" for day, hour in zip(days[::2], hours[::2], strict=True))
            spans.append((date, time, begin, end))
    return spans


def _within(dataset: Any, date: str, time: str, begin: str, end: str) -> bool:
    """Whether date and time lie in the span; what a peer does not send cannot be held against a match."""
    day, hour = str(dataset.get(date) or ""), str(dataset.get(time) or "")
    if not day:
        return True
    moment = f"{day}{hour}"
    if begin and moment[: len(begin)] < begin[: len(moment)]:
        return False
    return not end or moment[: len(end)] <= end
