"""The parts of the query client that need no peer: builder, typed results, return keys, options."""

from __future__ import annotations

from datetime import date, time
from pathlib import Path

import pytest
from cases import every
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from dicomnet import uids
from dicomnet.client.criteria import Query
from dicomnet.client.matches import Availability, StudyMatch, WorklistItem, match_class
from dicomnet.client.options import QueryOptions
from dicomnet.client.return_keys import BY_LEVEL, BY_MODALITY, COMMON, IMAGE, WORKLIST, instance_keys
from dicomnet.dataset import codec
from dicomnet.errors import InputFileError, InvalidArgument
from dicomnet.services.scu import Match
from dicomnet.status import Status

FIND = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
MOVE = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE
WORKLIST_FIND = uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND


# ---- the builder -----------------------------------------------------------------------------------------------------


def test_a_query_is_built_step_by_step():
    first = Query("study", PatientName="DOE*")
    query = first.where(StudyDate=(date(2026, 1, 1), None)).returning("ModalitiesInStudy", "PatientName")
    identifier = query.identifier
    assert (identifier.QueryRetrieveLevel, identifier.StudyInstanceUID) == ("STUDY", "")
    assert (identifier.PatientName, identifier.StudyDate) == ("DOE*", "20260101-")
    assert identifier["ModalitiesInStudy"].is_empty
    assert "StudyDate" not in first.identifier


def test_a_query_is_laid_over_a_template_from_memory_or_disk(tmp_path: Path):
    template = codec.from_keywords({"PatientName": "ROE*", "StudyDescription": None})
    (tmp_path / "template").write_bytes(codec.encode(template, uids.EXPLICIT_VR_LITTLE_ENDIAN))
    for given in (template, tmp_path / "template", str(tmp_path / "template")):
        query = Query("STUDY", template=given, PatientID="1")
        assert (query.identifier.PatientName, query.identifier.PatientID) == ("ROE*", "1")
        assert "StudyDescription" in query.identifier
        assert query.where(PatientName="DOE").identifier.PatientName == "DOE"
        assert query.usual().identifier.PatientName == "ROE*"
    assert template.get("PatientID") is None
    assert Query("STUDY").over(template).identifier.PatientName == "ROE*"
    with pytest.raises(InputFileError, match="cannot be read"):
        Query("STUDY", template=tmp_path / "absent")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Query("STUDY", StudyDate="20261301"), "StudyDate (DA): '20261301' is no date"),
        (lambda: Query("STUDY").where(StudyTime="2561"), "StudyTime (TM): '2561' is no time"),
        (lambda: Query("FOLDER"), "has no level 'FOLDER'"),
        (lambda: Query("STUDY", model="NONE"), "no information model 'NONE'"),
        (lambda: Query("STUDY").returning("PatientNam"), "no attribute 'PatientNam'"),
        (lambda: Query.worklist(step={"ScheduledProcedureStepStartDate": "today"}), "'today' is no date"),
    ],
)
def test_what_does_not_fit_is_said_where_it_is_built(build, words):
    with pytest.raises(InvalidArgument) as caught:
        build()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_worklist_asks_for_what_a_modality_needs():
    query = Query.worklist(step={"Modality": "CT", "ScheduledProcedureStepStartDate": date(2026, 1, 1)}, PatientID="1")
    step = query.identifier.ScheduledProcedureStepSequence[0]
    assert (step.Modality, step.ScheduledProcedureStepStartDate) == ("CT", "20260101")
    assert "ScheduledStationAETitle" in step
    assert "QueryRetrieveLevel" not in query.identifier
    assert WORKLIST["ScheduledProcedureStepSequence"][0]["Modality"] is None


def test_the_levels_above_are_those_with_one_value():
    query = Query("IMAGE", StudyInstanceUID="1.2", SeriesInstanceUID="1.3*")
    assert query.above == {"StudyInstanceUID": "1.2"}
    assert Query("SERIES", model="PATIENT_ROOT", PatientID="7", StudyInstanceUID="1.2").above == {
        "PatientID": "7",
        "StudyInstanceUID": "1.2",
    }


# ---- what is asked back ----------------------------------------------------------------------------------------------


def keywords(keys):
    for keyword, value in keys.items():
        yield keyword
        for item in value or ():
            yield from keywords(item)


TABLES = {**BY_MODALITY, "": IMAGE, "worklist": WORKLIST, **BY_LEVEL}


