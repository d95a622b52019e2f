"""Rejection notes: what they name is out of sight before they are acknowledged (IHE IOCM, RAD-66)."""

from __future__ import annotations

import logging

import archives
import pytest
from archives import LITTLE, an_incoming, data_set

from dicomnet import uids
from dicomnet.archive.checks import fsck
from dicomnet.archive.rejection import RejectionNotes, commit_of
from dicomnet.archive.settings import ArchiveSettings
from dicomnet.dataset import codec
from dicomnet.errors import InvalidArgument
from dicomnet.files.part10 import meta_header
from dicomnet.repository.blob_source import data_set_of
from dicomnet.repository.blob_store import NewBlob
from dicomnet.repository.catalog import Level
from dicomnet.repository.incoming import Incoming
from dicomnet.repository.index import Outcome
from dicomnet.repository.quarantine import REJECTED

NOTE = uids.KEY_OBJECT_SELECTION_DOCUMENT_STORAGE
QUALITY, SAFETY, WORKLIST, EXPIRED = "113001", "113037", "113038", "113039"


def a_note(code, numbers, *, study=1, own_study=0, of_study="", scheme="DCM", of_class=uids.CT_IMAGE_STORAGE):
    """A key object selection of a study's instances; its own series is another one."""
    own = own_study or study
    uid = f"1.2.{own}.9.{code}"
    references = [
        {"ReferencedSOPClassUID": of_class, "ReferencedSOPInstanceUID": f"1.2.{study}.1.{number}"} for number in numbers
    ]
    series = {"SeriesInstanceUID": f"1.2.{study}.1", "ReferencedSOPSequence": references}
    evidence = {"StudyInstanceUID": of_study or f"1.2.{study}", "ReferencedSeriesSequence": [series]}
    title = {"CodeValue": code, "CodingSchemeDesignator": scheme, "CodeMeaning": "title"}
    data = data_set(
        1, study=own, SOPClassUID=NOTE, SOPInstanceUID=uid, SeriesInstanceUID=f"1.2.{own}.9", Modality="KO",
        Rows=None, Columns=None, ConceptNameCodeSequence=[title], CurrentRequestedProcedureEvidenceSequence=[evidence],
    )  # fmt: skip
    return Incoming(NewBlob(NOTE, uid, LITTLE, meta_header(NOTE, uid, LITTLE, "TESTER"), [data], b"", len(data)), data)


@pytest.fixture
def holdings(tmp_path):
    with archives.opened(tmp_path, rejection_notes="quarantine") as holdings:
        yield holdings


def there(holdings, study=1):
    return [one.uid for one in holdings.index.instances(Level.STUDY, [f"1.2.{study}"])]


def rejected(holdings):
    return [(one.uid, one.reason[:6]) for one in holdings.quarantine.items() if one.kind == REJECTED]


def store(holdings, *group):
    results = commit_of(holdings)(group)
    assert {one.outcome for one in results} <= {Outcome.NEW, Outcome.SAME, Outcome.REJECTED}
    return results


