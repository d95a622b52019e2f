"""The attributes that the index knows: their level, and the column that holds those that are searched most.

An attribute without a column is kept, with its level, among the other attributes of its row (``attrs``). What is not
in this table is in the stored instance alone: as a key of a query it matches everything and comes back empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = ["ATTRIBUTES", "BY_KEYWORD", "COMPUTED", "VR_OF", "Attribute", "Level", "keyword_of", "of_level"]


class Level(IntEnum):
    """The levels of the information models, from the top (PS3.4 Section C.6.1.1)."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    IMAGE = 3


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of the index.

    Attributes:
        tag, vr, keyword: as PS3.6 has them; of several VRs the first.
        level: the entity that it belongs to.
        column: the column of that level's table; empty where it is among the row's other attributes.
        computed: it is told from other rows, not from an element of the instances.
    """

    tag: int
    vr: str
    keyword: str
    level: Level
    column: str = ""
    computed: bool = False


_Row = tuple[int, str, str] | tuple[int, str, str, str]

_PATIENT: tuple[_Row, ...] = (
    (0x00100010, "PN", "PatientName", "name"),
    (0x00100020, "LO", "PatientID", "pid"),
    (0x00100021, "LO", "IssuerOfPatientID", "issuer"),
    (0x00100022, "CS", "TypeOfPatientID"),
    (0x00100024, "SQ", "IssuerOfPatientIDQualifiersSequence"),
    (0x00100030, "DA", "PatientBirthDate", "birth"),
    (0x00100032, "TM", "PatientBirthTime"),
    (0x00100040, "CS", "PatientSex", "sex"),
    (0x00100200, "CS", "QualityControlSubject"),
    (0x00101000, "LO", "OtherPatientIDs"),
    (0x00101001, "PN", "OtherPatientNames"),
    (0x00101002, "SQ", "OtherPatientIDsSequence"),
    (0x00101005, "PN", "PatientBirthName"),
    (0x00101060, "PN", "PatientMotherBirthName"),
    (0x00101080, "LO", "MilitaryRank"),
    (0x00101081, "LO", "BranchOfService"),
    (0x00102150, "LO", "CountryOfResidence"),
    (0x00102160, "SH", "EthnicGroup"),
    (0x00102201, "LO", "PatientSpeciesDescription"),
    (0x00102202, "SQ", "PatientSpeciesCodeSequence"),
    (0x00102292, "LO", "PatientBreedDescription"),
    (0x00102297, "PN", "ResponsiblePerson"),
    (0x00102299, "LO", "ResponsibleOrganization"),
    (0x00104000, "LT", "PatientComments"),
    (0x00120062, "CS", "PatientIdentityRemoved"),
)
_STUDY: tuple[_Row, ...] = (
    (0x00080020, "DA", "StudyDate", "date"),
    (0x00080030, "TM", "StudyTime", "time"),
    (0x00080050, "SH", "AccessionNumber", "acc"),
    (0x00080051, "SQ", "IssuerOfAccessionNumberSequence"),
    (0x00080090, "PN", "ReferringPhysicianName", "refphys"),
    (0x00080096, "SQ", "ReferringPhysicianIdentificationSequence"),
    (0x0008009C, "PN", "ConsultingPhysicianName"),
    (0x00080201, "SH", "TimezoneOffsetFromUTC"),
    (0x00081030, "LO", "StudyDescription", "descr"),
    (0x00081032, "SQ", "ProcedureCodeSequence"),
    (0x00081048, "PN", "PhysiciansOfRecord"),
    (0x00081060, "PN", "NameOfPhysiciansReadingStudy"),
    (0x00081080, "LO", "AdmittingDiagnosesDescription"),
    (0x00081084, "SQ", "AdmittingDiagnosesCodeSequence"),
    (0x00081110, "SQ", "ReferencedStudySequence"),
    (0x00101010, "AS", "PatientAge"),
    (0x00101020, "DS", "PatientSize"),
    (0x00101030, "DS", "PatientWeight"),
    (0x00102000, "LO", "MedicalAlerts"),
    (0x00102110, "LO", "Allergies"),
    (0x00102180, "SH", "Occupation"),
    (0x001021A0, "CS", "SmokingStatus"),
    (0x001021B0, "LT", "AdditionalPatientHistory"),
    (0x0020000D, "UI", "StudyInstanceUID", "uid"),
    (0x00200010, "SH", "StudyID", "study_id"),
    (0x0032000A, "CS", "StudyStatusID"),
    (0x0032000C, "CS", "StudyPriorityID"),
    (0x00321030, "LO", "ReasonForStudy"),
    (0x00321032, "PN", "RequestingPhysician"),
    (0x00321033, "LO", "RequestingService"),
    (0x00321060, "LO", "RequestedProcedureDescription"),
    (0x00321064, "SQ", "RequestedProcedureCodeSequence"),
    (0x00324000, "LT", "StudyComments"),
    (0x00380010, "LO", "AdmissionID"),
    (0x00380014, "SQ", "IssuerOfAdmissionIDSequence"),
    (0x00380060, "LO", "ServiceEpisodeID"),
    (0x00380500, "LO", "PatientState"),
)
_SERIES: tuple[_Row, ...] = (
    (0x00080021, "DA", "SeriesDate"),
    (0x00080031, "TM", "SeriesTime"),
    (0x00080060, "CS", "Modality", "modality"),
    (0x00080068, "CS", "PresentationIntentType"),
    (0x00080070, "LO", "Manufacturer"),
    (0x00080080, "LO", "InstitutionName"),
    (0x00080081, "ST", "InstitutionAddress"),
    (0x00080082, "SQ", "InstitutionCodeSequence"),
    (0x00081010, "SH", "StationName", "station"),
    (0x0008103E, "LO", "SeriesDescription", "descr"),
    (0x0008103F, "SQ", "SeriesDescriptionCodeSequence"),
    (0x00081040, "LO", "InstitutionalDepartmentName"),
    (0x00081050, "PN", "PerformingPhysicianName"),
    (0x00081070, "PN", "OperatorsName"),
    (0x00081090, "LO", "ManufacturerModelName"),
    (0x00081111, "SQ", "ReferencedPerformedProcedureStepSequence"),
    (0x00082218, "SQ", "AnatomicRegionSequence"),
    (0x00120010, "LO", "ClinicalTrialSponsorName"),
    (0x00120020, "LO", "ClinicalTrialProtocolID"),
    (0x00120021, "LO", "ClinicalTrialProtocolName"),
    (0x00120040, "LO", "ClinicalTrialSubjectID"),
    (0x00180010, "LO", "ContrastBolusAgent"),
    (0x00180015, "CS", "BodyPartExamined", "body"),
    (0x00180020, "CS", "ScanningSequence"),
    (0x00180021, "CS", "SequenceVariant"),
    (0x00180022, "CS", "ScanOptions"),
    (0x00180023, "CS", "MRAcquisitionType"),
    (0x00180024, "SH", "SequenceName"),
    (0x00181000, "LO", "DeviceSerialNumber"),
    (0x00181020, "LO", "SoftwareVersions"),
    (0x00181030, "LO", "ProtocolName"),
    (0x00185100, "CS", "PatientPosition"),
    (0x00185101, "CS", "ViewPosition"),
    (0x0020000E, "UI", "SeriesInstanceUID", "uid"),
    (0x00200011, "IS", "SeriesNumber", "number"),
    (0x00200052, "UI", "FrameOfReferenceUID"),
    (0x00200060, "CS", "Laterality"),
    (0x00201040, "LO", "PositionReferenceIndicator"),
    (0x00400244, "DA", "PerformedProcedureStepStartDate"),
    (0x00400245, "TM", "PerformedProcedureStepStartTime"),
    (0x00400250, "DA", "PerformedProcedureStepEndDate"),
    (0x00400251, "TM", "PerformedProcedureStepEndTime"),
    (0x00400253, "SH", "PerformedProcedureStepID"),
    (0x00400254, "LO", "PerformedProcedureStepDescription"),
    (0x00400260, "SQ", "PerformedProtocolCodeSequence"),
    (0x00400275, "SQ", "RequestAttributesSequence"),
)
_IMAGE: tuple[_Row, ...] = (
    (0x00080016, "UI", "SOPClassUID", "cls"),
    (0x00080018, "UI", "SOPInstanceUID", "uid"),
    (0x00080023, "DA", "ContentDate"),
    (0x00080033, "TM", "ContentTime"),
    (0x00081115, "SQ", "ReferencedSeriesSequence"),
    (0x00083002, "UI", "AvailableTransferSyntaxUID", "ts"),
    (0x00200013, "IS", "InstanceNumber", "number"),
    (0x00280008, "IS", "NumberOfFrames", "frames"),
    (0x00280010, "US", "Rows", "rows"),
    (0x00280011, "US", "Columns", "columns"),
    (0x00280100, "US", "BitsAllocated", "bits"),
    (0x0040A032, "DT", "ObservationDateTime"),
    (0x0040A043, "SQ", "ConceptNameCodeSequence"),
    (0x0040A073, "SQ", "VerifyingObserverSequence"),
    (0x0040A370, "SQ", "ReferencedRequestSequence"),
    (0x0040A491, "CS", "CompletionFlag"),
    (0x0040A492, "LO", "CompletionFlagDescription"),
    (0x0040A493, "CS", "VerificationFlag"),
    (0x0040A504, "SQ", "ContentTemplateSequence"),
    (0x00420010, "ST", "DocumentTitle"),
    (0x00420012, "LO", "MIMETypeOfEncapsulatedDocument"),
    (0x00700080, "CS", "ContentLabel"),
    (0x00700081, "LO", "ContentDescription"),
    (0x00700082, "DA", "PresentationCreationDate"),
    (0x00700083, "TM", "PresentationCreationTime"),
    (0x00700084, "PN", "ContentCreatorName"),
)
# Those of no level in particular (availability, the title to retrieve from) are answered at each one.
_COMPUTED = (
    (0x00080054, "AE", "RetrieveAETitle", Level.PATIENT, ""),
    (0x00080056, "CS", "InstanceAvailability", Level.PATIENT, ""),
    (0x00080061, "CS", "ModalitiesInStudy", Level.STUDY, "mods"),
    (0x00080062, "UI", "SOPClassesInStudy", Level.STUDY, "sop_classes"),
    (0x00201200, "IS", "NumberOfPatientRelatedStudies", Level.PATIENT, ""),
    (0x00201202, "IS", "NumberOfPatientRelatedSeries", Level.PATIENT, ""),
    (0x00201204, "IS", "NumberOfPatientRelatedInstances", Level.PATIENT, ""),
    (0x00201206, "IS", "NumberOfStudyRelatedSeries", Level.STUDY, "n_series"),
    (0x00201208, "IS", "NumberOfStudyRelatedInstances", Level.STUDY, "n_inst"),
    (0x00201209, "IS", "NumberOfSeriesRelatedInstances", Level.SERIES, "n_inst"),
)
# What items of sequences are kept with; the rest of an item is in the stored instance alone.
_NESTED = (
    (0x00080005, "CS", "SpecificCharacterSet"),
    (0x00080052, "CS", "QueryRetrieveLevel"),
    (0x00080100, "SH", "CodeValue"),
    (0x00080102, "SH", "CodingSchemeDesignator"),
    (0x00080103, "SH", "CodingSchemeVersion"),
    (0x00080104, "LO", "CodeMeaning"),
    (0x00080105, "CS", "MappingResource"),
    (0x0008010F, "CS", "ContextIdentifier"),
    (0x00080119, "UC", "LongCodeValue"),
    (0x00080120, "UR", "URNCodeValue"),
    (0x00081150, "UI", "ReferencedSOPClassUID"),
    (0x00081155, "UI", "ReferencedSOPInstanceUID"),
    (0x00081199, "SQ", "ReferencedSOPSequence"),
    (0x00082220, "SQ", "AnatomicRegionModifierSequence"),
    (0x00400007, "LO", "ScheduledProcedureStepDescription"),
    (0x00400008, "SQ", "ScheduledProtocolCodeSequence"),
    (0x00400009, "SH", "ScheduledProcedureStepID"),
    (0x00400031, "UT", "LocalNamespaceEntityID"),
    (0x00400032, "UT", "UniversalEntityID"),
    (0x00400033, "CS", "UniversalEntityIDType"),
    (0x00400035, "CS", "IdentifierTypeCode"),
    (0x00400036, "SQ", "AssigningFacilitySequence"),
    (0x00400440, "SQ", "ProtocolContextSequence"),
    (0x00401001, "SH", "RequestedProcedureID"),
    (0x00401002, "LO", "ReasonForTheRequestedProcedure"),
    (0x00401101, "SQ", "PersonIdentificationCodeSequence"),
    (0x00401102, "ST", "PersonAddress"),
    (0x00402016, "LO", "PlacerOrderNumberImagingServiceRequest"),
    (0x00402017, "LO", "FillerOrderNumberImagingServiceRequest"),
    (0x0040A027, "LO", "VerifyingOrganization"),
    (0x0040A030, "DT", "VerificationDateTime"),
    (0x0040A075, "PN", "VerifyingObserverName"),
    (0x0040A088, "SQ", "VerifyingObserverIdentificationCodeSequence"),
    (0x0040DB00, "CS", "TemplateIdentifier"),
)

# Of requests and what is scheduled, as worklists have them (PS3.4 Table K.6-1); the index has no columns for them.
_SCHEDULED = (
    (0x00081120, "SQ", "ReferencedPatientSequence"),
    (0x00081125, "SQ", "ReferencedVisitSequence"),
    (0x00100050, "SQ", "PatientInsurancePlanCodeSequence"),
    (0x00100101, "SQ", "PatientPrimaryLanguageCodeSequence"),
    (0x00101040, "LO", "PatientAddress"),
    (0x00101090, "LO", "MedicalRecordLocator"),
    (0x00102154, "SH", "PatientTelephoneNumbers"),
    (0x001021C0, "US", "PregnancyStatus"),
    (0x001021D0, "DA", "LastMenstrualDate"),
    (0x001021F0, "LO", "PatientReligiousPreference"),
    (0x00102203, "CS", "PatientSexNeutered"),
    (0x00321031, "SQ", "RequestingPhysicianIdentificationSequence"),
    (0x00321034, "SQ", "RequestingServiceCodeSequence"),
    (0x00321070, "LO", "RequestedContrastAgent"),
    (0x00380004, "SQ", "ReferencedPatientAliasSequence"),
    (0x00380008, "CS", "VisitStatusID"),
    (0x00380020, "DA", "AdmittingDate"),
    (0x00380021, "TM", "AdmittingTime"),
    (0x00380050, "LO", "SpecialNeeds"),
    (0x00380300, "LO", "CurrentPatientLocation"),
    (0x00380400, "LO", "PatientInstitutionResidence"),
    (0x00400001, "AE", "ScheduledStationAETitle"),
    (0x00400002, "DA", "ScheduledProcedureStepStartDate"),
    (0x00400003, "TM", "ScheduledProcedureStepStartTime"),
    (0x00400004, "DA", "ScheduledProcedureStepEndDate"),
    (0x00400005, "TM", "ScheduledProcedureStepEndTime"),
    (0x00400006, "PN", "ScheduledPerformingPhysicianName"),
    (0x0040000B, "SQ", "ScheduledPerformingPhysicianIdentificationSequence"),
    (0x00400010, "SH", "ScheduledStationName"),
    (0x00400011, "SH", "ScheduledProcedureStepLocation"),
    (0x00400012, "LO", "PreMedication"),
    (0x00400020, "CS", "ScheduledProcedureStepStatus"),
    (0x00400026, "SQ", "OrderPlacerIdentifierSequence"),
    (0x00400027, "SQ", "OrderFillerIdentifierSequence"),
    (0x00400100, "SQ", "ScheduledProcedureStepSequence"),
    (0x00400400, "LT", "CommentsOnTheScheduledProcedureStep"),
    (0x00401003, "SH", "RequestedProcedurePriority"),
    (0x00401004, "LO", "PatientTransportArrangements"),
    (0x00401005, "LO", "RequestedProcedureLocation"),
    (0x00401008, "LO", "ConfidentialityCode"),
    (0x00401009, "SH", "ReportingPriority"),
    (0x0040100A, "SQ", "ReasonForRequestedProcedureCodeSequence"),
    (0x00401010, "PN", "NamesOfIntendedRecipientsOfResults"),
    (0x00401011, "SQ", "IntendedRecipientsOfResultsIdentificationSequence"),
    (0x00401400, "LT", "RequestedProcedureComments"),
    (0x00402001, "LO", "ReasonForTheImagingServiceRequest"),
    (0x00402004, "DA", "IssueDateOfImagingServiceRequest"),
    (0x00402005, "TM", "IssueTimeOfImagingServiceRequest"),
    (0x00402008, "PN", "OrderEnteredBy"),
    (0x00402009, "SH", "OrderEntererLocation"),
    (0x00402010, "SH", "OrderCallbackPhoneNumber"),
    (0x00402400, "LT", "ImagingServiceRequestComments"),
    (0x00403001, "LO", "ConfidentialityConstraintOnPatientDataDescription"),
)

# Of work items (PS3.4 Table CC.2.5-3), as far as they are matched.
_UNIFIED = (
    (0x00404005, "DT", "ScheduledProcedureStepStartDateTime"),
    (0x00404008, "DT", "ScheduledProcedureStepExpirationDateTime"),
    (0x00404009, "SQ", "HumanPerformerCodeSequence"),
    (0x00404010, "DT", "ScheduledProcedureStepModificationDateTime"),
    (0x00404011, "DT", "ExpectedCompletionDateTime"),
    (0x00404018, "SQ", "ScheduledWorkitemCodeSequence"),
    (0x00404021, "SQ", "InputInformationSequence"),
    (0x00404025, "SQ", "ScheduledStationNameCodeSequence"),
    (0x00404026, "SQ", "ScheduledStationClassCodeSequence"),
    (0x00404027, "SQ", "ScheduledStationGeographicLocationCodeSequence"),
    (0x00404034, "SQ", "ScheduledHumanPerformersSequence"),
    (0x00404037, "PN", "HumanPerformerName"),
    (0x00404041, "CS", "InputReadinessState"),
    (0x0040A370, "SQ", "ReferencedRequestSequence"),
    (0x00741000, "CS", "ProcedureStepState"),
    (0x00741002, "SQ", "ProcedureStepProgressInformationSequence"),
    (0x00741004, "DS", "ProcedureStepProgress"),
    (0x00741200, "CS", "ScheduledProcedureStepPriority"),
    (0x00741202, "LO", "WorklistLabel"),
    (0x00741204, "LO", "ProcedureStepLabel"),
    (0x00741224, "SQ", "ReplacedProcedureStepSequence"),
)

# Of objects that belong to no patient: hanging protocols, colour palettes, implant templates (PS3.4 U, X and BB).
_NONPATIENT = (
    (0x00080006, "SQ", "LanguageCodeSequence"),
    (0x00221095, "LO", "ImplantName"),
    (0x00221097, "LO", "ImplantPartNumber"),
    (0x00686210, "LO", "ImplantSize"),
    (0x00686221, "LO", "ImplantTemplateVersion"),
    (0x00686222, "SQ", "ReplacedImplantTemplateSequence"),
    (0x00686223, "CS", "ImplantType"),
    (0x00686224, "SQ", "DerivationImplantTemplateSequence"),
    (0x00686225, "SQ", "OriginalImplantTemplateSequence"),
    (0x00686226, "DT", "EffectiveDateTime"),
    (0x00686230, "SQ", "ImplantTargetAnatomySequence"),
    (0x006862A0, "SQ", "ImplantRegulatoryDisapprovalCodeSequence"),
    (0x006863A0, "SQ", "MaterialsCodeSequence"),
    (0x006863A4, "SQ", "CoatingMaterialsCodeSequence"),
    (0x00700087, "SQ", "AlternateContentDescriptionSequence"),
    (0x00720002, "SH", "HangingProtocolName"),
    (0x00720004, "LO", "HangingProtocolDescription"),
    (0x00720006, "CS", "HangingProtocolLevel"),
    (0x00720008, "LO", "HangingProtocolCreator"),
    (0x0072000A, "DT", "HangingProtocolCreationDateTime"),
    (0x0072000C, "SQ", "HangingProtocolDefinitionSequence"),
    (0x0072000E, "SQ", "HangingProtocolUserIdentificationCodeSequence"),
    (0x00720010, "LO", "HangingProtocolUserGroupName"),
    (0x00720014, "US", "NumberOfPriorsReferenced"),
    (0x00720100, "US", "NumberOfScreens"),
    (0x00720102, "SQ", "NominalScreenDefinitionSequence"),
    (0x00720104, "US", "NumberOfVerticalPixels"),
    (0x00720106, "US", "NumberOfHorizontalPixels"),
    (0x00720108, "FD", "DisplayEnvironmentSpatialPosition"),
    (0x0072010A, "US", "ScreenMinimumGrayscaleBitDepth"),
    (0x0072010C, "US", "ScreenMinimumColorBitDepth"),
    (0x0072010E, "US", "ApplicationMaximumRepaintTime"),
    (0x00760001, "LO", "ImplantAssemblyTemplateName"),
    (0x00760003, "LO", "ImplantAssemblyTemplateIssuer"),
    (0x00760006, "LO", "ImplantAssemblyTemplateVersion"),
    (0x00760008, "SQ", "ReplacedImplantAssemblyTemplateSequence"),
    (0x0076000A, "CS", "ImplantAssemblyTemplateType"),
    (0x0076000C, "SQ", "OriginalImplantAssemblyTemplateSequence"),
    (0x0076000E, "SQ", "DerivationImplantAssemblyTemplateSequence"),
    (0x00760020, "SQ", "ProcedureTypeCodeSequence"),
    (0x00760030, "LO", "SurgicalTechnique"),
    (0x00780001, "LO", "ImplantTemplateGroupName"),
    (0x00780010, "ST", "ImplantTemplateGroupDescription"),
    (0x00780020, "LO", "ImplantTemplateGroupIssuer"),
    (0x00780024, "LO", "ImplantTemplateGroupVersion"),
    (0x00780026, "SQ", "ReplacedImplantTemplateGroupSequence"),
)

_BY_LEVEL = ((Level.PATIENT, _PATIENT), (Level.STUDY, _STUDY), (Level.SERIES, _SERIES), (Level.IMAGE, _IMAGE))

#: What is told from other rows: counts, what a study holds, and where its instances are.
COMPUTED: dict[int, Attribute] = {
    tag: Attribute(tag, vr, keyword, level, column, computed=True) for tag, vr, keyword, level, column in _COMPUTED
}
#: All attributes of the index by tag, in ascending order.
ATTRIBUTES: dict[int, Attribute] = dict(
    sorted(
        [
            *((row[0], Attribute(*row[:3], level, *row[3:])) for level, rows in _BY_LEVEL for row in rows),
            *COMPUTED.items(),
        ]
    )
)
#: Value representation by tag, for these attributes and for those in the items of their sequences.
VR_OF: dict[int, str] = {tag: vr for tag, vr, _ in _NESTED + _SCHEDULED + _UNIFIED + _NONPATIENT} | {
    tag: one.vr for tag, one in ATTRIBUTES.items()
}
_KEYWORDS = {tag: keyword for tag, _, keyword in _NESTED + _SCHEDULED + _UNIFIED + _NONPATIENT} | {
    tag: one.keyword for tag, one in ATTRIBUTES.items()
}
#: Tag by keyword, for the same attributes.
BY_KEYWORD: dict[str, int] = {keyword: tag for tag, keyword in _KEYWORDS.items()}


def keyword_of(tag: int) -> str:
    """The keyword of an attribute, or its tag where the index does not know it."""
    return _KEYWORDS.get(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def of_level(level: Level) -> tuple[Attribute, ...]:
    """The attributes that the rows of a level hold, in ascending order of tags."""
    return tuple(one for one in ATTRIBUTES.values() if one.level == level and not one.computed)
