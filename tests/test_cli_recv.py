"""`dicomnet recv`: what it keeps, what it says, whom it lets in, and how it ends."""

from __future__ import annotations

import json
import os
import resource
import shlex
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import programs
import pydicom
import pytest

import dicomnet as dn
from dicomnet import uids
from dicomnet.cli.output import Output
from dicomnet.cli.receiver import Receiver
from dicomnet.config import LAST_CALL
from dicomnet.files.instance_source import BytesSource

CT = uids.CT_IMAGE_STORAGE
EXPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN
UID = "1.2.3.4"
CONTEXTS = dn.contexts.storage([CT], [EXPLICIT]) + dn.contexts.verification()


def source(uid: str = UID, sop_class: str = CT, size: int = 1000) -> BytesSource:
    """An instance with no more than pixels, of any name: no source of ours would send what is no UID."""
    data = b"\xe0\x7f\x10\x00OW\0\0" + size.to_bytes(4, "little") + bytes(range(250)) * (size // 250)
    instance = BytesSource(data, EXPLICIT, sop_class, UID)
    instance.sop_instance_uid = uid
    return instance


def interrupting(recv: programs.Provider) -> BytesSource:
    """An instance whose provider is told to stop before its last piece has come."""
    whole = b"".join(source(size=1_000_000).chunks(1 << 20))

    class Interrupting(BytesSource):
        def chunks(self, unit: int) -> Iterator[memoryview]:
            yield memoryview(whole)[:unit]
            recv.process.send_signal(signal.SIGTERM)
            wait_until_it_is_closed(recv)
            yield memoryview(whole)[unit:]

    return Interrupting(whole, EXPLICIT, CT, UID)


def refusals_until_it_is_closed(recv: programs.Provider) -> list[tuple[int, int, int]]:
    """How a provider that has been told to stop rejects associations, until it takes no connection any more."""
    refusals = []
    while True:
        try:
            dn.connect(recv.address, contexts=CONTEXTS).abort()  # the signal has not arrived yet
        except dn.AssociationRejected as error:
            refusals.append((error.result, error.source, error.reason))
        except dn.ConnectionFailed:
            return refusals


def send(peer: str, *sources: BytesSource, contexts=CONTEXTS, calling: str = "SENDER") -> list[dn.Status]:
    with dn.connect(peer, calling=calling, contexts=contexts) as association:
        return [association.store(source).status for source in sources]


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def wait_until_it_is_closed(recv: programs.Provider) -> None:
    """Until a signal has been noticed: connections are refused, or reset where the backlog still took them."""
    end = time.monotonic() + programs.PATIENCE
    while time.monotonic() < end:
        try:
            socket.create_connection((recv.host, recv.port), 1).close()
        except OSError:
            return
    pytest.fail("it still listens")


class TestKeeping:
    def test_a_file_as_part_10_wants_it(self, tmp_path):
        with programs.provider("--out", tmp_path) as recv:
            assert send(recv.address, source()) == [0]
            assert files(tmp_path) == [f"{UID}.dcm"]
            output = recv.stop()
        meta = pydicom.dcmread(tmp_path / f"{UID}.dcm").file_meta
        assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CT, UID)
        assert (meta.TransferSyntaxUID, meta.SourceApplicationEntityTitle) == (EXPLICIT, "SENDER")
        assert meta.ImplementationClassUID == uids.IMPLEMENTATION_CLASS_UID
        sent = b"".join(source().chunks(1 << 20))
        assert (tmp_path / f"{UID}.dcm").read_bytes().endswith(sent)
        assert output.startswith(f"1 instance received: {len(sent)} B in ")

    def test_the_directory_is_made(self, tmp_path):
        with programs.provider("--out", tmp_path / "new" / "newer") as recv:
            send(recv.address, source())
        assert files(tmp_path / "new" / "newer") == [f"{UID}.dcm"]

    def test_another_instance_of_the_same_uid_is_kept_beside_the_first(self, tmp_path):
        with programs.provider("--out", tmp_path) as recv:
            assert send(recv.address, source(size=500), source(size=2000)) == [0, 0]
        assert sorted(files(tmp_path)) == [f"{UID}-1.dcm", f"{UID}.dcm"]
        assert (tmp_path / f"{UID}-1.dcm").stat().st_size > 2000

    @pytest.mark.parametrize(
        "uid", ["../../evil", "/tmp/evil", "..", ".", "a b", "1.2.3/../../4", "1..2", "01.2", "con", "1." * 32 + "11"]
    )
    def test_what_is_no_uid_gets_a_name_of_ours(self, uid, tmp_path):
        inner = tmp_path / "a" / "b"
        with programs.provider("--out", inner, "--json") as recv:
            assert send(recv.address, source(uid)) == [0]
            output = recv.stop()
        (name,) = files(inner)
        assert name.startswith("instance-")
        assert name.endswith(".dcm")
        assert files(tmp_path) == ["a"]
        assert files(tmp_path / "a") == ["b"]
        assert json.loads(output.splitlines()[0])["file"] == str(inner / name)

    def test_discard(self, tmp_path):
        with programs.provider("--discard") as recv:
            assert send(recv.address, source(), source("1.2.3.5")) == [0, 0]
            assert recv.stop().startswith("2 instances received: ")

    @pytest.mark.measures  # the tracer's own files would not fit either
    def test_a_full_disk(self, tmp_path):
        """A limit on the size of files stands in for it: both are errors of the system while it writes."""

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

        with programs.provider("--out", tmp_path, "--json", preexec_fn=limit) as recv:
            statuses = send(recv.address, source("1.2.3.1"), source("1.2.3.2", size=50_000), source("1.2.3.3"))
            assert statuses == [0, 0xA700, 0]
            assert files(tmp_path) == ["1.2.3.1.dcm", "1.2.3.3.dcm"]
            total = programs.summary(recv.stop())
            errors = recv.errors
        assert (total["instances"], total["failed"]) == (2, 1)
        assert errors.startswith("ERROR: ")
        assert errors.count("\n") == 1

    @pytest.mark.parametrize("kept", [True, False])
    def test_what_is_refused_has_failed(self, tmp_path, kept):
        with programs.provider(*(("--out", tmp_path) if kept else ("--discard",)), "--json") as recv:
            with dn.connect(recv.address, contexts=CONTEXTS) as association:
                exchange = association._exchange
                request = exchange.request(
                    exchange.context_for(CT, EXPLICIT),
                    0x0001,
                    source(),
                    affected_sop_class_uid=CT,  # without a priority
                    affected_sop_instance_uid=UID,
                )
                response = association._requestor.complete(exchange.response_to(request))
            assert response.command.status == 0x0212
            total = programs.summary(recv.stop())
        assert files(tmp_path) == []
        assert (total["instances"], total["failed"]) == (0, 1)

    def test_a_sender_that_goes_away_leaves_nothing(self, tmp_path):
        with programs.provider("--out", tmp_path, "--json") as recv:
            association = dn.connect(recv.address, contexts=CONTEXTS)
            # The command set of a C-STORE and a first fragment, then the end.
            exchange = association._exchange
            exchange.request(
                exchange.context_for(CT, EXPLICIT),
                0x0001,
                source(size=4_000_000),
                affected_sop_class_uid=CT,
                affected_sop_instance_uid=UID,
                priority=0,
            )
            for _ in range(2):
                association._requestor.driver._send(exchange.outgoing())
            association._requestor.driver.transport.close()
            assert send(recv.address, source("1.2.3.5")) == [0]
            total = programs.summary(recv.stop())
        assert files(tmp_path) == ["1.2.3.5.dcm"]
        assert (total["instances"], total["failed"]) == (1, 1)


