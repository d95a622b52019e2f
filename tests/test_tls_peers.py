"""TLS with programs that are not ours, and from the command line."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import faces
import peers
import pytest
from certificates import Authority

import dicomnet as dn

CONTEXTS = [*dn.contexts.verification(), *dn.contexts.storage([dn.uids.CT_IMAGE_STORAGE])]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """What `dicomnet cert make` makes."""
    path = tmp_path_factory.mktemp("pki")
    assert dicomnet("cert", "make", path)[0] == 0
    return path


@pytest.fixture(scope="module")
def tls(directory):
    return {
        role: dn.TLS(ca=directory / "ca.pem", cert=directory / f"{role}.pem", key=directory / f"{role}.key")
        for role in ("server", "client")
    }


@pytest.fixture(scope="module")
def ct_file():
    return next(path for path in peers.sample_files() if path.name == "CT_small.dcm")


def dicomnet(*arguments):
    """Exit code, standard output and standard error of our own program."""
    ran = subprocess.run(
        [sys.executable, "-m", "dicomnet", *map(str, arguments)], capture_output=True, text=True, timeout=40
    )
    return ran.returncode, ran.stdout, ran.stderr


def dcmtk(program, directory, *arguments, role="client"):
    files = [directory / f"{role}.key", directory / f"{role}.pem"]
    command = [peers.peer_program(program), "+tls", *files, "+cf", directory / "ca.pem", *arguments]
    return list(map(str, command))


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        select.select([], [], [], 0.05)
        return False
    return True


@contextmanager
def storescp(directory, port, tmp_path, *options):
    """DCMTK's provider, once it listens."""
    command = dcmtk("storescp", directory, *options, "-od", tmp_path, port, role="server")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 20
            while not listens(port) and time.monotonic() < end:
                assert process.poll() is None
            yield
        finally:
            process.terminate()


@contextmanager
def listener(tls, spool, face="sync"):
    stored = []

    def configure(scp):
        @scp.on_store(spool=str(spool))
        def keep(request):
            stored.append((request.sop_instance_uid, request.tls))
            request.file.commit(spool / "stored.dcm")
            return dn.Status.SUCCESS

    with faces.provider(face, configure, "SCP", tls=tls) as serving:
        yield serving.port, stored


@pytest.mark.parametrize("face", ["sync", "aio"])
class TestDcmtk:
    @pytest.mark.parametrize("options", [(), ("+px",), ("+py",)])
    def test_its_users_with_our_provider(self, face, directory, tls, tmp_path, ct_file, options):
        if options and not supports("storescu", options[0]):
            pytest.skip(f"this DCMTK has no {options[0]}")
        with listener(tls["server"], tmp_path, face) as (port, stored):
            for program, *more in (("echoscu",), ("storescu", ct_file)):
                command = dcmtk(program, directory, *options, "-aec", "SCP", "127.0.0.1", port, *more)
                ran = subprocess.run(command, capture_output=True, text=True, timeout=30)
                assert ran.returncode == 0, ran.stderr
        ((_, link),) = stored
        assert link.version in ("TLSv1.2", "TLSv1.3")
        assert "dicomnet" in link.subject
        assert (tmp_path / "stored.dcm").stat().st_size > 30000

    def test_our_user_with_its_provider(self, face, directory, tls, tmp_path, free_port, ct_file):
        with storescp(directory, free_port, tmp_path):
            user = faces.USERS[face](f"dicoms://ANY@127.0.0.1:{free_port}", tls=tls["client"], contexts=CONTEXTS)
            with user:
                assert user.association.tls.version in ("TLSv1.2", "TLSv1.3")
                assert user.echo().is_success
                assert user.store(ct_file).ok
            assert len(list(tmp_path.iterdir())) == 1

    def test_its_user_without_a_certificate(self, face, directory, tls, tmp_path):
        with listener(tls["server"], tmp_path, face) as (port, _):
            command = [peers.peer_program("echoscu"), "+tla", "-ic", "127.0.0.1", str(port)]
            assert subprocess.run(command, capture_output=True, timeout=30).returncode != 0

    def test_its_plain_user(self, face, tls, tmp_path):
        with listener(tls["server"], tmp_path, face) as (port, _):
            command = [peers.peer_program("echoscu"), "127.0.0.1", str(port)]
            assert subprocess.run(command, capture_output=True, timeout=30).returncode != 0


def supports(program, option):
    shown = subprocess.run([peers.peer_program(program), "--help"], capture_output=True, text=True, timeout=30).stdout
    return option in shown.split()


