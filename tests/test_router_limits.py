"""A full spool, a network that flaps, a queue of many rows: what a router does at its limits (lines one forgets)."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import archives
import peers
import pytest
import routers
from routers import CT, address, everything_to, made, part10, routing, send, settled
from sqlalchemy import inspect

import dicomnet as dn
from dicomnet.config import OPERATIONS_WINDOW
from dicomnet.repository.blob_source import data_set_of
from dicomnet.repository.outbox import RetryClass
from dicomnet.router.forwarder import Pace
from dicomnet.router.queue import LEASE, State, slot_of
from dicomnet.router.spool import Spool
from dicomnet.status import Status
from dicomnet.testing import Provider

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import router_flap
import router_rows


class TestFullSpool:
    """Spool at 95 %: A700 to senders, never silence; and what is there goes on its way."""

    def test_senders_are_told_and_sending_makes_room(self, tmp_path):
        with Provider("A") as archive, routing(tmp_path, everything_to(A=address(archive.peer))) as router:
            share = 0.5
            disk = router.spool.disk
            disk._share, disk._until = (lambda _: share), 0.0
            send(router, part10(1))
            share, disk._until = 0.96, 0.0
            peer = f"ROUTER@127.0.0.1:{router.listener.address[1]}"
            with dn.connect(peer, contexts=dn.contexts.storage([CT])) as association:
                assert association.store(part10(2)).status == Status.OUT_OF_RESOURCES
                assert settled(router) == {"A": {"sent": 1}}, "what was taken is sent"
                share, disk._until = 0.90, 0.0
                assert association.store(part10(2)).status.is_success
            share, disk._until = 0.99, 0.0
            with pytest.raises(dn.errors.AssociationRejected) as caught:
                dn.connect(peer, contexts=dn.contexts.storage([CT]))
            assert (caught.value.result, caught.value.source, caught.value.reason) == (2, 3, 1)

    def test_a_spool_that_cannot_be_written_is_a700_and_nothing_is_half_taken(self, tmp_path, monkeypatch):
        with routing(tmp_path, everything_to(A=address("A@127.0.0.1:1"))) as router:

            def full(group):
                raise OSError(28, "No space left on device")

            with monkeypatch.context() as patched:
                patched.setattr(router.spool.blobs, "put", full)
                peer = f"ROUTER@127.0.0.1:{router.listener.address[1]}"
                with dn.connect(peer, contexts=dn.contexts.storage([CT])) as association:
                    assert association.store(part10(1)).status == Status.OUT_OF_RESOURCES
            assert routers.states(router.spool) == {}

    def test_what_is_sent_leaves_the_spool_after_a_while_and_the_ledger_stays(self, tmp_path):
        mine = 'when = { field = "PatientID", equals = "P1" }\n'
        with (
            Provider("A") as archive,
            routing(tmp_path, everything_to(A=address(archive.peer)) + mine, keep=0.001) as router,
        ):
            send(router, part10(1), part10(2), part10(1, study=2))
            settled(router)
            assert router.spool.tidy() == 2
            assert router.spool.tidy() == 0
            assert [one.state for one in router.spool.queue.items()] == [State.SENT, State.SENT, State.HELD]


class TestCompaction:
    """What is sent gives its room back, whatever is still on its way beside it."""

    @pytest.fixture
    def spool(self, tmp_path):
        settings = made(tmp_path, everything_to(A=address("A@127.0.0.1:1")), keep=0.001)
        with Spool(tmp_path, settings, serves=True, segment_bytes=64 << 10) as spool:
            spool.plans.refresh()
            for number in range(10):  # some 20 KiB each
                spool.store([archives.an_incoming(number, size=20 << 10)])
            yield spool

    def segments(self, spool):
        return sorted(path.name for path in (spool.blobs.root / "segments").glob("*.seg"))

    def of_the_first(self, spool):
        """The deliveries whose instances are in the first segment, under way."""
        items = spool.queue.lease("A")
        mine = [one for one in items if one.ref.key == items[0].ref.key]
        spool.queue.give_back(items[len(mine) :])
        return mine

    def finished(self, spool, items):
        spool.queue.finish([(one, State.SENT, "") for one in items])
        spool.tidy()

    def test_segments_of_which_all_is_sent_are_deleted(self, spool):
        before = self.segments(spool)
        self.finished(spool, spool.queue.lease("A"))
        assert spool.compaction.run() == len(before) - 1, "the last one is written to"
        assert len(self.segments(spool)) == 1

    def test_what_is_still_needed_moves_and_can_be_read(self, spool):
        first = self.segments(spool)[0]
        *over, last = self.of_the_first(spool)
        self.finished(spool, over)
        spool.queue.give_back([last])
        assert spool.compaction.run() == 1
        assert first not in self.segments(spool)
        moved = spool.queue.find([last.id])[0]
        assert moved.ref != last.ref
        assert data_set_of(spool.blobs, moved.ref) == routers.data_set(len(over), size=20 << 10)

    def test_a_segment_stays_while_one_is_under_way_that_knows_it(self, spool):
        first = self.segments(spool)[0]
        *over, last = self.of_the_first(spool)
        self.finished(spool, over)
        assert spool.compaction.run() == 0
        assert data_set_of(spool.blobs, last.ref) == routers.data_set(len(over), size=20 << 10)
        self.finished(spool, [last])
        assert spool.compaction.run() == 1
        assert first not in self.segments(spool)


def sent_by(router):
    return routers.states(router.spool)["A"].get("sent", 0)


class TestFlapping:
    """The network flaps: no busy loop, and what can go goes."""

    def test_a_destination_that_is_away_is_asked_after_longer_and_longer_pauses(self, tmp_path):
        with Provider("A", reject=(2, 3, 1)) as away:
            pace = Pace(unreachable=RetryClass(first=0.2, factor=2, most=60, attempts=1 << 30))
            begin = time.monotonic()
            with routing(tmp_path, everything_to(A=address(away.peer)), pace=pace) as router:
                send(router, *(part10(number) for number in range(100)))
                routers.wait_for(router, lambda: router.forwarder.health["A"].failures >= 3)
            seconds, failures = time.monotonic() - begin, router.forwarder.health["A"].failures
            assert seconds > sum(0.2 * 2**number for number in range(failures - 1))
            # Each attempt is two associations at most: the second one of `Retry`, half a second later.
            assert len(away.requested) <= 2 * (failures + 1)

    def test_what_goes_while_it_is_there_is_sent_once_and_all_arrives(self, tmp_path):
        port = peers.free_port()
        taken = []
        with routing(tmp_path, everything_to(A=address(f"A@127.0.0.1:{port}"))) as router:
            for wave in range(3):
                send(router, *(part10(number) for number in range(20 * wave, 20 * wave + 20)))
                with Provider("A", port=port) as there:
                    before = len(taken)
                    routers.wait_for(router, lambda: sent_by(router) > before)  # noqa: B023 called here
                taken += [one.sop_instance_uid for one in there.received]
            with Provider("A", port=port) as back:
                assert settled(router) == {"A": {"sent": 60}}
            taken += [one.sop_instance_uid for one in back.received]
        assert set(taken) == {f"1.2.1.1.{number}" for number in range(60)}
        assert len(taken) < 60 + 20, "few are sent twice"


@pytest.mark.long
@pytest.mark.deadline(300)
def test_a_network_that_flaps_costs_no_processor_and_all_arrives(tmp_path):
    """As `tools/router_flap.py` does for three minutes."""
    found = router_flap.flap(tmp_path, 16.0, 2.0)
    assert found.missing == 0, found
    assert found.cpu <= router_flap.MOST_CPU, found
    assert found.twice < 10 * found.connections, "what is sent again is what was on its way"


class TestRefusing:
    """A destination that refuses all is offered a few at a time: it takes nobody's processor and network."""

    def test_it_is_left_alone_after_a_few(self, tmp_path):
        pace = Pace(refusing=RetryClass(first=3600, factor=1, most=3600, attempts=1 << 30))
        with Provider("A", status=0xA900) as ill, Provider("B") as well:
            rules = everything_to(A=address(ill.peer), B=address(well.peer))
            with routing(tmp_path, rules, pace=pace) as router:
                send(router, *(part10(number) for number in range(100)))
                routers.wait_for(router, lambda: routers.states(router.spool)["B"] == {"sent": 100})
                routers.wait_for(router, lambda: router.forwarder.health["A"].failures == 1)
                assert router.forwarder.health["A"].why == "it refuses one instance after the other"
                assert routers.states(router.spool)["A"] == {"waiting": 100}
            assert len(ill.received) < 8 + 2 * OPERATIONS_WINDOW

    def test_all_arrives_once_it_takes_them(self, tmp_path):
        pace = replace(routers.QUICK, refusing=RetryClass(first=0.05, factor=1, most=0.05, attempts=1 << 30))
        ill = Provider("A", status=0xA900)
        with ill, routing(tmp_path, everything_to(A=address(ill.peer, "tries = 100")), pace=pace) as router:
            send(router, *(part10(number) for number in range(50)))
            routers.wait_for(router, lambda: router.forwarder.health["A"].failures >= 2)
            ill.status = 0
            assert settled(router) == {"A": {"sent": 50}}
            assert router.forwarder.health["A"].why == ""


