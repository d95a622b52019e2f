"""Queries of the Modality Worklist Information Model: one answer for each scheduled procedure step (PS3.4 Annex K)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Select, select

from .attributes import Attributes
from .catalog import VR_OF
from .conditions import condition_of
from .database import Database
from .dicom_json import DicomJson, attributes_of_json
from .finding import stream
from .keys import Identifier
from .matching import Criterion, DateRange, DateWithTime, Items, TimeRange, Words
from .rows import Row
from .work_schema import worklist, worklist_step
from .worklist_item import (
    ACCESSION,
    ISSUER,
    MODALITY,
    PATIENT_ID,
    PATIENT_NAME,
    REQUESTED_PROCEDURE_ID,
    START_DATE,
    START_TIME,
    STATION,
    STEP_ID,
    STEP_STATUS,
    STEPS,
    STUDY_UID,
)

__all__ = ["WorklistQuery"]

#: AE titles that mean the same station as a title, by title.
Aliases = Mapping[str, Sequence[str]]

_ITEM_COLUMNS: dict[int, ColumnElement[Any]] = {
    STUDY_UID: worklist.c.study_uid,
    ACCESSION: worklist.c.acc,
    REQUESTED_PROCEDURE_ID: worklist.c.rp_id,
    PATIENT_NAME: worklist.c.name_n,
    PATIENT_ID: worklist.c.pid,
    ISSUER: worklist.c.issuer,
}
_STEP_COLUMNS: dict[int, ColumnElement[Any]] = {
    STEP_ID: worklist_step.c.sps_id,
    START_DATE: worklist_step.c.date,
    MODALITY: worklist_step.c.modality,
    STATION: worklist_step.c.stations,
    STEP_STATUS: worklist_step.c.status,
}


class WorklistQuery:
    """An identifier of the worklist model, for any number of steps.

    Args:
        identifier: its keys. A sequence whose item is empty, or not there, is universal.
        aliases: other AE titles of the stations.
        hide: steps that have ended are no matches, unless the status is a key with a value.

    Attributes:
        unsupported: tags of keys with a value that are not matched, since worklists do not know them.
    """

    def __init__(self, identifier: Identifier, aliases: Aliases | None = None, *, hide: bool = True) -> None:
        criteria = {key.tag: key.criterion for key in identifier.keys if key.criterion is not None}
        self.unsupported: tuple[int, ...] = tuple(tag for tag in criteria if tag not in VR_OF)
        steps = criteria.pop(STEPS, None)
        self._item = {tag: one for tag, one in criteria.items() if tag in VR_OF}
        within = steps.criteria if isinstance(steps, Items) else {}
        self._step = {int(tag, 16): one for tag, one in within.items()}
        station = self._step.get(STATION)
        if isinstance(station, Words) and aliases:
            self._step[STATION] = _with_aliases(station, aliases)
        self._hide = hide and STEP_STATUS not in self._step
        self._moment = self._combined()

    def _combined(self) -> DateWithTime | None:
        """Ranges of date and time of a step are one range of moments, always (PS3.4 Table K.6-1)."""
        date, time = self._step.get(START_DATE), self._step.get(START_TIME)
        if not isinstance(date, DateRange) or not isinstance(time, TimeRange) or date.first == date.last:
            return None
        del self._step[START_TIME]
        return DateWithTime(date, time)

    def statement(self) -> Select[Any]:
        """What the database is asked; more than the query accepts may come."""
        wheres = [worklist_step.c.is_open == 1] if self._hide else []
        for criteria, columns in ((self._item, _ITEM_COLUMNS), (self._step, _STEP_COLUMNS)):
            for tag, column in columns.items():
                criterion = criteria.get(tag)
                if criterion is not None:
                    where = condition_of(criterion, column, multiple=tag == STATION).where
                    wheres += [] if where is None else [where]
        step = worklist_step.c
        columns_read = (step.id, worklist.c.data, step.data, step.item_id)
        joined = worklist_step.join(worklist, worklist.c.id == step.item_id)
        query = select(*columns_read).select_from(joined).where(*wheres)
        return query.order_by(step.date, step.time, step.id)

    def accepts(self, item: Attributes, step: Attributes) -> bool:
        """Whether a step of an item is a match."""
        if not all(_accepts(one, item, tag) for tag, one in self._item.items()):
            return False
        if not all(_accepts(one, step, tag) for tag, one in self._step.items()):
            return False
        if self._moment is None:
            return True
        date, time = step.get(f"{START_DATE:08X}", ""), step.get(f"{START_TIME:08X}", "")
        return self._moment.accepts_both(str(date), str(time))

    def find(self, database: Database, *, seconds: float | None = None) -> Iterator[Attributes]:
        """The matches: the attributes of an item with one step each, in the order of their beginnings.

        Raises:
            QueryTooLong: the time is used up.
        """
        for row in stream(database, self.statement(), self._accepted, seconds):
            yield {**_parsed(row[1]), f"{STEPS:08X}": [_parsed(row[2])]}

    def records(self, database: Database) -> Iterator[tuple[int, DicomJson]]:
        """The matches in DICOM JSON, each with the number of its item."""
        for row in stream(database, self.statement(), self._accepted):
            yield row[3], json.loads(row[1]) | {f"{STEPS:08X}": {"vr": "SQ", "Value": [json.loads(row[2])]}}

    def _accepted(self, rows: Iterator[Row]) -> Iterator[Row]:
        return (row for row in rows if self.accepts(_parsed(row[1]), _parsed(row[2])))


def _accepts(criterion: Criterion, attributes: Attributes, tag: int) -> bool:
    return criterion.accepts(attributes.get(f"{tag:08X}", ""))


def _with_aliases(station: Words, aliases: Aliases) -> Words:
    words = [alias for word in station.words for alias in (word, *aliases.get(word, ()))]
    return Words(tuple(dict.fromkeys(words)), exact=station.exact, whole=station.whole)


@lru_cache(4096)
def _parsed(data: str) -> Attributes:
    return attributes_of_json(json.loads(data))
