"""What a performed procedure step may be told, and with which status it is refused (PS3.4 Table F.7.2-1)."""

from __future__ import annotations

from collections.abc import Iterable

from .. import uids
from ..repository.dicom_json import DicomJson, items_at, text_at
from ..repository.performed_steps import IN_PROGRESS, SCHEDULED, STATUS, PerformedStep
from ..status import Status

__all__ = ["refusal_of_change", "refusal_of_creation"]

#: Error ID of what comes after a step has ended (PS3.4 Section F.7.2.2.2).
MAY_NO_LONGER_BE_UPDATED = 0xA710

_STUDY_UID = 0x0020000D
# What a step must have a value for when it begins, type 1; what may be empty may be missing, too: devices leave it out.
_VALUED = {
    0x00080060: "Modality",
    0x00400241: "Performed Station AE Title",
    0x00400244: "Performed Procedure Step Start Date",
    0x00400245: "Performed Procedure Step Start Time",
    STATUS: "Performed Procedure Step Status",
    0x00400253: "Performed Procedure Step ID",
    SCHEDULED: "Scheduled Step Attributes Sequence",
}
# What only its beginning may say.
_SETTLED = frozenset(
    {
        SCHEDULED, 0x00100010, 0x00100020, 0x00100021, 0x00100024, 0x00100030, 0x00100040, 0x00081120,  # the patient
        0x00400253, 0x00400241, 0x00400242, 0x00400243, 0x00400244, 0x00400245, 0x00080060, 0x00200010,
    }
)  # fmt: skip
_STATES = (IN_PROGRESS, "COMPLETED", "DISCONTINUED")


def refusal_of_creation(item: DicomJson) -> Status | None:
    """Why a step cannot begin so: 0120 or 0121 for what is missing, 0106 for a status that is none to begin with."""
    absent = [tag for tag in _VALUED if f"{tag:08X}" not in item]
    if absent:
        return _refused(Status.MISSING_ATTRIBUTE, f"no {_VALUED[absent[0]]}", absent)
    empty = [tag for tag in _VALUED if not (items_at(item, tag) if tag == SCHEDULED else text_at(item, tag))]
    if empty:
        return _refused(Status.MISSING_ATTRIBUTE_VALUE, f"{_VALUED[empty[0]]} is empty", empty)
    if text_at(item, STATUS) != IN_PROGRESS:
        return _refused(Status.INVALID_ATTRIBUTE_VALUE, "a step begins IN PROGRESS", [STATUS])
    for scheduled in items_at(item, SCHEDULED):
        if not text_at(scheduled, _STUDY_UID):
            what = "Scheduled Step Attributes Sequence without Study UID"
            return _refused(Status.MISSING_ATTRIBUTE_VALUE, what, [_STUDY_UID])
        if not uids.is_valid(text_at(scheduled, _STUDY_UID)):
            return _refused(Status.INVALID_ATTRIBUTE_VALUE, "Study Instance UID is no UID", [_STUDY_UID])
    return None


def refusal_of_change(step: PerformedStep, changes: DicomJson) -> Status | None:
    """Why a step cannot change so: 0110 with Error ID A710 once it has ended, 0105 for what its beginning settles."""
    if step.has_ended:
        what = f"the step is {step.status} and may no longer be updated"
        return Status(Status.PROCESSING_FAILURE, comment=what, error_id=MAY_NO_LONGER_BE_UPDATED)
    settled = sorted(tag for tag in _SETTLED if f"{tag:08X}" in changes)
    if settled:
        return _refused(Status.NO_SUCH_ATTRIBUTE, "only the beginning of a step may say this", settled)
    if f"{STATUS:08X}" in changes and text_at(changes, STATUS) not in _STATES:
        return _refused(Status.INVALID_ATTRIBUTE_VALUE, f"a step is {' or '.join(_STATES)}", [STATUS])
    return None


def _refused(status: Status, comment: str, tags: Iterable[int]) -> Status:
    return Status(status, comment=comment, offending=tuple(tags))