class TestLeases:
    def spool(self, directory, clock):
        made(directory, everything_to(A=address("A@127.0.0.1:1")))
        spool = Spool(directory, serves=True, clock=clock)
        spool.plans.refresh()
        return spool

    def test_one_that_runs_out_goes_to_another_worker_and_the_first_changes_nothing_more(self, tmp_path):
        now = [1000.0]
        with self.spool(tmp_path, lambda: now[0]) as first, Spool(tmp_path, clock=lambda: now[0]) as second:
            first.store([archives.an_incoming(1)])
            [item] = first.queue.lease("A")
            assert second.queue.lease("A") == []
            now[0] += LEASE + 1
            [again] = second.queue.lease("A")
            assert (again.id, again.attempts) == (item.id, 2)
            first.queue.finish([(item, State.SENT, "")])
            first.queue.park(item, "too late")
            assert routers.states(first) == {"A": {"leased": 1}}
            second.queue.finish([(again, State.SENT, "")])
            assert routers.states(first) == {"A": {"sent": 1}}

    def test_a_heartbeat_keeps_it(self, tmp_path):
        now = [1000.0]
        with self.spool(tmp_path, lambda: now[0]) as first, Spool(tmp_path, clock=lambda: now[0]) as second:
            first.store([archives.an_incoming(1)])
            items = first.queue.lease("A")
            now[0] += LEASE - 1
            first.queue.extend(items)
            now[0] += LEASE - 1
            assert second.queue.lease("A") == []

    def test_two_workers_never_have_the_same_series(self, tmp_path):
        with self.spool(tmp_path, time.time) as spool:
            spool.store([archives.an_incoming(number, study=study) for study in range(8) for number in range(3)])
            shares = [spool.queue.lease("A", slot=slot, slots=2) for slot in range(2)]
            assert sum(map(len, shares)) == 24
            for slot, share in enumerate(shares):
                assert {slot_of(one.series) % 2 for one in share} <= {slot}

    def test_two_processes_share_a_queue_and_take_nothing_twice(self, tmp_path):
        with self.spool(tmp_path, time.time) as first, Spool(tmp_path) as second:
            first.store([archives.an_incoming(number) for number in range(100)])
            taken = []
            lock = threading.Lock()

            def work(spool):
                while found := spool.queue.lease("A", most=7):
                    with lock:
                        taken.extend(one.id for one in found)

            workers = [threading.Thread(target=work, args=(one,)) for one in (first, second)]
            for one in workers:
                one.start()
            for one in workers:
                one.join()
            assert sorted(taken) == sorted(set(taken))
            assert len(taken) == 100


