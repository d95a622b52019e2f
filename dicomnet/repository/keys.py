"""The keys of a query: from an identifier, by C-FIND or QIDO-RS, to what each of them accepts (PS3.4 C.2.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ..dataset.vr import NUMBER_FORMATS, PROSE
from ..errors import InvalidArgument
from .attributes import normal_date, normal_time, text_of
from .catalog import ATTRIBUTES, BY_KEYWORD, VR_OF, Level, keyword_of
from .headers import Element, Item, read_elements
from .matching import (
    Criterion,
    DateRange,
    DateTimeRange,
    Empty,
    Items,
    Name,
    Numbers,
    TimeRange,
    Words,
    moment_of,
    number_of,
    offset_minutes,
    zone_of,
)
from .text import clean, encodings_of
from .zones import TIMEZONE

__all__ = ["Identifier", "InvalidKey", "Key", "QueryOptions"]

CHARACTER_SET, LEVEL = 0x00080005, 0x00080052
_LEVELS = {"PATIENT": Level.PATIENT, "STUDY": Level.STUDY, "SERIES": Level.SERIES, "IMAGE": Level.IMAGE}
_WILD = frozenset({"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT"})  # PS3.4 Section C.2.2.2.4
_NUMBERS = frozenset({"DS", "IS", *NUMBER_FORMATS})
_MOST_DEPTH = 8

#: A key's value as callers give it: text, several texts, or the keys of a sequence's item.
KeyValue: TypeAlias = "str | list[str] | Mapping[str, KeyValue]"


class InvalidKey(InvalidArgument):
    """A key of a query with a value that it cannot have; the value itself is not in the message.

    Attributes:
        tag: the key, for Offending Element (0000,0901) of the response.
    """

    def __init__(self, tag: int, what: str, hint: str = "") -> None:
        super().__init__(f"key ({tag >> 16:04X},{tag & 0xFFFF:04X}) {keyword_of(tag)} {what}", hint=hint or None)
        self.tag = tag


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """What was negotiated for a query, or is granted to a peer (PS3.4 Section C.5.1.1).

    Attributes:
        relational: keys of all levels may be given, and unique keys of the levels above left out.
        combined_datetime: the range of a date and that of its time are one range of moments.
        timezone: dates and times of keys and answers are in the time zone that the identifier names, where the study
            says which one its own are in (see `zones`).
        empty_value: a key of two quotation marks asks for what is absent or empty.
    """

    relational: bool = False
    combined_datetime: bool = False
    timezone: bool = False
    empty_value: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """One key of an identifier.

    Attributes:
        tag, vr: the attribute; the VR of the index, where the index knows it, else that of the identifier.
        criterion: what it accepts; None for universal matching.
        items: of a sequence, the keys within its item; they say what is answered of the stored items.
    """

    tag: int
    vr: str
    criterion: Criterion | None = None
    items: tuple[Key, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether the index has this attribute."""
        return self.tag in ATTRIBUTES


