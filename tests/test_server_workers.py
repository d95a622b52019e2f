"""A server with workers: several processes on one port, under one administration."""

from __future__ import annotations

import os
import pwd
import select
import signal
import subprocess
import tempfile
from contextlib import ExitStack
from functools import partial

import programs
import pytest
from rig import until
from servers import Told, alerts, call, write_settings

import dicomnet as dn
from dicomnet import uids
from dicomnet.server import StartFailed
from dicomnet.server.admin import AdminError, Client
from dicomnet.server.admin.problems import Problem, problem_of
from dicomnet.server.fleet import Fleet, passed
from dicomnet.server.worker_process import WorkerProcess

COUNTING = """
from dicomnet.server import hookimpl

@hookimpl
def admin_messages(messages):
    messages.add("Count", lambda data: {"count": len(data)}, role="read")

@hookimpl
def services(registry):
    registry.on_find("WORKLIST")(lambda request: [{"PatientID": "1"}])
"""


class Served(Fleet):
    """A fleet, with the address that tests ask a server for."""

    @property
    def address(self):
        host, _, port = self.listening["plain"].rpartition(":")
        return host, int(port)


@pytest.fixture
def directory(tmp_path):
    write_settings(tmp_path / "s", '[addins]\nenable = ["verification", "counting"]\n')
    text = (tmp_path / "s" / "server.toml").read_text().replace("[listen]", "workers = 2\n[listen]", 1)
    (tmp_path / "s" / "server.toml").write_text(text)
    (tmp_path / "s" / "addins").mkdir()
    (tmp_path / "s" / "addins" / "counting.py").write_text(COUNTING)
    return tmp_path / "s"


class Asked:
    """A worker, of what it answers alone."""

    def __init__(self, answer):
        self.answer = answer

    def ask(self, *_):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_each_worker_is_a_node_or_has_an_archive_that_shows_all(directory):
    fleet = Fleet(directory)
    alone = [{"id": "", "name": f"host:{number}"} for number in (1, 2)]
    fleet.workers += [Asked({"nodes": [alone[0]]}), Asked({}), Asked({"nodes": [alone[1]]})]  # one does not answer now
    assert fleet.nodes() == alone
    shared = [{"id": "a", "name": "host:1"}, {"id": "b", "name": "host:2"}]
    fleet.workers[:] = [Asked({}), Asked({"nodes": shared}), Asked({"nodes": shared})]
    assert fleet.nodes() == shared
    said = Problem(503, "it is away", hint="Start it.").document()
    fleet.workers[:] = [Asked(AdminError(503, said))]
    with pytest.raises(AdminError) as told:
        fleet.nodes()
    assert problem_of(told.value).document() == said


def test_a_worker_that_is_not_there_says_nothing_and_ends_at_once(directory):
    worker = WorkerProcess(1, directory, {}, lambda kind, data: None)
    assert (worker.ask("GET", "/v1/status"), worker.metrics(), worker.pid) == ({}, "", 0)
    worker.signal(signal.SIGUSR1)
    worker.join(0)
    fleet = Fleet(directory)
    fleet.workers.append(worker)
    assert [(one.name, one.ok, one.detail) for one in fleet.health()] == [("worker 1", False, "does not answer")]
    assert list(fleet.clients) == []
    fleet.stop()  # it does not run
    with pytest.raises(dn.InvalidArgument, match="plain=987654 is no socket: Bad file descriptor"):
        passed({"plain": 987654})


@pytest.mark.deadline(120)
def test_one_worker_is_administered_killed_and_started_again(directory, monkeypatch, caplog):
    monkeypatch.setattr("dicomnet.server.worker_process.RESTART_PAUSE", 0.05)
    addin = directory / "addins" / "counting.py"
    (directory / "server.toml").write_text(
        (directory / "server.toml").read_text().replace("workers = 2", "workers = 1")
    )
    with Served(directory) as fleet, Client(directory) as admin, Told(fleet) as told:
        with call(fleet, uids.VERIFICATION, calling="CT1") as association:
            assert association.echo().is_success
            told.wait_for("client.action")
            assert [one["calling"] for one in admin.snapshot()["clients"]] == ["CT1"]
            assert [one["calling"] for one in admin.send("GetClients")["clients"]] == ["CT1"]
        assert {"Count", "GetStatus"} <= {one["name"] for one in admin.request("GET", "/v1/messages")["messages"]}
        assert admin.send("Count", {"a": 1}) == {"count": 1}
        with pytest.raises(AdminError, match='there is no message "Cuont"'):
            admin.send("Cuont")
        assert admin.resume_addin("counting")["suspended"] is None
        with pytest.raises(AdminError, match='there is no add-in "nix"'):
            admin.resume_addin("nix")
        for asked in (admin.shared_settings, lambda: admin.shared_settings(7), admin.shared_history):
            with pytest.raises(AdminError, match="no settings in common with others"):
                asked()
        assert admin.request("GET", "/v1/schema")["addins"].keys() == {"verification", "counting"}
        os.rename(directory / "logs/server.log", directory / "logs/old.log")
        fleet.reopen_log()
        until((directory / "logs/server.log").exists)
        good = addin.read_text()
        addin.write_text("raise RuntimeError")
        os.kill(fleet.workers[0].pid, signal.SIGKILL)
        told.wait_for("server.worker-died")
        until(lambda: "worker 1: worker 1 does not start: exit code" in caplog.text)
        assert not admin.health()["ok"]
        with pytest.raises(AdminError) as away:
            admin.conformance()
        assert away.value.status == 502
        addin.write_text(good)
        told.wait_for("server.worker-back")
        with call(fleet, uids.VERIFICATION) as association:
            assert association.echo().is_success
        os.kill(fleet.workers[0].pid, signal.SIGSTOP)
        client = fleet.workers[0].client
        monkeypatch.setattr(client, "request", partial(client.request, patience=0.2))
        monkeypatch.setattr("dicomnet.server.fleet.GRACE", 0.1)
        fleet.hurry()
        fleet.stop(0)
        assert "did not end, and is killed" in caplog.text
        assert fleet.state == "stopped"


