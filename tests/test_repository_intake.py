"""Into the repository, and out of it: blobs and index agree, whatever is stored twice, contradicts or crashes."""

import dataclasses
import hashlib
import os
from contextlib import closing

import pytest
from index_records import header
from sqlalchemy.exc import IntegrityError
from test_repository_index import assert_exact

from dicomnet import uids
from dicomnet.errors import InputFileError
from dicomnet.files.part10 import meta_header
from dicomnet.repository import index as index_module
from dicomnet.repository.attributes import MissingElement
from dicomnet.repository.blob_source import BlobSource, data_set_of, header_length
from dicomnet.repository.blob_store import NewBlob
from dicomnet.repository.incoming import BlobSink, Incoming, Memory
from dicomnet.repository.index import Index, Outcome
from dicomnet.repository.intake import Duplicates, Intake, Kept, Mismatch
from dicomnet.repository.places import Place, Places
from dicomnet.repository.quarantine import Quarantine
from dicomnet.repository.removal import given_up, remove_instances
from dicomnet.repository.segments import SegmentStore

CT, LITTLE = uids.CT_IMAGE_STORAGE, uids.EXPLICIT_VR_LITTLE_ENDIAN


def an_instance(number, command_uid=None, **keywords):
    uid = f"1.2.3.1.1.{number}"
    data = header(**{"SOPInstanceUID": uid, "InstanceNumber": number, **keywords})
    meta = meta_header(CT, command_uid or uid, LITTLE, "SENDER")
    return Incoming(NewBlob(CT, command_uid or uid, LITTLE, meta, [data], b"", len(data)), data, "SENDER")


@pytest.fixture
def blobs(tmp_path):
    store = SegmentStore(tmp_path / "blobs", durability="os")
    yield store
    store.close()


@pytest.fixture
def make_intake(blobs, database):
    def make(**options):
        return Intake(blobs, Index(database), Quarantine(database), **options)

    return make


@pytest.fixture
def intake(make_intake):
    return make_intake()


@pytest.fixture
def places(database):
    return Places(database)


def outcomes(results):
    return [one.outcome if isinstance(one, Kept) else type(one) for one in results]


def assert_agree(blobs, places, database):
    """Each row has its blob with its hash, each blob its row or its place in quarantine, or it waits to be deleted."""
    rows = {place.ref: place.sha for page in places.pages(size=3) for place in page}
    waiting = {one.ref: one.sha for one in Quarantine(database).items()}
    stored = {one.ref: one.sha256 for one in blobs.scan()}
    given = given_up(database) - rows.keys() - waiting.keys()
    assert {ref: sha for ref, sha in stored.items() if ref not in given} == rows | waiting
    assert all(hashlib.sha256(data_set_of(blobs, ref)).digest() == sha for ref, sha in stored.items())
    assert_exact(database)