class TestTelling:
    def test_only_the_summary_where_nobody_watches(self, tmp_path):
        with programs.provider("--out", tmp_path) as recv:
            send(recv.address, source())
            assert len(recv.stop().splitlines()) == 1

    def test_verbose(self, tmp_path):
        with programs.provider("--out", tmp_path, "-v") as recv:
            send(recv.address, source())
            first, _ = recv.stop().splitlines()
        assert first == f"SENDER: {tmp_path / UID}.dcm, 1012 bytes"

    def test_quiet(self, tmp_path):
        with programs.provider("--out", tmp_path, "-q") as recv:
            send(recv.address, source())
            assert recv.stop() == ""

    def test_json(self, tmp_path):
        with programs.provider("--out", tmp_path, "--json", address="STORE@127.0.0.1:0") as recv:
            send(f"STORE@{recv.address}", source(), source("1.2.3.5"))
            output = recv.stop()
        first, second, _ = map(json.loads, output.splitlines())
        assert first.items() >= {
            "file": str(tmp_path / f"{UID}.dcm"),
            "sop_class_uid": CT,
            "sop_instance_uid": UID,
            "transfer_syntax_uid": EXPLICIT,
            "size": 1012,
            "calling": "SENDER",
            "called": "STORE",
        }.items()  # fmt: skip
        assert second["sop_instance_uid"] == "1.2.3.5"
        total = programs.summary(output)
        assert (total["instances"], total["bytes"], total["failed"]) == (2, 2024, 0)
        assert 0 < total["seconds"] < 10

    def test_lines_come_at_once(self, tmp_path):
        with programs.provider("--out", tmp_path, "--json") as recv:
            send(recv.address, source())
            assert json.loads(recv.process.stdout.readline())["size"] == 1012

    def test_who_stops_reading_stops_nothing(self, tmp_path):
        with programs.provider("--out", tmp_path, "-v") as recv:
            recv.process.stdout.close()
            assert send(recv.address, source(), source("1.2.3.5")) == [0, 0]
        assert len(files(tmp_path)) == 2


