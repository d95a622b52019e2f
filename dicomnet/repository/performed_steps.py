"""Performed procedure steps in rows, and what they say of the worklist (PS3.4 Annex F)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from .attributes import LONGEST, normal_date
from .dicom_json import DicomJson, items_at, packed, text_at
from .work_schema import performed_step
from .worklist import report_status
from .worklist_item import PATIENT_ID, STEP_ID, STUDY_UID

__all__ = ["IN_PROGRESS", "SCHEDULED", "STATUS", "PerformedStep", "PerformedSteps"]

STATUS, START_DATE, SCHEDULED = 0x00400252, 0x00400244, 0x00400270
IN_PROGRESS = "IN PROGRESS"
#: What the status of a performed step means for the scheduled one.
_SCHEDULED_STATUS = {IN_PROGRESS: "STARTED", "COMPLETED": "COMPLETED", "DISCONTINUED": "DISCONTINUED"}


@dataclass(frozen=True, slots=True)
class PerformedStep:
    """A step as it was reported so far: its SOP Instance UID, its status, and all its attributes in DICOM JSON."""

    uid: str
    status: str
    item: DicomJson

    @property
    def has_ended(self) -> bool:
        """Whether it is completed or discontinued, and stays as it is."""
        return self.status != IN_PROGRESS


class PerformedSteps:
    """The performed procedure steps of a repository; each method works in the caller's transaction.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def create(self, connection: Connection, uid: str, item: DicomJson, calling: str = "") -> int:
        """Keep a new step; of how many scheduled steps it is.

        Raises:
            sqlalchemy.exc.IntegrityError: there is one with this UID.
        """
        connection.execute(insert(performed_step).values(uid=uid, calling=calling, **self._row(item)))
        return _report(connection, item)

    def change(self, connection: Connection, step: PerformedStep, changes: DicomJson) -> PerformedStep:
        """Replace elements of a step, and tell the worklist."""
        item = step.item | changes
        connection.execute(update(performed_step).where(performed_step.c.uid == step.uid).values(self._row(item)))
        if text_at(item, STATUS) != step.status:
            _report(connection, item)
        return PerformedStep(step.uid, text_at(item, STATUS), item)

    def get(self, connection: Connection, uid: str, *, lock: bool = False) -> PerformedStep | None:
        """A step; with ``lock`` nothing else changes it before the transaction ends."""
        row = performed_step.c
        query = select(row.status, row.data).where(row.uid == uid)
        found = connection.execute(query.with_for_update() if lock else query).first()
        return None if found is None else PerformedStep(uid, found[0], json.loads(found[1]))

    def remove(self, connection: Connection, uid: str) -> bool:
        """Remove a step; whether there was one."""
        return bool(connection.execute(delete(performed_step).where(performed_step.c.uid == uid)).rowcount)

    def _row(self, item: DicomJson) -> dict[str, object]:
        return {
            "status": text_at(item, STATUS),
            "pid": text_at(item, PATIENT_ID)[:LONGEST],
            "date": normal_date(text_at(item, START_DATE)),
            "changed": self._clock(),
            "data": packed(item),
        }


def _report(connection: Connection, item: DicomJson) -> int:
    """Tell the worklist of the scheduled steps that this one is for; a step without their ID is unscheduled."""
    status = _SCHEDULED_STATUS.get(text_at(item, STATUS), "")
    named = {(text_at(one, STUDY_UID), text_at(one, STEP_ID)) for one in items_at(item, SCHEDULED)}
    return sum(report_status(connection, study, step, status) for study, step in sorted(named) if study and step)
