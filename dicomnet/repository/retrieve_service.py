"""C-GET and C-MOVE: instances as they are stored, by unique keys, in both roots (PS3.4 Sections C.4.2 and C.4.3)."""

from __future__ import annotations

from typing import Any

from ..log import log
from ..services.provider_requests import FindRequest, MoveRequest
from ..services.service_registry import Registering
from ..status import Status
from .audited import Recorder
from .blob_source import BlobSource
from .holdings import Holdings

__all__ = ["RetrievalService"]

_EXTENDED = b"\1"  # relational retrieves, which are answered unasked, too (PS3.4 Table C.5-3)
_MODELS = ("STUDY_ROOT", "PATIENT_ROOT")
#: The unique key of each level, from the top.
_KEYS = {"PATIENT": "PatientID", "STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}


class RetrievalService:
    """Gives back what is stored, bit for bit.

    Args:
        holdings: what is stored.
        audit: records what is sent; None: there is no audit trail.
    """

    def __init__(self, holdings: Holdings, audit: Recorder | None = None) -> None:
        self._holdings, self._audit = holdings, audit

    def register(self, services: Registering, owner: str) -> None:
        """Offer C-GET and C-MOVE in both roots. Where a C-MOVE may send is the listener's to know."""
        services.on_get(*_MODELS, owner=owner, extended=_EXTENDED)(self.instances)
        services.on_move(*_MODELS, owner=owner, extended=_EXTENDED)(self.instances)

    def instances(self, request: FindRequest) -> list[BlobSource] | Status:
        """The instances that a request asks for, or why it cannot be answered."""
        level, keys = request.level, request.identifier
        scope = self._holdings.scope_of(request.calling)
        if isinstance(request, MoveRequest) and not scope.may_move_to(request.destination):
            log.warning("%s may not have instances sent to %r", request.calling, request.destination)
            return Status(Status.MOVE_DESTINATION_UNKNOWN)
        if level not in _KEYS:
            return _refused(request, "Query/Retrieve Level is none")
        chosen = {name: _values(keys, keyword) for name, keyword in _KEYS.items()}
        if not chosen[level]:
            return _refused(request, f"no {_KEYS[level]}")
        if any("*" in value or "?" in value for values in chosen.values() for value in values):
            return _refused(request, "a wild card in a unique key")
        if len(chosen["PATIENT"]) > 1:
            return _refused(request, "more than one Patient ID")
        issuer = str(keys.get("IssuerOfPatientID") or "") or None
        found = self._holdings.places.retrieved(
            patient=(chosen["PATIENT"][0], issuer) if chosen["PATIENT"] else None,
            studies=chosen["STUDY"],
            series=chosen["SERIES"],
            instances=chosen["IMAGE"],
            scope=scope,
        )
        log.info("%s retrieves %d instances", request.calling, len(found))
        if self._audit is not None:
            request.ended = self._audit.watch_retrieve(request, self._holdings.places.studies(found))
        return [BlobSource(self._holdings.blobs, place) for place in found]


def _values(keys: Any, keyword: str) -> list[str]:
    """The values of a unique key; a list of UIDs is several."""
    value = keys.get(keyword)
    if value is None:
        return []
    several = [value] if isinstance(value, str) else list(value)
    return [text for one in several if (text := str(one).strip(" \0"))]


def _refused(request: FindRequest, why: str) -> Status:
    log.info("a retrieve by %s is refused: %s", request.calling, why)
    return Status(Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, comment=why)
