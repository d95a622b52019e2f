"""Performed procedure steps by the rules of PS3.4 Section F.7.2: what they begin with, change and end with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any

from .. import uids
from ..dataset.types import Dataset
from ..errors import InvalidArgument, LocalProtocolError
from .matches import WorklistItem

__all__ = ["ProcedureStep", "StepState", "beginning", "change", "ending"]

# What an N-CREATE must have a value for, and what it must have at all (PS3.4 Table F.7.2-1, types 1 and 2).
_VALUED = (
    "PerformedProcedureStepID",
    "PerformedStationAETitle",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "Modality",
    "ScheduledStepAttributesSequence",
)
_PRESENT = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PerformedStationName",
    "PerformedLocation",
    "PerformedProcedureStepDescription",
    "PerformedProcedureTypeDescription",
    "PerformedProcedureStepEndDate",
    "PerformedProcedureStepEndTime",
    "StudyID",
)
_PRESENT_SEQUENCES = (
    "ReferencedPatientSequence",
    "ProcedureCodeSequence",
    "PerformedProtocolCodeSequence",
    "PerformedSeriesSequence",
)
_SCHEDULED = (
    "AccessionNumber",
    "RequestedProcedureID",
    "RequestedProcedureDescription",
    "ScheduledProcedureStepID",
    "ScheduledProcedureStepDescription",
)
_SCHEDULED_SEQUENCES = ("ReferencedStudySequence", "ScheduledProtocolCodeSequence")
# What only an N-CREATE may say.
_SETTLED = frozenset(
    {
        "ScheduledStepAttributesSequence",
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "ReferencedPatientSequence",
        "PerformedProcedureStepID",
        "PerformedStationAETitle",
        "PerformedStationName",
        "PerformedLocation",
        "PerformedProcedureStepStartDate",
        "PerformedProcedureStepStartTime",
        "Modality",
        "StudyID",
    }
)
# What a series must say when the step ends (types 1 and 2 of its final state).
_SERIES_VALUED = ("SeriesInstanceUID", "ProtocolName")
_SERIES_PRESENT = ("PerformingPhysicianName", "OperatorsName", "SeriesDescription", "RetrieveAETitle")
_SERIES_SEQUENCES = ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")


_CODE = ("CodeValue", "CodingSchemeDesignator")
_REFERENCE = ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID")
_IN_PROGRESS = "IN PROGRESS"


class StepState(Enum):
    """Performed Procedure Step Status (0040,0252)."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


class ProcedureStep:
    """A performed procedure step; one that another process has begun is made from its UID.

    Attributes:
        uid: its SOP Instance UID.
        state: as we know it; it never leaves `StepState.COMPLETED` or `StepState.DISCONTINUED`.
        attributes: what was sent so far, by keyword.
    """

    def __init__(self, uid: str, state: StepState = StepState.IN_PROGRESS) -> None:
        if not uids.is_valid(uid):
            raise InvalidArgument(f"{uid!r} is not a UID")
        self.uid = uid
        self.state = state
        self.attributes: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"ProcedureStep({self.uid!r}, {self.state.value})"


