"""From what a key accepts to conditions of SQL, which accept at least that (PS3.4 Section C.2.2.2).

A condition that is not exact lets more through: what comes back is asked again in Python.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, and_, false, or_

from .attributes import LONGEST
from .matching import Criterion, DateRange, Name, Numbers, TimeRange, Words, has_wildcards, literal_prefix

__all__ = ["Condition", "any_of", "condition_of", "contains", "has_prefix", "name_parts"]

_END = "\U0010ffff"
_LARGEST_NUMBER = 2**31 - 1

Column: TypeAlias = "ColumnElement[Any]"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition, or None where SQL cannot tell, and whether it accepts nothing else than its criterion."""

    where: ColumnElement[bool] | None
    is_exact: bool


def condition_of(criterion: Criterion, column: Column, *, multiple: bool = False) -> Condition:
    """The condition on a column that holds the attribute.

    Args:
        criterion: what its key accepts.
        column: text in the form that `attributes` gives it, or numbers.
        multiple: the column has several values, separated by backslashes.
    """
    if isinstance(criterion, Words):
        return _several(criterion, column) if multiple else _words(criterion, column)
    if isinstance(criterion, Name):
        return Condition(_name(criterion, column), False)
    if isinstance(criterion, DateRange):
        return Condition(_dates(criterion, column), True)
    if isinstance(criterion, TimeRange):
        return Condition(_times(criterion, column), True)
    if isinstance(criterion, Numbers):
        return Condition(_numbers(criterion, column), True)
    return Condition(None, False)


def _words(words: Words, column: Column) -> Condition:
    plain = [word for word in words.words if words.exact or not has_wildcards(word)]
    wild = [word for word in words.words if word not in plain]
    parts: list[ColumnElement[bool]] = [column.in_(plain)] if plain else []
    parts += [_like(word, column) for word in wild]
    return Condition(or_(*parts), not wild)


def _several(words: Words, column: Column) -> Condition:
    if not words.exact and any(map(has_wildcards, words.words)):
        return Condition(None, False)
    return Condition(or_(*(contains(column, word) for word in words.words)), False)


def _like(pattern: str, column: Column) -> ColumnElement[bool]:
    """A pattern as LIKE has it, and its literal beginning as a range, which an index can serve."""
    like = "".join("%" if c == "*" else "_" if c == "?" else "/" + c if c in "%_/" else c for c in pattern)
    prefix = literal_prefix(pattern)
    where = column.like(like, escape="/")
    return and_(has_prefix(column, prefix), where) if prefix else where


def has_prefix(column: Column, prefix: str) -> ColumnElement[bool]:
    """Text that begins so, as a range."""
    prefix = prefix[:LONGEST]
    return and_(column >= prefix, column < prefix + _END)


def contains(column: Column, part: str) -> ColumnElement[bool]:
    """Text with this part in it."""
    return column.contains(part, autoescape=True)


def any_of(parts: Iterable[ColumnElement[bool]]) -> ColumnElement[bool]:
    """Either of these; nothing at all where there are none."""
    return or_(false(), *parts)


def name_parts(group: str) -> list[str]:
    """The literal parts of a pattern that stand in a name itself: carets at its end may be those that it lacks."""
    parts = group.replace("?", "*").split("*")
    if has_wildcards(group):
        parts = [part.rstrip("^") for part in parts]
    return [part for part in parts if part]


def _name(name: Name, column: Column) -> ColumnElement[bool] | None:
    """Each alternative by its literal parts, wherever they stand in the groups of the folded name."""
    alternatives = []
    for groups in name.alternatives:
        parts = [contains(column, part) for group in groups for part in name_parts(group)]
        if not parts:
            return None
        alternatives.append(and_(*parts))
    return or_(*alternatives)


def _dates(dates: DateRange, column: Column) -> ColumnElement[bool]:
    if dates.first and dates.first == dates.last:
        return column == dates.first
    parts = [column >= dates.first if dates.first else column > ""]
    if dates.last:
        parts.append(column <= dates.last)
    return and_(*parts)


def _times(times: TimeRange, column: Column) -> ColumnElement[bool]:
    after = column >= times.first if times.first else column > ""
    if not times.last:
        return after
    before = column <= times.last
    if times.is_over_midnight:
        return and_(column > "", or_(after, before))
    return and_(after, before)


def _numbers(numbers: Numbers, column: Column) -> ColumnElement[bool]:
    whole = [int(one) for one in numbers.numbers if one == int(one) and abs(one) <= _LARGEST_NUMBER]
    return column.in_(sorted(whole)) if whole else false()
