"""An archive as its peers see it: what they store is there, bit for bit, and what they are told is so."""

from __future__ import annotations

import hashlib
import io
import logging
import random
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import archives
import peers
import pydicom
import pynetdicom
import pytest
from archives import CT, data_set, part10
from rig import until
from sqlalchemy import select

import dicomnet as dn
from dicomnet import uids
from dicomnet.archive.archive import Archive
from dicomnet.archive.checks import fsck, scrub
from dicomnet.client import CommitmentScu, StoreScu
from dicomnet.dataset import codec
from dicomnet.files.instance_source import BytesSource
from dicomnet.files.part10 import read_meta
from dicomnet.repository.blob_source import data_set_of
from dicomnet.repository.work_schema import commitment, outbox
from dicomnet.status import Status

PATIENCE = 30


@pytest.fixture
def start(tmp_path):
    """Start an archive with these settings; it is checked when it has ended."""
    started = []

    def start(**settings):
        directory = tmp_path / "archive"
        archive = Archive(directory, archives.make(directory, **settings))
        started.append(archive)
        return archive.__enter__()

    yield start
    for archive in started:
        assert list(fsck(archive.holdings)) == list(scrub(archive.holdings)) == []
        archive.__exit__(None, None, None)


@pytest.fixture
def archive(start):
    return start()


def peer_of(archive):
    return dn.Entity("ARCHIVE", *archive.listener.address)


