"""From an identifier to one SQL query: the keys as conditions, and the index that is to drive it.

Planners go astray where a name and a date range meet: SQLite takes the index of the dates and reads a year of studies.
So the key that narrows most by its kind drives (UID, accession number, patient ID, name, date, modality, in this
order), and SQLite is kept from using the indexes of the others. PostgreSQL has statistics and decides for itself.

What has a limit is read by pages, in the order of the index that drives: SQL has a limit of its own then, also where
rows have to be looked at again here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    FromClause,
    Select,
    and_,
    literal,
    literal_column,
    select,
    text,
    tuple_,
    type_coerce,
    union_all,
)

from . import schema
from .catalog import ATTRIBUTES, Attribute, Level
from .conditions import condition_of
from .driving import EARLY_PAGE, PID, Driver, Driving, driving_of
from .keys import Identifier, InvalidKey, Key
from .matching import Criterion, DateRange, DateWithTime, TimeRange, Words, has_wildcards
from .rows import TABLES, Layout, Reader, Row
from .scope import ALL, Scope
from .scope_conditions import conditions_of
from .zones import MOVED, PAIRS, loosened

__all__ = ["Driver", "Plan", "Statement", "check_hierarchy", "plan"]

_UNIQUE = {Level.PATIENT: PID, Level.STUDY: 0x0020000D, Level.SERIES: 0x0020000E, Level.IMAGE: 0x00080018}

Statement: TypeAlias = "Select[Any] | CompoundSelect[Any]"
Check = Callable[[Row], bool]


@dataclass(frozen=True)
class Plan:
    """A query, ready to be run any number of times.

    Attributes:
        statement: its rows begin with the id of the entity at the level; those of the first page, if there are pages.
        layout: what their columns hold.
        checks: what SQL could not tell for sure.
        repeats: an entity may come several times, since keys of lower levels matched several, or several arms did.
        driver: what drives it.
        unsupported: keys that match everything although they have a value, for status FF01.
        early: a quick query, which gives the first page as `statement` does, or fewer rows than the limit.
    """

    level: Level
    statement: Statement
    layout: Layout
    checks: tuple[Check, ...]
    repeats: bool
    driver: Driver
    unsupported: tuple[int, ...]
    early: Statement | None
    _making: _Making

    @property
    def most(self) -> int | None:
        """The most rows that `statement`, or what `after` gives, has; None where they are not limited."""
        limit = self._making.limit
        return 2 * limit if limit is not None and self._making.by_pages else None  # studies repeat for their series

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

    def following(self, row: Row, count: int) -> Statement | None:
        """What goes on after a page of so many rows with this one at its end; None where there is no more."""
        limit = self._making.limit
        if limit is None or not self._making.by_pages or count < limit:
            return None
        return self._making.statement(tuple(row[place] for place in self._making.places), 2 * count)

    def position(self, entity: int) -> Select[Any]:
        """Finds the place of an entity in the order of the pages, for `after`."""
        return self._making.position(entity)

    def after(self, position: Row) -> Statement:
        """What goes on after a position."""
        return self._making.statement(tuple(position), self._making.limit)


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
    ordered: bool = False,
    limit: int | None = None,
    scope: Scope = ALL,
) -> Plan:
    """Make the query of an identifier.

    Args:
        identifier: its keys.
        level: of the entities that are looked for.
        sqlite: for SQLite, else for PostgreSQL.
        tags: attributes to be read from the rows, beside those that are matched.
        ordered: answers come in an order that does not change, as they do under a limit.
        limit: the most entities.
        scope: what the caller may see: nothing else is matched or told.
    """  # fmt: skip
    return _Planning(identifier, level, sqlite, scope).plan(tags, ordered or limit is not None, limit)


@dataclass(frozen=True)
class _Making:
    """Makes the statements of a plan.

    Attributes:
        columns: what is selected, of these tables, by these conditions and by one of these arms.
        order: of the rows; empty where there is none.
        places: of the order's columns in a row.
        sorting: what has the rows in this order.
        by_pages: no two rows are at the same place of the order, but for those of one entity that are alike.
        own: the id of the entity.
    """

    columns: tuple[ColumnElement[Any], ...]
    tables: FromClause
    arms: tuple[ColumnElement[bool], ...]
    conditions: tuple[ColumnElement[bool], ...]
    order: tuple[ColumnElement[Any], ...]
    places: tuple[int, ...]
    sorting: tuple[ColumnElement[Any], ...]
    by_pages: bool
    limit: int | None
    own: ColumnElement[int]

    def statement(self, after: tuple[Any, ...] | None, limit: int | None) -> Statement:
        """The rows after a place of the order, as many as a page has, where there are pages."""
        conditions = self.conditions if after is None else (*self.conditions, self.beyond(after))
        arms = [self.select(limit, *conditions, arm) for arm in self.arms]
        if not arms:
            return self.select(limit, *conditions)
        if len(arms) == 1:
            return arms[0]
        if not self.order:
            whole = union_all(*arms)
        else:
            # SQLite knows no arm with an order or a limit of its own, but for one in a table's place. Columns by their
            # names: SQLAlchemy takes longer to tell them apart than the databases take to find the rows.
            names: list[ColumnElement[Any]] = [literal_column(self.columns[place].key or "") for place in self.places]
            whole = union_all(*(select(text("*")).select_from(arm.subquery()) for arm in arms)).order_by(*names)
        return whole.limit(limit) if self.by_pages and limit is not None else whole

    def select(self, limit: int | None, *conditions: ColumnElement[bool]) -> Select[Any]:
        statement = select(*self.columns).select_from(self.tables).where(*conditions).order_by(*self.sorting)
        return statement.limit(limit) if self.by_pages and limit is not None else statement

    def beyond(self, after: tuple[Any, ...]) -> ColumnElement[bool]:
        first, value = self.order[0], literal(after[0])
        if len(after) == 1:
            return first > value
        # The first column once more, which an index of it alone can serve.
        return and_(first >= value, tuple_(*self.order) > tuple_(*after))

    def position(self, entity: int) -> Select[Any]:
        return select(*self.order).select_from(self.tables).where(self.own == entity).limit(1)


@dataclass
class _Planning:
    identifier: Identifier
    level: Level
    sqlite: bool
    scope: Scope = ALL
    keys: list[tuple[Key, Attribute, Criterion]] = field(default_factory=list)
    unsupported: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.zone = self.identifier.zone
        self.layout = Layout(self.level, self.scope.modalities, self.zone)
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
        if self.zone is not None:
            self.needed.add(min(Level.STUDY, self.deepest))  # where the zones of what is stored are

    def plan(self, tags: tuple[int, ...], ordered: bool, limit: int | None) -> Plan:
        driving = self.drive()
        conditions, checks = self.conditions(driving)
        for tag in tags:
            asked = ATTRIBUTES.get(tag)
            if asked is not None and asked.level <= self.level and self.layout.reader(tag) is not None:
                self.needed.add(asked.level)
        own = TABLES[self.level].c
        if self.level == Level.PATIENT:
            conditions.append(own.merged_into.is_(None))
        # At the deepest: no key may match what is hidden below an entity that may be seen.
        conditions += conditions_of(self.scope, Level.SERIES if driving.by_series else self.deepest)
        by_pages = self.deepest == self.level
        order = self.order(driving, by_pages) if ordered else ()
        places = tuple(self.place(one) for one in order)
        tables = self.tables(driving)
        if driving.by_series:
            tables = tables.join(schema.series, schema.series.c.study_id == schema.study.c.id)
        sorting = driving.sorting if order and by_pages and driving.sorting else order
        making = _Making(
            tuple(self.layout.columns), tables, driving.arms, tuple(conditions), order, places, sorting, by_pages,
            limit, own.id,
        )  # fmt: skip
        repeats = not by_pages or driving.by_series or len(driving.arms) > 1
        first = 2 * limit if limit is not None and driving.by_series else limit  # studies repeat for their series
        statement = making.statement(None, first)
        return Plan(
            self.level, statement, self.layout, tuple(checks), repeats, driving.kind, tuple(self.unsupported),
            self.early(driving, making), making,
        )  # fmt: skip

    def early(self, driving: Driving, making: _Making) -> Statement | None:
        """The first page, of what comes first in the order of the patients' ids; None where it is a large one."""
        if driving.early is None or not making.by_pages or making.limit is None or making.limit > EARLY_PAGE:
            return None
        tables = self.tables(replace(driving, patients=driving.early))
        return replace(making, tables=tables).statement(None, making.limit)

    def drive(self) -> Driving:
        """The key that narrows most."""
        found = (self.driving_of(key, attribute, criterion) for key, attribute, criterion in self.keys)
        driving = min((one for one in found if one is not None), key=lambda one: one.kind, default=None)
        if driving is None:
            return Driving()
        self.needed.add(driving.level)
        if driving.kind is Driver.NAME and self.deepest > Level.PATIENT:
            self.needed.add(Level.PATIENT)  # some of its groups are there alone
        return driving

    def driving_of(self, key: Key, attribute: Attribute, criterion: Criterion) -> Driving | None:
        if self.zone is None or key.tag not in MOVED:
            return driving_of(key.tag, attribute, criterion, self.deepest, self.sqlite)
        loose = loosened(criterion)
        found = None if loose is None else driving_of(key.tag, attribute, loose, self.deepest, self.sqlite)
        return None if found is None else replace(found, is_exact=False)

    def order(self, driving: Driving, by_pages: bool) -> tuple[ColumnElement[Any], ...]:
        """That of the driving index, with the ids below it; that of the ids alone, where it has none."""
        own = TABLES[self.level].c.id
        if not by_pages or not driving.order:
            return (own,)
        if driving.by_series:
            return driving.order
        top = Level.PATIENT if driving.order[0].table is schema.patient else driving.level
        ids = [TABLES[level].c.id for level in Level if top <= level <= self.level]
        self.needed.add(top)
        return tuple(dict.fromkeys((*driving.order, *ids)))

    def place(self, column: ColumnElement[Any]) -> int:
        """Where a column of the order is in the rows."""
        if column is TABLES[self.level].c.id:
            return 0
        return self.layout.add((column.table.name, column.name), column)

    def tables(self, driving: Driving) -> FromClause:
        """The tables from the highest that is needed down to the deepest."""
        top = min(self.needed)
        joined: FromClause = TABLES[top]
        if driving.patients is not None:
            joined = driving.patients.table.join(joined, schema.patient.c.id == self.held(driving.patients))
        for level in Level:
            if top < level <= self.deepest:
                below = TABLES[level]
                parent = (schema.study.c.patient_id, schema.series.c.study_id, schema.instance.c.series_id)[level - 1]
                joined = joined.join(below, parent == TABLES[Level(level - 1)].c.id)
        return joined

    # Conditions

    def conditions(self, driving: Driving) -> tuple[list[ColumnElement[bool]], list[Check]]:
        """What SQL can tell of the keys beside the driving one, and the checks of what it cannot."""
        conditions: list[ColumnElement[bool]] = []
        checks = list(self.pairs())
        for key, attribute, criterion in self.keys:
            if key.tag == driving.tag and driving.is_exact:
                continue
            where = self.condition(key, attribute, criterion, checks)
            if where is not None:
                conditions.append(where)
        return conditions, checks

    def condition(
        self, key: Key, attribute: Attribute, criterion: Criterion, checks: list[Check]
    ) -> ColumnElement[bool] | None:
        """What SQL can tell of a key; what it cannot is added to the checks."""
        self.needed.add(attribute.level)
        where, exact = None, False
        is_moved = self.zone is not None and key.tag in MOVED
        told = loosened(criterion) if is_moved else criterion
        if attribute.column and told is not None:
            name = {"name": "name_n", "refphys": "refphys_n"}.get(attribute.column, attribute.column)
            held = self.held(TABLES[attribute.level].c[name])
            found = condition_of(told, held, multiple=attribute.computed)
            where, exact = found.where, found.is_exact and not is_moved
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
        for date_tag, time_tag in PAIRS:
            date, time = by_tag.get(date_tag), by_tag.get(time_tag)
            if not isinstance(date, DateRange) or not isinstance(time, TimeRange):
                continue
            read_date, read_time = self.layout.reader(date_tag), self.layout.reader(time_tag)
            assert read_date is not None and read_time is not None
            self.keys = [one for one in self.keys if one[0].tag != time_tag]
            self.needed.add(ATTRIBUTES[time_tag].level)
            yield _pair_check(read_date, read_time, DateWithTime(date, time))


def _is_held(attribute: Attribute) -> bool:
    """Whether a computed attribute can be matched: what a study holds can, counts cannot."""
    return attribute.column in ("mods", "sop_classes")


def _check(reader: Reader, criterion: Criterion) -> Check:
    return lambda row: criterion.accepts(reader(row))


def _pair_check(date: Reader, time: Reader, both: DateWithTime) -> Check:
    def check(row: Row) -> bool:
        one, other = date(row), time(row)
        return isinstance(one, str) and isinstance(other, str) and both.accepts_both(one, other)

    return check