class TestLettingIn:
    def test_the_called_title(self):
        with programs.provider("--discard", address="STORE@127.0.0.1:0") as recv:
            assert send(f"STORE@{recv.address}", source()) == [0]
            with pytest.raises(dn.AssociationRejected, match="called AE title not recognised"):
                send(f"OTHER@{recv.address}", source())

    def test_the_called_title_by_option(self):
        with programs.provider("--discard", "-aet", "STORE") as recv, pytest.raises(dn.AssociationRejected):
            send(f"OTHER@{recv.address}", source())

    def test_any_title_without_one(self):
        with programs.provider("--discard") as recv:
            assert send(f"ANYTHING@{recv.address}", source()) == [0]

    def test_echo(self):
        with programs.provider("--discard") as recv:
            assert programs.run("echo", recv.address).returncode == 0

    def test_classes_that_nobody_knows(self):
        contexts = dn.contexts.storage(["1.2.3.4.5"], [EXPLICIT])
        with programs.provider("--discard") as recv, pytest.raises(dn.NoAcceptedContext):
            send(recv.address, contexts=contexts)
        with programs.provider("--discard", "--any-class") as recv:
            assert send(recv.address, source(sop_class="1.2.3.4.5"), contexts=contexts) == [0]

    def test_every_storage_class_in_any_transfer_syntax(self):
        classes = sorted(uids.STORAGE_CLASSES)
        with programs.provider("--discard") as recv:
            for start in range(0, len(classes), 128):
                contexts = [
                    context
                    for number, sop_class in enumerate(classes[start : start + 128])
                    for context in dn.contexts.storage([sop_class], [f"1.2.3.{number}"])
                ]
                with dn.connect(recv.address, contexts=contexts) as association:
                    assert all(context.accepted for context in association.contexts.values())

    def test_associations_at_a_time(self):
        with (
            programs.provider("--discard", "--max-associations", 1) as recv,
            dn.connect(recv.address, contexts=CONTEXTS),
            pytest.raises(dn.AssociationRejected) as rejection,
        ):
            send(recv.address, source())
        assert (rejection.value.result, rejection.value.source, rejection.value.reason) == (2, 3, 2)

    def test_the_largest_pdu(self):
        with (
            programs.provider("--discard", "-pdu", "20k") as recv,
            dn.connect(recv.address, contexts=CONTEXTS) as association,
        ):
            accept = association._exchange.accept_pdu
            assert accept.user_information[0].value == 20 << 10

    def test_a_silent_connection_is_dropped_in_time(self):
        with (
            programs.provider("--discard", "--timeout", "200ms") as recv,
            socket.create_connection((recv.host, recv.port), programs.PATIENCE) as connection,
        ):
            assert connection.recv(100) == b""


