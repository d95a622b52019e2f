"""Blobs in segments and in files: what is put is there, whatever happens to the process or the disk."""

import errno
import hashlib
import os
import random
import subprocess
import sys

import pytest

from dicomnet.errors import InvalidArgument
from dicomnet.files.part10 import meta_header
from dicomnet.repository import segment_log
from dicomnet.repository.blob_store import BlobRef, NewBlob
from dicomnet.repository.record import MAGIC, encode, is_intact, parse
from dicomnet.repository.segment_log import mark_dead, read_segment
from dicomnet.repository.segments import SegmentStore
from dicomnet.repository.single_files import FileTemplate

CT, LITTLE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


def a_blob(number, size=100, **names):
    data = random.Random(number).randbytes(size)
    uid = f"1.2.3.{number}"
    header = meta_header(CT, uid, LITTLE, "SENDER")
    return NewBlob(CT, uid, LITTLE, header, [data[:7], data[7:]], hashlib.sha256(data).digest(), size, names)


def stream_of(blob):
    return blob.header + b"".join(blob.content)


def read(store, ref):
    reader = store.open(ref)
    buffer = bytearray(ref.length + 10)
    length = reader.read_into(0, memoryview(buffer))
    reader.close()
    return bytes(buffer[:length])


def put_large(store, number, size=3000, **names):
    blob = a_blob(number, size, **names)
    writer = store.writer(blob.header)
    writer.write(blob.content)
    store.finish(writer).result()
    large = NewBlob(CT, blob.sop_instance_uid, LITTLE, blob.header, writer, blob.sha256, size, names)
    return blob, store.put([large])[0]


