"""Blobs in an object store: OpenStack Swift by its S3 interface, and what it does to us when it fails."""

import hashlib
import http.server
import json
import logging
import os
import threading
import time
from types import SimpleNamespace
from urllib.parse import parse_qsl

import archives
import cutting
import pytest
from archives import CT, LITTLE, an_incoming, data_set, part10

import dicomnet as dn
from dicomnet.archive.archive import Archive
from dicomnet.archive.checks import Problem, fsck, scrub
from dicomnet.archive.settings import ArchiveSettings
from dicomnet.errors import InvalidArgument
from dicomnet.files.part10 import meta_header
from dicomnet.repository import bucket as bucket_module
from dicomnet.repository.blob_source import data_set_of, hash_of
from dicomnet.repository.blob_store import BlobRef
from dicomnet.repository.block_cache import BLOCK_BYTES, BlockCache
from dicomnet.repository.bucket import Bucket, StoreUnavailable
from dicomnet.repository.deletion import compact, delete_blobs_due, delete_instances
from dicomnet.repository.incoming import BlobSink, Memory
from dicomnet.repository.intake import Kept
from dicomnet.repository.object_directory import count_of, is_object
from dicomnet.repository.object_store import ObjectStore
from dicomnet.repository.places import Places
from dicomnet.status import Status


@pytest.fixture
def store(bucket, tmp_path):
    opened = ObjectStore(bucket, tmp_path / "cache", counted=lambda _: {})
    yield opened
    opened.close()


def a_blob(number, size=2000):
    blob = an_incoming(number, size=size).blob
    blob.hash()
    return blob


def keys(store):
    return [key for page in store.bucket.list("objects/") for key, _ in page]


def marks(store):
    return [key for page in store.bucket.list("dead/") for key, _ in page]


class TestGroups:
    def test_a_group_is_one_object_that_says_what_is_in_it(self, store):
        blobs = [a_blob(number, 1000 * (number + 1)) for number in range(5)]
        refs = store.put(blobs)
        assert keys(store) == [refs[0].key]
        assert count_of(refs[0].key) == 5
        found = list(store.scan())
        assert [one.ref for one in found] == refs
        assert [one.sha256 for one in found] == [blob.sha256 for blob in blobs]
        assert [data_set_of(store, ref) for ref in refs] == [blob.content[0] for blob in blobs]
        assert all(store.holds(ref) for ref in refs)
        assert not store.holds(BlobRef(refs[0].key, 1, 7))

    def test_what_is_read_back_past_the_cache_is_no_more_than_the_blob(self, store, monkeypatch):
        blobs = [a_blob(number, 3000) for number in range(3)]
        refs = store.put(blobs)
        asked = []
        real = store.bucket.get
        monkeypatch.setattr(store.bucket, "get", lambda *about: (asked.append(about), real(*about))[1])
        reader = store.open(refs[1], cached=False)
        content = bytearray(refs[1].length)
        assert reader.read_into(0, memoryview(content)) == refs[1].length
        assert bytes(content) == blobs[1].header + blobs[1].content[0]
        assert asked == [(refs[1].key, refs[1].offset, refs[1].length)]
        assert not store._cache._slots

    def test_a_large_group_is_several_objects(self, store, monkeypatch):
        monkeypatch.setattr("dicomnet.repository.object_store.OBJECT_BYTES", 6000)
        blobs = [a_blob(number) for number in range(5)]
        refs = store.put(blobs)
        assert len(keys(store)) == 3
        assert [data_set_of(store, ref) for ref in refs] == [blob.content[0] for blob in blobs]

    def test_what_is_deleted_is_gone_and_the_last_one_takes_the_object_along(self, store):
        refs = store.put([a_blob(number) for number in range(3)])
        store.delete([refs[1]])
        assert [one.ref for one in store.scan()] == [refs[0], refs[2]]
        assert not store.holds(refs[1])
        assert len(marks(store)) == 1
        store.delete([refs[0], refs[2]])
        assert keys(store) == marks(store) == []
        store.delete(refs)  # what is not there is no error
        with pytest.raises(FileNotFoundError):
            store.open(refs[0])
        [alone] = store.put([a_blob(9)])
        store.delete([alone])
        assert keys(store) == []

    def test_what_is_recent_and_whole_in_the_index_is_not_looked_at(self, bucket, tmp_path):
        known = {}
        store = ObjectStore(bucket, tmp_path / "cache", counted=lambda keys: known)
        refs = store.put([a_blob(number) for number in range(2)])
        known[refs[0].key] = 1
        assert [one.ref for one in store.scan(recent=True)] == refs
        known[refs[0].key] = 2
        assert list(store.scan(recent=True)) == []
        later = ObjectStore(bucket, tmp_path / "c2", counted=lambda keys: {}, clock=lambda: time.time() + 5 * 86400)
        assert list(later.scan(recent=True)) == []
        assert len(list(later.scan())) == 2
        store.close()
        later.close()


