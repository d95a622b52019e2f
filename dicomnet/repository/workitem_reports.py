"""What subscribers are told of work items (PS3.4 Table CC.2.4-1)."""

from __future__ import annotations

from .dicom_json import DicomJson, items_at, set_text
from .workitem_rules import CANCELED, PROGRESS, READINESS, STATE

__all__ = [
    "ASSIGNED",
    "CANCEL_REQUESTED",
    "PROGRESS_REPORT",
    "SCP_STATUS",
    "STATE_REPORT",
    "assignment",
    "cancelled",
    "progress",
    "restarted",
    "state_report",
]

#: Event types (PS3.4 Table CC.2.4-1).
STATE_REPORT, CANCEL_REQUESTED, PROGRESS_REPORT, SCP_STATUS, ASSIGNED = 1, 2, 3, 4, 5

_CANCELLED_AT, _REASON, _REASON_CODES = 0x00404052, 0x00741238, 0x0074100E
_CONTACT_URI, _CONTACT_NAME, _CONTACTS = 0x0074100A, 0x0074100C, 0x00741008
_PROGRESS = (0x00741004, 0x00741006, _CONTACTS)  # a change of these is told
_STATIONS, _PERFORMERS, _PERFORMER_CODES, _ORGANIZATION = 0x00404025, 0x00404034, 0x00404009, 0x00404036
#: Of an item that was cancelled without a reason (PS3.16 CID 9300).
_NO_REASON: DicomJson = {
    "00080100": {"vr": "SH", "Value": ["110513"]},
    "00080102": {"vr": "SH", "Value": ["DCM"]},
    "00080104": {"vr": "LO", "Value": ["Discontinued for unspecified reason"]},
}


def _name(tag: int) -> str:
    return f"{tag:08X}"


def _chosen(item: DicomJson, *tags: int) -> DicomJson:
    return {_name(tag): item[_name(tag)] for tag in tags if item.get(_name(tag), {}).get("Value")}


def _progress_item(item: DicomJson) -> DicomJson:
    return next(iter(items_at(item, PROGRESS)), {})


def state_report(item: DicomJson, state: str) -> DicomJson:
    """An item's state, and whether its input is ready; of a cancelled one, why."""
    told: DicomJson = {_name(READINESS): item.get(_name(READINESS), {"vr": "CS"})}
    set_text(told, STATE, state)
    return told | _chosen(_progress_item(item), _REASON, _REASON_CODES) if state == CANCELED else told


def progress(item: DicomJson) -> DicomJson:
    """How far an item is; nothing where it does not say."""
    said = _chosen(_progress_item(item), *_PROGRESS)
    return {_name(PROGRESS): item[_name(PROGRESS)]} if said else {}


def assignment(item: DicomJson) -> DicomJson:
    """To which stations and persons an item is assigned; nothing where it is to none."""
    told = _chosen(item, _STATIONS, _PERFORMERS)
    performers = items_at(item, _PERFORMERS)
    codes = [code for one in performers for code in items_at(one, _PERFORMER_CODES)]
    if codes:
        told[_name(_PERFORMER_CODES)] = {"vr": "SQ", "Value": codes}
    return told | next(filter(None, (_chosen(one, _ORGANIZATION) for one in performers)), {})


def cancelled(item: DicomJson, why: DicomJson, now: str) -> DicomJson:
    """An item with what a cancelled one has to say: when, and why (PS3.4 Table CC.2.5-3, final state X).

    Args:
        item: that is cancelled.
        why: what the request to cancel it said.
        now: date and time, as DT.
    """
    said = dict(_progress_item(item)) | _chosen(why, _REASON, _REASON_CODES)
    if contact := _chosen(why, _CONTACT_URI, _CONTACT_NAME):
        said[_name(_CONTACTS)] = {"vr": "SQ", "Value": [contact]}
    said.setdefault(_name(_CANCELLED_AT), {"vr": "DT", "Value": [now]})
    if not items_at(said, _REASON_CODES):
        said[_name(_REASON_CODES)] = {"vr": "SQ", "Value": [_NO_REASON]}
    return item | {_name(PROGRESS): {"vr": "SQ", "Value": [said]}}


def restarted() -> DicomJson:
    """The server has begun again, with the items and the subscriptions that it had."""
    return {
        "00741242": {"vr": "CS", "Value": ["RESTARTED"]},
        "00741244": {"vr": "CS", "Value": ["WARM START"]},
        "00741246": {"vr": "CS", "Value": ["WARM START"]},
    }
