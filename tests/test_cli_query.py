"""`dicomnet retrieve`, `commit` and `doctor`, as programs of their own."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peers
import pydicom
import pytest
import rig
from certificates import Authority
from programs import PATIENCE, command, run, run_here, summary
from test_cli_store import instance
from test_client_query import STUDY_0, Archive, Silent, uids_in
from test_client_services import CT, PUSH, Committing

import dicomnet as dn
from dicomnet.protocol import negotiation
from dicomnet.protocol.events import AssociateIndication
from dicomnet.protocol.messages import CommandField
from dicomnet.protocol.seen import PDUSeen
from dicomnet.protocol.trace import ProtocolTrace

KEY = ("-k", "StudyInstanceUID=2.25.10")


# ---- retrieve --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offers", ["get", "move"])
def test_retrieve_fetches_a_study(tmp_path: Path, offers: str) -> None:
    port = peers.free_port()
    with Archive(offers, destinations={"ME": dn.Entity("ME", "127.0.0.1", port)}) as archive:
        done = run_here(
            "retrieve", archive.peer, "study", *KEY, "--out", tmp_path, "--listen", f"127.0.0.1:{port}", "--aet", "ME",
            "--json",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {"instances": 4, "failed": 0}.items() <= summary(done.stdout).items()
    assert uids_in(tmp_path) == STUDY_0


def test_find_as_csv() -> None:
    with Archive("get") as archive:
        done = run_here("find", archive.peer, "study", "-k", "PatientID", "-k", "StudyInstanceUID=2.25.10", "--csv")
        assert done.returncode == 0, done.stderr
        header, *rows = csv.reader(done.stdout.splitlines())
        assert header == ["StudyInstanceUID", "PatientID"]
        assert [row[0] for row in rows] == ["2.25.10"]
        both = run_here("find", archive.peer, "study", "--csv", "--json")
    assert (both.returncode, "--csv and --json" in both.stderr) == (2, True)


def test_retrieve_by_one_way_only(tmp_path: Path) -> None:
    with Archive("move") as archive:
        done = run_here("retrieve", archive.peer, "study", *KEY, "--out", tmp_path, "--by", "get")
        assert (done.returncode, "no accepted presentation context" in done.stderr) == (66, True)
        done = run_here("get", archive.peer, "study", *KEY, "--out", tmp_path)
        assert (done.returncode, "`dicomnet doctor` shows which services" in done.stderr) == (66, True)
        done = run_here("retrieve", archive.peer, "study", *KEY, "--out", tmp_path, "--by", "move")
        assert (done.returncode, "takes an address" in done.stderr) == (2, True)
        assert archive.asked == []
    done = run_here("retrieve", "A@127.0.0.1:1", "study", "--out", tmp_path)
    assert (done.returncode, "needs StudyInstanceUID" in done.stderr) == (2, True)


def test_retrieve_says_what_failed(tmp_path: Path) -> None:
    with Archive("move") as archive:  # which does not know us
        port = peers.free_port()
        done = run_here("retrieve", archive.peer, "study", *KEY, "--out", tmp_path, "--listen", f"127.0.0.1:{port}")
    assert (done.returncode, "0xA801" in done.stderr) == (69, True)


@pytest.mark.parametrize("how", ["get", "retrieve"])
@pytest.mark.parametrize("named", ["jpeg2000-lossless", dn.uids.JPEG2000_LOSSLESS])
def test_compressed_syntaxes_are_proposed_where_they_are_named(how: str, named: str, tmp_path: Path) -> None:
    seen: list[object] = []
    log = tmp_path / "log"
    with Archive("get", tap=ProtocolTrace(seen.append, body=None)) as archive:
        done = run_here(
            how, archive.peer, "study", *KEY, "--out", tmp_path / "out", "--syntax", named, "--log", log, "-v"
        )
        wrong = run_here(how, archive.peer, "study", *KEY, "--out", tmp_path, "--syntax", "best")
    assert done.returncode == 0, done.stderr
    assert "A-ASSOCIATE-RQ" in done.stderr  # --log and -v do both
    assert "A-ASSOCIATE-RQ" in log.read_text()
    assert any(dn.uids.JPEG2000_LOSSLESS.encode() in bytes(one.body) for one in seen if isinstance(one, PDUSeen))
    assert (wrong.returncode, '"best" is no transfer syntax' in wrong.stderr) == (2, True)


def test_retrieve_into_what_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Archive("get") as archive:
        done = run_here("retrieve", archive.peer, "study", *KEY, "--out", tmp_path / "file" / "into")
    assert done.returncode == 45
    assert done.stderr == f"error: {tmp_path}/file/into: no directory for what arrives: Not a directory\n"


def test_ctrl_c_cancels_a_retrieve_even_while_the_peer_is_silent(tmp_path: Path) -> None:
    with Silent(CommandField.C_MOVE_RSP) as silent:
        arguments = ["retrieve", silent.peer, "study", *KEY, "--out", tmp_path, "--by", "move"]
        process = subprocess.Popen(
            command(*arguments, "--listen", f"127.0.0.1:{peers.free_port()}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert silent.begun.wait(PATIENCE)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 130, errors
    assert output.startswith("cancelled: 0 completed")


# ---- commit ----------------------------------------------------------------------------------------------------------


def test_commit_hears_the_report_on_a_later_association(tmp_path: Path) -> None:
    one = rig.instance(1)
    one.save_as(tmp_path / "one.dcm", enforce_file_format=True)
    port = peers.free_port()
    archive = Committing(port=port, where="later")
    with archive.listener:
        peer = f"ARCHIVE@127.0.0.1:{archive.listener.address[1]}"
        done = run_here("commit", peer, tmp_path / "one.dcm", "--listen", f"127.0.0.1:{port}", "--aet", "WS1", "--json")
        for thread in archive.threads:
            thread.join(PATIENCE)
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout.splitlines()[0])
    assert (first["committed"], first["sop_instance_uid"]) == (True, one.SOPInstanceUID)
    assert summary(done.stdout)["committed"] == 1


def test_commit_does_not_wait_for_ever(tmp_path: Path) -> None:
    rig.instance(1).save_as(tmp_path / "one.dcm", enforce_file_format=True)
    archive = Committing(where="never")
    with archive.listener:
        peer = f"ARCHIVE@127.0.0.1:{archive.listener.address[1]}"
        listen = f"127.0.0.1:{peers.free_port()}"
        done = run_here("commit", peer, tmp_path / "one.dcm", "--listen", listen, "--wait", "200ms")
    assert (done.returncode, "commitment time-out after 0.2 s" in done.stderr) == (124, True)
    assert (PUSH, len(CT)) == (dn.uids.STORAGE_COMMITMENT_PUSH_MODEL, 2)


# ---- doctor ----------------------------------------------------------------------------------------------------------

ORDER = ["dns", "tcp", "tls", "association", "contexts", "echo", "window"]


def examine(peer: str, *options: object) -> tuple[int, dict[str, dict[str, Any]], dict[str, Any]]:
    """The exit code, each step, and the summary."""
    done = run_here("doctor", peer, "--json", *options)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["step"] for line in lines[:-1]] == ORDER
    for line in lines[:-1]:
        assert (line["verdict"] == "failed") == bool(line["advice"]), line
    return done.returncode, {line["step"]: line for line in lines[:-1]}, lines[-1]["summary"]


def verdicts(steps: dict[str, dict[str, Any]]) -> str:
    """The first letter of each."""
    return "".join(steps[step]["verdict"][0] for step in ORDER)


def test_a_healthy_peer_is_said_to_be() -> None:
    with Archive() as archive:
        code, steps, total = examine(archive.peer)
        assert (code, verdicts(steps), total) == (0, "ooooooo", {"steps": 7, "failed": 0, "healthy": True})
        services = "verification, store CT, store MR, find study, get study, move study, find patient"
        assert steps["contexts"]["detail"] == f"{services} (not: worklist, procedure step, commitment)"
        assert steps["tls"]["detail"] == "not asked for"
        assert steps["window"]["detail"] == "16 instances at a time"
        shown = run_here("doctor", archive.peer)
    assert shown.stdout.splitlines()[-1] == f"{archive.peer} is well"
    assert "ok      DNS: 127.0.0.1 is 127.0.0.1" in shown.stdout


def test_peers_go_by_name(tmp_path: Path) -> None:
    into = tmp_path / "into"
    with Archive("get") as archive:
        (tmp_path / "peers.toml").write_text(f'[archive]\naddress = "{archive.peer}"\ncalling = "WS1"\n')
        named = {"env": os.environ | {"DICOMNET_PEERS": str(tmp_path / "peers.toml")}}
        examined = run("doctor", "archive", **named)
        fetched = run("retrieve", "archive", "study", *KEY, "--out", into, **named)
        unknown = run("doctor", "archiv", **named)
    assert "ok      AE title: ARCHIVE takes associations from WS1" in examined.stdout
    assert (examined.returncode, fetched.returncode) == (0, 0), examined.stderr + fetched.stderr
    assert uids_in(into) == STUDY_0
    assert (unknown.returncode, "Is it archive?" in unknown.stderr) == (2, True)


@pytest.fixture
def mute() -> Iterator[int]:
    """A port that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_each_step_that_fails_is_named_with_what_to_try(mute: int) -> None:
    closed = peers.free_port()
    cases = [
        ("A@no-such-host.invalid:104", (), 60, "fssssss", "spelt right"),
        (f"A@127.0.0.1:{closed}", (), 60, "ofsssss", "Is the program running"),
        (f"A@127.0.0.1:{mute}", ("--timeout", "300ms"), 124, "ooofsss", "is it DICOM"),
        (f"dicoms://A@127.0.0.1:{mute}", ("--timeout", "300ms"), 124, "oofssss", "speak TLS"),
    ]
    for peer, options, expected, shape, advice in cases:
        code, steps, total = examine(peer, *options)
        assert (code, verdicts(steps)) == (expected, shape), (peer, steps)
        [failed] = [step for step in steps.values() if step["verdict"] == "failed"]
        assert advice in failed["advice"]
        assert total == {"steps": 7, "failed": 1, "healthy": False}


