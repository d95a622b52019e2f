"""What queries ask back, level by level; of instances by their series' modality (IHE Radiology Technical Framework 2).

Data only. A value of None asks for the attribute, a list of one item for attributes in a sequence.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

__all__ = ["BY_LEVEL", "BY_MODALITY", "COMMON", "DOCUMENT", "EVIDENCE", "IMAGE", "KEY_OBJECT", "PRESENTATION", "REPORT"]
__all__ += ["WORKLIST", "instance_keys"]

Keys = dict[str, Any]


def _asked(*keywords: str, **sequences: Keys) -> Keys:
    return dict.fromkeys(keywords) | {keyword: [item] for keyword, item in sequences.items()}


# What says whether an instance can be had at once, and from whom (PS3.4 Section C.4.1.1.3.2).
_WHERE = _asked("InstanceAvailability", "RetrieveAETitle")
_CODE = _asked("CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning")
_INSTANCE = _asked("ReferencedSOPClassUID", "ReferencedSOPInstanceUID")
_PATIENT = _asked("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_STUDY = _asked(
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "StudyID",
    "StudyDescription",
    "ReferringPhysicianName",
    "ModalitiesInStudy",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
)
_SERIES = _asked(
    "SeriesInstanceUID",
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "NumberOfSeriesRelatedInstances",
    RequestAttributesSequence=_asked("RequestedProcedureID", "ScheduledProcedureStepID"),
)

#: Of every instance (RAD-14, Table 4.14-1).
COMMON = _asked("SOPInstanceUID", "SOPClassUID", "InstanceNumber") | _WHERE

#: Images (RAD-14).
IMAGE = _asked(
    "ImageType", "ContentDate", "ContentTime", "NumberOfFrames", "SamplesPerPixel", "Rows", "Columns", "BitsAllocated"
)
#: Presentation states (RAD-15).
PRESENTATION = _asked(
    "ContentLabel",
    "ContentDescription",
    "PresentationCreationDate",
    "PresentationCreationTime",
    "ContentCreatorName",
    ReferencedSeriesSequence=_asked("SeriesInstanceUID", ReferencedImageSequence=_INSTANCE),
)
#: Key object notes (RAD-30).
KEY_OBJECT = _asked(
    "ContentDate",
    "ContentTime",
    "ObservationDateTime",
    ConceptNameCodeSequence=_CODE,
    ReferencedRequestSequence=_asked("StudyInstanceUID", "AccessionNumber", "RequestedProcedureID"),
)
#: Reports (RAD-26).
REPORT = _asked(
    "CompletionFlag",
    "VerificationFlag",
    "ContentDate",
    "ContentTime",
    "ObservationDateTime",
    VerifyingObserverSequence=_asked(
        "VerifyingOrganization",
        "VerificationDateTime",
        "VerifyingObserverName",
        VerifyingObserverIdentificationCodeSequence=_CODE,
    ),
    ReferencedRequestSequence=_asked(
        "StudyInstanceUID", "AccessionNumber", "RequestedProcedureID", RequestedProcedureCodeSequence=_CODE
    ),
    ContentTemplateSequence=_asked("MappingResource", "TemplateIdentifier"),
    ConceptNameCodeSequence=_CODE,
)
#: Evidence documents that are neither images nor reports: segmentations, registrations, fiducials (RAD-44).
EVIDENCE = _asked(
    "ContentLabel",
    "ContentDescription",
    "ContentCreatorName",
    "ContentDate",
    "ContentTime",
    ReferencedSeriesSequence=_asked("SeriesInstanceUID", ReferencedInstanceSequence=_INSTANCE),
)
#: Encapsulated documents (RAD-44).
DOCUMENT = _asked(
    "DocumentTitle",
    "MIMETypeOfEncapsulatedDocument",
    "ContentDate",
    "ContentTime",
    "VerificationFlag",
    ConceptNameCodeSequence=_CODE,
)

#: By Modality (0008,0060); every other modality makes images. Those with nothing have no more than what all have.
BY_MODALITY: MappingProxyType[str, Keys] = MappingProxyType(
    {
        "PR": PRESENTATION,
        "KO": KEY_OBJECT,
        "SR": REPORT,
        "DOC": DOCUMENT,
        "M3D": DOCUMENT,
        **dict.fromkeys(("SEG", "REG", "FID", "RWV", "IOL", "PLAN"), EVIDENCE),
        **dict.fromkeys(("RTPLAN", "RTSTRUCT", "RTRECORD", "AU", "ECG", "EPS", "HD", "RESP", "SMR"), Keys()),
    }
)

#: By Query/Retrieve Level; for instances see `instance_keys`.
BY_LEVEL: MappingProxyType[str, Keys] = MappingProxyType(
    {"PATIENT": _PATIENT, "STUDY": _PATIENT | _STUDY | _WHERE, "SERIES": _SERIES | _WHERE, "IMAGE": COMMON}
)

#: A modality worklist: what a modality needs to begin (PS3.4 Annex K.6.1.2, RAD-5).
WORKLIST = _PATIENT | _asked(
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyInstanceUID",
    "RequestedProcedureID",
    "RequestedProcedureDescription",
    "RequestedProcedurePriority",
    "PatientWeight",
    "MedicalAlerts",
    "Allergies",
    "PregnancyStatus",
    "PatientTransportArrangements",
    RequestedProcedureCodeSequence=_CODE,
    ReferencedStudySequence=_INSTANCE,
    ScheduledProcedureStepSequence=_asked(
        "ScheduledStationAETitle",
        "ScheduledProcedureStepStartDate",
        "ScheduledProcedureStepStartTime",
        "Modality",
        "ScheduledPerformingPhysicianName",
        "ScheduledProcedureStepDescription",
        "ScheduledStationName",
        "ScheduledProcedureStepLocation",
        "ScheduledProcedureStepID",
        "PreMedication",
        ScheduledProtocolCodeSequence=_CODE,
    ),
)


def instance_keys(modality: str = "") -> Keys:
    """What to ask of the instances of a series.

    Args:
        modality: of the series; empty asks for what all have in common, and what images have.
    """
    return COMMON | BY_MODALITY.get(modality.strip().upper(), IMAGE)