@every("name", TABLES)
def test_every_keyword_of_the_tables_exists(name):
    assert [keyword for keyword in keywords(TABLES[name]) if tag_for_keyword(keyword) is None] == []


@pytest.mark.parametrize(
    ("modality", "expected", "absent"),
    [
        ("CT", {"Rows", "Columns", "BitsAllocated", "NumberOfFrames"}, {"ContentLabel"}),
        ("", {"Rows", "Columns"}, {"CompletionFlag"}),
        ("PR", {"ContentLabel", "PresentationCreationDate", "ReferencedSeriesSequence"}, {"Rows"}),
        ("KO", {"ConceptNameCodeSequence", "ReferencedRequestSequence"}, {"Rows", "CompletionFlag"}),
        (" sr ", {"CompletionFlag", "VerificationFlag", "VerifyingObserverSequence"}, {"Rows"}),
        ("DOC", {"DocumentTitle", "MIMETypeOfEncapsulatedDocument"}, {"Rows"}),
        ("SEG", {"ContentLabel", "ReferencedSeriesSequence"}, {"Rows"}),
        ("RTPLAN", set(), {"Rows", "ContentLabel"}),
    ],
)
def test_instances_are_asked_by_their_modality(modality, expected, absent):
    keys = instance_keys(modality)
    assert expected | set(COMMON) <= keys.keys()
    assert not absent & keys.keys()
    identifier = Query("IMAGE", StudyInstanceUID="1.2", SeriesInstanceUID="1.3").usual(modality).identifier
    assert {element.keyword for element in identifier} >= expected | set(COMMON)


# ---- typed results ---------------------------------------------------------------------------------------------------


def match(**keys):
    data = codec.encode(codec.from_keywords(keys), uids.EXPLICIT_VR_LITTLE_ENDIAN)
    return Match(Status(0xFF00), data, uids.EXPLICIT_VR_LITTLE_ENDIAN)


def test_a_match_says_what_it_is_and_where():
    study = StudyMatch(
        match(
            StudyInstanceUID="1.2",
            InstanceAvailability="NEARLINE",
            RetrieveAETitle=["ARCHIVE", "TAPE"],
            ModalitiesInStudy=["CT", "SR"],
            PatientName="DOE^JANE",
        ),
        {"PatientID": "7"},
    )
    assert (study.uid, study.availability) == ("1.2", Availability.NEARLINE)
    assert study.retrieve_ae_titles == ("ARCHIVE", "TAPE")
    assert study.modalities == ("CT", "SR")
    assert study.keys == {"PatientID": "7", "StudyInstanceUID": "1.2"}
    assert (study.StudyInstanceUID, study.text("PatientName")) == ("1.2", "DOE^JANE")
    assert isinstance(study, Match)


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_a_match_does_not_make_up_what_the_peer_left_out():
    study = StudyMatch(match(StudyInstanceUID="-1", InstanceAvailability="SOON"))
    assert (study.uid, study.availability, study.retrieve_ae_titles, study.modalities) == ("", None, (), ())


