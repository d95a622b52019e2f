"""What commands say, and how they end, where a peer or a file is not as it should be."""

from __future__ import annotations

import json
import os
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import archives
import pytest
import rig
from peers import full_backlog
from programs import run_here
from rig import instance, keys

import dicomnet as dn
from dicomnet import uids
from dicomnet.archive.archive import Archive
from dicomnet.cli import doctor
from dicomnet.files.part10 import meta_header
from dicomnet.testing import Provider

ABORT = b"\x07\0\0\0\0\x04\0\0\0\0"


@contextmanager
def answering(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """A peer that does this with one connection, and then hangs up."""

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"PEER@127.0.0.1:{server.getsockname()[1]}"
        thread.join(rig.PATIENCE)


def until_gone(connection: socket.socket) -> None:
    while connection.recv(1 << 16):
        pass


class TestDoctor:
    @pytest.mark.parametrize(
        ("answer", "code", "advice"),
        [
            (lambda sock: (sock.recv(1 << 16), sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), until_gone(sock)), 61,
             "What it says is no DICOM: is this the right port?"),
            (lambda sock: (sock.recv(1 << 16), sock.sendall(ABORT), until_gone(sock)), 61,
             "Is this port for DICOM? Some peers end what they do not like without a word"),
            (lambda sock: sock.recv(1 << 16), 60, "or does it want TLS (dicoms://)?"),
            (until_gone, 124, "Something listens there; is it DICOM"),
        ],
        ids=["no DICOM", "aborts", "hangs up", "silent"],
    )  # fmt: skip
    def test_one_that_takes_connections_and_no_associations(self, answer, code, advice):
        with answering(answer) as peer:
            done = run_here("doctor", peer, "--timeout", "400ms" if code == 124 else "30s")
        assert done.returncode == code, done
        assert "error: AE title: " in done.stderr
        assert advice in done.stdout
        assert "skipped echo" in done.stdout.lower()

    def test_one_that_rejects(self):
        with Provider(reject=(1, 1, 1)) as provider:
            done = run_here("doctor", provider.peer)
        assert (done.returncode, "The peer's log may say why." in done.stdout) == (61, True)

    def test_one_with_other_services(self):
        with Provider(refuse=doctor._SERVICES.values()) as provider:
            done = run_here("doctor", provider.peer)
        assert done.returncode == 66
        assert "is this the right program, or port?" in done.stdout

    def test_one_behind_a_firewall(self):
        with full_backlog() as port:
            done = run_here("doctor", f"A@127.0.0.1:{port}", "--timeout", "200ms")
        assert (done.returncode, "does a firewall drop what comes?" in done.stdout) == (124, True)

    def test_one_without_verification_is_well_otherwise(self):
        with Provider(refuse=[uids.VERIFICATION]) as provider:
            done = run_here("doctor", provider.peer)
        assert done.returncode == 0
        assert "warning echo: verification is not accepted" in done.stdout.lower()

    def test_one_whose_echo_fails(self):
        with Provider(status={"C-ECHO": 0x0122}) as provider:
            done = run_here("doctor", provider.peer)
        assert done.returncode == 69
        assert "answered 0x0122" in done.stderr


def test_an_association_that_ends_between_two_echoes() -> None:
    with rig.Script(lambda sock, reader: sock.sendall(ABORT)) as script:
        done = run_here("echo", script.peer, "--count", 3)
    assert done.returncode == 62, done
    assert "abort" in done.stderr


def test_a_long_table_is_printed_as_it_comes() -> None:
    matches = [keys(StudyInstanceUID=f"2.25.{number}", StudyDate="20260101") for number in range(120)]
    with Provider(matches=matches) as provider:
        header, rule, *rows, last = run_here("find", provider.peer, "study", "-k", "StudyDate").stdout.splitlines()
    assert [row.split()[0] for row in rows] == [f"2.25.{number}" for number in range(120)]
    assert last.startswith("120 matches")
    assert rule.split()[0] == "-" * (header.index("StudyDate") - 2)


