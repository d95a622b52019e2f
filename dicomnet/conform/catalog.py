"""All cases, in the order of the report."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from .case import Case
from .cases import accept, data, dimse, lengths, negotiation, release, request, states, store, transport

PROVIDER_CASES: tuple[Case, ...] = (
    *accept.CASES,
    *request.CASES,
    *negotiation.CASES,
    *lengths.CASES,
    *data.CASES,
    *dimse.CASES,
    *store.CASES,
    *release.CASES,
    *states.CASES,
    *transport.CASES,
)


def ordered(cases: Iterable[Case]) -> list[Case]:
    """Cases in the order of their ids: by part and section of the standard, then by number."""
    return sorted(cases, key=_key)


def _key(case: Case) -> tuple[object, ...]:
    section, _, number = case.id.rpartition("-")
    part, _, name = section.partition("/")
    # Annexes come after chapters; "10" after "9".
    parts = [(1, word, 0) if word.isalpha() else (0, "", int(word)) for word in name.split(".")]
    return part, parts, int(number)


def selected(cases: Iterable[Case], pattern: str | None) -> list[Case]:
    """The cases whose id is like a glob; where there is none, those in whose words a regular expression is found."""
    if pattern is None:
        return list(cases)
    cases = list(cases)
    if found := [case for case in cases if fnmatch.fnmatchcase(case.id, pattern)]:
        return found
    try:
        expression = re.compile(pattern, re.IGNORECASE)
    except re.error:
        expression = re.compile(re.escape(pattern), re.IGNORECASE)
    return [case for case in cases if expression.search(f"{case.id} {case.grade.value} {case.rule}")]