@pytest.mark.long
@pytest.mark.deadline(180)
def test_two_workers_are_administered_as_one_server(directory):
    with Served(directory) as fleet, Client(directory) as admin, Told(fleet) as told:
        with ExitStack() as stack:
            associations = [stack.enter_context(call(fleet, uids.VERIFICATION, calling="CT1")) for _ in range(8)]
            for association in associations:
                assert association.echo().is_success
            told.wait_for("client.action", 8)
            clients = admin.clients()
            assert [one["calling"] for one in clients] == ["CT1"] * 8
            assert len({one["id"] for one in clients}) == 8
            status = admin.status()
            assert status["associations"] == 8
            assert sum(one["associations"] for one in status["workers"]) == 8
            assert {one["process"] for one in status["workers"]}.isdisjoint({os.getpid()})
            admin.disconnect(clients[0]["id"])
            told.wait_for("client.disconnected")
            assert sum(_lives(one) for one in associations) == 7
            with pytest.raises(AdminError, match="no association"):
                admin.disconnect("3-1")
        labels = 'ae="CT1",service="C-ECHO-RQ",sop_class="Verification",status="0000"'
        assert f"dicomnet_operations_total{{{labels}}} 15.0" in admin.metrics()
        assert admin.addins()["addins"][0]["calls"] == 15
        assert admin.send("Count", {"a": 1}, service="counting") == {"count": 1}
        assert admin.health()["ok"]
        assert "Verification" in admin.conformance()["markdown"]


def _lives(association):
    try:
        return association.echo().is_success
    except dn.DicomNetError:
        return False


@pytest.mark.long
@pytest.mark.deadline(180)
def test_what_is_changed_holds_for_all_workers(directory):
    file = directory / "server.toml"
    with Served(directory) as fleet, Client(directory) as admin:
        admin.add_ae("CT1", rights=["other"])
        admin.pause()
        for _ in range(6):
            with pytest.raises(dn.AssociationRejected):
                call(fleet, uids.VERIFICATION)
        admin.resume()
        for _ in range(6):
            with pytest.raises(dn.NoAcceptedContext):
                call(fleet, uids.VERIFICATION, calling="CT1")
        before = file.read_text()
        file.write_text(f"{before}\n[access]\nanonymous = false\n")
        assert admin.reload()["changed"] == ["access.anonymous"]
        for _ in range(6):
            with pytest.raises(dn.AssociationRejected):
                call(fleet, uids.VERIFICATION)
        file.write_text(before.replace("counting", "nothing"))
        with pytest.raises(AdminError, match="nothing"):
            admin.reload()
        file.write_text(before)
        admin.reload()
        with call(fleet, uids.VERIFICATION) as association:
            assert association.echo().is_success
    me = pwd.getpwuid(os.getuid()).pw_name
    read = ("110129", "0", me, "settings were read anew: access.anonymous changed")
    recorded = [one for one in alerts(directory / "logs/audit.log") if one[1] == "0"]  # not who was refused
    assert recorded == [("110128", "0", me, "the AE title CT1 was added"), read, read]


@pytest.mark.long
@pytest.mark.deadline(180)
def test_a_worker_that_dies_is_started_again(directory):
    with Served(directory) as fleet, Told(fleet) as told:
        died = fleet.workers[0].pid
        os.kill(died, signal.SIGKILL)
        assert told.wait_for("server.worker-died")[0].data == {"worker": 1, "code": -signal.SIGKILL}
        with call(fleet, uids.VERIFICATION) as association:  # by the other one, or by its successor
            assert association.echo().is_success
        told.wait_for("server.worker-back")
        pids = [worker.pid for worker in fleet.workers]
        assert died not in pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.long
@pytest.mark.deadline(180)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_workers_end_with_the_process_that_started_them(directory, number):
    with tempfile.TemporaryFile() as stderr:
        command = programs.command("server", "run", directory)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=programs.ROOT)
        try:
            programs.Provider(process, stderr)
            with Client(directory) as admin:
                workers = [os.pidfd_open(one["process"]) for one in admin.status()["workers"]]
            process.send_signal(number)
            for worker in workers:
                assert select.select([worker], [], [], 30)[0]
                os.close(worker)
            assert process.wait(30) == (0 if number == signal.SIGTERM else -number)
        finally:
            programs.end(process)


@pytest.mark.long
def test_what_is_wrong_is_told_once_and_nothing_is_left(directory):
    (directory / "addins" / "counting.py").write_text("raise RuntimeError('no')\n")
    with pytest.raises(StartFailed, match="add-ins: add-in counting"):
        Served(directory).start()
    (directory / "addins" / "counting.py").write_text(
        "from dicomnet.server import hookimpl\n@hookimpl\ndef start():\n    raise RuntimeError('no')\n"
    )
    with pytest.raises(StartFailed, match="workers: worker 1 does not start"):
        Served(directory).start()
