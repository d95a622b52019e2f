"""Several nodes of one archive, on one PostgreSQL and one object store: any node answers for all of them."""

import json
import os
import socket
import subprocess
import threading
import time

import archives
import cutting
import nodes
import pytest
from archives import CT, an_incoming, part10
from click.testing import CliRunner
from sqlalchemy import delete, update
from sqlalchemy.exc import OperationalError

import dicomnet as dn
from dicomnet.archive import housekeeping
from dicomnet.archive.archive import Archive
from dicomnet.archive.checks import Problem, fsck, scrub
from dicomnet.archive.housekeeping import SWEEPING, Housekeeper
from dicomnet.cli.archive_nodes import nodes_command
from dicomnet.client.sync import CommitmentScu
from dicomnet.errors import DicomNetError
from dicomnet.repository import schema
from dicomnet.repository.blob_source import data_set_of
from dicomnet.repository.database import Database
from dicomnet.repository.database_clock import DatabaseClock
from dicomnet.repository.intake import Kept
from dicomnet.repository.nodes import ALIVE_SECONDS, Nodes
from dicomnet.repository.outbox import Outbox
from dicomnet.repository.work_schema import node


@pytest.fixture
def site(swift_store, bucket):
    with nodes.site(swift_store, bucket) as where:
        yield where


class TestNodes:
    """On both databases: SQLite has one node at a time, and tells of it alike."""

    def test_who_lives_is_told_by_the_clock_of_the_database(self, database):
        now = database.clock()
        database.clock = lambda: now
        first, second = Nodes(database), Nodes(database)
        first.tell("A@h:1", {"stored": 1})
        second.tell("B@h:2", {"stored": 2})
        database.clock = lambda: now + ALIVE_SECONDS / 2
        first.tell("A@h:1", {"stored": 3})
        database.clock = lambda: now + ALIVE_SECONDS + 1
        found = first.all()
        assert [(one.address, one.facts["stored"], one.is_alive) for one in found] == [
            ("A@h:1", 3, True), ("B@h:2", 2, database.is_sqlite)
        ]  # fmt: skip
        second.leave()
        assert len(first.all()) == 1

    def test_a_duty_is_of_one_node_until_its_time_is_over(self, database):
        now = database.clock()
        database.clock = lambda: now
        first, second = Nodes(database), Nodes(database)
        assert first.take("d", 60)
        assert first.take("d", 60)
        assert not second.take("d", 60)
        assert second.take("e", 60)
        database.clock = lambda: now + 61
        assert second.take("d", 60)
        assert not first.take("d", 60)
        second.leave()
        assert first.take("d", 60)

    def test_a_node_that_is_gone_fails_the_command(self, tmp_path):
        archives.make(tmp_path / "archive")
        with archives.opened(tmp_path / "archive") as holdings:
            one = Nodes(holdings.database)
            one.tell("ARCHIVE@h:11112", {"stored": 5})
            assert one.take(SWEEPING, 60)
            arguments = [str(tmp_path / "archive"), "--json"]
            done = CliRunner().invoke(nodes_command, arguments, standalone_mode=False)
            assert done.return_value == 0, done.output
            told = json.loads(done.output.splitlines()[0])
            assert (told["address"], told["alive"], told["duties"]) == ("ARCHIVE@h:11112", True, [SWEEPING])
            gone = subprocess.Popen(["true"])
            gone.wait(30)
            with holdings.database.write() as connection:  # as it told of itself, and was killed
                connection.execute(update(node).values(name=f"{socket.gethostname()}:{gone.pid}"))
        assert CliRunner().invoke(nodes_command, arguments, standalone_mode=False).return_value == 69


