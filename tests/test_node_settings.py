"""How a node follows the settings that all nodes have in common, and what it says of what it cannot use."""

from __future__ import annotations

import archives
import httpx
import pytest
from rig import until
from servers import alerts
from test_archive_settings import a_server, admin_of, put_raw, run

from dicomnet.archive import node_settings
from dicomnet.archive.retention_worker import RetentionWorker
from dicomnet.archive.settings_desk import DirectorySettings
from dicomnet.cli import archive_settings
from dicomnet.errors import InvalidArgument
from dicomnet.server.admin import AdminError
from dicomnet.server.admin.api import Changing, Reverting
from dicomnet.server.fleet_view import FleetSettings
from dicomnet.server.setting_errors import SettingsInvalid


@pytest.mark.deadline(60)
def test_a_snapshot_that_a_node_refused_holds_once_it_fits(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(node_settings, "LOOK_SECONDS", 0.05)
    with a_server(tmp_path, "a") as server, admin_of(server) as admin:
        shared = server.archive.shared
        with DirectorySettings(server.archive.holdings.directory) as desk:
            desk.change({"steps_to": ["RIS"], "retention_days": 5}, (), "ann")
        until(lambda: shared.refused)
        looks, real = [], shared._take
        monkeypatch.setattr(shared, "_take", lambda newer: (real(newer), looks.append(newer)))
        until(lambda: len(looks) > 2)
        assert caplog.text.count("cannot be used here, and 0 holds") == 1, "it is said once"
        admin.add_ae("RIS", host="127.0.0.1", port=104)
        until(lambda: shared.snapshot.number == 1)
        assert (shared.refused, server.archive.holdings.settings.retention_days) == (None, 5)


@pytest.mark.deadline(60)
def test_a_snapshot_that_nobody_can_read_takes_nothing_back(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(node_settings, "LOOK_SECONDS", 0.05)
    with a_server(tmp_path, "a") as server, admin_of(server) as admin:
        admin.change_shared({"access.anonymous": False})
        put_raw(server.archive.holdings.database, 2, "no JSON")
        until(lambda: admin.nodes()[0]["facts"].get("settings_refused"))  # which it tells last
        assert not server.settings.access.anonymous
        assert caplog.text.count("snapshot 2 of the settings of all nodes cannot be used here, and 1 holds") == 1
        (node,) = admin.nodes()
        assert (node["facts"]["settings"], node["facts"]["settings_refused"]) == (1, 2)
        [check] = [one for one in server.health() if one.name == "archive settings"]
        assert check.detail == "snapshot 1 of all nodes, for 2 cannot be used: the log says why"
        found = admin.shared_settings()
        assert (found["snapshot"], found["running"], found["refused"]["snapshot"]) == (1, 1, 2)
        with pytest.raises(AdminError, match="snapshot 2 of the settings of all nodes cannot be read"):
            admin.change_shared({"relational": True})
        with pytest.raises(InvalidArgument, match="its document is no JSON object"):
            run("show", server.archive.holdings.directory)
    with a_server(tmp_path, "a") as server, admin_of(server) as admin:
        assert not server.settings.access.anonymous
        assert admin.revert_shared(1)["snapshot"] == 3
        assert (server.archive.shared.snapshot.number, server.archive.shared.refused) == (3, None)


@pytest.mark.deadline(60)
def test_what_is_configured_is_in_the_audit_trail_with_who_did_it(tmp_path):
    trail = tmp_path / "audit.log"

    with a_server(tmp_path, "a", audit={"file": str(trail)}) as server, admin_of(server) as admin:
        me = admin.change_shared({"access.anonymous": False})["who"]
        admin.change_shared({"protected_patients": ["P1"]})
        admin.add_ae("RIS", host="127.0.0.1", port=104)
        admin.remove_ae("RIS")
        put_raw(server.archive.holdings.database, 3, "no JSON")
        server.archive.shared.refresh()
        until(lambda: server.archive.shared.refused)
        until(lambda: len(alerts(trail)) == 5)
        holds = "of the settings of all nodes holds: set"
        assert alerts(trail) == [
            ("110129", "0", me, f"snapshot 1 {holds} access.anonymous"),
            ("110131", "0", me, f"snapshot 2 {holds} protected_patients"),
            ("110128", "0", me, "the AE title RIS was added"),
            ("110128", "0", me, "the AE title RIS was removed"),
            ("110131", "4", "snapshot 3 of the settings of all nodes cannot be used here"),
        ]
        assert "P1" not in trail.read_text()
    with a_server(tmp_path, "a", audit={"file": str(trail)}):
        assert alerts(trail)[5:] == [
            ("110131", "4", "snapshot 3 of the settings of all nodes cannot be used here"),
            ("110129", "0", me, f"snapshot 2 {holds} protected_patients"),
        ]


@pytest.mark.deadline(60)
def test_a_node_that_does_not_know_what_is_protected_by_now_deletes_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(node_settings, "LOOK_SECONDS", 0.05)
    with a_server(tmp_path, "a") as server, admin_of(server) as admin:
        holdings = server.archive.holdings
        holdings.intake.store([archives.an_incoming(1)])
        admin.change_shared({"retention_days": 25})
        with DirectorySettings(holdings.directory) as desk:
            desk.change({"protected_studies": ["1.2.1"], "steps_to": ["RIS"]}, (), "ann")
        until(lambda: holdings.refused)
        worker = RetentionWorker(holdings, clock=lambda: holdings.database.clock() + 30 * 86_400)
        assert worker.look() == 0
        assert "it cannot use snapshot 2 of the settings" in caplog.text
        admin.add_ae("RIS", host="127.0.0.1", port=104)
        until(lambda: not holdings.refused)
        assert worker.look() == 0, "it is protected"
        admin.change_shared({}, ["protected_studies"])
        assert worker.look() == 1


def test_what_is_no_text_is_refused_in_one_line(tmp_path):
    archives.make(tmp_path / "x")
    with pytest.raises(SettingsInvalid) as caught:
        run("set", tmp_path / "x", "character_set=\udcff")
    assert str(caught.value) == "settings of all nodes: character_set: the value is no text; expected UTF-8"
    bodies = b'{"set": {"character_set": "\\ud800"}}', b'{"unset": ["\\ud800"]}', b'{"set": {"\\ud800": 1}}'
    with a_server(tmp_path, "a") as server:
        transport = httpx.HTTPTransport(uds=str(server.settings.admin.socket))
        with httpx.Client(transport=transport, base_url="http://dicomnet") as client:
            json = {"content-type": "application/json"}
            answers = [client.patch("/v1/shared-settings", content=body, headers=json) for body in bodies]
            assert [(one.status_code, one.json()["detail"]) for one in answers] == [(400, "the body is not JSON")] * 3
            assert client.get("/v1/shared-settings").json()["snapshot"] == 0


def test_a_user_without_a_name_can_change_settings(tmp_path, monkeypatch):
    def nameless():
        raise KeyError("getpwuid(): uid not found: 987654")

    monkeypatch.setattr(archive_settings.getpass, "getuser", nameless)
    archives.make(tmp_path)
    run("set", tmp_path, "retention_days=3")
    assert "a user without a name@" in run("history", tmp_path).output


def test_a_name_that_is_as_long_as_one_may_be_passes_through_a_server_with_workers():
    asked = []

    class Worker:
        @property
        def client(self):
            return self

        def request(self, method, path, body):
            asked.append((Changing if method == "PATCH" else Reverting).model_validate(body))
            return {}

    settings, who = FleetSettings([Worker()]), f"{'A' * 64} by way of root"
    settings.change({"relational": True}, (), who)
    settings.revert(1, who)
    assert [one.on_behalf_of for one in asked] == ["A" * 64] * 2
