"""`dicomnet server` and `dicomnet addin`, as processes of their own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from typing import NamedTuple

import programs
import pytest
from servers import alerts

import dicomnet as dn
from dicomnet.cli import app
from dicomnet.server import Server
from dicomnet.server.admin import Client
from dicomnet.server.directory import home, value_of


class Done(NamedTuple):
    stdout: str
    stderr: str


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command in this process: another one would load the framework each time."""
    monkeypatch.setenv("DICOMNET_SERVERS", str(tmp_path))

    def run(*arguments, code=0, input=""):
        monkeypatch.setattr("sys.stdin", io.StringIO(input))
        capsys.readouterr()
        got = app.run([str(one) for one in arguments])
        done = Done(*capsys.readouterr())
        assert got == code, done
        return done

    return run


def rows(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_settings_that_are_no_utf_8_are_not_edited(run, tmp_path):
    run("server", "create", "archive", "--aet", "ARCHIVE")
    file = tmp_path / "archive" / "server.toml"
    written = file.read_bytes() + "# M\xfcller\n".encode("latin-1")
    file.write_bytes(written)
    told = run("server", "edit", "archive", "--set", "log.level=debug", code=2).stderr
    assert (len(told.splitlines()), "server.toml" in told) == (1, True)
    assert file.read_bytes() == written


@pytest.mark.long
@pytest.mark.deadline(180)
def test_a_server_from_its_making_to_its_end(run, tmp_path):
    run("server", "create", "archive", "--aet", "ARCHIVE", "--port", "0", "--set", "server.description=for tests")
    assert "is good" in run("server", "check", "archive").stdout
    started = rows(run("server", "start", "archive", "--json"))[-1]["summary"]
    try:
        listed = rows(run("server", "list", "--json"))
        assert (listed[0]["name"], listed[0]["state"]) == ("archive", "running")
        assert listed[0]["process"] == started["process"]
        status = rows(run("server", "status", "archive", "--json"))[0]
        peer = f"ARCHIVE@{status['listening']['plain']}"
        run("echo", peer)
        assert "runs already" in run("server", "start", "archive", code=2).stderr
        run("server", "pause", "archive")
        assert "temporary congestion" in run("echo", peer, code=61).stderr.lower()
        run("server", "resume", "archive")
        run("server", "ae", "add", "archive", f"SELF@{status['listening']['plain']}", "--right", "echo")
        assert "port" in run("server", "ae", "add", "archive", "SELF@localhost", code=2).stderr
        run("server", "ae", "update", "archive", "SELF", "--description", "itself")
        assert rows(run("server", "ae", "list", "archive", "--json"))[0]["description"] == "itself"
        run("server", "ae", "update", "archive", "SELF", "--title", "ARCHIVE")
        run("server", "ae", "echo", "archive", "ARCHIVE")
        run("server", "ae", "remove", "archive", "ARCHIVE")
        changed = run("server", "edit", "archive", "--set", "log.level=debug", "--set", "listen.port=104")
        assert "listen.port" in changed.stderr
        assert rows(run("server", "addins", "archive", "--json"))[0]["name"] == "verification"
        run("server", "edit", "archive", "--set", 'addins.enable=["exec"]', code=61)
        assert "exec" not in (tmp_path / "archive" / "server.toml").read_text()
        assert "listens on" in run("server", "logs", "archive").stdout
        connected = rows(run("server", "clients", "archive", "--json"))[:-1]
        assert {one["calling"] for one in connected} <= {"ARCHIVE"}  # its own, pooled
        assert "no association" in run("server", "disconnect", "archive", "7", code=61).stderr
    finally:
        run("server", "stop-all", "--drain", "1")
    assert rows(run("server", "list", "--json"))[0]["state"] == "stopped"
    run("server", "delete", "archive")
    assert rows(run("server", "list", "--json"))[-1]["summary"]["servers"] == 0
    assert (tmp_path / "archive" / "logs" / "server.log").exists()
    run("server", "create", "archive", "--aet", "ARCHIVE", input="y\n")
    assert rows(run("server", "list", "--json"))[0]["description"] == "for tests"


def test_mistakes_are_one_line_each_and_nothing_is_written(run, tmp_path):
    done = run("server", "create", "x", "--aet", "X", "--set", "listen.prot=1", "--set", "timeouts.client=2x", code=2)
    assert "[listen] prot: there is no such field; expected port?" in done.stderr
    assert "[timeouts] client" in done.stderr
    assert not (tmp_path / "x").exists()
    run("server", "create", "x", "--aet", "X", "--set", 'addins.enable=["verificatoin"]')
    assert "Is it verification?" in run("server", "check", "x", code=2).stderr
    assert "Is it verification?" in run("server", "start", "x", code=2).stderr
    assert "Is it x?" in run("server", "status", "xx", code=2).stderr
    assert "no server answers" in run("server", "status", "x", code=60).stderr


def test_a_server_is_made_forgotten_and_found_again(run, tmp_path, monkeypatch):
    monkeypatch.setenv("DICOMNET_SERVERS", str(tmp_path / "servers"))
    assert run("server", "list").stdout == f"no servers in {tmp_path / 'servers'}\n"
    given = ("--aet", "X", "--port", "104", "--tls-port", "2762", "--set", 'tls.cert="x.pem"')
    assert run("server", "create", "x", *given).stdout == f"made {tmp_path / 'servers/x/server.toml'}\n"
    assert "there is a server in" in run("server", "create", "x", "--aet", "X", code=2).stderr
    (shown,) = (line.split() for line in run("server", "list").stdout.splitlines() if line.startswith("x "))
    assert shown[:5] == ["x", "X", "stopped", "104", "2762"]
    assert "x does not run" in run("server", "stop", "x", code=2).stderr
    assert "nothing to change" in run("server", "edit", "x", code=2).stderr
    run("server", "edit", "x", "--set", "server.description=mine")
    assert "is forgotten" in run("server", "delete", "x").stdout
    assert "there is no server" in run("server", "delete", "x", code=2).stderr
    assert "is there again" in run("server", "create", "x", "--aet", "OTHER", "--yes").stdout
    assert rows(run("server", "list", "--json"))[0]["description"] == "mine"
    text = run("server", "unit", "x", "--user", "radiology").stdout
    assert ("User=radiology" in text, f"ReadWritePaths={tmp_path / 'servers/x'}" in text) == (True, True)
    assert rows(run("server", "unit", "x", "--user", "radiology", "--json"))[0]["unit"] == text


def test_a_check_tells_what_is_wrong_with_the_settings_and_those_of_add_ins(run, tmp_path):
    run("server", "create", "x", "--aet", "X")
    file = tmp_path / "x" / "server.toml"
    good = file.read_text()
    file.write_text(good + '[listen]\nprot = 1\n[log]\nlevel = "loud"\n')
    done = run("server", "check", "x", code=2)
    assert ("expected port?" in done.stderr, "[log] level" in done.stderr) == (True, True)
    assert done.stdout == f"{file}: 2 mistakes\n"
    assert rows(run("server", "list", "--json"))[0]["state"] == "broken"
    file.write_text(good + '[addins]\nenable = ["archive"]\n[addin.archive]\nretention_dais = 3\n')
    problem, total = rows(run("server", "check", "x", "--json", code=2))
    assert problem["problem"]["field"] == "retention_dais"
    assert total["summary"] == {"mistakes": 1}


def test_all_that_are_to_start_do_or_say_why_not(run, tmp_path):
    run("server", "create", "by-hand", "--aet", "A", "--set", "server.start_mode=manual")
    run("server", "create", "off", "--aet", "B", "--set", "server.start_mode=disabled")
    assert "off is disabled" in run("server", "start", "off", code=2).stderr
    run("server", "create", "wrong", "--aet", "C", "--set", "addins.enable=['nix']")
    done = run("server", "start-all", code=69)
    assert ("wrong does not start: " in done.stderr, done.stdout) == (True, "1 server\n")
    assert run("server", "stop-all").stdout == "0 servers\n"


def test_an_edit_that_a_running_server_cannot_use_is_taken_back(run, tmp_path):
    run("server", "create", "x", "--aet", "X", "--port", "0")
    file = tmp_path / "x" / "server.toml"
    before = file.read_bytes()
    with Server(tmp_path / "x") as server:
        assert "x runs" in run("server", "delete", "x", code=2).stderr
        assert 'no add-in "nix"' in run("server", "edit", "x", "--set", "addins.enable=['nix']", code=61).stderr
        assert file.read_bytes() == before
        done = run("server", "edit", "x", "--set", "server.description=new", "--set", "listen.port=104")
        assert "these wait for a restart: listen.port" in done.stderr
        assert server.settings.server.description == "new"


@contextmanager
def running(directory, **options):
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            programs.command("server", "run", directory),
            stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=programs.ROOT, **options,
        )  # fmt: skip
        try:
            yield programs.Provider(process, stderr)
        finally:
            programs.end(process)


