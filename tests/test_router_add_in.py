"""A router as an add-in of a server: what it does there, and what administration, metrics and events say of it."""

from __future__ import annotations

import pytest
import routers
from routers import CT, address, everything_to, part10
from servers import make_settings

import dicomnet as dn
from dicomnet.router import trial
from dicomnet.router.add_in import RouterAddIn
from dicomnet.server import Server
from dicomnet.server.admin import AdminError, Client
from dicomnet.testing import Provider


@pytest.fixture
def serving(tmp_path):
    """A server with a router, which sends everything to a peer."""
    with Provider("A") as archive:
        addin = RouterAddIn()
        directory = tmp_path / "data" / "router"
        directory.mkdir(parents=True)
        (directory / "rules.toml").write_text(everything_to(A=address(archive.peer)))
        with (
            Server(make_settings(), directory=tmp_path, addins={"router": addin}) as server,
            Client(tmp_path / "run/admin.sock") as admin,
        ):
            yield server, addin.routing, admin, archive


def stored(server, *instances):
    with dn.connect(server.peer, contexts=dn.contexts.storage([CT])) as association:
        for one in instances:
            assert association.store(one).status.is_success


def test_it_forwards_and_tells_what_it_did(serving):
    server, routing, admin, archive = serving
    text = routing.spool.plans.path.read_text()
    admin.send("RouterSaveRules", {"toml": f'{text}unit = "association"\n'})
    stored(server, part10(1), part10(2))
    routers.eventually(routing, {"A": {"sent": 2}})
    assert len(archive.received) == 2
    status = admin.send("RouterStatus")
    assert (status["received"], status["rules"], status["problem"]) == (2, 2, "")
    assert [(one["name"], one["sent"], one["alarm"]) for one in status["destinations"]] == [("A", 2, False)]
    found = admin.send("RouterReport", {})
    assert (found["balances"], found["total"]["sent"]) == (True, 2)


def test_queues_are_changed_by_messages(serving):
    server, routing, admin, archive = serving
    archive.status = 0xC000
    plan = admin.send("RouterRules")["plan"]
    plan["destinations"]["A"]["tries"] = 1
    assert admin.send("RouterSaveRules", {"plan": plan}) == {"version": 2}
    stored(server, part10(1))
    routers.eventually(routing, {"A": {"parked": 1}})
    [one] = admin.send("RouterQueue", {})["deliveries"]
    assert (one["state"], one["uid"]) == ("parked", "1.2.1.1.1")
    archive.status = 0
    assert admin.send("RouterRetry", {"ids": [one["id"]]}) == {"deliveries": 1}
    routers.eventually(routing, {"A": {"sent": 1}})


def test_rules_come_through_the_same_parser(serving):
    """A line one forgets: editor and API use the same parser as the server."""
    _, routing, admin, _ = serving
    wrong = {"rules": [{"name": "x", "when": {"field": "PatentID", "exists": True}, "actions": [{"do": "drop"}]}]}
    for message in ("RouterCheckRules", "RouterSaveRules"):
        with pytest.raises(AdminError, match=r'rule 1 \("x"\) when: there is no attribute "PatentID". Is it PatientID'):
            admin.send(message, {"plan": wrong})
    assert routing.spool.plans.current[0] == 1
    assert "Condition" in admin.send("RouterSchema")["$defs"]


def test_rules_are_tried_on_the_newest_of_each_series(serving, monkeypatch):
    server, routing, admin, _ = serving
    stored(server, part10(1), part10(2), part10(3, SeriesInstanceUID="1.2.1.2"), part10(1, study=2))
    routers.eventually(routing, {"A": {"sent": 4}})
    asked = {"toml": routing.spool.plans.path.read_text(), "study": "1.2.1"}
    assert [one["name"] for one in admin.send("RouterTryRules", asked)["samples"]] == ["1.2.1.1.3", "1.2.1.1.2"]
    monkeypatch.setattr(trial, "MOST_SERIES", 1)
    assert [one["name"] for one in admin.send("RouterTryRules", asked)["samples"]] == ["1.2.1.1.3"]


