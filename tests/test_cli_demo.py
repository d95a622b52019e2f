"""`dicomnet demo`: it shows what it promises, and cleans up."""

from __future__ import annotations

import json
import os
import subprocess

import programs
import pytest

import dicomnet as dn
from dicomnet.cli import demo
from dicomnet.client import Outcome, Stored


def test_it_runs_by_itself(tmp_path):
    result = programs.run("demo", env={**os.environ, "TMPDIR": str(tmp_path)})
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert "answered C-ECHO with 0x0000 (success)" in lines[0]
    assert all(word in lines[2] for word in ("File", "SOP class", "Transfer syntax", "Size", "ms", "Status"))
    (row,) = (line for line in lines if " CT_small.dcm " in line)
    assert all(word in row for word in ("CT Image Storage", "Explicit VR Little Endian", "KiB", "0x0000 (success)"))
    assert "data sets arrived bit for bit" in lines[-1]
    assert list(tmp_path.iterdir()) == []


def test_json_and_the_syntaxes_of_the_samples():
    result = programs.run("demo", "--json")
    *rows, _ = map(json.loads, result.stdout.splitlines())
    assert all(row["identical"] for row in rows)
    syntaxes = {row["transfer_syntax"] for row in rows}
    assert {"Explicit VR Big Endian", "Deflated Explicit VR Little Endian", "RLE Lossless"} <= syntaxes
    total = programs.summary(result.stdout)
    assert (total["instances"], total["failed"]) == (len(rows), 0)
    assert len(rows) > 100


def test_without_colours_and_signs_where_they_are_not_wanted():
    result = programs.run("demo", env={**os.environ, "NO_COLOR": "1", "FORCE_COLOR": ""})
    assert "\x1b[3" not in result.stdout


def test_a_difference_is_noticed(sample_files, tmp_path):
    path = next(path for path in sample_files if path.name == "CT_small.dcm")
    with demo.open_source(str(path)) as source:
        uid = source.sop_instance_uid
    result = Stored(Outcome.STORED, str(path), str(path), dn.Status.SUCCESS, sent_as=uid)
    kept = tmp_path / f"{uid}.dcm"
    kept.write_bytes(path.read_bytes())
    assert demo._is_kept(result, str(tmp_path))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    assert not demo._is_kept(result, str(tmp_path))
    assert not demo._is_kept(Stored(Outcome.FAILED, str(path), str(path), dn.Status(0xA700)), str(tmp_path))


def test_without_samples(monkeypatch):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    with pytest.raises(dn.InputFileError, match="test files of pydicom"):
        demo._samples()


def test_a_provider_that_does_not_start(monkeypatch, tmp_path):
    monkeypatch.setattr(demo.sys, "executable", "/bin/true")
    with pytest.raises(dn.ConnectionFailed, match="did not start"), demo._provider(str(tmp_path)):
        pass


def test_the_provider_ends_with_the_block(tmp_path, monkeypatch):
    started = []
    popen = subprocess.Popen

    def remembered(*args, **options):
        started.append(popen(*args, **options))
        return started[-1]

    monkeypatch.setattr(demo.subprocess, "Popen", remembered)
    monkeypatch.chdir(programs.ROOT)
    with demo._provider(str(tmp_path)) as peer:
        assert started[0].poll() is None
        assert peer.ae_title == "DEMO"
    assert started[0].returncode == 0


@pytest.mark.long
def test_an_archive_does_a_day_s_work(tmp_path):
    result = programs.run("demo", "--archive", "--json", env={**os.environ, "TMPDIR": str(tmp_path)})
    assert (result.returncode, result.stderr) == (0, "")
    *steps, _ = map(json.loads, result.stdout.splitlines())
    assert [step["step"] for step in steps] == ["C-STORE", "C-FIND", "C-GET", "N-ACTION", "MWL", "MPPS"]
    assert all(step["good"] for step in steps)
    total = programs.summary(result.stdout)
    assert (total["problems"], total["failed"]) == (0, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.deadline(240)
def test_a_site_does_a_modality_s_day():
    result = subprocess.run(
        programs.command("demo", "--site", "--json"), capture_output=True, text=True, cwd=programs.ROOT, timeout=200
    )
    *steps, _ = map(json.loads, result.stdout.splitlines())
    assert [step["said"] for step in steps if not step["good"]] == []
    assert (result.returncode, result.stderr) == (0, "")
    assert [step["step"] for step in steps] == [
        "site init", "site up", "worklist", "MPPS begins", "store", "MPPS ends", "routed", "commitment",
        "de-identified", "workstation", "rendered", "site check", "site down",
    ]  # fmt: skip
    assert programs.summary(result.stdout)["failed"] == 0
