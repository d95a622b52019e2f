"""What a key of a query accepts, for each kind of matching (PS3.4 Section C.2.2.2).

A criterion is made once for each query and is asked for each candidate. The database narrows the candidates down by
what a criterion tells of itself; what these classes accept is the definition.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache

from .attributes import Attributes, normal_date, normal_time
from .folding import FoldedName, fold_name

__all__ = [
    "Criterion",
    "DateRange",
    "DateTimeRange",
    "DateWithTime",
    "Empty",
    "Items",
    "Name",
    "Numbers",
    "TimeRange",
    "Words",
    "has_wildcards",
    "literal_prefix",
    "longest_literal",
    "moment_of",
    "number_of",
    "offset_minutes",
    "zone_of",
]

_ANY_TEXT, _ANY_CHARACTER = "\ufdd0", "\ufdd1"  # stand for * and ? while a key is folded
_UNENDING = "\U0010ffff"
_COMPONENTS = 5  # of a name's component group


def has_wildcards(text: str) -> bool:
    """Whether it has a wild card (PS3.4 Section C.2.2.2.4)."""
    return "*" in text or "?" in text


@lru_cache(1024)
def _pattern(text: str) -> re.Pattern[str]:
    """A regular expression for text with wild cards; everything else in it is literal."""
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in re.sub(r"\*+", "*", text))
    return re.compile("".join(parts), re.DOTALL)


def literal_prefix(text: str) -> str:
    """What stands before the first wild card."""
    return re.split(r"[*?]", text, maxsplit=1)[0]


def longest_literal(text: str) -> str:
    """The longest part between wild cards."""
    return max(re.split(r"[*?]", text), key=len)


@dataclass(frozen=True, slots=True)
class Words:
    """Text that equals one of the words, or fits one of the patterns: single value, list of UIDs, wild card.

    Attributes:
        words: the key's values; one with wild cards is a pattern, unless ``exact``.
        exact: UIDs and what else has no wild cards.
        whole: the attribute has one value, of which a backslash is part.
    """

    words: tuple[str, ...]
    exact: bool = False
    whole: bool = False

    def accepts(self, value: str | list[Attributes]) -> bool:
        """Whether a value is accepted."""
        if not isinstance(value, str):
            return False
        values = (value,) if self.whole else value.split("\\")
        return any(self._accepts_one(one) for one in values)

    def _accepts_one(self, value: str) -> bool:
        return any(
            value == word if self.exact or not has_wildcards(word) else _pattern(word).fullmatch(value) is not None
            for word in self.words
        )


@dataclass(frozen=True, slots=True)
class Name:
    """A person's name, whatever its case and accents (PS3.4 Section C.2.2.2.1).

    Attributes:
        alternatives: for each value of the key its three folded groups with wild cards, an empty one accepts all.
        anywhere: for each of them, whether the first group stands for any: the key has no "=".
        whole: the attribute has one value, of which a backslash is part.
    """

    alternatives: tuple[tuple[str, str, str], ...]
    anywhere: tuple[bool, ...]
    whole: bool = False

    @classmethod
    def of(cls, words: tuple[str, ...], *, whole: bool = False) -> Name:
        """The criterion of a key's values."""
        marked = (word.replace("*", _ANY_TEXT).replace("?", _ANY_CHARACTER) for word in words)
        groups = tuple(_unmarked(fold_name(word)) for word in marked)
        return cls(groups, tuple("=" not in word for word in words), whole)

    def accepts(self, value: str | list[Attributes]) -> bool:
        """Whether one of a value's names is accepted."""
        if not isinstance(value, str):
            return False
        names = (value,) if self.whole else value.split("\\")
        return any(self._accepts_one(fold_name(name)) for name in names)

    def _accepts_one(self, name: FoldedName) -> bool:
        for groups, anywhere in zip(self.alternatives, self.anywhere, strict=True):
            if anywhere:
                if any(_accepts_group(groups[0], group) for group in name):
                    return True
            elif all(not wanted or _accepts_group(wanted, group) for wanted, group in zip(groups, name, strict=True)):
                return True
        return False


def _unmarked(groups: FoldedName) -> FoldedName:
    first, second, third = (one.replace(_ANY_TEXT, "*").replace(_ANY_CHARACTER, "?") for one in groups)
    return first, second, third


def _accepts_group(wanted: str, group: str) -> bool:
    """Components that a name lacks are empty ones: "doe^*" accepts "doe"."""
    if not has_wildcards(wanted):
        return wanted == group
    pattern = _pattern(wanted)
    if pattern.fullmatch(group):
        return True
    return bool(group) and bool(pattern.fullmatch(group + "^" * (_COMPONENTS - 1 - group.count("^"))))


