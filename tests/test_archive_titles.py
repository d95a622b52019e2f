"""AE titles of several servers with one archive: what is changed at one node holds at each."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager

import pytest
from archives import cut_off
from rig import until
from servers import make_settings

import dicomnet as dn
from dicomnet.archive.add_in import ArchiveAddIn
from dicomnet.errors import AssociationRejected, InvalidArgument
from dicomnet.repository.database import Database
from dicomnet.repository.node_events import NodeEvents
from dicomnet.repository.shared_titles import SharedTitles
from dicomnet.repository.work_schema import ae_title, event
from dicomnet.server import Server
from dicomnet.server.admin import Client
from dicomnet.server.ae_entry import AEEntry
from dicomnet.server.ae_titles import AETitles, Conflict, NotKnown
from dicomnet.server.database import Database as OwnDatabase
from dicomnet.server.events import EventLog


@pytest.fixture
def index(postgresql):
    return postgresql.url(postgresql.new_database())


@contextmanager
def a_node(folder, name, index):
    addin = ArchiveAddIn()
    table = {"durability": "os", "database": index, "storage": str(folder / "blobs")}
    settings = make_settings(addin={"archive": table}, access={"anonymous": False})
    with Server(settings, directory=folder / name, addins={"archive": addin}) as server:
        server.archive = addin
        yield server


def echoes(server, calling):
    try:
        with dn.connect(server.peer, calling=calling, contexts=dn.contexts.verification()) as association:
            return association.echo().is_success
    except AssociationRejected:
        return False


@pytest.mark.deadline(60)
def test_a_title_that_one_node_is_told_is_admitted_by_the_other(tmp_path, index):
    with a_node(tmp_path, "a", index) as one, a_node(tmp_path, "b", index) as other:
        told = threading.Event()
        other.events.listen(lambda _: told.set(), "ae.added")
        assert not echoes(one, "MODALITY")
        assert not echoes(other, "MODALITY")
        with Client(tmp_path / "a" / "run/admin.sock") as admin:
            admin.request("POST", "/v1/ae-titles", {"title": "MODALITY", "host": "127.0.0.1", "port": 104})
        assert told.wait(20)
        assert echoes(one, "MODALITY")
        assert echoes(other, "MODALITY")
        with Client(tmp_path / "b" / "run/admin.sock") as admin:
            with pytest.raises(Exception, match="there already"):
                admin.request("POST", "/v1/ae-titles", {"title": "modality"})
            admin.request("PUT", "/v1/ae-titles/MODALITY", {"title": "CT1", "host": "127.0.0.2", "port": 104})
        until(lambda: one.base.ae_titles.find("CT1"))
        assert one.base.ae_titles.destinations()["CT1"].host == "127.0.0.2"
        assert [line["what"] for line in one.base.ae_titles.history(1)] == ["added", "renamed from MODALITY"]
        one.base.ae_titles.remove("CT1")
        until(lambda: not other.base.ae_titles.find("CT1"))
        assert not echoes(other, "CT1")
    with a_node(tmp_path, "b", index) as again:  # nothing of it has stayed at a node
        assert list(again.base.ae_titles) == []


@pytest.mark.deadline(60)
@pytest.mark.long
def test_a_node_that_was_cut_off_works_on_what_it_knew_and_catches_up(tmp_path, index, monkeypatch):
    with a_node(tmp_path, "a", index) as one, a_node(tmp_path, "b", index) as other:
        one.base.ae_titles.add(AEEntry(title="OLD"))
        until(lambda: other.base.ae_titles.find("OLD"))
        cut, tried = cut_off(monkeypatch, other.archive.holdings.events)
        cut.set()
        assert tried.wait(20)
        one.base.ae_titles.add(AEEntry(title="NEW"))
        one.base.ae_titles.remove("OLD")
        with one.archive.holdings.database.write() as connection:
            connection.execute(event.delete())  # as after an hour
        assert echoes(other, "OLD")
        assert not echoes(other, "NEW")
        cut.clear()
        until(lambda: other.base.ae_titles.find("NEW") and not other.base.ae_titles.find("OLD"))
        assert echoes(other, "NEW")
        assert not echoes(other, "OLD")


def test_what_a_node_knew_by_itself_is_known_to_all_and_the_first_word_holds(tmp_path, index, caplog):
    for name, host in (("a", "192.0.2.1"), ("b", "192.0.2.2")):
        own = OwnDatabase(tmp_path / name / "server.sqlite")
        titles = AETitles(own, EventLog())
        titles.add(AEEntry(title="SAME", host="192.0.2.9", port=104))
        titles.add(AEEntry(title="OTHER", host=host, port=104))
        titles.add(AEEntry(title=f"OF_{name.upper()}"))
        own.close()
    with a_node(tmp_path, "a", index) as one, a_node(tmp_path, "b", index) as other:
        assert sorted(entry.title for entry in other.base.ae_titles) == ["OF_A", "OF_B", "OTHER", "SAME"]
        assert other.base.ae_titles.destinations()["OTHER"].host == "192.0.2.1"
        until(lambda: one.base.ae_titles.find("OF_B"))
        assert [line for line in caplog.messages if "kept otherwise" in line] == [
            'the AE title "OTHER" is kept otherwise by all nodes: that entry holds'
        ]
        other.base.ae_titles.remove("OF_B")
        until(lambda: not one.base.ae_titles.find("OF_B"))
    with a_node(tmp_path, "b", index) as again:
        assert again.base.ae_titles.find("OF_B") is None


def test_two_nodes_that_add_one_title_at_once_have_one(tmp_path, index):
    with Database.opened(index) as database:
        directories = []
        for _ in range(2):
            titles = AETitles(OwnDatabase(None), EventLog())
            titles.keep_in(SharedTitles(database, NodeEvents(database)))
            directories.append(titles)
        outcomes, barrier = [], threading.Barrier(2)

        def add(titles):
            barrier.wait(20)
            try:
                outcomes.append(titles.add(AEEntry(title="ONE")).title)
            except Conflict as error:
                outcomes.append(type(error).__name__)

        threads = [threading.Thread(target=add, args=[one]) for one in directories]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sorted(outcomes) == ["Conflict", "ONE"]
        winner = next(one for one in directories if one.find("ONE"))
        loser = next(one for one in directories if one is not winner)
        loser.refresh()
        winner.remove("ONE")
        with pytest.raises(NotKnown, match="removed meanwhile"):
            loser.update("ONE", AEEntry(title="TWO"))


def test_a_database_that_is_away_is_told_in_one_line(tmp_path, index, monkeypatch):
    from sqlalchemy.exc import OperationalError

    with a_node(tmp_path, "a", index) as one:
        one.base.ae_titles.add(AEEntry(title="KNOWN"))

        def away(*_, **__):
            raise OperationalError("SELECT", {}, Exception("away"))

        monkeypatch.setattr(one.archive.holdings.database, "transaction", away)
        monkeypatch.setattr(one.archive.holdings.database, "read", away)
        with Client(tmp_path / "a" / "run/admin.sock") as admin:
            with pytest.raises(Exception, match="cannot be asked or changed now") as told:
                admin.request("POST", "/v1/ae-titles", {"title": "NEW"})
            assert told.value.status == 503
        assert echoes(one, "KNOWN")
        monkeypatch.undo()


def test_an_archive_that_stops_gives_back_what_it_took_and_starts_again(tmp_path, index):
    """Enabled, left out and enabled again by reload; and begun again after a start that failed."""
    with a_node(tmp_path, "a", index) as one:
        assert len(one.base.nodes.all()) == 1
        one.base.ae_titles.add(AEEntry(title="KNOWN"))
        addins = one.settings.addins
        without = one.settings.model_copy(update={"addins": addins.model_copy(update={"enable": ()})})
        one.addins.reload(without, one.directory, one.base)
        assert one.base.nodes is None
        assert list(one.base.ae_titles) == []
        one.base.ae_titles.add(AEEntry(title="OF_A"))  # by the server itself: the archive's database is closed
        told = []
        one.events.listen(lambda event: told.append((event.type, event.data["ae"]["title"])), "ae.")
        table = one.settings.addin["archive"]
        broken = one.settings.model_copy(update={"addin": {"archive": {**table, "hl7_port": one.address[1]}}})
        with pytest.raises(InvalidArgument, match="failed in start"):
            one.addins.reload(broken, one.directory, one.base)
        assert [kind for kind, _ in told] == ["ae.added", "ae.updated", "ae.removed", "ae.removed"]  # OF_A's number
        one.addins.reload(one.settings, one.directory, one.base)
        assert told[4:] == [("ae.added", "KNOWN"), ("ae.added", "OF_A")]
        assert len(one.base.nodes.all()) == 1
        one.base.ae_titles.remove("OF_A")
        with Database(index) as database:
            assert [entry.title for entry in SharedTitles(database, NodeEvents(database)).entries()] == ["KNOWN"]


@pytest.fixture
def shared(index):
    """What makes a directory of the titles of all nodes; and the database."""
    with Database.opened(index) as database:

        def make(events=None):
            titles = AETitles(OwnDatabase(None), events or EventLog())
            titles.keep_in(SharedTitles(database, NodeEvents(database)))
            return titles

        yield make, database


def test_what_a_later_version_says_of_a_title_is_kept_and_what_cannot_be_read_is_left_out(shared, caplog):
    make, database = shared
    with database.write() as connection:
        for document in ({"title": "NEW", "colour": "red"}, {"title": "ODD\n", "rights": ["paint"]}, [], None):
            connection.execute(ae_title.insert().values(document="" if document is None else json.dumps(document)))
    titles = make()
    titles.refresh()
    assert [entry.title for entry in titles] == ["NEW"]
    assert [line for line in caplog.messages if "cannot be read" in line] == [
        'the entry 2 of all nodes, "ODD\\n", cannot be read: it is not known here (title, rights)',
        'the entry 3 of all nodes, "", cannot be read: it is not known here (title)',
        'the entry 4 of all nodes, "", cannot be read: it is not known here (title)',
    ]
    titles.update("NEW", AEEntry(title="NEWER"))
    with database.read() as connection:
        kept = json.loads(connection.execute(ae_title.select().where(ae_title.c.id == 1)).one().document)
    assert (kept["title"], kept["colour"]) == ("NEWER", "red")


def test_what_cannot_be_moved_leaves_the_titles_where_they_are(shared):
    _, database = shared
    titles = AETitles(OwnDatabase(None), EventLog())
    titles.add(AEEntry(title="OWN"))

    class Broken(SharedTitles):
        def entries(self):
            raise RuntimeError("unforeseen")

    with pytest.raises(RuntimeError, match="unforeseen"):
        titles.keep_in(Broken(database, NodeEvents(database)))
    titles.refresh()
    assert titles.find("OWN")
    titles.keep_in(SharedTitles(database, NodeEvents(database)))
    assert [entry.title for entry in titles] == ["OWN"]


def test_a_title_that_another_node_has_changed_meanwhile_is_not_overwritten(shared):
    make, _ = shared
    one, other = make(), make()
    one.add(AEEntry(title="ONE"))
    other.refresh()
    one.update("ONE", AEEntry(title="TWO"))
    with pytest.raises(Conflict, match="changed meanwhile"):
        other.update("ONE", AEEntry(title="ONE", port=104))
    assert other.update("TWO", AEEntry(title="TWO", port=104)).port == 104  # it has looked


def test_who_listens_to_events_may_change_titles(shared):
    make, _ = shared
    events = EventLog()
    titles = make(events)
    first = titles.add(AEEntry(title="FIRST"))
    adding, listening = threading.Event(), threading.Event()

    def listener(_):
        listening.set()
        assert adding.wait(20)
        titles.update("FIRST", first.model_copy(update={"description": "heard"}))

    def uses(_):
        assert listening.wait(20)
        adding.set()  # while a title is changed by one thread, the other holds the lock of events
        return ()

    def also(event):
        if event.data["ae"]["title"] == "LAST":
            titles.add(AEEntry(title="NEXT"))

    titles.add(AEEntry(title="GONE"))
    titles.depends("test", uses)
    events.listen(listener, "a.kind")
    events.listen(also, "ae.")
    threads = [threading.Thread(target=work, daemon=True) for work in (
        lambda: events.publish("a.kind", {}), lambda: titles.remove("GONE"), lambda: titles.add(AEEntry(title="LAST"))
    )]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(entry.title for entry in titles) == ["FIRST", "LAST", "NEXT"]
    assert titles.get("FIRST").description == "heard"
