"""Lanes: what is written to a segment as it arrives is a record, or nothing, whatever happens meanwhile."""

import errno
import os
import random
import threading

import pytest
from test_segments import CT, LITTLE, a_blob, read, stream_of

from dicomnet.repository import lanes as lanes_module
from dicomnet.repository import segment_log
from dicomnet.repository.blob_store import NewBlob
from dicomnet.repository.record import encode
from dicomnet.repository.segments import SegmentStore


@pytest.fixture
def store(tmp_path):
    with_end = SegmentStore(tmp_path / "blobs", segment_bytes=20_000)
    with_end._lanes.add()
    yield with_end
    with_end.close()


def begun(store, number, size=100):
    """A blob that has arrived, but for its end; and its writer."""
    blob = a_blob(number, size)
    writer = store.lane((CT, blob.sop_instance_uid, LITTLE), blob.header)
    writer.write(blob.content)
    return blob, writer


def arrived(store, number, size=100):
    blob, writer = begun(store, number, size)
    writer.complete(blob.sha256)
    return blob, NewBlob(CT, blob.sop_instance_uid, LITTLE, blob.header, writer, blob.sha256, size)


def active(store):
    return sorted(path.name for path in (store.root / "active").iterdir())


class TestRecords:
    def test_what_has_arrived_is_there_bit_for_bit(self, store):
        blobs, new = zip(*(arrived(store, n, size) for n, size in enumerate([0, 1, 7, 8, 9, 5000])), strict=True)
        refs = store.put([*new, a_blob(9)])
        assert [read(store, ref) for ref in refs] == [stream_of(blob) for blob in (*blobs, a_blob(9))]
        assert len({ref.key for ref in refs}) == 2
        assert {one.ref for one in store.scan()} == set(refs)

    def test_one_at_a_time_has_a_lane_and_one_more_is_made_for_those_to_come(self, store):
        _, first = begun(store, 1)
        assert store.lane((CT, "1.2.3.2", LITTLE), b"") is None
        store._pool.shutdown()  # it is made by then
        second = store.lane((CT, "1.2.3.2", LITTLE), b"")
        assert second.lane is not first.lane
        for writer in (first, second):
            writer.discard()

    def test_there_are_only_so_many(self, store, monkeypatch):
        monkeypatch.setattr(lanes_module, "MOST_LANES", 1)
        _, writer = begun(store, 1)
        assert store.lane((CT, "1.2.3.2", LITTLE), b"") is None
        assert not store._lanes._in_the_making
        writer.discard()

    def test_what_is_discarded_leaves_nothing_wherever_it_was(self, store):
        _, kept = arrived(store, 1)
        _, writer = begun(store, 2)
        size = writer.lane.size
        writer.discard()
        writer.discard()
        assert writer.lane.size < size
        _, late = arrived(store, 3)
        late.content.discard()
        late.content.discard()
        assert [one.ref for one in store.scan()] == store.put([kept])

    def test_what_was_written_can_be_read_before_it_is_complete(self, store):
        blob, writer = begun(store, 1, 500)
        assert writer.read(3, 100) == b"".join(blob.content)[3:103]
        writer.discard()


