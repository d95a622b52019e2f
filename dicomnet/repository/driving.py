"""The index that is to drive a query: the conditions that it serves, and the order in which it gives rows.

A page of a query has the order of its driving index. So reading ends with the page, however many rows match: sorted by
their ids, all of them would have to be read first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from sqlalchemy import ColumnClause, ColumnElement, TableClause, Text, and_, column, literal_column, select, table

from . import schema
from .attributes import LONGEST
from .catalog import Attribute, Level
from .conditions import any_of, condition_of, contains, has_prefix
from .matching import Criterion, DateRange, Name, Words, has_wildcards, literal_prefix, longest_literal
from .rows import TABLES

__all__ = ["EARLY_PAGE", "PID", "Driver", "Driving", "driving_of"]

SELECTIVE = 3  # characters of a name, or before a wild card, from which an index narrows well
EARLY = 10_000  # patients, among whom a part of a name is looked for before it is in all: some milliseconds
EARLY_PAGE = 500  # rows: a larger page is streamed, and not gathered first
MOST_ARMS = 8  # of a query: more values of one key are looked up as a list, whose matches are sorted

PID, _NAME, _BIRTH, _DATE, _ACCESSION, _STUDY_ID = (
    0x00100020,
    0x00100010,
    0x00100030,
    0x00080020,
    0x00080050,
    0x00200010,
)
_MODALITY, _MODALITIES = 0x00080060, 0x00080061
_UIDS = (0x0020000D, 0x0020000E, 0x00080018)
_PATIENT, _STUDY, _SERIES = schema.patient.c, schema.study.c, schema.series.c
_EMPTY: ColumnElement[str] = literal_column("''")  # as the conditions of partial indexes have it


class Driver(IntEnum):
    """What drives a query, from what narrows most; `NONE` reads all rows of a level in order."""

    UID = 0
    ACCESSION = 1
    PATIENT_ID = 2
    NAME = 3
    BIRTH_DATE = 4
    DATE = 5
    MODALITY = 6
    NONE = 9


_KINDS = {
    PID: Driver.PATIENT_ID, _NAME: Driver.NAME, _BIRTH: Driver.BIRTH_DATE, _DATE: Driver.DATE,
    _ACCESSION: Driver.ACCESSION, _STUDY_ID: Driver.ACCESSION, _MODALITY: Driver.MODALITY,
    _MODALITIES: Driver.MODALITY,
} | dict.fromkeys(_UIDS, Driver.UID)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Driving:
    """What drives a query.

    Attributes:
        kind: the kind of its key.
        tag: the key; 0 for `Driver.NONE`.
        level: of the table whose index it is.
        arms: conditions, of which an index serves each; a row that one of them accepts is meant.
        order: the columns of that index; empty where its order is of no use.
        is_exact: the arms accept nothing that the key does not.
        by_series: the arms are of series, the query is of their studies.
        patients: ids in another table, of the patients that are meant, or from which the arms choose.
        sorting: what sorts the rows in that order, where it is not the columns themselves.
        early: as ``patients``, of those alone that come first in that order: a frequent part fills a page with these.
    """

    kind: Driver = Driver.NONE
    tag: int = 0
    level: Level = Level.PATIENT
    arms: tuple[ColumnElement[bool], ...] = ()
    order: tuple[ColumnElement[Any], ...] = ()
    is_exact: bool = False
    by_series: bool = False
    patients: ColumnElement[int] | None = None
    sorting: tuple[ColumnElement[Any], ...] = ()
    early: ColumnElement[int] | None = None


def driving_of(tag: int, attribute: Attribute, criterion: Criterion, deepest: Level, sqlite: bool) -> Driving | None:
    """How a key can drive a query; None where no index serves it, or where it does not narrow.

    Args:
        tag: the key.
        attribute: what it is of.
        criterion: what it accepts.
        deepest: the lowest level that has a key, or is asked for.
        sqlite: for SQLite, else for PostgreSQL.
    """
    kind = _KINDS.get(tag)
    if kind is None:
        return None
    if isinstance(criterion, Name) and kind is Driver.NAME:
        return _NameDriving(criterion, deepest, sqlite).driving()
    if isinstance(criterion, Words):
        return _by_words(kind, attribute, criterion, deepest)
    if isinstance(criterion, DateRange):
        own = TABLES[attribute.level].c[attribute.column]
        found = condition_of(criterion, own)
        assert found.where is not None
        order = (own, _STUDY.time) if kind is Driver.DATE else (own,)
        return Driving(kind, tag, attribute.level, (found.where,), order, found.is_exact)
    return None


def _by_words(kind: Driver, attribute: Attribute, words: Words, deepest: Level) -> Driving | None:
    wild = [] if words.exact else [word for word in words.words if has_wildcards(word)]
    if any(len(literal_prefix(word)) < SELECTIVE for word in wild):
        return None
    if attribute.column == "mods":
        return _by_modality(words, deepest)
    level = Level.STUDY if attribute.tag == PID and deepest > Level.PATIENT else attribute.level
    own = TABLES[level].c[attribute.column]
    found = condition_of(words, own)
    assert found.where is not None
    order: tuple[ColumnElement[Any], ...] = (own,)
    if kind is Driver.UID:
        order = ()  # one row each, or all that is below it
    elif kind is Driver.PATIENT_ID and level is Level.STUDY:
        order = (own, _STUDY.date)
    elif kind is Driver.MODALITY:
        order = (own, _SERIES.study_id)
    arms: tuple[ColumnElement[bool], ...] = (found.where,)
    if order and 1 < len(words.words) <= MOST_ARMS:
        arms = tuple(where for where in (condition_of(one, own).where for one in _each(words)) if where is not None)
    return Driving(kind, attribute.tag, level, arms, order, found.is_exact)


def _each(words: Words) -> Iterator[Words]:
    return (Words((word,), words.exact, words.whole) for word in words.words)


def _by_modality(words: Words, deepest: Level) -> Driving:
    """Studies by the modality of their series, whose index has them in the order of the studies' ids."""
    plain = words.exact or not any(map(has_wildcards, words.words))
    if plain and deepest is Level.STUDY and len(words.words) <= MOST_ARMS:
        arms = tuple(_SERIES.modality == word for word in words.words)
        return Driving(Driver.MODALITY, _MODALITIES, Level.STUDY, arms, (_SERIES.study_id,), True, by_series=True)
    where = condition_of(words, _SERIES.modality).where
    assert where is not None
    studies = _STUDY.id.in_(select(_SERIES.study_id).where(where))
    return Driving(Driver.MODALITY, _MODALITIES, Level.STUDY, (studies,))


