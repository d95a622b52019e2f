"""Hanging protocols, colour palettes and implant templates: stored, queried, retrieved (PS3.4 Annexes U, X, BB, GG)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial

from .. import uids
from ..errors import DicomNetError
from ..files.part10 import meta_header
from ..log import log
from ..repository.catalog import VR_OF
from ..repository.dicom_json import DicomJson, attributes_of_json
from ..repository.intake import Duplicates
from ..repository.keys import Identifier, InvalidKey
from ..repository.nonpatient import CLASSES, Taken
from ..repository.responses import ItemAnswering
from ..services.provider_requests import FindRequest, StoreRequest
from ..services.service_registry import Registering
from ..status import Status
from .dicom_json import json_of_dataset
from .holdings import Holdings

__all__ = ["NonPatientService"]


class NonPatientService:
    """Keeps what belongs to no patient, and gives it back.

    Args:
        holdings: where it is kept.
    """

    def __init__(self, holdings: Holdings) -> None:
        self._objects, self._holdings = holdings.nonpatient, holdings

    def register(self, services: Registering, owner: str) -> None:
        """Offer storage, in the place of that of patients' instances, and C-FIND, C-GET and C-MOVE by their UIDs."""
        stored = [one for classes in CLASSES.values() for one in classes]
        services.on_store(stored, owner=owner, replace=True)(self.store)
        for model, classes in CLASSES.items():
            services.on_find(model, owner=owner)(partial(self.find, classes=classes))
            services.on_get(model, owner=owner)(partial(self.retrieve, classes=classes))
            services.on_move(model, owner=owner)(partial(self.retrieve, classes=classes))

    def store(self, request: StoreRequest) -> Status:
        """C-STORE: an object; it survives a crash once this returns."""
        uid, sop_class = request.sop_instance_uid, request.sop_class_uid
        if not uids.is_valid(uid):
            return Status(Status.INVALID_SOP_INSTANCE, comment="SOP Instance UID is no UID")
        try:
            dataset = request.dataset
            item = _described(json_of_dataset(dataset), uid, sop_class)
        except DicomNetError as error:
            return _refused(request, Status(Status.CANNOT_UNDERSTAND, comment=error.message))
        for tag, asked in ((0x00080018, uid), (0x00080016, sop_class)):
            if tag in dataset and str(dataset[tag].value) != asked:
                comment = "UID of the data set is not that of the request"
                return _refused(request, Status(Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, None, comment, (tag,)))
        header = meta_header(sop_class, uid, request.transfer_syntax_uid, request.calling)
        replace = self._holdings.settings.duplicates is Duplicates.REPLACE
        taken = self._objects.put(uid, sop_class, item, header, request.data, replace=replace)
        log.info("%s stores the %s %s: %s", request.calling, uids.name_of(sop_class), uid, taken.value)
        if taken is Taken.DIFFERENT:
            return _refused(request, Status(Status.CANNOT_UNDERSTAND, comment="another object has this UID"))
        return Status.SUCCESS

    def find(
        self, request: FindRequest, *, classes: Sequence[str]
    ) -> Generator[tuple[Status, bytes], None, Status] | Status:
        """C-FIND: the objects that match, one by one."""
        syntax = request.transfer_syntax_uid
        try:
            identifier = Identifier.decode(request.data, syntax, character_set=self._holdings.settings.character_set)
        except InvalidKey as error:
            return _refused(
                request, Status(Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, None, error.message, (error.tag,))
            )
        unsupported = any(key.criterion is not None and key.tag not in VR_OF for key in identifier.keys)
        pending = Status.PENDING_WARNING if unsupported else Status.PENDING
        return self._found(identifier, classes, ItemAnswering(identifier, syntax), pending)

    def _found(
        self, identifier: Identifier, classes: Sequence[str], answering: ItemAnswering, pending: Status
    ) -> Generator[tuple[Status, bytes], None, Status]:
        for item in self._objects.find(identifier, classes):
            yield pending, answering.encode(attributes_of_json(item))
        return Status.SUCCESS

    def retrieve(self, request: FindRequest, *, classes: Sequence[str]) -> list[bytes] | Status:
        """C-GET and C-MOVE: the objects that are named."""
        named = request.identifier.get("SOPInstanceUID")
        several = [named] if isinstance(named, str) else list(named or ())
        wanted = [text for one in several if (text := str(one).strip(" \0"))]
        if not wanted or any("*" in one or "?" in one for one in wanted):
            return _refused(request, Status(Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, comment="no SOP Instance UID"))
        found = self._objects.streams(wanted, classes)
        log.info("%s retrieves %d objects", request.calling, len(found))
        return found


def _described(item: DicomJson, uid: str, sop_class: str) -> DicomJson:
    """What is matched and answered: all but what is binary."""
    kept = {tag: one for tag, one in item.items() if "InlineBinary" not in one}
    return kept | {"00080016": {"vr": "UI", "Value": [sop_class]}, "00080018": {"vr": "UI", "Value": [uid]}}


def _refused(request: StoreRequest | FindRequest, status: Status) -> Status:
    log.info("a request by %s for what is of no patient is refused: %s", request.calling, status)
    return status