@dataclass(frozen=True, slots=True)
class Identifier:
    """An identifier, read once, for any number of candidates.

    Attributes:
        keys: in ascending order of tags, without Specific Character Set and Query/Retrieve Level.
        level: that of Query/Retrieve Level; None where there is none.
        timezone: Timezone Offset From UTC, where the options have it; empty otherwise. It matches nothing: it says
            what the other keys mean.
        options: how the keys were read.
    """

    keys: tuple[Key, ...]
    level: Level | None = None
    timezone: str = ""
    options: QueryOptions = QueryOptions()

    @classmethod
    def decode(
        cls,
        data: bytes | bytearray | memoryview,
        transfer_syntax: str,
        *,
        options: QueryOptions = QueryOptions(),
        character_set: str = "",
    ) -> Identifier:
        """Read an identifier as it came over the wire.

        Args:
            data, transfer_syntax: the data set, and what it is encoded in.
            options: what was negotiated.
            character_set: Specific Character Set of an identifier that names none.

        Raises:
            InvalidKey: a key whose value is none of its value representation, or a level that there is not.
        """
        item = read_elements(data, transfer_syntax)
        named = next((_ascii(one) for one in item if one.tag == CHARACTER_SET), "")
        texts = _texts(item, encodings_of(named or character_set))
        return cls._of(texts, options)

    @classmethod
    def of(
        cls, values: Mapping[str, KeyValue], *, level: str = "", options: QueryOptions = QueryOptions()
    ) -> Identifier:
        """An identifier from keywords, or tags of eight hexadecimal digits, and the values of the keys.

        Args:
            values: text as the standard writes it; empty asks for the value. Several texts are a list; a mapping is
                the item of a sequence. "SequenceKeyword.Keyword" is a key within a sequence, too.
            level: "STUDY"; may also be among the values.
            options: what the keys mean.

        Raises:
            InvalidKey: as in `decode`, or a name that is neither keyword nor tag.
        """
        texts = _from_mapping(values)
        if level:
            texts[LEVEL] = ("CS", level)
        return cls._of(texts, options)

    @classmethod
    def _of(cls, texts: _Texts, options: QueryOptions) -> Identifier:
        level, timezone = _single_text(texts, LEVEL), _single_text(texts, TIMEZONE) if options.timezone else ""
        if level and level.upper() not in _LEVELS:
            raise InvalidKey(LEVEL, f"has no such level: {level[:16]}", f"Levels: {', '.join(_LEVELS)}.")
        if timezone and offset_minutes(timezone) is None:
            raise InvalidKey(TIMEZONE, "is no offset from UTC", "Write it like +0100.")
        keys = tuple(
            Key(tag, vr) if tag == TIMEZONE else _in_zone(_key(tag, vr, value, options, 0), timezone)
            for tag, (vr, value) in sorted(texts.items())
            if tag not in (CHARACTER_SET, LEVEL) and tag & 0xFFFF
        )
        return cls(keys, _LEVELS.get(level.upper()), timezone, options)

    @property
    def zone(self) -> int | None:
        """The time zone, in minutes from UTC; None where dates and times are to be matched as they are."""
        return offset_minutes(self.timezone) if self.timezone else None

    def __getitem__(self, tag: int) -> Key | None:
        return next((key for key in self.keys if key.tag == tag), None)


# What is sent, as text

_Texts = dict[int, "tuple[str, str | _Texts]"]


def _ascii(element: Element) -> str:
    return text_of("CS", element.value, ("ascii",)) if isinstance(element.value, bytes) else ""


def _texts(item: Item, encodings: tuple[str, ...]) -> _Texts:
    """VR and text of each element; of a sequence, those of its first item that has any."""
    found: _Texts = {}
    for element in item:
        vr = VR_OF.get(element.tag, element.vr)
        if isinstance(element.value, list):
            inner = next((one for one in element.value if one), [])
            found[element.tag] = "SQ", _texts(inner, encodings)
        elif vr == "SQ":
            found[element.tag] = "SQ", {}
        else:
            # A key's text may be none of its VR: a range, a wild card. Binary numbers are numbers.
            text_vr = element.vr if element.vr not in ("UN", "") else vr
            found[element.tag] = vr, text_of(text_vr, element.value, encodings)
    return found


def _from_mapping(values: Mapping[str, KeyValue]) -> _Texts:
    found: _Texts = {}
    for name, value in values.items():
        first, _, rest = name.partition(".")
        tag = _tag(first)
        inner = {rest: value} if rest else value
        if isinstance(inner, Mapping):
            known = found.get(tag, ("SQ", {}))[1]
            found[tag] = "SQ", (known if isinstance(known, dict) else {}) | _from_mapping(inner)
        else:
            vr = VR_OF.get(tag, "UN")
            text = inner if isinstance(inner, str) else "\\".join(inner)
            found[tag] = vr, {} if vr == "SQ" else clean(text)
    return found


def _tag(name: str) -> int:
    if re.fullmatch(r"[0-9A-Fa-f]{8}", name):
        return int(name, 16)
    tag = BY_KEYWORD.get(name)
    if tag is None:
        raise InvalidArgument(f"the index knows no attribute {name[:64]!r}", hint="Other attributes go by their tag.")
    return tag


def _single_text(texts: _Texts, tag: int) -> str:
    value = texts.get(tag, ("", ""))[1]
    return value if isinstance(value, str) else ""


# From text to criteria


def _key(tag: int, vr: str, value: str | _Texts, options: QueryOptions, depth: int) -> Key:
    if isinstance(value, str):
        return Key(tag, vr, _criterion(tag, vr, value, options))
    if depth > _MOST_DEPTH:
        raise InvalidKey(tag, "nests too deep")
    items = tuple(_key(one, *value[one], options, depth + 1) for one in sorted(value) if one & 0xFFFF)
    criteria = {f"{key.tag:08X}": key.criterion for key in items if key.criterion is not None and key.tag in VR_OF}
    return Key(tag, "SQ", Items(criteria) if criteria else None, items)