class TestAfterACrash:
    @pytest.mark.parametrize("seed", range(5))
    def test_what_was_half_written_is_cut_off(self, store, seed):
        _, kept = arrived(store, 1, 3000)
        refs = store.put([kept])
        blob = a_blob(2, 4000)
        writer = store.lane((CT, blob.sop_instance_uid, LITTLE), blob.header)
        writer.write([b"".join(blob.content)[: random.Random(seed).randrange(4000)]])
        writer.lane.abandon()
        again = SegmentStore(store.root)
        assert [one.ref for one in again.scan(recent=True)] == refs
        assert os.stat(store.root / refs[0].key).st_size == -(-(refs[0].offset + refs[0].length) // 8) * 8
        again.close()
        writer._holds = False  # its process is dead

    def made_up(self, store):
        """An instance that has begun to come, and that holds what looks like records: of an instance, and of a file."""
        small = a_blob(8)
        one = encode((CT, "1.2.3.8", LITTLE), small.header, small.size, small.sha256) + stream_of(small)
        hidden = "0123456789abcdef01234567.part"
        (store.root / "incoming" / hidden).write_bytes(b"of another peer")
        other = encode((CT, "1.2.3.9", LITTLE), b"", 15, bytes(32), "files/a.dcm", hidden)
        header = bytes(128)
        writer = store.lane((CT, "1.2.3.7", LITTLE), header)
        writer.write([one, bytes(-len(one) % 8), other, bytes(1000)])
        return writer

    def test_what_looks_like_records_in_what_was_half_written_is_none(self, store):
        _, kept = arrived(store, 1, 3000)
        refs = store.put([kept])
        writer = self.made_up(store)
        writer.lane.abandon()
        again = SegmentStore(store.root)
        assert [one.ref for one in again.scan(recent=True)] == [one.ref for one in again.scan()] == refs
        assert not (store.root / "files").exists()
        again.close()
        writer._holds = False  # its process is dead

    def test_nor_is_it_while_it_comes(self, store):
        _, kept = arrived(store, 1, 3000)
        refs = store.put([kept])
        writer = self.made_up(store)
        other = SegmentStore(store.root)
        assert [one.ref for one in other.scan()] == refs
        other.close()
        writer.discard()


class TestLives:
    def test_a_full_one_is_sealed_once_all_of_it_is_put(self, store):
        (_, first), (_, second) = arrived(store, 1, 9000), arrived(store, 2, 12_000)
        assert store.lane((CT, "1.2.3.9", LITTLE), b"") is None
        store.put([second])
        assert not store.due
        store.put([first])
        assert store.due
        store.settle()
        assert "000001" not in active(store)

    def test_closing_seals_them(self, store):
        _, new = arrived(store, 1)
        store.put([new, a_blob(2)])
        assert active(store) == ["000001", "000002"]
        store.close()
        assert active(store) == []


class TestFaults:
    def test_a_full_disk_leaves_nothing_of_it(self, store, monkeypatch):
        real = segment_log.write_all

        def full(fd, buffers):
            real(fd, [memoryview(one)[:10] for one in buffers])
            raise OSError(errno.ENOSPC, "full")

        _, kept = arrived(store, 1)
        refs = store.put([kept])
        _, writer = begun(store, 2, 500)
        monkeypatch.setattr(segment_log, "write_all", full)
        with pytest.raises(OSError, match="full"):
            writer.write([bytes(100)])
        monkeypatch.undo()
        assert [one.ref for one in store.scan()] == refs
        _, new = arrived(store, 3)
        assert store.put([new])[0].key == refs[0].key

    def test_after_a_failed_sync_a_lane_is_not_used_again(self, store, monkeypatch):
        _, kept = arrived(store, 1)
        refs = store.put([kept])
        _, new = arrived(store, 2)
        _, later = begun(store, 3)

        def fails(fd):
            raise OSError(errno.EIO, "input/output error")

        monkeypatch.setattr(os, "fdatasync", fails)
        with pytest.raises(OSError, match="input/output"):
            store.put([new])
        monkeypatch.undo()
        with pytest.raises(OSError, match="Input/output"):
            later.write([b"more"])
        assert store.lane((CT, "1.2.3.9", LITTLE), b"") is None
        assert [one.ref for one in store.scan()] == refs
        assert "000001" in active(store)

    def test_what_waited_beside_a_failed_sync_is_not_confirmed_by_the_next(self, store, monkeypatch):
        """The system answers the second try as if all were well, whatever it has dropped."""
        (_, first), (_, second) = arrived(store, 1), arrived(store, 2)
        assert first.content.lane is second.content.lane

        def fails(fd):
            raise OSError(errno.EIO, "input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fails)
            with pytest.raises(OSError, match="input/output"):
                store.put([first])
        with pytest.raises(OSError, match="Input/output"):
            store.put([second])
        assert list(store.scan()) == []

    @pytest.mark.parametrize("written", [0, 10])
    def test_a_record_that_cannot_be_made_of_it_leaves_nothing(self, store, monkeypatch, written):
        _, kept = arrived(store, 1)
        refs = store.put([kept])
        blob, writer = begun(store, 2, 500)
        real = os.pwrite
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", lambda fd, data, position: real(fd, data[:written], position))
            with pytest.raises(OSError, match="Input/output"):
                writer.complete(blob.sha256)
        assert [one.ref for one in store.scan()] == refs
        _, new = arrived(store, 3)
        assert store.put([new])[0].key == refs[0].key
        assert len(list(store.scan())) == 2

    def test_where_no_lane_can_be_made_instances_go_the_other_way_until_one_can(self, store, monkeypatch, caplog):
        made, real = threading.Semaphore(0), store._lanes._make
        monkeypatch.setattr(store._lanes, "_make", lambda: (real(), made.release()))
        _, first = begun(store, 1)

        def full():
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(store._lanes, "add", full)
            assert store.lane((CT, "1.2.3.2", LITTLE), b"") is None
            assert made.acquire(timeout=30)
        assert "no segment can be made: No space left on device" in caplog.text
        assert store.lane((CT, "1.2.3.2", LITTLE), b"") is None  # it is tried again
        assert made.acquire(timeout=30)
        second = store.lane((CT, "1.2.3.2", LITTLE), b"")
        assert second.lane is not first.lane
        for writer in (first, second):
            writer.discard()
