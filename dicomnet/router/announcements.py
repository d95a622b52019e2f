"""What modalities say of their instances: performed procedure steps, and instance availability notifications.

They are believed, answered, and passed on where a rule says so. PS3.4 Annexes F and R.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from .. import uids
from ..services.provider_requests import NormalizedRequest
from ..services.service_registry import Registering
from ..status import Status
from .completeness import Completeness
from .facts import AVAILABILITY

__all__ = ["Announcements"]

_MPPS = uids.MODALITY_PERFORMED_PROCEDURE_STEP
_MOST_STEPS = 10_000


class Announcements:
    """Takes them, and tells which instances there are.

    Args:
        units: who is told.
        rules: has done what rules say of a message; whether that worked.
    """

    def __init__(self, units: Completeness, rules: Callable[[NormalizedRequest], bool]) -> None:
        self._units, self._rules = units, rules
        self._studies: OrderedDict[str, str] = OrderedDict()  # by the UID of a step

    def register(self, services: Registering, owner: str) -> None:
        """Offer both services."""
        services.on_n_create(_MPPS, owner=owner)(self._begin)
        services.on_n_set(_MPPS, owner=owner)(self._end)
        services.on_n_create(AVAILABILITY, owner=owner)(self._available)

    def _begin(self, request: NormalizedRequest) -> Status:
        if not self._rules(request):
            return Status(Status.PROCESSING_FAILURE)
        items = request.dataset.get("ScheduledStepAttributesSequence") or ()
        study = next((str(item.get("StudyInstanceUID", "")) for item in items), "")
        self._studies[request.sop_instance_uid] = study
        while len(self._studies) > _MOST_STEPS:
            self._studies.popitem(last=False)
        return Status.SUCCESS

    def _end(self, request: NormalizedRequest) -> Status:
        if not self._rules(request):
            return Status(Status.PROCESSING_FAILURE)
        step = request.sop_instance_uid
        if request.dataset.get("PerformedProcedureStepStatus") != "COMPLETED":
            return Status.SUCCESS
        instances = list(_references(request.dataset.get("PerformedSeriesSequence") or ()))
        if instances:
            self._units.announced(step, self._studies.get(step, ""), instances)
        return Status.SUCCESS

    def _available(self, request: NormalizedRequest) -> Status:
        if not self._rules(request):
            return Status(Status.PROCESSING_FAILURE)
        study = str(request.dataset.get("StudyInstanceUID", ""))
        series = request.dataset.get("ReferencedSeriesSequence") or ()
        self._units.announced(request.sop_instance_uid, study, _references(series))
        return Status.SUCCESS


def _references(series: Any) -> Iterator[tuple[str, str]]:
    for one in series:
        for keyword in ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence",
                        "ReferencedSOPSequence"):  # fmt: skip
            for item in one.get(keyword) or ():
                yield str(one.get("SeriesInstanceUID", "")), str(item.get("ReferencedSOPInstanceUID", ""))