@dataclass(frozen=True, slots=True)
class _NameDriving:
    """By patients' names: each alternative by whatever index has its groups."""

    name: Name
    deepest: Level
    sqlite: bool

    def driving(self) -> Driving | None:
        level = Level.STUDY if self.deepest > Level.PATIENT else Level.PATIENT
        exact = all(map(_is_exact, self.name.alternatives, self.name.anywhere))
        arms: list[ColumnElement[bool]] = []
        kinds: set[tuple[ColumnElement[Any], ...]] = set()
        for groups, anywhere in zip(self.name.alternatives, self.name.anywhere, strict=True):
            found, order = self.alternative(groups, anywhere)
            if not found:
                return None
            arms += found
            kinds.add(order)
        if parts := self.by_parts(level, exact):
            return parts
        order = kinds.pop() if len(kinds) == 1 and len(arms) <= MOST_ARMS else ()
        return Driving(Driver.NAME, _NAME, level, tuple(arms), order, exact)

    def by_parts(self, level: Level, exact: bool) -> Driving | None:
        """By one name's part: patients come in the order of their ids, until there is a page."""
        if len(self.name.alternatives) != 1:
            return None
        part = self.part(self.name.alternatives[0], self.name.anywhere[0])
        if len(part) < SELECTIVE:
            return None
        order = (_PATIENT.id,)
        if self.sqlite:
            _, where, rowid = _by_trigrams(part)
            # The studies of one patient come by their ids from their index; sorted by those, too, all would be read.
            # What is below studies does not come so.
            sorting = (rowid,) if self.deepest <= Level.STUDY else ()
            return Driving(Driver.NAME, _NAME, level, (where,), order, exact, patients=rowid, sorting=sorting)
        # PostgreSQL has no statistics of parts. Without the offset it would look up the studies of all that match.
        found = select(_PATIENT.id).where(contains(_PATIENT.name_n, part)).order_by(_PATIENT.id)
        named = found.offset(literal_column("0")).subquery("named")
        # Its trigrams have no order: all that match would be sorted for a page of what every sixth patient has.
        first = select(_PATIENT.id, _PATIENT.name_n).order_by(_PATIENT.id).limit(EARLY).subquery("first")
        early = select(first.c.id).where(contains(first.c.name_n, part)).subquery("named")
        return Driving(Driver.NAME, _NAME, level, (), order, exact, patients=named.c.id, early=early.c.id)

    def part(self, groups: tuple[str, str, str], anywhere: bool) -> str:
        """The part of an alternative by which trigrams find it; empty where its beginning does."""
        wanted = groups[:1] if anywhere else groups
        if any(len(_beginning(group)) >= SELECTIVE for group in wanted):
            return ""
        return max(map(_longest_part, wanted), key=len)

    def alternative(
        self, groups: tuple[str, str, str], anywhere: bool
    ) -> tuple[list[ColumnElement[bool]], tuple[ColumnElement[Any], ...]]:
        """Conditions for one alternative, which together find all; none where nothing narrows."""
        if anywhere:
            groups = (groups[0], groups[0], groups[0])
        narrow = [number for number, group in enumerate(groups) if len(_beginning(group)) >= SELECTIVE]
        by_name = (_STUDY.name_n, _STUDY.date) if self.deepest > Level.PATIENT else (_PATIENT.name_n,)
        if narrow and (anywhere or narrow[0] == 0):
            return [self.begins(number, groups[number]) for number in (narrow if anywhere else [0])], by_name
        if narrow:
            number = narrow[0]
            return [self.begins(number, groups[number])], ((_PATIENT.name_i, _PATIENT.name_p)[number - 1],)
        part = self.part(groups, anywhere)
        if len(part) < SELECTIVE:
            return [], ()
        return [self.has_part(part)], ()

    def begins(self, number: int, group: str) -> ColumnElement[bool]:
        prefix = _beginning(group)
        if number:
            own = (_PATIENT.name_i, _PATIENT.name_p)[number - 1]
            return and_(own != _EMPTY, has_prefix(own, prefix) if has_wildcards(group) else own == group)
        own = _STUDY.name_n if self.deepest > Level.PATIENT else _PATIENT.name_n
        if has_wildcards(group):
            return has_prefix(own, prefix)
        return any_of([own == group, has_prefix(own, group + "=")])

    def has_part(self, part: str) -> ColumnElement[bool]:
        if not self.sqlite:
            return contains(_PATIENT.name_n, part)
        names, where, rowid = _by_trigrams(part)
        if self.deepest is Level.PATIENT:
            return _PATIENT.id.in_(select(rowid).where(where))
        # Not the other way round: SQLite would look each study's patient up among the trigrams.
        joined = names.join(schema.study, _STUDY.patient_id == literal_column("+patient_name.rowid"))
        return _STUDY.id.in_(select(_STUDY.id).select_from(joined).where(where))