class TestLeasesFromAServer:
    """PostgreSQL leases in one statement: the same comes of it as with SQLite."""

    @pytest.fixture
    def spools(self, tmp_path, postgresql):
        url = postgresql.url(postgresql.new_database())
        settings = made(tmp_path, everything_to(A=address("A@127.0.0.1:1")), database=url)
        with Spool(tmp_path, settings, serves=True) as first, Spool(tmp_path, settings) as second:
            first.plans.refresh()
            yield first, second

    def test_the_most_urgent_first_then_what_came_first_and_no_more_than_asked_for(self, spools):
        first, second = spools
        ids = {}
        for urgency, number in (("low", 1), ("normal", 2), ("urgent", 3), ("normal", 4), ("urgent", 5)):
            rules = everything_to(A=address("A@127.0.0.1:1")).replace('"forward"', f'"forward", urgency = "{urgency}"')
            first.plans.path.write_text(rules)
            first.plans.refresh()
            ids[number] = first.store([archives.an_incoming(number)])[0].id
        taken = second.queue.lease("A", most=3)
        assert [one.received_id for one in taken] == [ids[3], ids[5], ids[2]]
        assert {(one.state, one.attempts, one.uid != "", one.ref.key != "") for one in taken} == {
            (State.LEASED, 1, True, True)
        }
        assert [one.received_id for one in first.queue.lease("A")] == [ids[4], ids[1]]
        assert first.queue.lease("A") == []
        second.queue.give_back(taken[:1])
        second.queue.finish([(one, State.SENT, "") for one in taken[1:]])
        assert routers.states(first) == {"A": {"leased": 2, "waiting": 1, "sent": 2}}

    def test_two_at_once_take_nothing_twice_and_each_its_share(self, spools):
        first, _ = spools
        first.store([archives.an_incoming(number, study=study) for study in range(1, 9) for number in range(20)])
        taken = []
        lock = threading.Lock()

        def work(spool, slot, slots):
            while found := spool.queue.lease("A", most=7, slot=slot, slots=slots):
                assert all(slot_of(one.series) % slots == slot for one in found)
                with lock:
                    taken.extend(one.id for one in found)

        shares = [(spool, slot, 2) for spool in spools for slot in range(2)]
        workers = [threading.Thread(target=work, args=one) for one in shares]
        for one in workers:
            one.start()
        for one in workers:
            one.join()
        assert len(taken) == len(set(taken)) == 160