def test_rules_are_tried_on_a_message_that_is_told(serving):
    _, routing, admin, _ = serving
    toml = routing.spool.plans.path.read_text() + (
        '[[rules]]\nname = "ask"\non = "query"\nwhen = { field = "PatientID", equals = "P1" }\n'
        'actions = [{ do = "ask", source = "A" }]\n'
    )
    asked = {"toml": toml, "message": {"on": "query", "keys": {"PatientID": "P1"}, "calling": "WS"}}
    [one] = admin.send("RouterTryRules", asked)["samples"]
    assert (one["name"], one["fired"], one["then"]) == ("query", ["ask"], ['answered by A by "ask"'])
    assert one["now"] == ["refused: no rule says who answers this"]
    with pytest.raises(AdminError, match='no messages of the kind "move"'):
        admin.send("RouterTryRules", {"toml": toml, "message": {"on": "move"}})


def test_metrics_and_health_say_what_waits_and_for_how_long(serving, monkeypatch):
    """A line one forgets: the age of the oldest item is a metric and an alarm."""
    server, routing, _, archive = serving
    archive.stop()
    heard = []
    routing._tell = lambda kind, **facts: heard.append((kind, facts))
    stored(server, part10(1))
    routing.look()
    clock = routing.spool.queue._clock
    monkeypatch.setattr(routing.spool.queue, "_clock", lambda: clock() + 4000)
    routing.check_alarms()
    [state] = routing.states()
    assert (state.waiting, state.alarm) == (1, True)
    assert state.oldest > 3600
    assert ("alarm", {"destination": "A", "on": True}) in heard
    text = server.metrics.exposition(server.addins.metrics.values()).decode()
    assert 'dicomnet_router_alarm{destination="A"} 1.0' in text
    assert 'dicomnet_router_waiting{destination="A"} 1.0' in text
    assert any(one.name == "router A" and not one.ok for one in server.health())


def test_rules_are_checked_before_they_are_saved(serving):
    _, routing, admin, _ = serving
    assert admin.send("RouterCheckRules", {"toml": routing.spool.plans.path.read_text()}) == {
        "rules": 1, "destinations": 1
    }  # fmt: skip
    with pytest.raises(AdminError, match="no TOML"):
        admin.send("RouterCheckRules", {"toml": "["})


def test_an_alarm_ends_when_the_queue_does(serving, monkeypatch):
    server, routing, _, archive = serving
    archive.stop()
    heard = []
    routing._tell = lambda kind, **facts: heard.append((kind, facts.get("on")))
    stored(server, part10(1))
    clock = routing.spool.queue._clock
    with monkeypatch.context() as patch:
        patch.setattr(routing.spool.queue, "_clock", lambda: clock() + 4000)
        routing.check_alarms()
        routing.check_alarms()
    routing.check_alarms()
    assert [one for one in heard if one[0] == "alarm"] == [("alarm", True), ("alarm", False)]


def test_rules_are_tried_on_what_they_cannot_read(serving):
    """An expression that takes for ever for one value alone is seen with that value."""
    _, routing, admin, _ = serving
    toml = routing.spool.plans.path.read_text() + (
        '[[rules]]\nname = "slow"\non = "query"\nwhen = { field = "PatientComments", matches = "(?:#|##)+$" }\n'
        'actions = [{ do = "ask", source = "A" }]\n'
    )
    keys = {"PatientComments": "#" * 500 + "!"}
    asked = {"toml": toml, "message": {"on": "query", "keys": keys, "calling": "WS"}}
    [one] = admin.send("RouterTryRules", asked)["samples"]
    assert one["fired"] == []
    assert all("takes too long" in words[0] for words in (one["why"], one["then"]))
    assert one["now"] == ["refused: no rule says who answers this"]
