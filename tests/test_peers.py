"""The helpers that other tests rely on: absent peers, free ports, real files, and the deadline of every test."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import peers
import pytest


def test_a_program_is_found_by_name():
    assert Path(peers.peer_program("sh")).is_file()


def test_a_program_beside_this_python_is_no_peer(monkeypatch, tmp_path):
    script = tmp_path / "storescp"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert peers.peer_program("storescp") == str(script)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.delenv("DICOMNET_REQUIRE_PEERS", raising=False)
    with pytest.raises(pytest.skip.Exception):
        peers.peer_program("storescp")


def test_an_absent_peer_skips(monkeypatch):
    monkeypatch.delenv("DICOMNET_REQUIRE_PEERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        peers.peer_program("no-such-program")
    with pytest.raises(pytest.skip.Exception, match="no_such_module"):
        peers.peer_module("no_such_module")


def test_an_absent_peer_fails_where_peers_are_required(monkeypatch):
    monkeypatch.setenv("DICOMNET_REQUIRE_PEERS", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-program"):
        peers.peer_program("no-such-program")
    with pytest.raises(pytest.fail.Exception, match="no_such_module"):
        peers.peer_module("no_such_module")


def test_a_free_port_can_be_bound(free_port):
    assert 20000 <= free_port < 32768
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", free_port))


def test_there_are_real_files(sample_files):
    assert len(sample_files) > 100
    assert {"CT_small.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm"} <= {path.name for path in sample_files}
    assert "DICOMDIR" not in {path.name for path in sample_files}


def test_a_test_that_hangs_fails_at_its_deadline(tmp_path):
    for name in ("conftest.py", "cases.py", "peers.py", "postgres.py", "swift.py"):
        shutil.copy(Path(__file__).parent / name, tmp_path)
    (tmp_path / "test_hangs.py").write_text(
        "import socket, pytest\n"
        "@pytest.mark.deadline(0.2)\n"
        "def test_hangs():\n"
        "    with socket.create_server(('127.0.0.1', 0)) as server:\n"
        "        server.accept()\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {**os.environ, "DICOMNET_PATIENCE": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=50, cwd=tmp_path, env=environment)
    assert result.returncode == 1
    assert "still running after 0.2 s" in result.stdout
