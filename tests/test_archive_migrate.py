"""An archive moved from SQLite and a directory to PostgreSQL and a bucket: killed on the way, and while it serves."""

import hashlib
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import archives
import programs
import pytest
from archives import CT, an_incoming, part10
from click.testing import CliRunner
from rig import until
from sqlalchemy import inspect, select
from sqlalchemy.exc import DBAPIError

import dicomnet as dn
from dicomnet.archive.archive import Archive
from dicomnet.archive.checks import Problem, fsck, scrub
from dicomnet.archive.holdings import Holdings
from dicomnet.archive.settings import ArchiveSettings
from dicomnet.cli.archive_migrate import _begin as begin_move
from dicomnet.cli.archive_migrate import migrate_command
from dicomnet.errors import InvalidArgument
from dicomnet.repository.blob_source import data_set_of
from dicomnet.repository.bucket import Bucket, StoreUnavailable
from dicomnet.repository.database import Database
from dicomnet.repository.deletion import delete_blobs_due, delete_instances
from dicomnet.repository.index_copy import IndexCopy
from dicomnet.repository.moving import move_instances
from dicomnet.repository.moving_store import MovingStore
from dicomnet.repository.object_directory import is_object
from dicomnet.repository.object_writer import ObjectWriter
from dicomnet.repository.places import Places
from dicomnet.repository.schema import metadata

PATIENCE = 60  # seconds for what takes few