class TestStoring:
    def test_a_group_is_stored_and_found(self, intake, blobs, places, database):
        group = [an_instance(number) for number in range(5)]
        assert outcomes(intake.store(group)) == [Outcome.NEW] * 5
        place = places.of(["1.2.3.1.1.3"])["1.2.3.1.1.3"]
        assert data_set_of(blobs, place.ref) == group[3].head
        assert_agree(blobs, places, database)

    def test_the_same_again_is_one_copy(self, intake, blobs, places, database):
        assert outcomes(intake.store([an_instance(1), an_instance(1)])) == [Outcome.NEW, Outcome.SAME]
        assert outcomes(intake.store([an_instance(1)])) == [Outcome.SAME]
        assert_agree(blobs, places, database)

    def test_other_bytes_are_in_quarantine(self, intake, blobs, places, database, caplog):
        intake.store([an_instance(1)])
        other = an_instance(1, Rows=100)
        assert outcomes(intake.store([other, other])) == [Outcome.DIFFERENT] * 2
        (waiting,) = Quarantine(database).items()
        assert (waiting.uid, waiting.kind, waiting.calling) == ("1.2.3.1.1.1", "different", "SENDER")
        assert data_set_of(blobs, waiting.ref) == other.head
        assert "is in quarantine" in caplog.text
        assert_agree(blobs, places, database)

    def test_or_the_first_ones_are_kept(self, make_intake, blobs, places, database, caplog):
        intake = make_intake(duplicates=Duplicates.KEEP)
        first = an_instance(1)
        intake.store([first, an_instance(1, Rows=100)])
        assert data_set_of(blobs, places.of(["1.2.3.1.1.1"])["1.2.3.1.1.1"].ref) == first.head
        assert "those that came first are kept" in caplog.text
        assert_agree(blobs, places, database)

    def test_or_the_last_ones(self, make_intake, blobs, places, database):
        intake = make_intake(duplicates=Duplicates.REPLACE)
        intake.store([an_instance(1), an_instance(2)])
        last = an_instance(1, Rows=100)
        assert outcomes(intake.store([last])) == [Outcome.NEW]
        assert data_set_of(blobs, places.of(["1.2.3.1.1.1"])["1.2.3.1.1.1"].ref) == last.head
        assert_agree(blobs, places, database)

    def test_a_patient_that_contradicts_is_in_quarantine(self, intake, blobs, places, database):
        intake.store([an_instance(1)])
        other = an_instance(2, PatientName="Roe^Richard", PatientBirthDate="19800101", PatientSex="M")
        assert outcomes(intake.store([other])) == [Outcome.PATIENT_CONFLICT]
        (waiting,) = Quarantine(database).items()
        assert waiting.kind == "patient conflict"
        assert "Roe" not in waiting.reason
        assert Quarantine(database).find(waiting.uid) == [waiting]
        blobs.delete(Quarantine(database).remove([waiting.id]))
        assert_agree(blobs, places, database)

    def test_what_cannot_be_indexed_leaves_nothing(self, intake, blobs, places, database):
        group = [
            an_instance(1),
            an_instance(2, StudyInstanceUID=None),
            an_instance(3, command_uid="1.2.3.9"),
            an_instance(4, SOPClassUID="1.2.840.10008.5.1.4.1.1.4"),
        ]
        results = intake.store(group)
        assert outcomes(results) == [Outcome.NEW, MissingElement, Mismatch, Mismatch]
        assert [one.tag for one in results[1:]] == [0x0020000D, 0x00080018, 0x00080016]
        assert_agree(blobs, places, database)

    def test_where_blobs_fail_nothing_is_indexed(self, intake, blobs, places, database, monkeypatch):
        def full(group):
            raise OSError(28, "full")

        monkeypatch.setattr(blobs, "put", full)
        with pytest.raises(OSError, match="full"):
            intake.store([an_instance(1)])
        assert places.of(["1.2.3.1.1.1"]) == {}