def beginning(item: WorklistItem | None, station: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What a step begins with: of its item, of this moment, and ``attributes``; all that has to be present.

    Raises:
        InvalidArgument: an attribute is missing that must have a value (type 1).
    """
    wanted = _first(item, station) | dict(attributes)
    missing = [keyword for keyword in _VALUED if not wanted.get(keyword)]
    if missing:
        raise InvalidArgument(f"a procedure step needs {', '.join(missing)}", hint=f"Give {missing[0]}=….")
    for scheduled in wanted["ScheduledStepAttributesSequence"]:
        if not scheduled.get("StudyInstanceUID"):
            raise InvalidArgument(
                "a procedure step needs the Study Instance UID of what was scheduled, and the worklist item has none",
                hint="Give ScheduledStepAttributesSequence=[{'StudyInstanceUID': …}], with a new UID for the study.",
            )
    if wanted.setdefault("PerformedProcedureStepStatus", _IN_PROGRESS) != _IN_PROGRESS:
        raise InvalidArgument("a procedure step begins IN PROGRESS")
    return wanted


def ending(series: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What the end of a step says: that it is now, and the series that were made.

    Raises:
        InvalidArgument: a series without an attribute that must have a value.
    """
    now = datetime.now()
    ends = {"PerformedProcedureStepEndDate": now.date(), "PerformedProcedureStepEndTime": _clock(now)}
    made = [_whole_series(one) for one in series]
    return ends | ({"PerformedSeriesSequence": made} if made else {})


def change(step: ProcedureStep, attributes: dict[str, Any], state: StepState, peer: str) -> dict[str, Any]:
    """What an N-SET says that changes a step, or brings it into this state.

    Raises:
        LocalProtocolError: the step has ended.
        InvalidArgument: an attribute that only the beginning of a step may set, or one that is missing at its end.
    """
    if step.state is not StepState.IN_PROGRESS:
        raise LocalProtocolError(
            f"the procedure step is {step.state.value}, and stays as it is",
            peer=peer,
            hint="What is still to be said is said by a step of its own (PS3.4 Section F.7.2.2).",
        )
    settled = sorted(_SETTLED & attributes.keys())
    if settled:
        raise InvalidArgument(f"{', '.join(settled)}: only the beginning of a procedure step says that")
    if state is StepState.COMPLETED and not (step.attributes | attributes).get("PerformedSeriesSequence"):
        raise InvalidArgument("a completed procedure step has at least one series", hint="Give series=[{…}].")
    return attributes if state is StepState.IN_PROGRESS else attributes | {"PerformedProcedureStepStatus": state.value}


def _first(item: WorklistItem | None, station: str) -> dict[str, Any]:
    """What a step begins with by itself; everything that has to be present."""
    now = datetime.now()
    known: dict[str, Any] = dict.fromkeys(_PRESENT) | {keyword: [] for keyword in _PRESENT_SEQUENCES}
    known |= {
        "PerformedStationAETitle": station,
        "PerformedProcedureStepStartDate": now.date(),
        "PerformedProcedureStepStartTime": _clock(now),
    }
    if item is None:
        return known
    scheduled: dict[str, Any] = {"StudyInstanceUID": item.uid}
    for keyword in _SCHEDULED:
        scheduled[keyword] = item.step.get(keyword) or item.dataset.get(keyword) or None
    for keyword in _SCHEDULED_SEQUENCES:
        scheduled[keyword] = _items(item.step, keyword) or _items(item.dataset, keyword)
    patient = {keyword: item.dataset.get(keyword) or None for keyword in _PRESENT[:4]}
    return (
        known
        | patient
        | {
            "ScheduledStepAttributesSequence": [scheduled],
            "Modality": item.step.get("Modality"),
            "PerformedProcedureStepID": item.step.get("ScheduledProcedureStepID"),
            "PerformedProcedureStepDescription": item.step.get("ScheduledProcedureStepDescription"),
            "PerformedProtocolCodeSequence": _items(item.step, "ScheduledProtocolCodeSequence"),
            "ProcedureCodeSequence": _items(item.dataset, "RequestedProcedureCodeSequence"),
        }
    )


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence that say something: worklists come with empty codes and references.

    What is left of a sequence of type 2 may be nothing; in an item the code, or the referenced UIDs, are of type 1.
    """
    needed = _REFERENCE if keyword == "ReferencedStudySequence" else _CODE
    return [item for item in dataset.get(keyword) or () if all(item.get(one) for one in needed)]


def _clock(now: datetime) -> str:
    return f"{now:%H%M%S}"


def _whole_series(series: Mapping[str, Any]) -> dict[str, Any]:
    """A series with all that has to be present."""
    missing = [keyword for keyword in _SERIES_VALUED if not series.get(keyword)]
    if missing:
        raise InvalidArgument(f"a performed series needs {', '.join(missing)}")
    empty: dict[str, Any] = dict.fromkeys(_SERIES_PRESENT) | {keyword: [] for keyword in _SERIES_SEQUENCES}
    return empty | dict(series)
