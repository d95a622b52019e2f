"""`dicomnet store --report`: over the client framework, and resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import zipfile
from pathlib import Path

import programs
import pytest
from test_cli_store import archive, instance


@pytest.fixture
def five(tmp_path):
    return [instance(tmp_path / "five" / f"{number}.dcm", number) for number in range(1, 6)]


def outcomes(report: Path) -> list[str]:
    return [json.loads(line)["outcome"] for line in report.read_text().splitlines()]


def test_what_failed_is_sent_again_and_nothing_else(five, tmp_path):
    report = tmp_path / "out.jsonl"
    arguments = [five[0].parent, "--associations", "4", "--report", report]
    with archive(lambda _, request: 0xA700 if request.sop_instance_uid[-1] in "24" else 0) as scp:
        first = programs.run_here("store", scp.address, *arguments)
    assert first.returncode == 69
    assert first.stdout.startswith("3 instances sent to ")
    assert sorted(outcomes(report)) == ["failed", "failed", "stored", "stored", "stored"]
    with archive() as scp:
        second = programs.run_here("store", scp.address, *arguments, "--resume")
        assert sorted(scp.uids) == ["1.2.3.2", "1.2.3.4"]
    assert second.returncode == 0
    assert f"3 stored before, says {report}\n2 instances sent to " in second.stdout
    with archive() as scp:
        third = programs.run_here("store", scp.address, *arguments, "--resume", "--json")
        assert scp.uids == []
    assert programs.summary(third.stdout).items() >= {"instances": 0, "failed": 0}.items()


def test_archives_and_what_cannot_be_read(five, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.write(five[0], "1.dcm")
        file.writestr("note.txt", "no DICOM")
    with archive() as scp:
        result = programs.run_here("store", scp.address, tmp_path / "a.zip", "gone.dcm", "--report", tmp_path / "r")
        assert scp.uids == ["1.2.3.1"]
    assert result.returncode == 20
    assert "a.zip!note.txt: " in result.stderr
    assert "gone.dcm: cannot be read: No such file or directory" in result.stderr
    assert result.stderr.count("\n") == 2


def test_nobody_there(five, tmp_path):
    result = programs.run_here("store", "A@127.0.0.1:1", *five, "--report", tmp_path / "r", "-q")
    assert result.returncode == 60
    assert result.stderr.count("Connection refused") == 1
    assert result.stderr.count("not sent: no association") == 5
    assert outcomes(tmp_path / "r") == ["failed"] * 5


def test_nothing_to_send(tmp_path):
    (tmp_path / "empty").mkdir()
    result = programs.run_here("store", "A@127.0.0.1:1", tmp_path / "empty", "--report", tmp_path / "r")
    assert (result.returncode, result.stderr) == (20, f"error: {tmp_path / 'empty'}: no DICOM files in it\n")
    assert outcomes(tmp_path / "r") == ["unreadable"]


def test_options_that_make_no_sense(five, tmp_path):
    result = programs.run_here("store", "A@127.0.0.1:1", *five, "--resume")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "--report is missing" in result.stderr
    (tmp_path / "r").write_text("something\n")
    result = programs.run_here("store", "A@127.0.0.1:1", *five, "--report", tmp_path / "r")
    assert result.returncode == 40
    assert "there is a report already. Resume it, or give another name" in result.stderr


def test_halt(five, tmp_path):
    with archive(lambda _, request: 0xA700 if request.sop_instance_uid[-1] == "2" else 0) as scp:
        result = programs.run_here("store", scp.address, *five, "--halt", "--report", tmp_path / "r")
        assert scp.uids == ["1.2.3.1", "1.2.3.2"]
    assert result.returncode == 69
    assert outcomes(tmp_path / "r") == ["stored", "failed", "skipped", "skipped", "skipped"]


@pytest.mark.parametrize("associations", [1, 2])
def test_ctrl_c_lets_what_is_under_way_end_and_the_rest_can_be_resumed(tmp_path, associations):
    fifty = [instance(tmp_path / f"{number}.dcm", number) for number in range(50)]
    begun, go = threading.Event(), threading.Event()

    def slowly(_, __):
        begun.set()
        go.wait(programs.PATIENCE)

    report = tmp_path / "r"
    options = ["--report", report, "--associations", associations]
    with archive(slowly) as scp:
        process = subprocess.Popen(
            programs.command("store", scp.address, *fifty, *options),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert begun.wait(programs.PATIENCE)
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().startswith("interrupted: what is under way may end")
        go.set()
        process.communicate(timeout=programs.PATIENCE)
        assert process.returncode == 130
        done = set(scp.uids)
        assert 1 <= len(done) <= 17 * associations
    with archive() as scp:
        assert programs.run_here("store", scp.address, *fifty, *options, "--resume").returncode == 0
        assert set(scp.uids) | done == {f"1.2.3.{number}" for number in range(50)}
        assert not set(scp.uids) & {
            json.loads(line)["sop_instance_uid"] for line in report.read_text().splitlines()[: len(done)]
        }


@pytest.mark.parametrize("associations", [1, 2])
def test_the_second_ctrl_c_aborts(five, tmp_path, associations):
    begun, go = threading.Event(), threading.Event()

    def slowly(_, __):
        begun.set()
        go.wait(programs.PATIENCE)

    with archive(slowly) as scp:
        process = subprocess.Popen(
            programs.command("store", scp.address, *five, "--report", tmp_path / "r", "--associations", associations),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert begun.wait(programs.PATIENCE)
            process.send_signal(signal.SIGINT)
            assert process.stderr.readline().startswith("interrupted: ")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=programs.PATIENCE / 3)
            assert process.returncode == 130
        finally:
            go.set()
            programs.end(process)


def test_an_archive_that_is_cut_short_is_said_to_be(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.dcm", bytes(1000))
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:300])
    result = programs.run_here("store", "A@127.0.0.1:1", tmp_path / "a.zip", "--report", tmp_path / "r")
    assert (result.returncode, result.stderr.count("\n")) == (20, 1)
    assert result.stderr.startswith(f"error: {tmp_path / 'a.zip'}: cannot be read: File is not a zip file")
