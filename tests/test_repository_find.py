"""Queries: what is found equals what a naive matcher finds, in both databases, and each key is answered."""

from __future__ import annotations

import dataclasses
import os
import random
import time
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_records import many, numbered, record
from index_tree import Tree, odd_records
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from dicomnet import uids
from dicomnet.dataset import codec
from dicomnet.errors import InvalidArgument
from dicomnet.repository import driving
from dicomnet.repository.catalog import BY_KEYWORD, Level
from dicomnet.repository.database import Database
from dicomnet.repository.finding import stream
from dicomnet.repository.index import Index, Outcome, QueryTooLong
from dicomnet.repository.keys import Identifier, InvalidKey, QueryOptions
from dicomnet.repository.responses import Answers

QUERIES = int(os.environ.get("DICOMNET_QUERIES", "60"))
PARTS, QUERIES_OF_PART = int(os.environ.get("DICOMNET_QUERY_PARTS", "20")), 500
RELATIONAL = QueryOptions(relational=True)


@pytest.fixture
def index(database):
    return Index(database)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def odd_index(request, tmp_path_factory):
    """An index of odd instances, and the same as a tree in memory."""
    if request.param == "sqlite":
        url = tmp_path_factory.mktemp("odd") / "index.db"
    else:
        cluster = request.getfixturevalue("postgresql")
        url = cluster.url(cluster.new_database())
    with Database.opened(url, durable=False) as database:
        index, tree = Index(database), Tree()
        records = odd_records(random.Random(16), 250)
        for one, added in zip(records, index.add(records), strict=True):
            if added.outcome is Outcome.NEW:
                tree.add(one)
        assert len(tree.instances) > 150
        yield index, tree


def found(index, keywords, level="STUDY", options=RELATIONAL, **arguments):
    identifier = Identifier.of(keywords, level=level, options=options)
    root = arguments.pop("root", Level.PATIENT)
    return list(index.find(identifier, root=root, **arguments))


def uids_of(matches, tag=BY_KEYWORD["StudyInstanceUID"]):
    return [one.attributes()[f"{tag:08X}"] for one in matches]


# Pieces of which keys are made: as they are in the odd instances, with what has a meaning to SQL, to GLOB, to DICOM

_PIECES = ["a", "A", "b", "é", "É", "ß", "ss", "%", "_", "[", "]", "'", '"', "/", "^", " ", "1", "12", "山", "田", "や"]
_words = st.lists(st.sampled_from([*_PIECES, "*", "?", "*", ".", "+", "("]), min_size=1, max_size=4).map("".join)
_names = st.lists(
    st.sampled_from([*_PIECES, "abc", "doe", "Doe", "*", "*", "?", "^", "="]), min_size=1, max_size=4
).map("".join)
_dates = st.sampled_from(["20260130", "20260131", "20260201", "20251231", "2026.01.31", "19000101", ""])
_times = st.sampled_from(
    ["10", "1015", "101530", "101530.5", "2200", "235959.999999", "00", "0200", "101530.500000", ""]
)
_range = st.sampled_from(["{}", "{}-", "-{}", "{}-{}"])


def ranges(ends):
    return st.builds(lambda form, one, other: form.format(one, other), _range, ends, ends).filter(
        lambda text: text.strip("-")
    )


