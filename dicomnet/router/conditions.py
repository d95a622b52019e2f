"""Conditions of rules: data that is checked when it is read, and asked about an instance (features R2 and R10).

A condition is a test of one field, or `all`, `any` or `not` of others::

    when = { all = [ { field = "Modality", equals = "CT" }, { not = { field = "calling", in = ["OLD_CT"] } } ] }

An absent element passes no test but ``exists = false``: absent is not empty. An element with several values passes
where one of them does, and so does a path that leads to several elements.
"""

from __future__ import annotations

import ipaddress
import re as plain
from collections.abc import Callable, Iterator
from datetime import time
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from functools import cache
from typing import Any, ClassVar, Self

import regex
from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from .. import uids
from ..errors import InvalidArgument
from ..server.settings import Table
from .facts import Facts
from .paths import Path, parse_path

__all__ = ["EXPRESSION_SECONDS", "FIELDS", "Condition", "EndlessExpression", "Window", "uid_of"]

#: What a regular expression may take for one value.
EXPRESSION_SECONDS = 0.1
_MOST_DEPTH = 32
_OPERATORS = ("equals", "in", "matches", "range", "exists", "empty")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TITLES = ("calling", "called", "destination")
_UIDS = ("sop_class", "transfer_syntax")
#: The operators that each field takes which is no element.
FIELDS: dict[str, tuple[str, ...]] = {
    "calling": ("equals", "in", "matches"),
    "called": ("equals", "in", "matches"),
    "address": ("equals", "in"),
    "time": ("range",),
    "weekday": ("equals", "in"),
    "sop_class": ("equals", "in"),
    "transfer_syntax": ("equals", "in"),
    "destination": ("equals", "in", "matches"),
}
_CLOCK = plain.compile(r"([01]\d|2[0-3]):([0-5]\d)")

Value = str | int | float
Test = Callable[[Facts], bool]


class EndlessExpression(InvalidArgument):
    """A regular expression that takes too long for a value."""


class Window(Table):
    """A time of the day, such as the night: from one clock time to another, over midnight where it ends earlier."""

    start: str
    end: str

    @model_validator(mode="after")
    def _check(self) -> Self:
        _clock(self.start)
        _clock(self.end)
        return self

    def holds(self, now: time) -> bool:
        """Whether a time is in it; its end is not."""
        return _is_between(now, _clock(self.start), _clock(self.end))