def _criterion(tag: int, vr: str, text: str, options: QueryOptions) -> Criterion | None:
    if not text.strip("*") and text != '""':  # also for what has no wild cards: it is what people mean
        return None
    if text == '""' and options.empty_value:
        return Empty()
    if vr == "PN":
        return _name(text, _is_single(tag))
    if vr == "DA":
        return _date_range(tag, text)
    if vr == "TM":
        return _time_range(tag, text)
    if vr == "DT":
        return _moment_range(tag, text)
    if vr in _NUMBERS:
        return _numbers(tag, text)
    return _words(tag, vr, text)


def _in_zone(key: Key, timezone: str) -> Key:
    """A key whose moments are in a time zone, where they name none of their own."""
    if not timezone or not isinstance(key.criterion, DateTimeRange):
        return key
    zone, ends = zone_of(timezone), (key.criterion.first, key.criterion.last)
    first, last = (one.replace(tzinfo=one.tzinfo or zone) if one else None for one in ends)
    return Key(key.tag, key.vr, DateTimeRange(first, last), key.items)


def _words(tag: int, vr: str, text: str) -> Criterion | None:
    if vr not in _WILD and vr not in ("UI", "AS"):
        return None  # what cannot be matched matches all
    whole = vr in PROSE or _is_single(tag)
    words = (text,) if vr in PROSE else tuple(dict.fromkeys([*filter(None, text.split("\\")), text]))
    if vr in _WILD and any(not word.strip("*") for word in words):
        return None
    return Words(words, exact=vr not in _WILD, whole=whole)


def _is_single(tag: int) -> bool:
    """What has a column has one value there, whatever is in it."""
    attribute = ATTRIBUTES.get(tag)
    return attribute is not None and bool(attribute.column) and not attribute.computed


def _name(text: str, whole: bool) -> Criterion | None:
    words = tuple(dict.fromkeys([*filter(None, text.split("\\")), text]))
    if any(not word.strip("*=^") for word in words):
        return None
    return Name.of(words, whole=whole)


def _numbers(tag: int, text: str) -> Criterion:
    numbers = [number_of(one) for one in text.split("\\") if one]
    if None in numbers:
        raise InvalidKey(tag, "is no number")
    return Numbers(frozenset(one for one in numbers if one is not None))


def _date_range(tag: int, text: str) -> Criterion:
    first, hyphen, last = (part.strip() for part in text.partition("-"))
    ends = normal_date(first), normal_date(last)
    if (first and not ends[0]) or (last and not ends[1]) or not (first or last):
        raise InvalidKey(tag, "is no date, nor a range of dates", "Write 20260131, 20260101-20260131 or 20260101-.")
    return DateRange(ends[0], ends[1] if hyphen else ends[0])


def _time_range(tag: int, text: str) -> Criterion:
    first, hyphen, last = (part.strip() for part in text.partition("-"))
    if (first and not normal_time(first)) or (last and not normal_time(last)) or not (first or last):
        raise InvalidKey(tag, "is no time, nor a range of times", "Write 1430, 0800-1200 or 143000.5-.")
    end = last if hyphen else first
    return TimeRange(_first_moment(first) if first else "", _last_moment(end) if end else "")


def _first_moment(time: str) -> str:
    whole, _, fraction = normal_time(time).partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def _last_moment(time: str) -> str:
    """The last moment that a time may mean: seconds go to 60, lest a leap second fall out of its minute."""
    whole, _, fraction = time.replace(":", "").partition(".")
    whole += "5960"[len(whole) - 2 :]
    return f"{whole}.{fraction.ljust(6, '9')}"


def _moment_range(tag: int, text: str) -> Criterion:
    single = moment_of(text)
    if single is not None:
        return DateTimeRange(*single)
    for place in (number for number, c in enumerate(text) if c == "-"):
        first, last = text[:place].strip(), text[place + 1 :].strip()
        ends = moment_of(first) if first else None, moment_of(last) if last else None
        if (first or last) and bool(first) == (ends[0] is not None) and bool(last) == (ends[1] is not None):
            return DateTimeRange(ends[0] and ends[0][0], ends[1] and ends[1][1])
    raise InvalidKey(tag, "is no date with time, nor a range of them", "Write 202601311430 or 20260101-20260131.")