def _by_trigrams(part: str) -> tuple[TableClause, ColumnElement[bool], ColumnClause[Any]]:
    """SQLite's trigrams are a table of their own: that, the condition, and the patients' ids."""
    names = table("patient_name", column("rowid"), column("name_n", Text()))
    return names, names.c.name_n.op("GLOB")(f"*{part}*"), names.c.rowid


def _beginning(group: str) -> str:
    """What a name's group begins with, without carets that it may lack."""
    prefix = literal_prefix(group)
    return prefix.rstrip("^") if has_wildcards(group) else prefix


def _longest_part(group: str) -> str:
    """The longest part without characters that GLOB or a caret at the end would give a meaning."""
    return longest_literal(group.replace("[", "*").replace("]", "*").replace("^", "*"))


def _is_exact(groups: tuple[str, str, str], anywhere: bool) -> bool:
    """Whether the conditions of an alternative accept what it accepts, and nothing else: whole names, ``x*``, ``*x*``.

    Names that are cut in the index are told apart by what was stored, and carets at the end may be those of components
    that a name lacks.
    """
    wanted = [group for group in groups if group]
    if len(wanted) != 1 or len(wanted[0]) >= LONGEST // 2 or "=" in wanted[0]:
        return False
    (group,) = wanted
    if not has_wildcards(group):
        return len(group) >= SELECTIVE
    part = group.strip("*")
    if has_wildcards(part) or part.endswith("^") or not group.endswith("*"):
        return False
    if not group.startswith("*"):
        return len(part) >= SELECTIVE
    return anywhere and len(part) >= SELECTIVE and part == _longest_part(part)