class Condition(Table):
    """A test of one field with one operator; or `all`, `any` or `not` of other conditions."""

    model_config: ClassVar[ConfigDict] = ConfigDict(populate_by_name=True)

    all: tuple[Condition, ...] | None = None
    """Every one of these holds."""
    any: tuple[Condition, ...] | None = None
    """At least one of these holds."""
    not_: Condition | None = Field(None, alias="not")
    """This one does not hold."""
    field: str | None = None
    """What is tested: an element by its path, or one of calling, called, address, time, weekday, sop_class,
    transfer_syntax and, of a retrieve, destination."""
    equals: Value | None = None
    """The value is this one; a number is compared as one, text to the letter."""
    in_: tuple[Value, ...] | None = Field(None, alias="in")
    """The value is one of these; of an address also networks, as 10.1.0.0/16."""
    matches: str | None = None
    """A regular expression is found in the value; ^ and $ stand for its ends."""
    range: tuple[Value, Value] | None = None
    """The value is not below the first and not above the second; "" leaves an end open."""
    exists: bool | None = None
    """Whether the element is there, empty or not."""
    empty: bool | None = None
    """Whether the element is there and has no value, or is there and has one."""

    _test: Test = PrivateAttr()

    @model_validator(mode="after")
    def _check(self) -> Self:
        shapes = [name for name in ("all", "any", "not", "field") if self._given(name)]
        if len(shapes) != 1:
            raise InvalidArgument(f"a condition has one of all, any, not and field; this has {_listed(shapes)}")
        operators = [name for name in _OPERATORS if self._given(name)]
        if shapes != ["field"]:
            if operators:
                raise InvalidArgument(f'"{operators[0]}" wants a field beside it')
            self._test = self._combined()
            return self
        if len(operators) != 1:
            raise InvalidArgument(f"a test has one of {', '.join(_OPERATORS)}; this has {_listed(operators)}")
        self._test = _test_of(self, str(self.field), operators[0])
        return self

    def _given(self, name: str) -> bool:
        return getattr(self, {"not": "not_", "in": "in_"}.get(name, name)) is not None

    def _combined(self) -> Test:
        if self.depth() > _MOST_DEPTH:
            raise InvalidArgument(f"conditions nest {self.depth()} deep; {_MOST_DEPTH} is the most")
        if self.all is not None:
            tests = [one._test for one in self.all]
            return lambda facts: all(test(facts) for test in tests)
        if self.any is not None:
            tests = [one._test for one in self.any]
            return lambda facts: any(test(facts) for test in tests)
        assert self.not_ is not None
        inner = self.not_._test
        return lambda facts: not inner(facts)

    def depth(self) -> int:
        """How deep conditions nest."""
        return 1 + max((one.depth() for one in self.children()), default=0)

    def children(self) -> Iterator[Condition]:
        """The conditions inside."""
        yield from self.all or ()
        yield from self.any or ()
        if self.not_ is not None:
            yield self.not_

    def holds(self, facts: Facts) -> bool:
        """Whether it holds for an instance.

        Raises:
            EndlessExpression: a regular expression takes too long.
        """
        return self._test(facts)

    def fields(self) -> Iterator[str]:
        """The fields that it tests."""
        if self.field is not None:
            yield self.field
        for one in self.children():
            yield from one.fields()

    def paths(self) -> Iterator[Path]:
        """The elements that it asks for."""
        if self.field is not None and self.field not in FIELDS:
            yield parse_path(self.field)
        for one in self.children():
            yield from one.paths()

    def explain(self, facts: Facts, indent: int = 0) -> Iterator[str]:
        """Line by line what holds and what does not, with the values that were found."""
        mark = "yes" if self.holds(facts) else "no "
        yield f"{mark} {'  ' * indent}{self.sentence()}{self._found(facts)}"
        for one in self.children():
            yield from one.explain(facts, indent + 1)

    def sentence(self) -> str:
        """In words."""
        if self.field is None:
            return "all of" if self.all is not None else "any of" if self.any is not None else "not"
        operator = next(name for name in _OPERATORS if self._given(name))
        value = getattr(self, "in_" if operator == "in" else operator)
        shown = list(value) if isinstance(value, tuple) else value
        return f"{self.field} {operator} {shown!r}"

    def _found(self, facts: Facts) -> str:
        if self.field is None:
            return ""
        if self.field not in FIELDS:
            path = parse_path(self.field)
            values = facts.values(path)
            return f": it is {values!r}" if values else ": it is empty" if facts.find(path) else ": it is absent"
        if self.field in ("time", "weekday"):
            return f": it is {facts.at:%a %H:%M}"
        return f": it is {getattr(facts, self.field)!r}"


def _listed(names: list[str]) -> str:
    return " and ".join(names) or "none"


# ---- tests of one field ----------------------------------------------------------------------------------------------


def _test_of(condition: Condition, field: str, operator: str) -> Test:
    if field not in FIELDS:
        return _element_test(condition, _path(field), operator)
    if operator not in FIELDS[field]:
        raise InvalidArgument(f"{field} takes {_listed(list(FIELDS[field]))}, not {operator}")
    wanted = condition.in_ if operator == "in" else (condition.equals,)
    if field in _TITLES and operator == "matches":
        search = _searcher(str(condition.matches))
        return lambda facts: search(getattr(facts, field))
    if field == "time":
        return _time_test(condition)
    if field == "weekday":
        days = {_day(one) for one in wanted or ()}
        return lambda facts: facts.at.weekday() in days
    if field == "address":
        return _address_test([str(one) for one in wanted or ()])
    names = {uid_of(str(one)) if field in _UIDS else str(one).strip() for one in wanted or ()}
    return lambda facts: getattr(facts, field) in names


def _path(field: str) -> Path:
    near = get_close_matches(field, FIELDS, n=1, cutoff=0.75)
    try:
        return parse_path(field)
    except InvalidArgument as error:
        if near:
            raise InvalidArgument(f'there is no field "{field}"', hint=f"Is it {near[0]}?") from error
        raise


