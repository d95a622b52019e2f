"""Dates and times in the asker's time zone (timezone query adjustment, PS3.4 Sections C.4.1.1.3 and C.5.1.1)."""

from __future__ import annotations

import cases
import pytest
from index_records import numbered

from dicomnet import uids
from dicomnet.repository.catalog import Level
from dicomnet.repository.index import Index
from dicomnet.repository.keys import Identifier, InvalidKey, QueryOptions
from dicomnet.repository.zones import moved, with_offset

ADJUSTED = QueryOptions(relational=True, timezone=True)
COMBINED = QueryOptions(relational=True, timezone=True, combined_datetime=True)


@pytest.fixture
def index(database):
    index = Index(database)
    times = {1: ("233000", "+0000"), 2: ("003000", "+0100"), 3: ("233000", ""), 4: ("", "+0000"), 5: ("1800", "-0530")}
    index.add(
        [
            numbered(number, StudyDate="20260131", StudyTime=time, TimezoneOffsetFromUTC=zone or None)
            for number, (time, zone) in times.items()
        ]
    )
    return index


def found(index, zone, options=ADJUSTED, level="STUDY", **keys):
    identifier = Identifier.of(keys | {"StudyInstanceUID": "", "TimezoneOffsetFromUTC": zone}, level=level,
                               options=options)  # fmt: skip
    matches = [one.attributes() for one in index.find(identifier, root=Level.PATIENT)]
    return {one["0020000D"][4:]: one for one in matches}


@cases.every(
    "date, time, minutes, wanted",
    [
        ("20260131", "233000", 60, ("20260201", "003000")),
        ("20260101", "0030", -90, ("20251231", "230000")),
        ("2024.02.28", "23:59:59.25", 1, ("20240229", "000059.25")),
        ("20260131", "235960", 60, ("20260201", "005960")),
        ("20260131", "12", 0, ("20260131", "12")),
        ("20260131", "", 60, ("20260131", "")),
        ("", "2330", 60, ("", "003000")),
        ("garbage", "2330", 60, ("garbage", "003000")),
        ("20260131", "bad", 60, ("20260131", "bad")),
        ("20260231", "2330", 60, ("20260231", "2330")),
        ("99991231", "2330", 60, ("99991231", "2330")),
    ],
)
def test_a_moment_is_moved(date, time, minutes, wanted):
    assert moved(date, time, minutes) == wanted


@cases.every(
    "text, wanted",
    [("202601311015", "202601311015+0100"), ("2026-0500", "2026-0500"), ("2026\\", "2026+0100\\"), ("", "")],
)
def test_a_moment_without_an_offset_gets_its_study_s(text, wanted):
    assert with_offset(text, "+0100") == wanted


class TestQueries:
    @cases.every(
        "zone, keys, wanted",
        [
            # Of study 3 it is not known in which zone it is, study 4 has no time: both are matched as they are.
            ("+0000", {"StudyDate": "20260131"}, "1345"),
            ("+0100", {"StudyDate": "20260131"}, "234"),
            ("+0100", {"StudyDate": "20260201", "StudyTime": "0000-0100"}, "15"),
            ("-1200", {"StudyDate": "20260130-20260131"}, "12345"),
            ("-1200", {"StudyDate": "20260130"}, "2"),
            ("+1400", {"StudyTime": "1330"}, "125"),
            ("+0000", {"StudyTime": "2330"}, "1235"),
            ("", {"StudyDate": "20260131"}, "12345"),
        ],
    )
    def test_keys_are_meant_in_the_asker_s_zone(self, index, zone, keys, wanted):
        assert sorted(found(index, zone, **keys)) == sorted(wanted)

    @cases.every(
        "keys, wanted",
        [
            ({"StudyDate": "20260131-20260201", "StudyTime": "2300-0015"}, "34"),
            ({"StudyDate": "20260201-20260202", "StudyTime": "0020-1200"}, "15"),
        ],
    )
    def test_dates_with_their_times_are_one_moment_there(self, index, keys, wanted):
        assert sorted(found(index, "+0100", COMBINED, **keys)) == sorted(wanted)

    def test_answers_say_in_which_zone_they_are(self, index):
        keys = {"StudyDate": "", "StudyTime": ""}
        told = {
            number: [one[tag] for tag in ("00080020", "00080030", "00080201")]
            for number, one in found(index, "+0100", **keys).items()
        }
        assert told == {
            "1": ["20260201", "003000", "+0100"],
            "2": ["20260131", "003000", "+0100"],
            "3": ["20260131", "233000", ""],
            "4": ["20260131", "", "+0100"],
            "5": ["20260201", "003000", "+0100"],
        }

    def test_levels_below_have_the_zone_of_their_study(self, index):
        report = {"SOPClassUID": uids.BASIC_TEXT_SR_STORAGE, "Rows": None, "ObservationDateTime": "202601312330"}
        moment = {"SeriesDate": "20260131", "SeriesTime": "2330", "TimezoneOffsetFromUTC": "+0000"}
        index.add([numbered(6, **report, **moment)])
        assert list(found(index, "+0100", level="SERIES", SeriesDate="20260201")) == ["6"]
        keys = {"level": "IMAGE", "ObservationDateTime": "20260201"}
        (one,) = found(index, "+0100", **keys).values()
        assert one["0040A032"] == "202601312330+0000"
        assert not found(index, "+0000", **keys)

    def test_birth_dates_are_where_they_were(self, index):
        assert len(found(index, "+1400", PatientBirthDate="19700102")) == 5

    def test_an_offset_that_is_none_is_refused(self):
        with pytest.raises(InvalidKey, match="is no offset from UTC"):
            Identifier.of({"TimezoneOffsetFromUTC": "CET"}, level="STUDY", options=ADJUSTED)

    def test_without_negotiation_the_offset_is_no_key(self, index):
        answers = found(index, "+0100", QueryOptions(relational=True), StudyDate="20260131")
        assert {number: one["00080201"] for number, one in answers.items()} == {
            "1": "+0000", "2": "+0100", "3": "", "4": "+0000", "5": "-0530",
        }  # fmt: skip
