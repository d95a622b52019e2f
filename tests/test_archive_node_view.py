"""All nodes of one archive, seen from any of them: the admin interface, the command, the console."""

from __future__ import annotations

import json

import consoles
import pytest
from archives import CT, part10
from click.testing import CliRunner
from rig import until
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

import dicomnet as dn
from dicomnet.archive import housekeeping
from dicomnet.cli.server_admin import nodes as nodes_command
from dicomnet.repository.database import Database
from dicomnet.repository.node_events import NodeEvents
from dicomnet.repository.nodes import ALIVE_SECONDS, Nodes
from dicomnet.repository.work_schema import node
from dicomnet.server.admin import AdminError, Client


@pytest.fixture
def index(postgresql):
    return postgresql.url(postgresql.new_database())


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(housekeeping, "BEAT_SECONDS", 0.05)
    with consoles.place(tmp_path / "servers") as path:
        yield path


def a_node(place, name, index):
    return consoles.running(
        place, name, title=name.upper(), addins__enable=["archive"], addin__archive__durability="os",
        addin__archive__database=index, addin__archive__storage=str(place / "blobs"),
    )  # fmt: skip


def told(server):
    with Client(server.settings.admin.socket) as admin:
        return {one["address"]: one for one in admin.nodes()}


@pytest.mark.deadline(90)
def test_any_node_shows_all_and_since_when_one_is_gone(place, index):
    with a_node(place, "one", index) as one, a_node(place, "two", index) as two:
        with dn.connect(two.peer, contexts=dn.contexts.storage([CT])) as association:
            assert association.store(part10(1)).status.is_success
            until(lambda: told(one).get(two.peer, {}).get("facts", {}).get("associations") == 1)
        until(lambda: told(one)[two.peer]["facts"]["stored"] == 1)
        assert told(two).keys() == told(one).keys() == {one.peer, two.peer}
        seen = told(two)[one.peer]
        assert seen["alive"]
        assert (seen["facts"]["stored"], seen["facts"]["failed"], seen["facts"]["state"]) == (0, 0, "running")
        two.pause()
        until(lambda: told(one)[two.peer]["facts"]["state"] == "paused")
        with Database(index) as database:
            Nodes(database).tell("GONE@far:1", {"stored": 7})
            with database.write() as connection:
                at = database.clock() - ALIVE_SECONDS - 1
                connection.execute(update(node).where(node.c.address == "GONE@far:1").values(seen=at))
        gone = told(one)["GONE@far:1"]
        assert (gone["alive"], gone["facts"]["stored"], round(gone["seen"], 3)) == (False, 7, round(at, 3))
        done = CliRunner().invoke(nodes_command, ["one", "--json"], standalone_mode=False)
        assert done.return_value == 69, done.output
        lines = [json.loads(line) for line in done.output.splitlines()]
        assert {line["address"] for line in lines if "address" in line} == {one.peer, two.peer, "GONE@far:1"}
        plain = CliRunner().invoke(nodes_command, ["two"], standalone_mode=False)
        assert "gone since" in plain.output
        with consoles.serving() as url, consoles.browser(url) as browser:
            page = browser.get("/servers/one/nodes").text
            assert all(text in page for text in (one.peer, two.peer, "GONE@far:1", "gone since", "paused"))
            with browser.stream("GET", "/live?topic=nodes&server=one") as live:
                assert live.status_code == 200
                assert "GONE@far:1" in next(text for text in live.iter_text() if "data:" in text)
    with a_node(place, "three", index) as three:  # those that ended in order are not gone: they are no more
        assert told(three).keys() == {three.peer, "GONE@far:1"}