def end_of(ref):
    """Where the record of an inline blob ends; behind it there is room that the segment keeps for more."""
    return -(-(ref.offset + ref.length) // 8) * 8


@pytest.fixture
def store(tmp_path):
    with_end = SegmentStore(tmp_path / "blobs", segment_bytes=20_000)
    yield with_end
    with_end.close()


class TestPutting:
    def test_a_group_is_there_bit_for_bit(self, store):
        blobs = [a_blob(n, size) for n, size in enumerate([0, 1, 7, 8, 9, 4096, 100_001])]
        refs = store.put(blobs)
        assert [read(store, ref) for ref in refs] == [stream_of(blob) for blob in blobs]

    def test_a_part_of_a_blob_can_be_read(self, store):
        blob = a_blob(1, 5000)
        ref = store.put([a_blob(0), blob])[1]
        reader = store.open(ref)
        buffer = bytearray(10)
        assert reader.read_into(2000, memoryview(buffer)) == 10
        assert bytes(buffer) == stream_of(blob)[2000:2010]
        assert reader.read_into(ref.length - 3, memoryview(buffer)) == 3
        assert reader.read_into(ref.length, memoryview(buffer)) == 0

    def test_a_large_blob_is_a_file_of_its_own(self, store):
        blob, ref = put_large(store, 5)
        assert ref.key.startswith("large/")
        assert (store.root / ref.key).read_bytes() == stream_of(blob)
        assert not list((store.root / "incoming").iterdir())

    def test_segments_are_rolled_and_sealed(self, store):
        refs = [store.put([a_blob(n, 9000)])[0] for n in range(6)]
        assert len({ref.key for ref in refs}) == 2
        assert store.due
        store.settle()
        assert not store.due
        assert [path.name for path in (store.root / "active").iterdir()] == ["000002"]

    def test_a_writer_that_is_discarded_leaves_nothing(self, store):
        writer = store.writer(b"header")
        writer.write([b"data"])
        writer.discard()
        writer.discard()
        assert not list((store.root / "incoming").iterdir())

    def test_two_stores_in_one_directory_have_segments_of_their_own(self, store):
        other = SegmentStore(store.root)
        refs = [one.put([a_blob(n)])[0] for n, one in enumerate([store, other, store])]
        assert len({ref.key for ref in refs}) == 2
        assert [read(store, ref) for ref in refs] == [stream_of(a_blob(n)) for n in range(3)]
        other.close()


class TestScanning:
    def test_the_store_describes_itself(self, store):
        small = a_blob(1)
        refs = store.put([small])
        large, ref = put_large(store, 2)
        found = list(store.scan())
        assert [one.ref for one in found] == [*refs, ref]
        assert [one.sop_instance_uid for one in found] == ["1.2.3.1", "1.2.3.2"]
        assert [one.sha256 for one in found] == [small.sha256, large.sha256]
        assert found[0].header_length == len(small.header)

    def test_what_is_deleted_is_not_there(self, store):
        refs = store.put([a_blob(n) for n in range(3)])
        _, large = put_large(store, 9)
        store.delete([refs[1], large, BlobRef("segments/009999.seg", 0, 1), BlobRef("large/00/x.dcm", 0, 1)])
        assert [one.ref for one in store.scan()] == [refs[0], refs[2]]
        assert store.stats().dead_bytes == refs[1].length

    def test_a_torn_deletion_mark_is_none(self, store):
        refs = store.put([a_blob(n) for n in range(3)])
        store.delete([refs[0]])
        marks = store.root / refs[0].key.replace(".seg", ".dead")
        marks.write_bytes(marks.read_bytes() + b"torn")
        assert len(list(store.scan())) == 2
        store.delete([refs[1]])
        assert [one.ref for one in store.scan()] == [refs[2]]

    def test_damage_costs_the_records_that_it_meets(self, store):
        refs = store.put([a_blob(n, 200) for n in range(5)])
        path = store.root / refs[0].key
        content = bytearray(path.read_bytes())
        content[refs[2].offset - 40] ^= 1
        path.write_bytes(content)
        assert [one.ref for one in store.scan()] == [ref for n, ref in enumerate(refs) if n != 2]

    def test_a_data_set_that_looks_like_records_is_none(self, store):
        inner = a_blob(1)
        ref = store.put([inner])[0]
        data = (store.root / ref.key).read_bytes()
        outer = NewBlob(CT, "1.2.9", LITTLE, inner.header, [data], hashlib.sha256(data).digest(), len(data))
        refs = store.put([outer, a_blob(3)])
        assert [one.ref for one in store.scan()] == [ref, *refs]


class TestAfterACrash:
    def abandon(self, store):
        """As a killed process leaves it: nothing sealed, no lock held."""
        store._log._segment.abandon()
        store._log._segment = None

    def test_what_came_last_is_recent(self, store):
        refs = store.put([a_blob(1), a_blob(2)])
        self.abandon(store)
        again = SegmentStore(store.root)
        assert [one.ref for one in again.scan(recent=True)] == refs
        again.settle()
        again.close()
        assert not list(SegmentStore(store.root).scan(recent=True))

    def test_a_torn_tail_is_cut_wherever_it_is_torn(self, tmp_path):
        whole = SegmentStore(tmp_path / "whole")
        refs = whole.put([a_blob(1, 50), a_blob(2, 30)])
        content = (whole.root / refs[0].key).read_bytes()[: end_of(refs[1]) - 1]
        first = end_of(refs[0])
        for cut in range(0, len(content), 7):
            root = tmp_path / f"cut{cut}"
            for folder in ("segments", "active"):
                (root / folder).mkdir(parents=True)
            (root / "active/000001").touch()
            path = root / "segments/000001.seg"
            path.write_bytes(content[:cut])
            torn = SegmentStore(root)
            assert path.stat().st_size == (first if cut >= first else 0)
            assert len(list(torn.scan(recent=True))) == (cut >= first)
            torn.close()
        whole.close()

    def test_a_tail_of_zeros_is_cut(self, store):
        """Room for more, or what a file system has grown the file by and not written."""
        ref = store.put([a_blob(1)])[0]
        self.abandon(store)
        os.truncate(store.root / ref.key, (store.root / ref.key).stat().st_size + 5000)
        again = SegmentStore(store.root)
        assert (store.root / ref.key).stat().st_size == end_of(ref)
        again.close()

    def test_damage_before_the_tail_takes_nothing_with_it(self, store):
        refs = store.put([a_blob(n) for n in range(3)])
        self.abandon(store)
        path = store.root / refs[0].key
        content = bytearray(path.read_bytes())
        content[refs[1].offset + 200] ^= 1
        path.write_bytes(content)
        again = SegmentStore(store.root)
        assert path.read_bytes() == content[: end_of(refs[-1])]
        again.close()

    def test_a_record_that_is_torn_in_the_middle_of_a_group_is_passed_over(self, store):
        """A loss of power: the page of its header was written, those of its data, with what looks like records, not."""
        inner = a_blob(7)
        record = encode((CT, "1.2.3.7", LITTLE), inner.header, inner.size, inner.sha256) + stream_of(inner)
        data = bytes(-len(inner.header) % 8) + bytes(8000) + record + bytes(4096)
        outer = NewBlob(CT, "1.2.9", LITTLE, inner.header, [data], hashlib.sha256(data).digest(), len(data))
        refs = store.put([a_blob(1), outer, a_blob(3)])
        self.abandon(store)
        path = store.root / refs[1].key
        content = bytearray(path.read_bytes())
        content[refs[1].offset + 4096 : refs[1].offset + 5000] = bytes(904)
        content[refs[1].offset + 1000] ^= 1
        path.write_bytes(content)
        again = SegmentStore(store.root)
        assert [one.ref for one in again.scan(recent=True)] == [refs[0], refs[2]]
        again.close()

    def test_a_record_that_was_searched_for_takes_nothing_with_it(self, store):
        """It may be one that a peer made up: where it says that it ends is not believed."""
        inner = a_blob(7, 0)
        made_up = encode((CT, "1.2.3.7", LITTLE), inner.header, 8000, bytes(32)) + inner.header
        data = bytes(-len(inner.header) % 8) + made_up + bytes(800)
        outer = NewBlob(CT, "1.2.9", LITTLE, inner.header, [data], hashlib.sha256(data).digest(), len(data))
        refs = store.put([outer, a_blob(3), a_blob(4, 9000)])
        self.abandon(store)
        path = store.root / refs[0].key
        content = bytearray(path.read_bytes())
        content[refs[0].offset + 140] ^= 1
        path.write_bytes(content)
        again = SegmentStore(store.root)
        assert [one.ref for one in again.scan(recent=True)] == refs[1:]
        again.close()

    @pytest.mark.parametrize(
        ("place", "hidden"),
        [
            ("../elsewhere", "0123456789abcdef01234567.part"),
            ("files/../../elsewhere", "0123456789abcdef01234567.part"),
            ("/elsewhere", "0123456789abcdef01234567.part"),
            ("segments/000009.seg", "0123456789abcdef01234567.part"),
            ("files", "0123456789abcdef01234567.part"),
            ("files/a.dcm", "../segments/000001.seg"),
            ("files/a.dcm", "../../elsewhere"),
        ],
    )
    def test_a_record_renames_nothing_but_what_a_writer_left(self, store, place, hidden):
        (store.root.parent / "elsewhere").write_bytes(b"12345678")
        (store.root / "incoming" / "0123456789abcdef01234567.part").write_bytes(b"12345678")
        store.put([a_blob(1)])
        key, _ = store._log.append([encode((CT, "1.2.3.7", LITTLE), b"", 8, bytes(32), place, hidden)])
        content = (store.root / key).read_bytes()
        self.abandon(store)
        again = SegmentStore(store.root)
        assert [one.sop_instance_uid for one in again.scan(recent=True)] == ["1.2.3.1"]
        assert (store.root.parent / "elsewhere").read_bytes() == b"12345678"
        assert content.startswith((store.root / key).read_bytes())
        assert not (store.root / "files").exists()
        again.close()

    def test_a_file_that_is_recorded_is_renamed(self, store, monkeypatch):
        blob = a_blob(4, 2000)
        writer = store.writer(blob.header)
        writer.write(blob.content)
        monkeypatch.setattr(store._files, "move", lambda parts: None)
        large = NewBlob(CT, blob.sop_instance_uid, LITTLE, blob.header, writer, blob.sha256, 2000)
        ref = store.put([large])[0]
        self.abandon(store)
        writer._close()
        again = SegmentStore(store.root)
        assert read(again, ref) == stream_of(blob)
        assert [one.ref for one in again.scan(recent=True)] == [ref]
        again.close()

    def test_a_file_that_is_not_recorded_is_deleted(self, store):
        writer = store.writer(b"header")
        kept = store.writer(b"another")
        writer._close()
        SegmentStore(store.root).close()
        assert [path.name for path in (store.root / "incoming").iterdir()] == [kept.name]
        kept.discard()

    @pytest.mark.deadline(60)
    @pytest.mark.long
    def test_a_killed_process_loses_nothing_that_it_told(self, tmp_path):
        program = (
            "import sys; sys.path.insert(0, 'tests'); from test_segments import *; from pathlib import Path\n"
            "store = SegmentStore(Path(sys.argv[1]), segment_bytes=30_000)\n"
            "for n in range(100000):\n"
            "    refs = store.put([a_blob(2*n, 100+n), a_blob(2*n+1)]); put_large(store, 500000+n)\n"
            "    print(n, flush=True)\n"
        )
        for kill in range(5):
            root = tmp_path / str(kill)
            process = subprocess.Popen([sys.executable, "-c", program, str(root)], stdout=subprocess.PIPE, text=True)
            told = 0
            for line in process.stdout:
                told = int(line)
                if told >= 7 + kill:
                    break
            process.kill()
            told = max([told, *(int(line) for line in process.stdout.read().split())])
            process.wait()
            store = SegmentStore(root)
            found = {one.sop_instance_uid: one for one in store.scan()}
            for n in range(told + 1):
                for blob in (a_blob(2 * n, 100 + n), a_blob(2 * n + 1), a_blob(500000 + n, 3000)):
                    assert read(store, found[blob.sop_instance_uid].ref) == stream_of(blob)
            assert not list((root / "incoming").iterdir())
            store.close()


class TestFailures:
    def test_a_full_disk_leaves_nothing_of_the_group(self, store, monkeypatch):
        refs = store.put([a_blob(1)])
        real = segment_log.write_all

        def full(fd, buffers):
            real(fd, buffers[:3])
            raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr(segment_log, "write_all", full)
        with pytest.raises(OSError, match="full"):
            store.put([a_blob(2), a_blob(3)])
        assert (store.root / refs[0].key).stat().st_size == end_of(refs[0])
        monkeypatch.undo()
        more = store.put([a_blob(4)])
        assert more[0].key == refs[0].key
        assert [one.ref for one in store.scan()] == refs + more

    def test_after_a_failed_sync_the_segment_is_not_used_again(self, store, monkeypatch):
        first = store.put([a_blob(1)])[0]

        def fails(fd):
            raise OSError(errno.EIO, "input/output error")

        monkeypatch.setattr(os, "fdatasync", fails)
        with pytest.raises(OSError, match="input/output"):
            store.put([a_blob(2)])
        monkeypatch.undo()
        second = store.put([a_blob(3)])[0]
        assert second.key != first.key
        assert [one.ref for one in store.scan()] == [first, second]
        assert len(list((store.root / "active").iterdir())) == 2

    def test_a_file_whose_sync_fails_is_gone(self, store, monkeypatch):
        writer = store.writer(b"header")

        def fails(fd):
            raise OSError(errno.EIO, "input/output error")

        monkeypatch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="input/output"):
            store.finish(writer).result()
        assert not list((store.root / "incoming").iterdir())

    def test_where_a_file_cannot_be_named_the_group_is_gone(self, store, monkeypatch):
        blob = a_blob(4, 2000)
        writer = store.writer(blob.header)
        writer.write(blob.content)
        large = NewBlob(CT, blob.sop_instance_uid, LITTLE, blob.header, writer, blob.sha256, 2000)

        def fails(parts):
            raise OSError(errno.EIO, "input/output error")

        monkeypatch.setattr(store._files, "move", fails)
        with pytest.raises(OSError, match="input/output"):
            store.put([a_blob(1), large])
        assert not list(store.scan())
        assert not list((store.root / "incoming").iterdir())


