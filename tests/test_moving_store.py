"""A store that moves, while both of its halves are asked; here from one directory to another."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import archives
import pytest
from archives import an_incoming, part10
from test_segments import CT, LITTLE, a_blob, read, stream_of

from dicomnet.errors import InvalidArgument
from dicomnet.repository import moving
from dicomnet.repository.blob_source import data_set_of
from dicomnet.repository.blob_store import BlobRef, NewBlob, StoreStats
from dicomnet.repository.bucket import StoreUnavailable
from dicomnet.repository.deletion import delete_instances
from dicomnet.repository.moving import move_instances
from dicomnet.repository.moving_store import MovingStore
from dicomnet.repository.segments import SegmentStore


class Bucket(SegmentStore):
    """Any store that answers many questions in the time of one."""

    def __init__(self, root):
        super().__init__(root)
        self.looking = 16


@pytest.fixture
def store(tmp_path):
    """Two directories; the segments of the new one have the numbers from 501 on."""
    (tmp_path / "new" / "segments").mkdir(parents=True)
    (tmp_path / "new" / "segments" / "000500.seg").touch()
    old, new = (SegmentStore(tmp_path / name, durability="os", segment_bytes=20_000) for name in ("old", "new"))
    moving = MovingStore(new, old, lambda key: (tmp_path / "new" / key).exists())
    yield moving
    moving.close()


def test_checks_read_one_segment_at_a_time_until_the_old_store_is_empty(tmp_path):
    old, new = SegmentStore(tmp_path / "old"), Bucket(tmp_path / "new")
    store = MovingStore(new, old, lambda key: False)
    new.put([a_blob(1)])
    assert store.looking == 16
    refs = old.put([a_blob(2)])
    assert store.looking == 1
    old.delete(refs)
    assert store.looking == 16
    store.close()


def uids_of(stored):
    return {one.sop_instance_uid for one in stored}


class TestBoth:
    def test_what_is_put_goes_to_the_new_one_and_what_was_put_stays_readable(self, store):
        before, after = a_blob(1), a_blob(2)
        [there], [here] = store.old.put([before]), store.put([after])
        assert [read(store, there), read(store, here)] == [stream_of(before), stream_of(after)]
        assert (store.holds(there), store.holds(here)) == (True, True)
        assert store.new.holds(here)
        assert uids_of(store.scan()) == {"1.2.3.1", "1.2.3.2"}
        assert uids_of(store.scan_key(there.key)) == {"1.2.3.1"}
        assert [store.size_of(one.key) for one in (there, here)] == [
            store.old.size_of(there.key), store.new.size_of(here.key)
        ]  # fmt: skip
        assert not store.holds(BlobRef(here.key, here.offset + 8, here.length))
        with pytest.raises(FileNotFoundError):
            store.size_of("segments/000400.seg")

    def test_what_arrives_is_written_to_the_new_one(self, store):
        blob, large = a_blob(1), a_blob(2, 5000)
        store.new._lanes.add()
        lane = store.lane((CT, blob.sop_instance_uid, LITTLE), blob.header)
        lane.write(blob.content)
        lane.complete(blob.sha256)
        writer = store.writer(large.header)
        writer.write(large.content)
        writer.complete(large.sha256)
        store.finish(writer).result(30)
        new = [
            NewBlob(CT, one.sop_instance_uid, LITTLE, one.header, content, one.sha256, one.size)
            for one, content in ((blob, lane), (large, writer))
        ]
        refs = store.put(new)
        assert [read(store, ref) for ref in refs] == [stream_of(blob), stream_of(large)]
        assert uids_of(store.new.scan()) == {"1.2.3.1", "1.2.3.2"}
        assert list(store.old.scan()) == []

    def test_each_deletes_its_own_and_what_is_left_is_compacted_where_it_is(self, store):
        there = store.old.put([a_blob(1, 3000), a_blob(2, 1000)])
        here = store.put([a_blob(3, 3000), a_blob(4, 1000)])
        assert not any(map(store.size_of, store.half_dead()))
        store.delete([there[0], here[0]])
        assert [store.holds(one) for one in (*there, *here)] == [False, True, False, True]
        assert store.stats().dead_bytes == store.old.stats().dead_bytes + store.new.stats().dead_bytes > 6000
        for half, alive in ((store.old, there[1]), (store.new, here[1])):
            [(before, after)] = store.copy_segment(alive.key, {alive})
            assert before == alive
            assert half.holds(after)

    def test_a_segment_goes_from_the_half_that_has_it(self, store):
        [there], [here] = store.old.put([a_blob(1)]), store.put([a_blob(2)])
        store.remove_segment(there.key)
        assert uids_of(store.scan()) == {"1.2.3.2"}
        store.remove_segment(here.key)
        assert list(store.scan()) == []

    def test_numbers_are_of_both_and_the_disk_of_the_one_that_has_one(self, store):
        store.old.put([a_blob(1)])
        store.put([a_blob(2)])
        old, new = store.old.stats(), store.new.stats()
        both = store.stats()
        assert (both.bytes, both.segments) == (old.bytes + new.bytes, old.segments + new.segments)
        assert both.total_bytes == new.total_bytes
        bucket = SimpleNamespace(
            root=store.root, at_once=1, most_bytes=None, stats=lambda: StoreStats(1, 10, 2, None, None)
        )
        both = MovingStore(bucket, store.old, store.is_new).stats()
        assert (both.bytes, both.dead_bytes) == (old.bytes + 10, old.dead_bytes + 2)
        assert (both.free_bytes is None, both.total_bytes) == (False, old.total_bytes)

    def test_nothing_is_due_in_the_old_one(self, store):
        store.old.put([a_blob(1)])
        assert store.due == store.new.due
        store.settle()


@pytest.fixture
def holdings(tmp_path):
    """Of an archive whose instances are to go to another directory: small ones, and a large one."""
    with archives.opened(tmp_path / "archive") as holdings:
        archives.store(holdings, [part10(number, size=3000) for number in range(6)])
        archives.store(holdings, [part10(9, size=2 << 20)])
        (tmp_path / "new" / "segments").mkdir(parents=True)
        (tmp_path / "new" / "segments" / "000500.seg").touch()
        new = SegmentStore(tmp_path / "new", durability="os")
        old, is_new = holdings.blobs, lambda key: (tmp_path / "new" / key).exists()
        holdings.blobs = holdings.intake._blobs = MovingStore(new, old, is_new)
        yield holdings


def moved(holdings, **expected):
    seen = []
    done = move_instances(holdings, progress=seen.append)
    assert {name: getattr(done, name) for name in expected} == expected
    return seen


def places_of(holdings):
    return {place.uid: place for page in holdings.places.pages() for place in page}


class TestMoving:
    def test_all_is_there_and_the_old_one_is_empty(self, holdings, monkeypatch):
        monkeypatch.setattr(moving, "_GROUP_BYTES", 10_000)
        holdings.intake.store([an_incoming(1, Rows=9)])
        before = {uid: data_set_of(holdings.blobs, place.ref) for uid, place in places_of(holdings).items()}
        seen = moved(holdings, instances=7, failed=0)
        assert sum(seen) == 7
        assert len(seen) > 2  # no more in memory than that
        after = places_of(holdings)
        assert {uid: data_set_of(holdings.blobs, place.ref) for uid, place in after.items()} == before
        [waiting] = holdings.quarantine.items()
        assert all(holdings.blobs.is_new(one.key) for one in (*after.values(), waiting))
        assert list(holdings.blobs.old.scan()) == []
        assert moved(holdings, instances=0, failed=0) == []

    def test_what_is_deleted_meanwhile_is_not_brought_back(self, holdings, monkeypatch):
        real, deleted = moving._put, []

        def put(blobs, copies):
            if any(place.uid == "1.2.1.1.3" for place, _ in copies):
                deleted.append(delete_instances(holdings, ["1.2.1.1.3"]))
            return real(blobs, copies)

        monkeypatch.setattr(moving, "_put", put)
        moved(holdings, instances=6, failed=0)
        assert len(deleted) == 1
        assert "1.2.1.1.3" not in places_of(holdings)
        assert "1.2.1.1.3" not in uids_of(holdings.blobs.scan())

    def test_a_store_that_gives_other_bytes_back_has_nothing_and_all_stays(self, holdings, monkeypatch):
        before = places_of(holdings)
        monkeypatch.setattr(moving, "hash_of", lambda *_, **__: b"other")
        with pytest.raises(OSError, match=r"gives other bytes of 1\.2\.1\.1\.9 back"):
            moved(holdings)
        assert places_of(holdings) == before
        assert list(holdings.blobs.new.scan()) == []

    @pytest.mark.parametrize("number", [3, 9])
    def test_what_is_not_there_or_cut_off_stays_and_is_counted(self, holdings, caplog, number):
        place = places_of(holdings)[f"1.2.1.1.{number}"]
        path = holdings.blobs.old.root / place.key
        with path.open("r+b") as file:
            if number == 9:
                file.truncate(place.size // 2)
            else:
                file.seek(place.offset)
                file.write(b"\xff" * place.size)
        moved(holdings, instances=6, failed=1)
        assert places_of(holdings)[place.uid] == place
        assert f"{place.uid} is not moved" in caplog.text

    @pytest.mark.parametrize("when", ["opened", "read"])
    def test_a_store_that_is_away_ends_it_and_says_nothing_of_its_instances(self, holdings, monkeypatch, when):
        away, real = StoreUnavailable(errno.EIO, "does not confirm"), holdings.blobs.old.open

        class Reader:
            def __init__(self, reader):
                self._reader, self.close = reader, reader.close

            def read_into(self, start, buffer):
                if start:
                    raise away
                return self._reader.read_into(start, buffer)

        def opened(ref, **options):
            if when == "opened":
                raise away
            return Reader(real(ref, **options))

        with monkeypatch.context() as patch:
            patch.setattr(holdings.blobs.old, "open", opened)
            with pytest.raises(StoreUnavailable):
                moved(holdings)
        assert not any(holdings.blobs.is_new(place.key) for place in places_of(holdings).values())
        moved(holdings, instances=7, failed=0)

    def test_there_has_to_be_another_store(self, tmp_path):
        with archives.opened(tmp_path / "one") as holdings, pytest.raises(InvalidArgument, match="no other store"):
            moved(holdings)
