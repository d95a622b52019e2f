"""From HL7 v2 orders to worklist items, by the table of IHE Radiology (RAD TF-2, Appendix B)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .hl7_message import Message, Segment

__all__ = ["items_of_orders", "patient_of"]

_STEPS = "ScheduledProcedureStepSequence"
_CANCELLING = frozenset({"CA", "DC", "OC", "OD", "CR", "DR"})  # ORC-1, HL7 Table 0119
_SEXES = {"M": "M", "F": "F", "O": "O", "A": "O", "N": "O"}

Keywords = dict[str, Any]


def patient_of(message: Message) -> Keywords:
    """The patient of PID, by keyword; what is not said is left out."""
    pid = message.first("PID")
    values = {
        "PatientID": pid.get(3),
        "IssuerOfPatientID": pid.get(3, 4),
        "PatientName": _name(pid, 5),
        "PatientBirthDate": pid.get(7)[:8],
        "PatientSex": _SEXES.get(pid.get(8).upper(), ""),
    }
    return {key: value for key, value in values.items() if value}


def items_of_orders(message: Message) -> list[Keywords]:
    """The items of an order message, by keyword: orders of one requested procedure are steps of one item."""
    shared = {**patient_of(message), **_visit(message)}
    study = message.first("ZDS").get(1)
    items: dict[tuple[str, ...], Keywords] = {}
    for segments in _orders(message):
        item, step = _order(segments, study)
        key = tuple(item.get(one, "") for one in ("StudyInstanceUID", "AccessionNumber", "RequestedProcedureID"))
        known = items.setdefault(key, {**shared, **item, _STEPS: []})
        known[_STEPS].append(step)
    return list(items.values())


def _orders(message: Message) -> Iterable[dict[str, Segment]]:
    """The segments of each order by name: an ORC begins one, and so does a second OBR or IPC."""
    order: dict[str, Segment] = {}
    for segment in message.segments:
        if segment.name not in ("ORC", "OBR", "TQ1", "IPC", "ZDS"):
            continue
        if segment.name == "ORC" and order:
            yield order
            order = {}
        elif segment.name in order and segment.name in ("OBR", "IPC"):
            yield order
            order = {name: one for name, one in order.items() if name != segment.name}
        order[segment.name] = segment
    if "OBR" in order or "ORC" in order:
        yield order


def _order(segments: dict[str, Segment], study: str) -> tuple[Keywords, Keywords]:
    """The request and the step of one order."""
    signs = next(iter(segments.values())).separators
    orc, obr, tq1, ipc = (segments.get(one, Segment((one,), signs)) for one in ("ORC", "OBR", "TQ1", "IPC"))
    zds = segments.get("ZDS")
    item = {
        "StudyInstanceUID": ipc.get(3) or (zds.get(1) if zds else "") or study,
        "AccessionNumber": ipc.get(1) or obr.get(18) or orc.get(3) or obr.get(3),
        "RequestedProcedureID": ipc.get(2) or obr.get(19) or orc.get(2) or obr.get(2),
        "RequestedProcedureDescription": obr.get(44, 2) or obr.get(4, 2) or obr.get(4),
        "RequestedProcedurePriority": obr.get(27, 6) or orc.get(7, 6),
        "PlacerOrderNumberImagingServiceRequest": orc.get(2) or obr.get(2),
        "FillerOrderNumberImagingServiceRequest": orc.get(3) or obr.get(3),
        "RequestingPhysician": _person(obr, 16) or _person(orc, 12),
        "ReasonForTheRequestedProcedure": obr.get(31, 2) or obr.get(31),
    }
    code = _code(obr, 44) or _code(obr, 4)
    when = tq1.get(7) or obr.get(36) or obr.get(27, 4) or orc.get(7, 4)
    step = {
        "ScheduledProcedureStepID": ipc.get(4) or obr.get(20),
        "ScheduledProcedureStepDescription": ipc.get(6, 2) or obr.get(4, 5) or obr.get(4, 2),
        "Modality": ipc.get(5) or obr.get(24),
        "ScheduledStationAETitle": ipc.get(9) or obr.get(21),
        "ScheduledStationName": ipc.get(7),
        "ScheduledProcedureStepLocation": ipc.get(8),
        "ScheduledProcedureStepStartDate": when[:8],
        "ScheduledProcedureStepStartTime": when[8:14].rstrip("+-"),
        "ScheduledProcedureStepStatus": "CANCELLED" if orc.get(1) in _CANCELLING else "",
    }
    protocol = _code(ipc, 6)
    sequences = {"RequestedProcedureCodeSequence": code}, {"ScheduledProtocolCodeSequence": protocol}
    return _said(item) | _said(sequences[0]), _said(step) | _said(sequences[1])


def _visit(message: Message) -> Keywords:
    pv1 = message.first("PV1")
    values = {
        "ReferringPhysicianName": _person(pv1, 8),
        "CurrentPatientLocation": pv1.get(3),
        "AdmissionID": pv1.get(19),
        "PatientState": message.first("OBR").get(12),
    }
    return _said(values)


def _said(values: Keywords) -> Keywords:
    return {key: value for key, value in values.items() if value}


def _name(segment: Segment, field: int, first: int = 1) -> str:
    """XPN: HL7 has family, given, middle, suffix, prefix; DICOM has the prefix before the suffix."""
    family, given, middle, suffix, prefix = (segment.get(field, first + place) for place in range(5))
    return f"{family}^{given}^{middle}^{prefix}^{suffix}".rstrip("^")


def _person(segment: Segment, field: int) -> str:
    """XCN: an identifier before the name."""
    return _name(segment, field, 2)


def _code(segment: Segment, field: int) -> list[Keywords]:
    code, meaning, scheme = (segment.get(field, place) for place in (1, 2, 3))
    if not code or not scheme:
        return []
    return [{"CodeValue": code[:16], "CodingSchemeDesignator": scheme[:16], "CodeMeaning": (meaning or code)[:64]}]
