"""The profile's table: what becomes of each attribute, by the options that are chosen (PS3.15 Table E.1-1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from ...errors import InvalidArgument

__all__ = ["CODES", "Option", "Row", "action_of", "options_of", "table"]


class Option(StrEnum):
    """The options that are there (PS3.15 Section E.3); pixels are not cleaned.

    The columns of the table are named in the same words.
    """

    PRIVATE = "private"  # Retain Safe Private: what the instance itself, or the caller, calls safe
    UIDS = "uids"  # Retain UIDs
    DEVICE = "device"  # Retain Device Identity
    INSTITUTION = "institution"  # Retain Institution Identity
    PATIENT_CHARACTERISTICS = "patient"  # Retain Patient Characteristics
    FULL_DATES = "dates"  # Retain Longitudinal Temporal Information with Full Dates
    SHIFTED_DATES = "shifted"  # Retain Longitudinal Temporal Information with Modified Dates
    DESCRIPTORS = "descriptors"  # Clean Descriptors
    STRUCTURED_CONTENT = "content"  # Clean Structured Content
    GRAPHICS = "graphics"  # Clean Graphics: overlays and curves, which cannot be cleaned, go


#: Of the profile and its options: code of CID 7050 and its meaning.
CODES: dict[Option | None, tuple[str, str]] = {
    None: ("113100", "Basic Application Confidentiality Profile"),
    Option.GRAPHICS: ("113103", "Clean Graphics Option"),
    Option.STRUCTURED_CONTENT: ("113104", "Clean Structured Content Option"),
    Option.DESCRIPTORS: ("113105", "Clean Descriptors Option"),
    Option.FULL_DATES: ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
    Option.SHIFTED_DATES: ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    Option.PATIENT_CHARACTERISTICS: ("113108", "Retain Patient Characteristics Option"),
    Option.DEVICE: ("113109", "Retain Device Identity Option"),
    Option.UIDS: ("113110", "Retain UIDs Option"),
    Option.PRIVATE: ("113111", "Retain Safe Private Option"),
    Option.INSTITUTION: ("113112", "Retain Institution Identity Option"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table.

    Attributes:
        basic: the basic profile's action, as the table has it: D, Z, X, U, or a choice such as X/Z/D.
        options: K or C, by the column of an option.
    """

    basic: str
    options: dict[Option, str]
    name: str


@cache
def table() -> dict[str, Row]:
    """The rows by tag, as eight hexadecimal digits; ``50XXXXXX``, ``60XX3000``, ``60XX4000`` and ``private``."""
    found = {}
    text = Path(__file__).with_name("table_e1_1.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if not line.startswith("#"):
            tag, basic, options, name = (part.strip() for part in line.split("|"))
            chosen = dict(part.split("=") for part in options.split())
            found[tag] = Row(basic, {Option(column): action for column, action in chosen.items()}, name)
    return found


def options_of(chosen: Iterable[str]) -> frozenset[Option]:
    """Options by name.

    Raises:
        InvalidArgument: there is none of that name, or two that exclude each other.
    """
    found = set()
    for name in chosen:
        try:
            found.add(Option(name))
        except ValueError:
            hint = f"There are {', '.join(Option)}."
            raise InvalidArgument(f'"{name}" is no option of de-identification', hint=hint) from None
    if {Option.FULL_DATES, Option.SHIFTED_DATES} <= found:
        raise InvalidArgument("dates are either kept or shifted", hint=f"Choose {Option.SHIFTED_DATES} alone.")
    return frozenset(found)


def _key(tag: int) -> str:
    group = tag >> 16
    if group % 2:
        return "private"
    if group >> 8 == 0x50:
        return "50XXXXXX"
    if group >> 8 == 0x60 and tag & 0xFFFF in (0x3000, 0x4000):
        return f"60XX{tag & 0xFFFF:04X}"
    return f"{tag:08X}"


def action_of(tag: int, options: frozenset[Option]) -> str:
    """D, Z, X, U, C, or K: what becomes of an attribute at any level of a data set. What is not listed is kept.

    Of a choice that depends on the attribute's type in the object the last counts: it suits every type. Where options
    disagree, cleaning comes before keeping.
    """
    row = table().get(_key(tag))
    if row is None:
        return "K"
    chosen = {row.options[option] for option in options if option in row.options}
    if chosen:
        return "C" if "C" in chosen else "K"
    return row.basic.rstrip("*").rpartition("/")[2]
