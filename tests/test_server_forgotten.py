"""The lines that one forgets: what a server does where nothing goes as it should. Each test names its line."""

from __future__ import annotations

import logging
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import programs
import pytest
from servers import Told, call, make_settings, write_settings

import dicomnet as dn
from dicomnet import uids
from dicomnet.server import Check, Server, Table, hookimpl
from dicomnet.server.admin import Client
from dicomnet.server.ae_entry import AEEntry
from dicomnet.server.server_log import MOST_ALIKE, ServerLog
from dicomnet.server.settings import LogSettings
from dicomnet.services.query_models import model_uid


class Slow:
    """Answers C-ECHO when it is let."""

    def __init__(self):
        self.began, self.go_on = threading.Event(), threading.Event()

    @hookimpl
    def services(self, registry):
        registry.on_echo(self.echo)

    def echo(self, request):
        self.began.set()
        self.go_on.wait(30)
        return 0


def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


# ---- 1: a stop under load --------------------------------------------------------------------------------------


def test_line_1_a_stop_lets_a_running_message_finish_and_rejects_new_associations(tmp_path):
    slow, answers = Slow(), []
    server = Server(make_settings(addins={"enable": []}), directory=tmp_path, addins={"slow": slow})
    server.start()
    association = call(server, uids.VERIFICATION)
    echoing = in_thread(lambda: answers.append(association.echo()))
    assert slow.began.wait(20)
    with Told(server) as told:
        stopping = in_thread(server.stop)
        told.wait_for("server.stopping")
        with pytest.raises(dn.AssociationRejected) as caught:
            call(server, uids.VERIFICATION)
        assert (caught.value.result, caught.value.source, caught.value.reason) == (2, 3, 1)
        slow.go_on.set()
    echoing.join(20)
    stopping.join(20)
    assert answers[0].is_success
    assert server.state == "stopped"


def test_line_1_a_stop_with_nothing_under_way_is_quick(tmp_path):
    server = Server(make_settings(), directory=tmp_path)
    server.start()
    idle = [call(server, uids.VERIFICATION) for _ in range(3)]
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 10  # and not the 30 s that a busy one would get
    for association in idle:
        with pytest.raises(dn.DicomNetError):
            association.echo()


@pytest.mark.long
@pytest.mark.deadline(280)
def test_line_1_a_hundred_graceful_stops_under_load_answer_all_that_was_asked(tmp_path):
    lost = []

    def echo(server, ready):
        try:
            association = call(server, uids.VERIFICATION)
        except dn.DicomNetError:
            ready.wait(20)
            return
        ready.wait(20)
        try:
            lost.extend("a C-ECHO failed" for _ in range(1000) if not association.echo().is_success)
        except dn.DicomNetError:
            pass  # it was told that the server stops

    server = Server(make_settings(timeouts={"drain": 0.3}), directory=tmp_path)
    for _ in range(100):
        server.start()
        ready = threading.Barrier(5)
        threads = [in_thread(lambda ready=ready: echo(server, ready)) for _ in range(4)]
        ready.wait(20)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 35
        for thread in threads:
            thread.join(20)
        assert server.state == "stopped"
        assert not (tmp_path / "run" / "admin.sock").exists()
    assert lost == []


def test_line_1_what_does_not_end_in_time_is_aborted(tmp_path):
    slow = Slow()
    server = Server(make_settings(addins={"enable": []}), directory=tmp_path, addins={"slow": slow})
    server.start()
    failed = []

    def echo():
        with pytest.raises(dn.AssociationAborted) as caught:
            association.echo()
        failed.append(caught.value)

    association = call(server, uids.VERIFICATION)
    echoing = in_thread(echo)
    assert slow.began.wait(20)
    stopping = in_thread(lambda: server.stop(drain=0.2))
    echoing.join(20)
    slow.go_on.set()
    stopping.join(20)
    assert failed
    assert server.state == "stopped"


