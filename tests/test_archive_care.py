"""Looking after an archive: checks that find what is wrong and nothing else, deletion, copies."""

from __future__ import annotations

import io
import json
import subprocess
import threading
import zipfile

import archives
import pydicom
import pytest
from archives import an_incoming, data_set, part10
from programs import summary

from dicomnet.archive import checks
from dicomnet.archive.backup import backup
from dicomnet.archive.checks import Problem, fsck, scrub
from dicomnet.archive.holdings import Holdings
from dicomnet.archive.settings import ArchiveSettings
from dicomnet.cli import app
from dicomnet.errors import InvalidArgument
from dicomnet.repository import importing
from dicomnet.repository.blob_source import data_set_of
from dicomnet.repository.deletion import QUEUE, compact, delete_blobs_due, delete_instances
from dicomnet.repository.importing import import_files


@pytest.fixture
def holdings(tmp_path):
    with archives.opened(tmp_path / "archive") as opened:
        yield opened


@pytest.fixture
def stored(holdings):
    holdings.intake.store([an_incoming(number, study=1 + number % 2) for number in range(8)])
    return holdings


@pytest.fixture
def run(capsys):
    """Run a command in this process: exit code, standard output and standard error."""

    def run(*arguments):
        capsys.readouterr()
        code = app.run([str(one) for one in arguments])
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run


def uids_of(holdings):
    return sorted(place.uid for page in holdings.places.pages() for place in page)


def problems(findings):
    return sorted((one.problem, one.uid) for one in findings)


class TestChecks:
    def test_an_archive_that_is_well(self, stored):
        seen = []
        assert problems(fsck(stored, progress=seen.append)) == []
        assert problems(scrub(stored, progress=seen.append)) == []
        assert sum(seen) > 8

    def test_what_the_index_does_not_know(self, stored):
        stored.blobs.put([an_incoming(99).blob])
        assert problems(fsck(stored)) == [(Problem.UNKNOWN, "1.2.1.1.99")]
        assert stored.intake.recover(recent=False) == 1
        assert problems(fsck(stored)) == []

    def test_what_is_not_there(self, stored):
        place = stored.places.of(["1.2.1.1.4"])["1.2.1.1.4"]
        stored.blobs.delete([place.ref])
        assert problems(fsck(stored)) == [(Problem.MISSING, "1.2.1.1.4")]

    def test_bytes_that_changed(self, stored):
        place = stored.places.of(["1.2.1.1.4"])["1.2.1.1.4"]
        path = stored.blobs.root / place.key
        content = bytearray(path.read_bytes())
        content[place.offset + place.size - 1] ^= 1
        path.write_bytes(content)
        assert problems(scrub(stored)) == [(Problem.DAMAGED, "1.2.1.1.4")]

    def test_counts_that_are_not_exact(self, stored):
        with stored.database.write() as connection:
            connection.exec_driver_sql("UPDATE study SET n_inst = 7 WHERE uid = '1.2.1'")
            connection.exec_driver_sql("UPDATE series SET bytes = 7 WHERE uid = '1.2.2.1'")
            connection.exec_driver_sql("UPDATE blob SET refs = 7")
        assert [problem for problem, _ in problems(fsck(stored))] == [Problem.COUNT] * 3

    def test_quarantine_is_no_problem(self, stored):
        stored.intake.store([an_incoming(1, study=2, Rows=9)])
        assert problems(fsck(stored)) == []

    def test_what_waits_in_quarantine_and_is_not_there(self, stored):
        stored.intake.store([an_incoming(1, study=2, Rows=9)])
        (waiting,) = stored.quarantine.items()
        stored.blobs.delete([waiting.ref])
        (found,) = fsck(stored)
        assert (found.problem, found.uid, found.detail) == (Problem.MISSING, "1.2.2.1.1", "of quarantine")

    def test_a_file_that_is_overwritten(self, stored):
        place = stored.places.of(["1.2.1.1.4"])["1.2.1.1.4"]
        with (stored.blobs.root / place.key).open("r+b") as file:
            file.seek(place.offset)
            file.write(b"\xff" * place.size)
        (found,) = scrub(stored)
        assert (found.problem, found.uid) == (Problem.DAMAGED, "1.2.1.1.4")

    @pytest.mark.parametrize("then", ["moved", "deleted"])
    def test_what_moves_or_goes_while_it_is_read_is_no_problem(self, tmp_path, monkeypatch, then):
        """The first read waits for it: a compaction, or a deletion."""
        with archives.opened(tmp_path / "small") as holdings:
            holdings.blobs._log._most = 4000
            for number in range(12):
                holdings.intake.store([an_incoming(number)])
            delete_instances(holdings, [f"1.2.1.1.{number}" for number in range(12) if number % 4])
            real, first = checks.hash_of, threading.Lock()

            def read_late(blobs, place):
                if first.acquire(blocking=False):
                    before = place.key
                    if then == "deleted":
                        delete_instances(holdings, [place.uid])
                    assert compact(holdings) > 0
                    assert not (holdings.blobs.root / before).exists()
                return real(blobs, place)

            monkeypatch.setattr(checks, "hash_of", read_late)
            assert problems(scrub(holdings)) == []
            assert first.locked()


