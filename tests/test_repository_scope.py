"""What a caller may not see is not found, not given and not told of, at any level and in both databases."""

from __future__ import annotations

import pytest
from index_records import numbered
from sqlalchemy import text

from dicomnet import uids
from dicomnet.repository.catalog import BY_KEYWORD, Level
from dicomnet.repository.index import Index
from dicomnet.repository.keys import Identifier, QueryOptions
from dicomnet.repository.places import Places
from dicomnet.repository.scope import ALL, Scope, scope_of_entry
from dicomnet.server.ae_entry import AEEntry

CT, US_IMAGE = uids.CT_IMAGE_STORAGE, uids.ULTRASOUND_IMAGE_STORAGE
RELATIONAL = QueryOptions(relational=True)
UNIQUE = {"PATIENT": "PatientID", "STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}

US, WARD = Scope(modalities=frozenset({"US", "SR"})), Scope(issuers=frozenset({"WARD"}))
NONE_NAMED, BOTH = Scope(issuers=frozenset({""})), Scope(frozenset({"US"}), frozenset({"WARD"}))
SEEN = [
    (ALL, "PATIENT", {"P1", "P2", "P3"}),
    (US, "PATIENT", {"P1", "P3"}),
    (US, "STUDY", {"1.2.1", "1.2.3"}),
    (US, "SERIES", {"1.2.1.2", "1.2.3.1"}),
    (US, "IMAGE", {"1.2.1.2.1", "1.2.1.2.2", "1.2.3.1.1"}),
    (WARD, "PATIENT", {"P2", "P3"}),
    (WARD, "STUDY", {"1.2.2", "1.2.3"}),
    (WARD, "SERIES", {"1.2.2.1", "1.2.3.1"}),
    (WARD, "IMAGE", {"1.2.2.1.1", "1.2.3.1.1"}),
    (NONE_NAMED, "STUDY", {"1.2.1"}),
    (BOTH, "PATIENT", {"P3"}),
    (BOTH, "IMAGE", {"1.2.3.1.1"}),
]


@pytest.fixture
def index(database):
    index = Index(database)
    index.add(
        [
            numbered(1, 1, 1, Modality="CT"),
            numbered(1, 2, 1, Modality="US", SOPClassUID=US_IMAGE),
            numbered(1, 2, 2, Modality="US", SOPClassUID=US_IMAGE),
            numbered(2, 1, 1, Modality="CT", IssuerOfPatientID="WARD"),
            numbered(3, 1, 1, Modality="US", IssuerOfPatientID="WARD"),
        ]
    )
    return index


@pytest.mark.parametrize(("scope", "level", "seen"), SEEN)
def test_each_level_is_found_as_far_as_it_may_be_seen(index, scope, level, seen):
    for keys in ({}, {"PatientName": "DOE*"}, {"StudyDate": "20260101-20261231", "Modality": "*"}):
        identifier = Identifier.of(keys | {UNIQUE[level]: ""}, level=level, options=RELATIONAL)
        found = index.find(identifier, root=Level.PATIENT, scope=scope)
        assert {one.attributes()[f"{BY_KEYWORD[UNIQUE[level]]:08X}"] for one in found} == seen, keys


def test_what_is_hidden_is_not_given(index):
    studies = ["1.2.1", "1.2.2", "1.2.3"]
    places = Places(index.database)
    for scope, seen in ((ALL, 5), (US, 3), (WARD, 2), (BOTH, 1)):
        assert len(places.retrieved(studies=studies, scope=scope)) == seen
        assert len(list(index.instances(Level.STUDY, studies, scope=scope))) == seen
    assert [one.uid for one in index.instances(Level.STUDY, ["1.2.1"], scope=US)] == ["1.2.1.2.1", "1.2.1.2.2"]
    assert list(index.instances(Level.IMAGE, ["1.2.2.1.1"], scope=US)) == []


def test_no_series_that_is_hidden_is_matched_or_told_of_by_its_study(index):
    """Study 1 has CT, too; study 3 is all US."""
    hidden = [
        {"ModalitiesInStudy": "CT"}, {"ModalitiesInStudy": "C*"}, {"Modality": "CT"}, {"SOPClassesInStudy": CT},
        {"SeriesInstanceUID": "1.2.1.1"}, {"SOPInstanceUID": "1.2.1.1.1"},
    ]  # fmt: skip
    for key in [*hidden, {"ModalitiesInStudy": "US"}, {"SOPClassesInStudy": US_IMAGE}]:
        asked = {"ModalitiesInStudy": "", "SOPClassesInStudy": ""} | key
        for study, limit in (("1.2.1", None), ("", None), ("", 10)):  # the study drives the query, or the key does
            identifier = Identifier.of({"StudyInstanceUID": study} | asked, level="STUDY", options=RELATIONAL)
            assert list(index.find(identifier, limit=limit)), key
            for scope in (US, Scope(frozenset({"US"}), frozenset({""}))):
                found = [one.attributes() for one in index.find(identifier, limit=limit, scope=scope)]
                seen = [(one["00080061"], one["00080062"]) for one in found if one["0020000D"] == "1.2.1"]
                assert seen == ([] if key in hidden else [("US", US_IMAGE)]), key


@pytest.mark.parametrize("level", ["PATIENT", "STUDY", "SERIES", "IMAGE"])
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # PostgreSQL chooses by its statistics
def test_no_scope_drives_a_query(index, level):
    """By its unique key an entity is looked up, and what may be seen of it is looked up from there."""
    key = {"PATIENT": "P1", "STUDY": "1.2.1", "SERIES": "1.2.1.2", "IMAGE": "1.2.1.2.1"}[level]
    identifier = Identifier.of({UNIQUE[level]: key}, level=level, options=RELATIONAL)
    planned, _ = index.planned(identifier, root=Level.PATIENT, scope=BOTH)
    with index.database.read() as connection:
        statement = planned.statement.compile(connection, compile_kwargs={"literal_binds": True})
        steps = [row[3] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {statement}"))]
    assert not [step for step in steps if step.startswith("SCAN") and "CONSTANT" not in step], steps


def test_the_entry_of_an_ae_title_says_what_it_may_see():
    entry = AEEntry(title="VIEWER", modalities=("US",), issuers=("WARD",), move_to=("viewer ",))
    scope = scope_of_entry(entry)
    assert scope == Scope(frozenset({"US"}), frozenset({"WARD"}), frozenset({"VIEWER"}))
    assert (scope.may_move_to("VIEWER"), scope.may_move_to("OTHER"), scope.sees_all) == (True, False, False)
    assert scope_of_entry(None).sees_all
    assert scope_of_entry(AEEntry(title="ANY")).may_move_to("OTHER")