class TestLarge:
    SIZE = 20 << 20

    def sink(self, store, number=1):
        uid = f"1.2.1.1.{number}"
        return BlobSink(store, (CT, uid, LITTLE), meta_header(CT, uid, LITTLE, "TESTER"), Memory())

    def test_parts_go_while_it_arrives_and_frames_are_ranges(self, store):
        data = data_set(1, size=self.SIZE)
        sink = self.sink(store)
        for start in range(0, len(data), 1 << 20):
            sink.write([data[start : start + (1 << 20)]])
        end = time.monotonic() + 30
        while not sink._writer._sent:  # before its end has come
            assert time.monotonic() < end
            threading.Event().wait(0.01)
        incoming, writer = sink.take("TESTER")
        store.finish(writer).result(30)
        [ref] = store.put([incoming.blob])
        [found] = store.scan()
        assert found.ref == ref
        assert found.sha256 == hashlib.sha256(data).digest()
        assert (found.sop_class_uid, found.sop_instance_uid, found.transfer_syntax_uid) == (CT, "1.2.1.1.1", LITTLE)
        reader = store.open(ref)
        piece = bytearray(5000)
        assert reader.read_into(self.SIZE // 2, memoryview(piece)) == 5000
        start = self.SIZE // 2 - found.header_length
        assert bytes(piece) == data[start : start + 5000]
        assert len(store._cache._slots) == 2  # a block for its beginning, one for the piece
        assert hashlib.sha256(data_set_of(store, ref)).digest() == found.sha256

    @pytest.mark.parametrize("finished", [False, True])
    def test_what_is_not_wanted_leaves_nothing(self, store, finished):
        sink = self.sink(store)
        data = data_set(1, size=self.SIZE)
        sink.write([data])
        if finished:
            incoming, writer = sink.take()
            store.finish(writer).result(30)
            incoming.discard()
        else:
            sink.discard()
        store._sending.shutdown()
        assert keys(store) == []


class PartlyRefusing(http.server.BaseHTTPRequestHandler):
    """An object store that refuses what it is told to, and knows which uploads were not ended."""

    protocol_version = "HTTP/1.1"

    def _answer(self):
        server, query = self.server, dict(parse_qsl(self.path.partition("?")[2], keep_blank_values=True))
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body, headers, upload = "", {"ETag": '"1"'}, query.get("uploadId")
        what = "part" if "partNumber" in query else "end" if upload else "other"
        refused = self.command in ("PUT", "POST") and server.refused in (query.get("partNumber"), what)
        if "uploads" in query:
            server.uploads.append(upload := str(len(server.uploads)))
            server.open.add(upload)
            body = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
        elif refused:
            body = "<Error><Code>InvalidRequest</Code></Error>"
        elif self.command in ("POST", "DELETE") and upload:
            server.open.discard(upload)
            body = "<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>"
        self.send_response(400 if refused else 200)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 names of the standard library

    def log_message(self, *_):
        pass


class TestUploadsThatFail:
    """Parts of an upload that is not ended stay for ever, and no list of objects shows them."""

    @pytest.fixture
    def server(self):
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), PartlyRefusing) as server:
            server.open, server.uploads, server.refused = set(), [], ""
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield server
            server.shutdown()

    @pytest.fixture
    def store(self, server, tmp_path, monkeypatch):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        url = f"s3://bucket?endpoint=http://127.0.0.1:{server.server_port}"
        opened = ObjectStore(url, tmp_path / "cache", counted=lambda _: {})
        yield opened
        opened.close()

    @pytest.mark.parametrize("refused", ["1", "2", "3", "end"])
    def test_one_that_fails_at_any_part_is_ended(self, store, server, refused, caplog):
        server.refused = refused
        sink = TestLarge().sink(store)
        try:
            for _ in range(20):
                sink.write([bytes(1 << 20)])
            _, writer = sink.take()
            with pytest.raises(StoreUnavailable):
                store.finish(writer).result(30)
            writer.discard()
        except StoreUnavailable:  # it was refused while it arrived
            sink.discard()
        store._sending.shutdown()
        assert len(server.uploads) == 1
        assert server.open == set()
        assert "not needed stays" not in caplog.text

    def test_one_that_fails_as_the_store_is_closed_is_ended(self, store, server):
        server.refused = "1"
        sink = TestLarge().sink(store)
        sink.write([bytes(20 << 20)])
        _, writer = sink.take()
        finishing = store.finish(writer)
        store._sending.shutdown(wait=False)
        with pytest.raises(StoreUnavailable):
            finishing.result(30)
        store._sending.shutdown()
        assert server.open == set()


