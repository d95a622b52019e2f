"""The admin interface over its Unix socket: roles, operations, problems, events."""

from __future__ import annotations

import asyncio
import grp
import json
import os
import pwd
import socket
import stat
import threading

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import Told, call, make_settings, write_settings

import dicomnet as dn
from dicomnet import uids
from dicomnet.server import Server, Settings, StartFailed, hookimpl
from dicomnet.server.admin import AdminError, AsyncClient, Client
from dicomnet.server.admin.app import create_app
from dicomnet.server.admin.roles import Caller, role_of
from dicomnet.server.admin.serving import open_socket
from dicomnet.server.ae_entry import AEEntry
from dicomnet.server.ae_titles import AETitles, Conflict, InUse
from dicomnet.server.database import Database
from dicomnet.server.events import EventLog
from dicomnet.web.serving import WebServing


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "server"
    write_settings(path)
    return path


@pytest.fixture
def server(directory):
    with Server(directory) as server:
        yield server


@pytest.fixture
def admin(server):
    with Client(server.directory) as client:
        yield client


def test_the_socket_is_for_its_group_alone(server):
    path = server.settings.admin.socket
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750


def echo_on(association):
    """The first may be answered in the turn of the loop that ends the association."""
    for _ in range(100):
        association.echo()


def test_status_clients_and_disconnect_by_id(server, admin):
    assert admin.status()["state"] == "running"
    with call(server, uids.VERIFICATION) as one, call(server, uids.VERIFICATION) as other:
        one.echo()
        clients = admin.clients()
        assert [client["calling"] for client in clients] == ["TESTER", "TESTER"]
        assert clients[0]["last_action"] == "C-ECHO-RQ"
        assert clients[0]["last_status"] == "0000"
        assert clients[0]["contexts"][0]["name"] == "Verification"
        admin.disconnect(clients[0]["id"])
        with pytest.raises(dn.DicomNetError):
            echo_on(one)
        assert other.echo().is_success
    with pytest.raises(AdminError) as caught:
        admin.disconnect("TESTER")
    assert caught.value.status == 404


def test_pause_and_resume_and_that_a_pause_survives_a_restart(directory):
    with Server(directory) as server, Client(directory) as admin, call(server, uids.VERIFICATION) as before:
        admin.pause()
        with pytest.raises(dn.AssociationRejected) as caught:
            call(server, uids.VERIFICATION)
        assert (caught.value.result, caught.value.source, caught.value.reason) == (2, 3, 1)
        assert before.echo().is_success
        health = admin.health()
        assert (health["ok"], [(one["name"], one["ok"]) for one in health["checks"]]) == (
            False,
            [("accepting", False), ("disk", True)],
        )
    with Server(directory) as server, Client(directory) as admin:
        assert admin.status()["state"] == "paused"
        with pytest.raises(dn.AssociationRejected):
            call(server, uids.VERIFICATION)
        admin.resume()
        with call(server, uids.VERIFICATION) as association:
            assert association.echo().is_success


def test_titles_are_added_changed_renamed_and_removed(server, admin):
    added = admin.add_ae("  modality1\0junk ", host="192.0.2.1", port=104, aliases=["OLD"])
    assert added["title"] == "modality1"
    for same in ("MODALITY1", " modality1 ", "old"):
        with pytest.raises(AdminError) as caught:
            admin.add_ae(same)
        assert caught.value.status == 409
    renamed = admin.update_ae("MODALITY1", "CT1", host="192.0.2.1", port=104)
    assert renamed["id"] == added["id"]
    assert [one["title"] for one in admin.ae_titles()] == ["CT1"]
    assert [one["what"] for one in server.base.ae_titles.history(added["id"])] == ["added", "renamed from modality1"]
    server.base.ae_titles.depends("router", lambda entry: ["the queue of CT1"] if entry.title == "CT1" else [])
    with pytest.raises(AdminError, match="router: the queue of CT1") as caught:
        admin.remove_ae("CT1")
    assert caught.value.status == 409
    admin.update_ae("CT1", "CT2")
    admin.remove_ae("ct2")
    with pytest.raises(AdminError) as caught:
        admin.add_ae("SEVENTEEN-LETTERS")
    assert caught.value.status == 422
    assert "title" in str(caught.value)


