"""``dicomnet find``, ``get``, ``move``, ``plan``, ``mpps`` and ``commit``: what they print, and how they end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pydicom
import pytest
from rig import PATIENCE, instance, keys

import dicomnet as dn
from dicomnet.cli.app import run
from dicomnet.cli.keys import parse_keys
from dicomnet.testing import Provider

MATCHES = [keys(StudyInstanceUID=f"2.25.{n}", PatientName="DÖE^JANE", SpecificCharacterSet="ISO_IR 192") for n in "012"]


def test_keys_are_keywords_tags_and_paths() -> None:
    assert parse_keys(["PatientName=DOE*", "0010,0020=1", "(0008,0020)", "StudyDate"]) == {
        "PatientName": "DOE*",
        "PatientID": "1",
        "StudyDate": None,
    }
    step = {"Modality": "CT", "ScheduledStationAETitle": None}
    assert parse_keys(
        ["ScheduledProcedureStepSequence[0].Modality=CT", "ScheduledProcedureStepSequence.ScheduledStationAETitle"]
    ) == {"ScheduledProcedureStepSequence": [step]}
    for bad in ("", "=1", "Patient Name=1", "(9998,9998)"):
        with pytest.raises(dn.InvalidArgument):
            parse_keys([bad])


def test_find_prints_a_table(capsys: Any) -> None:
    with Provider(matches=MATCHES) as provider:
        assert run(["find", provider.peer, "study", "-k", "PatientName=D*"]) == 0
    header, rule, *rows, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["StudyInstanceUID", "PatientName"]
    assert set(rule) == {"-", " "}
    assert [row.split() for row in rows] == [[f"2.25.{n}", "DÖE^JANE"] for n in range(3)]
    assert last.startswith("3 matches in ")


def test_find_prints_the_json_model(capsys: Any) -> None:
    with Provider(matches=MATCHES) as provider:
        assert run(["find", provider.peer, "study", "--json"]) == 0
    *lines, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert [line["0020000D"] for line in lines] == [{"vr": "UI", "Value": [f"2.25.{n}"]} for n in range(3)]
    assert lines[0]["00100010"]["Value"] == [{"Alphabetic": "DÖE^JANE"}]
    assert last["summary"]["matches"] == 3


def test_find_in_a_worklist_and_with_a_limit(capsys: Any) -> None:
    match = keys(PatientName="A", ScheduledProcedureStepSequence=[keys(Modality="CT")])
    with Provider(matches=[match] * 500) as provider:
        arguments = ["-k", "PatientName", "-k", "ScheduledProcedureStepSequence.Modality=CT", "--limit", "7"]
        assert run(["find", provider.peer, "--model", "worklist", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "Modality=CT" in printed
    assert "7 matches" in printed


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nowhere"], 2),
        (["study", "-k", "NoSuchKey=1"], 2),
        (["study", "-k", "StudyDate=soon"], 2),
        (["study", "--model", "none"], 2),
        (["study", "--nonsense"], 2),
    ],
)
def test_what_is_wrong_with_a_query_is_one_line(arguments: list[str], code: int, capsys: Any) -> None:
    assert run(["find", "NOBODY@127.0.0.1:1", *arguments]) == code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_failures_have_their_exit_codes(capsys: Any, tmp_path: Path) -> None:
    with Provider(status=0xA700) as provider:
        assert run(["find", provider.peer, "study"]) == 69
        assert run(["get", provider.peer, "study", "-k", "StudyInstanceUID=1.2", "--out", str(tmp_path)]) == 69
        assert run(["move", provider.peer, "study", "-k", "StudyInstanceUID=1.2", "--dest", "X"]) == 69
        assert run(["mpps", provider.peer, "-k", "PatientID=1", "-k", "Modality=CT"]) == 69
    assert "A700" in capsys.readouterr().err


def test_get_writes_files(tmp_path: Path, capsys: Any) -> None:
    with Provider(instances=[instance(n) for n in range(4)]) as provider:
        arguments = ["study", "-k", "StudyInstanceUID=2.25.100", "--out", str(tmp_path / "in"), "--json"]
        assert run(["get", provider.peer, *arguments]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]
    assert (summary["instances"], summary["failed"]) == (4, 0)
    assert sorted(pydicom.dcmread(path).InstanceNumber for path in (tmp_path / "in").iterdir()) == [0, 1, 2, 3]


def test_get_without_its_unique_key_is_refused(capsys: Any, tmp_path: Path) -> None:
    assert run(["get", "X@127.0.0.1:1", "series", "-k", "StudyInstanceUID=1.2", "--out", str(tmp_path)]) == 2
    assert "SeriesInstanceUID" in capsys.readouterr().err


def test_move_tells_what_went_where(capsys: Any) -> None:
    with Provider("THERE") as there:
        host, port = there.address
        destinations = {"THERE": dn.Entity("THERE", host, port)}
        with Provider(instances=[instance(n) for n in range(4)], destinations=destinations) as provider:
            arguments = ["study", "-k", "StudyInstanceUID=2.25.100", "--dest", "THERE"]
            assert run(["move", provider.peer, *arguments]) == 0
        assert len(there.received) == 4
    assert "4 completed, 0 failed" in capsys.readouterr().out


def test_plan_shows_contexts_and_calls_nobody(tmp_path: Path, capsys: Any) -> None:
    for number in range(3):
        instance(number).save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    assert run(["plan", str(tmp_path)]) == 0
    assert "CT Image Storage: Explicit VR Little Endian (3)" in capsys.readouterr().out
    assert run(["plan", str(tmp_path), "--json"]) == 0
    context, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert (context["id"], context["instances"]) == (1, 3)
    assert summary["summary"]["associations"] == 1
    assert run(["plan", str(tmp_path / "missing")]) == 20
    capsys.readouterr()
    assert run(["plan", str(tmp_path / "0.dcm")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("association 1: 1 instance, ")
    assert lines[-1].startswith("1 instance, ")
    assert lines[-1].endswith(", 1 context, 1 association")


def test_mpps_begins_and_ends_a_step(capsys: Any) -> None:
    with Provider() as provider:
        assert run(["mpps", provider.peer, "-k", "PatientName=DOE"]) == 2  # no Modality; nothing is sent
        capsys.readouterr()
        named = ["-k", "PatientName=DOE", "-k", "Modality=CT", "--aet", "CT1"]
        assert run(["mpps", provider.peer, *named, "--json"]) == 0
        uid = json.loads(capsys.readouterr().out)["sop_instance_uid"]
        assert run(["mpps", provider.peer, "--uid", uid, "--status", "completed"]) == 0
        begun, ended = provider.received
    assert begun.dataset.PerformedProcedureStepStatus == "IN PROGRESS"
    assert begun.dataset.PerformedStationAETitle == "CT1"
    assert begun.dataset.PerformedProcedureStepStartDate
    assert begun.dataset.ScheduledStepAttributesSequence[0].StudyInstanceUID
    assert ended.dataset.PerformedProcedureStepEndDate
    assert (ended.sop_instance_uid, ended.dataset.PerformedProcedureStepStatus) == (uid, "COMPLETED")


def test_commit_asks_for_files(tmp_path: Path, capsys: Any) -> None:
    for number in range(3):
        instance(number).save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    with Provider() as provider:
        assert run(["commit", provider.peer, str(tmp_path)]) == 0
    assert "3 committed, 0 not" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send")
def test_ctrl_c_cancels_a_query() -> None:
    with Provider(matches=[keys(StudyInstanceUID="2.25.1")] * 200_000) as provider:
        command = [sys.executable, "-m", "dicomnet", "find", provider.peer, "study", "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert 0 < json.loads(output.splitlines()[-1])["summary"]["matches"] < 200_000


@pytest.mark.parametrize("operation", ["get", "move"])
def test_a_retrieve_shows_how_far_it_is_on_a_terminal(
    operation: str, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with (
        Provider(ae_title="THERE") as there,
        Provider(
            instances=[instance(n) for n in range(4)], destinations={"THERE": dn.Entity.parse(there.peer)}
        ) as provider,
    ):
        provider.pending_every = 0  # a pending response for each
        where = ["--out", str(tmp_path)] if operation == "get" else ["--dest", "THERE"]
        assert run([operation, provider.peer, "study", "-k", "StudyInstanceUID=2.25.100", *where]) == 0
        lines = capsys.readouterr().err.split("\r")
        assert [line for line in lines if line.strip()] == [f"{number} of 4, 0 failed " for number in (1, 2, 3)]
        assert lines[-2:] == [" " * 60, ""]
        assert run([operation, provider.peer, "study", "-k", "StudyInstanceUID=2.25.100", *where, "-q"]) == 0
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize("operation", ["get", "move"])
@pytest.mark.long
def test_ctrl_c_cancels_a_retrieve(operation: str, tmp_path: Path) -> None:
    first, go_on = threading.Event(), threading.Event()

    def kept(_: Any) -> None:
        first.set()
        go_on.wait(PATIENCE)

    there, archive = dn.Listener("THERE", port=0), dn.Listener("ARCHIVE", port=0)
    there.on_store()(kept)
    with there:
        archive.destinations["THERE"] = dn.Entity("THERE", "127.0.0.1", there.address[1])
        archive.on_move("STUDY_ROOT")(lambda _: [instance(number) for number in range(200)])
        archive.on_get("STUDY_ROOT")(lambda _: [instance(number) for number in range(5_000)])
        with archive:
            where = ["--out", str(tmp_path)] if operation == "get" else ["--dest", "THERE"]
            peer = f"ARCHIVE@127.0.0.1:{archive.address[1]}"
            command = [sys.executable, "-m", "dicomnet", operation, peer, "study", "-k", "StudyInstanceUID=1.2", *where]
            with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True) as process:
                if operation == "move":
                    assert first.wait(PATIENCE)
                else:
                    while not any(tmp_path.iterdir()):
                        threading.Event().wait(0.005)
                process.send_signal(signal.SIGINT)
                go_on.set()
                stdout, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert json.loads(stdout.splitlines()[-1])["summary"]["instances"] < (5_000 if operation == "get" else 200)


def test_commit_of_nothing_says_so(tmp_path: Path, capsys: Any) -> None:
    assert run(["commit", "A@127.0.0.1:1", str(tmp_path)]) == 20
    assert capsys.readouterr().err == f"error: {tmp_path}: no DICOM files in it\n"


def test_listening_where_another_does(tmp_path: Path, capsys: Any) -> None:
    with Provider() as provider:
        where = provider.peer.rpartition("@")[2]
        arguments = ["-k", "StudyInstanceUID=1.2", "--out", str(tmp_path), "--by", "move", "--listen", where]
        assert run(["retrieve", provider.peer, "study", *arguments]) == 64
    assert capsys.readouterr().err.startswith(f"error: cannot listen on {where}: ")


@pytest.mark.parametrize("command", ["get", "retrieve"])
def test_nothing_is_asked_for_that_could_not_be_kept(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with Provider() as provider:
        assert run([command, provider.peer, "study", "-k", "StudyInstanceUID=1.2", "--out", str(tmp_path)]) == 45
    assert capsys.readouterr().err == f"error: {tmp_path}: cannot be written to\n"
