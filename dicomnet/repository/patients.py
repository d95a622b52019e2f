"""Whether two descriptions can be of the same patient (an ID that was given twice is quarantined, never merged)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Demographics", "contradiction"]


@dataclass(frozen=True, slots=True)
class Demographics:
    """What tells patients apart; empty where it is not known. ``name_n`` is folded, with all its groups."""

    name_n: str
    birth: str
    sex: str


def contradiction(known: Demographics, told: Demographics) -> str:
    """What in two descriptions under one Patient ID cannot be of one person; empty where they agree.

    One difference is an error of typing, a marriage or a correction, unless it is a wholly different name that no
    birth date supports. Two differences are another person.
    """
    if known == told:
        return ""
    differing = []
    names = _names_differ(known.name_n, told.name_n)
    if names:
        differing.append("name")
    if known.birth and told.birth and known.birth != told.birth:
        differing.append("birth date")
    if {known.sex, told.sex} == {"M", "F"}:
        differing.append("sex")
    is_other = names == 2 and not (known.birth and known.birth == told.birth)
    return " and ".join(differing) if len(differing) > 1 or is_other else ""


def _names_differ(known: str, told: str) -> int:
    """0 where the names may be the same, 1 where either the family or the given name differs, 2 where both do."""
    if not known or not told or not set(known.split("=")).isdisjoint(group for group in told.split("=") if group):
        return 0
    ours, theirs = _family_and_given(known), _family_and_given(told)
    if sorted(ours) == sorted(theirs):  # entered in the wrong order
        return 0
    return sum(bool(one and other and one != other) for one, other in zip(ours, theirs, strict=True))


def _family_and_given(name_n: str) -> tuple[str, str]:
    family, _, rest = name_n.partition("=")[0].partition("^")
    return family, rest.partition("^")[0]