def test_who_is_not_known_is_refused_where_the_settings_say_so(directory, caplog):
    write_settings(directory, "[access]\nanonymous = false\n")
    with Server(directory) as server, Client(directory) as admin, caplog.at_level("INFO", "dicomnet"):
        with pytest.raises(dn.AssociationRejected) as caught:
            call(server, uids.VERIFICATION)
        assert caught.value.reason == 3
        assert "refused an association to TESTER at 127.0.0.1" in caplog.text
        admin.add_ae("TESTER", addresses=["::ffff:127.0.0.1"])
        with call(server, uids.VERIFICATION) as association:
            assert association.echo().is_success
        admin.update_ae("TESTER", "TESTER", addresses=["192.0.2.7"])
        with pytest.raises(dn.AssociationRejected):
            call(server, uids.VERIFICATION)


def test_rights_decide_which_contexts_are_accepted(server, admin, caplog):
    admin.add_ae("TESTER", rights=["store"])
    with caplog.at_level("INFO", "dicomnet"), pytest.raises(dn.NoAcceptedContext):
        call(server, uids.VERIFICATION)
    assert "Verification" in caplog.text


def test_aliases_of_the_called_title_are_taken(directory):
    write_settings(directory)
    text = (directory / "server.toml").read_text().replace('"SERVER"\n', '"SERVER"\naliases = ["OLDPACS"]\n', 1)
    (directory / "server.toml").write_text(text)
    with Server(directory) as server:
        with call(server, uids.VERIFICATION, called="oldpacs") as association:
            assert association.echo().is_success
        with pytest.raises(dn.AssociationRejected) as caught:
            call(server, uids.VERIFICATION, called="OTHER")
        assert caught.value.reason == 7


def test_the_classic_messages_and_those_of_add_ins(server, admin):
    assert admin.send("GetAeTitles") == {"ae_titles": []}
    admin.send("AddAeTitle", {"title": "CT1"})
    admin.send("UpdateAeTitle", {"old": "CT1", "new": {"title": "CT2"}})
    assert [one["title"] for one in admin.send("GetAeTitles")["ae_titles"]] == ["CT2"]
    admin.send("RemoveAeTitle", {"AETitle": "CT2"})
    with pytest.raises(AdminError, match="Is it GetAeTitles"):
        admin.send("GetAETitle")
    with pytest.raises(AdminError, match="do not fit"):
        admin.send("RemoveAeTitle", {"title": 5})


def test_messages_of_an_add_in(tmp_path):
    class Counting:
        @hookimpl
        def admin_messages(self, messages):
            messages.add("Count", lambda data: {"count": len(data)}, role="read")

    addins = {"counting": Counting()}
    with Server(make_settings(), directory=tmp_path, addins=addins), Client(tmp_path / "run/admin.sock") as admin:
        assert admin.send("Count", {"a": 1, "b": 2}, service="counting") == {"count": 2}
        with pytest.raises(AdminError, match="is a message of counting"):
            admin.send("Count", service="other")


def test_what_is_malformed_gets_a_problem_document(server):
    transport = httpx.HTTPTransport(uds=str(server.settings.admin.socket))
    with httpx.Client(transport=transport, base_url="http://x") as http:
        answers = [
            (http.post("/v1/ae-titles", content=b"{"), 400),
            (http.post("/v1/ae-titles", content=b"[" * 100_000), 400),
            (http.post("/v1/ae-titles", content=b"a=b", headers={"content-type": "text/plain"}), 415),
            (http.post("/v1/ae-titles", content=b" " * (2 << 20)), 413),
            (http.post("/v1/ae-titles", json={"title": "A", "colour": 1}), 422),
            (http.get("/v1/nothing"), 404),
            (http.put("/v1/status"), 405),
            (http.get("/v1/events", params={"after": "x"}), 400),
        ]
        for answer, status in answers:
            assert answer.status_code == status, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status


def test_roles_follow_the_credentials_of_the_process(tmp_path):
    rules = make_settings(admin={"users": {"4711": "administer"}, "group_role": "read"}).admin
    nobody = Caller(65533, 65533, 1)
    assert role_of(Caller(os.geteuid(), 0, 1), rules, None, "", "") == "administer"
    assert role_of(nobody, rules, None, "", "") is None
    assert role_of(nobody, rules, 65533, "", "") == "read"
    assert role_of(Caller(4711, 1, 1), rules, None, "", "") == "administer"
    tcp = Caller(None, None, None)
    assert role_of(tcp, rules, 1, "Bearer abc", "abc") == "administer"
    assert role_of(tcp, rules, 1, "Bearer abd", "abc") is None
    assert role_of(tcp, rules, 1, "", "") is None


