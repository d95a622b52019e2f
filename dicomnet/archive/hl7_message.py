"""HL7 v2 messages as trees of segments, fields, repetitions, components and subcomponents (HL7 v2.5.1 Chapter 2).

Nothing is lost: a message that is not changed is the same text again, also in what this program does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ..errors import InvalidArgument

__all__ = ["Message", "Segment"]

_BREAKS = re.compile(r"\r\n|\r|\n")
_CODECS = {
    "": "utf-8", "UNICODE UTF-8": "utf-8", "UNICODE": "utf-8", "ASCII": "utf-8",
    **{f"8859/{number}": f"iso8859_{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    "ISO IR87": "iso2022_jp", "GB 18030-2000": "gb18030", "KS X 1001": "euc_kr",
}  # fmt: skip
_CHARACTER_SET = 18  # MSH-18


@dataclass(frozen=True, slots=True)
class Separators:
    """What stands between the parts of a message, as its MSH says."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment; its fields are text as it came, and are taken apart when they are asked for.

    Attributes:
        fields: the name, then field 1 and so on; of MSH the separator is field 1.
    """

    fields: tuple[str, ...]
    separators: Separators

    @property
    def name(self) -> str:
        """Its three letters."""
        return self.fields[0]

    def field(self, number: int) -> str:
        """A field as it came; empty where there is none."""
        return self.fields[number] if number < len(self.fields) else ""

    def get(self, number: int, component: int = 1, subcomponent: int = 1, repetition: int = 1) -> str:
        """A value without its escapes; empty where there is none, or where it is said to be deleted ("")."""
        text = self.field(number)
        signs = self.separators
        parts = ((signs.repetition, repetition), (signs.component, component), (signs.subcomponent, subcomponent))
        for separator, place in parts:
            pieces = text.split(separator) if separator else [text]
            text = pieces[place - 1] if place <= len(pieces) else ""
        return "" if text == '""' else self._unescaped(text).strip()

    def _unescaped(self, text: str) -> str:
        signs = self.separators
        if not signs.escape or signs.escape not in text:
            return text
        known = {"F": signs.field, "S": signs.component, "T": signs.subcomponent, "R": signs.repetition}
        known |= {"E": signs.escape, ".br": "\n"}
        sign = re.escape(signs.escape)

        def replaced(match: re.Match[str]) -> str:
            code = match[1]
            if re.fullmatch(r"X(?:[0-9A-Fa-f]{2})+", code):
                return bytes.fromhex(code[1:]).decode("utf-8", "replace")
            return known.get(code, "")

        return re.sub(f"{sign}([^{sign}]*){sign}", replaced, text)

    def __str__(self) -> str:
        if self.name == "MSH":
            return "MSH" + self.separators.field + self.separators.field.join(self.fields[2:])
        return self.separators.field.join(self.fields)


@dataclass(frozen=True, slots=True)
class Message:
    """A message: its segments in their order, and the bytes that it came in, if it did."""

    segments: tuple[Segment, ...]
    raw: bytes = field(default=b"", compare=False, repr=False)

    @classmethod
    def decode(cls, data: bytes) -> Message:
        """A message from bytes, in the character set that its MSH-18 names; what is not in it is ISO 8859-1.

        Raises:
            InvalidArgument: it does not begin with MSH.
        """
        named = cls.parse(data.decode("iso8859_1")).segments[0].get(_CHARACTER_SET)
        try:
            message = cls.parse(data.decode(_CODECS.get(named, "utf-8")))
        except UnicodeError:
            message = cls.parse(data.decode("iso8859_1"))
        return replace(message, raw=data)

    @classmethod
    def parse(cls, text: str) -> Message:
        """A message from text.

        Raises:
            InvalidArgument: it does not begin with MSH.
        """
        lines = [line for line in _BREAKS.split(text) if line.strip()]
        if not lines or not lines[0].startswith("MSH") or len(lines[0]) < 8:
            raise InvalidArgument("no HL7 message: it does not begin with MSH")
        sign = lines[0][3]
        encoding = (lines[0][4:].split(sign, 1)[0] + "    ")[:4]
        separators = Separators(sign, *(one.strip() for one in encoding))
        return cls(tuple(_segment(line, separators) for line in lines))

    def named(self, name: str) -> Iterator[Segment]:
        """All segments of a name."""
        return (one for one in self.segments if one.name == name)

    def first(self, name: str) -> Segment:
        """The first segment of a name; an empty one where there is none."""
        return next(self.named(name), Segment((name,), self.segments[0].separators))

    @property
    def type(self) -> str:
        """Message code and trigger event, as ORM^O01."""
        head = self.segments[0]
        return f"{head.get(9, 1)}^{head.get(9, 2)}"

    @property
    def control_id(self) -> str:
        """MSH-10, by which the sender knows the answer."""
        return self.segments[0].field(10)

    def __str__(self) -> str:
        return "".join(f"{one}\r" for one in self.segments)


def _segment(line: str, separators: Separators) -> Segment:
    fields = line.split(separators.field)
    if fields[0] == "MSH":
        fields.insert(1, separators.field)
    return Segment(tuple(fields), separators)