class TestSinks:
    def sink(self, blobs, data, *, piece=100, **options):
        header = meta_header(CT, "1.2.3.1.1.1", LITTLE, "SENDER")
        sink = BlobSink(blobs, (CT, "1.2.3.1.1.1", LITTLE), header, options.pop("memory", Memory()), **options)
        for start in range(0, len(data), piece):
            middle = start + piece // 2
            sink.write([memoryview(data)[start:middle], memoryview(data)[middle : start + piece]])
        sink.close()
        return sink

    @pytest.mark.parametrize("small", [1 << 20, 150, 0])
    def test_small_ones_stay_in_memory_and_large_ones_do_not(self, blobs, intake, places, database, small):
        data = header(SOPInstanceUID="1.2.3.1.1.1")
        memory = Memory()
        sink = self.sink(blobs, data, small=small, memory=memory)
        assert sink.size == len(data)
        assert memory.held == (len(data) if small > 150 else 0)
        incoming, writer = sink.take("SENDER")
        assert (writer is None) is (small > 150)
        if writer is not None:
            blobs.finish(writer).result(30)
        assert outcomes(intake.store([incoming])) == [Outcome.NEW]
        sink.released()
        sink.discard()
        assert memory.held == 0
        assert data_set_of(blobs, places.of(["1.2.3.1.1.1"])["1.2.3.1.1.1"].ref) == data
        assert_agree(blobs, places, database)

    @pytest.mark.parametrize(("size", "folder"), [(50_000, "segments"), (200_000, "segments"), (2 << 20, "large")])
    def test_middling_ones_go_to_a_lane_and_out_of_it_where_they_are_large(
        self, blobs, intake, places, database, size, folder
    ):
        blobs._lanes.add()
        memory = Memory()
        data = header(SOPInstanceUID="1.2.3.1.1.1", BitsAllocated=16, PixelData=bytes(size))
        sink = self.sink(blobs, data, memory=memory, piece=10_000)
        assert memory.held == (len(data) if size == 50_000 else 0)
        incoming, writer = sink.take("SENDER")
        assert len(incoming.head) < 20_000 or size == 50_000
        if writer is not None:
            blobs.finish(writer).result(30)
        assert outcomes(intake.store([incoming])) == [Outcome.NEW]
        ref = places.of(["1.2.3.1.1.1"])["1.2.3.1.1.1"].ref
        assert ref.key.startswith(folder)
        assert data_set_of(blobs, ref) == data
        assert_agree(blobs, places, database)

    def test_a_long_header_is_found_whole_in_a_lane(self, blobs, intake, places, database):
        blobs._lanes.add()
        data = header(SOPInstanceUID="1.2.3.1.1.1", TextValue="x" * 90_000, BitsAllocated=16, PixelData=bytes(9000))
        incoming, _ = self.sink(blobs, data, piece=10_000).take("SENDER")
        assert incoming.head == data[: data.index(b"\xe0\x7f\x10\x00")]
        assert outcomes(intake.store([incoming])) == [Outcome.NEW]
        assert_agree(blobs, places, database)

    @pytest.mark.parametrize("when", ["on its way", "arrived", "not to be indexed"])
    def test_one_in_a_lane_that_is_not_stored_leaves_nothing(self, blobs, intake, places, database, when):
        blobs._lanes.add()
        wrong = {"StudyInstanceUID": None} if when == "not to be indexed" else {}
        data = header(SOPInstanceUID="1.2.3.1.1.1", BitsAllocated=16, PixelData=bytes(90_000), **wrong)
        sink = self.sink(blobs, data, piece=10_000)
        if when == "on its way":
            sink.discard()
        else:
            incoming, _ = sink.take("SENDER")
            if wrong:
                assert outcomes(intake.store([incoming])) == [MissingElement]
            else:
                incoming.discard()
        assert list(blobs.scan()) == []
        assert_agree(blobs, places, database)

    def test_where_memory_is_short_they_go_to_files(self, blobs):
        memory = Memory(120)
        sink = self.sink(blobs, bytes(300), memory=memory)
        assert memory.held == 0
        assert sink.take()[1] is not None

    def test_what_is_discarded_leaves_nothing(self, blobs):
        memory = Memory()
        for small in (1000, 10):
            sink = self.sink(blobs, bytes(300), memory=memory, small=small)
            sink.discard()
        assert memory.held == 0
        assert not list((blobs.root / "incoming").iterdir())

    def test_a_large_one_that_cannot_be_indexed_leaves_nothing(self, blobs, intake):
        sink = self.sink(blobs, header(StudyInstanceUID=None), small=10)
        incoming, writer = sink.take()
        blobs.finish(writer).result(30)
        assert outcomes(intake.store([incoming])) == [MissingElement]
        assert not list((blobs.root / "incoming").iterdir())