@pytest.mark.measures
def test_line_1_open_event_streams_do_not_hold_up_a_stop(tmp_path):
    server = Server(make_settings(), directory=tmp_path)
    server.start()
    with ExitStack() as stack:
        streams = []
        for _ in range(20):  # none of them reads on
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(str(server.settings.admin.socket))
            sock.sendall(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 200")
            streams.append(sock)
        server.events.publish("large", {"padding": "x" * 4_000_000})  # more than a socket holds
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 10  # it takes half a second; a stream that is waited for has no end


# ---- 3: reload under many associations -------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.deadline(240)
def test_line_3_a_reload_under_two_hundred_associations_drops_none(tmp_path):
    write_settings(tmp_path, '[access]\nmax_clients = 250\n[addin.coloured]\ncolour = "red"\nshade = "red"\n')

    class Coloured:
        class Settings(Table):
            colour: str
            shade: str

        @hookimpl
        def services(self, registry, context):
            self.context = context
            registry.on_find("WORKLIST")(self.find)

        def find(self, request):
            settings = self.context.settings
            yield {"PatientName": f"{settings.colour}-{settings.shade}"}

    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    worklist = model_uid("WORKLIST", "find")
    with Server(tmp_path, addins={"coloured": Coloured()}) as server, ExitStack() as stack:
        associations = [stack.enter_context(call(server, worklist)) for _ in range(200)]
        seen, stop = set(), threading.Event()

        def query():
            while not stop.is_set():
                for association in associations[::10]:
                    seen.update(str(one.dataset.PatientName) for one in association.find(model="WORKLIST"))

        thread = in_thread(query)
        for colour in ("green", "blue", "red", "green"):
            text = (tmp_path / "server.toml").read_text()
            for old in ("red", "green", "blue"):
                text = text.replace(f'"{old}"', f'"{colour}"')
            (tmp_path / "server.toml").write_text(text)
            assert server.reload().changed == ("addin",)
        stop.set()
        thread.join(60)
        assert seen <= {"red-red", "green-green", "blue-blue"}
        assert server.clients.associated == 200
        for association in associations:
            assert len(list(association.find(model="WORKLIST"))) == 1


# ---- 5: who is refused is audited ------------------------------------------------------------------------------


def test_line_5_refused_calls_are_in_the_audit_trail(tmp_path):
    settings = make_settings(admin={"tcp_port": 0}, access={"anonymous": False})
    with Server(settings, directory=tmp_path) as server:
        assert httpx.get(f"http://127.0.0.1:{server.admin.tcp_port}/v1/status").status_code == 403
        with pytest.raises(dn.AssociationRejected):
            call(server, uids.VERIFICATION)
    trail = (tmp_path / "logs/audit.log").read_text()
    assert "refused: GET /v1/status" in trail
    assert "its AE title is not known" in trail
    assert 'UserID="TESTER"' in trail


# ---- 6: subscribers --------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.deadline(240)
def test_line_6_four_hundred_subscribers_of_which_one_stops(tmp_path):
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    with Server(make_settings(), directory=tmp_path) as server:
        path = server.settings.admin.socket
        first = server.events.last_id
        sockets = []
        for _ in range(400):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(path))
            sock.sendall(b"GET /v1/events?after=%d&types=tick HTTP/1.1\r\nHost: x\r\n\r\n" % first)
            sockets.append(sock)
        for number in range(20):
            server.events.publish("tick", {"number": number, "padding": "x" * 200})
        counts = []
        for sock in sockets[1:]:  # the first one never reads
            sock.settimeout(60)
            got = b""
            while got.count(b"event: tick") < 20:
                got += sock.recv(65536)
            counts.append(got.count(b"event: tick"))
            sock.close()
        sockets[0].close()
        assert counts == [20] * 399


# ---- 7: AE titles ----------------------------------------------------------------------------------------------