class TestPlainFiles:
    @pytest.fixture
    def files(self, tmp_path):
        template = FileTemplate("{PatientID}/{StudyInstanceUID}/{SOPInstanceUID}.dcm")
        store = SegmentStore(tmp_path / "plain", template=template)
        yield store
        store.close()

    def test_each_is_where_the_template_says(self, files):
        blobs = [a_blob(1, PatientID="P 1/..", StudyInstanceUID="1.2"), a_blob(2, StudyInstanceUID="../../etc")]
        refs = files.put(blobs)
        assert [ref.key for ref in refs] == ["files/P_1_/1.2/1.2.3.1.dcm", "files/none/_.._etc/1.2.3.2.dcm"]
        assert [read(files, ref) for ref in refs] == [stream_of(blob) for blob in blobs]
        assert [one.ref for one in files.scan()] == refs

    def test_one_name_twice_is_two_files(self, files):
        first = files.put([a_blob(1), a_blob(1, 50)])
        second = files.put([a_blob(1, 60)])
        assert len({ref.key for ref in first + second}) == 3
        assert all(ref.key.startswith("files/none/none/1.2.3.1") for ref in first + second)

    def test_a_deleted_file_takes_empty_directories_along(self, files):
        refs = files.put([a_blob(1, PatientID="A"), a_blob(2, PatientID="A", StudyInstanceUID="1.2")])
        files.delete(refs[:1])
        assert not (files.root / "files/A/none").exists()
        assert [one.ref for one in files.scan()] == refs[1:]

    @pytest.mark.parametrize(
        "text", ["/x/{SOPInstanceUID}", "../{SOPInstanceUID}", "{PatientID}", "{SOPInstanceUID}/x", ""]
    )
    def test_a_template_that_leads_astray_is_refused(self, text):
        with pytest.raises(InvalidArgument, match="no template"):
            FileTemplate(text)