def test_a_user_is_of_the_sockets_group_by_any_of_its_own(monkeypatch):
    rules = make_settings(admin={"group_role": "operate"}).admin
    entry = grp.struct_group(("radiology", "x", 4242, ["jane"]))
    monkeypatch.setattr("grp.getgrgid", {4242: entry}.__getitem__)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: pwd.struct_passwd(("jane", "x", uid, 1, "", "/", "/bin/sh")))
    assert role_of(Caller(65533, 1, 1), rules, 4242, "", "") == "operate"
    assert role_of(Caller(65533, 1, 1), rules, 4243, "", "") is None  # there is no such group


def test_a_message_wants_the_role_that_is_its_own(directory):
    write_settings(directory, "[admin]\ntcp_port = 0\n")
    with Server(directory) as server:
        app = create_app(server, lambda request: "read")
        with WebServing(app, "127.0.0.1", 0) as serving, httpx.Client(base_url=serving.url) as http:
            asked = http.post("v1/messages", json={"message": "GetStatus"})
            assert (asked.status_code, asked.json()["success"]) == (200, True)
            refused = http.post("v1/messages", json={"message": "PauseServer"})
            assert (refused.status_code, "needs the role operate" in refused.json()["detail"]) == (403, True)
        assert server.status()["state"] == "running"


def test_a_client_tells_what_is_no_answer_of_a_server(server, admin, tmp_path):
    with pytest.raises(dn.InvalidArgument, match="an AE title is needed"):
        admin.ae_title("")
    with pytest.raises(AdminError, match="the id of an event is a whole number") as caught:
        next(admin.events(10**30))
    assert caught.value.status == 400
    association = call(server, uids.VERIFICATION)
    [client] = admin.clients()
    assert admin.send("DisconnectClient", {"id": client["id"]}) is None
    with pytest.raises(dn.DicomNetError):
        echo_on(association)

    async def events():
        async with AsyncClient(server.directory) as client:
            assert "dicomnet_operations_total" in await client.metrics()
            async for one in client.events(10**30):
                return one
        return None

    with pytest.raises(AdminError, match="whole number"):
        asyncio.run(events())
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()

        def answer():
            connection, _ = other.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

        thread = threading.Thread(target=answer)
        thread.start()
        with Client(path) as client, pytest.raises(AdminError, match="the answer is not JSON"):
            client.status()
        thread.join(30)


def test_tcp_wants_the_token_but_for_health(directory):
    write_settings(directory, "[admin]\ntcp_port = 0\n")
    with Server(directory) as server:
        token = (directory / "run" / "admin.token").read_text().strip()
        with httpx.Client(base_url=f"http://127.0.0.1:{server.admin.tcp_port}") as http:
            assert http.get("/v1/status").status_code == 403
            assert http.get("/v1/health/live").json() == {"ok": True}
            assert http.get("/v1/health/ready").status_code == 200
            assert http.get("/v1/status", headers={"authorization": f"Bearer {token}"}).status_code == 200


def test_a_path_that_is_too_long_a_stale_socket_and_a_second_server(directory, tmp_path):
    long = tmp_path / ("x" * 100)
    with pytest.raises(dn.InvalidArgument, match="107 is the most"):
        open_socket(long / "admin.sock")
    stale = tmp_path / "run" / "stale.sock"
    stale.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    open_socket(stale).close()
    (tmp_path / "run" / "file").write_text("kept")
    with pytest.raises(dn.InvalidArgument, match="no socket"):
        open_socket(tmp_path / "run" / "file")
    with Server(directory):
        with pytest.raises(StartFailed, match="directory: another server runs in") as caught:
            Server(directory).start()
        assert str(os.getpid()) in str(caught.value)


def test_a_port_that_is_taken_leaves_nothing_half_started(directory):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = (directory / "server.toml").read_text().replace("port = 0", f"port = {port}")
        (directory / "server.toml").write_text(text)
        server = Server(directory)
        before = threading.active_count()
        with pytest.raises(StartFailed, match="listeners: cannot listen on 127"):
            server.start()
        assert threading.active_count() == before
        assert not (directory / "run" / "admin.sock").exists()
    with Server(directory):
        pass