def test_line_7_titles_from_the_wire_find_their_entry(tmp_path):
    with Server(make_settings(), directory=tmp_path) as server:
        titles = server.base.ae_titles
        entry = titles.add(AEEntry(title="SIXTEEN-LETTERS!", aliases=("old",), addresses=("10.0.0.1", "10.0.0.2")))
        for same in ("sixteen-letters!", "  SIXTEEN-LETTERS!  ", "Old", "OLD\0\0garbage"):
            assert titles.find(same) == entry
        assert entry.may_call_from("::ffff:10.0.0.1")
        assert entry.may_call_from("10.0.0.2")
        assert not entry.may_call_from("10.0.0.3")


# ---- 9: what blocks --------------------------------------------------------------------------------------------


def test_line_9_an_add_in_that_blocks_the_loop_is_named(tmp_path, caplog):
    (tmp_path / "addins").mkdir()
    (tmp_path / "addins" / "sleepy.py").write_text(
        "import threading\nfrom dicomnet.server import hookimpl\n\n"
        "@hookimpl\ndef services(registry):\n    registry.on_echo(echo)\n\n"
        "async def echo(request):\n    threading.Event().wait(1.5)\n    return 0\n"
    )
    with Server(make_settings(addins={"enable": ["sleepy"]}), directory=tmp_path) as server:
        with caplog.at_level("ERROR", "dicomnet.server"), call(server, uids.VERIFICATION) as association:
            assert association.echo().is_success
        assert "the event loop is blocked by the add-in sleepy: echo" in caplog.text


def test_line_9_a_spy_that_is_full_drops_its_own(tmp_path):
    block = threading.Event()

    class Watching:
        @hookimpl
        def spy(self):
            block.wait(30)

    with Server(make_settings(), directory=tmp_path, addins={"watching": Watching()}) as server:
        (spy,) = server.spies.all()
        spy.queue.most = 8
        with call(server, uids.VERIFICATION) as association:
            for _ in range(30):
                assert association.echo().is_success
        assert server.spies.dropped["watching"] > 0
        block.set()


# ---- 10: clocks and disks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [86400.0, -86400.0])
def test_line_10_a_jump_of_the_clock_ends_nothing(tmp_path, monkeypatch, jump):
    real = time.time
    with Server(make_settings(timeouts={"client": 5}), directory=tmp_path) as server:
        with Told(server) as told, call(server, uids.VERIFICATION) as association:
            assert association.echo().is_success
            monkeypatch.setattr(time, "time", lambda: real() + jump)
            assert association.echo().is_success
            assert server.status()["uptime"] < 3600
            told.wait_for("client.action", 2)
        assert server.events.last_id > 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is Linux's")
def test_line_10_a_full_disk_under_the_log_costs_records_alone(tmp_path):
    settings = make_settings(log={"file": "/dev/full"})
    with Server(settings, directory=tmp_path) as server, call(server, uids.VERIFICATION) as association:
        assert association.echo().is_success
        assert server.status()["log_lost"] > 0


# ---- 11: privileges and health ---------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root has privileges to drop")
def test_line_11_privileges_are_dropped_after_the_port_is_bound():
    directory = tempfile.mkdtemp(prefix="dicomnet-", dir="/var/tmp")
    os.chmod(directory, 0o755)
    try:
        path = Path(directory) / "server"
        write_settings(path)
        text = (path / "server.toml").read_text().replace("[listen]", 'user = "nobody"\n[listen]', 1)
        (path / "server.toml").write_text(text)
        with tempfile.TemporaryFile() as stderr:
            process = subprocess.Popen(
                programs.command("server", "run", path), stdout=subprocess.PIPE, stderr=stderr, text=True,
                cwd=programs.ROOT,
            )  # fmt: skip
            try:
                running = programs.Provider(process, stderr)
                status = Path(f"/proc/{process.pid}/status").read_text()
                uid = str(pwd.getpwnam("nobody").pw_uid)
                assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in status
                with dn.connect(f"SERVER@{running.address}", contexts=dn.contexts.verification()) as association:
                    assert association.echo().is_success
                with Client(path) as admin:
                    admin.add_ae("CT1")
                    after = admin.snapshot()["last_event"]
                    os.rename(path / "logs/server.log", path / "logs/old.log")
                    process.send_signal(signal.SIGUSR1)
                    assert next(admin.events(after, "server"))["type"] == "server.log-reopened"
                assert (path / "logs/server.log").exists()
                running.stop()
                assert process.returncode == 0
            finally:
                programs.end(process)
    finally:
        shutil.rmtree(directory)


