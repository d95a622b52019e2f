"""What an archive acknowledges is durable: the order of writes and syncs, kills, and a disk that is full."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import archives
import peers
import pytest
from archives import CT, data_set, part10

import dicomnet as dn
from dicomnet.archive.checks import fsck, scrub
from dicomnet.archive.holdings import Holdings
from dicomnet.archive.settings import ArchiveSettings
from dicomnet.repository.blob_source import data_set_of
from dicomnet.repository.database import Database
from dicomnet.status import Status
from tools import soak

ROOT = Path(__file__).parent.parent
#: Seconds that a start may take here, beside other tests; `make soak` has the goal.
SLOWEST_START = 30


@contextmanager
def running(directory, *before, **settings):
    """An archive as a process, under another program; gives its port and process."""
    command = [*before, sys.executable, "-m", "dicomnet", "archive", "run", str(directory), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, **settings)
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on "), line
        yield int(line.rpartition(":")[2]), process
    finally:
        for child in children(process.pid):
            os.kill(child, signal.SIGTERM)
        process.wait(30)


def children(pid):
    """The process itself, or what runs under it."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in found] or [pid]


def connected(port):
    return dn.connect(f"ARCHIVE@127.0.0.1:{port}", contexts=dn.contexts.storage([CT]))


class TestOrder:
    """Goal G8b, with strace as the witness.

    The index commits before the answer, and need not be synced: what a loss of power takes from it is in the segments
    (`TestLossOfPower`), whose claims go once it was synced.
    """

    CALL = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed>)(?:\d+<([^>]*)>)?")

    def calls(self, path):
        """What was written, synced, renamed and sent, in order, by whatever thread."""
        unfinished = {}
        for line in path.read_text(errors="replace").splitlines():
            pid = line.split()[0]
            if "unfinished ..." in line:
                unfinished[pid] = line
                continue
            whole = unfinished.pop(pid, line) if "resumed>" in line else line
            found = self.CALL.match(whole)
            if found:
                yield found[1], found[2] or "", whole

    def steps(self, path):
        """The steps of the order, one letter each: blob, Blob synced, moved, directory, index, Index synced, answer."""
        for name, where, line in self.calls(path):
            is_blob = "/segments/" in where or ".part" in where
            if name in ("write", "writev", "pwrite64") and (is_blob or where.endswith("-wal")):
                yield "b" if is_blob else "i"
            elif name in ("fsync", "fdatasync") and (is_blob or where.endswith("-wal")):
                yield "B" if is_blob else "I"
            elif name in ("fsync", "fdatasync") and "/large/" in where:
                yield "D"
            elif name.startswith("rename") and "/large/" in line:
                yield "m"
            elif name in ("sendto", "sendmsg") and where.startswith(("socket:", "TCP:")):
                yield "a"

    @pytest.mark.parametrize(
        ("size", "order"),
        [
            pytest.param(4096, r"b+B+i+a", id="small"),
            pytest.param(300 << 10, r"b+B+i+a", id="middling"),
            pytest.param(3 << 20, r"b+B+b+B+mDi+a", id="large"),
        ],
    )
    @pytest.mark.deadline(120)
    @pytest.mark.long
    def test_nothing_is_acknowledged_before_it_is_durable(self, tmp_path, size, order):
        trace = tmp_path / "trace"
        strace = [peers.peer_program("strace"), "-f", "-y", "-o", str(trace), "-e", "signal=none"]
        calls = "trace=write,writev,pwrite64,fsync,fdatasync,rename,renameat,renameat2,sendto,sendmsg"
        with running(tmp_path / "archive", *strace, "-e", calls) as (port, _), connected(port) as association:
            for number in range(3):
                assert association.store(part10(number, size=size)).status.is_success
            before = trace.stat().st_size
        assert before
        found = "".join(self.steps(trace))
        answers = re.findall(r"[^a]*b[^a]*a", found)
        assert len(answers) == 3, found
        # The index may be opened or tidied before: what counts is the end of each answer's way.
        assert all(re.search(f"{order}$", one) for one in answers), answers

    def test_the_checker_sees_an_answer_that_comes_too_early(self, tmp_path):
        trace = tmp_path / "trace"
        trace.write_text(
            '1 writev(7</a/segments/000001.seg>, [{iov_base="x"}], 3) = 9\n'
            "2 fdatasync(7</a/segments/000001.seg> <unfinished ...>\n"
            "1 sendmsg(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, {msg_name=NULL}, 0) = 8\n"
            "2 <... fdatasync resumed>) = 0\n"
        )
        assert "".join(self.steps(trace)) == "baB"