def test_each_level_has_its_class():
    levels = ("patient", "STUDY", "SERIES", "IMAGE", "")
    names = ["PatientMatch", "StudyMatch", "SeriesMatch", "InstanceMatch", "WorklistItem"]
    assert [match_class(level).__name__ for level in levels] == names
    series = match_class("SERIES")(match(SeriesInstanceUID="1.3", Modality="CT "), {"StudyInstanceUID": "1.2"})
    assert (series.modality, series.keys) == ("CT", {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"})
    image = match_class("IMAGE")(match(SOPInstanceUID="1.4", SOPClassUID=uids.CT_IMAGE_STORAGE))
    assert (image.uid, image.sop_class_uid) == ("1.4", uids.CT_IMAGE_STORAGE)
    item = WorklistItem(match(ScheduledProcedureStepSequence=[{"Modality": "MR"}]))
    assert item.step.Modality == "MR"
    assert WorklistItem(match(PatientID="1")).step == Dataset()


# ---- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "model", "offered"),
    [
        (QueryOptions(), "STUDY_ROOT", {}),
        (QueryOptions(relational=True), "STUDY_ROOT", {FIND: b"\1", MOVE: b"\1"}),
        (QueryOptions(fuzzy=True), "STUDY_ROOT", {FIND: b"\0\0\1"}),
        (QueryOptions(combined_datetime=True, timezone="+0100"), "STUDY_ROOT", {FIND: b"\0\1\0\1"}),
        (QueryOptions(fuzzy=True), "WORKLIST", {WORKLIST_FIND: b"\1\1\1"}),
        (QueryOptions(timezone="-0500"), "WORKLIST", {WORKLIST_FIND: b"\1\1\0\1"}),
        (QueryOptions(relational=True), "WORKLIST", {}),
    ],
)
def test_what_is_wanted_is_offered_by_sop_class(options, model, offered):
    operations = ("find",) if model == "WORKLIST" else ("find", "move")
    assert options.offer(model, operations) == offered


ALL = QueryOptions(relational=True, combined_datetime=True, fuzzy=True, timezone="+0100")


@pytest.mark.parametrize(
    ("answers", "declined"),
    [
        ({}, ["relational", "combined_datetime", "fuzzy", "timezone"]),
        ({FIND: b""}, ["relational", "combined_datetime", "fuzzy", "timezone"]),
        ({FIND: b"\1"}, ["combined_datetime", "fuzzy", "timezone"]),
        ({FIND: b"\0\1\0\1"}, ["relational", "fuzzy"]),
        ({FIND: b"\1\1\1\1\1\1"}, []),
        ({FIND: b"\2\1\1\1"}, ["relational"]),
    ],
)
def test_options_are_given_up_one_by_one(answers, declined):
    granted = ALL.granted(FIND, answers)
    assert ALL.declined(granted) == declined
    assert bool(granted.timezone) == ("timezone" not in declined)


def test_a_peer_grants_nothing_that_was_not_asked():
    assert QueryOptions(fuzzy=True).granted(FIND, {FIND: b"\1\1\1\1"}) == QueryOptions(fuzzy=True)
    assert ALL.granted(WORKLIST_FIND, {WORKLIST_FIND: b"\1\1\1\0"}) == QueryOptions(fuzzy=True)
    assert ALL.granted(MOVE, {MOVE: b"\1"}) == QueryOptions(relational=True)


def test_a_time_zone_is_an_offset():
    with pytest.raises(InvalidArgument, match="'CET' is no offset"):
        QueryOptions(timezone="CET")


def test_without_relational_queries_the_keys_above_are_needed():
    query = Query("IMAGE", StudyInstanceUID="1.2", SOPClassUID=uids.CT_IMAGE_STORAGE)
    wanted = QueryOptions(relational=True)
    query.fitted(wanted, wanted)
    query.fitted(QueryOptions(), QueryOptions())  # nobody has declined: most peers are not so strict
    with pytest.raises(InvalidArgument, match=r"declined relational queries.* IMAGE has no SeriesInstanceUID"):
        query.fitted(wanted, QueryOptions())
    query.where(SeriesInstanceUID="1.3").fitted(wanted, QueryOptions())


def test_without_combined_matching_the_span_is_kept_here():
    span = {"StudyDate": (date(2026, 1, 1), date(2026, 1, 3)), "StudyTime": (time(10), time(9))}
    query = Query("STUDY", **span)
    wanted = QueryOptions(combined_datetime=True)
    identifier, meant = query.fitted(wanted, wanted)
    assert (identifier.StudyDate, identifier.StudyTime) == ("20260101-20260103", "100000-090000")
    assert meant(codec.from_keywords({"StudyDate": "20250101", "StudyTime": "10"}))
    identifier, meant = query.fitted(wanted, QueryOptions())
    assert (identifier.StudyDate, identifier.StudyTime) == ("20260101-20260103", "")
    inside = [("20260101", "100000"), ("20260101", "1000"), ("20260102", "000000"), ("20260103", "090000"), ("", "")]
    outside = [("20260101", "095959"), ("20260103", "090001"), ("20260103", "1000")]
    for moments, expected in ((inside, True), (outside, False)):
        for day, hour in moments:
            assert meant(codec.from_keywords({"StudyDate": day, "StudyTime": hour})) is expected, (day, hour)
    identifier, meant = Query("STUDY", StudyDate="20260101-", StudyTime="1000-").fitted(wanted, QueryOptions())
    assert not meant(codec.from_keywords({"StudyDate": "20260101", "StudyTime": "0900"}))
    assert meant(codec.from_keywords({"StudyDate": "20300101", "StudyTime": "0900"}))


def test_a_time_zone_goes_out_where_it_was_granted():
    query, wanted = Query("STUDY"), QueryOptions(timezone="+0100")
    assert query.fitted(wanted, wanted)[0].TimezoneOffsetFromUTC == "+0100"
    assert "TimezoneOffsetFromUTC" not in query.fitted(wanted, QueryOptions())[0]