class TestDeletion:
    def test_rows_go_at_once_and_bytes_right_after(self, stored):
        gone = delete_instances(stored, ["1.2.1.1.0", "1.2.2.1.1", "9.9"])
        assert gone.instances == 2
        assert "1.2.1.1.0" not in uids_of(stored)
        assert problems(fsck(stored)) == []
        assert stored.outbox.counts() == []

    def test_a_crash_in_between_leaves_them_queued(self, stored, monkeypatch):
        def crash(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(stored.blobs, "delete", crash)
            with pytest.raises(KeyboardInterrupt):
                delete_instances(stored, ["1.2.1.1.0"])
        with stored.database.write() as connection:
            connection.exec_driver_sql("UPDATE outbox SET until = 0")
        assert [one.queue for one in stored.outbox.counts()] == [QUEUE]
        assert stored.intake.recover(recent=False) == 0, "what waits to be deleted is not indexed again"
        assert "1.2.1.1.0" not in uids_of(stored)
        assert problems(fsck(stored)) == []
        assert delete_blobs_due(stored) == 1
        assert problems(fsck(stored)) == []

    def test_one_failure_does_not_block_the_next(self, stored, monkeypatch):
        first = stored.places.of(["1.2.1.1.0"])["1.2.1.1.0"].ref
        real = stored.blobs.delete

        def fails_once(refs):
            if first in refs:
                raise OSError(5, "input/output error")
            real(refs)

        monkeypatch.setattr(stored.blobs, "delete", fails_once)
        delete_instances(stored, ["1.2.1.1.0"])
        delete_instances(stored, ["1.2.2.1.1"])
        assert [item.error for item in stored.outbox.items()] == ["[Errno 5] input/output error"]
        assert len(uids_of(stored)) == 6

    def test_compaction_gives_back_room_and_loses_nothing(self, tmp_path):
        with archives.opened(tmp_path / "small") as holdings:
            holdings.blobs._log._most = 4000
            for number in range(12):
                holdings.intake.store([an_incoming(number)])
            holdings.intake.store([an_incoming(0, Rows=9)])
            before = holdings.blobs.stats()
            delete_instances(holdings, [f"1.2.1.1.{number}" for number in range(12) if number % 4])
            assert compact(holdings) > 0
            after = holdings.blobs.stats()
            assert after.bytes < before.bytes / 2
            assert problems(fsck(holdings)) == problems(scrub(holdings)) == []
            place = holdings.places.of(["1.2.1.1.8"])["1.2.1.1.8"]
            assert data_set_of(holdings.blobs, place.ref) == data_set(8)
            (waiting,) = holdings.quarantine.items()
            assert data_set_of(holdings.blobs, waiting.ref) == data_set(0, Rows=9)


class TestReindex:
    def test_the_index_is_made_anew(self, stored, tmp_path, run):
        before = uids_of(stored)
        stored.close()
        for path in stored.directory.glob("index.db*"):
            path.unlink()
        result = run("archive", "reindex", stored.directory, "--json")
        assert summary(result.stdout) == {"indexed": 8, "instances": 8}
        with Holdings(stored.directory) as again:
            assert uids_of(again) == before
            assert problems(fsck(again)) == []


class TestCopies:
    def test_a_backup_is_an_archive(self, stored, tmp_path):
        stored.blobs._lanes.add()
        first = backup(stored, tmp_path / "copy", progress=lambda _: None)
        assert first.copied >= 1
        stored.intake.store([an_incoming(50)])
        second = backup(stored, tmp_path / "copy", progress=lambda _: None)
        third = backup(stored, tmp_path / "copy", progress=lambda _: None)
        assert (second.copied, third.copied) == (1, 0)
        claims = [path.read_bytes() for path in sorted((tmp_path / "copy/blobs/active").iterdir())]
        assert claims == [b"", b"lane"]
        with Holdings(tmp_path / "copy") as copy:
            assert uids_of(copy) == uids_of(stored)
            assert problems(fsck(copy)) == problems(scrub(copy)) == []

    def test_a_backup_during_receipt_is_consistent(self, stored, tmp_path):
        done = threading.Event()

        def receive():
            for number in range(100, 160):
                stored.intake.store([an_incoming(number)])
            done.set()

        thread = threading.Thread(target=receive)
        thread.start()
        round_ = 0
        while not done.is_set() or not round_:
            round_ += 1
            backup(stored, tmp_path / f"copy{round_}", progress=lambda _: None)
        thread.join()
        for number in range(1, round_ + 1):
            with Holdings(tmp_path / f"copy{number}") as copy:
                assert problems(fsck(copy)) == problems(scrub(copy)) == []
                assert len(uids_of(copy)) >= 8

    def test_import_says_what_became_of_each(self, holdings, tmp_path):
        source = tmp_path / "in"
        (source / "deep").mkdir(parents=True)
        (source / "a.dcm").write_bytes(part10(1, size=1 << 16))
        (source / "deep" / "b").write_bytes(part10(2, size=3 << 20))
        (source / "again.dcm").write_bytes(part10(1, size=1 << 16, sender="OTHER"))
        (source / "other.dcm").write_bytes(part10(1, Rows=3))
        (source / "none.dcm").write_bytes(part10(3, StudyInstanceUID=None))
        with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
            archive.writestr("c.dcm", part10(4))
        result = import_files(holdings, [str(source), str(tmp_path / "more.zip")])
        assert (result.stored, result.known, result.quarantined) == (3, 1, 1)
        assert [name.rpartition("/")[2] for name, _ in result.failed] == ["none.dcm"]
        assert uids_of(holdings) == ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.1.4"]
        assert holdings.places.of(["1.2.1.1.2"])["1.2.1.1.2"].key.startswith("large/")
        assert problems(fsck(holdings)) == problems(scrub(holdings)) == []

    def test_export_and_import_are_the_same_archive(self, stored, tmp_path, run):
        stored.close()
        for form, target in (("folder", "out"), ("zip", "out.zip"), ("dicomdir", "media")):
            chosen = ("--patient", "P1", "--format", form)
            exported = run("archive", "export", stored.directory, tmp_path / target, *chosen)
            assert exported.returncode == 0, exported.stderr
            fresh = tmp_path / f"fresh-{form}"
            archives.make(fresh)
            imported = run("archive", "import", fresh, tmp_path / target, "--json")
            assert summary(imported.stdout)["stored"] == 4, imported.stderr
            with Holdings(fresh) as copy, Holdings(stored.directory) as original:
                known = original.places.of(uids_of(copy))
                assert all(place.sha == known[place.uid].sha for page in copy.places.pages() for place in page)
        entries = pydicom.dcmread(tmp_path / "media" / "DICOMDIR").DirectoryRecordSequence
        assert [one.DirectoryRecordType for one in entries].count("IMAGE") == 4

    def test_an_exported_file_is_what_is_stored(self, stored, tmp_path, run):
        stored.close()
        run("archive", "export", stored.directory, tmp_path / "out", "--instance", "1.2.1.1.2")
        (path,) = (tmp_path / "out").rglob("*.dcm")
        assert path.relative_to(tmp_path / "out").as_posix() == "P1/1.2.1/1.2.1.1/1.2.1.1.2.dcm"
        assert path.read_bytes().endswith(data_set(2))
        assert pydicom.dcmread(io.BytesIO(path.read_bytes())).PatientID == "P1"
        again = run("archive", "export", stored.directory, tmp_path / "out", "--instance", "1.2.1.1.2")
        assert again.returncode == 40
        assert "is there already" in again.stderr


class TestCommands:
    def test_stats_fsck_scrub_delete_compact(self, stored, run):
        stored.close()
        stats = summary(run("archive", "stats", stored.directory, "--json").stdout)
        assert {name: stats[name] for name in ("patients", "studies", "series", "instances", "quarantined")} == {
            "patients": 2, "studies": 2, "series": 2, "instances": 8, "quarantined": 0
        }  # fmt: skip
        deleted = run("archive", "delete", stored.directory, "--study", "1.2.1", "--yes", "--json")
        assert summary(deleted.stdout)["instances"] == 4
        for name in ("fsck", "scrub"):
            result = run("archive", name, stored.directory, "--json")
            assert (result.returncode, summary(result.stdout)["problems"]) == (0, 0)
        assert run("archive", "compact", stored.directory).returncode == 0

    def test_a_problem_is_a_line_and_an_exit_code(self, stored, run):
        stored.blobs.delete([stored.places.of(["1.2.1.1.4"])["1.2.1.1.4"].ref])
        stored.close()
        result = run("archive", "fsck", stored.directory, "--json")
        assert result.returncode == 69
        assert json.loads(result.stdout.splitlines()[0])["uid"] == "1.2.1.1.4"
        assert "error: missing: 1.2.1.1.4 in segments/" in result.stderr

    def test_where_there_is_no_archive(self, tmp_path, run):
        result = run("archive", "fsck", tmp_path)
        assert result.returncode == 2
        assert "is no archive" in result.stderr
        assert list(tmp_path.iterdir()) == []

    def test_the_archive_of_a_server_is_named(self, tmp_path, run):
        inside = tmp_path / "data" / "archive"
        inside.mkdir(parents=True)
        (inside / "archive.toml").touch()
        result = run("archive", "fsck", tmp_path)
        assert result.returncode == 2
        assert f"It is a server, and its archive is {inside}" in result.stderr.replace("\n", "")


class TestSettings:
    def test_a_new_archive_has_a_file_to_edit(self, tmp_path):
        made = ArchiveSettings.make(tmp_path / "new" / "archive", port=104, ae_title="PACS")
        assert ArchiveSettings.load(tmp_path / "new" / "archive") == made
        assert (made.ae_title, made.port, made.durability) == ("PACS", 104, "disk")
        assert ArchiveSettings.make(tmp_path / "new" / "archive", port=105).port == 105

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ('layuot = "files"', r'"layuot" is no setting.*Is it layout\?'),
            ('layout = "tape"', "segments or files"),
            ('duplicates = "x"', "keep or replace or quarantine"),
            ("port = 70000", "0 to 65535"),
            ('[destinations]\nX = "nowhere"', "archive.toml"),
            ("= 1", "archive.toml"),
        ],
    )
    def test_a_mistake_is_one_line(self, tmp_path, text, why):
        (tmp_path / "archive.toml").write_text(text)
        with pytest.raises(InvalidArgument, match=why):
            ArchiveSettings.load(tmp_path)

    def test_all_that_can_be_said(self, tmp_path):
        (tmp_path / "archive.toml").write_text(
            'ae_title = "X"\nlayout = "files"\nduplicates = "keep"\nassociations = 5\n'
            "watermarks = {refuse = 0.5, reject = 0.6, resume = 0.4}\n"
            '[destinations]\nWS = "ws.local:104"\nSECURE = "dicoms://OTHER@ws.local"\n'
        )
        settings = ArchiveSettings.load(tmp_path)
        assert (settings.watermarks.refuse, settings.associations) == (0.5, 5)
        assert {title: str(one) for title, one in settings.destinations.items()} == {
            "WS": "WS@ws.local:104", "SECURE": "dicoms://OTHER@ws.local:2762"
        }  # fmt: skip