_uids = st.lists(st.integers(1, 60), min_size=1, max_size=3)
_keys = {
    "PatientID": _words | st.sampled_from(["p1", "p2", "p3*", "*", ""]),
    "PatientName": _names | st.sampled_from(["doe*", "*doe*", "do*^j*", "=山田*", "==やま*", "*山田太*", "d?e^*"]),
    "PatientBirthDate": ranges(_dates),
    "PatientSex": st.sampled_from(["F", "M", "O", "?", ""]),
    "OtherPatientIDs": _words,
    "OtherPatientNames": _names,
    "StudyInstanceUID": _uids.map(lambda numbers: "\\".join(f"1.2.{n % 25}" for n in numbers)),
    "StudyDate": ranges(_dates),
    "StudyTime": ranges(_times),
    "AccessionNumber": _words,
    "StudyDescription": _words,
    "ReferringPhysicianName": _names,
    "ModalitiesInStudy": st.sampled_from(["CT", "MR", "CT\\SR", "C?", "*R", "XX", "", "CT\\M*"]),
    "SOPClassesInStudy": st.sampled_from([uids.CT_IMAGE_STORAGE, f"1.2\\{uids.MR_IMAGE_STORAGE}", ""]),
    "SeriesInstanceUID": _uids.map(lambda numbers: "\\".join(f"1.2.{n % 25}.{n % 3}" for n in numbers)),
    "Modality": st.sampled_from(["CT", "MR", "C*", "CT\\MR", "", "SR"]),
    "SeriesNumber": st.sampled_from(["1", "01", "2", "99999999999", "1\\2", "1.5", ""]),
    "SeriesDescription": _words,
    "SeriesDate": ranges(_dates),
    "SeriesTime": ranges(_times),
    "SOPClassUID": st.sampled_from([uids.CT_IMAGE_STORAGE, uids.MR_IMAGE_STORAGE, ""]),
    "InstanceNumber": st.sampled_from(["1", "2", "3\\4", ""]),
    "Rows": st.sampled_from(["512", "0512", "16", ""]),
    "ContentDate": ranges(_dates),
    "RequestAttributesSequence": st.fixed_dictionaries(
        {},
        optional={
            "RequestedProcedureID": _words | st.just("r1"),
            "ScheduledProcedureStepID": st.sampled_from(["s1", "s*", ""]),
        },
    ),
    "NumberOfStudyRelatedInstances": st.sampled_from(["", "3"]),
    "00990010": st.just("PRIVATE"),
    "00081195": st.just("unknown"),
}
_options = st.builds(
    QueryOptions,
    relational=st.just(True),
    combined_datetime=st.booleans(),
    timezone=st.booleans(),
    empty_value=st.booleans(),
)
_zones = st.sampled_from(["+0100", "-0530", "+0000", "-1200", "+1400", ""])
_quoted = {keyword: strategy | st.just('""') if "Date" not in keyword and "Time" not in keyword and keyword not in {
    "SeriesNumber", "InstanceNumber", "Rows", "RequestAttributesSequence"} else strategy
    for keyword, strategy in _keys.items()}  # fmt: skip


@st.composite
def queries(draw):
    names = draw(st.lists(st.sampled_from(sorted(_keys)), min_size=1, max_size=4, unique=True))
    options = draw(_options)
    values = {name: draw((_quoted if options.empty_value else _keys)[name]) for name in names}
    if options.timezone:
        values["TimezoneOffsetFromUTC"] = draw(_zones)
    return values, draw(st.sampled_from(Level)), options