@contextmanager
def recv(directory, *options):
    files = ["--tls-ca", directory / "ca.pem", "--tls-cert", directory / "server.pem", "--tls-key",
             directory / "server.key"]  # fmt: skip
    command = [sys.executable, "-m", "dicomnet", "recv", "SCP@127.0.0.1:0", "--discard", *map(str, files), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            yield int(line.rpartition(":")[2])
        finally:
            process.terminate()
            process.communicate(timeout=20)


class TestCommandLine:
    def test_echo_and_store(self, directory, ct_file):
        files = ["--tls-ca", directory / "ca.pem", "--tls-cert", directory / "client.pem"]
        files += ["--tls-key", directory / "client.key"]
        with recv(directory) as port:
            code, said, _ = dicomnet("echo", f"dicoms://SCP@127.0.0.1:{port}", *files, "-v")
            assert code == 0
            assert "secured by TLSv1" in said
            assert dicomnet("store", f"dicoms://SCP@127.0.0.1:{port}", ct_file, *files)[0] == 0
            code, _, said = dicomnet("echo", f"dicoms://SCP@127.0.0.1:{port}", "--tls-ca", directory / "ca.pem")
            assert (code, "certificate required" in said) == (70, True)
            code, _, said = dicomnet("echo", f"dicoms://SCP@127.0.0.1:{port}")
            assert (code, "not taken" in said) == (70, True)
            code, _, said = dicomnet("store", f"dicoms://SCP@127.0.0.1:{port}", ct_file)
            assert code == 70
            code, _, said = dicomnet("echo", f"SCP@127.0.0.1:{port}")
            assert (code, "the peer speaks TLS" in said) == (61, True)

    @pytest.mark.long
    def test_callers_without_certificates_and_any_name(self, directory):
        with recv(directory, "--tls-clients", "ignored") as port:
            ca = ["--tls-ca", directory / "ca.pem"]
            assert dicomnet("echo", f"SCP@127.0.0.1:{port}", *ca)[0] == 0
            assert dicomnet("echo", f"SCP@127.0.0.1:{port}", *ca, "--tls-name", "elsewhere")[0] == 70
            assert dicomnet("echo", f"SCP@127.0.0.1:{port}", *ca, "--tls-name", "any")[0] == 0

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["dicoms://A@127.0.0.1:0"], "--tls-cert"),
            (["127.0.0.1:0", "--tls-cert", "server.pem", "--tls-key", "server.key"], "--tls-ca"),
            (["127.0.0.1:0", "--tls-key", "server.key"], "--tls-cert is missing"),
            (["127.0.0.1:0", "--tls-cert", "client.key", "--tls-clients", "ignored"], "cannot be used"),
        ],
    )
    def test_usage(self, directory, arguments, said):
        given = [directory / one if one.endswith((".pem", ".key")) else one for one in arguments]
        code, _, complaint = dicomnet("recv", "--discard", *given)
        assert code == 2
        assert said in complaint


class TestCert:
    def test_keys_are_nobody_elses(self, directory):
        assert {path.name for path in directory.iterdir()} == {
            f"{role}.{kind}" for role in ("ca", "server", "client") for kind in ("pem", "key")
        }
        for role in ("ca", "server", "client"):
            assert (directory / f"{role}.key").stat().st_mode & 0o777 == 0o600

    def test_nothing_is_overwritten(self, directory):
        code, _, said = dicomnet("cert", "make", directory)
        assert code == 2
        assert "there already" in said

    def test_show(self, directory):
        code, said, _ = dicomnet("cert", "show", directory / "server.pem", directory / "ca.pem")
        assert code == 0
        assert "names   localhost, 127.0.0.1, ::1" in said
        assert "an authority" in said
        code, said, _ = dicomnet("cert", "show", "--json", directory / "client.pem")
        shown = json.loads(said)
        assert shown["names"] == ["dicomnet"]
        assert shown["days_left"] in (824, 825)
        assert len(shown["fingerprint"]) == 64

    def test_check(self, directory, tmp_path):
        authority = Authority(tmp_path)
        soon = authority.issue("soon", days=(-1, 5)).cert
        old, early = authority.issue("old", days=(-9, -1)).cert, authority.issue("early", days=(1, 9)).cert
        assert dicomnet("cert", "check", directory / "server.pem")[0] == 0
        code, _, said = dicomnet("cert", "check", directory / "server.pem", soon)
        assert (code, "4 days left" in said) == (68, True)
        assert dicomnet("cert", "check", soon, "--days", "3")[0] == 0
        code, _, said = dicomnet("cert", "check", soon, old, early)
        assert code == 69
        assert "expired" in said
        assert "not valid before" in said

    def test_files_that_are_no_certificates(self, directory):
        for path in (__file__, directory / "server.key", directory / "nowhere.pem"):
            assert dicomnet("cert", "show", path)[0] == 20
