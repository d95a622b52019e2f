"""Patients corrected, given another ID, merged and taken apart; what is found, and what arrives later."""

from __future__ import annotations

import pytest
import sqlalchemy
from index_records import numbered

from dicomnet.errors import InvalidArgument
from dicomnet.repository import identity, schema
from dicomnet.repository.catalog import Level
from dicomnet.repository.identity import UnknownPatient
from dicomnet.repository.index import Index, Outcome, PatientId
from dicomnet.repository.keys import Identifier, QueryOptions


@pytest.fixture
def index(database):
    index = Index(database)
    index.add([numbered(1, PatientID="A"), numbered(2, PatientID="A"), numbered(3, PatientID="B")])
    return index


def call(index, function, *arguments):
    return index.database.transaction(lambda connection: function(connection, *arguments))


def studies(index, **keywords):
    keys = {"StudyInstanceUID": "", "PatientID": "", "PatientName": ""} | keywords
    identifier = Identifier.of(keys, level="STUDY", options=QueryOptions(relational=True))
    found = (one.attributes() for one in index.find(identifier, root=Level.PATIENT))
    return sorted((one["0020000D"], one["00100020"], one["00100010"]) for one in found)


def patients(index):
    found = index.find(
        Identifier.of({"PatientID": "", "NumberOfPatientRelatedStudies": ""}, level="PATIENT"), root=Level.PATIENT
    )
    return sorted((one.attributes()["00100020"], one.attributes()["00201200"]) for one in found)


def changes(index):
    with index.database.read() as connection:
        rows = connection.execute(sqlalchemy.select(schema.change).order_by(schema.change.c.seq)).all()
    return [(row.kind, row.uid) for row in rows]


def test_a_corrected_name_is_found_and_the_old_one_is_not(index):
    before = len(changes(index))
    call(index, identity.correct, PatientId("A"), {"PatientName": "Müller^Anna", "PatientBirthDate": "1980.05.06"})
    assert studies(index, PatientName="muller*") == [("1.2.1", "A", "Müller^Anna"), ("1.2.2", "A", "Müller^Anna")]
    assert len(studies(index, PatientName="*ller^an*", PatientBirthDate="19800506")) == 2
    assert studies(index, PatientName="doe*", PatientID="A") == []
    assert changes(index)[before:] == [("updated", "1.2.1"), ("updated", "1.2.2")]


def test_another_id(index):
    call(index, identity.change_id, PatientId("A"), PatientId("C", "HOSPITAL"))
    assert [one[:2] for one in studies(index, PatientID="C")] == [("1.2.1", "C"), ("1.2.2", "C")]
    assert studies(index, PatientID="A") == []
    # What arrives under the old ID is the same patient's, also in a study that is there.
    assert [one.outcome for one in index.add([numbered(1, 2, PatientID="A"), numbered(4, PatientID="A")])] == [
        Outcome.NEW, Outcome.NEW
    ]  # fmt: skip
    assert patients(index) == [("B", "1"), ("C", "3")]


def test_merge_and_unmerge(index):
    assert call(index, identity.merge, PatientId("A"), PatientId("B")) == 2
    assert patients(index) == [("B", "3")]
    assert [one[1] for one in studies(index)] == ["B", "B", "B"]
    index.add([numbered(4, PatientID="A"), numbered(5, PatientID="B")])
    assert patients(index) == [("B", "5")]
    assert call(index, identity.unmerge, PatientId("A")) == 3
    assert patients(index) == [("A", "3"), ("B", "2")]
    assert [one[0] for one in studies(index, PatientID="A")] == ["1.2.1", "1.2.2", "1.2.4"]


def test_merges_of_merges(index):
    index.add([numbered(4, PatientID="C")])
    call(index, identity.merge, PatientId("A"), PatientId("B"))
    call(index, identity.merge, PatientId("B"), PatientId("C"))
    assert patients(index) == [("C", "4")]
    assert call(index, identity.unmerge, PatientId("B")) == 3
    assert patients(index) == [("B", "3"), ("C", "1")]
    assert call(index, identity.unmerge, PatientId("A")) == 2
    assert patients(index) == [("A", "2"), ("B", "1"), ("C", "1")]


def test_a_merge_into_an_id_that_is_new(index):
    assert call(index, identity.merge, PatientId("A"), PatientId("N", "X")) == 2
    assert studies(index, PatientID="N")[0][2] == "Doe^Jane"


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (identity.merge, (PatientId("Q"), PatientId("A")), "no patient of this ID"),
        (identity.merge, (PatientId("A"), PatientId("A")), "one patient already"),
        (identity.unmerge, (PatientId("A"),), "merged into no other"),
        (identity.unmerge, (PatientId("Q"),), "no patient of this ID"),
        (identity.change_id, (PatientId("A"), PatientId("B")), "another patient has this ID"),
        (identity.change_id, (PatientId("A"), PatientId("")), "empty ID"),
        (identity.correct, (PatientId("Q"), {"PatientSex": "F"}), "no patient of this ID"),
        (identity.correct, (PatientId("A"), {"PatientAge": "1"}), "PatientAge cannot be corrected"),
        (identity.correct, (PatientId("A"), {"PatientBirthDate": "soon"}), "no date"),
    ],
)
def test_what_cannot_be(index, function, arguments, message):
    before = patients(index), changes(index)
    with pytest.raises(InvalidArgument, match=message):
        call(index, function, *arguments)
    assert (patients(index), changes(index)) == before
    assert issubclass(UnknownPatient, InvalidArgument)


def test_what_arrives_for_a_merged_patient_is_held_to_what_came_under_that_id(index):
    other = {"PatientName": "Roe^Mary", "PatientBirthDate": "19551231", "PatientSex": "F"}
    index.add([numbered(7, PatientID="M", **other)])
    call(index, identity.merge, PatientId("M"), PatientId("A"))
    added = index.add([numbered(7, 2, PatientID="M", **other), numbered(8, PatientID="M", **other)])
    assert [one.outcome for one in added] == [Outcome.NEW, Outcome.NEW]
    assert len(studies(index, PatientName="doe*", PatientID="A")) == 4
    stranger = {"PatientName": "Poe^Edgar", "PatientBirthDate": "18090119", "PatientSex": "M"}
    assert index.add([numbered(9, PatientID="M", **stranger)])[0].outcome is Outcome.PATIENT_CONFLICT