class TestTheNaiveMatcher:
    @settings(max_examples=QUERIES, report_multiple_bugs=False)
    @pytest.mark.deadline(60 + QUERIES / 20)
    @given(query=queries())
    def test_finds_the_same(self, odd_index, query):
        self.compare(odd_index, query)

    def compare(self, odd_index, query):
        index, tree = odd_index
        values, level, options = query
        identifier = Identifier.of(values, level=level.name, options=options)
        matches = list(index.find(identifier, root=Level.PATIENT))
        unlimited = sorted((sorted(one.attributes().items(), key=lambda pair: pair[0]) for one in matches), key=repr)
        assert unlimited == sorted(tree.find(identifier, level), key=repr)

    @pytest.mark.long
    @pytest.mark.parametrize("part", range(PARTS))
    @settings(max_examples=QUERIES_OF_PART, report_multiple_bugs=False, database=None)
    @pytest.mark.deadline(280)
    @given(query=queries())
    def test_finds_the_same_many_thousand_times(self, odd_index, part, query):
        self.compare(odd_index, query)

    @settings(max_examples=QUERIES // 5)
    @pytest.mark.deadline(60 + QUERIES / 20)
    @given(query=queries(), size=st.integers(1, 7), early=st.sampled_from([3, 20, 10_000]))
    def test_by_pages_is_the_same(self, odd_index, query, size, early):
        index, _ = odd_index
        values, level, options = query
        identifier = Identifier.of(values, level=level.name, options=options)
        found = {one.cursor for one in index.find(identifier, root=Level.PATIENT)}
        whole = [one.cursor for one in index.find(identifier, root=Level.PATIENT, limit=100_000)]
        pages, after = [], None
        with mock.patch.object(driving, "EARLY", early):
            while page := [one.cursor for one in index.find(identifier, root=Level.PATIENT, limit=size, after=after)]:
                pages += page
                after = page[-1]
        assert pages == whole
        assert sorted(whole) == sorted(found)


class TestPages:
    def test_names_come_by_name_and_date_from_all_groups(self, index):
        names = ("doe^john", "Doe^Anna", "山田=doe^cat", "dodge", "x=doe^b=doe^b", "y==doe^a")
        index.add(
            [
                dataclasses.replace(
                    record(PatientName=name, PatientID=name, StudyInstanceUID=f"1.2.{number}"), uid=f"1.{number}"
                )
                for number, name in enumerate(names)
            ]
        )
        whole = [one.attributes()["00100010"] for one in found(index, {"PatientName": "doe*"}, limit=10)]
        assert whole == ["Doe^Anna", "doe^john", "x=doe^b=doe^b", "y==doe^a", "山田=doe^cat"]

    def test_rows_that_are_not_meant_after_all_leave_no_page_short(self, index):
        names = [f"doe^{n}3" if n % 6 == 0 else f"doe^3{n}x" for n in range(60)]
        index.add([numbered(n, PatientName=name) for n, name in enumerate(names)])
        for size in (1, 5, 60):
            page = found(index, {"PatientName": "doe^*3"}, limit=size)
            assert len(page) == min(size, 10)

    @pytest.mark.parametrize("early", [4, 12, 10_000])
    def test_a_part_of_a_name_that_many_have_fills_a_page_early(self, index, early, monkeypatch):
        """With PostgreSQL it is looked for among the first patients; what these lack is looked for among all."""
        monkeypatch.setattr(driving, "EARLY", early)
        index.add([numbered(n, PatientName="asmithx" if n % 2 else "jones") for n in range(1, 21)])
        identifier = Identifier.of({"PatientName": "*smith*"}, level="STUDY", options=RELATIONAL)
        whole = [one.cursor for one in index.find(identifier, root=Level.PATIENT, limit=100)]
        assert len(whole) == 10
        for size in (1, 2, 3, 9):
            assert [one.cursor for one in index.find(identifier, root=Level.PATIENT, limit=size)] == whole[:size]
        if not index.database.is_sqlite:
            planned, _ = index.planned(identifier, root=Level.PATIENT, limit=3)
            with index.database.read() as connection:
                assert len(connection.execute(planned.early).all()) == min(early // 2, 3)
            large, _ = index.planned(identifier, root=Level.PATIENT, limit=driving.EARLY_PAGE + 1)
            assert large.early is None  # it would be in memory before the first answer

    def test_what_goes_on_after_what_is_gone_is_told(self, index):
        index.add([numbered(1), numbered(2)])
        with pytest.raises(InvalidArgument, match="what the search goes on after is gone"):
            found(index, {"StudyInstanceUID": ""}, after=99)


class TestLevelsAndRoots:
    def test_lower_levels_need_the_unique_keys_above(self, index):
        index.add([numbered(1)])
        strict = QueryOptions()
        with pytest.raises(InvalidKey, match="StudyInstanceUID has to have one value"):
            found(index, {"SeriesInstanceUID": ""}, "SERIES", strict, root=Level.STUDY)
        with pytest.raises(InvalidKey, match="PatientID has to have one value"):
            found(index, {"StudyInstanceUID": "1.2.1"}, "STUDY", strict, root=Level.PATIENT)
        with pytest.raises(InvalidKey, match="one value"):
            found(index, {"StudyInstanceUID": "1.2\\1.3"}, "SERIES", strict, root=Level.STUDY)
        with pytest.raises(InvalidKey, match="is no level of this model"):
            found(index, {"PatientID": ""}, "PATIENT", strict, root=Level.STUDY)
        assert len(found(index, {"StudyInstanceUID": "1.2.1"}, "SERIES", strict, root=Level.STUDY)) == 1

    def test_without_relational_keys_of_lower_levels_are_answered_and_do_not_filter(self, index):
        index.add([numbered(1)])
        identifier = Identifier.of({"StudyInstanceUID": "", "Modality": "MR"}, level="STUDY")
        planned, _ = index.planned(identifier)
        assert planned.unsupported == (BY_KEYWORD["Modality"],)
        (match,) = index.find(identifier)
        assert match.attributes()["00080060"] == ""

    def test_a_level_must_be_named(self, index):
        with pytest.raises(InvalidKey, match="is missing"):
            index.find(Identifier.of({"PatientID": ""}))
        with pytest.raises(InvalidKey, match="no such level: FRAME"):
            Identifier.of({}, level="FRAME")

    def test_relational_by_instances(self, index):
        index.add([numbered(1, 1, 1), numbered(1, 1, 2), numbered(1, 2, 1, Modality="MR"), numbered(2)])
        assert uids_of(found(index, {"StudyInstanceUID": "", "InstanceNumber": "1"})) == ["1.2.1", "1.2.2"]
        assert uids_of(found(index, {"StudyInstanceUID": "", "Modality": "MR"})) == ["1.2.1"]


class TestAnswers:
    def test_computed_keys(self, index):
        index.add([numbered(1, 1, 1), numbered(1, 1, 2), numbered(1, 2, 1, Modality="SR"), numbered(2, PatientID="P1")])
        asked = dict.fromkeys(
            ["NumberOfPatientRelatedStudies", "NumberOfPatientRelatedSeries", "NumberOfPatientRelatedInstances"], ""
        )
        (patient,) = found(index, {"PatientID": "P1"} | asked, "PATIENT")
        assert [patient.attributes()[tag] for tag in ("00201200", "00201202", "00201204")] == ["2", "3", "4"]
        asked = dict.fromkeys(
            ["ModalitiesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "RetrieveAETitle"], ""
        )
        answers = Answers("ARCHIVE\\OTHER", "NEARLINE")
        (study,) = found(index, {"StudyInstanceUID": "1.2.1"} | asked, answers=answers)
        assert study.attributes() == {
            "00080052": "STUDY", "00080054": "ARCHIVE\\OTHER", "00080056": "NEARLINE", "00080061": "CT\\SR",
            "0020000D": "1.2.1", "00201206": "2", "00201208": "3",
        }  # fmt: skip
        (series,) = found(index, {"SeriesInstanceUID": "1.2.1.1", "NumberOfSeriesRelatedInstances": ""}, "SERIES")
        assert series.attributes()["00201209"] == "2"

    @pytest.mark.parametrize(
        "syntax",
        [
            uids.IMPLICIT_VR_LITTLE_ENDIAN,
            uids.EXPLICIT_VR_LITTLE_ENDIAN,
            uids.EXPLICIT_VR_BIG_ENDIAN,
            uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        ],
    )
    @pytest.mark.parametrize("character_set", ["", "ISO_IR 100", "ISO_IR 144"])
    def test_every_key_is_encoded(self, index, syntax, character_set):
        items = [{"RequestedProcedureID": "Ü1", "ScheduledProcedureStepID": "S"}, {"RequestedProcedureID": "R2"}]
        index.add([record(PatientName="Müller^Jörg", RequestAttributesSequence=items, Rows=512)])
        keys = {
            "PatientName": "muller*", "PatientComments": "", "RequestAttributesSequence": {"RequestedProcedureID": ""},
            "StudyDate": "", "Rows": "", "Modality": "", "SOPInstanceUID": "", "00990010": "", "00081195": "",
        }  # fmt: skip
        (match,) = found(index, keys, "IMAGE")
        decoded = codec.decode(match.encode(syntax, character_set), syntax)
        assert decoded.SpecificCharacterSet == ("ISO_IR 100" if character_set == "ISO_IR 100" else "ISO_IR 192")
        assert (decoded.PatientName, decoded.PatientComments, decoded.Modality) == ("Müller^Jörg", "", "CT")
        assert (decoded.Rows, decoded.StudyDate, decoded.QueryRetrieveLevel) == (512, "20260131", "IMAGE")
        assert [[list(item.keys()), item.RequestedProcedureID] for item in decoded.RequestAttributesSequence] == [
            [[0x00401001], "Ü1"], [[0x00401001], "R2"]
        ]  # fmt: skip
        assert (0x0099, 0x0010) in decoded
        assert (0x0008, 0x1195) in decoded

    def test_ascii_answers_name_no_character_set(self, index):
        index.add([record()])
        (match,) = found(index, {"PatientName": "", "StudyDescription": ""})
        decoded = codec.decode(match.encode(uids.EXPLICIT_VR_LITTLE_ENDIAN), uids.EXPLICIT_VR_LITTLE_ENDIAN)
        assert "SpecificCharacterSet" not in decoded

    def test_dicom_json(self, index):
        index.add(
            [record(PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう", SeriesNumber=3, OtherPatientIDs=["a", "b"])]
        )
        keys = ["PatientName", "SeriesNumber", "PatientComments", "OtherPatientIDs", "Rows", "SOPInstanceUID"]
        (match,) = found(index, dict.fromkeys(keys, ""), "IMAGE", answers=Answers("", ""))
        assert match.json() == {
            "00080018": {"vr": "UI", "Value": ["1.2.3.1.1.1"]},
            "00080052": {"vr": "CS", "Value": ["IMAGE"]},
            "00100010": {
                "vr": "PN",
                "Value": [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}],
            },
            "00101000": {"vr": "LO", "Value": ["a", "b"]},
            "00104000": {"vr": "LT"},
            "00200011": {"vr": "IS", "Value": [3]},
            "00280010": {"vr": "US", "Value": [512]},
        }

    def test_an_identifier_over_the_wire(self, index):
        index.add([record(PatientName="Müller^Jörg"), numbered(5)])
        keys = codec.from_keywords({"PatientName": "MÜLLER^J*", "QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ""})
        for syntax in (uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN):
            identifier = Identifier.decode(codec.encode(keys, syntax), syntax)
            assert uids_of(index.find(identifier)) == ["1.2.3"]


class TestResources:
    def test_a_closed_search_gives_its_connection_back(self, index):
        index.add(many(600))
        for _ in range(100):  # more than there are connections
            search = index.find(Identifier.of({"SOPInstanceUID": ""}, level="IMAGE", options=RELATIONAL))
            next(search)
            search.close()

    def test_a_search_has_a_budget(self, index):
        index.add(many(2000))
        with pytest.raises(QueryTooLong, match=r"budget of 1e-05 s\. Give a patient ID"):
            found(index, {"SOPInstanceUID": ""}, "IMAGE", seconds=0.00001)
        assert len(found(index, {"SOPInstanceUID": ""}, "IMAGE", seconds=30)) == 2000

    def test_the_budget_is_the_search_s_own_time(self, index, monkeypatch):
        index.add(many(50))
        search = index.find(Identifier.of({"SOPInstanceUID": ""}, level="IMAGE", options=RELATIONAL), seconds=3600)
        next(search)
        monkeypatch.setattr("dicomnet.repository.finding.time.monotonic", lambda base=time.monotonic: base() + 4000)
        assert len(list(search)) == 49


class TestInstances:
    def test_where_they_are(self, index):
        group = [numbered(1, 2, 1), numbered(1, 1, 2), numbered(1, 1, 1), numbered(2)]
        index.add([one.placed("main", f"k{n}", 100 * n, 10 + n, bytes([n]) * 32) for n, one in enumerate(group)])
        located = list(index.instances(Level.STUDY, ["1.2.1", "1.9"]))
        assert [one.uid for one in located] == ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.2.1"]
        last = located[-1]
        assert (last.storage, last.key, last.offset, last.length, last.sha) == ("main", "k0", 0, 10, bytes(32))
        assert [one.uid for one in index.instances(Level.SERIES, ["1.2.2.1"])] == ["1.2.2.1.1"]
        assert [one.uid for one in index.instances(Level.PATIENT, ["P2"])] == ["1.2.2.1.1"]
        assert [one.uid for one in index.instances(Level.IMAGE, ["1.2.1.1.1", "1"])] == ["1.2.1.1.1"]


class TestStopping:
    """The database itself ends what takes too long, in the midst of one step."""

    ENDLESS = text("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1000000000) "
                   "SELECT count(*) FROM n")  # fmt: skip

    def test_a_statement_that_takes_too_long_is_ended(self, database):
        with pytest.raises(QueryTooLong, match=r"budget of 0\.05 s"):
            list(stream(database, self.ENDLESS, iter, 0.05))
        assert list(stream(database, text("SELECT 1"), iter, 30)) == [(1,)]  # the connection is as it was

    def test_what_fails_otherwise_is_told_as_it_is(self, database):
        broken = "SELECT abs(-9223372036854775808)" if database.is_sqlite else "SELECT 1/0 FROM generate_series(1, 2)"
        with pytest.raises(DBAPIError) as caught:
            list(stream(database, text(broken), iter, 30))
        assert not isinstance(caught.value, QueryTooLong)
        assert list(stream(database, text("SELECT 1"), iter, 30)) == [(1,)]

    def test_none_are_wanted(self, index):
        index.add(many(3))
        assert found(index, {"SOPInstanceUID": ""}, "IMAGE", limit=0) == []
        assert len(found(index, {"SOPInstanceUID": ""}, "IMAGE", limit=2)) == 2


class TestOddAnswers:
    def test_a_number_that_its_element_cannot_hold_is_left_out(self, index):
        index.add([dataclasses.replace(record(), rows=70_000)])
        (match,) = found(index, {"Rows": "", "SOPInstanceUID": ""}, "IMAGE")
        for syntax in (uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN):
            decoded = codec.decode(match.encode(syntax), syntax)
            assert (decoded.get("Rows"), decoded.SOPInstanceUID) == (None, "1.2.3.1.1.1")
