"""Items of a worklist: what they must say, what is made up where they do not, and the rows that they are kept in."""

from __future__ import annotations

import copy
import secrets
from dataclasses import dataclass
from typing import Any

from .. import uids
from ..errors import InvalidArgument
from .attributes import LONGEST, normal_date, normal_time
from .catalog import keyword_of
from .dicom_json import DicomJson, items_at, packed, set_text, text_at
from .folding import fold_name

__all__ = ["HIDDEN", "STEPS", "Entry", "completed", "item_row", "merged", "step_rows"]

STUDY_UID, ACCESSION, REQUESTED_PROCEDURE_ID = 0x0020000D, 0x00080050, 0x00401001
PATIENT_NAME, PATIENT_ID, ISSUER = 0x00100010, 0x00100020, 0x00100021
STEPS, STEP_ID, STEP_STATUS, MODALITY = 0x00400100, 0x00400009, 0x00400020, 0x00080060
STATION, START_DATE, START_TIME = 0x00400001, 0x00400002, 0x00400003
_STEPS = f"{STEPS:08X}"

#: What a modality does not see unless it asks for it: steps of these states.
HIDDEN = frozenset({"COMPLETED", "DISCONTINUED", "CANCELLED", "CANCELED", "DEPARTED"})
_FIRST_STATUS = "SCHEDULED"
_LONGEST_ID = 16  # of VR SH


@dataclass(frozen=True, slots=True)
class Entry:
    """An item as it is kept.

    Attributes:
        id: by which it is changed and removed; never given to another one.
        version: counts its changes.
        item: all of it, in DICOM JSON, with its steps.
    """

    id: int
    version: int
    item: DicomJson

    @property
    def steps(self) -> list[DicomJson]:
        """Its scheduled procedure steps."""
        return items_at(self.item, STEPS)


def completed(item: DicomJson, before: DicomJson | None = None) -> DicomJson:
    """An item with all that modalities need: UIDs and identifiers are those it had before, or new ones.

    Args:
        item: in DICOM JSON; it stays as it is.
        before: the same item as it was.

    Raises:
        InvalidArgument: it has no patient, no step, or a step has no modality, or a date or time that is none.
    """
    item = dict(item)
    before = before or {}
    for tag in (PATIENT_NAME, PATIENT_ID):
        if not text_at(item, tag):
            raise InvalidArgument(f"the worklist item has no {keyword_of(tag)}", hint=f"Give {keyword_of(tag)}=….")
    steps = [dict(step) for step in items_at(item, STEPS)]
    if not steps:
        raise InvalidArgument("the worklist item has no step", hint="Give ScheduledProcedureStepSequence.Modality=….")
    uid = text_at(item, STUDY_UID) or text_at(before, STUDY_UID) or uids.new()
    if not uids.is_valid(uid):
        raise InvalidArgument("the Study Instance UID of the worklist item is no UID")
    set_text(item, STUDY_UID, uid)
    if not text_at(item, REQUESTED_PROCEDURE_ID):
        known = text_at(before, REQUESTED_PROCEDURE_ID) or text_at(item, ACCESSION)[:_LONGEST_ID]
        set_text(item, REQUESTED_PROCEDURE_ID, known or f"RP{secrets.randbelow(10**10):010}")
    _complete_steps(item, steps, items_at(before, STEPS))
    item[_STEPS] = {"vr": "SQ", "Value": steps}
    return item


def _complete_steps(item: DicomJson, steps: list[DicomJson], before: list[DicomJson]) -> None:
    """Identifiers, states, and that no identifier is there twice."""
    request = text_at(item, REQUESTED_PROCEDURE_ID)
    states = {text_at(one, STEP_ID): text_at(one, STEP_STATUS) for one in before}
    taken: set[str] = set()
    for number, step in enumerate(steps):
        if not text_at(step, MODALITY):
            hint = "It is one of the step's own: --modality CT, or -k ScheduledProcedureStepSequence.Modality=CT."
            raise InvalidArgument("a step of the worklist item has no Modality", hint=hint)
        for tag, normal in ((START_DATE, normal_date), (START_TIME, normal_time)):
            if (text := text_at(step, tag)) and not normal(text):
                raise InvalidArgument(f"{keyword_of(tag)} of the worklist item: {text[:32]!r} is none")
        if not text_at(step, STEP_ID):
            known = text_at(before[number], STEP_ID) if number < len(before) else ""
            set_text(step, STEP_ID, known or f"{request[: _LONGEST_ID - 3]}-{number + 1}")
        if text_at(step, STEP_ID) in taken:
            raise InvalidArgument(f"two steps of the worklist item have the ID {text_at(step, STEP_ID)}")
        taken.add(text_at(step, STEP_ID))
        if not text_at(step, STEP_STATUS):
            set_text(step, STEP_STATUS, states.get(text_at(step, STEP_ID)) or _FIRST_STATUS)


def merged(item: DicomJson, changes: DicomJson) -> DicomJson:
    """An item with changes: elements replace those of the same tag; steps those of the step with the same ID.

    A step of the changes without an ID means the item's only step, or all of them.
    """
    steps = copy.deepcopy(items_at(item, STEPS))
    for change in items_at(changes, STEPS):
        wanted = text_at(change, STEP_ID)
        meant = [step for step in steps if not wanted or text_at(step, STEP_ID) == wanted]
        for step in meant:
            step.update(change)
        if not meant:
            steps.append(change)
    return item | changes | {_STEPS: {"vr": "SQ", "Value": steps}}


def item_row(item: DicomJson) -> dict[str, Any]:
    """The columns of a completed item."""
    folded = "=".join(fold_name(text_at(item, PATIENT_NAME))).rstrip("=")
    alone = {tag: element for tag, element in item.items() if tag != _STEPS}
    return {
        "study_uid": text_at(item, STUDY_UID),
        "acc": text_at(item, ACCESSION)[:LONGEST],
        "rp_id": text_at(item, REQUESTED_PROCEDURE_ID)[:LONGEST],
        "pid": text_at(item, PATIENT_ID)[:LONGEST],
        "issuer": text_at(item, ISSUER)[:LONGEST],
        "name_n": folded[:LONGEST],
        "data": packed(alone),
    }


def step_rows(item: DicomJson) -> list[dict[str, Any]]:
    """The columns of the steps of a completed item."""
    return [step_row(step) for step in items_at(item, STEPS)]


def step_row(step: DicomJson) -> dict[str, Any]:
    """The columns of one step."""
    status = text_at(step, STEP_STATUS)
    return {
        "sps_id": text_at(step, STEP_ID)[:LONGEST],
        "date": normal_date(text_at(step, START_DATE)),
        "time": normal_time(text_at(step, START_TIME)),
        "modality": text_at(step, MODALITY)[:LONGEST],
        "stations": text_at(step, STATION)[:LONGEST],
        "status": status[:LONGEST],
        "is_open": int(status not in HIDDEN),
        "data": packed(step),
    }