def test_a_title_that_is_not_known_is_named() -> None:
    with Archive() as archive:
        code, steps, _ = examine(archive.peer.replace("ARCHIVE", "ARCHIV"))
        assert (code, verdicts(steps)) == (61, "ooofsss")
        assert steps["association"]["detail"].endswith("called AE title not recognised")
        assert steps["association"]["advice"] == 'Is "ARCHIV" the peer\'s AE title?'
    strict = dn.AcceptancePolicy(calling_ae_titles=frozenset({"WS1"}))
    with Archive(acceptance=strict) as archive:
        code, steps, _ = examine(archive.peer)
        assert (code, steps["association"]["advice"]) == (61, 'Does the peer know "DICOMNET"?')
        assert examine(archive.peer, "--aet", "WS1")[0] == 0


def test_who_declines_an_operations_window_is_well() -> None:
    with Archive(acceptance=dn.AcceptancePolicy(operations_window=(1, 1))) as archive:
        code, steps, _ = examine(archive.peer)
    assert (code, verdicts(steps), steps["window"]["detail"]) == (0, "ooooooo", "one instance at a time")


def test_who_hangs_up_on_an_operations_window_is_found_out(tmp_path: Path) -> None:
    """The doctor says so, `store` hints at it, and a line in peers.toml, or an option, helps."""
    proposed = []

    def look(request: Any) -> None:
        offered = negotiation.offers_window(request)
        proposed.append(offered)
        if offered:
            raise ConnectionResetError

    with hanging_up(look) as peer:
        code, steps, total = examine(peer)
        assert (code, verdicts(steps), total["healthy"]) == (0, "oooooow", True)
        assert "window = 1 in peers.toml" in steps["window"]["detail"]
        assert proposed == [False, True]
        (tmp_path / "peers.toml").write_text(f'[archive]\naddress = "{peer}"\nwindow = 1\n')
        named = {"env": os.environ | {"DICOMNET_PEERS": str(tmp_path / "peers.toml")}}
        path = instance(tmp_path / "1.dcm", 1)
        hint = run_here("store", peer, path)
        assert (hint.returncode, "`--window 1`" in hint.stderr) == (61, True), hint.stderr
        assert run_here("store", peer, path, "--window", 1).returncode == 0
        assert run_here("store", peer, path, "--halt").returncode == 0
        assert run("store", "archive", path, **named).returncode == 0
        assert run("store", "archive", path, "--report", tmp_path / "report", **named).returncode == 0
        assert "none is proposed" in run("doctor", "archive", **named).stdout


