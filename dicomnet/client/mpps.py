"""`MppsScu`, as scripts: performed procedure steps by the rules of PS3.4 Section F.7.2, checked before they go out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any

from .. import uids
from ..dataset import codec
from ..errors import InvalidArgument, LocalProtocolError
from ..services import presentation_contexts, query_models
from . import events
from .matches import WorklistItem
from .procedure import Script, operation
from .service import Service
from .telling import done

__all__ = ["MppsCore", "ProcedureStep", "StepState"]

_MPPS = uids.MODALITY_PERFORMED_PROCEDURE_STEP

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


class MppsCore(Service):
    """Tells a peer what a modality does: a step begins, changes, and is completed or discontinued.

    Args:
        client: the peer; or its address for a client of its own, which takes the other ``options``.
        station: Performed Station AE Title; by default the client's own title.
    """

    def __init__(self, client: Any, *, station: str = "", **options: Any) -> None:
        super().__init__(client, **options)
        self.station = station or self.client.calling

    @operation
    def begin(self, /, item: WorklistItem | None = None, *, uid: str = "", **attributes: Any) -> Script[ProcedureStep]:
        """N-CREATE: a step is in progress. What the standard wants present is there, if need be without a value.

        Args:
            item: of the worklist that it performs; its patient and request are taken over.
            uid: of the step; a new one by default.
            attributes: by keyword; ``Modality`` and Performed Procedure Step ID are needed where no item says them.

        Raises:
            InvalidArgument: an attribute is missing, or has a value that it cannot have; nothing was sent.
            ServiceFailure: the peer refuses.
        """
        step = ProcedureStep(uid or uids.new())
        wanted = _first(item, self.station) | attributes
        missing = [keyword for keyword in _VALUED if not wanted.get(keyword)]
        if missing:
            raise InvalidArgument(f"a procedure step needs {', '.join(missing)}", hint=f"Give {missing[0]}=….")
        if attributes.get("PerformedProcedureStepStatus", "IN PROGRESS") != "IN PROGRESS":
            raise InvalidArgument("a procedure step begins IN PROGRESS")
        yield from self._send("n_create", step, wanted | {"PerformedProcedureStepStatus": "IN PROGRESS"})
        return step

    @operation
    def update(self, step: ProcedureStep, /, **attributes: Any) -> Script[None]:
        """N-SET: something of a step has changed.

        Raises:
            LocalProtocolError: the step has ended; nothing was sent. So with `complete` and `discontinue`.
            InvalidArgument: an attribute that only the beginning of a step may set.
        """
        if "PerformedProcedureStepStatus" in attributes:
            raise InvalidArgument("a step ends by complete or discontinue, not by its status")
        yield from self._set(step, attributes, StepState.IN_PROGRESS)

    @operation
    def complete(
        self, step: ProcedureStep, /, series: Iterable[Mapping[str, Any]] = (), **attributes: Any
    ) -> Script[None]:
        """N-SET: a step is completed, now unless the attributes say when.

        Args:
            step: in progress.
            series: what was made, as items of Performed Series Sequence: ``SeriesInstanceUID``, ``ProtocolName`` and
                what else there is to say. May be left out where an update has said so before.
            attributes: by keyword.
        """
        yield from self._end(step, series, attributes, StepState.COMPLETED)

    @operation
    def discontinue(
        self,
        step: ProcedureStep,
        /,
        series: Iterable[Mapping[str, Any]] = (),
        *,
        reason: tuple[str, str, str] | None = None,
        **attributes: Any,
    ) -> Script[None]:
        """N-SET: a step has ended before its end; see `complete`.

        Args:
            step: in progress.
            series: what was made nevertheless.
            reason: code value, coding scheme designator and meaning (PS3.16 CID 9300), as
                ``("110514", "DCM", "Incorrect worklist entry selected")``.
            attributes: by keyword.
        """
        if reason is not None:
            names = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
            code = dict(zip(names, reason, strict=True))
            attributes = {"PerformedProcedureStepDiscontinuationReasonCodeSequence": [code]} | attributes
        yield from self._end(step, series, attributes, StepState.DISCONTINUED)

    def _end(
        self, step: ProcedureStep, series: Iterable[Mapping[str, Any]], attributes: dict[str, Any], state: StepState
    ) -> Script[None]:
        now = datetime.now()
        ends = {"PerformedProcedureStepEndDate": now.date(), "PerformedProcedureStepEndTime": _clock(now)}
        made = [_whole_series(one) for one in series]
        said = {"PerformedSeriesSequence": made} if made else {}
        yield from self._set(step, ends | said | attributes, state)

    def _set(self, step: ProcedureStep, attributes: dict[str, Any], state: StepState) -> Script[None]:
        if step.state is not StepState.IN_PROGRESS:
            raise LocalProtocolError(
                f"the procedure step is {step.state.value}, and stays as it is", peer=self.peer,
                hint="What is still to be said is said by a step of its own (PS3.4 Section F.7.2.2).",
            )  # fmt: skip
        settled = sorted(_SETTLED & attributes.keys())
        if settled:
            raise InvalidArgument(f"{', '.join(settled)}: only the beginning of a procedure step says that")
        if state is StepState.COMPLETED and not (step.attributes | attributes).get("PerformedSeriesSequence"):
            raise InvalidArgument("a completed procedure step has at least one series", hint="Give series=[{…}].")
        if state is not StepState.IN_PROGRESS:
            attributes = attributes | {"PerformedProcedureStepStatus": state.value}
        yield from self._send("n_set", step, attributes)
        step.state = state

    def _send(self, service: str, step: ProcedureStep, attributes: dict[str, Any]) -> Script[None]:
        dataset = codec.from_keywords({key: query_models.moments(key, value) for key, value in attributes.items()})
        event = events.BeforeAction(
            self.peer, association=None, service=service, sop_class_uid=_MPPS, sop_instance_uid=step.uid,
            arguments=[dataset],
        )  # fmt: skip
        yield from self.hooks.fire(event)
        event.require()
        yield from self.client.using(
            presentation_contexts.procedure_step(),
            lambda association: done(
                self.hooks,
                self.peer,
                events.AfterAction,
                association,
                getattr(association, event.service),
                _MPPS,
                event.sop_instance_uid,
                *event.arguments,
            ),
        )
        step.attributes |= attributes


def _first(item: WorklistItem | None, station: str) -> dict[str, Any]:
    """What a step begins with: of its item, and of this moment; everything that has to be present."""
    now = datetime.now()
    known: dict[str, Any] = dict.fromkeys(_PRESENT) | {keyword: [] for keyword in _PRESENT_SEQUENCES}
    known |= {
        "PerformedStationAETitle": station,
        "PerformedProcedureStepStartDate": now.date(),
        "PerformedProcedureStepStartTime": _clock(now),
    }
    if item is None:
        return known
    scheduled: dict[str, Any] = {"StudyInstanceUID": item.uid} | {keyword: [] for keyword in _SCHEDULED_SEQUENCES}
    for keyword in (*_SCHEDULED, *_SCHEDULED_SEQUENCES):
        value = item.step.get(keyword) or item.dataset.get(keyword)
        scheduled[keyword] = value or scheduled.get(keyword)
    patient = {keyword: item.dataset.get(keyword) or None for keyword in _PRESENT[:4]}
    return known | patient | {
        "ScheduledStepAttributesSequence": [scheduled],
        "Modality": item.step.get("Modality"),
        "PerformedProcedureStepID": item.step.get("ScheduledProcedureStepID"),
        "PerformedProcedureStepDescription": item.step.get("ScheduledProcedureStepDescription"),
        "PerformedProtocolCodeSequence": item.step.get("ScheduledProtocolCodeSequence") or [],
        "ProcedureCodeSequence": item.dataset.get("RequestedProcedureCodeSequence") or [],
    }


def _clock(now: datetime) -> str:
    return f"{now:%H%M%S}"


def _whole_series(series: Mapping[str, Any]) -> dict[str, Any]:
    """A series with all that has to be present."""
    missing = [keyword for keyword in _SERIES_VALUED if not series.get(keyword)]
    if missing:
        raise InvalidArgument(f"a performed series needs {', '.join(missing)}")
    empty: dict[str, Any] = dict.fromkeys(_SERIES_PRESENT) | {keyword: [] for keyword in _SERIES_SEQUENCES}
    return empty | dict(series)