def migrate(directory, *arguments):
    done = CliRunner().invoke(migrate_command, [str(directory), *arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.return_value


def objects(bucket):
    return sum(len(page) for page in Bucket(bucket).list("objects/"))


def killed(directory, bucket, more):
    """Kill a migration when it has begun, and put so many objects; its exit code, which is 0 if it was done by then."""
    command = programs.command("archive", "migrate", directory, "--storage", bucket)
    before = objects(bucket)
    process = subprocess.Popen(command, cwd=programs.ROOT, stdout=subprocess.DEVNULL)
    try:
        until(
            lambda: (
                process.poll() is not None
                or (ArchiveSettings.load(directory).storage_before and objects(bucket) >= before + more)
            )
        )
    finally:
        process.kill()
        process.wait(PATIENCE)
    return process.returncode


class Sender(threading.Thread):
    """Stores one instance after the other at an archive, for the block."""

    def __init__(self, archive):
        super().__init__(daemon=True)
        host, port = archive.listener.address
        self._peer = f"ARCHIVE@{host}:{port}"
        self._ended = threading.Event()
        self.kept, self.error = [], None

    def run(self):
        try:
            with dn.connect(self._peer, contexts=dn.contexts.storage([CT])) as association:
                while not self._ended.is_set():
                    number = 1000 + len(self.kept)
                    assert association.store(part10(number, size=5000)).status.is_success
                    self.kept.append(f"1.2.1.1.{number}")
        except Exception as error:
            self.error = error

    def some_more(self):
        """Wait until it has stored some more."""
        enough = len(self.kept) + 5
        until(lambda: self.error or len(self.kept) > enough)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self.join(PATIENCE)
        assert self.error is None


def rows_of(database, table):
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(select(*table.c).order_by(*table.primary_key.columns))]


@pytest.fixture
def filled(tmp_path):
    """An archive with small and large instances, deleted ones, and one in quarantine."""
    directory = tmp_path / "archive"
    with archives.opened(directory) as holdings:
        archives.store(holdings, [part10(number, study=1 + number % 3, size=3000) for number in range(30)])
        archives.store(holdings, [part10(100 + number, size=2 << 20) for number in range(2)])
        holdings.intake.store([an_incoming(100, size=64)])  # other bytes under a UID that is taken
        delete_instances(holdings, ["1.2.1.1.0", "1.2.2.1.1"])
    return directory


def content(directory):
    """All that there is, by UID: the hash of its bytes as they are read now."""
    with Holdings(directory) as holdings:
        # Bytes that were moved are deleted last: an old place is one that nobody knows until then.
        left = [one for one in fsck(holdings) if not (one.problem is Problem.UNKNOWN and not is_object(one.key))]
        assert (left if isinstance(holdings.blobs, MovingStore) else list(fsck(holdings))) == []
        assert list(scrub(holdings)) == []
        places = [place for page in holdings.places.pages() for place in page]
        waiting = [(one.uid, one.ref) for one in holdings.quarantine.items()]
        refs = [(place.uid, place.ref) for place in places] + waiting
        return sorted((uid, hashlib.sha256(data_set_of(holdings.blobs, ref)).hexdigest()) for uid, ref in refs)


class TestIndex:
    def test_all_rows_are_there_and_new_ones_follow(self, filled, postgresql):
        before = content(filled)
        url = postgresql.url(postgresql.new_database())
        assert migrate(filled, "--database", url) == 0
        assert ArchiveSettings.load(filled).database == url
        assert content(filled) == before
        with Holdings(filled) as holdings:
            assert not holdings.database.is_sqlite
            archives.store(holdings, [part10(500, study=9)])
        assert len(content(filled)) == len(before) + 1
        assert migrate(filled, "--database", url) == 0  # again: it is there already

    def test_what_cannot_be_is_refused_and_nothing_changes(self, filled, postgresql, tmp_path):
        url = postgresql.url(postgresql.new_database())
        with archives.opened(tmp_path / "other", database=url) as holdings:
            archives.store(holdings, [part10(1)])
        with pytest.raises(InvalidArgument, match="has rows"):
            migrate(filled, "--database", url)
        with pytest.raises(InvalidArgument, match="not the other way"), Database(filled / "index.db") as source:
            IndexCopy(source, source)
        with pytest.raises(InvalidArgument, match="nothing to migrate"):
            migrate(filled)
        assert ArchiveSettings.load(filled).database == ""

    @pytest.mark.deadline(180)
    @pytest.mark.long
    def test_the_copy_follows_an_archive_that_serves_until_it_is_stopped(self, filled, postgresql):
        """Rows come, change and go while the copy is made, and after it; a kill in the midst costs nothing."""
        url = postgresql.url(postgresql.new_database())
        command = programs.command("archive", "migrate", filled, "--database", url)
        with Archive(filled, ArchiveSettings.make(filled, port=0)) as archive, Sender(archive) as sender:
            sender.some_more()
            with Database(filled / "index.db") as source, Database.opened(url) as target:
                copy = IndexCopy(source, target)
                assert not copy.begun
                copy.copy(lambda _: None)
                sender.some_more()
                assert copy.follow() > 5
                delete_instances(archive.holdings, ["1.2.3.1.2", "1.2.3.1.5"])
                assert IndexCopy(source, target).begun
            process = subprocess.Popen(command, cwd=programs.ROOT, stdout=subprocess.PIPE, text=True)
            assert "goes on where it ended" in process.stdout.readline()
            assert "stop that now" in process.stdout.readline()
            process.kill()  # while it follows
            process.wait(PATIENCE)
            process.stdout.close()
            process = subprocess.Popen(command, cwd=programs.ROOT, stdout=subprocess.PIPE, text=True)
            assert "goes on where it ended" in process.stdout.readline()
            sender.some_more()
        told, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, told
        copied = [table for table in metadata.sorted_tables if table.name not in ("node", "duty")]
        with Database(filled / "index.db") as old, Database(url) as new:
            assert {table.name: rows_of(old, table) for table in copied} == {
                table.name: rows_of(new, table) for table in copied
            }
            with new.read() as connection:
                keys = [key for table in copied for key in inspect(connection).get_foreign_keys(table.name)]
                assert keys
                assert not any("deferrable" in key["options"] for key in keys)  # as in a new database
        assert ArchiveSettings.load(filled).database == url
        assert set(sender.kept) <= {uid for uid, _ in content(filled)}

    def test_what_still_writes_to_the_old_index_is_told_nothing_else_than_that(self, filled, postgresql):
        url = postgresql.url(postgresql.new_database())
        with Holdings(filled) as late:
            assert migrate(filled, "--database", url) == 0
            [failed] = late.intake.store([an_incoming(700)])
            assert isinstance(failed, DBAPIError)
            assert "was copied to another database" in str(failed)
        assert "1.2.1.1.700" not in dict(content(filled))

    def test_a_copy_that_fails_leaves_nothing_behind(self, filled, postgresql, monkeypatch):
        url = postgresql.url(postgresql.new_database())
        with monkeypatch.context() as patch:
            patch.setattr("dicomnet.repository.index_copy._digest", lambda *_: b"")
            with pytest.raises(InvalidArgument, match="is not what was copied"):
                migrate(filled, "--database", url)
        with Database(filled / "index.db") as source, source.read() as connection:
            assert not connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE name LIKE 'index_copy%'").all()
        assert migrate(filled, "--database", url) == 0


class TestInstances:
    @pytest.mark.deadline(180)
    @pytest.mark.long
    def test_they_are_moved_while_others_are_stored(self, filled, bucket):
        before = content(filled)
        assert migrate(filled, "--storage", bucket) == 0
        settings = ArchiveSettings.load(filled)
        assert (settings.storage, settings.storage_before) == (bucket, "")
        assert content(filled) == before
        with Holdings(filled) as holdings:
            assert all(is_object(place.key) for page in holdings.places.pages() for place in page)
            assert all(is_object(one.key) for one in holdings.quarantine.items())
        left = sum(path.stat().st_size for path in (filled / "blobs").rglob("*") if path.is_file())
        assert left < 20_000

    @pytest.mark.deadline(180)
    def test_who_serves_goes_on_and_must_know_of_both(self, filled, bucket):
        with Archive(filled, ArchiveSettings.make(filled, port=0)), pytest.raises(InvalidArgument, match="Restart it"):
            migrate(filled, "--storage", bucket)
        assert ArchiveSettings.load(filled).storage_before == "blobs"
        with Archive(filled, ArchiveSettings.make(filled, port=0)) as archive:
            host, port = archive.listener.address
            stop, begun, kept = threading.Event(), threading.Event(), []

            def send():
                with dn.connect(f"ARCHIVE@{host}:{port}", contexts=dn.contexts.storage([CT])) as association:
                    while not stop.is_set():
                        number = 1000 + len(kept)
                        assert association.store(part10(number, size=5000)).status.is_success
                        kept.append(f"1.2.1.1.{number}")
                        begun.set()

            with ThreadPoolExecutor(1) as pool:
                sending = pool.submit(send)
                try:
                    assert begun.wait(PATIENCE)
                    assert migrate(filled) == 0
                finally:
                    stop.set()
                    sending.result(PATIENCE)
        assert kept
        assert set(kept) <= {uid for uid, _ in content(filled)}

    @pytest.mark.deadline(180)
    def test_a_node_that_looks_for_what_is_not_indexed_leaves_the_copies(self, filled, bucket, monkeypatch):
        """Each group is found by another process after it was put, and before the index says that it is there."""
        before = content(filled)
        begin_move(filled, bucket)
        real, looked = Places.move, []
        with Holdings(filled) as holdings, Holdings(filled) as other:

            def move(places, moves):
                other.intake.recover()
                looked.append(delete_blobs_due(other))
                return real(places, moves)

            monkeypatch.setattr(Places, "move", move)
            assert move_instances(holdings, progress=lambda _: None).failed == 0
        assert looked
        assert content(filled) == before

    @pytest.mark.deadline(180)
    @pytest.mark.long
    def test_killed_and_begun_again_at_any_time(self, filled, bucket, monkeypatch):
        before = content(filled)
        for more in (0, 1, 1, 2):
            code = killed(filled, bucket, more)
            assert code in (0, -signal.SIGKILL)
            assert ArchiveSettings.load(filled).storage == bucket
            assert content(filled) == before
            if code == 0:
                break
        if ArchiveSettings.load(filled).storage_before:
            assert migrate(filled) == 0
        settings = ArchiveSettings.load(filled)
        assert (settings.storage, settings.storage_before) == (bucket, "")
        assert content(filled) == before

    def test_damaged_bytes_stay_and_are_told(self, filled, bucket):
        with Holdings(filled) as holdings:
            place = holdings.places.of(["1.2.2.1.4"])["1.2.2.1.4"]
        with (filled / "blobs" / place.key).open("r+b") as file:
            file.seek(place.offset + place.size - 10)
            file.write(b"damaged!")
        done = CliRunner().invoke(migrate_command, [str(filled), "--storage", bucket], standalone_mode=False)
        assert done.return_value == 69
        assert "1.2.2.1.4 is not moved: its bytes are not what was received" in done.output
        assert ArchiveSettings.load(filled).storage_before == "blobs"
        with Holdings(filled) as holdings:
            assert isinstance(holdings.blobs, MovingStore)
            assert holdings.blobs.looking == 1 < holdings.blobs.new.looking  # a whole segment is read for each question
            assert [one.uid for one in scrub(holdings)] == ["1.2.2.1.4"]

    @pytest.mark.deadline(180)
    def test_a_large_instance_that_cannot_be_moved_leaves_nothing_on_its_way(self, filled, bucket, monkeypatch):
        """It is damaged, or the new store is away: the one is counted, the other ends the move."""
        monkeypatch.setattr("dicomnet.repository.moving._GROUP_BYTES", 1 << 20)
        given_up, discard, write = [], ObjectWriter.discard, ObjectWriter.write
        monkeypatch.setattr(ObjectWriter, "discard", lambda self: (given_up.append(self.key), discard(self))[1])

        def refuse(self, views):
            if self.size:  # after the header
                raise StoreUnavailable(5, "the bucket does not confirm")
            write(self, views)

        begin_move(filled, bucket)
        with Holdings(filled) as holdings:
            place = holdings.places.of(["1.2.1.1.100"])["1.2.1.1.100"]
            with monkeypatch.context() as away:
                away.setattr(ObjectWriter, "write", refuse)
                with pytest.raises(StoreUnavailable):
                    move_instances(holdings, progress=lambda _: None)
            assert len(given_up) == 1
            with (filled / "blobs" / place.key).open("r+b") as file:
                file.seek(place.offset + place.size - 10)
                file.write(b"damaged!")
            assert move_instances(holdings, progress=lambda _: None).failed == 1
            assert len(given_up) == 2

    def test_there_has_to_be_another_store(self, filled, tmp_path):
        with Holdings(filled) as holdings, pytest.raises(InvalidArgument, match="no other store"):
            move_instances(holdings, progress=lambda _: None)
        with pytest.raises(InvalidArgument, match="to a bucket"):
            migrate(filled, "--storage", str(tmp_path / "elsewhere"))
