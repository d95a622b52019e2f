"""An object store that is away, or has lost something: what is told, what is cleaned up, and what goes on."""

from __future__ import annotations

import logging
import sys

import pytest
from rig import until
from test_object_store import a_blob, keys, marks, proxied, quick, store  # noqa: F401 fixtures

from dicomnet.errors import InvalidArgument
from dicomnet.repository import bucket as bucket_module
from dicomnet.repository import object_store as module
from dicomnet.repository import object_writer
from dicomnet.repository.blob_source import data_set_of
from dicomnet.repository.blob_store import BlobRef, NewBlob
from dicomnet.repository.bucket import Bucket, StoreUnavailable
from dicomnet.repository.object_directory import encode, parse, tail_length
from dicomnet.repository.object_store import ObjectStore
from dicomnet.router.destinations import S3Destination
from dicomnet.router.s3 import S3Sender


class TestDirectory:
    """What stands at the end of an object, and is none."""

    def test_too_short_or_something_else(self):
        assert [tail_length(one) for one in (b"", b"x", b"x" * 200)] == [0, 0, 0]

    def test_one_that_is_damaged(self):
        blob = a_blob(1)
        whole = encode([(0, blob)])
        assert tail_length(b"data" + whole) == len(whole)
        [found] = parse("objects/1", whole)
        assert (found.sop_instance_uid, found.sha256) == (blob.sop_instance_uid, blob.sha256)
        with pytest.raises(ValueError, match="its directory is damaged"):
            parse("objects/1", whole[:5] + b"?" + whole[6:])


@pytest.mark.parametrize("make", [
    lambda: Bucket("s3://bucket"), lambda: S3Sender(S3Destination(kind="s3", url="s3://bucket"), "ROUTER"),
])  # fmt: skip
def test_without_the_package_it_is_named(monkeypatch, make):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(InvalidArgument, match="obstore") as caught:
        make()
    assert "pip install" in caught.value.hint


class TestLost:
    def test_what_is_no_object_and_what_is_gone(self, store):  # noqa: F811
        [ref] = store.put([a_blob(1)])
        assert not store.holds(BlobRef("segments/000001.seg", 0, 10))
        with pytest.raises(FileNotFoundError):
            store.open(BlobRef("segments/000001.seg", 0, 10))
        store.bucket.delete([ref.key])
        assert not store.holds(ref)

    def test_marks_of_an_object_that_is_gone_go_as_well(self, store):  # noqa: F811
        first, _, _ = store.put([a_blob(number) for number in range(3)])
        store.delete([first])
        assert len(marks(store)) == 1
        store.bucket.delete([first.key])
        assert store.half_dead() == []
        assert marks(store) == []

    def test_marks_that_another_node_has_just_removed(self, store):  # noqa: F811
        first, second, _ = store.put([a_blob(number) for number in range(3)])
        store.delete([first])
        [name] = marks(store)
        assert store._read_marks([name, f"{name}-gone"]) == {first.offset: first.length}
        assert not store.holds(first)
        assert store.holds(second)

    def test_a_directory_that_is_longer_than_what_is_read_at_first(self, store, monkeypatch):  # noqa: F811
        monkeypatch.setattr(module, "TAIL_BYTES", 40)
        blobs = [a_blob(number) for number in range(20)]
        refs = store.put(blobs)
        assert [one.ref for one in store.scan()] == refs
        assert all(map(store.holds, refs))


@pytest.fixture
def away(proxied, quick, tmp_path):  # noqa: F811
    """A store behind a proxy that can be told to refuse all."""
    proxy, url = proxied
    opened = ObjectStore(url, tmp_path / "cache", counted=lambda _: {})
    yield proxy, opened
    proxy.mode = "pass"
    opened.close()


def begun(store, number, size):  # noqa: F811
    """A large blob whose bytes are written, and its writer."""
    blob = a_blob(number, size)
    writer = store.writer(blob.header)
    writer.write(blob.content)
    writer.complete(blob.sha256)
    return blob, writer


class TestAway:
    def test_a_group_that_is_not_confirmed_leaves_nothing(self, away):
        """Small ones and a large one, which was confirmed before."""
        proxy, store = away  # noqa: F811
        large, writer = begun(store, 1, 300_000)
        store.finish(writer).result(60)
        assert len(keys(store)) == 1
        new = NewBlob(
            large.sop_class_uid, large.sop_instance_uid, large.transfer_syntax_uid, large.header, writer, large.sha256,
            large.size,
        )  # fmt: skip
        proxy.mode = "busy"
        with pytest.raises(StoreUnavailable):
            store.put([a_blob(2), new])
        proxy.mode = "pass"
        [ref] = store.put([a_blob(3)])
        assert data_set_of(store, ref) == a_blob(3).content[0]

    def test_what_cannot_be_deleted_is_told_and_found_by_a_check(self, away, caplog):
        proxy, store = away  # noqa: F811
        [ref] = store.put([a_blob(1)])
        proxy.mode = "busy"
        store._forget([ref.key])
        assert "objects that are not needed stay, until `dicomnet archive fsck`: " in caplog.text
        proxy.mode = "pass"
        assert keys(store) == [ref.key]

    def test_an_upload_that_fails_while_it_is_written_fails_the_writer(self, away, monkeypatch):
        monkeypatch.setattr(object_writer, "PART_BYTES", 5 << 20)
        monkeypatch.setattr(bucket_module, "PART_BYTES", 5 << 20)
        proxy, store = away  # noqa: F811
        proxy.mode = "busy"
        _, writer = begun(store, 1, 26 << 20)
        until(lambda: writer._error is not None)
        with pytest.raises(StoreUnavailable):
            writer.write([b"more"])
        with pytest.raises(StoreUnavailable):
            store.finish(writer).result(60)
        writer.discard()
        proxy.mode = "pass"
        assert keys(store) == []

    def test_one_that_is_given_up_while_the_store_is_away(self, away, monkeypatch, caplog):
        monkeypatch.setattr(object_writer, "PART_BYTES", 5 << 20)
        monkeypatch.setattr(bucket_module, "PART_BYTES", 5 << 20)
        proxy, store = away  # noqa: F811
        caplog.set_level(logging.WARNING, "dicomnet")
        _, sent = begun(store, 1, 6 << 20)
        until(lambda: sent._sent)
        proxy.mode = "busy"
        sent.discard()
        until(lambda: "an upload that is not needed stays" in caplog.text)
        _, failed = begun(store, 2, 26 << 20)
        until(lambda: failed._error is not None)
        failed.discard()
        until(lambda: failed._file.closed)
        proxy.mode = "pass"
        assert keys(store) == []


def test_a_disk_of_this_machine_that_is_full_ends_the_writer(store, monkeypatch):  # noqa: F811
    writer = store.writer(a_blob(1).header)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(object_writer, "write_all", full)
        with pytest.raises(OSError, match="No space left"):
            writer.write([b"data"])
    until(lambda: writer._file.closed)
    assert keys(store) == []
    file = store.writer(a_blob(2).header)._file  # whose writer nobody keeps
    assert file.closed
