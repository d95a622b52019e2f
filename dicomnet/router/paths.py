"""Paths to elements of a data set: ``PatientID``, ``0008,0060``, ``0009,{GEMS_IDEN_01},02``, ``A/B[*]/C``.

A step is a keyword, a tag, or a private element by its group, its creator, and the last byte of its number (PS3.5
Section 7.8.1). What stands before a slash is a sequence; ``[0]`` means its first item, ``[*]`` or nothing any item.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

from ..errors import InvalidArgument, escaped
from ..repository.catalog import BY_KEYWORD, VR_OF

__all__ = ["DEEPEST", "Path", "Step", "parse_path"]

#: Sequences within sequences in one path; real ones stop at four.
DEEPEST = 16
_STEP = re.compile(
    r"(?:(?P<keyword>[A-Za-z][A-Za-z0-9]*)"
    r"|\(?(?P<group>[0-9A-Fa-f]{4}),\s?(?P<element>[0-9A-Fa-f]{4})\)?"
    r"|(?P<private>[0-9A-Fa-f]{4}),\{(?P<creator>[^{}\\]{1,64})\},(?P<low>[0-9A-Fa-f]{2}))"
    r"(?:\[(?P<item>\d{1,6}|\*)\])?"
)
_HOW = "Write a keyword (PatientID), a tag (0008,0060), a private element (0009,{CREATOR},02), or steps: A/B[0]/C."


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a path.

    Attributes:
        tag: group and element number; of a private element those of its block's first one, ``gggg00ll``.
        creator: who owns a private element; empty for all others.
        item: of a sequence, which one, counted from 0; None is any.
    """

    tag: int
    creator: str = ""
    item: int | None = None

    def tags(self) -> Iterable[int]:
        """The tags that it may have in a data set: a private one may be in any block."""
        if not self.creator:
            return (self.tag,)
        return (self.tag | block << 8 for block in range(0x10, 0x100))

    def __str__(self) -> str:
        group, element = self.tag >> 16, self.tag & 0xFFFF
        name = f"{group:04X},{{{self.creator}}},{element:02X}" if self.creator else f"{group:04X},{element:04X}"
        return name if self.item is None else f"{name}[{self.item}]"


@dataclass(frozen=True, slots=True)
class Path:
    """A path to elements.

    Attributes:
        text: as it was written.
        steps: all but the last of them are sequences.
    """

    text: str
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return self.text


@lru_cache(4096)
def parse_path(text: str) -> Path:
    """Read a path.

    Raises:
        InvalidArgument: which step is wrong, with the keyword that was probably meant.
    """
    steps = tuple(_step(one, text) for one in _split(text))
    if len(steps) > DEEPEST:
        raise InvalidArgument(f'"{escaped(text)}" goes {len(steps)} steps down; {DEEPEST} is the most')
    for step in steps[:-1]:
        if not step.creator and _vr(step.tag) not in ("SQ", ""):
            raise InvalidArgument(f'"{escaped(text)}": {step} is no sequence, so it has nothing inside')
    return Path(text, steps)


def _split(text: str) -> list[str]:
    """Between slashes, but for those within braces: a creator may have one."""
    parts, depth, part = [], 0, ""
    for character in text.strip():
        depth += (character == "{") - (character == "}")
        if character == "/" and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += character
    return [*parts, part]


def _step(text: str, whole: str) -> Step:
    found = _STEP.fullmatch(text)
    if found is None:
        raise InvalidArgument(f'"{escaped(text)}" in "{escaped(whole)}" names no element', hint=_HOW)
    item = int(found["item"]) if (found["item"] or "*") != "*" else None
    if found["keyword"]:
        return Step(_tag_of(found["keyword"]), item=item)
    if found["private"]:
        group = int(found["private"], 16)
        if group % 2 == 0:
            raise InvalidArgument(f'"{escaped(text)}": group {group:04X} is even, so it has no private elements')
        return Step(group << 16 | int(found["low"], 16), found["creator"].strip(), item)
    return Step(int(found["group"] + found["element"], 16), item=item)


def _tag_of(keyword: str) -> int:
    if keyword in BY_KEYWORD:  # as most in rules are: pydicom takes longer to load than the rules to read
        return BY_KEYWORD[keyword]
    from pydicom.datadict import keyword_dict, tag_for_keyword  # noqa: PLC0415 late on purpose

    tag = tag_for_keyword(keyword)
    if tag is None:
        near = get_close_matches(keyword, keyword_dict, n=1)
        raise InvalidArgument(f'there is no attribute "{keyword}"', hint=f"Is it {near[0]}?" if near else _HOW)
    return int(tag)


def _vr(tag: int) -> str:
    """The VR of an element in the dictionary; empty where it is not there."""
    if tag in VR_OF:
        return VR_OF[tag]
    from pydicom.datadict import dictionary_VR  # noqa: PLC0415 late on purpose

    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return ""
