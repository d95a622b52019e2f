"""Backups: whole at any time, only of their own archive, and with nothing in them that was deleted."""

from __future__ import annotations

import shutil

import archives
import pytest
from archives import an_incoming

from dicomnet.archive import backup as module
from dicomnet.archive.backup import MARK, backup
from dicomnet.archive.checks import Problem, fsck, scrub
from dicomnet.archive.holdings import Holdings
from dicomnet.cli import app
from dicomnet.errors import InvalidArgument
from dicomnet.repository.deletion import compact, delete_instances


@pytest.fixture
def stored(tmp_path):
    with archives.opened(tmp_path / "archive") as holdings:
        holdings.blobs._log._most = 4000  # some segments
        for number in range(8):
            holdings.intake.store([an_incoming(number)])
        holdings.intake.store([an_incoming(8, size=3 << 20)])
        yield holdings


def nothing(_):
    pass


def uids_of(holdings):
    return {place.uid for page in holdings.places.pages() for place in page}


def numbered(*numbers):
    return {f"1.2.1.1.{number}" for number in numbers}


def blobs_of(directory):
    folders = (directory / "blobs" / name for name in ("segments", "large", "files"))
    return {
        path.relative_to(directory): path.read_bytes() for one in folders for path in one.rglob("*.*") if path.is_file()
    }


def restored(target, to):
    """What is in a copy of a backup, which is opened elsewhere: UIDs; all of it is well."""
    shutil.copytree(target, to)
    with Holdings(to) as holdings:
        assert list(fsck(holdings)) == list(scrub(holdings)) == []
        return uids_of(holdings)


@pytest.mark.parametrize("files", [1, 2])
def test_an_interrupted_backup_leaves_the_last_one(stored, tmp_path, files):
    target, seen = tmp_path / "copy", []
    backup(stored, target, progress=nothing)
    stored.intake.store([an_incoming(20), an_incoming(21, size=3 << 20)])
    delete_instances(stored, sorted(numbered(1, 2, 3, 8)))
    compact(stored)

    def interrupting(size):
        seen.append(size)
        if len(seen) == files:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backup(stored, target, progress=interrupting)
    shutil.copytree(target, tmp_path / "restored")
    with Holdings(tmp_path / "restored") as holdings:
        assert {one.problem for one in (*fsck(holdings), *scrub(holdings))} <= {Problem.UNKNOWN}, "nothing is missing"
        assert uids_of(holdings) >= numbered(*range(9))
    backup(stored, target, progress=nothing)
    assert restored(target, tmp_path / "again") == uids_of(stored) == numbered(0, 4, 5, 6, 7, 20, 21)


def test_a_second_backup_does_not_bring_back_what_was_deleted(stored, tmp_path):
    target = tmp_path / "copy"
    backup(stored, target, progress=nothing)
    delete_instances(stored, sorted(numbered(0, 1, 2, 3, 4, 8)))
    assert compact(stored) > 0
    backup(stored, target, progress=nothing)
    assert blobs_of(target) == blobs_of(stored.directory)
    assert restored(target, tmp_path / "restored") == numbered(5, 6, 7)
    for path in (tmp_path / "restored").glob("index.db*"):
        path.unlink()
    assert app.run(["archive", "reindex", str(tmp_path / "restored")]) == 0
    with Holdings(tmp_path / "restored") as holdings:
        assert uids_of(holdings) == numbered(5, 6, 7)


def test_claims_and_marks_that_are_gone_go(stored, tmp_path):
    target = tmp_path / "copy"
    backup(stored, target, progress=nothing)
    assert list((target / "blobs" / "active").iterdir())
    delete_instances(stored, sorted(numbered(*range(8))))
    assert list((stored.blobs.root / "segments").glob("*.dead"))
    backup(stored, target, progress=nothing)
    compact(stored)
    stored.close()
    with Holdings(stored.directory) as again:
        backup(again, target, progress=nothing)
    assert not list((target / "blobs" / "active").iterdir())
    assert blobs_of(target) == blobs_of(stored.directory)
    assert restored(target, tmp_path / "restored") == numbered(8)


def test_a_number_of_a_segment_that_comes_again_harms_no_last_backup(stored, tmp_path):
    target = tmp_path / "copy"
    backup(stored, target, progress=nothing)
    last = blobs_of(target)
    stored.close()
    with archives.opened(tmp_path / "other") as other:
        other.intake.store([an_incoming(99)])
        shutil.rmtree(stored.blobs.root)
        shutil.copytree(other.blobs.root, stored.blobs.root)

    def interrupting(_):
        raise KeyboardInterrupt

    with Holdings(stored.directory) as again, pytest.raises(KeyboardInterrupt):
        backup(again, target, progress=interrupting)
    assert {path: content for path, content in blobs_of(target).items() if path.suffix != ".part"} == last