@pytest.fixture
def directory(run, tmp_path):
    run("server", "create", "one", "--aet", "ONE", "--port", "0")
    return tmp_path / "one"


def test_run_says_where_it_listens_and_ends_by_sigterm(directory):
    with running(directory) as server:
        contexts = dn.contexts.verification()
        with dn.connect(f"ONE@{server.address}", contexts=contexts) as association:
            assert association.echo().is_success
        server.stop()
        assert server.process.returncode == 0


def test_it_ends_by_sigterm_where_what_started_it_has_that_blocked(directory):
    """As `dicomnet console run` has, whose page starts servers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        with running(directory) as server:
            server.stop()
            assert server.process.returncode == 0
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_sighup_reloads_and_sigusr1_opens_the_log_anew(directory):
    with running(directory) as server, Client(directory) as admin:
        after = admin.snapshot()["last_event"]
        text = (directory / "server.toml").read_text()
        (directory / "server.toml").write_text(text + '\n[log]\nlevel = "debug"\n')
        server.process.send_signal(signal.SIGHUP)
        stream = admin.events(after, "server")
        assert next(stream)["data"]["changed"] == ["log.level"]
        (directory / "server.toml").write_text("broken")
        os.rename(directory / "logs/server.log", directory / "logs/old.log")
        server.process.send_signal(signal.SIGUSR1)
        assert next(stream)["type"] == "server.log-reopened"
        server.process.send_signal(signal.SIGHUP)
        server.stop()  # with the stream open, and two signals at once
    assert "the settings are not reloaded" in (directory / "logs/server.log").read_text()
    assert alerts(directory / "logs/audit.log") == [("110131", "0", "settings were read anew: log.level changed")]


def test_a_second_sigterm_does_not_wait_for_associations(directory):
    with running(directory) as server, Client(directory) as admin:
        association = dn.connect(f"ONE@{server.address}", contexts=dn.contexts.verification())
        after = admin.snapshot()["last_event"]
        server.process.send_signal(signal.SIGTERM)
        assert next(iter(admin.events(after, "server")))["type"] == "server.stopping"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        with pytest.raises(dn.DicomNetError):
            association.echo()


@pytest.mark.long
def test_a_new_add_in_comes_with_a_test_that_passes(run, tmp_path):
    run("addin", "new", "my-hello", "--in", tmp_path)
    folder = tmp_path / "my-hello"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": f"{programs.ROOT}"}, timeout=60,
    )  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert len((folder / "my_hello.py").read_text().splitlines()) < 40
    assert "is there already" in run("addin", "new", "my-hello", "--in", tmp_path, code=2).stderr
    assert "no name" in run("addin", "new", "My Hello", code=2).stderr


def test_values_are_those_of_toml_and_else_text():
    assert value_of("listen.port=104")[1] == 104
    assert value_of("addins.enable=['a']")[1] == ["a"]
    assert value_of("server.description=for you")[1] == "for you"
    for wrong in ("port", "port=1", "=1", "a b.c=1"):
        with pytest.raises(dn.InvalidArgument):
            value_of(wrong)


def test_where_servers_are(monkeypatch, tmp_path):
    monkeypatch.setenv("DICOMNET_SERVERS", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.delenv("DICOMNET_SERVERS")
    assert home().parts[-2:] == ("dicomnet", "servers")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/home/me/data")
    assert str(home()) == "/home/me/data/dicomnet/servers"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert str(home()) == "/home/me/.local/share/dicomnet/servers"