class TestAfterACrash:
    def test_what_was_stored_but_not_indexed_is_indexed(self, intake, blobs, places, database, monkeypatch):
        intake.store([an_instance(1)])

        def killed(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Index, "add", killed)
            with pytest.raises(KeyboardInterrupt):
                intake.store([an_instance(2), an_instance(1), an_instance(1, Rows=7)])
        blobs._log._segment.abandon()
        again = SegmentStore(blobs.root)
        recovered = Intake(again, Index(database), Quarantine(database))
        assert recovered.recover() == 3
        again.settle()
        assert_agree(again, places, database)
        assert set(places.of(["1.2.3.1.1.1", "1.2.3.1.1.2"])) == {"1.2.3.1.1.1", "1.2.3.1.1.2"}
        assert len(Quarantine(database).items()) == 1
        assert recovered.recover() == 0
        again.close()

    def test_an_index_is_made_of_the_blobs_alone(self, intake, blobs, places, database):
        intake.store([an_instance(number) for number in range(4)] + [an_instance(1, Rows=7)])
        before = {place.uid: place.ref for page in places.pages() for place in page}
        with database.write() as connection:
            remove_instances(connection, list(before))
        Quarantine(database).remove([1])
        assert intake.recover(recent=False) == 5
        assert {place.uid: place.ref for page in places.pages() for place in page} == before
        assert_agree(blobs, places, database)

    def damaged(self, blobs, ref, how):
        path = blobs.root / ref.key
        if how == "marked":
            blobs.delete([ref])
        elif how == "gone":
            blobs._log._segment.abandon()
            blobs.remove_segment(ref.key)
        elif how == "cut":
            blobs._log._segment.abandon()
            path.write_bytes(path.read_bytes()[: ref.offset])
        else:
            content = bytearray(path.read_bytes())
            content[ref.offset + 300 : ref.offset + ref.length] = bytes(ref.length - 300)
            path.write_bytes(content)

    @pytest.mark.parametrize("how", ["marked", "gone", "cut", "zeros"])
    def test_bytes_that_were_lost_are_there_when_they_come_again(self, intake, blobs, places, database, how, caplog):
        intake.store([an_instance(1)])
        self.damaged(blobs, places.of(["1.2.3.1.1.1"])["1.2.3.1.1.1"].ref, how)
        assert outcomes(intake.store([an_instance(1), an_instance(1)])) == [Outcome.NEW, Outcome.SAME]
        assert data_set_of(blobs, places.of(["1.2.3.1.1.1"])["1.2.3.1.1.1"].ref) == an_instance(1).head
        assert "lost or damaged" in caplog.text
        assert_agree(blobs, places, database)

    def test_lost_bytes_that_contradict_when_they_come_again_wait_for_a_person(
        self, intake, blobs, places, database, monkeypatch
    ):
        intake.store([an_instance(1), an_instance(2)])
        lost = places.of(["1.2.3.1.1.1"])["1.2.3.1.1.1"].ref
        blobs.delete([lost])
        with monkeypatch.context() as patch:
            patch.setattr(index_module, "contradiction", lambda *_: "another name")
            assert outcomes(intake.store([an_instance(1)])) == [Outcome.PATIENT_CONFLICT]
        (waiting,) = Quarantine(database).items()
        assert data_set_of(blobs, waiting.ref) == an_instance(1).head
        assert places.of(["1.2.3.1.1.1"])["1.2.3.1.1.1"].ref == lost
        assert_exact(database)

    def read_meanwhile(self, monkeypatch, work):
        """Between what a start knows and what it adds, another process does some work."""
        real = Index.add

        def add(index, records, **options):
            with monkeypatch.context() as patch:
                patch.setattr(Index, "add", real)
                work()
            return real(index, records, **options)

        monkeypatch.setattr(Index, "add", add)

    @pytest.mark.parametrize("keywords", [{}, {"Rows": 7}], ids=["index", "quarantine"])
    def test_two_that_read_the_log_at_once_keep_what_they_read(
        self, intake, blobs, places, database, monkeypatch, keywords
    ):
        if keywords:
            intake.store([an_instance(1)])
        blob = an_instance(1, **keywords).blob
        blob.sha256 = hashlib.sha256(blob.content[0]).digest()
        blobs.put([blob])
        with monkeypatch.context() as patch:
            other = Intake(blobs, Index(database), Quarantine(database))
            self.read_meanwhile(patch, lambda: other.recover(recent=False))
            assert intake.recover(recent=False) == 1
        assert_agree(blobs, places, database)
        assert len(places.of(["1.2.3.1.1.1"])) == 1
        assert len(Quarantine(database).items()) == len(keywords)

    def test_one_that_is_deleted_while_it_comes_again_is_new(self, intake, blobs, places, database, monkeypatch):
        intake.store([an_instance(1)])
        real = Index.add

        def add(index, records, **options):
            added = real(index, records, **options)
            monkeypatch.setattr(Index, "add", real)
            with database.write() as connection:
                gone = remove_instances(connection, ["1.2.3.1.1.1"])
            blobs.delete(gone)
            return added

        monkeypatch.setattr(Index, "add", add)
        assert outcomes(intake.store([an_instance(1)])) == [Outcome.NEW]
        assert_agree(blobs, places, database)
        assert len(places.of(["1.2.3.1.1.1"])) == 1

    def test_what_is_deleted_while_a_start_reads_is_not_indexed(self, intake, blobs, places, database):
        intake.store([an_instance(1), an_instance(2)])
        found = list(blobs.scan())
        with database.write() as connection:
            gone = remove_instances(connection, ["1.2.3.1.1.1"])
        blobs.delete(gone)
        assert intake.absorb(found) == 0
        assert_agree(blobs, places, database)