def run(program, *arguments):
    command = [peers.peer_program(program), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def stored_data(archive, uid):
    place = archive.holdings.places.of([uid])[uid]
    return data_set_of(archive.holdings.blobs, place.ref)


def store(archive, *items, **options):
    with StoreScu(peer_of(archive), **options) as scu:
        return [result.status for result in scu.send(*items)]


def connected(archive, *contexts):
    return dn.connect(peer_of(archive), calling="TESTER", contexts=contexts or dn.contexts.storage([CT]))


class TestStoring:
    def test_what_is_acknowledged_is_there_bit_for_bit(self, archive):
        items = [part10(number, size=size) for number, size in enumerate([0, 32, 4096, 1 << 20, 3 << 20])]
        assert store(archive, *items) == [Status.SUCCESS] * 5
        for number, item in enumerate(items):
            assert stored_data(archive, f"1.2.1.1.{number}") == item[read_meta(item)[1] :]

    def test_real_files_of_every_class_and_syntax(self, archive, sample_files):
        whole = [path for path in sample_files if "StudyInstanceUID" in _headers(path)][:60]
        results = []
        with StoreScu(peer_of(archive)) as scu:
            results += scu.send(*whole)
        kept = {result.name: result for result in results if result.status is not None and result.status.is_success}
        assert len(kept) > 30
        waiting = {one.uid: one for one in archive.holdings.quarantine.items()}
        for name, result in kept.items():
            data = Path(name).read_bytes()
            stored = stored_data(archive, result.sop_instance_uid)
            if result.sop_instance_uid not in waiting:
                assert stored.rstrip(b"\0") == data[read_meta(data)[1] :].rstrip(b"\0")

    def test_dcmtk_and_pynetdicom_store(self, archive, tmp_path):
        host, port = archive.listener.address
        path = tmp_path / "one.dcm"
        path.write_bytes(part10(1, size=1 << 16))
        run("storescu", "-aec", "ARCHIVE", "-xe", host, port, path)
        pynetdicom = peers.peer_module("pynetdicom")
        ae = pynetdicom.AE()
        ae.add_requested_context(CT, archives.LITTLE)
        association = ae.associate(host, port, ae_title="ARCHIVE")
        assert association.send_c_store(pydicom.dcmread(io.BytesIO(part10(2, size=1 << 16)))).Status == 0
        association.release()
        assert stored_data(archive, "1.2.1.1.1") == data_set(1, size=1 << 16)
        assert stored_data(archive, "1.2.1.1.2") == data_set(2, size=1 << 16)

    def test_a_class_that_dicomnet_does_not_know(self, archive):
        private = "1.2.826.0.1.3680043.9.9999.1"
        item = BytesSource(data_set(1, SOPClassUID=private), archives.LITTLE, private, "1.2.1.1.1")
        with connected(archive, *dn.contexts.storage([private])) as association:
            assert association.store(item).status.is_success

    def test_the_same_again_is_one_copy_and_other_bytes_are_in_quarantine(self, archive):
        again = part10(1, sender="ANOTHER")
        assert store(archive, part10(1), again, part10(1, Rows=7)) == [Status.SUCCESS] * 3
        assert stored_data(archive, "1.2.1.1.1") == data_set(1)
        (waiting,) = archive.holdings.quarantine.items()
        assert waiting.kind == "different"

    @pytest.mark.parametrize(
        ("keywords", "tag"),
        [({"StudyInstanceUID": None}, 0x0020000D), ({"SeriesInstanceUID": None}, 0x0020000E)],
    )
    def test_a_uid_that_is_missing_is_named(self, archive, keywords, tag):
        (status,) = store(archive, part10(1, **keywords))
        assert status == Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS
        assert status.offending == (tag,)
        assert f"({tag >> 16:04X},{tag & 0xFFFF:04X})" in status.comment

    def test_an_instance_uid_that_is_none_is_refused_before_the_data(self, archive, caplog):
        caplog.set_level(logging.INFO)
        item = BytesSource(data_set(1), archives.LITTLE, CT, "1.2.not.one")
        with connected(archive) as association:
            status = association.store(item).status
            assert status == Status.INVALID_SOP_INSTANCE
            assert association.store(part10(2)).status.is_success
        assert "is no SOP Instance UID" in caplog.text

    def test_a_full_disk_is_a_status_before_the_data_and_heals_by_itself(self, archive, monkeypatch):
        share = [0.96]
        watch = archive.holdings.disk
        monkeypatch.setattr(watch, "_share", lambda _: share[0])
        monkeypatch.setattr(watch, "_clock", iter(range(10, 1000)).__next__)
        with connected(archive) as association:
            assert association.store(part10(1)).status == Status.OUT_OF_RESOURCES
            share[0] = 0.5
            assert association.store(part10(1)).status.is_success

    def test_a_disk_that_is_fuller_lets_no_caller_in(self, archive, monkeypatch, caplog):
        caplog.set_level(logging.INFO)
        share = [0.985]
        monkeypatch.setattr(archive.holdings.disk, "_share", lambda _: share[0])
        monkeypatch.setattr(archive.holdings.disk, "_clock", iter(range(10, 1000)).__next__)
        with pytest.raises(dn.errors.AssociationRejected) as caught:
            connected(archive)
        assert (caught.value.result, caught.value.source, caught.value.reason) == (2, 3, 1)
        assert "the disk is full" in caplog.text
        share[0] = 0.5
        connected(archive).release()

    def test_a_write_that_fails_leaves_nothing(self, archive, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        with connected(archive) as association:
            with monkeypatch.context() as patch:
                patch.setattr(archive.holdings.blobs._log, "append", full)
                assert association.store(part10(1, size=1 << 12)).status == Status.OUT_OF_RESOURCES
                assert association.store(part10(2, size=2 << 20)).status == Status.OUT_OF_RESOURCES
            monkeypatch.setattr(archive.holdings.disk, "_until", 0.0)
            assert association.store(part10(1)).status.is_success
        assert not list((archive.holdings.blobs.root / "incoming").iterdir())

    def test_associations_at_once_bring_one_study(self, archive):
        barrier = threading.Barrier(8)

        def send(number):
            with connected(archive) as association:
                barrier.wait()
                for place in range(5):
                    assert association.store(part10(number * 10 + place)).status.is_success

        threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with archive.holdings.database.read() as connection:
            counts = connection.exec_driver_sql(
                "SELECT (SELECT count(*) FROM patient), (SELECT count(*) FROM study), (SELECT n_inst FROM study)"
            ).one()
        assert tuple(counts) == (1, 1, 40)

    def test_an_abort_in_the_middle_leaves_nothing(self, archive):
        for _ in range(3):
            association = connected(archive)
            with pytest.raises(ZeroDivisionError):
                association.store(_Broken())
            association.abort()
        assert store(archive, part10(1)) == [Status.SUCCESS]

    def test_plain_files_by_a_template(self, start):
        archive = start(layout="files", template="{PatientID}/{SOPInstanceUID}.dcm")
        assert store(archive, part10(1), part10(2, size=2 << 20)) == [Status.SUCCESS] * 2
        root = archive.holdings.blobs.root / "files" / "P1"
        assert sorted(path.name for path in root.iterdir()) == ["1.2.1.1.1.dcm", "1.2.1.1.2.dcm"]
        assert pydicom.dcmread(root / "1.2.1.1.1.dcm").PatientID == "P1"

    def test_what_was_stored_is_there_after_a_restart(self, tmp_path):
        directory = tmp_path / "archive"
        for number in range(2):
            with Archive(directory, archives.make(directory)) as archive:
                assert store(archive, part10(number)) == [Status.SUCCESS]
        with Archive(directory, archives.make(directory)) as archive:
            assert stored_data(archive, "1.2.1.1.0") == data_set(0)
            assert archive.holdings.recovered == 0


class _Broken:
    """A source that fails in its midst."""

    name, sop_class_uid, sop_instance_uid, transfer_syntax_uid = "x", CT, "1.2.1.1.77", archives.LITTLE
    size = 8 << 20

    def chunks(self, unit):
        yield memoryview(random.Random(1).randbytes(4 << 20))
        raise ZeroDivisionError

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def _headers(path):
    return pydicom.dcmread(path, stop_before_pixels=True, force=True)


class TestFinding:
    @pytest.fixture(autouse=True)
    def stored(self, archive):
        items = [part10(number, study=study, PatientName=f"Müller^{study}") for study in (1, 2) for number in range(3)]
        assert set(store(archive, *items)) == {0}

    def found(self, archive, level, model="STUDY_ROOT", **keys):
        with connected(archive, *dn.contexts.query_retrieve([CT])) as association:
            return [match.dataset for match in association.find(level, model=model, **keys)]

    def test_studies_by_name_with_counts(self, archive):
        (study,) = self.found(
            archive, "STUDY", PatientName="muller^1", StudyInstanceUID="", ModalitiesInStudy="",
            NumberOfStudyRelatedInstances="", RetrieveAETitle="",
        )  # fmt: skip
        assert (study.StudyInstanceUID, study.NumberOfStudyRelatedInstances) == ("1.2.1", 3)
        assert (str(study.PatientName), study.ModalitiesInStudy, study.RetrieveAETitle) == ("Müller^1", "CT", "ARCHIVE")

    def test_every_level_of_both_roots(self, archive):
        series = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": ""}
        images = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.1", "SOPInstanceUID": ""}
        assert len(self.found(archive, "STUDY", StudyInstanceUID="")) == 2
        assert len(self.found(archive, "SERIES", **series)) == 1
        assert len(self.found(archive, "IMAGE", **images)) == 3
        assert len(self.found(archive, "PATIENT", "PATIENT_ROOT", PatientID="P*")) == 2
        assert len(self.found(archive, "STUDY", "PATIENT_ROOT", PatientID="P1", StudyInstanceUID="")) == 1
        assert len(self.found(archive, "SERIES", "PATIENT_ROOT", PatientID="P1", **series)) == 1

    def test_what_the_hierarchy_does_not_allow_is_refused(self, archive):
        with pytest.raises(dn.errors.ServiceFailure) as caught:
            self.found(archive, "SERIES", SeriesInstanceUID="1.2.1.1")
        assert caught.value.status == Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS
        assert caught.value.status.offending == (0x0020000D,)

    @pytest.mark.parametrize("model", ["-S", "-P"])
    def test_findscu_finds(self, archive, model):
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=P2", "-k", "StudyInstanceUID", "-k", "StudyDate"]
        said = run("findscu", model, "-aec", "ARCHIVE", *keys, *archive.listener.address)
        assert said.count("[1.2.2") == 1
        assert "[20260131]" in said

    def test_pynetdicom_finds_and_cancels(self, archive):
        pynetdicom = peers.peer_module("pynetdicom")
        ae = pynetdicom.AE()
        ae.add_requested_context("1.2.840.10008.5.1.4.1.2.2.1")
        association = peers.steadied(ae.associate(*archive.listener.address, ae_title="ARCHIVE"))
        identifier = pydicom.Dataset()
        identifier.QueryRetrieveLevel, identifier.PatientID, identifier.StudyInstanceUID = "STUDY", "*", ""
        answers = list(association.send_c_find(identifier, "1.2.840.10008.5.1.4.1.2.2.1"))
        association.release()
        assert [status.Status for status, _ in answers] == [0xFF00, 0xFF00, 0]
        assert {found.StudyInstanceUID for _, found in answers[:-1]} == {"1.2.1", "1.2.2"}

    def test_lower_levels_without_those_above_where_that_is_set(self, archive):
        archive.shared.change({"relational": True}, (), "tester")
        assert len(self.found(archive, "SERIES", SeriesInstanceUID="1.2.1.1", StudyInstanceUID="")) == 1


class TestRetrieving:
    @pytest.fixture(autouse=True)
    def stored(self, archive):
        sizes = [0, 1 << 16, 3 << 20]
        assert set(store(archive, *(part10(number, size=size) for number, size in enumerate(sizes)))) == {0}
        data = {f"1.2.1.1.{number}": data_set(number, size=size) for number, size in enumerate(sizes)}
        self.hashes = {uid: hashlib.sha256(one).digest() for uid, one in data.items()}

    def hashes_in(self, directory):
        found = {}
        for path in directory.iterdir():
            content = path.read_bytes()
            meta, start = read_meta(content)
            found[meta.sop_instance_uid] = hashlib.sha256(content[start:]).digest()
        return found

    @pytest.mark.parametrize("model", ["-S", "-P"])
    def test_getscu_gets(self, archive, tmp_path, model):
        (tmp_path / "got").mkdir()
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.1", "-k", "PatientID=P1"]
        run("getscu", model, "+B", "-aec", "ARCHIVE", *keys, "-od", tmp_path / "got", *archive.listener.address)
        assert self.hashes_in(tmp_path / "got") == self.hashes

    def test_an_instance_whose_bytes_are_gone_fails_alone(self, archive, monkeypatch):
        real = archive.holdings.blobs.open
        gone = archive.holdings.places.of(["1.2.1.1.1"])["1.2.1.1.1"].ref

        def opened(ref):
            if ref == gone:
                raise FileNotFoundError(2, "No such file or directory")
            return real(ref)

        monkeypatch.setattr(archive.holdings.blobs, "open", opened)
        got = []
        with connected(archive, *dn.contexts.query_retrieve([CT])) as association:
            keep = lambda one: got.append(one.sop_instance_uid)  # noqa: E731
            outcome = association.get("STUDY", to=keep, StudyInstanceUID="1.2.1")
        assert sorted(got) == ["1.2.1.1.0", "1.2.1.1.2"]
        assert (outcome.completed, outcome.failed, outcome.failed_uids) == (2, 1, ["1.2.1.1.1"])
        monkeypatch.undo()

    def test_movescu_moves_to_whom_we_know_and_to_no_other(self, start, archive, tmp_path, free_port):
        archive.listener.destinations["MOVESCU"] = dn.Entity("MOVESCU", "127.0.0.1", free_port)
        (tmp_path / "got").mkdir()
        keys = ["-k", "QueryRetrieveLevel=SERIES", "-k", "StudyInstanceUID=1.2.1", "-k", "SeriesInstanceUID=1.2.1.1"]
        where = ["-aet", "MOVESCU", "-aec", "ARCHIVE", "+P", free_port, "-od", tmp_path / "got"]
        said = run("movescu", "-d", "-S", *where, *keys, *archive.listener.address)
        assert self.hashes_in(tmp_path / "got") == self.hashes, said
        command = [peers.peer_program("movescu"), "-v", "-S", "-aem", "STRANGER", "-aec", "ARCHIVE"]
        command += [*keys, *map(str, archive.listener.address)]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert "MoveDestinationUnknown" in (refused.stdout + refused.stderr).replace(" ", "")

    @pytest.mark.parametrize(
        ("keys", "why"),
        [
            (["QueryRetrieveLevel=STUDY"], "no StudyInstanceUID"),
            (["QueryRetrieveLevel=PAGE", "StudyInstanceUID=1.2.1"], "Query/Retrieve Level is none"),
            (["QueryRetrieveLevel=STUDY", "StudyInstanceUID=1.2.*"], "a wild card in a unique key"),
            (["QueryRetrieveLevel=PATIENT", "PatientID=A\\B"], "more than one Patient ID"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, archive, tmp_path, keys, why, caplog):
        caplog.set_level(logging.INFO)
        chosen = [word for key in keys for word in ("-k", key)]
        command = [peers.peer_program("getscu"), "-d", "-P", "-aec", "ARCHIVE", "-od", str(tmp_path), *chosen]
        command += map(str, archive.listener.address)
        result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert "0xa900" in (result.stdout + result.stderr).lower()
        assert why in caplog.text


class TestExtendedNegotiation:
    FIND = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND

    def connected(self, archive, offered):
        extras = dn.NegotiationOptions(extended={self.FIND: offered} if offered else {})
        return dn.connect(peer_of(archive), contexts=dn.contexts.query_retrieve(), extras=extras)

    @pytest.mark.parametrize(
        ("offered", "granted", "found"),
        [
            (b"", {}, ["1.2.1", "1.2.2", "1.2.3"]),  # each day, from ten at night to one
            (b"\1\0", {FIND: b"\1\0"}, ["1.2.1", "1.2.2", "1.2.3"]),
            (b"\1\1\1\1", {FIND: b"\1\1\0\1"}, ["1.2.1", "1.2.2"]),  # from ten at night to one on the next day
        ],
    )
    def test_dates_and_times_are_one_range_where_that_was_negotiated(self, archive, offered, granted, found):
        moments = ("20260131", "233000"), ("20260201", "003000"), ("20260201", "233000")
        store(archive, *(part10(1, study=n, StudyDate=d, StudyTime=t) for n, (d, t) in enumerate(moments, 1)))
        with self.connected(archive, offered) as association:
            assert association.extended == granted
            keys = {"StudyDate": "20260131-20260201", "StudyTime": "220000-010000", "StudyInstanceUID": ""}
            assert sorted(one.StudyInstanceUID for one in association.find("STUDY", **keys)) == found

    def test_dates_and_times_are_in_the_asker_s_zone_where_that_was_negotiated(self, archive):
        store(archive, part10(1, StudyDate="20260131", StudyTime="233000", TimezoneOffsetFromUTC="+0000"))
        store(archive, part10(1, study=2, StudyDate="20260131", StudyTime="233000"))
        keys = {"StudyDate": "20260201", "StudyTime": "", "StudyInstanceUID": "", "TimezoneOffsetFromUTC": "+0100"}
        with self.connected(archive, b"\0\0\0\1") as association:
            (found,) = association.find("STUDY", **keys)
            assert (found.StudyDate, found.StudyTime, found.TimezoneOffsetFromUTC) == ("20260201", "003000", "+0100")
            with pytest.raises(dn.ServiceFailure, match="offset from UTC") as caught:
                list(association.find("STUDY", StudyDate="20260201", TimezoneOffsetFromUTC="CET"))
            assert caught.value.status == 0xA900
        with self.connected(archive, b"") as association:  # the offset neither matches nor moves
            assert not list(association.find("STUDY", **keys))
            found = association.find("STUDY", **keys | {"StudyDate": "20260131"})
            assert sorted(one.TimezoneOffsetFromUTC or "" for one in found) == ["", "+0000"]

    @pytest.mark.parametrize(("offered", "count"), [(b"\1", 2), (b"\0\1", None), (b"", None)])
    def test_series_are_found_without_their_study_where_that_was_negotiated(self, archive, offered, count):
        store(archive, part10(1), part10(1, study=2))
        with self.connected(archive, offered) as association:
            if count is None:
                with pytest.raises(dn.ServiceFailure) as caught:
                    list(association.find("SERIES", Modality="CT"))
                assert caught.value.status == 0xA900
            else:
                assert len(list(association.find("SERIES", Modality="CT"))) == count


class TestCommitment:
    def test_it_is_reported_on_the_same_association_where_there_is_no_other(self, archive):
        store(archive, part10(1), part10(2))
        held, missing, other = (CT, "1.2.1.1.1"), (CT, "1.2.1.1.9"), (uids.MR_IMAGE_STORAGE, "1.2.1.1.2")
        with CommitmentScu(peer_of(archive), patience=PATIENCE) as scu:
            assert scu.commit([held]).committed == [held]
            result = scu.commit([held, missing, other])
        assert result.committed == [held]
        assert result.failed == [(*missing, 0x0112), (*other, 0x0119)]

    def test_damaged_bytes_are_not_committed(self, archive):
        store(archive, part10(1), part10(2))
        place = archive.holdings.places.of(["1.2.1.1.1"])["1.2.1.1.1"]
        path = archive.holdings.blobs.root / place.key
        whole = path.read_bytes()
        content = bytearray(whole)
        content[place.offset + place.size - 1] ^= 1
        path.write_bytes(content)
        with CommitmentScu(peer_of(archive), patience=PATIENCE) as scu:
            result = scu.commit([(CT, "1.2.1.1.1"), (CT, "1.2.1.1.2")])
        assert (result.committed, result.failed) == ([(CT, "1.2.1.1.2")], [(CT, "1.2.1.1.1", 0x0110)])
        path.write_bytes(whole)

    def test_it_is_reported_on_an_association_of_its_own(self, start, free_port):
        archive = start(destinations={"MODALITY": dn.Entity("MODALITY", "127.0.0.1", free_port)})
        store(archive, part10(1))
        listen = f"MODALITY@127.0.0.1:{free_port}"
        with CommitmentScu(peer_of(archive), calling="MODALITY", listen=listen, patience=PATIENCE) as scu:
            assert scu.commit([(CT, "1.2.1.1.1")]).committed == [(CT, "1.2.1.1.1")]

    def test_it_is_reported_on_the_association_that_asked_while_it_stands(self, start, free_port):
        archive = start(destinations={"MODALITY": dn.Entity("MODALITY", "127.0.0.1", free_port)})  # not listened on
        store(archive, part10(1), part10(2))
        held = [(CT, "1.2.1.1.1"), (CT, "1.2.1.1.2")]
        contexts = dn.contexts.commitment()
        with dn.connect(peer_of(archive), calling="MODALITY", contexts=contexts) as association:
            assert association.commit(held).committed == held
            assert association.commit(held[:1]).committed == held[:1]

        def told():
            archive.commitment.report_due()
            with archive.holdings.database.read() as connection:
                states = list(connection.execute(select(commitment.c.state)).scalars())
                return states, connection.execute(select(outbox.c.id).where(outbox.c.queue == "commitment")).all()

        until(lambda: told() == (["reported", "reported"], []), told)  # the listener has our response, or soon

    def test_pynetdicom_gets_it_on_the_association_that_asked(self, start, free_port):
        archive = start(destinations={"MODALITY": dn.Entity("MODALITY", "127.0.0.1", free_port)})
        store(archive, part10(1))
        heard, reports = threading.Event(), []

        def report(event):
            reports.append(str(event.event_information.ReferencedSOPSequence[0].ReferencedSOPInstanceUID))
            heard.set()
            return 0x0000, None

        entity = pynetdicom.AE("MODALITY")
        entity.add_requested_context(uids.STORAGE_COMMITMENT_PUSH_MODEL)
        handlers = [(pynetdicom.evt.EVT_N_EVENT_REPORT, report)]
        association = entity.associate(*archive.listener.address, ae_title="ARCHIVE", evt_handlers=handlers)
        reference = {"ReferencedSOPClassUID": CT, "ReferencedSOPInstanceUID": "1.2.1.1.1"}
        action = codec.from_keywords({"TransactionUID": "1.2.9", "ReferencedSOPSequence": [reference]})
        model = uids.STORAGE_COMMITMENT_PUSH_MODEL, uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE
        status, _ = association.send_n_action(action, 1, *model)
        assert status.Status == 0x0000
        assert heard.wait(PATIENCE)
        association.release()
        assert reports == ["1.2.1.1.1"]

    def test_it_is_reported_elsewhere_where_the_association_that_asked_declines_it(self, start, free_port):
        archive = start(destinations={"MODALITY": dn.Entity("MODALITY", "127.0.0.1", free_port)})
        store(archive, part10(1))
        heard, reports = threading.Event(), []
        with dn.Listener("MODALITY", port=free_port) as listener:

            @listener.on_event_report(uids.STORAGE_COMMITMENT_PUSH_MODEL)
            def report(request):
                reports.append(str(request.dataset.TransactionUID))
                heard.set()

            contexts = dn.contexts.commitment()
            with dn.connect(peer_of(archive), calling="MODALITY", contexts=contexts) as association:
                values = {"TransactionUID": "1.2.3", "ReferencedSOPSequence": [
                    {"ReferencedSOPClassUID": CT, "ReferencedSOPInstanceUID": "1.2.1.1.1"}]}  # fmt: skip
                model, instance = uids.STORAGE_COMMITMENT_PUSH_MODEL, uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE
                assert association.n_action(model, instance, 1, codec.from_keywords(values)).status.is_success
                with suppress(dn.DeadlineExceeded):
                    association.wait_for_event_report()  # without a handler, it is declined
                assert heard.wait(PATIENCE)
        assert reports == ["1.2.3"]

    def test_a_transaction_that_was_used_by_another_is_a_duplicate(self, archive):
        store(archive, part10(1))
        for calling, failed in (("ONE", []), ("TWO", [(CT, "1.2.1.1.1", 0x0131)]), ("ONE", [])):
            contexts = dn.contexts.commitment()
            with dn.connect(peer_of(archive), calling=calling, contexts=contexts) as association:
                result = association.commit([(CT, "1.2.1.1.1")], transaction_uid="1.2.3.4.5")
                assert result.failed == failed

    def test_a_report_survives_a_restart(self, tmp_path, free_port):
        directory = tmp_path / "archive"
        destinations = {"MODALITY": dn.Entity("MODALITY", "127.0.0.1", free_port)}
        made = archives.make(directory, destinations=destinations, commitment_reports="new")
        with Archive(directory, made) as archive:
            store(archive, part10(1))
            contexts = dn.contexts.commitment()
            with dn.connect(peer_of(archive), calling="MODALITY", contexts=contexts) as association:
                association.request_commitment([(CT, "1.2.1.1.1")], transaction_uid="1.2.3.4.5")
        heard = threading.Event()
        reports = []
        with dn.Listener("MODALITY", port=free_port) as listener:

            @listener.on_event_report(uids.STORAGE_COMMITMENT_PUSH_MODEL)
            def report(request):
                reports.append((request.event_type_id, str(request.dataset.TransactionUID)))
                heard.set()

            with Archive(directory, archives.make(directory, destinations=destinations)) as archive:
                archive.holdings.outbox.retry(queue="commitment")
                archive.commitment._wake.set()
                assert heard.wait(PATIENCE)
        assert reports == [(1, "1.2.3.4.5")]
