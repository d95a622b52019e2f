"""What may be done with a work item in each of its states (PS3.4 Section CC.1.1), and what it must say."""

from __future__ import annotations

from ..errors import InvalidArgument
from .dicom_json import DicomJson, items_at, text_at

__all__ = [
    "CANCELED",
    "COMPLETED",
    "FINAL",
    "IN_PROGRESS",
    "SCHEDULED",
    "STATE",
    "WorkitemRefused",
    "check_change",
    "check_final",
    "check_new",
    "outcome",
]

SCHEDULED, IN_PROGRESS, COMPLETED, CANCELED = "SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"
FINAL = frozenset({COMPLETED, CANCELED})
STATE, TRANSACTION, LABEL, PRIORITY, START = 0x00741000, 0x00081195, 0x00741204, 0x00741200, 0x00404005
READINESS, PROGRESS, PERFORMED = 0x00404041, 0x00741002, 0x00741216
WORKLIST_LABEL = 0x00741202
_READY = ("INCOMPLETE", "UNAVAILABLE", "READY")

#: Status codes of PS3.4 Tables CC.2.1-2, CC.2.2-2, CC.2.3-3, CC.2.5-4 and CC.2.6-1, and what they say.
MEANINGS = {
    0x0106: "an attribute has a value that is none",
    0x0111: "there is a work item with this UID",
    0x0120: "an attribute is missing",
    0x0121: "an attribute has no value",
    0xB300: "The Workitem was created with modifications.",
    0xB301: "Deletion Lock not granted.",
    0xB304: "The UPS is already in the requested state of CANCELED.",
    0xB306: "The UPS is already in the requested state of COMPLETED.",
    0xC300: "The submitted request is inconsistent with the state of the UPS Instance.",
    0xC301: "The Transaction UID is incorrect.",
    0xC302: "The submitted request is inconsistent with the state of the UPS Instance.",
    0xC303: "The submitted request is inconsistent with the state of the UPS Instance.",
    0xC304: "The submitted request is inconsistent with the state of the UPS Instance.",
    0xC307: "there is no such work item",
    0xC308: "the archive knows no address of the AE that is to be told",
    0xC309: "a work item begins SCHEDULED",
    0xC310: "The submitted request is inconsistent with the state of the UPS Instance.",
    0xC311: "The UPS is already COMPLETED.",
    0xC312: "The performer cannot be contacted: no AE is subscribed to the work item.",
    0xC314: "only a subscription to all work items is suspended",
}

# PS3.4 Table CC.1.1-2: what is asked, the state that it is asked in, and the outcome: the new state, or a status.
# Without the right Transaction UID it is C301: that of who performs the item, once it is in progress.
_OUTCOMES: dict[str, dict[str, str | int]] = {
    SCHEDULED: {SCHEDULED: 0xC303, IN_PROGRESS: 0xC303, COMPLETED: 0xC303, CANCELED: 0xC303},
    IN_PROGRESS: {SCHEDULED: IN_PROGRESS, IN_PROGRESS: 0xC302, COMPLETED: 0xC300, CANCELED: 0xC300},
    COMPLETED: {SCHEDULED: 0xC310, IN_PROGRESS: COMPLETED, COMPLETED: 0xB306, CANCELED: 0xC300},
    CANCELED: {SCHEDULED: 0xC310, IN_PROGRESS: CANCELED, COMPLETED: 0xC300, CANCELED: 0xB304},
    # Not a state: others ask for it, without a Transaction UID; who performs the item is told.
    "cancel": {SCHEDULED: CANCELED, IN_PROGRESS: IN_PROGRESS, COMPLETED: 0xC311, CANCELED: 0xB304},
}

# What the beginning of an item settles, or we alone write: of N-SET not allowed (PS3.4 Table CC.2.5-3).
_SETTLED = frozenset(
    {STATE, TRANSACTION, 0x00080016, 0x00080018, 0x00404010}
    | {0x00100010, 0x00100020, 0x00100021, 0x00100024, 0x00100030, 0x00100040}
    | {0x00380010, 0x00380014, 0x00081080, 0x00081084, 0x0040A370, 0x00741224}
)
_NEEDED = {
    LABEL: "Procedure Step Label",
    PRIORITY: "Scheduled Procedure Step Priority",
    READINESS: "Input Readiness State",
}
_OUTPUT = 0x00404033
# What the item of Performed Procedure Sequence must have in the end; of output there may be none.
_FINAL_ATTRIBUTES = {
    0x00404028: "Performed Station Name Code Sequence",
    0x00404050: "Performed Procedure Step Start DateTime",
    0x00404051: "Performed Procedure Step End DateTime",
    0x00404019: "Performed Workitem Code Sequence",
    _OUTPUT: "Output Information Sequence",
}


