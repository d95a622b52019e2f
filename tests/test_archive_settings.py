"""Settings that all nodes of an archive have in common: kept in its database, told to all, shown and reverted."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager

import archives
import pytest
from archives import CT, an_incoming, cut_off, part10
from click.testing import CliRunner
from rig import until
from servers import make_settings, write_settings
from sqlalchemy import insert
from sqlalchemy.exc import OperationalError

import dicomnet as dn
from dicomnet.archive import node_settings
from dicomnet.archive.add_in import ArchiveAddIn
from dicomnet.archive.archive import Archive
from dicomnet.archive.holdings import Holdings
from dicomnet.archive.retention_worker import RetentionWorker
from dicomnet.archive.settings import FILE_NAME, ArchiveSettings
from dicomnet.archive.shared_settings import KEYS, checked
from dicomnet.cli.archive_settings import command as settings_command
from dicomnet.cli.server_settings import command as server_settings_command
from dicomnet.cli.shared_settings import assignment
from dicomnet.errors import AssociationRejected, InvalidArgument
from dicomnet.repository.database import Database
from dicomnet.repository.node_events import NodeEvents
from dicomnet.repository.nodes import Nodes
from dicomnet.repository.setting_snapshots import MOST_BYTES, SettingSnapshots, SettingsUnavailable
from dicomnet.repository.work_schema import setting_snapshot
from dicomnet.server import Server
from dicomnet.server.admin import AdminError, Client
from dicomnet.server.ae_titles import Conflict, NotKnown
from dicomnet.server.fleet import Fleet
from dicomnet.server.setting_errors import SettingsInvalid


@pytest.fixture
def index(postgresql):
    return postgresql.url(postgresql.new_database())


@contextmanager
def a_server(folder, name, index="", *, archive=None, **tables):
    """A server that is a node; where no database is named it is the only one."""
    addin = ArchiveAddIn()
    table = {"durability": "os", "database": index, "storage": str(folder / "blobs"), **(archive or {})}
    settings = make_settings(addin={"archive": table}, **tables)
    with Server(settings, directory=folder / name, addins={"archive": addin}) as server:
        server.archive = addin
        yield server


@contextmanager
def admin_of(server):
    with Client(server.settings.admin.socket) as admin:
        yield admin


@contextmanager
def an_archive(folder, name, index="", **settings):
    """A node that serves by itself."""
    where = {"database": index, "storage": str(folder / "blobs")} if index else {}
    with Archive(folder / name, archives.make(folder / name, **where, **settings)) as archive:
        yield archive


def echoes(server, calling="TESTER"):
    try:
        with dn.connect(server.peer, calling=calling, contexts=dn.contexts.verification()) as association:
            return association.echo().is_success
    except AssociationRejected:
        return False


def run(*words, command=settings_command):
    done = CliRunner().invoke(command, [str(word) for word in words], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done


# ---- what they may be ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("values", "said"), [
    ({"retension_days": 3}, "retension_days: there is no such setting; expected retention_days?"),
    ({"per_title": 3}, "per_title: there is no such setting; expected access.per_title?"),
    ({"access.per_titel": 3}, "[access] per_titel: there is no such setting; expected access.per_title?"),
    ({"a.b.c": 3}, "[a.b] c: there is no such setting; expected one of those that are listed"),
    ({"hl7_port": 3}, "hl7_port: each node has its own; expected it in the node's own file"),
    ({"listen.port": 3}, "[listen] port: each node has its own"),
    ({"availability_to": ["RIS"]}, "availability_to: each node has its own"),
    ({"access": {}}, "access: each node has its own"),
    ({"retention_days": -1}, "retention_days: the value does not fit; expected greater than 0"),
    ({"retention_days": float("inf")}, "retention_days: the value does not fit; expected a finite number"),
    ({"duplicates": "drop"}, "duplicates: the value does not fit; expected 'keep', 'replace' or 'quarantine'"),
    ({"steps_to": "RIS"}, 'steps_to: the value does not fit; expected a list, such as ["A", "B"]'),
    ({"timeouts.add_in": "500ms"}, "[timeouts] add_in: the value does not fit; expected greater than or equal to 1"),
    ({"access.per_title": 0}, "[access] per_title: the value does not fit; expected greater than or equal to 1"),
    ({"timeouts.client": "2x"}, '[timeouts] client: "2x" is not a duration'),
])  # fmt: skip
def test_what_does_not_fit_is_one_line_with_what_would(values, said):
    with pytest.raises(SettingsInvalid) as caught:
        checked(values)
    [problem] = caught.value.problems
    assert said in str(problem)
    assert "\n" not in str(problem)


def test_values_are_kept_as_their_models_have_them():
    given = {"retention_size": "500g", "timeouts.client": "2m", "stations": {"CT1": ["CT1_OLD"]}, "relational": True}
    assert checked(given) == {
        "retention_size": 500 << 30, "timeouts.client": 120.0, "stations": {"CT1": ["CT1_OLD"]}, "relational": True,
    }  # fmt: skip
    assert all(key.what for key in KEYS.values())
    assert {key.name for key in KEYS.values() if key.restart} == {
        "access.max_clients", "access.max_pdu", "timeouts.client"
    }  # fmt: skip


def test_a_value_is_written_as_in_a_settings_file():
    assert assignment("retention_days=3650") == ("retention_days", 3650)
    assert assignment('steps_to = ["RIS"]') == ("steps_to", ["RIS"])
    assert assignment("retention_size=500g") == ("retention_size", "500g")
    assert assignment("character_set=ISO_IR 100") == ("character_set", "ISO_IR 100")
    assert assignment("relational=true\nx=1") == ("relational", "true\nx=1")
    for text in ("relational", "=3", "a b=3"):
        with pytest.raises(InvalidArgument, match="KEY=VALUE"):
            assignment(text)


# ---- snapshots -------------------------------------------------------------------------------------------------------


@pytest.fixture
def snapshots(database):
    return SettingSnapshots(database, NodeEvents(database))


def put(snapshots, values, *, who="ann", after=None):
    return snapshots.change(lambda latest: ({**latest, **values}, "set"), who, after=after)


def test_each_change_is_a_snapshot_that_stays_and_can_hold_again(snapshots):
    assert snapshots.latest().number == 0
    assert [put(snapshots, {"a": number}).number for number in (1, 2)] == [1, 2]
    assert put(snapshots, {"a": 2}).number == 2  # it changes nothing
    assert snapshots.get(1).values == {"a": 1}
    assert snapshots.get(1).who == "ann"
    assert snapshots.revert(1, "bob", lambda _: None).values == {"a": 1}
    assert [(one.number, one.who, one.what) for one in snapshots.newest(9)] == [
        (3, "bob", "as 1"), (2, "ann", "set"), (1, "ann", "set"),
    ]  # fmt: skip
    with pytest.raises(Conflict, match="snapshot 3 of the settings, by bob, is newer than 2"):
        put(snapshots, {"a": 4}, after=2)
    assert put(snapshots, {"a": 4}, after=3).number == 4
    for number in (9, -1, 1 << 64):
        with pytest.raises(NotKnown, match="there is no snapshot"):
            snapshots.get(number)
    with pytest.raises(InvalidArgument, match="bytes: 262144 at most"):
        put(snapshots, {"a": "x" * MOST_BYTES})
    assert snapshots.latest().values == {"a": 4}


def put_raw(database, number, document):
    """As another program would."""
    with database.write() as connection:
        connection.execute(insert(setting_snapshot).values(id=number, who="eve", document=document))


@pytest.mark.parametrize("document", ["", "no JSON", "[]", "null", "7", "[" * 100_000])
def test_what_cannot_be_read_is_no_snapshot_without_values(snapshots, database, document):
    put(snapshots, {"a": 1})
    put_raw(database, 2, document)
    said = "snapshot 2 of the settings of all nodes cannot be read: its document is no JSON object"
    for refused in (
        lambda: snapshots.latest().require(),
        lambda: put(snapshots, {"b": 2}),  # which would drop what was set before
        lambda: snapshots.revert(2, "ann", lambda _: None),
    ):
        with pytest.raises(InvalidArgument, match=said) as caught:
            refused()
        assert "archive settings revert" in caught.value.hint
    assert [one.number for one in snapshots.newest(9)] == [2, 1]
    assert snapshots.revert(0, "ann", lambda _: None).number == 3  # not the same as one without values
    assert snapshots.revert(1, "ann", lambda _: None).values == {"a": 1}


def test_the_last_snapshots_are_kept_and_no_others(snapshots, monkeypatch):
    monkeypatch.setattr("dicomnet.repository.setting_snapshots.MOST_KEPT", 3)
    for number in range(6):
        put(snapshots, {"a": number})
    assert [one.number for one in snapshots.newest(99)] == [6, 5, 4]
    with pytest.raises(NotKnown, match="there is no snapshot 3"):
        snapshots.get(3)
    assert snapshots.revert(0, "ann", lambda _: None).number == 7


def test_two_that_change_at_once_both_have_their_way(snapshots):
    barrier = threading.Barrier(2)

    def change(key):
        barrier.wait(20)
        put(snapshots, {key: 1})

    threads = [threading.Thread(target=change, args=[key]) for key in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert snapshots.latest().values == {"a": 1, "b": 1}
    assert snapshots.latest().number == 2


# ---- nodes on PostgreSQL ---------------------------------------------------------------------------------------------


@pytest.mark.deadline(90)
def test_what_one_node_is_told_holds_at_the_other_and_is_shown_and_reverted(tmp_path, index):
    with a_server(tmp_path, "a", index) as one, a_server(tmp_path, "b", index) as other:
        with admin_of(one) as admin:
            made = admin.change_shared({"access.anonymous": False, "retention_days": 30, "duplicates": "keep"})
            assert (made["snapshot"], made["pending_restart"], made["own"]) == (1, [], [])
            assert made["changed"] == ["access.anonymous", "duplicates", "retention_days"]
            assert made["who"]
            assert not echoes(one)
            until(lambda: not echoes(other))
            assert other.archive.holdings.settings.retention_days == 30
            assert other.archive.holdings.intake.duplicates == "keep"
            until(lambda: [node["facts"]["settings"] for node in admin.nodes()] == [1, 1])
        with admin_of(other) as admin:
            assert admin.shared_settings()["running"] == 1
            made = admin.change_shared({"relational": True}, ["retention_days"], on_behalf_of="Ann", after=1)
            assert made["who"].startswith("Ann by way of ")
            with pytest.raises(AdminError, match="is newer than 1") as refused:
                admin.change_shared({"relational": False}, after=1)
            assert refused.value.status == 409
            until(lambda: one.archive.holdings.settings.relational)
            assert one.archive.holdings.settings.retention_days is None
            assert admin.revert_shared(0)["snapshot"] == 3
            until(lambda: echoes(one))
            assert not one.archive.holdings.settings.relational
            assert [line["what"] for line in admin.shared_history()] == [
                "as 0",
                "set relational; unset retention_days",
                "set access.anonymous; set retention_days; set duplicates",
            ]  # fmt: skip
            assert admin.shared_settings(1)["values"] == {
                "access.anonymous": False, "retention_days": 30.0, "duplicates": "keep",
            }  # fmt: skip
            admin.revert_shared(1)
    with a_server(tmp_path, "c", index) as again:  # it is in the database, for whoever comes
        assert not echoes(again)
        assert again.archive.holdings.settings.retention_days == 30
        assert again.archive.shared.snapshot.number == 4


@pytest.mark.deadline(90)
def test_what_is_wrong_is_one_line_and_changes_nothing(tmp_path, index):
    with a_server(tmp_path, "a", index) as server, admin_of(server) as admin:
        admin.change_shared({"relational": True})
        for values, unset, said, status in (
            ({"retention_dais": 3}, (), "retention_days?", 422),
            ({"access.per_title": 0}, (), "greater than or equal to 1", 422),
            ({"relational": False, "duplicates": 3}, (), "'keep', 'replace' or 'quarantine'", 422),
            ({"steps_to": ["RIS"]}, (), 'steps_to = "RIS" is no destination', 422),
            ({}, ("retention_days",), "retention_days is not set for all nodes", 404),
            ({}, ("relationale",), "relational?", 422),
            ({"relational": True}, ("relational",), "to be set and to be unset", 422),
            ({}, (), "nothing is set", 422),
        ):
            with pytest.raises(AdminError) as refused:
                admin.change_shared(values, unset)
            assert said in str(refused.value)
            assert refused.value.status == status
        for number in (7, "x", "-1", "9" * 30):
            with pytest.raises(AdminError) as refused:
                admin.request("POST", f"/v1/shared-settings/{number}/revert", {})
            assert refused.value.status == 404
        assert admin.shared_settings()["snapshot"] == 1
        assert server.archive.holdings.settings.relational


@pytest.mark.deadline(90)
def test_a_nodes_own_file_comes_before_the_database_and_says_so(tmp_path, index, monkeypatch):
    monkeypatch.setenv("DICOMNET_TIMEOUTS__DRAIN", "5")
    folder = tmp_path / "b"
    text = (f'[log]\nfile = ""\n[access]\nper_title = 7\n[addins]\nenable = ["archive"]\n[addin.archive]\n'
            f'database = "{index}"\nstorage = "{tmp_path / "blobs"}"\nretention_days = 90\n')  # fmt: skip
    write_settings(folder, text)
    with a_server(tmp_path, "a", index) as one, Server(folder) as other, admin_of(one) as admin:
        admin.change_shared({"retention_days": 30, "access.per_title": 3, "timeouts.drain": 9, "relational": True})
        shared = other.base.shared
        until(lambda: shared.snapshot.number == 1)
        until(lambda: other.settings.access == one.settings.access.model_copy(update={"per_title": 7}))
        assert one.settings.access.per_title == 3
        assert (one.settings.timeouts.drain, other.settings.timeouts.drain) == (9, 5)
        assert shared.own() == {"retention_days": 90, "access.per_title": 7, "timeouts.drain": 5}
        here = {line["key"]: (line["value"], line["from"]) for line in shared.show()["settings"]}
        assert here["retention_days"] == (90.0, "node")
        assert here["relational"] == (True, "all")
        assert here["duplicates"] == ("quarantine", "default")
        told = {}

        def is_told():
            told.update({node["address"]: node["facts"] for node in admin.nodes()})
            return told.get(other.peer, {}).get("settings") == 1

        until(is_told)
        assert told[other.peer]["settings_own"] == "access.per_title retention_days timeouts.drain"
        assert "settings_own" not in told[one.peer]
        with admin_of(other) as there:
            assert there.change_shared({"retention_days": 20})["own"] == ["retention_days"]
        write_settings(folder, text.replace("retention_days = 90\n", "").replace("per_title = 7\n", ""))
        assert set(other.reload().changed) >= {"access.per_title"}
        assert other.settings.access.per_title == 3
        assert shared.own() == {"timeouts.drain": 5}
        assert other.addins.get("archive").found.plugin.holdings.settings.retention_days == 20


@pytest.mark.deadline(90)
def test_what_waits_for_a_restart_says_so_and_holds_after_it(tmp_path, index):
    with a_server(tmp_path, "a", index) as one, a_server(tmp_path, "b", index) as other, admin_of(one) as admin:
        made = admin.change_shared({"access.max_clients": 3, "timeouts.client": "2m"})
        assert made["pending_restart"] == ["access.max_clients", "timeouts.client"]
        until(lambda: other.pending_restart)
        assert set(one.status()["pending_restart"]) == {"access.max_clients", "timeouts.client"}
        assert one.settings.access.max_clients == 100
    with a_server(tmp_path, "a", index) as one:
        assert one.settings.access.max_clients == 3
        assert one.settings.network_timeouts().idle == 120
        assert one.listeners["plain"].limits.associations == 3
        assert one.pending_restart == ()


@pytest.mark.deadline(90)
def test_a_node_that_cannot_use_a_snapshot_keeps_the_one_before_also_after_a_restart(tmp_path, index, caplog):
    ris = {"RIS": dn.Entity("RIS", "127.0.0.1", 9)}
    with an_archive(tmp_path, "a", index, destinations=ris) as one, an_archive(tmp_path, "b", index) as other:
        one.shared.change({"relational": True}, (), "ann")
        one.shared.change({"steps_to": ["RIS"], "retention_days": 5}, (), "ann")
        until(lambda: other.shared.refused)
        assert (other.shared.refused.number, other.shared.snapshot.number) == (2, 1)
        assert other.settings.retention_days is None  # none of it: never half
        assert other.holdings.settings.relational
        until(lambda: any(node.facts.get("settings_refused") == 2 for node in one.holdings.nodes.all()))
        assert (
            'snapshot 2 of the settings of all nodes cannot be used here, and 1 holds: steps_to = "RIS"' in caplog.text
        )
        mine = other.holdings.snapshots
        for values in ({"retention_days": 6}, {"retention_days": "x"}, {"retention_days": -1}):
            mine.change(lambda _, values=values: (values, "raw"), "eve")
        other.shared.refresh()  # three at once: the newest that it can use
        until(lambda: other.shared.refused.number == 5)
        assert (other.shared.snapshot.number, other.holdings.settings.retention_days) == (3, 6)
        one.shared.revert(2, "eve")
        until(lambda: other.shared.refused.number == 6)
        assert other.holdings.settings.retention_days == 6
    with an_archive(tmp_path, "b", index) as other:
        assert (other.shared.snapshot.number, other.shared.refused.number) == (3, 6)
        assert other.shared.show()["refused"]["snapshot"] == 6
        other.shared.change({"retention_days": 7}, ["steps_to"], "bob")
        assert (other.holdings.settings.retention_days, other.shared.refused) == (7, None)


@pytest.mark.deadline(60)
def test_what_a_later_version_says_stays_and_what_does_not_fit_is_passed_over(tmp_path, index, caplog):
    with Database.opened(index) as database, database.write() as connection:
        documents = ['{"relational": true, "colour": "red"}', '{"relational": 7}']
        for number, document in enumerate(documents, start=1):
            connection.execute(insert(setting_snapshot).values(id=number, who="later", document=document))
    with an_archive(tmp_path, "a", index) as archive:
        assert archive.holdings.settings.relational
        assert archive.shared.snapshot.number == 1
        assert "cannot be used here, and 1 holds" in caplog.text
        assert "has what this version does not know: colour" in caplog.text
        archive.shared.revert(1, "ann")
        archive.shared.change({"retention_days": 3}, (), "ann")
        assert archive.shared.show()["values"]["colour"] == "red"
        assert archive.shared.show()["unknown"] == {"colour": "red"}
        assert archive.shared.snapshot.number == 4


@pytest.mark.deadline(60)
@pytest.mark.long
def test_a_node_that_was_cut_off_catches_up(tmp_path, index, monkeypatch):
    with an_archive(tmp_path, "a", index) as one, an_archive(tmp_path, "b", index) as other:
        cut, tried = cut_off(monkeypatch, other.holdings.events)
        cut.set()
        assert tried.wait(20)
        one.shared.change({"relational": True}, (), "ann")
        assert not other.holdings.settings.relational
        cut.clear()
        until(lambda: other.holdings.settings.relational)


@pytest.mark.deadline(60)
def test_a_database_that_is_away_is_told_in_one_line(tmp_path, index, monkeypatch):
    with a_server(tmp_path, "a", index) as server, admin_of(server) as admin, monkeypatch.context() as patch:
        admin.change_shared({"relational": True})

        def away(*_, **__):
            raise OperationalError("SELECT", {}, Exception("away"))

        patch.setattr(server.archive.holdings.database, "transaction", away)
        patch.setattr(server.archive.holdings.database, "read", away)
        for ask in (admin.shared_settings, admin.shared_history, lambda: admin.change_shared({"relational": False})):
            with pytest.raises(AdminError, match="settings of all nodes cannot be asked or changed now") as told:
                ask()
            assert told.value.status == 503
        assert server.archive.holdings.settings.relational


def test_who_has_no_archive_has_no_settings_in_common(tmp_path):
    with Server(make_settings(), directory=tmp_path) as server, admin_of(server) as admin:
        with pytest.raises(AdminError, match="no settings in common") as told:
            admin.shared_settings()
        assert told.value.status == 404


@pytest.mark.long
@pytest.mark.deadline(120)
def test_workers_have_them_in_common_with_other_nodes(tmp_path, index):
    folder = tmp_path / "f"
    text = (f'workers = 2\n[log]\nfile = ""\n[addins]\nenable = ["archive"]\n[addin.archive]\n'
            f'database = "{index}"\nstorage = "{tmp_path / "blobs"}"\n')  # fmt: skip
    folder.mkdir()
    (folder / "server.toml").write_text(f'[server]\nae_title = "SERVER"\n{text}[listen]\nport = 0\n')
    with Fleet(folder) as fleet, admin_of(fleet) as admin:
        made = admin.change_shared({"access.anonymous": False, "relational": True}, on_behalf_of="Ann")
        assert (made["snapshot"], made["changed"]) == (1, ["access.anonymous", "relational"])
        assert made["who"].startswith("Ann by way of ")
        until(lambda: [node["facts"]["settings"] for node in admin.nodes()] == [1, 1])
        with pytest.raises(AdminError, match=r"retention_days\?") as refused:
            admin.change_shared({"retention_dais": 3})
        assert refused.value.status == 422
        assert admin.shared_settings()["running"] == 1
        assert admin.shared_settings(0)["values"] == {}
        assert [line["snapshot"] for line in admin.shared_history()] == [1]
        assert admin.revert_shared(0)["snapshot"] == 2
        until(lambda: [node["facts"]["settings"] for node in admin.nodes()] == [2, 2])


@pytest.mark.deadline(90)
def test_an_archive_that_is_taken_out_takes_what_is_common_with_it(tmp_path, index):
    folder = tmp_path / "a"
    text = (f'[log]\nfile = ""\n[addins]\nenable = ["archive"]\n[addin.archive]\ndatabase = "{index}"\n'
            f'storage = "{tmp_path / "blobs"}"\n')  # fmt: skip
    write_settings(folder, text)
    with Server(folder) as server:
        server.base.shared.change({"access.anonymous": False}, (), "ann")
        assert not echoes(server)
        write_settings(folder, text.replace('["archive"]', '["verification"]'))
        ended = server.base.shared
        server.reload()
        assert server.base.shared is None
        with pytest.raises(SettingsUnavailable, match="has ended"):
            ended.change({"relational": True}, (), "ann")
        ended.refresh()
        assert server.settings.access.anonymous
        assert echoes(server)
        write_settings(folder, text)
        server.reload()
        assert not server.settings.access.anonymous
        assert not echoes(server)


# ---- by the command --------------------------------------------------------------------------------------------------


@pytest.mark.deadline(60)
def test_the_command_changes_what_runs_on_postgresql(tmp_path, index):
    with an_archive(tmp_path, "a", index) as one, an_archive(tmp_path, "b", index, duplicates="keep") as other:
        done = run("set", tmp_path / "a", "relational=true", "duplicates=replace", "--json")
        assert json.loads(done.output)["summary"]["snapshot"] == 1
        until(lambda: one.holdings.settings.relational and other.holdings.settings.relational)
        assert (one.holdings.intake.duplicates, other.holdings.intake.duplicates) == ("replace", "keep")
        until(lambda: [node.facts["settings"] for node in Nodes(one.holdings.database).all()] == [1, 1])
        run("unset", tmp_path / "a", "relational")
        until(lambda: not one.holdings.settings.relational)


@pytest.mark.deadline(60)
def test_the_command_shows_reverts_and_refuses(tmp_path):
    folder = tmp_path / "pacs"
    archives.make(folder)
    text = (folder / FILE_NAME).read_text()
    (folder / FILE_NAME).write_text(text.replace("# relational = false", "relational = false"))
    assert "changed: relational, retention_days" in run("set", folder, "retention_days=30", "relational=true").output
    shown = run("show", folder).output
    assert "this node; all nodes: true" in shown
    assert "all nodes (1)" in shown
    assert "access.max_clients *" in shown
    for words, said in (
        (("set", folder, "retention_dais=3"), "retention_days?"),
        (("set", folder, "port=3"), "each node has its own"),
        (("set", folder, 'steps_to=["RIS"]'), 'steps_to = "RIS" is no destination'),
        (("unset", folder, "duplicates"), "duplicates is not set for all nodes"),
        (("revert", folder, 9), "there is no snapshot 9"),
        (("revert", folder, 0, "--after", 7), "is newer than 7"),
    ):
        with pytest.raises(InvalidArgument) as refused:
            run(*words)
        assert said in str(refused.value)
    assert "snapshot 2 holds" in run("revert", folder, 0).output
    lines = [json.loads(line) for line in run("history", folder, "--json").output.splitlines()]
    assert [line.get("what") for line in lines[:2]] == ["as 0", "set retention_days; set relational"]
    assert "@" in lines[0]["who"]
    run("set", folder, "access.max_clients=3", "duplicates=keep")
    with Holdings(folder) as holdings:  # each command of the archive goes by them
        assert holdings.intake.duplicates == "keep"
        assert not holdings.settings.relational
    with a_server(tmp_path, "s") as server, admin_of(server) as admin:
        admin.change_shared({"duplicates": "keep"})
        place = tmp_path / "s" / "data" / "archive"
        assert "duplicates" in run("set", place, "duplicates=replace", 'steps_to=["RIS"]').output
        assert admin.shared_settings()["snapshot"] == 2


@pytest.mark.deadline(60)
def test_the_command_asks_a_server_that_runs(tmp_path):
    folder = tmp_path / "s"
    write_settings(folder, '[log]\nfile = ""\n[addins]\nenable = ["archive"]\n')

    def by_server(*words):
        return run(*words, command=server_settings_command).output

    with Server(folder) as server:
        assert "snapshot 0" in by_server("show", folder)
        done = by_server("set", folder, "access.per_title=3", "access.max_clients=8", "duplicates=keep")
        assert "these wait for a restart of each node: access.max_clients" in done
        assert server.settings.access.per_title == 3
        with pytest.raises(AdminError, match=r"expected access.per_title\?"):
            run("set", folder, "access.per_titel=3", command=server_settings_command)
        assert "all nodes (1)" in by_server("show", folder)
        assert "changed: duplicates" in by_server("unset", folder, "duplicates", "--after", 1)
        assert "set access.per_title" in by_server("history", folder)
        assert "snapshot 3 holds" in by_server("revert", folder, 1)
        assert "keep" in by_server("show", folder, "--snapshot", 1)


@pytest.mark.deadline(60)
def test_an_archive_in_sqlite_sees_what_another_process_has_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(node_settings, "LOOK_SECONDS", 0.02)
    with an_archive(tmp_path, "pacs") as archive:
        run("set", tmp_path / "pacs", "relational=true")
        until(lambda: archive.holdings.settings.relational)
        until(lambda: archive.holdings.nodes.all()[0].facts["settings"] == 1)
        with monkeypatch.context() as patch:
            asked = threading.Event()

            def away(*_, **__):
                asked.set()
                raise OSError("away")

            patch.setattr(SettingSnapshots, "newest", away)
            assert asked.wait(20)
        run("unset", tmp_path / "pacs", "relational")
        until(lambda: not archive.holdings.settings.relational)


# ---- what follows while it runs --------------------------------------------------------------------------------------


def test_what_contradicts_is_treated_as_the_settings_of_now_say(tmp_path):
    with archives.opened(tmp_path, duplicates="keep") as holdings:
        first, second = an_incoming(1), an_incoming(1, StudyDescription="other")
        holdings.intake.store([first])
        holdings.apply(ArchiveSettings(durability="os"))
        holdings.intake.store([second])
        assert len(holdings.quarantine.items()) == 1


def test_retention_begins_ends_and_waits_its_hour_anew(tmp_path, monkeypatch):
    from dicomnet.archive import retention_worker

    looked = threading.Event()
    monkeypatch.setattr(RetentionWorker, "look", lambda self: looked.set() or 0)
    with archives.opened(tmp_path) as holdings:
        worker = RetentionWorker(holdings)
        worker.start()
        monkeypatch.setattr(retention_worker, "EVERY", 0.01)
        holdings.apply(ArchiveSettings(retention_days=3))
        assert looked.wait(20)
        monkeypatch.setattr(retention_worker, "EVERY", 3600.0)
        holdings.apply(ArchiveSettings(retention_days=4))
        worker.close()


def test_steps_are_passed_on_to_those_that_the_settings_of_now_name(tmp_path):
    ris = {name: dn.Entity(name, "127.0.0.1", 9) for name in ("RIS", "PACS")}
    with an_archive(tmp_path, "pacs", destinations=ris) as archive:
        forwarder = archive.forwarder
        assert not forwarder._lanes
        archive.shared.change({"steps_to": ["RIS", "PACS"]}, (), "ann")
        assert forwarder._lanes.keys() == {"RIS", "PACS"}
        served = forwarder._lanes["RIS"]
        archive.shared.change({"steps_to": ["PACS"]}, (), "ann")
        assert forwarder._lanes.keys() == {"PACS"}
        served.thread.join(20)
        assert not served.thread.is_alive()
        archive.shared.change({"steps_to": ["RIS"]}, (), "ann")
        assert forwarder._lanes["RIS"].thread.is_alive()
    assert not forwarder._lanes


def test_a_note_rejects_from_the_moment_that_the_settings_say_so(tmp_path):
    with an_archive(tmp_path, "pacs") as archive:
        with dn.connect(f"ARCHIVE@127.0.0.1:{archive.listener.address[1]}", contexts=dn.contexts.storage([CT])) as to:
            assert to.store(part10(1)).status.is_success
            archive.shared.change({"rejection_notes": "quarantine", "duplicates": "replace"}, (), "ann")
            assert to.store(part10(1, StudyDescription="other")).status.is_success
        assert archive.holdings.quarantine.items() == []
        assert archive.holdings.settings.rejection_notes == "quarantine"
