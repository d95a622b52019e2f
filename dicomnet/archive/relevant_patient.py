"""Relevant patient information: what the archive knows of one patient, as content items (PS3.4 Annex Q, TID 9007)."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import Row, Select, select

from ..dataset import codec
from ..log import log
from ..repository import schema
from ..repository.catalog import Level
from ..repository.scope import Scope
from ..repository.scope_conditions import conditions_of
from ..services.provider_requests import FindRequest
from ..services.service_registry import Registering
from ..status import Status
from .holdings import Holdings

__all__ = ["RelevantPatientService"]

_SERVICE = "Relevant Patient Information Query"
_TEMPLATE, _RESOURCE = "9007", "DCMR"  # General Relevant Patient Information (PS3.16)
_MORE_THAN_ONE, _TEMPLATE_NOT_SUPPORTED = 0xC100, 0xC200
_SEXES = {"M": ("M", "DCM", "Male"), "F": ("F", "DCM", "Female")}  # PS3.16 CID 7455
_P = schema.patient.c

Code = tuple[str, str, str]


class RelevantPatientService:
    """Answers the General Relevant Patient Information Query: age and sex, as the index has them.

    Args:
        holdings: whose patients they are.
    """

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings

    def register(self, services: Registering, owner: str) -> None:
        """Offer the general query."""
        services.on_find("RELEVANT_PATIENT", owner=owner)(self.find)

    def find(self, request: FindRequest) -> list[Any] | Status:
        """The one patient who is asked for, or why there is none to be told of."""
        keys = request.identifier
        pid, issuer = (str(keys.get(one) or "").strip() for one in ("PatientID", "IssuerOfPatientID"))
        if not pid or "*" in pid or "?" in pid:
            why = "Patient ID is one value"
            return _refused(request, Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, why, 0x00100020)
        template = next(iter(keys.get("ContentTemplateSequence") or ()), None)
        wanted = template and (str(template.get("TemplateIdentifier", "")), str(template.get("MappingResource", "")))
        if wanted != (_TEMPLATE, _RESOURCE):
            return _refused(request, _TEMPLATE_NOT_SUPPORTED, f"the template is TID {_TEMPLATE} of DCMR", 0x0040A504)
        found = self._patients(pid, issuer, self._holdings.scope_of(request.calling))
        if len(found) > 1:
            return _refused(request, _MORE_THAN_ONE, "say Issuer of Patient ID", 0x00100021)
        log.info("%s asks for relevant information of a patient: %d found", request.calling, len(found))
        return [codec.from_keywords(_information(one, datetime.now())) for one in found]

    def _patients(self, pid: str, issuer: str, scope: Scope) -> list[Row[Any]]:
        """Those of this ID that may be seen, by who they are now; of two names of one patient there is one."""
        found: dict[int, Row[Any]] = {}
        with self._holdings.database.read() as connection:
            query = select(schema.patient).where(_P.pid == pid, *([_P.issuer == issuer] if issuer else ()))
            for one in connection.execute(query).all():
                now = one
                while now.merged_into is not None:
                    now = connection.execute(select(schema.patient).where(_P.id == now.merged_into)).one()
                if scope.sees_all or connection.execute(_seen(now.id, scope)).first() is not None:
                    found[now.id] = now
        return list(found.values())


def _seen(patient_id: int, scope: Scope) -> Select[Any]:
    return select(_P.id).where(_P.id == patient_id, *conditions_of(scope, Level.PATIENT))


def _refused(request: FindRequest, code: int, why: str, tag: int) -> Status:
    log.info("a query of relevant information by %s is refused: %s", request.calling, why)
    return Status(code, _SERVICE, why, (tag,))


def _information(patient: Row[Any], now: datetime) -> dict[str, Any]:
    """A patient's identifier of a response (PS3.4 Tables Q.4-1 and Q.4-2)."""
    characteristics = []
    if age := _age(patient.birth, now.date()):
        unit = _code(("a", "UCUM", "year"))
        value = {"NumericValue": str(age), "MeasurementUnitsCodeSequence": [unit]}
        characteristics.append(_item("NUM", ("121033", "DCM", "Subject Age"), MeasuredValueSequence=[value]))
    if sex := _SEXES.get(patient.sex):
        characteristics.append(_item("CODE", ("121032", "DCM", "Subject Sex"), ConceptCodeSequence=[_code(sex)]))
    about = _item("CONTAINER", ("121118", "DCM", "Patient Characteristics"), ContinuityOfContent="SEPARATE",
                  ContentSequence=characteristics)  # fmt: skip
    return {
        "PatientName": patient.name,
        "PatientID": patient.pid,
        "IssuerOfPatientID": patient.issuer or None,
        "PatientBirthDate": patient.birth or None,
        "PatientSex": patient.sex or None,
        "ObservationDateTime": now.strftime("%Y%m%d%H%M%S"),
        "ValueType": "CONTAINER",
        "ConceptNameCodeSequence": [_code(("111517", "DCM", "Relevant Patient Information"))],
        "ContentSequence": [about] if characteristics else [],
        "ContentTemplateSequence": [{"MappingResource": _RESOURCE, "TemplateIdentifier": _TEMPLATE}],
        "SpecificCharacterSet": "ISO_IR 192",
    }


def _item(kind: str, concept: Code, **values: Any) -> dict[str, Any]:
    return {"RelationshipType": "CONTAINS", "ValueType": kind, "ConceptNameCodeSequence": [_code(concept)], **values}


def _code(code: Code) -> dict[str, str]:
    return dict(zip(("CodeValue", "CodingSchemeDesignator", "CodeMeaning"), code, strict=True))


def _age(birth: str, today: date) -> int:
    """Whole years; 0 where the birth date is not known, or lies ahead."""
    try:
        born = datetime.strptime(birth, "%Y%m%d").date()
    except ValueError:
        return 0
    return max(today.year - born.year - ((today.month, today.day) < (born.month, born.day)), 0)