class TestImporting:
    def test_group_by_group(self, holdings, tmp_path, monkeypatch):
        monkeypatch.setattr(importing, "_GROUP", 2)
        for number in range(5):
            (tmp_path / f"{number}.dcm").write_bytes(part10(number))
        seen, groups = [], []

        def store(group):
            groups.append(len(group))
            return holdings.intake.store(group)

        result = import_files(holdings, [str(tmp_path)], progress=seen.append, store=store)
        assert (result.stored, seen, groups) == (5, [2, 2, 1], [2, 2, 1])

    def test_a_disk_that_is_full_leaves_nothing(self, holdings, tmp_path, monkeypatch):
        """Large instances fail by their names as they are read; a group of small ones ends the import."""
        (tmp_path / "a.dcm").write_bytes(part10(1, size=3 << 20))
        (tmp_path / "b.dcm").write_bytes(part10(2))

        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            for module in ("segment_log", "single_files"):
                patch.setattr(f"dicomnet.repository.{module}.write_all", full)
            result = import_files(holdings, [str(tmp_path / "a.dcm")])
            with pytest.raises(OSError, match="No space left"):
                import_files(holdings, [str(tmp_path / "b.dcm")])
        assert (result.stored, [name for name, _ in result.failed]) == (0, [str(tmp_path / "a.dcm")])
        assert not list((holdings.blobs.root / "incoming").iterdir())
        assert import_files(holdings, [str(tmp_path / "a.dcm"), str(tmp_path / "b.dcm")]).stored == 2

    def test_uids_that_are_none(self, holdings, tmp_path):
        """A component with a leading zero, which other programs may send on, is none that could be found again."""
        (tmp_path / "a.dcm").write_bytes(part10(10).replace(b"1.2.1.1.10", b"1.2.1.1.01"))
        [(_, why)] = import_files(holdings, [str(tmp_path / "a.dcm")]).failed
        assert "has no valid UIDs" in why
        assert uids_of(holdings) == []
