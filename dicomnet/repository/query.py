"""From an identifier to one SQL query: the keys as conditions, and the index that is to drive it.

Planners go astray where a name and a date range meet: SQLite takes the index of the dates and reads a year of studies.
So the key that narrows most by its kind drives (UID, accession number, patient ID, name, date, modality, in this
order), and SQLite is kept from using the indexes of the others. PostgreSQL has statistics and decides for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    Text,
    and_,
    column,
    literal_column,
    select,
    table,
    type_coerce,
    union_all,
)

from . import schema
from .catalog import ATTRIBUTES, Attribute, Level
from .conditions import any_of, condition_of, contains, has_prefix
from .keys import Identifier, InvalidKey, Key
from .matching import (
    Criterion,
    DateRange,
    DateWithTime,
    Name,
    TimeRange,
    Words,
    has_wildcards,
    literal_prefix,
    longest_literal,
)
from .rows import TABLES, Layout, Reader, Row

__all__ = ["Driver", "Plan", "check_hierarchy", "plan"]

SELECTIVE = 3  # characters of a name, or before a wild card, from which an index narrows well

_PID, _NAME, _BIRTH, _DATE, _ACCESSION, _STUDY_ID = (
    0x00100020,
    0x00100010,
    0x00100030,
    0x00080020,
    0x00080050,
    0x00200010,
)
_MODALITY, _MODALITIES = 0x00080060, 0x00080061
_UNIQUE = {Level.PATIENT: _PID, Level.STUDY: 0x0020000D, Level.SERIES: 0x0020000E, Level.IMAGE: 0x00080018}
#: Dates and their times.
_PAIRS = ((0x00080020, 0x00080030), (0x00080021, 0x00080031), (0x00080023, 0x00080033), (0x00100030, 0x00100032),
          (0x00400244, 0x00400245), (0x00400250, 0x00400251), (0x00700082, 0x00700083))  # fmt: skip


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
    _PID: Driver.PATIENT_ID, _NAME: Driver.NAME, _BIRTH: Driver.BIRTH_DATE, _DATE: Driver.DATE,
    _ACCESSION: Driver.ACCESSION, _STUDY_ID: Driver.ACCESSION, _MODALITY: Driver.MODALITY,
    _MODALITIES: Driver.MODALITY,
} | dict.fromkeys(list(_UNIQUE.values())[1:], Driver.UID)  # fmt: skip

Check = Callable[[Row], bool]


@dataclass(frozen=True)
class Plan:
    """A query, ready to be run any number of times.

    Attributes:
        statement: its rows begin with the id of the entity at the level.
        layout: what their columns hold.
        checks: what SQL could not tell for sure.
        repeats: an entity may come several times, since keys of lower levels matched several.
        driver: what drives it.
        unsupported: keys that match everything although they have a value, for status FF01.
    """

    level: Level
    statement: Select[Any]
    layout: Layout
    checks: tuple[Check, ...]
    repeats: bool
    driver: Driver
    unsupported: tuple[int, ...]

    def accepted(self, rows: Iterator[Row]) -> Iterator[Row]:
        """The rows that all keys accept, one for each entity."""
        seen: set[int] = set()
        for row in rows:
            if self.repeats and row[0] in seen:
                continue
            if all(check(row) for check in self.checks):
                if self.repeats:
                    seen.add(row[0])
                yield row


def check_hierarchy(identifier: Identifier, level: Level, root: Level) -> None:
    """Refuse what a query without relational keys has to have: one unique key for each level above (PS3.4 C.4.1.2.2.1).

    Raises:
        InvalidKey: a level that the root does not have, a unique key that is missing or has several values.
    """
    if level < root:
        raise InvalidKey(0x00080052, "is no level of this model")
    if identifier.options.relational:
        return
    for above in (one for one in Level if root <= one < level):
        key = identifier[_UNIQUE[above]]
        criterion = key.criterion if key is not None else None
        if not isinstance(criterion, Words) or len(criterion.words) != 1 or has_wildcards(criterion.words[0]):
            raise InvalidKey(_UNIQUE[above], "has to have one value below it")  # within 64 characters of Error Comment


def plan(
    identifier: Identifier,
    level: Level,
    *,
    sqlite: bool,
    tags: tuple[int, ...] = (),
    after: int | None = None,
    limit: int | None = None,
) -> Plan:
    """Make the query of an identifier.

    Args:
        identifier: its keys.
        level: of the entities that are looked for.
        sqlite: for SQLite, else for PostgreSQL.
        tags: attributes to be read from the rows, beside those that are matched.
        after: the id after which to go on; answers then come in the order of their ids, as they do under a limit.
        limit: the most entities.
    """  # fmt: skip
    return _Planning(identifier, level, sqlite).plan(tags, after, limit)


@dataclass
class _Planning:
    identifier: Identifier
    level: Level
    sqlite: bool
    keys: list[tuple[Key, Attribute, Criterion]] = field(default_factory=list)
    unsupported: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layout = Layout(self.level)
        lowest = Level.IMAGE if self.identifier.options.relational else self.level
        for key in self.identifier.keys:
            if key.criterion is None:
                continue
            attribute = ATTRIBUTES.get(key.tag)
            if attribute is None or attribute.level > lowest or (attribute.computed and not _is_held(attribute)):
                self.unsupported.append(key.tag)
            else:
                self.keys.append((key, attribute, key.criterion))
        self.deepest = max([self.level, *(attribute.level for _, attribute, _ in self.keys)])
        self.needed = {self.level, self.deepest}

    def plan(self, tags: tuple[int, ...], after: int | None, limit: int | None) -> Plan:
        driver, driving = self.drive()
        conditions = [] if driving is None else [driving]
        checks = list(self.pairs())
        for key, attribute, criterion in self.keys:
            where = self.condition(key, attribute, criterion, checks)
            if where is not None:
                conditions.append(where)
        for tag in tags:
            asked = ATTRIBUTES.get(tag)
            if asked is not None and asked.level <= self.level and self.layout.reader(tag) is not None:
                self.needed.add(asked.level)
        own = TABLES[self.level].c
        if self.level == Level.PATIENT:
            conditions.append(own.merged_into.is_(None))
        statement = select(*self.layout.columns).select_from(self.tables()).where(*conditions)
        if after is not None:
            statement = statement.where(own.id > after)
        if after is not None or limit is not None:
            statement = statement.order_by(own.id)
        repeats = self.deepest > self.level
        if limit is not None and not checks and not repeats:
            statement = statement.limit(limit)
        return Plan(self.level, statement, self.layout, tuple(checks), repeats, driver, tuple(self.unsupported))

    def tables(self) -> FromClause:
        """The tables from the highest that is needed down to the deepest."""
        top = min(self.needed)
        joined: FromClause = TABLES[top]
        for level in Level:
            if top < level <= self.deepest:
                below = TABLES[level]
                parent = (schema.study.c.patient_id, schema.series.c.study_id, schema.instance.c.series_id)[level - 1]
                joined = joined.join(below, parent == TABLES[Level(level - 1)].c.id)
        return joined

    # Conditions

    def condition(
        self, key: Key, attribute: Attribute, criterion: Criterion, checks: list[Check]
    ) -> ColumnElement[bool] | None:
        """What SQL can tell of a key; what it cannot is added to the checks."""
        self.needed.add(attribute.level)
        where, exact = None, False
        if attribute.column:
            name = {"name": "name_n", "refphys": "refphys_n"}.get(attribute.column, attribute.column)
            held = self.held(TABLES[attribute.level].c[name])
            found = condition_of(criterion, held, multiple=attribute.computed)
            where, exact = found.where, found.is_exact
        if not exact:
            reader = self.layout.reader(key.tag)
            assert reader is not None
            checks.append(_check(reader, criterion))
        return where

    def held(self, of: ColumnElement[Any]) -> ColumnElement[Any]:
        """A column that does not drive: SQLite uses no index of an expression."""
        if not self.sqlite:
            return of
        return type_coerce(literal_column(f"+{of}"), of.type)

    def pairs(self) -> Iterator[Check]:
        """Dates with their times, as one range of moments each, where that was negotiated."""
        if not self.identifier.options.combined_datetime:
            return
        by_tag = {key.tag: criterion for key, _, criterion in self.keys}
        for date_tag, time_tag in _PAIRS:
            date, time = by_tag.get(date_tag), by_tag.get(time_tag)
            if not isinstance(date, DateRange) or not isinstance(time, TimeRange):
                continue
            read_date, read_time = self.layout.reader(date_tag), self.layout.reader(time_tag)
            assert read_date is not None and read_time is not None
            self.keys = [one for one in self.keys if one[0].tag != time_tag]
            self.needed.add(ATTRIBUTES[time_tag].level)
            yield _pair_check(read_date, read_time, DateWithTime(date, time))

    # The driving index

    def drive(self) -> tuple[Driver, ColumnElement[bool] | None]:
        """The key that narrows most, and its condition."""
        choices: list[tuple[Driver, ColumnElement[bool]]] = []
        for key, attribute, criterion in self.keys:
            kind = _KINDS.get(key.tag)
            driving = None if kind is None else self.driving(kind, attribute, criterion)
            if kind is not None and driving is not None:
                choices.append((kind, driving))
        if not choices:
            return Driver.NONE, None
        return min(choices, key=lambda choice: choice[0])

    def driving(self, kind: Driver, attribute: Attribute, criterion: Criterion) -> ColumnElement[bool] | None:
        """A condition that an index serves; None where the key does not narrow."""
        if isinstance(criterion, Name) and kind == Driver.NAME:
            return self.name_driving(criterion)
        if isinstance(criterion, Words):
            return self.words_driving(attribute, criterion)
        if isinstance(criterion, DateRange):
            return condition_of(criterion, TABLES[attribute.level].c[attribute.column]).where
        return None

    def words_driving(self, attribute: Attribute, words: Words) -> ColumnElement[bool] | None:
        wild = [] if words.exact else [word for word in words.words if has_wildcards(word)]
        if any(len(literal_prefix(word)) < SELECTIVE for word in wild):
            return None
        if attribute.column == "mods":
            modality = condition_of(words, schema.series.c.modality).where
            return None if modality is None else schema.study.c.id.in_(select(schema.series.c.study_id).where(modality))
        own = schema.study if attribute.tag == _PID and self.deepest > Level.PATIENT else TABLES[attribute.level]
        if own is schema.study:
            self.needed.add(Level.STUDY)
        return condition_of(words, own.c[attribute.column]).where

    def name_driving(self, name: Name) -> ColumnElement[bool] | None:
        """Rows with one of the names, by whatever index has each of its groups."""
        arms: list[Select[Any]] = []
        for groups, anywhere in zip(name.alternatives, name.anywhere, strict=True):
            found = list(self.arms(groups, anywhere))
            if not found:
                return None
            arms += found
        self.needed.add(Level.STUDY if self.deepest > Level.PATIENT else Level.PATIENT)
        own = schema.study if self.deepest > Level.PATIENT else schema.patient
        return own.c.id.in_(union_all(*arms) if len(arms) > 1 else arms[0])

    def arms(self, groups: tuple[str, str, str], anywhere: bool) -> Iterator[Select[Any]]:
        """Selections of ids for one alternative, which together find all; none where nothing narrows."""
        if anywhere:
            groups = (groups[0], groups[0], groups[0])
        narrow = [number for number, group in enumerate(groups) if len(_beginning(group)) >= SELECTIVE]
        if len(narrow) == (3 if anywhere else 1) or (narrow and not anywhere):
            yield from (self.prefix_arm(number, groups[number]) for number in (narrow if anywhere else narrow[:1]))
            return
        part = max(map(_longest_part, groups), key=len)
        if len(part) >= SELECTIVE:
            yield self.trigram_arm(part)

    def prefix_arm(self, number: int, group: str) -> Select[Any]:
        prefix = _beginning(group)
        if number == 0 and self.deepest > Level.PATIENT:
            return select(schema.study.c.id).where(_begins(schema.study.c.name_n, group, prefix, "="))
        patient = schema.patient.c
        own = (patient.name_n, patient.name_i, patient.name_p)[number]
        where = _begins(own, group, prefix, "=" if number == 0 else "")
        return self.of_patients(schema.patient, patient.id, where if number == 0 else and_(own != "", where))

    def trigram_arm(self, part: str) -> Select[Any]:
        if not self.sqlite:
            return self.of_patients(schema.patient, schema.patient.c.id, contains(schema.patient.c.name_n, part))
        names = table("patient_name", column("rowid"), column("name_n", Text()))
        return self.of_patients(names, names.c.rowid, names.c.name_n.op("GLOB")(f"*{part}*"))

    def of_patients(self, names: FromClause, patient_id: ColumnElement[Any], where: ColumnElement[bool]) -> Select[Any]:
        """The patients, or their studies, where the query has studies."""
        if self.deepest == Level.PATIENT:
            return select(patient_id).select_from(names).where(where)
        # Not the other way round: SQLite would look each study's patient up among the trigrams.
        joined = names.join(schema.study, schema.study.c.patient_id == self.held(patient_id))
        return select(schema.study.c.id).select_from(joined).where(where)


def _is_held(attribute: Attribute) -> bool:
    """Whether a computed attribute can be matched: what a study holds can, counts cannot."""
    return attribute.column in ("mods", "sop_classes")


def _beginning(group: str) -> str:
    """What a name's group begins with, without carets that it may lack."""
    prefix = literal_prefix(group)
    return prefix.rstrip("^") if has_wildcards(group) else prefix


def _longest_part(group: str) -> str:
    """The longest part without characters that GLOB or a caret at the end would give a meaning."""
    return longest_literal(group.replace("[", "*").replace("]", "*").replace("^", "*"))


def _begins(own: ColumnElement[Any], group: str, prefix: str, separator: str) -> ColumnElement[bool]:
    if has_wildcards(group):
        return has_prefix(own, prefix)
    if not separator:
        return own == group
    return any_of([own == group, has_prefix(own, group + separator)])


def _check(reader: Reader, criterion: Criterion) -> Check:
    return lambda row: criterion.accepts(reader(row))


def _pair_check(date: Reader, time: Reader, both: DateWithTime) -> Check:
    def check(row: Row) -> bool:
        one, other = date(row), time(row)
        return isinstance(one, str) and isinstance(other, str) and both.accepts_both(one, other)

    return check