class TestCache:
    def test_it_has_a_bound_and_forgets_what_was_not_used_for_longest(self, tmp_path):
        cache = BlockCache(tmp_path, 3 * BLOCK_BYTES)
        for number in range(3):
            cache.put("k", number, b"%d" % number * 10)
        assert cache.get("k", 0) == b"0" * 10
        cache.put("k", 3, b"3" * BLOCK_BYTES)
        assert cache.get("k", 1) is None
        assert [cache.get("k", number) for number in (0, 2, 3)] == [b"0" * 10, b"2" * 10, b"3" * BLOCK_BYTES]
        assert cache._file.seek(0, 2) <= 3 * BLOCK_BYTES
        assert list(tmp_path.iterdir()) == []  # nothing is left by a process that is killed
        cache.close()

    def test_a_block_that_is_written_in_part_is_not_kept(self, tmp_path, monkeypatch):
        cache, real = BlockCache(tmp_path, 2 * BLOCK_BYTES), os.pwrite
        with monkeypatch.context() as patched:
            patched.setattr("os.pwrite", lambda file, data, at: real(file, data[:3], at))
            cache.put("k", 0, b"whole")
        assert cache.get("k", 0) is None
        cache.put("k", 0, b"whole")
        assert cache.get("k", 0) == b"whole"
        cache.close()

    def test_a_full_disk_costs_blocks_and_nothing_else(self, tmp_path, monkeypatch, caplog):
        cache = BlockCache(tmp_path, 2 * BLOCK_BYTES)

        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("os.pwrite", full)
            cache.put("k", 0, b"x")
        assert cache.get("k", 0) is None
        for number in range(3):
            cache.put("k", number, b"%d" % number)
        assert [cache.get("k", number) for number in range(3)] == [None, b"1", b"2"]
        cache.close()


@pytest.fixture
def quick(monkeypatch):
    """Give up soon: how long requests are repeated is not what these tests are about."""
    monkeypatch.setattr(bucket_module, "RETRY_SECONDS", 1.0)
    monkeypatch.setattr(bucket_module, "REQUEST_SECONDS", 2.0)
    monkeypatch.setattr(bucket_module, "RETRIES", 3)