class TestWorkItems:
    @pytest.fixture
    def peer(self, tmp_path: Path) -> Iterator[str]:
        there = {"WATCHER": dn.Entity("WATCHER", "127.0.0.1", 1)}
        with Archive(tmp_path / "archive", archives.make(tmp_path / "archive", destinations=there)) as archive:
            yield f"ARCHIVE@127.0.0.1:{archive.listener.address[1]}"

    @staticmethod
    def summary(*arguments: object) -> dict[str, object]:
        done = run_here("ups", *arguments, "--json")
        assert done.returncode == 0, done
        found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])["summary"]
        return found

    def test_one_that_is_changed_and_discontinued(self, peer: str) -> None:
        uid = self.summary("create", peer, "Segment", "-k", "WorklistLabel=Lungs")["uid"]
        lock = ("--txn", self.summary("claim", peer, uid)["transaction_uid"])
        self.summary("set", peer, uid, *lock, "-k", "ProcedureStepLabel=Segment again")
        [item, _] = map(json.loads, run_here("ups", "find", peer, "--json").stdout.splitlines())
        assert item["00741204"]["Value"] == ["Segment again"]
        self.summary("cancel", peer, uid, *lock, "--reason", "out of order")
        assert "CANCELED" in run_here("ups", "get", peer, uid).stdout

    def test_one_that_others_are_asked_to_cancel(self, peer: str) -> None:
        uid = self.summary("create", peer, "Segment", "-k", "WorklistLabel=Lungs")["uid"]
        assert f"{uid}: asked" in run_here("ups", "cancel", peer, uid, "--reason", "late").stdout
        assert "CANCELED" in run_here("ups", "get", peer, uid).stdout
        done = run_here("ups", "cancel", peer, uid)
        assert (done.returncode, "0xB304" in done.stdout) == (68, True)

    def test_a_subscription_from_its_beginning_to_its_end(self, peer: str) -> None:
        uid = self.summary("create", peer, "Segment", "-k", "WorklistLabel=Lungs")["uid"]
        watcher = ("--receiver", "WATCHER")
        for asked in (("subscribe", peer, uid), ("subscribe", peer), ("unsubscribe", peer, "--suspend"),
                      ("unsubscribe", peer, uid), ("unsubscribe", peer)):  # fmt: skip
            assert self.summary(*asked, *watcher)["status"] == 0, asked
        unknown = run_here("ups", "subscribe", peer, uid, "--receiver", "NOBODY")
        assert (unknown.returncode, unknown.stderr.count("\n")) == (69, 1)

    def test_a_watch_that_hears_nothing_ends(self, peer: str) -> None:
        done = run_here("ups", "watch", peer, "--listen", "127.0.0.1:0", "--aet", "WATCHER", "--for", "100ms")
        assert (done.returncode, "nothing was told for 0.1 s" in done.stderr) == (0, True)
        assert "0 events" in done.stdout
        assert run_here("ups", "watch", peer).returncode == 2


class TestFiles:
    @staticmethod
    def shown(path: Path) -> dict[str, str]:
        done = run_here("dump", path, "--json")
        assert done.returncode == 0, done
        lines = map(json.loads, done.stdout.splitlines())
        return {line["tag"]: line["value"] for line in lines if "tag" in line}

    def deflated(self, path: Path, data: bytes) -> Path:
        meta = meta_header(archives.CT, "1.2.1.1.1", uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "TESTER")
        path.write_bytes(meta + data)
        return path

    def test_a_deflated_one(self, tmp_path: Path) -> None:
        data = zlib.compress(archives.data_set(1, size=64), wbits=-15)
        found = self.shown(self.deflated(tmp_path / "deflated.dcm", data))
        assert found["(0010,0020)"] == "P1"
        assert found["(7FE0,0010)"].startswith("64 bytes")
        done = run_here("dump", self.deflated(tmp_path / "broken.dcm", b"\xff" * 40))
        assert (done.returncode, done.stderr.count("\n")) == (22, 1), done

    def test_bytes_are_shown_in_part(self, tmp_path: Path) -> None:
        meta = meta_header(archives.CT, "1.2.1.1.1", archives.LITTLE, "TESTER")
        (tmp_path / "a.dcm").write_bytes(meta + archives.data_set(1, EncapsulatedDocument=bytes(range(100))))
        assert self.shown(tmp_path / "a.dcm")["(0042,0011)"].startswith("100 bytes 00 01 02")

    def test_where_nothing_can_be_written_or_read(self, tmp_path: Path) -> None:
        instance(1).save_as(tmp_path / "1.dcm", enforce_file_format=True)
        (tmp_path / "loop.dcm").symlink_to(tmp_path / "loop.dcm")
        done = run_here("dump", tmp_path / "loop.dcm")
        assert (done.returncode, "symbolic links" in done.stderr) == (20, True)
        assert os.path.lexists(tmp_path / "loop.dcm")


@pytest.mark.parametrize("window", ["1", "40,0", "40,400,cubic", "40,400,linear,1", "a,b"])
def test_a_window_for_a_print_that_is_none(tmp_path: Path, window: str) -> None:
    done = run_here("print", "X@127.0.0.1:1", tmp_path, "--window", window)
    assert (done.returncode, "is no window" in done.stderr) == (2, True), done


@pytest.mark.parametrize("kind", ["archive", "router"])
def test_a_port_that_is_taken(tmp_path: Path, kind: str) -> None:
    if kind == "router":
        (tmp_path / "rules.toml").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run_here(kind, "run", tmp_path, "--port", taken.getsockname()[1])
    assert done.returncode == 64, done
    assert "Address already in use" in done.stderr or "cannot listen" in done.stderr


def test_a_console_whose_port_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOMNET_SERVERS", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run_here("console", "run", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 64, done


def test_copies_that_are_not_de_identified_have_no_options_of_that(tmp_path: Path) -> None:
    archives.make(tmp_path / "archive")
    done = run_here("archive", "export", tmp_path / "archive", tmp_path / "out", "--burned-in", "keep")
    assert done.returncode == 2