def test_rejected_for_safety_or_a_wrong_entry_goes_with_its_note(holdings):
    store(holdings, *(an_incoming(number) for number in (1, 2, 3)))
    store(holdings, a_note(SAFETY, [1, 2]))
    assert there(holdings) == ["1.2.1.1.3"]
    assert rejected(holdings) == [("1.2.1.1.1", SAFETY), ("1.2.1.1.2", SAFETY), ("1.2.1.9.113037", SAFETY)]
    store(holdings, a_note(WORKLIST, [3]))
    assert there(holdings) == []
    with holdings.database.read() as connection:
        for table in ("patient", "study", "series", "instance", "blob"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() == 0, table
    assert list(fsck(holdings)) == []


def test_the_bytes_wait_where_quarantine_says(holdings):
    store(holdings, an_incoming(1))
    store(holdings, a_note(SAFETY, [1]))
    (one,) = holdings.quarantine.find("1.2.1.1.1")
    assert data_set_of(holdings.blobs, one.ref) == data_set(1)


def test_of_quality_the_note_is_seen(holdings):
    store(holdings, an_incoming(1), an_incoming(2))
    store(holdings, a_note(QUALITY, [2]))
    assert there(holdings) == ["1.2.1.1.1", "1.2.1.9.113001"]


def test_a_note_in_the_group_of_its_instances_and_the_same_note_again(holdings):
    store(holdings, an_incoming(1), a_note(SAFETY, [1]), an_incoming(2))
    store(holdings, a_note(SAFETY, [1]))
    assert there(holdings) == ["1.2.1.1.2"]
    assert rejected(holdings) == [("1.2.1.1.1", SAFETY), ("1.2.1.9.113037", SAFETY)]
    assert list(fsck(holdings)) == []


@pytest.mark.parametrize(("code", "expected"), [(SAFETY, []), (QUALITY, ["1.2.1.9.113001"]), (EXPIRED, ["1.2.1.1.1"])])
def test_what_comes_again_stays_rejected_unless_it_had_expired(holdings, code, expected):
    store(holdings, an_incoming(1))
    store(holdings, a_note(code, [1]))
    store(holdings, an_incoming(1))
    assert there(holdings) == expected
    assert len(rejected(holdings)) == 2 - (code == QUALITY)
    assert list(fsck(holdings)) == []


@pytest.fixture(params=["sqlite", "postgresql"])
def of_any_database(request, tmp_path):
    """As `holdings`, with either database."""
    chosen = {"rejection_notes": "quarantine"}
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        chosen["database"] = server.url(server.new_database())
    with archives.opened(tmp_path, **chosen) as holdings:
        yield holdings


def test_what_had_expired_and_is_rejected_for_another_reason_stays_so(holdings):
    store(holdings, an_incoming(1), a_note(EXPIRED, [1]))
    store(holdings, an_incoming(1), a_note(SAFETY, [1]))
    store(holdings, an_incoming(1))
    assert there(holdings) == []
    assert rejected(holdings)[0] == ("1.2.1.1.1", SAFETY)
    assert list(fsck(holdings)) == []


def test_no_kill_leaves_what_is_sent_again_in_the_index(of_any_database):
    holdings = of_any_database
    store(holdings, an_incoming(1), an_incoming(2), an_incoming(3))
    store(holdings, a_note(SAFETY, [1, 2]))
    with holdings.database.read() as connection:
        before = connection.exec_driver_sql("SELECT max(seq) FROM change").scalar_one()
    results = holdings.intake.store([an_incoming(1), an_incoming(2, Rows=7), an_incoming(4)])  # and no more
    assert [one.outcome for one in results] == [Outcome.REJECTED, Outcome.REJECTED, Outcome.NEW]
    assert there(holdings) == ["1.2.1.1.3", "1.2.1.1.4"]
    with holdings.database.read() as connection:  # nor was it there meanwhile
        changes = connection.exec_driver_sql(f"SELECT kind FROM change WHERE seq > {before}").scalars().all()
    assert changes == ["stored"]
    assert len(rejected(holdings)) == 4  # the other bytes wait, too
    assert list(fsck(holdings)) == []


def test_what_a_kill_kept_from_the_index_stays_rejected_when_it_is_found(of_any_database):
    holdings = of_any_database
    store(holdings, an_incoming(1), an_incoming(2))
    store(holdings, a_note(SAFETY, [1]))
    stored = [an_incoming(1).blob, an_incoming(3).blob]
    for one in stored:
        one.hash()
    holdings.blobs.put(stored)  # and no more: the index knows of neither
    assert holdings.intake.recover(recent=False) == 2
    assert there(holdings) == ["1.2.1.1.2", "1.2.1.1.3"]
    assert list(fsck(holdings)) == []


def test_what_came_while_notes_were_not_honoured_is_rejected_when_it_is_sent_again(tmp_path):
    with archives.opened(tmp_path, rejection_notes="quarantine") as holdings:
        store(holdings, an_incoming(1), a_note(SAFETY, [1]))
    with archives.opened(tmp_path, rejection_notes="store") as holdings:
        store(holdings, an_incoming(1))
        assert there(holdings) == ["1.2.1.1.1"]
    with archives.opened(tmp_path, rejection_notes="quarantine") as holdings:
        store(holdings, an_incoming(1))
        assert there(holdings) == []
        assert list(fsck(holdings)) == []


@pytest.mark.parametrize(
    "told",
    [
        {"code": "113000"},  # Of Interest
        {"code": SAFETY, "scheme": "99LOCAL"},
        {"code": SAFETY, "of_study": "1.2.7"},
        {"code": SAFETY, "of_class": uids.MR_IMAGE_STORAGE},
    ],
    ids=str,
)
def test_other_selections_and_wrong_references_reject_nothing(holdings, told):
    store(holdings, an_incoming(1))
    store(holdings, a_note(numbers=[1], **told))
    assert "1.2.1.1.1" in there(holdings)


def test_a_note_rejects_nothing_of_another_patient(holdings):
    store(holdings, an_incoming(1), an_incoming(1, study=2))
    store(holdings, a_note(SAFETY, [1], own_study=2))
    assert there(holdings) == ["1.2.1.1.1"]
    store(holdings, a_note(WORKLIST, [1]))
    assert there(holdings) == []


@pytest.mark.parametrize("tag", [0x0040A043, 0x0040A375])  # the title, and what is rejected
def test_a_note_with_text_for_a_sequence_is_stored(holdings, tag):
    store(holdings, an_incoming(1))
    odd = a_note(SAFETY, [1])
    ds = codec.decode(odd.head, LITTLE)
    ds.add_new(tag, "LO", "odd")
    data = codec.encode(ds, LITTLE)
    blob = NewBlob(NOTE, odd.blob.sop_instance_uid, LITTLE, odd.blob.header, [data], b"", len(data))
    store(holdings, Incoming(blob, data))
    assert "1.2.1.1.1" in there(holdings)


def test_deleted_where_the_settings_say_so(tmp_path):
    with archives.opened(tmp_path, rejection_notes="delete") as holdings:
        store(holdings, an_incoming(1), an_incoming(2))
        store(holdings, a_note(EXPIRED, [1]))
        assert (there(holdings), rejected(holdings)) == (["1.2.1.1.2"], [])
        assert list(fsck(holdings)) == []


def test_by_default_a_note_is_an_instance_like_others(tmp_path):
    with archives.opened(tmp_path) as holdings:
        store(holdings, an_incoming(1), a_note(SAFETY, [1]))
        assert there(holdings) == ["1.2.1.1.1", "1.2.1.9.113037"]


def test_a_note_that_cannot_be_honoured_is_refused_and_can_be_sent_again(holdings, monkeypatch, caplog):
    caplog.set_level(logging.ERROR)
    store(holdings, an_incoming(1))
    notes, note = RejectionNotes(holdings), [a_note(SAFETY, [1])]
    with monkeypatch.context() as patch:
        patch.setattr(holdings.blobs, "open", lambda ref: (_ for _ in ()).throw(OSError("away")))
        (result,) = notes.store(note)
    assert isinstance(result, OSError)
    assert "cannot be honoured now" in caplog.text
    (again,) = notes.store([a_note(SAFETY, [1])])
    assert again.outcome is Outcome.SAME
    assert there(holdings) == []


def test_the_setting_is_one_of_three():
    with pytest.raises(InvalidArgument, match="store or quarantine or delete"):
        ArchiveSettings(rejection_notes="hide")


def test_an_index_made_anew_has_nothing_that_is_rejected(tmp_path):
    with archives.opened(tmp_path, rejection_notes="quarantine") as holdings:
        store(holdings, an_incoming(1), an_incoming(2), a_note(SAFETY, [1]))
    for name in ("index.db", "index.db-wal", "index.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    with archives.opened(tmp_path, rejection_notes="quarantine") as holdings:
        holdings.intake.recover(recent=False)
        assert len(there(holdings)) == 3
        RejectionNotes(holdings).honour_all()
        assert there(holdings) == ["1.2.1.1.2"]