def test_compaction_wants_segments_that_are_half_dead(store):
    refs = [store.put([a_blob(n, 7000)])[0] for n in range(7)]
    store.settle()
    assert store.half_dead() == []
    store.delete(refs[:2])
    assert store.half_dead() == ["segments/000001.seg"]
    store.remove_segment(refs[0].key)
    assert len(list(store.scan())) == 4


def test_the_number_of_a_segment_is_not_given_again(store):
    refs = [store.put([a_blob(n, 7000)])[0] for n in range(7)]
    store.close()
    again = SegmentStore(store.root)
    again.delete(refs)
    for key in again.half_dead():
        again.remove_segment(key)
    assert [path.name for path in again._log.paths()] == ["000003.seg"]
    assert again.put([a_blob(9)])[0].key == "segments/000004.seg"
    assert again.half_dead() == ["segments/000003.seg"]
    again.close()


def test_marks_of_a_segment_that_is_gone_are_not_kept(store):
    first, second = (store.put([a_blob(n, 30_000)])[0] for n in range(2))
    path = store.root / first.key
    store.remove_segment(first.key)
    mark_dead(path, {first.offset: first.length}, durable=True)
    assert not path.with_suffix(".dead").exists()
    stale = store.root / "segments/000003.dead"
    mark_dead(store.root / second.key, {second.offset: second.length}, durable=True)
    (store.root / second.key).with_suffix(".dead").rename(stale)
    third = store.put([a_blob(2)])[0]
    assert third.key == "segments/000003.seg"
    assert not stale.exists()
    assert [one.ref for one in store.scan()] == [second, third]


