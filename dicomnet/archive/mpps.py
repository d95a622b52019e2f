"""Modality performed procedure steps: N-CREATE, N-SET and N-GET (PS3.4 Annex F).

A step is a row, with what it says of the worklist and what is to be passed on, before it is answered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from .. import uids
from ..errors import escaped
from ..log import log
from ..repository.dicom_json import DicomJson
from ..repository.performed_steps import PerformedStep, PerformedSteps
from ..services.provider_requests import NormalizedRequest
from ..services.service_registry import Registering
from ..status import Status
from .dicom_json import dataset_of_json, json_of_dataset
from .holdings import Holdings
from .mpps_rules import refusal_of_change, refusal_of_creation
from .step_forwarder import StepForwarder

__all__ = ["CREATION_SECONDS", "ProcedureStepService"]

#: How long a change waits for the beginning of its step, which may be under way: modalities send both at once.
CREATION_SECONDS = 1.0

_STEP = uids.MODALITY_PERFORMED_PROCEDURE_STEP
_RETRIEVE = uids.MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE
_NOT_SUPPORTED = 0x0001  # requested optional attributes are not supported (PS3.4 Table F.8.2-1)


class ProcedureStepService:
    """Is told what modalities do.

    Args:
        holdings: where steps are kept.
        forwarder: passes them on.
        patience: seconds that a change waits for the beginning of its step.
    """

    def __init__(self, holdings: Holdings, forwarder: StepForwarder, *, patience: float = CREATION_SECONDS) -> None:
        self._holdings, self._forwarder, self._patience = holdings, forwarder, patience
        self._steps = PerformedSteps()
        self._created = threading.Condition()
        self._creations = 0

    def register(self, services: Registering, owner: str) -> None:
        """Offer performed procedure steps, and their retrieval."""
        services.on_n_create(_STEP, owner=owner)(self.create)
        services.on_n_set(_STEP, owner=owner)(self.change)
        services.on_n_get(_STEP, _RETRIEVE, owner=owner)(self.get)

    # ---- N-CREATE ----------------------------------------------------------------------------------------------

    def create(self, request: NormalizedRequest) -> Status:
        """A step begins; it survives a crash once this returns."""
        status = self.begin(request.sop_instance_uid, json_of_dataset(request.dataset), request.calling)
        return status if status.is_success else self._refuse(request, status)

    def begin(self, uid: str, item: DicomJson, calling: str) -> Status:
        """A step begins, as any service heard of it; or why it cannot."""
        if not uids.is_valid(uid):
            return Status(Status.INVALID_SOP_INSTANCE, comment="no SOP Instance UID")
        refusal = refusal_of_creation(item)
        if refusal is not None:
            return refusal
        try:
            scheduled = self._holdings.database.transaction(self._beginning(uid, item, calling))
        except IntegrityError:
            return Status(Status.DUPLICATE_SOP_INSTANCE, comment="the step is there")
        with self._created:
            self._creations += 1
            self._created.notify_all()
        self._forwarder.wake()
        log.info("%s begins the step %s of %d scheduled steps", escaped(calling), uid, scheduled)
        return Status.SUCCESS

    def _beginning(self, uid: str, item: DicomJson, calling: str) -> Callable[[Connection], int]:
        def work(connection: Connection) -> int:
            scheduled = self._steps.create(connection, uid, item, calling)
            self._forwarder.enqueue(connection, "n_create", uid, item)
            return scheduled

        return work

    # ---- N-SET -------------------------------------------------------------------------------------------------

    def change(self, request: NormalizedRequest) -> Status:
        """A step changes, or ends."""
        status = self.report(request.sop_instance_uid, json_of_dataset(request.dataset), request.calling)
        return status if status.is_success else self._refuse(request, status)

    def report(self, uid: str, changes: DicomJson, calling: str) -> Status:
        """A step changes, as any service heard of it; or why it cannot."""
        with self._created:
            before = self._creations
        outcome = self._change(uid, changes)
        if outcome is None:
            self._wait_for_a_beginning(before)
            outcome = self._change(uid, changes)
        if outcome is None:
            outcome = Status(Status.NO_SUCH_SOP_INSTANCE, comment="there is no such step")
        if isinstance(outcome, Status):
            return outcome
        self._forwarder.wake()
        log.info("%s reports the step %s: %s", escaped(calling), uid, outcome.status)
        return Status.SUCCESS

    def _wait_for_a_beginning(self, before: int) -> None:
        """Until another step has begun than those of before, or the patience is at an end."""
        with self._created:
            self._created.wait_for(lambda: self._creations != before, self._patience)

    def _change(self, uid: str, changes: DicomJson) -> PerformedStep | Status | None:
        """The step as it is now, why it was refused, or None where there is none."""

        def work(connection: Connection) -> PerformedStep | Status | None:
            step = self._steps.get(connection, uid, lock=True)
            if step is None:
                return None
            refusal = refusal_of_change(step, changes)
            if refusal is not None:
                return refusal
            self._forwarder.enqueue(connection, "n_set", uid, changes)
            return self._steps.change(connection, step, changes)

        return self._holdings.database.transaction(work)

    # ---- N-GET -------------------------------------------------------------------------------------------------

    def get(self, request: NormalizedRequest) -> Status | tuple[Status, Any]:
        """A step as it is known, or the attributes that were asked for."""
        step = self.find(request.sop_instance_uid)
        if step is None:
            return self._refuse(request, Status(Status.NO_SUCH_SOP_INSTANCE, comment="there is no such step"))
        wanted = [f"{tag:08X}" for tag in request.attribute_identifier_list]
        item = {tag: step.item[tag] for tag in wanted if tag in step.item} if wanted else step.item
        status = Status.SUCCESS if len(item) == len(wanted) or not wanted else Status(_NOT_SUPPORTED)
        return status, dataset_of_json(item)

    def find(self, uid: str) -> PerformedStep | None:
        """A step as it is known."""
        with self._holdings.database.read() as connection:
            return self._steps.get(connection, uid)

    def remove(self, uid: str) -> bool:
        """Forget a step; whether there was one. What it said of the worklist stays."""
        return self._holdings.database.transaction(lambda connection: self._steps.remove(connection, uid))

    def _refuse(self, request: NormalizedRequest, status: Status) -> Status:
        who, uid, what = request.calling, escaped(request.sop_instance_uid), request.operation.name
        log.info("%s of the step %s by %s is refused: %s", what, uid, who, status)
        return status