class TestPlaces:
    @pytest.fixture(autouse=True)
    def stored(self, intake):
        intake.store([an_instance(number) for number in (3, 1, 2)])
        other = {"SeriesInstanceUID": "1.2.3.2", "SOPInstanceUID": "1.2.3.2.1"}
        intake.store([an_instance(9, command_uid="1.2.3.2.1", **other)])

    def uids(self, places, **keys):
        return [place.uid for place in places.retrieved(**keys)]

    def test_a_retrieve_names_a_level_and_those_above(self, places):
        series = ["1.2.3.1.1.1", "1.2.3.1.1.2", "1.2.3.1.1.3"]
        assert self.uids(places, studies=["1.2.3"]) == [*series, "1.2.3.2.1"]
        assert self.uids(places, studies=["1.2.3"], series=["1.2.3.1"]) == series
        assert self.uids(places, instances=["1.2.3.2.1", "1.2.3.1.1.2", "9"]) == ["1.2.3.1.1.2", "1.2.3.2.1"]
        assert len(self.uids(places, patient=("P1", None))) == 4
        assert self.uids(places, patient=("P1", "elsewhere")) == []
        assert self.uids(places, patient=("P2", None), studies=["1.2.3"]) == []
        assert self.uids(places) == []

    def test_instances_move(self, places, blobs, database):
        (page,) = places.pages(places.of(["1.2.3.1.1.1"])["1.2.3.1.1.1"].key)
        moves = [(place, blobs.put([an_instance(1).blob])[0]) for place in page[:2]]
        assert places.move(moves) == []
        assert places.of([page[0].uid])[page[0].uid].ref == moves[0][1]
        assert places.move(moves) == page[:2]
        assert_exact(database)

    def test_what_is_removed_takes_what_is_empty_along(self, places, blobs, database):
        with database.write() as connection:
            gone = remove_instances(connection, ["1.2.3.1.1.1", "1.2.3.2.1", "9.9"])
        assert len(gone) == 2
        blobs.delete(gone)
        assert_agree(blobs, places, database)
        with database.write() as connection:
            blobs.delete(remove_instances(connection, ["1.2.3.1.1.2", "1.2.3.1.1.3"]))
        assert_agree(blobs, places, database)
        assert list(places.pages()) == []


class TestSources:
    def test_an_instance_is_sent_as_it_is_stored(self, intake, blobs, places):
        incoming = an_instance(1)
        intake.store([an_instance(0), incoming])
        with BlobSource(blobs, places.of(["1.2.3.1.1.1"])["1.2.3.1.1.1"]) as source:
            assert (source.sop_class_uid, source.sop_instance_uid, source.transfer_syntax_uid) == (
                CT, "1.2.3.1.1.1", LITTLE
            )  # fmt: skip
            assert source.size == len(incoming.head)
            assert b"".join(bytes(chunk) for chunk in source.chunks(64)) == incoming.head
            assert b"".join(bytes(chunk) for chunk in source.chunks(1 << 30)) == incoming.head

    def test_one_that_is_gone_says_so(self, intake, blobs, places):
        intake.store([an_instance(1)])
        place = places.of(["1.2.3.1.1.1"])["1.2.3.1.1.1"]
        blobs.remove_segment(place.key)
        from dicomnet.errors import InputFileError

        with pytest.raises(InputFileError, match="cannot be read"):
            _ = BlobSource(blobs, place).size


