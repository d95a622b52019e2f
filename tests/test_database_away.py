"""A PostgreSQL that restarts or is away: what waits for it, what is known of it, and what nodes tell each other."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import archives
import postgres
import psycopg
import pytest
import sqlalchemy
from archives import an_incoming
from rig import until
from sqlalchemy.exc import DBAPIError, OperationalError

from dicomnet.archive.archive import Archive
from dicomnet.archive.checks import fsck
from dicomnet.errors import InvalidArgument
from dicomnet.repository import database as database_module
from dicomnet.repository import schema
from dicomnet.repository.database import Database, is_away
from dicomnet.repository.intake import Kept
from dicomnet.repository.node_events import NodeEvents
from dicomnet.repository.nodes import Nodes
from dicomnet.repository.prepared import Prepared, in_one_go
from dicomnet.repository.shared_titles import CHANGED, SharedTitles
from dicomnet.repository.workitem_rules import SCHEDULED
from dicomnet.repository.workitems import GLOBAL
from dicomnet.server.ae_entry import AEEntry
from dicomnet.server.ae_titles import AETitles
from dicomnet.server.database import Database as OwnDatabase
from dicomnet.server.events import EventLog
from dicomnet.server.kept_titles import TitlesUnavailable

PATIENCE = 30
_NOTIFY = sqlalchemy.text("NOTIFY channel")


@pytest.fixture(scope="module")
def cluster():
    with postgres.cluster() as own:
        yield own


@pytest.fixture
def url(cluster):
    return cluster.url(cluster.new_database())


@pytest.fixture
def holdings(tmp_path, url):
    with archives.opened(tmp_path / "archive", database=url, durability="disk") as opened:
        yield opened


class TestTransactions:
    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    @pytest.mark.long
    def test_a_restart_costs_time_and_nothing_else(self, holdings, cluster, mode):
        results = []

        def store():
            results.extend(holdings.intake.store([an_incoming(1 + len(results))]))

        store()
        with ThreadPoolExecutor(1) as pool:
            restarting = pool.submit(cluster.restart, mode)
            while not restarting.done():
                store()
            during = len(results) - 1
            for _ in range(3):
                store()
            restarting.result()
        assert during > 0
        assert all(isinstance(one, Kept) for one in results)
        uids = [f"1.2.1.1.{number}" for number in range(1, len(results) + 1)]
        assert len(holdings.places.of(uids)) == len(results)
        assert list(fsck(holdings)) == []

    def test_a_connection_that_died_in_the_pool_is_replaced_without_a_word(self, url, caplog):
        with Database.opened(url) as database:
            for _ in range(2):
                with database.write() as one, database.write() as other:  # two that wait in the pool
                    pids = [driver.connection.driver_connection.info.backend_pid for driver in (one, other)]
            with psycopg.connect(url, autocommit=True) as administrator:
                for pid in pids:
                    administrator.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            done = []

            def work(connection):
                done.append(connection.execute(sqlalchemy.text("SELECT pg_backend_pid()")).scalar_one())

            database.transaction(work)
            assert len(done) == 1
            assert done[0] not in pids
            assert caplog.messages == []

    def test_what_fails_in_one_go_is_told_as_what_it_is(self, url):
        """What was sent after it is left out, and hides it not: it is begun again if the database called it off."""
        divided = Prepared(
            sqlalchemy.update(schema.study).where(schema.study.c.n_inst == 1 / sqlalchemy.bindparam("b_by"))
            .values(version=1)
        )  # fmt: skip
        with Database.opened(url) as database:
            rows = [{"b_by": by} for by in (1, 0, 2)]
            with pytest.raises(DBAPIError) as caught, database.write() as connection, in_one_go(connection):
                divided.run(connection, rows)
            assert caught.value.orig.sqlstate == "22012"
            assert not is_away(caught.value)
            with database.write() as connection:
                assert connection.execute(sqlalchemy.text("SELECT 1")).scalar_one() == 1

    def test_a_commit_of_which_nothing_is_known_is_repeated_where_that_does_no_harm(self, url, monkeypatch):
        """The server commits, and the connection is lost before it says so."""
        with Database.opened(url) as database:
            with database.write() as connection:
                connection.execute(sqlalchemy.text("CREATE TABLE once (id int)"))
            lost = iter([True, False, True])
            real = psycopg.Connection.commit

            def commit(connection):
                real(connection)
                if next(lost, False):
                    connection.close()
                    raise psycopg.OperationalError("the connection is lost")

            monkeypatch.setattr(psycopg.Connection, "commit", commit)

            def work(connection):
                if connection.execute(sqlalchemy.text("SELECT id FROM once")).first() is None:
                    connection.execute(sqlalchemy.text("INSERT INTO once VALUES (1)"))

            database.transaction(work, repeatable=True)
            with pytest.raises(OperationalError) as caught:
                database.transaction(work)
            assert is_away(caught.value)
            with database.read() as connection:
                assert connection.execute(sqlalchemy.text("SELECT count(*) FROM once")).scalar_one() == 1

    def test_an_index_that_stays_away_refuses_and_keeps_the_bytes(self, tmp_path, cluster, url, monkeypatch):
        """What was stored, and may be in the index or not, is found by the next start."""
        monkeypatch.setattr(database_module, "FAILOVER_SECONDS", 0.2)
        with archives.opened(tmp_path / "archive", database=url) as holdings:
            with monkeypatch.context() as away:

                def lost(*_, **__):
                    raise OperationalError("", {}, psycopg.OperationalError("connection refused"))

                away.setattr(database_module.Database, "write", lost)
                results = holdings.intake.store([an_incoming(1), an_incoming(2)])
            assert all(isinstance(one, OperationalError) for one in results)
            assert len(list(holdings.blobs.scan())) == 2
        with archives.opened(tmp_path / "archive", database=url) as again:
            assert again.intake.recover(recent=False) + again.recovered == 2
            assert list(fsck(again)) == []


class TestEvents:
    ITEM = {
        "00404005": {"vr": "DT", "Value": ["20260101120000"]},
        "00404041": {"vr": "CS", "Value": ["READY"]},
        "00741000": {"vr": "CS", "Value": [SCHEDULED]},
        "00741200": {"vr": "CS", "Value": ["MEDIUM"]},
        "00741204": {"vr": "LO", "Value": ["read"]},
    }

    def test_who_listens_at_one_node_hears_of_all_over_a_restart_too(self, url, cluster):
        with Database.opened(url) as one, Database(url) as other:
            first, second = NodeEvents(one), NodeEvents(other)
            heard, own, enough = [], [], threading.Event()

            def hear(data):
                heard.append(data)
                if len(heard) == 40:
                    enough.set()

            second.listen("k", hear)
            first.listen("k", own.append)
            first.start()
            second.start()
            for number in range(40):
                if number == 20:
                    cluster.restart("fast")
                one.transaction(lambda connection, number=number: first.put(connection, "k", number))
            assert enough.wait(PATIENCE)
            assert heard == list(range(40))
            assert own == []
            first.close()
            second.close()

    @pytest.mark.parametrize("kind", ["read anew", "told once"])
    def test_what_fails_for_who_listens_is_read_anew_where_it_can_be(self, url, kind, caplog):
        with Database.opened(url) as one, Database(url) as other:
            teller, reader = NodeEvents(one), NodeEvents(other)
            heard, read, enough = [], [], threading.Event()

            def hear(data):
                heard.append(data)
                if data == 1:
                    raise InvalidArgument("it does not fit")
                enough.set()

            reader.listen(kind, hear)
            reader.anew("read anew", lambda: read.append(len(heard)))
            reader.start()
            until(lambda: read)
            for number in (1, 2):
                one.transaction(lambda connection, number=number: teller.put(connection, kind, number))
            assert enough.wait(PATIENCE)
            reader.close()
            assert heard == [1, 2]
            assert read == ([0, 1] if kind == "read anew" else [0])
            assert ("cannot be told" in caplog.text) is (kind == "told once")

    def test_a_nudge_comes_before_the_next_look(self, url, caplog):
        with Database.opened(url) as one, Database(url) as other, other.notified("channel") as wait:
            began = time.monotonic()
            nudge = threading.Timer(0.1, lambda: one.transaction(lambda each: each.execute(_NOTIFY)))
            nudge.start()
            wait(PATIENCE)
            assert time.monotonic() - began < PATIENCE / 2
            nudge.join()

    def test_a_connection_that_hears_nothing_is_kept(self, url, caplog):
        with Database.opened(url) as database:
            events = NodeEvents(database)
            events.start()
            with database.notified("channel") as wait:
                wait(0.1)
                wait(0.1)
            events.close()
        assert "come late" not in caplog.text

    def test_events_are_in_the_order_of_their_commits(self, url):
        """One that commits late has a number that comes late: who reads meanwhile misses none."""
        with Database.opened(url) as one, Database(url) as other:
            slow, quick, reader = NodeEvents(one), NodeEvents(one), NodeEvents(other)
            heard = []
            reader.listen("k", heard.append)
            reader.start()
            with one.write() as connection:
                slow.put(connection, "k", "slow")
                thread = threading.Thread(
                    target=lambda: one.transaction(lambda connection: quick.put(connection, "k", "quick"))
                )
                thread.start()
                thread.join(0.3)
                assert thread.is_alive()  # it waits for its number
            thread.join(PATIENCE)
            reader.close()
            reader._read()
            assert heard == ["slow", "quick"]

    def test_work_items_that_change_at_one_node_are_told_at_another(self, tmp_path, url):
        here, there = (archives.opened(tmp_path / name, database=url) for name in "ab")
        with here as one, there as other:
            local, everywhere, told = [], [], threading.Event()
            other.workitems.listen(local.extend)
            other.workitems.listen(lambda notices: (everywhere.extend(notices), told.set()), everywhere=True)
            other.events.start()
            other.workitems.subscribe("WATCHER", GLOBAL)
            one.workitems.create(dict(self.ITEM), "1.2.3.4")
            assert told.wait(PATIENCE)
            assert [(notice.uid, notice.to) for notice in everywhere] == [("1.2.3.4", ("WATCHER",))]
            assert local == []
            other.events.close()


class TestStart:
    """What a node opens before all of it has begun may be gone again, and is waited for."""

    def begun(self, cluster, caplog, start):
        """Start something while the database is away, until it waits; then have it come back."""
        with ThreadPoolExecutor(1) as pool:
            with cluster.away():
                beginning = pool.submit(start)
                until(lambda: "the index is away, and is asked again" in caplog.text)
            beginning.result(PATIENCE)

    def test_an_archive_begins_when_the_database_is_back(self, tmp_path, cluster, url, caplog):
        archive = Archive(tmp_path, archives.make(tmp_path, database=url))
        try:
            self.begun(cluster, caplog, archive.start)
            assert len(archive.holdings.nodes.all()) == 1
        finally:
            archive.close()

    def test_events_of_other_nodes_are_heard_when_the_database_is_back(self, cluster, url, caplog):
        with Database.opened(url) as database:
            events = NodeEvents(database)
            self.begun(cluster, caplog, events.start)
            events.close()

    def test_a_node_tells_of_itself_when_the_database_is_back(self, cluster, url, caplog):
        with Database.opened(url) as database:
            nodes = Nodes(database)
            self.begun(cluster, caplog, lambda: nodes.tell("HERE@localhost:104", {}))
            assert [node.address for node in nodes.all()] == ["HERE@localhost:104"]


class TestTitles:
    @pytest.fixture
    def titles(self, url):
        with Database.opened(url) as database:
            events = NodeEvents(database)
            titles = AETitles(OwnDatabase(None), EventLog())
            titles.keep_in(SharedTitles(database, events))
            events.anew(CHANGED, titles.refresh)
            events.start()
            yield titles
            events.close()

    def test_a_change_waits_for_no_database_and_what_is_known_holds(self, titles, cluster, monkeypatch):
        monkeypatch.setattr(database_module, "FAILOVER_SECONDS", 10.0 * PATIENCE)
        titles.add(AEEntry(title="OLD"))
        with cluster.away():
            for change in (
                lambda: titles.add(AEEntry(title="NEW")), lambda: titles.remove("OLD"), titles.refresh,
                lambda: titles.update("OLD", AEEntry(title="OLDER")), lambda: titles.history(1),
            ):  # fmt: skip
                with pytest.raises(TitlesUnavailable, match="cannot be asked or changed now"):
                    change()
            assert titles.find("OLD")
        titles.add(AEEntry(title="NEW"))
        assert [entry.title for entry in titles] == ["NEW", "OLD"]

    def test_what_was_committed_and_not_answered_is_known_soon(self, titles, monkeypatch):
        lost = iter([True])
        real = psycopg.Connection.commit

        def commit(connection):
            real(connection)
            if next(lost, False):
                connection.close()
                raise psycopg.OperationalError("the connection is lost")

        monkeypatch.setattr(psycopg.Connection, "commit", commit)
        with pytest.raises(TitlesUnavailable):
            titles.add(AEEntry(title="NEW"))
        until(lambda: titles.find("NEW"))


class TestFollowing:
    def test_more_than_a_page_and_a_failure_of_our_own_are_got_over(self, url, monkeypatch, caplog):
        monkeypatch.setattr("dicomnet.repository.node_events._PAUSE_SECONDS", 0.01)
        monkeypatch.setattr("dicomnet.repository.node_events._PAGE", 2)
        with Database.opened(url) as database, Database(url) as other:
            teller, reader = NodeEvents(database), NodeEvents(other)
            heard, real, broken = [], reader._read, [ZeroDivisionError()]

            def read():
                if broken and reader._cursor is not None and waiting.is_set():
                    raise broken.pop()
                return real()

            waiting = threading.Event()
            reader.listen("k", heard.append)
            monkeypatch.setattr(reader, "_read", read)
            reader.start()
            for number in range(7):
                database.transaction(lambda connection, number=number: teller.put(connection, "k", number))
            waiting.set()
            database.transaction(lambda connection: teller.put(connection, "k", 7))
            until(lambda: heard == list(range(8)))
            reader.close()
        assert "events of other nodes cannot be read" in caplog.text