class TestClock:
    def test_a_clock_that_is_a_minute_off_ends_no_lease(self, postgresql, monkeypatch):
        """Two processes of which one believes that it is a minute later: the database's time is what counts."""
        url = postgresql.url(postgresql.new_database())
        with Database.opened(url) as right, Database(url) as wrong:
            real = time.time
            monkeypatch.setattr(time, "time", lambda: real() + 60)
            mine, other = Outbox(right.write, clock=right.clock), Outbox(wrong.write, clock=wrong.clock)
            with right.write() as connection:
                assert mine.enqueue(connection, "q", {})
            [item] = mine.lease("q", "me", seconds=30)
            assert other.lease("q", "you", seconds=30) == []
            assert abs(other._clock() - real()) < 5
            assert mine.done(item)

    def test_it_goes_on_while_the_database_is_away(self):
        seconds, answers = [0.0], [100.0]
        clock = DatabaseClock(lambda: answers[-1], monotonic=lambda: seconds[0])
        assert clock() == 100.0
        seconds[0] = 10.0
        answers.append(999.0)  # not asked yet
        assert clock() == 110.0
        seconds[0] = 61.0
        assert clock() == 999.0

    def test_a_database_that_is_away_is_asked_now_and_then(self):
        seconds, asked = [0.0], []

        def ask():
            asked.append(seconds[0])
            if len(asked) in (2, 3):
                raise OperationalError("SELECT", {}, Exception("away"))
            return 100.0 + seconds[0]

        clock = DatabaseClock(ask, monotonic=lambda: seconds[0])
        for at in (0.0, 61.0, 62.0, 63.0, 66.5, 67.0, 72.0):
            seconds[0] = at
            assert clock() == 100.0 + at
        assert asked == [0.0, 61.0, 66.5, 72.0]


class TestReadYourWrites:
    def connected(self, archive, *contexts):
        host, port = archive.listener.address
        return dn.connect(f"ARCHIVE@{host}:{port}", calling="TESTER", contexts=contexts or dn.contexts.storage([CT]))

    @pytest.mark.deadline(120)
    def test_any_node_answers_for_what_another_has_acknowledged(self, tmp_path, site):
        with dn.Listener("TESTER", port=0) as taking:
            kept = {}
            taking.on_store(lambda request: kept.update({request.dataset.SOPInstanceUID: request.calling}))
            host, port = taking.address
            entity = dn.Entity("TESTER", host, port)
            settings = [
                nodes.make(tmp_path / f"node{n}", site, direct=True, destinations={"TESTER": entity}) for n in range(2)
            ]
            with Archive(tmp_path / "node0", settings[0]) as one, Archive(tmp_path / "node1", settings[1]) as other:
                with self.connected(one) as association:
                    for number in range(3):
                        assert association.store(part10(number, size=3000)).status.is_success
                with self.connected(other, *dn.contexts.query_retrieve([CT])) as association:
                    assert len(list(association.find("STUDY", StudyInstanceUID="1.2.1"))) == 1
                    outcome = association.move("STUDY", destination="TESTER", StudyInstanceUID="1.2.1")
                    assert (outcome.completed, outcome.failed) == (3, 0)
                assert len(kept) == 3
                address = "{}:{}".format(*other.listener.address)
                with CommitmentScu(f"ARCHIVE@{address}", calling="MODALITY") as scu:
                    assert len(scu.commit([(CT, f"1.2.1.1.{n}") for n in range(3)]).committed) == 3
                alive = [node for node in Nodes(one.holdings.database).all() if node.is_alive]
                assert len(alive) == 2


class TestSweep:
    @pytest.mark.long
    def test_one_node_indexes_what_another_had_only_stored(self, tmp_path, site):
        nodes.make(tmp_path / "a", site, direct=True)
        nodes.make(tmp_path / "b", site, direct=True)
        with archives.Holdings(tmp_path / "a") as first, archives.Holdings(tmp_path / "b") as second:
            blobs = [an_incoming(number).blob for number in range(2)]
            for blob in blobs:
                blob.hash()
            first.blobs.put(blobs)  # and it is killed
            keeper = Housekeeper(second, lambda: "ARCHIVE", dict)
            keeper.beat()
            keeper.look()
            places = second.places.of(["1.2.1.1.0", "1.2.1.1.1"])
            assert {data_set_of(second.blobs, place.ref) for place in places.values()} == {
                blob.content[0] for blob in blobs
            }
            keeper.close()

    def test_a_node_that_looks_for_long_is_there_and_keeps_its_duty(self, tmp_path, postgresql, monkeypatch):
        monkeypatch.setattr(housekeeping, "BEAT_SECONDS", 0.01)
        url = postgresql.url(postgresql.new_database())
        with archives.opened(tmp_path / "archive", database=url) as holdings:
            begun, beats, may_end = threading.Event(), threading.Semaphore(0), threading.Event()
            real = holdings.nodes.take

            def take(name, seconds):
                taken = real(name, seconds)
                if begun.is_set():
                    beats.release()
                return taken

            def recover():
                begun.set()
                assert may_end.wait(30)
                return 0

            monkeypatch.setattr(holdings.nodes, "take", take)
            monkeypatch.setattr(holdings.intake, "recover", recover)
            keeper = Housekeeper(holdings, lambda: "ARCHIVE", dict)
            keeper.start()
            try:
                assert begun.wait(30)
                for _ in range(3):
                    assert beats.acquire(timeout=20)
            finally:
                may_end.set()
                keeper.close()