@contextmanager
def hanging_up(look: Callable[[Any], None]) -> Iterator[str]:
    """A peer that closes the connection where looking at the request fails."""
    listener = dn.Listener("ARCHIVE", port=0)
    listener.on_store()(lambda _: None)

    def intercept(exchange: Any, event: Any) -> bool:
        """Whether the association is over before it has begun."""
        if isinstance(event, AssociateIndication):
            try:
                look(exchange.request_pdu)
            except ConnectionResetError:
                exchange.abort()
                return True
        return False

    listener.intercept = intercept
    with listener:
        yield f"ARCHIVE@127.0.0.1:{listener.address[1]}"


def test_what_is_wrong_with_tls_is_said(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "Stranger")
    issued = authority.issue("archive")
    tls = dn.TLS(cert=issued.cert, key=issued.key, client_certificate="ignored")
    with dn.Listener("ARCHIVE", port=0, tls=tls) as listener:
        peer = f"dicoms://ARCHIVE@127.0.0.1:{listener.address[1]}"
        code, steps, _ = examine(peer, "--tls-ca", authority.file)
        assert (code, verdicts(steps)) == (0, "ooooooo")
        assert steps["tls"]["detail"].startswith("TLSv1.")
        code, steps, _ = examine(peer, "--tls-ca", stranger.file)
        assert (code, verdicts(steps)) == (70, "oofssss")
        code, steps, _ = examine(peer.replace("dicoms://", ""))
        assert verdicts(steps) == "ooofsss"


def test_a_peer_that_does_not_answer_the_echo() -> None:
    with rig.Script(lambda sock, reader: None) as script:
        code, steps, _ = examine(script.peer, "--timeout", "300ms")
        assert steps["contexts"]["verdict"] == "ok"
        assert (code, steps["echo"]["verdict"]) == (124, "failed")


def test_files_that_were_fetched_are_part_10(tmp_path: Path) -> None:
    with Archive("get") as archive:
        done = run_here("retrieve", archive.peer, "series", "-k", "SeriesInstanceUID=2.25.20", "--out", tmp_path)
    assert done.stdout.startswith("2 completed, 0 failed")
    for path in tmp_path.iterdir():
        assert pydicom.dcmread(path).file_meta.SourceApplicationEntityTitle