class TestTablesOfVersionOne:
    """Queues whose index had every delivery: they are the same with the one of what waits."""

    @pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
    def test_they_are_brought_up_to_date_and_nothing_of_them_is_lost(self, tmp_path, kind, request):
        cluster = request.getfixturevalue("postgresql") if kind == "postgresql" else None
        database = cluster.url(cluster.new_database()) if cluster is not None else ""
        settings = made(tmp_path, everything_to(A=address("A@127.0.0.1:1")), database=database)
        with Spool(tmp_path, settings, serves=True) as spool:
            spool.plans.refresh()
            [stored] = spool.store([archives.an_incoming(1)])
            with spool.database.write() as connection:
                for statement in (
                    "DROP INDEX ix_router_delivery_waiting",
                    "ALTER TABLE router_received DROP COLUMN message",
                    "CREATE INDEX ix_router_delivery_queue ON router_delivery (destination, state, priority, due, id)",
                    "CREATE INDEX ix_router_delivery_ended ON router_delivery (ended)",
                    "UPDATE router_version SET version = 1",
                ):
                    connection.exec_driver_sql(statement)
        for _ in range(2):
            with Spool(tmp_path, settings, serves=True) as spool, spool.database.read() as connection:
                names = {one["name"] for one in inspect(connection).get_indexes("router_delivery")}
                assert "ix_router_delivery_waiting" in names
                assert not names & {"ix_router_delivery_queue", "ix_router_delivery_ended"}
        with Spool(tmp_path, settings, serves=True) as spool:
            assert [one.received_id for one in spool.queue.lease("A")] == [stored.id]


@pytest.mark.long
@pytest.mark.measures
@pytest.mark.deadline(300)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_queue_of_many_rows(tmp_path, kind, request):
    """As `tools/router_rows.py` does for a million; with a machine's noise allowed for."""
    database = ""
    if kind == "postgresql":
        cluster = request.getfixturevalue("postgresql")
        database = cluster.url(cluster.new_database())
    found = router_rows.measure(tmp_path, 64 * 500, database)
    assert found.enqueue > router_rows.GOALS["enqueue"] / 4, found
    assert found.lease < router_rows.GOALS["lease"] * 20, found
    assert found.page < router_rows.GOALS["page"] * 4, found
    assert found.restart < router_rows.GOALS["restart"] * 4, found
