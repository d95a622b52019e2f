"""Unified procedure steps by the rules of PS3.4 Annex CC: how they begin, what their performer holds, what is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from .. import uids
from ..dataset.types import Dataset
from ..errors import InvalidArgument, LocalProtocolError
from ..status import Status

__all__ = [
    "ALL",
    "KNOWN_BY",
    "MATCHING",
    "Code",
    "Workitem",
    "WorkitemEvent",
    "WorkitemState",
    "cancelled",
    "performed",
    "scheduled",
]

#: Well-known UIDs: all work items of a peer, and those that match keys (PS3.4 Section CC.2.3.2).
ALL = uids.UPS_GLOBAL_SUBSCRIPTION_INSTANCE
MATCHING = uids.UPS_FILTERED_GLOBAL_SUBSCRIPTION_INSTANCE
#: What a list of work items shows of each.
KNOWN_BY: tuple[str, ...] = (
    "SOPInstanceUID", "ProcedureStepState", "ProcedureStepLabel", "WorklistLabel", "ScheduledProcedureStepPriority",
    "ScheduledProcedureStepStartDateTime", "InputReadinessState", "PatientName", "PatientID",
)  # fmt: skip
#: Code value, coding scheme designator and meaning.
Code = tuple[str, str, str]

# What an N-CREATE must have at all (PS3.4 Table CC.2.5-3, type 2).
_PRESENT = (
    "TransactionUID",
    "WorklistLabel",
    "CommentsOnTheScheduledProcedureStep",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "AdmissionID",
    "AdmittingDiagnosesDescription",
)
_PRESENT_SEQUENCES = (
    "ScheduledProcessingParametersSequence",
    "ScheduledStationNameCodeSequence",
    "ScheduledStationClassCodeSequence",
    "ScheduledStationGeographicLocationCodeSequence",
    "ScheduledWorkitemCodeSequence",
    "InputInformationSequence",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence",
    "IssuerOfAdmissionIDSequence",
    "AdmittingDiagnosesCodeSequence",
    "ReferencedRequestSequence",
    "ProcedureStepProgressInformationSequence",
    "UnifiedProcedureStepPerformedProcedureSequence",
)


class WorkitemState(Enum):
    """Procedure Step State (0074,1000)."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


@dataclass(slots=True)
class Workitem:
    """A work item that we have made, or perform; one of before a restart is made from its UIDs.

    Attributes:
        uid: its SOP Instance UID.
        transaction_uid: the lock of its performer; keep it where a restart finds it. Empty while it has no performer.
        state: as we know it.
        status: of the last answer about it: success, or the warning that it was done with.
    """

    uid: str
    transaction_uid: str = ""
    state: WorkitemState = WorkitemState.SCHEDULED
    status: Status = Status.SUCCESS

    def __post_init__(self) -> None:
        if not uids.is_valid(self.uid) or (self.transaction_uid and not uids.is_valid(self.transaction_uid)):
            raise InvalidArgument("a work item has a UID, and so has its lock")

    def require_ours(self) -> None:
        """Refuse what only its performer may do.

        Raises:
            LocalProtocolError: we have not claimed it, or it has ended.
        """
        if self.state is not WorkitemState.IN_PROGRESS or not self.transaction_uid:
            raise LocalProtocolError(f"the work item {self.uid} is {self.state.value}, and not performed by us")


@dataclass(frozen=True, slots=True)
class WorkitemEvent:
    """What a peer has told of a work item (PS3.4 Table CC.2.4-1).

    Attributes:
        uid: of the item; `ALL` where it is about the peer itself.
        kind: 1 state, 2 a cancel is requested, 3 progress, 4 status of the peer, 5 assigned.
        dataset: what it says.
    """

    uid: str
    kind: int
    dataset: Dataset

    @property
    def state(self) -> WorkitemState | None:
        """The state that it reports; None where it is about something else."""
        value = str(self.dataset.get("ProcedureStepState", ""))
        return next((one for one in WorkitemState if one.value == value), None)


def scheduled(label: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What an item begins with: all that has to be present, and of this moment where it is not said.

    Raises:
        InvalidArgument: there is no label, or a state that no item begins with.
    """
    usual: dict[str, Any] = dict.fromkeys(_PRESENT) | {keyword: [] for keyword in _PRESENT_SEQUENCES}
    usual |= {
        "ProcedureStepState": WorkitemState.SCHEDULED.value,
        "ScheduledProcedureStepPriority": "MEDIUM",
        "InputReadinessState": "READY",
        "ScheduledProcedureStepStartDateTime": datetime.now().replace(microsecond=0),
        "ProcedureStepLabel": label,
    }
    wanted = usual | dict(attributes)
    if not wanted["ProcedureStepLabel"]:
        raise InvalidArgument("a work item needs a label, by which people know it")
    if wanted["ProcedureStepState"] != WorkitemState.SCHEDULED.value:
        raise InvalidArgument("a work item begins SCHEDULED")
    return wanted


def performed(
    station: Code, work: Code, start: Any, end: Any, output: Iterable[Mapping[str, Any]], more: Mapping[str, Any]
) -> dict[str, Any]:
    """What a completed item says of what was done (PS3.4 Table CC.2.5-3, final state P)."""
    item = {
        "PerformedStationNameCodeSequence": [_code(station)],
        "PerformedWorkitemCodeSequence": [_code(work)],
        "PerformedProcedureStepStartDateTime": start,
        "PerformedProcedureStepEndDateTime": end or datetime.now().replace(microsecond=0),
        "OutputInformationSequence": [dict(one) for one in output],
    }
    return {"UnifiedProcedureStepPerformedProcedureSequence": [item | dict(more)]}


def cancelled(reason: str, code: Code | None, contact: str = "", uri: str = "") -> dict[str, Any]:
    """Why an item is cancelled, or is to be."""
    said: dict[str, Any] = {"ReasonForCancellation": reason, "ContactDisplayName": contact, "ContactURI": uri}
    if code is not None:
        said["ProcedureStepDiscontinuationReasonCodeSequence"] = [_code(code)]
    return {keyword: value for keyword, value in said.items() if value}


def _code(code: Code) -> dict[str, str]:
    return dict(zip(("CodeValue", "CodingSchemeDesignator", "CodeMeaning"), code, strict=True))
