"""How a query's rows hold the attributes: which columns they are in, and how a value is read from a row."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Table, func, select

from . import schema
from .attributes import Attributes
from .catalog import ATTRIBUTES, Attribute, Level
from .matching import offset_minutes
from .zones import MOMENTS, MOVED, TIMEZONE, moved, with_offset

__all__ = ["NAME_OF_LEVEL", "TABLES", "Layout", "Reader", "Row"]

#: A row as the database gives it.
Row = Sequence[Any]
#: Reads one attribute from a row.
Reader = Callable[[Row], "str | list[Attributes]"]

TABLES: dict[Level, Table] = {
    Level.PATIENT: schema.patient,
    Level.STUDY: schema.study,
    Level.SERIES: schema.series,
    Level.IMAGE: schema.instance,
}
NAME_OF_LEVEL = {Level.PATIENT: "PATIENT", Level.STUDY: "STUDY", Level.SERIES: "SERIES", Level.IMAGE: "IMAGE"}

_NUMBER_COLUMNS = frozenset({"number", "frames", "rows", "columns", "bits", "n_series", "n_inst"})
_AS_WRITTEN = {0x00080020: "00080020", 0x00080030: "00080030", 0x00100030: "00100030"}  # may be among the others, too


def _of_patient(what: ColumnElement[Any]) -> ColumnElement[Any]:
    query = select(func.coalesce(what, 0)).where(schema.study.c.patient_id == schema.patient.c.id)
    return query.correlate(schema.patient).scalar_subquery()


_OF_PATIENT: dict[int, ColumnElement[Any]] = {
    0x00201200: _of_patient(func.count(schema.study.c.id)),
    0x00201202: _of_patient(func.sum(schema.study.c.n_series)),
    0x00201204: _of_patient(func.sum(schema.study.c.n_inst)),
}


_MODALITIES_IN_STUDY, _SOP_CLASSES_IN_STUDY = 0x00080061, 0x00080062


def _seen_classes(modalities: frozenset[str]) -> ColumnElement[Any]:
    """The SOP classes in a study's series of some modalities; the study has only those of all of its series."""
    series, instance = schema.series.alias(), schema.instance.alias()
    below = series.join(instance, instance.c.series_id == series.c.id)
    seen = series.c.study_id == schema.study.c.id, series.c.modality.in_(sorted(modalities))
    found = select(instance.c.cls).select_from(below).where(*seen).distinct().correlate(schema.study).subquery()
    return select(func.aggregate_strings(found.c.cls, "\\")).scalar_subquery()


@lru_cache(8192)
def _parsed(attrs: str | None) -> Attributes:
    parsed: Attributes = json.loads(attrs) if attrs else {}
    return parsed


class Layout:
    """The columns of a query, in the order in which they are asked for.

    Args:
        level: of the query.
        modalities: of the series that may be seen: what a study is told to hold is in these alone; empty is any.
        zone: dates and times are read as they are so many minutes east of UTC, where their study says its own zone.

    Attributes:
        columns: what is selected; the first is the id of the row at the query's level.
    """

    def __init__(self, level: Level, modalities: frozenset[str] = frozenset(), zone: int | None = None) -> None:
        self.level = level
        self._modalities, self._zone = modalities, zone
        self.columns: list[ColumnElement[Any]] = [TABLES[level].c.id]
        self._places: dict[object, int] = {}

    def add(self, key: object, column: ColumnElement[Any]) -> int:
        """The place of a column, which is selected once however often it is asked for."""
        if key not in self._places:
            self._places[key] = len(self.columns)
            self.columns.append(column.label(f"c{len(self.columns)}"))
        return self._places[key]

    def reader(self, tag: int) -> Reader | None:
        """What reads an attribute; None for one that no row has."""
        own = self._own(tag)
        if self._zone is None or own is None:
            return own
        if tag in MOVED:
            return self._moved(tag, self._zone)
        if tag == TIMEZONE:
            return _zone_reader(own, self._zone)
        if tag in MOMENTS and ATTRIBUTES[tag].level > Level.PATIENT:
            return self._with_offset(own)
        return own

    def _moved(self, tag: int, zone: int) -> Reader:
        """What reads a date or a time as it is in the zone."""
        pair = MOVED[tag]
        place, own = pair.index(tag), self._own(tag)
        date, time, offset = (self._own(one) for one in (*pair, TIMEZONE))
        assert own and date and time and offset

        def read(row: Row) -> str | list[Attributes]:
            there = offset_minutes(_text(offset(row)))
            return own(row) if there is None else moved(_text(date(row)), _text(time(row)), zone - there)[place]

        return read

    def _with_offset(self, own: Reader) -> Reader:
        """What reads moments with the offset that their study says, where they name none."""
        offset = self._own(TIMEZONE)
        assert offset

        def read(row: Row) -> str | list[Attributes]:
            there = _text(offset(row))
            return own(row) if offset_minutes(there) is None else with_offset(_text(own(row)), there)

        return read

    def _own(self, tag: int) -> Reader | None:
        """What reads an attribute as it is stored."""
        attribute = ATTRIBUTES.get(tag)
        if attribute is None:
            return None
        if tag in _OF_PATIENT:
            return _number_reader(self.add(tag, _OF_PATIENT[tag]))
        if not attribute.column:
            return None if attribute.computed else self._other(attribute)
        if self._modalities and tag == _SOP_CLASSES_IN_STUDY:
            return _seen_reader(self.add(tag, _seen_classes(self._modalities)))
        table = TABLES[attribute.level]
        place = self.add((table.name, attribute.column), table.c[attribute.column])
        if self._modalities and tag == _MODALITIES_IN_STUDY:
            return _seen_reader(place, self._modalities)
        if attribute.column in _NUMBER_COLUMNS:
            return _number_reader(place)
        if tag in _AS_WRITTEN:
            others = self.add((table.name, "attrs"), table.c.attrs)
            return _as_written_reader(place, others, _AS_WRITTEN[tag])
        return _text_reader(place)

    def _other(self, attribute: Attribute) -> Reader:
        table = TABLES[attribute.level]
        place, name = self.add((table.name, "attrs"), table.c.attrs), f"{attribute.tag:08X}"
        return lambda row: _parsed(row[place]).get(name) or ""


def _text(value: str | list[Attributes]) -> str:
    return value if isinstance(value, str) else ""


def _zone_reader(own: Reader, zone: int) -> Reader:
    """The zone that dates and times are told in; none where it is not known which one they are in."""
    told = f"{'-' if zone < 0 else '+'}{abs(zone) // 60:02}{abs(zone) % 60:02}"
    return lambda row: told if offset_minutes(_text(own(row))) is not None else ""


def _text_reader(place: int) -> Reader:
    return lambda row: row[place] or ""


def _seen_reader(place: int, seen: frozenset[str] | None = None) -> Reader:
    """Values in order; those that may be seen, where others are among them."""
    return lambda row: "\\".join(sorted(one for one in (row[place] or "").split("\\") if seen is None or one in seen))


def _number_reader(place: int) -> Reader:
    return lambda row: "" if row[place] is None else str(row[place])


def _as_written_reader(place: int, others: int, name: str) -> Reader:
    """A date or time whose column has its normal form: as it was written, where that is another one."""

    def read(row: Row) -> str | list[Attributes]:
        attrs = row[others]
        text: str = row[place]
        return _parsed(attrs).get(name) or text if name in attrs else text

    return read