@pytest.fixture
def short_pauses(monkeypatch):
    """Repeat soon what was cut."""
    monkeypatch.setattr(bucket_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(bucket_module, "LONGEST_PAUSE", 0.1)


@pytest.fixture
def proxied(bucket, swift_store):
    with cutting.cutting(swift_store.endpoint) as proxy:
        yield proxy, swift_store.url(bucket.partition("?")[0].removeprefix("s3://"), proxy.address)


class TestFailures:
    @pytest.mark.parametrize("mode", ["busy", "silent"])
    def test_senders_are_refused_told_once_and_served_again(self, tmp_path, proxied, quick, caplog, mode):
        proxy, url = proxied
        directory = tmp_path / "archive"
        archives.make(directory, storage=url)
        with Archive(directory, ArchiveSettings.make(directory, port=0, storage=url)) as archive:
            host, port = archive.listener.address
            with dn.connect(f"ARCHIVE@{host}:{port}", contexts=dn.contexts.storage([CT])) as association:
                assert association.store(part10(1)).status.is_success
                proxy.mode = mode
                with caplog.at_level(logging.ERROR, "dicomnet"):
                    statuses = [association.store(part10(2)).status, association.store(part10(3, size=2 << 20)).status]
                assert statuses == [Status.OUT_OF_RESOURCES] * 2
                proxy.mode = "pass"
                assert association.store(part10(2)).status.is_success
            assert set(archive.holdings.places.of(f"1.2.1.1.{n}" for n in (1, 2, 3))) == {"1.2.1.1.1", "1.2.1.1.2"}
            assert list(fsck(archive.holdings)) == list(scrub(archive.holdings)) == []
        told = [one.getMessage() for one in caplog.records if "does not confirm" in one.getMessage()]
        assert "see that it runs" in told[0]

    @pytest.mark.usefixtures("short_pauses")
    @pytest.mark.usefixtures("quick")
    def test_a_report_of_commitment_waits_for_a_store_that_is_away(self, tmp_path, proxied):
        proxy, url = proxied
        directory = tmp_path / "archive"
        settings = archives.make(directory, storage=url, destinations={"TESTER": dn.Entity("TESTER", "127.0.0.1", 9)})
        with Archive(directory, settings) as archive:
            archives.store(archive.holdings, [part10(1)])
            proxy.mode = "busy"
            with pytest.raises(StoreUnavailable):
                archive.commitment.check([(CT, "1.2.1.1.1")])
            proxy.mode = "pass"
            assert archive.commitment.check([(CT, "1.2.1.1.1")]) == []
            assert archive.commitment.check([(CT, "1.2.1.1.2")]) == [(CT, "1.2.1.1.2", 0x0112)]

    def test_cuts_at_any_byte_lose_nothing(self, tmp_path, proxied):
        proxy, url = proxied
        with archives.opened(tmp_path / "archive", storage=url) as holdings:
            proxy.mode = "cut"
            kept = set()
            for number in range(20):
                try:
                    [result] = holdings.intake.store([an_incoming(number, size=20_000)])
                except OSError:
                    continue
                assert isinstance(result, Kept)
                kept.add(f"1.2.1.1.{number}")
            proxy.mode = "pass"
            assert proxy.cuts
            assert set(holdings.places.of(kept)) == kept
            assert list(scrub(holdings)) == []
            holdings._recover()  # what the store has, though it could not say so
            assert list(fsck(holdings)) == []

    def test_a_list_that_takes_long_is_gone_on_with_after_a_cut(self, store, monkeypatch):
        """Each page takes longer than a request is repeated, and each list is cut after its first page."""
        seconds = [0.0]
        monkeypatch.setattr(bucket_module, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
        monkeypatch.setattr(bucket_module, "_PAGE", 1)
        for number in range(3):
            store.put([a_blob(number)])
        api, cuts = store.bucket._api, []

        class Cut:
            def list(self, *about, **more):
                for number, page in enumerate(api.list(*about, **more)):
                    if number:
                        cuts.append(page)
                        raise OSError("cut")
                    seconds[0] += 2 * bucket_module.RETRY_SECONDS
                    yield page

        monkeypatch.setattr(store.bucket, "_api", Cut())
        assert len(keys(store)) == 3
        assert len(cuts) == 2

    def test_a_bucket_that_is_not_there_says_so(self, bucket, swift_store, tmp_path):
        store = ObjectStore(swift_store.url("none-such"), tmp_path / "cache", counted=lambda _: {})
        with pytest.raises(StoreUnavailable, match="make it first"):
            store.put([a_blob(1)])
        store.close()

    @pytest.mark.parametrize(
        "url",
        [
            "s3://?endpoint=http://h",
            "s3://b?endpiont=http://h",
            "s3://b?keys=/none",
            "s3://b?cache_mib=some",
            "s3://[b",
        ],
    )
    def test_urls_that_make_no_sense(self, url, tmp_path):
        with pytest.raises(InvalidArgument):
            ObjectStore(url, tmp_path / "cache", counted=lambda _: {})

    def test_keys_from_a_file(self, bucket, tmp_path, monkeypatch):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        (tmp_path / "keys.toml").write_text('access_key_id = "test:tester"\nsecret_access_key = "testing"\n')
        other = Bucket(f"{bucket}&keys={tmp_path / 'keys.toml'}")
        other.put("a/b", b"bytes")
        assert other.tail("a/b", 3) == (b"tes", 5)
        (tmp_path / "keys.toml").write_text('access_key_id = "test:tester"\nsecret_access_key = "wrong"\n')
        with pytest.raises(StoreUnavailable, match="keys are right"):
            Bucket(f"{bucket}&keys={tmp_path / 'keys.toml'}").put("a/c", b"bytes")


@pytest.fixture
def holdings(bucket, tmp_path):
    with archives.opened(tmp_path / "archive", storage=bucket) as opened:
        yield opened


class TestArchive:
    def test_what_is_stored_but_not_indexed_is_found_at_the_next_start(self, holdings):
        holdings.intake.store([an_incoming(1), an_incoming(2)])
        holdings.blobs.put([a_blob(3), a_blob(4)])  # a crash before the index has it
        assert [one.problem for one in fsck(holdings)] == [Problem.UNKNOWN] * 2
        assert holdings._recover() == 2
        assert holdings._recover() == 0
        assert list(fsck(holdings)) == []

    def test_deleted_instances_do_not_come_back_with_a_new_index(self, holdings):
        holdings.intake.store([an_incoming(number) for number in range(4)])
        delete_instances(holdings, ["1.2.1.1.1", "1.2.1.1.2"])
        assert list(fsck(holdings)) == []
        assert holdings.intake.recover(recent=False) == 0
        assert set(holdings.places.of(f"1.2.1.1.{n}" for n in range(4))) == {"1.2.1.1.0", "1.2.1.1.3"}

    def test_compaction_copies_what_is_alive(self, holdings):
        holdings.intake.store([an_incoming(number, size=20_000) for number in range(4)])
        before = keys(holdings.blobs)
        delete_instances(holdings, ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.1.3"])
        assert compact(holdings) > 50_000
        assert len(keys(holdings.blobs)) == 1
        assert keys(holdings.blobs) != before
        assert marks(holdings.blobs) == []
        assert list(fsck(holdings)) == list(scrub(holdings)) == []

    def test_compaction_while_another_node_looks_for_what_is_not_indexed(self, holdings, monkeypatch):
        holdings.intake.store([an_incoming(number, size=20_000) for number in range(4)])
        delete_instances(holdings, ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.1.3"])
        real = Places.move

        def move(places, moves):
            assert holdings.intake.recover() == 1
            return real(places, moves)

        with monkeypatch.context() as patch:
            patch.setattr(Places, "move", move)
            compact(holdings)
        assert list(fsck(holdings)) == list(scrub(holdings)) == []

    def test_a_second_copy_goes_when_nobody_has_come_to_need_it(self, holdings, monkeypatch):
        monkeypatch.setattr("dicomnet.repository.intake.SETTLED_SECONDS", 0.0)
        holdings.intake.store([an_incoming(1, size=2000)])
        holdings.blobs.put([a_blob(1)])
        assert holdings.intake.recover() == 1
        assert len(keys(holdings.blobs)) == 2
        assert delete_blobs_due(holdings) == 1
        assert len(keys(holdings.blobs)) == 1
        assert list(fsck(holdings)) == list(scrub(holdings)) == []

    def test_an_instance_that_was_deleted_while_it_is_copied(self, holdings, monkeypatch):
        """Another node indexes the copy, which is none that nobody knows then: its bytes stay with its row."""
        holdings.intake.store([an_incoming(number, size=20_000) for number in range(4)])
        delete_instances(holdings, ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.1.3"])
        real = Places.move

        def move(places, moves):
            delete_instances(holdings, ["1.2.1.1.0"])
            holdings.intake.recover()
            return real(places, moves)

        with monkeypatch.context() as patch:
            patch.setattr(Places, "move", move)
            compact(holdings)
        assert list(fsck(holdings)) == list(scrub(holdings)) == []

    @pytest.mark.parametrize("how", ["cut", "changed", "gone"])
    def test_a_store_that_loses_or_changes_bytes_is_found_out(self, holdings, how, caplog):
        holdings.intake.store([an_incoming(1, size=20_000)])
        [key] = keys(holdings.blobs)
        assert is_object(key)
        content = holdings.blobs.bucket.get(key, 0, 1 << 20)
        if how == "gone":
            holdings.blobs.bucket.delete([key])
        elif how == "cut":
            holdings.blobs.bucket.put(key, content[:9000])
        else:
            holdings.blobs.bucket.put(key, content[:9000] + bytes([content[9000] ^ 1]) + content[9001:])
        place = holdings.places.of(["1.2.1.1.1"])["1.2.1.1.1"]
        if how == "changed":
            assert hash_of(holdings.blobs, place) != place.sha
        else:
            assert [one.problem for one in fsck(holdings)] == [Problem.MISSING]
        assert [one.problem for one in scrub(holdings)] == [Problem.MISSING if how == "gone" else Problem.DAMAGED]
        # The same instance again heals it.
        holdings.intake.store([an_incoming(1, size=20_000)])
        assert list(scrub(holdings)) == []

    def test_stats_have_no_disk(self, holdings):
        holdings.intake.store([an_incoming(1)])
        stats = holdings.blobs.stats()
        assert (stats.segments, stats.free_bytes) == (1, None)
        assert json.dumps(stats.bytes)