def _element_test(condition: Condition, path: Path, operator: str) -> Test:
    if operator == "exists":
        return lambda facts: bool(facts.find(path)) is condition.exists
    if operator == "empty":
        return lambda facts: any((not one.value) is condition.empty for one in facts.find(path))
    if operator == "matches":
        search = _searcher(str(condition.matches))
        return lambda facts: any(search(value) for value in facts.values(path))
    if operator == "range":
        assert condition.range is not None
        within = _ranger(*condition.range)
        return lambda facts: any(within(value) for value in facts.values(path))
    wanted = condition.in_ if operator == "in" else (condition.equals,)
    texts = {one for one in wanted or () if isinstance(one, str)}
    numbers = {Decimal(str(one)) for one in wanted or () if not isinstance(one, str)}
    return lambda facts: any(
        value in texts or (bool(numbers) and _number(value) in numbers) for value in facts.values(path)
    )


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _ranger(low: Value, high: Value) -> Callable[[str], bool]:
    """Numbers are compared as numbers, text (dates and times too) letter by letter; an open end is "" ."""
    if isinstance(low, str) and isinstance(high, str):
        if low and high and low > high:
            raise InvalidArgument(f'the range begins at "{low}" and ends before that, at "{high}"')
        return lambda value: value != "" and (not low or value >= low) and (not high or value <= high)
    ends = [None if one == "" else _number(str(one)) for one in (low, high)]
    if any(end is None and one != "" for end, one in zip(ends, (low, high), strict=True)):
        raise InvalidArgument(f"the range {low!r} to {high!r} is of numbers and of text")
    least, most = ends
    if least is not None and most is not None and least > most:
        raise InvalidArgument(f"the range begins at {low} and ends before that, at {high}")

    def within(value: str) -> bool:
        number = _number(value)
        return number is not None and (least is None or number >= least) and (most is None or number <= most)

    return within


def _searcher(pattern: str) -> Callable[[str], bool]:
    """Whether an expression is found in a text, within its time."""
    compiled = _compiled(pattern)

    def search(text: str) -> bool:
        try:
            return compiled.search(text, timeout=EXPRESSION_SECONDS) is not None
        except TimeoutError as error:
            raise EndlessExpression(f'the expression "{pattern}" takes too long for a value') from error

    return search


@cache
def _compiled(pattern: str) -> Any:
    try:
        compiled = regex.compile(pattern)
    except regex.error as error:
        raise InvalidArgument(f'"{pattern}" is no regular expression: {error}') from error
    for probe in _probes(pattern):
        try:
            compiled.search(probe, timeout=EXPRESSION_SECONDS)
        except TimeoutError as error:
            raise EndlessExpression(
                f'"{pattern}" takes for ever for a value such as "{probe[:12]}…"',
                hint="A repetition within a repetition does that: (a+)+ is a+.",
            ) from error
    return compiled


def _probes(pattern: str) -> Iterator[str]:
    """Values for which an endless expression shows it: what it repeats, many times, then what it does not."""
    letters = dict.fromkeys(plain.findall(r"[A-Za-z0-9 ^.=-]", pattern))
    repeated = [*list(letters)[:12], "a", "0", " ", "aB1 ", "".join(letters)[:8]]
    for one in dict.fromkeys(filter(None, repeated)):
        yield one * (64 // len(one)) + "\x00!"


def _clock(text: object) -> time:
    found = _CLOCK.fullmatch(str(text))
    if found is None:
        raise InvalidArgument(f'"{text}" is no time of the day', hint='Write it like "22:00".')
    return time(int(found[1]), int(found[2]))


def _is_between(now: time, start: time, end: time) -> bool:
    return start <= now < end if start <= end else now >= start or now < end


def _time_test(condition: Condition) -> Test:
    assert condition.range is not None
    start, end = map(_clock, condition.range)
    return lambda facts: _is_between(facts.at.time(), start, end)


def _day(text: object) -> int:
    if text not in _DAYS:
        raise InvalidArgument(f'"{text}" is no day of the week', hint=f"One of {', '.join(_DAYS)}.")
    return _DAYS.index(str(text))


def _address_test(wanted: list[str]) -> Test:
    networks = [_network(one) for one in wanted]

    def holds(facts: Facts) -> bool:
        try:
            address = ipaddress.ip_address(facts.address)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in networks if network.version == mapped.version)

    return holds


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise InvalidArgument(
            f'"{text}" is no address and no network', hint='Write it like "10.1.2.3" or "10.1.0.0/16".'
        ) from error


@cache
def _uid_names() -> dict[str, str]:
    from pydicom._uid_dict import UID_dictionary  # noqa: PLC0415 late on purpose

    return {entry[4]: uid for uid, entry in UID_dictionary.items() if entry[4]}


def uid_of(text: str) -> str:
    """A UID, from itself or from its keyword, as CTImageStorage.

    Raises:
        InvalidArgument: it is neither; the keyword that was probably meant.
    """
    if uids.is_valid(text):
        return text
    names = _uid_names()
    if text in names:
        return names[text]
    near = get_close_matches(text, names, n=1)
    raise InvalidArgument(
        f'"{text}" is no UID and no keyword of one', hint=f"Is it {near[0]}?" if near else "As CTImageStorage."
    )


Condition.model_rebuild()