class TestStartingAndEnding:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_signals(self, number, tmp_path):
        with programs.provider("--out", tmp_path) as recv:
            recv.stop(number)
            assert recv.process.returncode == 0
            assert recv.errors == ""

    def test_ipv6(self):
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("no IPv6 here")
        with programs.provider("--discard", address="[::1]:0") as recv:
            assert recv.host == "[::1]"
            assert programs.run("echo", recv.address).returncode == 0

    def test_a_port_that_is_taken(self):
        with programs.provider("--discard") as recv:
            result = programs.run("recv", recv.address, "--discard")
        assert (result.returncode, result.stdout) == (64, "")
        assert result.stderr.startswith(f"error: cannot listen on {recv.address}: ")
        assert result.stderr.count("\n") == 1

    def test_a_directory_that_is_none(self, tmp_path):
        (tmp_path / "file").write_text("")
        result = programs.run("recv", "127.0.0.1:0", "--out", tmp_path / "file")
        assert result.returncode == 45
        assert result.stderr.startswith(f"error: {tmp_path / 'file'}: cannot be made: ")

    def test_durable(self, tmp_path, monkeypatch):
        confirmed = []
        monkeypatch.setattr(os, "fsync", confirmed.append)
        for durable in (False, True):
            directory = tmp_path / f"durable-{durable}"
            directory.mkdir()
            receiver = Receiver(str(directory), Output(json=False, verbosity=-1), durable=durable, port=0)
            with receiver:
                assert send(f"127.0.0.1:{receiver.address[1]}", source()) == [0]
            assert len(confirmed) == 2 * durable
        with programs.provider("--out", tmp_path, "--durable") as recv:
            assert send(recv.address, source()) == [0]

    def test_an_association_in_flight_gets_its_time(self, tmp_path):
        with programs.provider("--out", tmp_path, "--drain", "30s") as recv:
            with dn.connect(recv.address, calling="SENDER", contexts=CONTEXTS) as association:
                assert association.echo() == 0
                assert association.store(interrupting(recv)).status == 0
            recv.process.communicate(timeout=programs.PATIENCE)
            assert recv.process.returncode == 0
        assert files(tmp_path) == [f"{UID}.dcm"]

    @pytest.mark.parametrize("workers", [1, 2])
    def test_callers_are_turned_away_before_the_port_closes(self, workers):
        with programs.provider("--discard", "--workers", workers) as recv:
            association = dn.connect(recv.address, contexts=CONTEXTS)
            waiting = socket.create_connection((recv.host, recv.port), programs.PATIENCE)
            began = time.monotonic()
            recv.process.send_signal(signal.SIGTERM)
            refusals = refusals_until_it_is_closed(recv)
            lasted = time.monotonic() - began
            assert association.echo() == 0  # what was there goes on
            association.release()
            waiting.close()
            recv.process.communicate(timeout=programs.PATIENCE)
            assert recv.process.returncode == 0
        assert set(refusals) == {(2, 3, 1)}
        assert lasted >= LAST_CALL

    def test_no_time_to_drain(self, tmp_path):
        with programs.provider("--out", tmp_path, "--drain", "0") as recv:
            association = dn.connect(recv.address, contexts=CONTEXTS)
            recv.stop()
            assert recv.process.returncode == 0
            with pytest.raises(dn.DicomNetError):
                association.echo()

    def test_a_second_signal_does_not_wait(self):
        with programs.provider("--discard", "--drain", "10m") as recv:
            association = dn.connect(recv.address, contexts=CONTEXTS)
            recv.process.send_signal(signal.SIGTERM)
            wait_until_it_is_closed(recv)
            recv.stop()
            assert recv.process.returncode == 0
            association.abort()


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        ("replace", [f"{UID}.dcm"]),
        ("refuse", [f"{UID}.dcm"]),
        *((one, [f"{UID}-1.dcm", f"{UID}.dcm"]) for one in ("number", "")),
    ],
)
def test_an_instance_that_is_here_already(policy, names, tmp_path):
    provider = programs.provider("--out", tmp_path, "-v", *(("--on-duplicate", policy) if policy else ()))
    with provider as recv:
        with dn.connect(recv.address, contexts=CONTEXTS) as association:
            statuses = [association.store(source(size=size)).status for size in (1000, 5000)]
        log = recv.errors
    assert statuses == [0, 0x0111 if policy == "refuse" else 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert ((tmp_path / f"{UID}.dcm").stat().st_size > 5000) is (policy == "replace")
    assert f"DICOMNET sent {UID}" in log or policy == "refuse"


def test_the_same_bytes_again_are_one_copy(tmp_path):
    provider = programs.provider("--out", tmp_path, "-v")
    with provider as recv:
        for calling in ("CT1", "CT2"):
            with dn.connect(recv.address, calling=calling, contexts=CONTEXTS) as association:
                assert association.store(source()).status == 0
        log = recv.errors
    assert [path.name for path in tmp_path.iterdir()] == [f"{UID}.dcm"]
    assert f"CT2 sent {UID} again" in log


def test_a_command_for_each_file(tmp_path):
    code = "import pathlib, sys; pathlib.Path(sys.argv[1] + '.seen').write_text(sys.argv[2])"
    command = shlex.join([sys.executable, "-c", code, "{file}", "{calling} {uid}"])
    provider = programs.provider("--out", tmp_path, "--exec", command)
    with provider as recv, dn.connect(recv.address, calling="CT1", contexts=CONTEXTS) as association:
        assert association.store(source()).status == 0
    assert (tmp_path / f"{UID}.dcm.seen").read_text() == f"CT1 {UID}"
