"""Identifiers: the dates, times and ranges of their keys (PS3.4 Section C.2.2.2.5), and what lies under them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path

import pydicom
import pytest
from cases import every
from pydicom.dataset import Dataset

from dicomnet.dataset import codec
from dicomnet.errors import InputFileError, InputProblem, InvalidArgument
from dicomnet.services import query_models

STUDY = query_models.MODELS["STUDY_ROOT"]
DAY, OTHER = date(2026, 1, 2), date(2026, 1, 31)
NOON = datetime(2026, 1, 2, 12, 0, 0, 500, tzinfo=timezone(timedelta(hours=-5)))


@every(
    "keyword, value, written",
    [
        ("StudyDate", DAY, "20260102"),
        ("StudyDate", datetime(2026, 1, 2, 13), "20260102"),
        ("StudyDate", "20260102", "20260102"),
        ("StudyDate", " 2026-01-02 ", "20260102"),
        ("StudyDate", (DAY, OTHER), "20260102-20260131"),
        ("StudyDate", (DAY, None), "20260102-"),
        ("StudyDate", (None, OTHER), "-20260131"),
        ("StudyDate", ("20260102", OTHER), "20260102-20260131"),
        ("StudyDate", (None, None), None),
        ("StudyDate", "20260102-", "20260102-"),
        ("StudyDate", "-20260131", "-20260131"),
        ("StudyDate", "20260102 - 20260131", "20260102-20260131"),
        ("StudyDate", "2026-01-02-2026-01-31", "20260102-20260131"),
        ("StudyDate", "*", None),
        ("StudyDate", "", ""),
        ("StudyDate", None, None),
        ("StudyTime", time(13, 5), "130500"),
        ("StudyTime", time(13, 5, 0, 7), "130500.000007"),
        ("StudyTime", (time(22), time(6)), "220000-060000"),
        ("StudyTime", "13:05", "130500"),
        ("StudyTime", "13", "13"),
        ("StudyTime", "235960.5-", "235960.5-"),
        ("AcquisitionDateTime", NOON, "20260102120000.000500-0500"),
        ("AcquisitionDateTime", datetime(2026, 1, 2, tzinfo=UTC), "20260102000000+0000"),
        ("AcquisitionDateTime", DAY, "20260102"),
        ("AcquisitionDateTime", "2026", "2026"),
        ("AcquisitionDateTime", "2026-0500", "2026-0500"),
        ("AcquisitionDateTime", "2025-2026", "2025-2026"),
        ("AcquisitionDateTime", "2026-0500-2027-0500", "2026-0500-2027-0500"),
        ("AcquisitionDateTime", "2026-01-02T12:00:00Z", "20260102120000+0000"),
        ("PatientName", "DOE-20261399*", "DOE-20261399*"),
        ("PatientID", DAY, "20260102"),
    ],
)
def test_dates_and_times_are_written_as_the_standard_wants_them(keyword, value, written):
    assert query_models.format_temporal(keyword, value) == written


@every(
    "keyword, value, words",
    [
        ("StudyDate", "20261301", "'20261301' is no date, nor a range. Write it like 20260131,"),
        ("StudyDate", "20260230", "is no date"),
        ("StudyDate", "2026-02-30", "is no date"),
        ("StudyDate", "20261301-", "is no date"),
        ("StudyDate", "20260101-20260230", "is no date"),
        ("StudyDate", "2026*", "is no date"),
        ("StudyDate", "yesterday", "is no date"),
        ("StudyDate", "-", "is no date"),
        ("StudyDate", 20260101, "20260101 is no date"),
        ("StudyDate", time(1), "is no date"),
        ("StudyDate", (DAY, DAY, DAY), "is no date"),
        ("StudyDate", (DAY, "20260231"), "'20260231' is no date"),
        ("StudyDate", (OTHER, DAY), "the range 20260131-20260102 ends before it begins"),
        ("StudyDate", "20260131-20260102", "ends before it begins"),
        ("StudyTime", "2400", "is no time"),
        ("StudyTime", "1261", "is no time"),
        ("StudyTime", datetime(2026, 1, 1), "is no time"),
        ("AcquisitionDateTime", "20261301", "is no date with time"),
        ("AcquisitionDateTime", "2026+2500", "is no date with time"),
        ("NoSuchDate", "20260101", "there is no attribute 'NoSuchDate'"),
    ],
)
def test_what_is_no_date_is_said_in_one_line(keyword, value, words):
    with pytest.raises(InvalidArgument) as caught:
        query_models.identifier(STUDY, "STUDY", {keyword: value})
    message = str(caught.value)
    assert words in message
    assert "\n" not in message


def test_dates_in_sequences_are_found():
    worklist = query_models.MODELS["WORKLIST"]
    step = {"ScheduledProcedureStepStartDate": (DAY, None), "Modality": "CT"}
    identifier = query_models.identifier(worklist, "", {"ScheduledProcedureStepSequence": [step]})
    assert identifier.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate == "20260102-"
    with pytest.raises(InvalidArgument, match=r"ScheduledProcedureStepStartDate \(DA\): 'soon' is no date"):
        query_models.identifier(
            worklist, "", {"ScheduledProcedureStepSequence": [{"ScheduledProcedureStepStartDate": "soon"}]}
        )


def test_the_unique_key_of_a_template_stays():
    template = codec.from_keywords({"StudyInstanceUID": "1.2"})
    assert query_models.identifier(STUDY, "STUDY", {}, template=template).StudyInstanceUID == "1.2"
    assert (
        query_models.identifier(STUDY, "STUDY", {"StudyInstanceUID": "1.3"}, template=template).StudyInstanceUID
        == "1.3"
    )


def test_a_template_comes_from_a_part_10_file(tmp_path: Path):
    template = Dataset()
    template.PatientName = "DOE*"
    template.file_meta = pydicom.dataset.FileMetaDataset()
    template.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    path = tmp_path / "template.dcm"
    template.save_as(path, enforce_file_format=False)
    assert codec.read(path, 1000).PatientName == "DOE*"


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
def test_a_template_comes_from_a_file_without_a_header(tmp_path: Path, syntax: str):
    path = tmp_path / "template"
    path.write_bytes(codec.encode({"PatientName": "DOE*", "StudyDate": ""}, syntax))
    read = codec.read(path, 1000)
    assert (read.PatientName, read.StudyDate) == ("DOE*", "")


@pytest.mark.parametrize("content", [b"What is this?", b"\0" * 128 + b"DICM\x02\0\0\0UL\x04\0"])
def test_what_is_no_template_is_said(tmp_path: Path, content: bytes):
    path = tmp_path / "template"
    path.write_bytes(content)
    with pytest.raises(InputFileError, match="no data set") as caught:
        codec.read(path, 1000)
    assert caught.value.problem is InputProblem.NOT_PART10
    with pytest.raises(InputFileError, match="cannot be read") as caught:
        codec.read(tmp_path / "absent", 1000)
    assert caught.value.problem is InputProblem.CANNOT_READ