class WorkitemRefused(InvalidArgument):
    """What cannot be done with a work item.

    Attributes:
        code: the status of PS3.4 Annex CC.
        tag: the attribute that is at fault; 0 where it is none.
    """

    def __init__(self, code: int, what: str = "", tag: int = 0) -> None:
        super().__init__(what or MEANINGS[code])
        self.code = code
        self.tag = tag


def outcome(wanted: str, state: str, *, is_performer: bool, has_transaction: bool = True) -> str | int:
    """The state that follows, or a warning: B304, B306.

    Args:
        wanted: the state that is asked for, or "cancel".
        state: that the item is in.
        is_performer: whether the Transaction UID is that of who performs the item; in SCHEDULED there is none yet.
        has_transaction: whether there is a Transaction UID at all.

    Raises:
        WorkitemRefused: it cannot be done.
    """
    if wanted not in _OUTCOMES:
        raise WorkitemRefused(0x0106, f"a work item is {IN_PROGRESS}, {COMPLETED} or {CANCELED}")
    if wanted not in ("cancel", SCHEDULED):
        if not has_transaction:
            raise WorkitemRefused(0xC301, "The Transaction UID is missing.", TRANSACTION)
        # So a second one that wants an item in progress is told (PS3.4 Section CC.2.1.2, note 2).
        if state != SCHEDULED and not is_performer:
            raise WorkitemRefused(0xC301, tag=TRANSACTION)
    found = _OUTCOMES[wanted][state]
    if isinstance(found, int) and found >= 0xC000:
        raise WorkitemRefused(found)
    return found


def check_new(item: DicomJson) -> None:
    """Refuse an item that cannot begin so: 0120 or 0121 for what is missing, 0106 for what is none, C309 its state."""
    needed = _NEEDED | {STATE: "Procedure Step State", START: "Scheduled Procedure Step Start DateTime"}
    for tag, name in needed.items():
        if not text_at(item, tag):
            code = 0x0121 if f"{tag:08X}" in item else 0x0120
            raise WorkitemRefused(code, f"the work item has no {name}", tag)
    if text_at(item, STATE) != SCHEDULED:
        raise WorkitemRefused(0xC309, tag=STATE)
    if text_at(item, TRANSACTION):
        raise WorkitemRefused(0x0106, "a new work item has no Transaction UID", TRANSACTION)
    for tag in (PROGRESS, PERFORMED):
        if items_at(item, tag):
            raise WorkitemRefused(0x0106, "of a new work item nothing is performed yet", tag)
    _check_values(item)


def check_change(state: str, changes: DicomJson, *, is_performer: bool, has_transaction: bool) -> None:
    """Refuse a change: C300 after the end, C301 and C310 for the Transaction UID, 0106 for what is settled."""
    if state in FINAL:
        raise WorkitemRefused(0xC300)
    if state == IN_PROGRESS and not is_performer:
        raise WorkitemRefused(0xC301, "" if has_transaction else "The Transaction UID is missing.", TRANSACTION)
    if state == SCHEDULED and has_transaction:
        raise WorkitemRefused(0xC310, tag=TRANSACTION)
    settled = sorted(tag for tag in _SETTLED if f"{tag:08X}" in changes)
    if settled:
        raise WorkitemRefused(0x0106, f"{settled[0]:08X} does not change so", settled[0])
    _check_values(changes)


def _check_values(item: DicomJson) -> None:
    for tag, allowed in ((READINESS, _READY), (PRIORITY, ("HIGH", "MEDIUM", "LOW"))):
        if f"{tag:08X}" in item and text_at(item, tag) not in allowed:
            raise WorkitemRefused(0x0106, f"{_NEEDED[tag]} is {', '.join(allowed)}", tag)


def check_final(item: DicomJson, state: str) -> None:
    """Refuse to complete an item that does not say yet what was done: C304 (PS3.4 Table CC.2.5-3, final state).

    What a cancelled one needs, when and why, is filled in where it is missing (PS3.4 Section CC.2.5.1.3.2, note).
    """
    if state != COMPLETED:
        return
    performed = items_at(item, PERFORMED)
    if not performed:
        what = "Unified Procedure Step Performed Procedure Sequence"
        raise WorkitemRefused(0xC304, f"the work item has no {what}", PERFORMED)
    for tag, name in _FINAL_ATTRIBUTES.items():
        there = performed[0].get(f"{tag:08X}")
        if there is None or not (there.get("Value") or tag == _OUTPUT):
            raise WorkitemRefused(0xC304, f"the work item has no {name}", tag)