class TestTrouble:
    def test_bytes_that_cannot_be_deleted_stay_and_are_told_of(self, intake, blobs, places, monkeypatch, caplog):
        def fails(refs):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(blobs, "delete", fails)
        assert outcomes(intake.store([an_instance(1), an_instance(1)])) == [Outcome.NEW, Outcome.SAME]
        assert "bytes that are not needed stay, until `dicomnet archive fsck`: Input/output error" in caplog.text
        assert list(places.of(["1.2.3.1.1.1"])) == ["1.2.3.1.1.1"]

    def test_one_that_the_index_refuses_spoils_no_other(self, intake, blobs, places, database, monkeypatch, caplog):
        real = Index.add

        def refuses(index, records, **options):
            if any(one.uid == "1.2.3.1.1.2" for one in records):
                raise IntegrityError("", {}, Exception("a value that it cannot have"))
            return real(index, records, **options)

        monkeypatch.setattr(Index, "add", refuses)
        results = intake.store([an_instance(number) for number in (1, 2, 3)])
        assert outcomes(results) == [Outcome.NEW, IntegrityError, Outcome.NEW]
        assert "an instance cannot be indexed: Exception" in caplog.text
        assert sorted(places.of(f"1.2.3.1.1.{number}" for number in (1, 2, 3))) == ["1.2.3.1.1.1", "1.2.3.1.1.3"]

    def test_what_cannot_be_understood_is_not_indexed_and_hinders_no_other(self, intake, blobs, places, caplog):
        group = [one.blob for one in (an_instance(1), an_instance(2, StudyInstanceUID=None), an_instance(3))]
        for one in group:
            one.hash()
        blobs.put(group)
        assert intake.recover(recent=False) == 2
        assert "1.2.3.1.1.2 is not indexed: " in caplog.text
        assert sorted(places.of(f"1.2.3.1.1.{number}" for number in (1, 2, 3))) == ["1.2.3.1.1.1", "1.2.3.1.1.3"]

    def test_an_instance_that_cannot_be_read_is_no_whole_one(self, intake, blobs, places, monkeypatch):
        """It comes again, and is kept: what is there may be damaged."""
        intake.store([an_instance(1)])
        first = places.of(["1.2.3.1.1.1"])["1.2.3.1.1.1"].ref
        real, failed = blobs.open, []

        def fails(ref, **options):
            if ref == first:
                failed.append(ref)
                raise OSError(5, "Input/output error")
            return real(ref, **options)

        monkeypatch.setattr(blobs, "open", fails)
        intake.store([an_instance(1)])
        assert failed
        again = places.of(["1.2.3.1.1.1"])["1.2.3.1.1.1"].ref
        assert again != first
        assert data_set_of(blobs, again) == an_instance(1).head


class TestReading:
    @pytest.fixture
    def place(self, intake, places):
        intake.store([an_instance(1)])
        return places.of(["1.2.3.1.1.1"])["1.2.3.1.1.1"]

    def test_a_disk_that_fails_is_said_by_name(self, blobs, place, monkeypatch):
        with BlobSource(blobs, place) as source:
            assert source.size == len(an_instance(1).head)

            def fails(*_):
                raise OSError(5, "Input/output error")

            monkeypatch.setattr(os, "pread", fails)
            monkeypatch.setattr(os, "preadv", fails)
            with pytest.raises(InputFileError, match="the stored instance cannot be read: Input/output"):
                list(source.chunks(1))

    def test_a_blob_that_is_shorter_than_it_was(self, blobs, place):
        longer = dataclasses.replace(place, size=place.size + 1000)
        blobs._log._segment.abandon()
        with BlobSource(blobs, longer) as source, pytest.raises(InputFileError, match="is shorter than it was"):
            list(source.chunks(1))

    def test_an_odd_one_is_filled_up(self, blobs):
        """PS3.5 Section 7.1.1: a data set has an even length."""
        odd = an_instance(1)
        data = odd.head + b"\0"
        blob = NewBlob(CT, "1.2.3.1.1.1", LITTLE, odd.blob.header, [data], b"", len(data))
        [ref] = blobs.put([blob])
        place = Place(1, "1.2.3.1.1.1", CT, LITTLE, "", ref.key, ref.offset, ref.length, b"")
        with BlobSource(blobs, place) as source:
            assert source.size == len(data) + 1
            assert b"".join(bytes(piece) for piece in source.chunks(1)) == data + b"\0"

    @pytest.mark.parametrize("length", [100, 5_000, 70_000])
    def test_file_meta_information_of_any_length(self, blobs, length):
        private = b"\2\0\2\1OB\0\0" + length.to_bytes(4, "little") + bytes(length)
        meta = bytearray(meta_header(CT, "1.2.3.1.1.1", LITTLE, "SENDER")) + private
        meta[140:144] = (len(meta) - 144).to_bytes(4, "little")
        data = an_instance(1).head
        [ref] = blobs.put([NewBlob(CT, "1.2.3.1.1.1", LITTLE, bytes(meta), [data], b"", len(data))])
        with closing(blobs.open(ref)) as reader:
            assert header_length(reader) == len(meta)
        assert data_set_of(blobs, ref) == data

    def test_what_is_no_part_10_stream(self, blobs):
        [ref] = blobs.put([NewBlob(CT, "1.2.3.1.1.1", LITTLE, b"", [bytes(300)], b"", 300)])
        with closing(blobs.open(ref)) as reader, pytest.raises(InputFileError):
            header_length(reader)