def test_what_is_sealed_during_a_backup_is_indexed_when_it_is_opened(stored, tmp_path, monkeypatch):
    real = module._read_index

    def receiving(*paths):
        part = real(*paths)
        for number in range(30, 60):  # several segments, each sealed as it is full
            stored.intake.store([an_incoming(number)])
            stored.intake.settle()
        return part

    monkeypatch.setattr(module, "_read_index", receiving)
    backup(stored, tmp_path / "copy", progress=nothing)
    claimed = {path.name for path in (stored.blobs.root / "active").iterdir()}
    assert len({path.name for path in (tmp_path / "copy" / "blobs" / "active").iterdir()} - claimed) > 1
    assert restored(tmp_path / "copy", tmp_path / "restored") == uids_of(stored) == numbered(*range(9), *range(30, 60))


class TestTargets:
    def test_another_archive_and_its_backup_stay_as_they_are(self, stored, tmp_path, capsys):
        with archives.opened(tmp_path / "other") as other:
            other.intake.store([an_incoming(70)])
            backup(other, tmp_path / "copy", progress=nothing)
        for target, words in (("other", f"it has no {MARK}"), ("copy", f"a backup of {tmp_path / 'other'}, not of")):
            before = blobs_of(tmp_path / target)
            assert app.run(["archive", "backup", str(stored.directory), str(tmp_path / target)]) != 0
            assert words in capsys.readouterr().err
            assert blobs_of(tmp_path / target) == before
            assert restored(tmp_path / target, tmp_path / f"{target}-restored") == numbered(70)

    def test_a_mark_that_is_no_text_is_another_archives(self, stored, tmp_path, capsys):
        (tmp_path / "copy").mkdir()
        (tmp_path / "copy" / MARK).write_bytes(b"/archive/M\xfcller")
        assert app.run(["archive", "backup", str(stored.directory), str(tmp_path / "copy")]) != 0
        assert "a backup of /archive/M" in capsys.readouterr().err
        assert [path.name for path in (tmp_path / "copy").iterdir()] == [MARK]

    def test_one_that_runs(self, stored, tmp_path):
        target = tmp_path / "copy"
        backup(stored, target, progress=nothing)
        with Holdings(target), pytest.raises(InvalidArgument, match="is in use"):
            backup(stored, target, progress=nothing)
        backup(stored, target, progress=nothing)
        assert restored(target, tmp_path / "restored") == uids_of(stored)


class TestIndexes:
    def test_one_elsewhere_comes_along(self, tmp_path):
        with archives.opened(tmp_path / "archive", database=f"sqlite:///{tmp_path / 'elsewhere.db'}") as holdings:
            holdings.intake.store([an_incoming(1), an_incoming(2, Rows=3)])
            holdings.blobs.settle()
            holdings.blobs._log.close()  # all segments are sealed: the index alone says what is there
            backup(holdings, tmp_path / "copy", progress=nothing)
            assert restored(tmp_path / "copy", tmp_path / "restored") == numbered(1, 2)
        assert not (tmp_path / "archive" / "index.db").exists()

    def test_postgresql_is_refused(self, stored, tmp_path, monkeypatch):
        monkeypatch.setattr(stored.database, "is_sqlite", False)
        with pytest.raises(InvalidArgument, match="pg_dump"):
            backup(stored, tmp_path / "copy", progress=nothing)
        assert not (tmp_path / "copy").exists()


def test_a_backup_that_cannot_be_is_refused(stored, tmp_path, bucket):
    with pytest.raises(InvalidArgument, match="its own backup"):
        backup(stored, stored.directory, progress=nothing)
    with (
        archives.opened(tmp_path / "bucket", storage=bucket) as holdings,
        pytest.raises(InvalidArgument, match="in an object store"),
    ):
        backup(holdings, tmp_path / "copy", progress=nothing)
    assert not (tmp_path / "copy").exists()


def test_what_is_deleted_while_it_is_copied_is_not_in_it(stored, tmp_path, monkeypatch):
    """A file of its own goes between the look at the directory and the copy of it."""
    archives.store(stored, [archives.part10(9, size=3 << 20)])
    real, target, gone = shutil.copyfile, tmp_path / "copy", []

    def too_late(source, part):
        if "large" in source.parts:
            source.unlink()
            gone.append(source)
        return real(source, part)

    monkeypatch.setattr(module.shutil, "copyfile", too_late)
    backup(stored, target, progress=nothing)
    assert len(gone) == 1
    assert blobs_of(target) == blobs_of(stored.directory)
    assert list((target / "blobs" / "segments").rglob("*.*"))


def test_directories_that_are_empty_go_with_what_was_in_them(tmp_path):
    """Where files are laid out by a template, each study is a directory."""
    target = tmp_path / "copy"
    with archives.opened(tmp_path / "archive", layout="files") as holdings:
        for study in (1, 2):
            holdings.intake.store([an_incoming(1, study=study)])
        backup(holdings, target, progress=nothing)
        before = [path for path in (target / "blobs").rglob("*") if path.is_dir()]
        delete_instances(holdings, ["1.2.2.1.1"])
        backup(holdings, target, progress=nothing)
        after = [path for path in (target / "blobs").rglob("*") if path.is_dir()]
    assert blobs_of(target) == blobs_of(tmp_path / "archive")
    assert len(after) < len(before)
    assert restored(target, tmp_path / "restored") == {"1.2.1.1.1"}