class TestLossOfPower:
    """What the disk had not confirmed may be gone; an index of some time ago stands for the worst of it."""

    @pytest.mark.parametrize("size", [500, 100 << 10, 2 << 20], ids=["small", "middling", "large"])
    def test_what_the_index_lost_is_in_the_segments(self, tmp_path, size):
        directory, copy = tmp_path / "archive", tmp_path / "copy"
        with archives.opened(directory, durability="disk") as holdings:
            holdings.blobs._lanes.add()
            archives.store(holdings, [part10(1, size=size)])
            shutil.copytree(directory, copy)
            archives.store(holdings, [part10(number, size=size) for number in (2, 3)])
            shutil.rmtree(copy / "blobs")
            shutil.copytree(holdings.blobs.root, copy / "blobs")
        with Holdings(copy) as after:
            assert after.recovered == 2
            places = after.places.of([f"1.2.1.1.{number}" for number in (1, 2, 3)])
            assert len(places) == 3
            assert list(fsck(after)) == list(scrub(after)) == []
        with Holdings(copy) as again:
            assert again.recovered == 0

    def test_a_start_looks_at_a_segment_until_the_disk_has_the_index(self, tmp_path, monkeypatch):
        synced = []
        real = Database.sync

        def sync(database):
            synced.append(sorted(path.name for path in (tmp_path / "archive/blobs/active").iterdir()))
            real(database)

        monkeypatch.setattr(Database, "sync", sync)
        with archives.opened(tmp_path / "archive", durability="disk") as holdings:
            holdings.blobs._log._most = 3000
            for number in range(4):
                archives.store(holdings, [part10(number, size=3000)])
        claims = [one for one in synced if one]
        assert claims[:2] == [["000001", "000002"], ["000002", "000003"]]
        assert not list((tmp_path / "archive/blobs/active").iterdir())

    def test_a_sync_of_the_index_is_one_of_its_log(self, tmp_path, monkeypatch):
        with archives.opened(tmp_path / "archive", durability="disk") as holdings:
            archives.store(holdings, [part10(1)])
            files = []
            real = os.fdatasync

            def sync(fd):
                files.append(os.readlink(f"/proc/self/fd/{fd}"))
                real(fd)

            monkeypatch.setattr(os, "fdatasync", sync)
            holdings.database.sync()
        assert files[0] == str(tmp_path / "archive/index.db-wal")


class TestKills:
    """Goal G8."""

    @pytest.mark.long
    @pytest.mark.deadline(1200)
    def test_kills_at_random_times_lose_nothing(self, tmp_path):
        kills = int(os.environ.get("DICOMNET_KILLS", "100"))
        outcome = soak.soak(kills, tmp_path, seed=int(time.time()), say=False, slowest=SLOWEST_START)
        assert outcome.good, outcome
        assert outcome.kills == kills
        assert outcome.acknowledged > kills

    @pytest.mark.deadline(120)
    def test_a_few_kills_lose_nothing(self, tmp_path):
        outcome = soak.soak(4, tmp_path, seed=3, say=False, slowest=SLOWEST_START)
        assert outcome.good, outcome
        assert outcome.acknowledged

    def test_a_check_sees_what_is_lost_and_what_is_torn(self, tmp_path):
        told = soak.Told()
        with archives.opened(tmp_path / "archive") as holdings:
            holdings.intake.store([archives.an_incoming(1), archives.an_incoming(2)])
            holdings.blobs.delete([holdings.places.of(["1.2.1.1.2"])["1.2.1.1.2"].ref])
        told.add("1.2.1.1.1", b"other bytes")
        told.add("1.2.1.1.3", b"never stored")
        outcome = soak.Outcome()
        soak.check(tmp_path / "archive", told, outcome)
        assert (outcome.lost, outcome.torn) == (["1.2.1.1.3"], ["1.2.1.1.1"])
        assert len(outcome.problems) == 1
        assert not outcome.good


class TestFullDisk:
    """Goals G14 and G15, on a small file system of memory."""

    FILLER = 12 << 20

    @contextmanager
    def small_disk(self, directory, **settings):
        """An archive on a disk of 32 MiB, of which a filler takes some; gives its port, and where its files are."""
        directory.mkdir()
        made = directory.with_name("settings")
        ArchiveSettings.make(made)
        text = (made / "archive.toml").read_text() + settings.get("more", "")
        script = (
            f"mount -t tmpfs -o size=32m tmpfs {directory} && head -c {self.FILLER} /dev/zero > {directory}/filler && "
            f'cp {made}/archive.toml {directory}/ && exec "$@"'
        )
        (made / "archive.toml").write_text(text)
        unshare = [peers.peer_program("unshare"), "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
        with running(directory, *unshare) as (port, process):
            yield port, Path(f"/proc/{process.pid}/root{directory}")

    NO_MARKS = "[watermarks]\nrefuse = 2.0\nreject = 3.0\nresume = 1.9\n"

    @pytest.mark.parametrize("marks", ["", NO_MARKS], ids=["watermark", "full"])
    @pytest.mark.deadline(120)
    def test_it_is_a_status_nothing_is_half_kept_and_it_heals_by_itself(self, tmp_path, marks):
        kept = {}
        with self.small_disk(tmp_path / "disk", more=marks) as (port, files), connected(port) as association:
            refused = 0
            for number in range(200):
                size = (2 << 20) if number % 5 == 4 else (300 << 10)
                status = association.store(part10(number, size=size)).status
                if status.is_success:
                    kept[f"1.2.1.1.{number}"] = data_set(number, size=size)
                    continue
                assert status == Status.OUT_OF_RESOURCES
                refused += 1
                if refused == 10:
                    break
            assert refused == 10
            assert len(kept) > 5
            (files / "filler").unlink()
            association.check()
            time_of_refusal = time.monotonic()
            while not association.store(part10(900, size=4096)).status.is_success:
                assert time.monotonic() - time_of_refusal < 30
            kept["1.2.1.1.900"] = data_set(900, size=4096)
            copy = tmp_path / "copy"
            subprocess.run(["cp", "-r", str(files), str(copy)], check=True)
        with Holdings(copy) as holdings:
            places = holdings.places.of(kept)
            assert all(data_set_of(holdings.blobs, places[uid].ref) == data for uid, data in kept.items())
            assert list(fsck(holdings)) == list(scrub(holdings)) == []
            assert not list((holdings.blobs.root / "incoming").iterdir())