def test_line_11_health_tells_live_from_ready(tmp_path):
    class Indexed:
        @hookimpl
        def health(self):
            return [Check("index", False, "is being rebuilt")]

    addins = {"indexed": Indexed()}
    with Server(make_settings(), directory=tmp_path, addins=addins), Client(tmp_path / "run/admin.sock") as admin:
        assert admin.request("GET", "/v1/health/live") == {"ok": True}
        ready = admin.health()
        assert ready["ok"] is False
        assert {"name": "index", "ok": False, "detail": "is being rebuilt"} in ready["checks"]


# ---- 12: scanners ----------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.deadline(240)
def test_line_12_ten_thousand_connections_of_a_scanner_evict_nothing_and_fill_no_log(tmp_path):
    settings = make_settings(log={"file": str(tmp_path / "log")}, addins={"enable": ["verification"]})
    with Server(settings, directory=tmp_path) as server:
        server.base.ae_titles.add(AEEntry(title="CT1"))
        with call(server, uids.VERIFICATION) as association:
            for number in range(10_000):
                with socket.create_connection(server.address) as sock:
                    if number % 2:
                        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert association.echo().is_success
        assert server.base.ae_titles.find("CT1") is not None
        assert not [one for one in server.events.since(0) if one.type == "client.connected"][1:]
    assert len((tmp_path / "log").read_text().splitlines()) < 200


def test_line_12_records_that_are_alike_are_left_out(tmp_path):
    log = ServerLog(LogSettings.model_validate({"file": str(tmp_path / "log"), "level": "info"}))
    log.start()
    try:
        for number in range(1000):
            logging.getLogger("dicomnet").info("no association with %s: %s", f"192.0.2.1:{number}", "no DICOM")
        logging.getLogger("dicomnet").info("no association with %s: %s", "192.0.2.2:1", "no DICOM")
    finally:
        log.stop()
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == MOST_ALIKE + 2
    assert "left out" in lines[MOST_ALIKE]
    assert log.limiter.suppressed == 1000 - MOST_ALIKE - 1


# ---- 13: handlers that never return ----------------------------------------------------------------------------


def test_line_13_a_handler_that_never_returns_is_answered_for_and_suspends_its_add_in(tmp_path):
    block = threading.Event()

    class Stuck:
        @hookimpl
        def services(self, registry):
            registry.on_find("WORKLIST", deadline=0.2)(self.find)

        def find(self, request):
            block.wait(60)

    worklist = model_uid("WORKLIST", "find")
    settings = make_settings(addins={"enable": ["verification"], "failures": 100, "abandoned": 3})
    try:
        with Server(settings, directory=tmp_path, addins={"stuck": Stuck()}) as server, Told(server) as told:
            with call(server, worklist) as stuck, call(server, uids.VERIFICATION) as other:
                for _ in range(3):
                    with pytest.raises(dn.ServiceFailure) as caught:
                        list(stuck.find(model="WORKLIST"))
                    assert caught.value.status == 0x0110
                    assert other.echo().is_success
                reason = told.wait_for("addin.suspended")[0].data["reason"]
            assert "did not return" in reason
            assert server.status()["abandoned"] >= 3
            figures = server.metrics.exposition().decode()
            assert 'dicomnet_addin_suspended{addin="stuck"} 1.0' in figures
            assert 'dicomnet_addin_failures_total{addin="stuck"} 3.0' in figures
            assert "dicomnet_handlers_late 3.0" in figures
            with pytest.raises(dn.NoAcceptedContext):
                call(server, worklist)
            with call(server, uids.VERIFICATION) as association:
                assert association.echo().is_success
    finally:
        block.set()
