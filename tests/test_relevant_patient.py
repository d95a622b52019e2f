"""Relevant patient information of an archive (PS3.4 Annex Q), and of pynetdicom for our user."""

from __future__ import annotations

import datetime

import archives
import peers
import pytest
from pydicom.dataset import Dataset

import dicomnet as dn
from dicomnet import uids
from dicomnet.archive.archive import Archive
from dicomnet.dataset import codec
from dicomnet.repository.identity import PatientId, merge, unmerge
from dicomnet.repository.scope import Scope

MODEL = uids.GENERAL_RELEVANT_PATIENT_INFORMATION_QUERY
TEMPLATE = [{"MappingResource": "DCMR", "TemplateIdentifier": "9007"}]


def keys(**more: object) -> Dataset:
    """The identifier of a request (PS3.4 Section Q.2.1.1.3.1)."""
    usual = {
        "PatientID": "P1", "IssuerOfPatientID": None, "PatientName": None, "PatientBirthDate": None, "PatientSex": None,
        "ObservationDateTime": None, "ValueType": None, "ConceptNameCodeSequence": [], "ContentSequence": [],
        "ContentTemplateSequence": TEMPLATE,
    }  # fmt: skip
    return codec.from_keywords(usual | more)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    directory = tmp_path_factory.mktemp("relevant") / "archive"
    with Archive(directory, archives.make(directory)) as archive:
        archives.store(archive.holdings, [
            archives.part10(1, PatientName="Müller^Jörg", PatientBirthDate="19700102", PatientSex="M"),
            archives.part10(1, study=2, PatientBirthDate="", PatientSex="O"),
            archives.part10(1, study=3, IssuerOfPatientID="A"),
            archives.part10(1, study=4, PatientID="P3", IssuerOfPatientID="B"),
        ])  # fmt: skip
        yield archive


@pytest.fixture(scope="module")
def ask(archive):
    from pynetdicom import AE

    ae = AE("TESTER")
    ae.add_requested_context(MODEL, uids.EXPLICIT_VR_LITTLE_ENDIAN)
    link = peers.steadied(ae.associate(*archive.listener.address, ae_title="ARCHIVE"))
    yield lambda **more: list(link.send_c_find(keys(**more), MODEL))
    link.release()


def test_pynetdicom_gets_what_is_known_of_a_patient(ask):
    (pending, found), (last, _) = ask()
    assert (pending.Status, last.Status) == (0xFF00, 0x0000)
    assert (str(found.PatientName), found.PatientSex, found.ValueType) == ("Müller^Jörg", "M", "CONTAINER")
    assert found.ConceptNameCodeSequence[0].CodeValue == "111517"
    assert found.ContentTemplateSequence[0].TemplateIdentifier == "9007"
    (about,) = found.ContentSequence
    age, sex = about.ContentSequence
    years = (datetime.date.today() - datetime.date(1970, 1, 2)).days // 365.2425
    assert age.MeasuredValueSequence[0].NumericValue == years
    assert age.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "a"
    assert sex.ConceptCodeSequence[0].CodeValue == "M"


def test_what_is_not_known_is_left_out(ask):
    (_, found), _ = ask(PatientID="P2")
    assert (found.ContentSequence, found.PatientBirthDate or "") == ([], "")
    assert [status.Status for status, _ in ask(PatientID="P9")] == [0x0000]


@pytest.mark.parametrize(("more", "status"), [
    ({"PatientID": "P3"}, 0xC100), ({"PatientID": "P3", "IssuerOfPatientID": "B"}, 0xFF00),
    ({"PatientID": ""}, 0xA900), ({"PatientID": "P*"}, 0xA900), ({"ContentTemplateSequence": []}, 0xC200),
    ({"ContentTemplateSequence": [{"MappingResource": "DCMR", "TemplateIdentifier": "9000"}]}, 0xC200),
])  # fmt: skip
def test_every_status(ask, more, status):
    assert ask(**more)[0][0].Status == status


@pytest.mark.parametrize(("scope", "status"), [
    (Scope(issuers=frozenset({"B"})), [0xFF00, 0x0000]), (Scope(issuers=frozenset({"C"})), [0x0000]),
    (Scope(modalities=frozenset({"XA"})), [0x0000]),
])  # fmt: skip
def test_a_patient_who_may_not_be_seen_is_none(archive, ask, monkeypatch, scope, status):
    monkeypatch.setattr(archive.holdings, "scopes", lambda calling: scope)
    assert [one.Status for one, _ in ask(PatientID="P3")] == status


def test_our_user_asks_pynetdicom():
    from pynetdicom import AE, evt

    def answer(event):
        yield 0xFF00, codec.from_keywords({"PatientID": event.identifier.PatientID, "ValueType": "CONTAINER"})

    ae = AE("RIS")
    ae.add_supported_context(MODEL)
    scp = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, answer)])
    try:
        contexts = dn.services.presentation_contexts.sop_classes(MODEL)
        with dn.connect(f"RIS@127.0.0.1:{scp.server_address[1]}", contexts=contexts) as association:
            (match,) = association.find("", model="RELEVANT_PATIENT", query=keys())
    finally:
        scp.shutdown()
    assert (match.dataset.PatientID, match.dataset.ValueType) == ("P1", "CONTAINER")


def test_a_patient_who_was_merged_is_who_they_are_now(archive, ask):
    old, now = PatientId("P2"), PatientId("P3", "B")
    with archive.holdings.database.write() as connection:
        merge(connection, old, now)
    (pending, found), (last, _) = ask(PatientID="P2")
    assert (pending.Status, last.Status) == (0xFF00, 0x0000)
    assert (found.PatientID, found.IssuerOfPatientID) == ("P3", "B")
    with archive.holdings.database.write() as connection:
        unmerge(connection, old)
    assert ask(PatientID="P2")[0][1].PatientID == "P2"