@dataclass(frozen=True, slots=True)
class DateRange:
    """Dates from ``first`` to ``last``, both included, as YYYYMMDD; an empty end is open."""

    first: str
    last: str

    def accepts(self, value: str | list[Attributes]) -> bool:
        """Whether a date is accepted."""
        if not isinstance(value, str):
            return False
        date = normal_date(value)
        return bool(date) and self.holds(date)

    def holds(self, date: str) -> bool:
        """Whether a date in normal form is in the range."""
        return self.first <= date <= (self.last or _UNENDING)


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Times of the day from ``first`` to ``last``, both included; over midnight where the first is the later one.

    Attributes:
        first: in normal form without zeros at the end of the fraction, so that it compares as text; or empty.
        last: filled up to the last moment that it may mean (1030 means all of that minute); or empty.
    """

    first: str
    last: str

    def accepts(self, value: str | list[Attributes]) -> bool:
        """Whether a time is accepted."""
        if not isinstance(value, str):
            return False
        time = normal_time(value)
        return bool(time) and self.holds(time)

    @property
    def is_over_midnight(self) -> bool:
        """Whether it begins on one day and ends on the next."""
        return bool(self.first and self.last) and self.first > self.last

    def holds(self, time: str) -> bool:
        """Whether a time in normal form is in the range."""
        if self.is_over_midnight:
            return time >= self.first or time <= self.last
        return self.first <= time <= (self.last or _UNENDING)


@dataclass(frozen=True, slots=True)
class DateWithTime:
    """A date and a time, matched as one moment (combined date-time matching, PS3.4 Section C.2.2.2.5.4)."""

    date: DateRange
    time: TimeRange

    def accepts_both(self, date: str, time: str) -> bool:
        """Whether a date and a time are accepted; a date without a time counts as the whole day."""
        date, time = normal_date(date), normal_time(time)
        if not date or not time:
            return bool(date) and self.date.holds(date)
        moment = date + time
        if self.date.first and moment < self.date.first + (self.time.first or "000000"):
            return False
        return not self.date.last or moment <= self.date.last + (self.time.last or _UNENDING)


@dataclass(frozen=True, slots=True)
class DateTimeRange:
    """Moments from ``first`` to ``last``, both included; None is open.

    Attributes:
        first, last: in UTC where they have an offset; without one, in the time of whatever they are compared with.
    """

    first: datetime | None
    last: datetime | None

    def accepts(self, value: str | list[Attributes]) -> bool:
        """Whether one of a value's moments is accepted."""
        if not isinstance(value, str):
            return False
        moments = (moment_of(text) for text in value.split("\\"))
        return any(self._holds(moment[0]) for moment in moments if moment is not None)

    def _holds(self, moment: datetime) -> bool:
        first, last = self.first, self.last
        return (first is None or _before(first, moment)) and (last is None or _before(moment, last))


def _before(first: datetime, second: datetime) -> bool:
    """Whether the first is not later; where only one has an offset, both are taken to be local."""
    if (first.tzinfo is None) != (second.tzinfo is None):
        first, second = first.replace(tzinfo=None), second.replace(tzinfo=None)
    return first <= second


_MOMENT = re.compile(r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?)?)?)?([+-]\d{4})?")
_STEPS = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)


@lru_cache(1024)
def moment_of(text: str) -> tuple[datetime, datetime] | None:
    """The first and the last moment that a date with time may mean; None where it is none (PS3.5 Section 6.2, DT)."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        return None
    *parts, fraction, offset = match.groups()
    given = [int(part) for part in parts if part is not None]
    try:
        zone = zone_of(offset)
        full = (*given, *(1, 1, 1, 0, 0, 0)[len(given) :])
        second = min(full[5], 59)  # a leap second
        micro = int(fraction.ljust(6, "0")) if fraction else 0
        first = datetime(full[0], full[1], full[2], full[3], full[4], second, micro, tzinfo=zone)
    except ValueError:
        return None
    return first, _last_of(first, len(given), len(fraction or ""))


def zone_of(offset: str | None) -> timezone | None:
    """The time zone of an offset such as +0130; None of none."""
    if offset is None:
        return None
    minutes = offset_minutes(offset)
    if minutes is None:
        raise ValueError(offset)
    return timezone(timedelta(minutes=minutes))


def offset_minutes(offset: str) -> int | None:
    """Minutes from UTC of an offset such as +0130; None where it is none."""
    match = re.fullmatch(r"([+-])(\d\d)([0-5]\d)", offset)
    if match is None:
        return None
    minutes = (int(match[2]) * 60 + int(match[3])) * (-1 if match[1] == "-" else 1)
    return minutes if -12 * 60 <= minutes <= 14 * 60 else None


def _last_of(first: datetime, given: int, digits: int) -> datetime:
    if given == 1:
        following = first.replace(year=first.year + 1) if first.year < 9999 else datetime.max
    elif given == 2:
        following = (first + timedelta(days=31)).replace(day=1)
    elif digits:
        following = first + timedelta(microseconds=10 ** (6 - digits))
    else:
        following = first + _STEPS[given - 3]
    return following - timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers that equal one of these, however they are written."""

    numbers: frozenset[float]

    def accepts(self, value: str | list[Attributes]) -> bool:
        """Whether one of a value's numbers is accepted."""
        return isinstance(value, str) and any(number_of(text) in self.numbers for text in value.split("\\"))


def number_of(text: str) -> float | None:
    """A number in decimals; None where it is none."""
    try:
        return float(text) if re.fullmatch(r"[+-]?[\d.]+([eE][+-]?\d+)?", text) else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Empty:
    """What is absent or empty (PS3.4 Section C.2.2.2.7)."""

    def accepts(self, value: str | list[Attributes]) -> bool:
        """Whether there is no value."""
        return not value


@dataclass(frozen=True, slots=True)
class Items:
    """Sequences with an item that fits all keys (PS3.4 Section C.2.2.2.6).

    Attributes:
        criteria: by tag, as in `Attributes`.
    """

    criteria: Mapping[str, Criterion]

    def accepts(self, value: str | list[Attributes]) -> bool:
        """Whether one of the items is accepted."""
        if isinstance(value, str):
            return False
        return any(all(one.accepts(item.get(tag, "")) for tag, one in self.criteria.items()) for item in value)


Criterion = Words | Name | DateRange | TimeRange | DateTimeRange | Numbers | Empty | Items