def test_a_segment_goes_before_its_marks(store, monkeypatch):
    """A crash between the two leaves marks without a segment, not a segment whose deleted records are there again."""
    refs = store.put([a_blob(n, 9000) for n in range(3)])
    store.delete(refs)
    gone = []
    real = type(store.root).unlink
    kind = type(store.root)
    monkeypatch.setattr(kind, "unlink", lambda one, **options: (gone.append(one.suffix), real(one, **options)))
    store.remove_segment(refs[0].key)
    assert gone == [".seg", ".dead"]


def test_a_store_knows_what_it_holds(store):
    first, second = store.put([a_blob(1), a_blob(2)])
    _, large = put_large(store, 3)
    assert all(store.holds(ref) for ref in (first, second, large))
    store.delete([first, large])
    os.truncate(store.root / second.key, second.offset + second.length - 1)
    lost = BlobRef("segments/000009.seg", 0, 1), BlobRef("../x", 0, 1)
    assert not any(store.holds(ref) for ref in (first, second, large, *lost))


def test_a_segment_is_read_while_it_is_cut(store, monkeypatch):
    refs = store.put([a_blob(n, 3000) for n in range(5)])
    path = store.root / refs[0].key
    entries = read_segment(path)
    next(entries)
    os.truncate(path, refs[3].offset)
    assert len(list(entries)) <= 4


def test_room_for_more_is_kept_while_a_segment_grows_and_given_back_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(segment_log, "RESERVED", 1 << 16)
    store = SegmentStore(tmp_path / "blobs")
    refs = [store.put([a_blob(n, 50_000)])[0] for n in range(4)]
    path = store.root / refs[0].key
    assert end_of(refs[-1]) < path.stat().st_size < end_of(refs[-1]) + (1 << 16)
    assert [one.ref for one in store.scan()] == refs
    store.close()
    assert path.stat().st_size == end_of(refs[-1])