@pytest.mark.deadline(90)
def test_settings_of_all_nodes_are_changed_and_reverted_from_any(place, index):
    with a_node(place, "one", index) as one, a_node(place, "two", index) as two, consoles.serving() as url:
        page = "/servers/one/nodes/settings"

        def save(browser, key, value, after):
            return browser.post(page, data={"key": key, "value": value, "after": after})

        with consoles.browser(url) as browser:
            assert page in browser.get("/servers/one/nodes").text
            assert "Nothing is set for all nodes" in browser.get(page).text
            assert save(browser, "retention_days", "30", "0").status_code == 303
            until(lambda: two.base.shared.snapshot.values == {"retention_days": 30})
            assert "Snapshot 1 holds: retention_days changed." in browser.get(page).text
            assert save(browser, "access.max_clients", "8", "1").status_code == 303
            assert "wait for a restart of each node: access.max_clients" in browser.get(page).text
            wrong = save(browser, "duplicates", "drop", "2")
            assert wrong.status_code == 422
            assert "expected &#39;keep&#39;, &#39;replace&#39; or &#39;quarantine&#39;" in wrong.text
            assert "is newer than 1" in save(browser, "relational", "true", "1").text
            assert "is not set for all nodes" in save(browser, "relational", "", "2").text
            assert save(browser, "retention_days", "", "2").status_code == 303
            assert browser.post(f"{page}/1/revert").status_code == 303
            until(lambda: two.base.shared.snapshot.number == 4)
            assert one.base.shared.snapshot.values == {"retention_days": 30}
            shown = browser.get(page).text
            assert all(text in shown for text in ("as 1", "unset retention_days", "Have it again"))
            for number in ("x", "9"):
                assert browser.post(f"{page}/{number}/revert").status_code == 404


def test_a_server_without_others_shows_itself(place):
    with consoles.running(place) as server:
        [seen] = told(server).values()
        assert (seen["address"], seen["alive"], seen["facts"]["associations"]) == (server.peer, True, 0)
    with consoles.running(place, "own", addins__enable=["archive"], addin__archive__durability="os") as server:
        with dn.connect(server.peer, contexts=dn.contexts.storage([CT])) as association:
            assert association.store(part10(1)).status.is_success
        [seen] = told(server).values()
        assert (seen["address"], seen["facts"]["stored"], seen["facts"]["queued"]) == (server.peer, 1, 0)


def test_a_database_that_is_away_is_told_in_one_line(place, index, monkeypatch):
    with a_node(place, "one", index) as server, monkeypatch.context() as patch:

        def away(_):
            raise OperationalError("SELECT", {}, Exception("away"))

        patch.setattr(Nodes, "all", away)
        with pytest.raises(AdminError, match="cannot be asked for now") as failed:
            told(server)
        assert failed.value.status == 503


def test_a_node_that_begins_again_takes_the_place_of_the_one_that_was_killed(database):
    now = database.clock()
    database.clock = lambda: now
    killed, other, again = Nodes(database), Nodes(database), Nodes(database)
    killed.tell("A@h:1", {})
    other.tell("B@h:2", {})
    again.tell("A@h:1", {})
    assert len(again.all()) == 3  # it may be that both live
    database.clock = lambda: now + ALIVE_SECONDS + 1
    again.tell("A@h:1", {})
    assert {one.id for one in again.all()} == {again.id, other.id}


def test_a_node_of_another_user_is_alive(tmp_path, monkeypatch):
    """Its process is there, though it may not be told anything (SQLite, on one machine)."""
    with Database.opened(tmp_path / "index.db") as database:
        nodes = Nodes(database)
        nodes.tell("HERE@localhost:104", {})
        assert [one.is_alive for one in nodes.all()] == [True]

        def foreign(pid, number):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr("os.kill", foreign)
        assert [one.is_alive for one in nodes.all()] == [True]
        monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
        assert [one.is_alive for one in nodes.all()] == [False]


def test_one_process_has_no_others_to_hear(tmp_path):
    with Database.opened(tmp_path / "index.db") as database:
        events = NodeEvents(database)
        events.start()
        assert events._thread is None
        events.close()