def test_events_tell_of_clients_and_go_on_after_an_id(server, admin):
    after = server.events.last_id
    with call(server, uids.VERIFICATION) as association:
        association.echo()
    found = []
    for event in admin.events(after):
        found.append(event)
        if event["type"] == "client.disconnected":
            break
    assert [one["type"] for one in found] == [
        "client.connected", "client.associated", "client.action", "client.disconnected",
    ]  # fmt: skip
    assert found[2]["data"]["status"] == "0000"
    assert [one["id"] for one in found] == list(range(after + 1, after + 5))


def test_one_who_comes_back_too_late_is_told_of_the_gap(tmp_path):
    few = make_settings(admin={"events": 16})
    with Server(few, directory=tmp_path) as server, Client(tmp_path / "run/admin.sock") as admin:
        first = server.events.last_id
        for number in range(100):
            server.events.publish("tick", {"number": number})
        stream = admin.events(first)
        gap = next(stream)
        assert gap["type"] == "gap"
        assert gap["data"]["missed"] == 84
        assert next(stream)["data"]["number"] == 84


def test_ids_of_events_go_on_through_a_restart(directory):
    with Server(directory) as server:
        last = server.events.last_id
    with Server(directory) as server:
        assert server.events.last_id > last


def test_asyncio_has_the_same_client(server):
    async def use():
        async with AsyncClient(server.directory) as admin:
            assert (await admin.status())["ae_title"] == "SERVER"
            after = (await admin.snapshot())["last_event"]
            await admin.add_ae("CT1")
            async for event in admin.events(after, "ae"):
                return event
        return None

    assert asyncio.run(use())["data"]["ae"]["title"] == "CT1"
    public = {name for name in dir(Client) if not name.startswith("_")}
    assert public == {name for name in dir(AsyncClient) if not name.startswith("_")}


def test_open_streams_do_not_hold_up_a_stop(directory):
    server = Server(directory)
    server.start()
    started = threading.Barrier(9)

    def follow():
        with Client(directory) as admin:
            stream = admin.events(0)
            next(stream)
            started.wait()
            for _ in stream:
                pass

    threads = [threading.Thread(target=follow) for _ in range(8)]
    for thread in threads:
        thread.start()
    started.wait()
    ended = threading.Event()
    threading.Thread(target=lambda: (server.stop(), ended.set())).start()
    assert ended.wait(30)
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


def test_metrics_count_what_happens(server):
    with Told(server) as told, call(server, uids.VERIFICATION) as association:
        for _ in range(3):
            association.echo()
        told.wait_for("client.action", 3)
    with pytest.raises(dn.AssociationRejected):
        call(server, uids.VERIFICATION, called="OTHER")
    transport = httpx.HTTPTransport(uds=str(server.settings.admin.socket))
    with httpx.Client(transport=transport, base_url="http://x") as http:
        text = http.get("/metrics").text
    labels = 'ae="TESTER",service="C-ECHO-RQ",sop_class="Verification"'
    assert f'dicomnet_operations_total{{{labels},status="0000"}} 3.0' in text
    assert 'dicomnet_associations_refused_total{ae="TESTER",why="called title"} 1.0' in text


titles = st.text("ABC", min_size=1, max_size=2)


@settings(max_examples=60)
@given(
    before=st.lists(st.tuples(st.sampled_from(["add", "update", "remove"]), titles, titles), max_size=12),
    after=st.lists(st.tuples(st.sampled_from(["add", "update", "remove"]), titles, titles), max_size=12),
)
def test_a_snapshot_and_the_events_after_it_are_the_truth(before, after):
    events = EventLog()
    known = AETitles(Database(None), events)

    def do(steps):
        for what, one, other in steps:
            try:
                if what == "add":
                    known.add(AEEntry(title=one))
                elif what == "update":
                    known.update(one, AEEntry(title=other))
                else:
                    known.remove(one)
            except (Conflict, InUse, dn.InvalidArgument):
                pass

    do(before)
    with events.lock:
        at, replayed = events.last_id, {one.id: one.title for one in known}
    do(after)
    for event in events.since(at):
        ae = event.data["ae"]
        if event.type == "ae.removed":
            del replayed[ae["id"]]
        else:
            replayed[ae["id"]] = ae["title"]
    assert replayed == {one.id: one.title for one in known}


def test_settings_are_shown_without_secrets(tmp_path):
    with Server(make_settings(), directory=tmp_path), Client(tmp_path / "run/admin.sock") as admin:
        shown = json.dumps(admin.request("GET", "/v1/settings"))
        assert "SERVER" in shown
        assert Settings.model_json_schema()["title"] == admin.request("GET", "/v1/schema")["settings"]["title"]