class TestChecks:
    def test_fsck_and_scrub_look_at_many_objects_at_a_time(self, tmp_path, swift_store, bucket):
        with archives.opened(tmp_path / "archive", storage=bucket) as holdings:
            for number in range(0, 8, 2):  # four objects of two
                kept = holdings.intake.store([an_incoming(number + one, size=3000) for one in range(2)])
                assert all(isinstance(one, Kept) for one in kept)
            assert list(fsck(holdings)) == list(scrub(holdings)) == []
            ref = {place.uid[-1]: place.ref for page in holdings.places.pages() for place in page}
            blobs = holdings.blobs
            blobs.delete([ref["1"]])  # of two
            blobs.delete([ref["2"], ref["3"]])  # both
            data = bytearray(blobs.bucket.get(ref["4"].key, 0, 1 << 20))
            data[ref["4"].length - 1] ^= 1
            blobs.bucket.put(ref["4"].key, bytes(data))
            with holdings.database.write() as connection:
                connection.execute(delete(schema.instance).where(schema.instance.c.uid == "1.2.1.1.6"))
            found = [(one.problem, one.uid[-1]) for one in fsck(holdings) if one.problem is not Problem.COUNT]
            assert sorted(found) == [
                (Problem.MISSING, "1"), (Problem.MISSING, "2"), (Problem.MISSING, "3"), (Problem.UNKNOWN, "6")
            ]  # fmt: skip
            damaged = {one.uid[-1]: one.problem for one in scrub(holdings)}
            assert damaged == {"2": Problem.MISSING, "3": Problem.MISSING, "4": Problem.DAMAGED}


class TestBalancer:
    def test_a_balancer_that_is_named_says_for_whom_a_connection_is(self, tmp_path, caplog):
        settings = archives.make(tmp_path / "archive", proxies=("127.0.0.1",))
        with Archive(tmp_path / "archive", settings) as archive:
            host, port = archive.listener.address
            with cutting.cutting(f"http://{host}:{port}") as balancer:
                balancer.greeting = b"PROXY TCP4 192.0.2.7 192.0.2.8 50000 11112\r\n"
                peer = "ARCHIVE@{}".format(balancer.address.removeprefix("http://"))
                with dn.connect(peer, contexts=dn.contexts.storage([CT])) as association:
                    assert association.store(part10(1)).status.is_success
                balancer.greeting = b""
                with pytest.raises(DicomNetError):
                    dn.connect(peer, contexts=dn.contexts.storage([CT]), timeouts=dn.Timeouts(associate=10)).close()


class TestKills:
    """Nothing acknowledged is lost, and every node sees it, whatever dies."""

    @pytest.mark.long
    @pytest.mark.deadline(3600)
    def test_kills_of_nodes_and_restarts_of_the_database_lose_nothing(self, tmp_path, site):
        kills = int(os.environ.get("DICOMNET_NODE_KILLS", "20"))
        restarts = int(os.environ.get("DICOMNET_DATABASE_RESTARTS", "2"))
        outcome = nodes.run(tmp_path, site, kills, restarts, seed=int(time.time()), say=True)
        print(outcome)
        assert not outcome.problems, outcome
        assert not outcome.unseen, outcome
        assert (outcome.kills, outcome.restarts) == (kills, restarts)
        assert outcome.acknowledged > kills
        assert outcome.asked
        assert site.proxy.cuts