def test_where_no_room_can_be_kept_it_does_without(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    store = SegmentStore(tmp_path / "blobs")
    refs = store.put([a_blob(1)])
    assert (store.root / refs[0].key).stat().st_size == end_of(refs[0])
    store.close()


class TestRecords:
    """What stands where a record would be, and is none."""

    HEADER = encode((CT, "1.2.3.1", LITTLE), b"meta", 100, bytes(32))

    def changed(self, place, value):
        header = bytearray(self.HEADER)
        header[place : place + len(value)] = value
        return bytes(header)

    def test_what_is_one(self):
        record = parse(self.HEADER + b"more")
        assert (record.sop_instance_uid, record.length, record.meta_length) == ("1.2.3.1", 104, 4)
        assert is_intact(record, self.HEADER, b"meta")
        assert not is_intact(record, self.HEADER, b"mete")

    @pytest.mark.parametrize("place_and_value", [
        (0, b"DNR2"), (4, b"\3"), (5, b"\1"), (6, b"\0\0"), (6, b"\xff\xff"),
        (16, b"\xff\xff\xff\xff"),  # more file meta information than the record has bytes
    ])  # fmt: skip
    def test_what_is_none(self, place_and_value):
        assert parse(self.changed(*place_and_value)) is None

    def test_names_that_are_none(self):
        names = self.HEADER.index(CT.encode())
        assert parse(self.changed(names, b"\xff\xfe")) is None
        short = encode((CT, "1.2.3.1", LITTLE), b"meta", 100, bytes(32), "x", "y")
        assert parse(short.replace(b"\0", b".")) is None
        assert parse(self.changed(names, b"x" * (len(self.HEADER) - names))) is None
        assert parse(self.HEADER[:50]) is None
        assert parse(b"") is None


class TestRaces:
    def test_a_magic_within_data_is_passed_over(self, store):
        """A record that is damaged is followed by the next aligned one, not by what looks like one."""
        data = MAGIC.join([b"x" * 3, b"y" * 10, b"z" * 40])
        refs = store.put([a_blob(1), a_blob(2), a_blob(3)])
        path = store.root / refs[0].key
        content = bytearray(path.read_bytes())
        second = content.index(MAGIC, 1)
        content[second : second + 4] = b"XXXX"
        content[second + 8 : second + 8 + len(data)] = data
        path.write_bytes(content)
        assert [one.sop_instance_uid for one in store.scan()] == ["1.2.3.1", "1.2.3.3"]

    def test_a_segment_that_is_sealed_meanwhile_is_left_alone(self, tmp_path, monkeypatch):
        """Its process removes its claim between the look at the directory and the look at the claim."""
        first = SegmentStore(tmp_path / "blobs")
        first.put([a_blob(1)])
        real = os.open

        def sealed(path, *arguments, **options):
            if "/active/" in str(path) and first is not None and os.path.exists(path):
                os.unlink(path)
            return real(path, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(segment_log.os, "open", sealed)
            assert segment_log._is_locked(tmp_path / "blobs" / "active" / "000001")
        assert [one.sop_instance_uid for one in first.scan()] == ["1.2.3.1"]
        first.close()

    def test_where_nothing_can_be_taken_back_no_more_is_appended(self, store, monkeypatch, caplog):
        refs = store.put([a_blob(1)])
        real = segment_log.write_all

        def full(fd, buffers):
            real(fd, buffers[:3])
            raise OSError(errno.ENOSPC, "full")

        def fails(*_):
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(segment_log, "write_all", full)
            patch.setattr(os, "ftruncate", fails)
            with pytest.raises(OSError, match="full"):
                store.put([a_blob(2)])
        assert "Input/output error; no more is appended to it" in caplog.text
        more = store.put([a_blob(3)])
        assert more[0].key != refs[0].key
        assert {*refs, *more} <= {one.ref for one in store.scan()}

    def test_compaction_copies_a_few_at_a_time(self, store, monkeypatch):
        monkeypatch.setattr("dicomnet.repository.segments._COPIED", 2000)
        blobs = [a_blob(number, 900) for number in range(8)]
        refs = store.put(blobs)
        moves = store.copy_segment(refs[0].key, set(refs[::2]))
        assert [old for old, _ in moves] == refs[::2]
        assert [read(store, new) for _, new in moves] == [stream_of(blob) for blob in blobs[::2]]
