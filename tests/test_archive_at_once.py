"""Sixteen senders bring one new study of one new patient at once; and what is done to it meanwhile loses nothing."""

import queue
import threading
import time
from contextlib import contextmanager

import archives
import pytest
from archives import CT, LITTLE, data_set, part10
from sqlalchemy import select

import dicomnet as dn
from dicomnet.archive.archive import Archive
from dicomnet.archive.checks import fsck, scrub
from dicomnet.archive.retention import QUIET_SECONDS, Policy, prune
from dicomnet.files.part10 import meta_header
from dicomnet.repository import identity, schema
from dicomnet.repository.deletion import delete_instances
from dicomnet.repository.identity import PatientId

PATIENCE = 60
SENDERS, EACH = 16, 8
ALL = SENDERS * EACH


@pytest.fixture
def archive(tmp_path):
    with Archive(tmp_path / "archive", archives.make(tmp_path / "archive")) as archive:
        yield archive


def connected(archive):
    port = archive.listener.address[1]
    return dn.connect(f"ARCHIVE@127.0.0.1:{port}", contexts=dn.contexts.storage([CT]))


def send(archive, sender, outcomes):
    with connected(archive) as association:
        for number in range(EACH):
            series, uid = f"1.2.1.{sender % 4 + 2}", f"1.2.1.9.{sender}.{number}"
            data = data_set(number, SeriesInstanceUID=series, SOPInstanceUID=uid)
            outcomes.put(association.store(meta_header(CT, uid, LITTLE, "TESTER") + data).status)


@contextmanager
def sending(archive):
    """All send while the block runs; gives a queue of what they are answered, of which the block may take some."""
    outcomes = queue.Queue()
    threads = [threading.Thread(target=send, args=(archive, one, outcomes)) for one in range(SENDERS)]
    for thread in threads:
        thread.start()
    yield outcomes
    for thread in threads:
        thread.join(PATIENCE)
    assert all(outcomes.get_nowait().is_success for _ in range(outcomes.qsize()))


def totals(archive):
    """Patient IDs, and series and instances of each study, as they are counted."""
    study, patient = schema.study.c, schema.patient.c
    with archive.holdings.database.read() as connection:
        patients = connection.execute(select(patient.pid).where(patient.merged_into.is_(None))).scalars().all()
        studies = connection.execute(select(study.n_series, study.n_inst)).all()
    return list(patients), [tuple(row) for row in studies]


def test_they_make_one_patient_and_one_study_with_exact_counts(archive):
    with sending(archive):
        pass
    assert totals(archive) == (["P1"], [(4, ALL)])
    assert list(fsck(archive.holdings)) == []


def test_a_merge_meanwhile_loses_nothing(archive):
    with connected(archive) as association:
        assert association.store(part10(1)).status.is_success
    with sending(archive) as outcomes:
        assert outcomes.get(timeout=PATIENCE).is_success
        patients = PatientId("P1", ""), PatientId("P2", "")
        archive.holdings.database.transaction(lambda connection: identity.merge(connection, *patients))
    assert totals(archive) == (["P2"], [(5, ALL + 1)])
    assert list(fsck(archive.holdings)) == []


def test_deletion_meanwhile_takes_only_what_it_names(archive):
    gone = 0
    with sending(archive) as outcomes:
        for _ in range(ALL):
            assert outcomes.get(timeout=PATIENCE).is_success
            if gone < ALL // 2:
                there = [place.uid for page in archive.holdings.places.pages() for place in page][:2]
                gone += delete_instances(archive.holdings, there).instances
    left = [instances for _, instances in totals(archive)[1]]
    assert gone >= ALL // 4
    assert left == [ALL - gone]
    assert list(fsck(archive.holdings)) == list(scrub(archive.holdings)) == []


def test_a_quota_meanwhile_takes_whole_studies_and_counts_them(archive):
    gone, later = 0, time.time() + 2 * QUIET_SECONDS  # by this clock nothing is being received
    with sending(archive) as outcomes:
        for number in range(ALL):
            assert outcomes.get(timeout=PATIENCE).is_success
            if number % 16 == 0:
                gone += sum(one.instances for one in prune(archive.holdings, Policy(most_bytes=1), later))
    assert gone
    assert sum(instances for _, instances in totals(archive)[1]) == ALL - gone
    assert list(fsck(archive.holdings)) == list(scrub(archive.holdings)) == []


def test_a_quota_leaves_what_is_being_received(archive):
    with sending(archive) as outcomes:
        for number in range(ALL):
            assert outcomes.get(timeout=PATIENCE).is_success
            if number % 16 == 0:
                assert not list(prune(archive.holdings, Policy(most_bytes=1), time.time()))
    assert totals(archive) == (["P1"], [(4, ALL)])
