"""The router: what arrives is durable and goes where the rules say, whatever its destinations are like."""

from __future__ import annotations

import time

import archives
import certificates
import peers
import pytest
import routers
from programs import command, peer
from routers import CT, address, data_set, everything_to, part10, routing, send, settled, states
from test_interop_services import orthanc

import dicomnet as dn
from dicomnet import uids
from dicomnet.archive.archive import Archive
from dicomnet.client import StoreScu
from dicomnet.files.instance_source import BytesSource, open_source
from dicomnet.net.tls import TLS
from dicomnet.repository.blob_source import data_set_of
from dicomnet.router.queue import State
from dicomnet.router.router import Router
from dicomnet.router.spool import MOST_RETURNS, Spool
from dicomnet.status import Status
from dicomnet.testing import Provider


def stored(provider):
    return {one.sop_instance_uid: one.data for one in provider.received if one.service == "C-STORE"}


def whys(router):
    return [one.why for one in router.spool.queue.items(most=1000)]


class TestForwarding:
    def test_what_arrives_is_forwarded_byte_for_byte(self, tmp_path):
        with Provider("ARCHIVE") as archive:
            with routing(tmp_path, everything_to(ARCHIVE=address(archive.peer))) as router:
                send(router, *(part10(number, size=4096) for number in range(20)))
                assert settled(router) == {"ARCHIVE": {"sent": 20}}
            assert stored(archive) == {f"1.2.1.1.{number}": data_set(number, size=4096) for number in range(20)}
            assert len(archive.requested) == 1, "one association carries what waits"
            assert archive.received[0].calling == "ROUTER"

    def test_every_class_is_taken_in_every_syntax_and_so_are_those_that_it_does_not_know(self, tmp_path):
        rules = everything_to(FOLDER=f'kind = "folder"\npath = "{tmp_path}/out"\ntemplate = "{{SOPInstanceUID}}.dcm"')
        sources = [one for one in peers.sample_files() if one.stat().st_size < 200_000][:30]
        with routing(tmp_path / "router", rules) as router:
            found = f"ROUTER@127.0.0.1:{router.listener.address[1]}"
            with StoreScu(found) as scu:
                results = list(scu.send(sources))
            taken = [one for one in results if one.ok]
            assert len(taken) > 20
            assert settled(router)["FOLDER"]["sent"] == len(taken)
        files = {path.stem: path for path in (tmp_path / "out").iterdir()}
        assert {one.sop_instance_uid for one in taken} == {name.partition("-")[0] for name in files}
        with open_source(files[taken[0].sop_instance_uid]) as copy, open_source(taken[0].source) as original:
            assert b"".join(map(bytes, copy.chunks(2))) == b"".join(map(bytes, original.chunks(2)))

    def test_a_folder_keeps_other_bytes_under_one_uid_beside_each_other(self, tmp_path):
        rules = everything_to(F=f'kind = "folder"\npath = "{tmp_path}/out"\ntemplate = "{{SOPInstanceUID}}.dcm"')
        with routing(tmp_path / "router", rules) as router:
            send(router, part10(1), part10(1), part10(1, StudyDate="20200101"))
            assert settled(router) == {"F": {"sent": 3}}
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.2.1.1.1-1.dcm", "1.2.1.1.1.dcm"]

    def test_two_rules_that_send_the_same_to_the_same_send_it_once(self, tmp_path):
        with Provider("ARCHIVE") as archive:
            rules = everything_to(A=address(archive.peer))
            rules += '[[rules]]\nname = "again"\nactions = [{ do = "forward", to = ["A"] }]\n'
            with routing(tmp_path, rules) as router:
                send(router, part10(1))
                assert settled(router) == {"A": {"sent": 1}}

    def test_a_large_instance_passes_through(self, tmp_path):
        with Provider("ARCHIVE") as archive, routing(tmp_path, everything_to(A=address(archive.peer))) as router:
            send(router, part10(1, size=5 << 20))
            assert settled(router) == {"A": {"sent": 1}}
            assert stored(archive)["1.2.1.1.1"] == data_set(1, size=5 << 20)

    def test_what_no_rule_wants_is_held_and_what_a_rule_drops_is_counted(self, tmp_path):
        rules = '[[rules]]\nname = "no two"\nwhen = { field = "InstanceNumber", equals = 2 }\nactions = [{do = "drop"}]'
        with routing(tmp_path, rules) as router:
            send(router, part10(1), part10(2))
            assert settled(router) == {"": {"held": 1, "dropped": 1}}
            assert sorted(whys(router)) == ["by its rule", "no rule fires"]

    def test_what_a_rule_holds_goes_when_a_person_releases_it(self, tmp_path):
        with Provider("ARCHIVE") as archive:
            rules = everything_to(A=address(archive.peer)).replace('"forward"', '"hold"')
            with routing(tmp_path, rules) as router:
                send(router, part10(1))
                assert settled(router) == {"A": {"held": 1}}
                assert router.spool.queue.release(study="1.2.1") == 1
                router.forwarder.wake()
                assert settled(router) == {"A": {"sent": 1}}

    def test_an_object_that_no_rule_can_read_is_kept_and_parked_with_its_reason(self, tmp_path):
        with routing(tmp_path, everything_to(A=address("A@127.0.0.1:1"))) as router:
            data = b"\x08\0\x18\0UI\xff\xff1.2 "
            send(router, BytesSource(data, archives.LITTLE, CT, "1.2.9", force=True))
            [one] = router.spool.queue.items()
            assert (one.state, one.destination) == (State.PARKED, "")
            assert "cannot be read" in one.why
            assert data_set_of(router.spool.blobs, one.ref) == data

    def test_urgent_overtakes_and_a_series_keeps_its_order(self, tmp_path):
        with Provider("ARCHIVE") as archive:
            rules = everything_to(A=address(archive.peer, "active = false"))
            urgent = rules.replace('to = ["A"]', 'to = ["A"], urgency = "urgent"').partition("[[rules]]")[2]
            rules += "[[rules]]" + urgent.replace('"all"', '"urgent"\npriority = 1\nthen = "stop"').replace(
                "actions", 'when = { field = "PatientID", equals = "P2" }\nactions'
            )
            with routing(tmp_path, rules) as router:
                send(router, *(part10(number) for number in range(5)), part10(7, study=2))
                (tmp_path / "rules.toml").write_text(rules.replace("active = false", "active = true"))
                router.look()
                assert settled(router) == {"A": {"sent": 6}}
            order = [one.sop_instance_uid for one in archive.received]
            assert order == ["1.2.2.1.7", *(f"1.2.1.1.{number}" for number in range(5))]


class TestRefusals:
    def test_a_refused_one_is_parked_alone_after_its_tries(self, tmp_path):
        with Provider("PICKY") as picky:
            picky.on_store(unknown_classes=True, replace=True)(
                lambda request: Status(0xC123) if request.sop_instance_uid.endswith(".3") else Status.SUCCESS
            )
            with routing(tmp_path, everything_to(A=address(picky.peer, "tries = 3"))) as router:
                send(router, *(part10(number) for number in range(6)))
                assert settled(router) == {"A": {"sent": 5, "parked": 1}}
                [parked] = router.spool.queue.items(states=[State.PARKED])
                assert (parked.uid, parked.attempts) == ("1.2.1.1.3", 3)
                assert "C123" in parked.why

    @pytest.mark.parametrize("code", [0x0111, 0xB000])
    def test_one_that_is_there_already_and_one_with_a_warning_are_delivered(self, tmp_path, code):
        with Provider("A", status=code) as there, routing(tmp_path, everything_to(A=address(there.peer))) as router:
            send(router, part10(1))
            assert settled(router) == {"A": {"sent": 1}}

    def test_out_of_resources_is_tried_until_there_are_some(self, tmp_path):
        with (
            Provider("FULL", status={"C-STORE": 0xA700}) as full,
            routing(tmp_path, everything_to(A=address(full.peer, "tries = 1"))) as router,
        ):
            send(router, part10(1))
            routers.wait_for(router, lambda: len(full.received) > 3)
            full.status = 0
            assert settled(router) == {"A": {"sent": 1}}

    def test_a_class_that_a_peer_refuses_is_learned(self, tmp_path):
        mr = uids.MR_IMAGE_STORAGE
        with (
            Provider("A", refuse=[mr]) as picky,
            routing(tmp_path, everything_to(A=address(picky.peer, "tries = 2"))) as router,
        ):
            instances = [
                archives.meta_header(mr, f"1.2.8.{number}", archives.LITTLE, "X")
                + data_set(1, SOPClassUID=mr, SOPInstanceUID=f"1.2.8.{number}")
                for number in range(8)
            ]
            send(router, *instances, classes=(mr,))
            send(router, part10(1))
            assert settled(router) == {"A": {"parked": 8, "sent": 1}}
            assert len(picky.requested) <= 4, "asked once or twice, not for each"

    def test_a_poison_object_is_parked_alone(self, tmp_path):
        with Provider("FRAIL") as frail:
            aborting = frail.intercept

            def intercept(association, event):
                command = getattr(getattr(event, "message", None), "command", None)
                if getattr(command, "affected_sop_instance_uid", "") == "1.2.1.1.2":
                    association.abort()
                    return True
                return aborting(association, event)

            frail.intercept = intercept
            with routing(tmp_path, everything_to(A=address(frail.peer, "tries = 2"))) as router:
                send(router, *(part10(number) for number in range(5)))
                assert settled(router) == {"A": {"sent": 4, "parked": 1}}
                [parked] = router.spool.queue.items(states=[State.PARKED])
                assert parked.uid == "1.2.1.1.2"

    def test_a_peer_that_rejects_for_now_gets_it_later(self, tmp_path):
        with Provider("A", reject=(2, 3, 1)) as busy, routing(tmp_path, everything_to(A=address(busy.peer))) as router:
            send(router, part10(1))
            routers.wait_for(router, lambda: router.forwarder.health["A"].failures > 1)
            busy.reject = None
            assert settled(router) == {"A": {"sent": 1}}
            assert router.spool.queue.items()[0].attempts == 1, "that it was not there costs no try"


class TestRestart:
    def test_what_waits_for_one_that_is_dead_goes_after_a_restart(self, tmp_path):
        port = peers.free_port()
        rules = everything_to(A=address(f"A@127.0.0.1:{port}"))
        with routing(tmp_path, rules) as router:
            send(router, *(part10(number) for number in range(3)))
            routers.wait_for(router, lambda: router.forwarder.health["A"].failures > 0)
        with Spool(tmp_path) as spool:
            assert states(spool) == {"A": {"waiting": 3}}
        with Provider("A", port=port) as late, routing(tmp_path, rules) as router:
            assert settled(router) == {"A": {"sent": 3}}
            assert len(late.received) == 3

    def test_rules_change_without_a_restart_and_what_was_decided_keeps_its_own(self, tmp_path):
        with Provider("OLD") as old, Provider("NEW") as new:
            rules = everything_to(OLD=address(old.peer, "active = false"))
            with routing(tmp_path, rules) as router:
                send(router, part10(1))
                both = everything_to(NEW=address(new.peer)) + f"[destinations.OLD]\n{address(old.peer)}\n"
                (tmp_path / "rules.toml").write_text(both)
                router.look()
                send(router, part10(2))
                assert settled(router) == {"OLD": {"sent": 1}, "NEW": {"sent": 1}}
                assert [one.plan for one in router.spool.queue.items()] == [1, 2]

    def test_a_file_with_a_mistake_changes_nothing(self, tmp_path):
        with Provider("A") as archive, routing(tmp_path, everything_to(A=address(archive.peer))) as router:
            (tmp_path / "rules.toml").write_text('[[rules]]\nname = "x"\nwhen = { field = "PatentID", exists = true }')
            router.look()
            assert "Is it PatientID?" in router.spool.plans.problem
            send(router, part10(1))
            assert settled(router) == {"A": {"sent": 1}}

    def test_removing_a_destination_parks_its_queue(self, tmp_path):
        with routing(tmp_path, everything_to(A=address("A@127.0.0.1:1"))) as router:
            send(router, part10(1))
            (tmp_path / "rules.toml").write_text("")
            router.look()
            assert settled(router) == {"A": {"parked": 1}}
            assert whys(router) == ["the destination A was removed"]


def test_a_directory_is_served_by_one_process(tmp_path):
    with routing(tmp_path, "") as router:
        with pytest.raises(dn.errors.InvalidArgument, match="another server runs in"):
            Router(tmp_path)
        send(router, part10(1))


class TestLoops:
    """A line one forgets: an object that comes back, oneself as destination, two routers pointing at each other."""

    def test_two_routers_that_point_at_each_other(self, tmp_path):
        ports = [peers.free_port(), peers.free_port()]
        one = everything_to(TWO=address(f"TWO@127.0.0.1:{ports[1]}"))
        two = everything_to(ONE=address(f"ONE@127.0.0.1:{ports[0]}"))
        with (
            routing(tmp_path / "1", one, ae_title="ONE", port=ports[0]) as first,
            routing(tmp_path / "2", two, ae_title="TWO", port=ports[1]) as second,
        ):
            send(first, part10(1))
            assert settled(first) == {"TWO": {"sent": 1}}
            assert settled(second) == {"ONE": {"dropped": 1}}
            assert whys(second) == ["it came from there: a loop"]

    def test_an_object_that_comes_back_again_and_again(self, tmp_path):
        port = peers.free_port()
        rules = everything_to(SELF=address(f"ROUTER@127.0.0.1:{port}", 'calling = "OTHER"'))
        with routing(tmp_path, rules, port=port) as router:
            send(router, part10(1))
            assert settled(router) == {"SELF": {"sent": MOST_RETURNS, "dropped": 1}}

    def test_oneself_as_destination(self, tmp_path):
        port = peers.free_port()
        with routing(tmp_path, everything_to(SELF=address(f"ROUTER@127.0.0.1:{port}")), port=port) as router:
            send(router, part10(1))
            assert settled(router) == {"SELF": {"sent": 1, "dropped": 1}}


@pytest.mark.long
class TestPeers:
    """Goal 7: DCMTK, Orthanc, pynetdicom and our archive as destinations."""

    INSTANCES = tuple(part10(number, size=4096) for number in range(5))

    def test_storescp(self, tmp_path):
        out, port = tmp_path / "out", peers.free_port()
        out.mkdir()
        rules = everything_to(A=address(f"STORESCP@127.0.0.1:{port}"))
        program = [peers.peer_program("storescp"), "+B", "+xa", "-od", out, port]
        with peer(program, port), routing(tmp_path / "r", rules) as router:
            send(router, *self.INSTANCES)
            assert settled(router) == {"A": {"sent": 5}}
        assert {path.read_bytes()[-4096:] for path in out.iterdir()} == {one[-4096:] for one in self.INSTANCES}

    def test_orthanc(self, tmp_path):
        with orthanc(tmp_path) as server, routing(tmp_path / "r", everything_to(A=address(server.peer))) as router:
            send(router, *self.INSTANCES)
            assert settled(router) == {"A": {"sent": 5}}
            assert {data[-4096:] for data in server.held().values()} == {one[-4096:] for one in self.INSTANCES}

    def test_pynetdicom(self, tmp_path):
        pynetdicom = peers.peer_module("pynetdicom")
        taken = []
        entity = pynetdicom.AE("PYNET")
        entity.add_supported_context(CT)
        handlers = [(pynetdicom.evt.EVT_C_STORE, lambda event: taken.append(event.dataset.SOPInstanceUID) or 0)]
        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        try:
            found = f"PYNET@127.0.0.1:{server.socket.getsockname()[1]}"
            with routing(tmp_path, everything_to(A=address(found))) as router:
                send(router, *self.INSTANCES)
                assert settled(router) == {"A": {"sent": 5}}
        finally:
            server.shutdown()
        assert taken == [f"1.2.1.1.{number}" for number in range(5)]

    def test_our_archive_with_commitment_before_an_item_leaves(self, tmp_path):
        archives.make(tmp_path / "archive")
        with Archive(tmp_path / "archive") as archive:
            found = f"ARCHIVE@127.0.0.1:{archive.listener.address[1]}"
            with routing(tmp_path / "r", everything_to(A=address(found, "commit = true"))) as router:
                send(router, *self.INSTANCES)
                assert settled(router) == {"A": {"sent": 5}}
            assert len(archive.holdings.places.of([f"1.2.1.1.{number}" for number in range(5)])) == 5

    def test_tls_with_a_title_of_its_own(self, tmp_path):
        authority = certificates.Authority(tmp_path)
        server, client = authority.issue("localhost"), authority.issue("router")
        tls = TLS(ca=authority.file, cert=server.cert, key=server.key)
        with Provider("A", tls=tls) as secure:
            more = (f'tls_ca = "{authority.file}"', f'tls_cert = "{client.cert}"', f'tls_key = "{client.key}"')
            found = f"dicoms://A@localhost:{secure.address[1]}"
            with routing(tmp_path / "r", everything_to(A=address(found, *more, 'calling = "SAFE"'))) as router:
                send(router, *self.INSTANCES)
                assert settled(router) == {"A": {"sent": 5}}
            assert {one.calling for one in secure.received} == {"SAFE"}


def test_a_commitment_that_is_refused_sends_again(tmp_path):
    with Provider("A", status={"N-ACTION": 0x0110}) as archive:
        rules = everything_to(A=address(archive.peer, "commit = true", "tries = 2"))
        with routing(tmp_path, rules) as router:
            send(router, part10(1))
            assert settled(router) == {"A": {"parked": 1}}
            assert [one.service for one in archive.received].count("C-STORE") == 2


@pytest.mark.parametrize(("status", "state"), [(0, "sent"), (0x0110, "parked")])
def test_what_a_destination_has_already_is_committed_too(tmp_path, status, state):
    """It answered 0111 since an earlier try arrived; that it keeps the instance is not said with that."""
    with Provider("A", status={"C-STORE": 0x0111, "N-ACTION": status}) as archive:
        rules = everything_to(A=address(archive.peer, "commit = true", "tries = 2"))
        with routing(tmp_path, rules) as router:
            send(router, part10(1))
            assert settled(router) == {"A": {state: 1}}
            [item] = router.spool.queue.items()
        services = [one.service for one in archive.received]
        assert services == ["C-STORE", "N-ACTION"] * (1 if state == "sent" else 2)
        assert ("no commitment" in item.why) == (state == "parked")


def test_the_callers_title_is_passed_on_where_that_is_wanted(tmp_path):
    with Provider("A") as archive:
        rules = everything_to(A=address(archive.peer, "pass_calling = true"))
        with routing(tmp_path, rules) as router:
            send(router, part10(1), calling="CT1")
            send(router, part10(2), calling="CT2")
            settled(router)
        assert [one.calling for one in archive.received] == ["CT1", "CT2"]


def test_a_dead_a_refusing_and_a_stalling_destination_hold_up_no_other(tmp_path):
    """A line one forgets: the others keep their rate, and senders too. `benchmarks` has the figures."""
    with Provider("GOOD") as good, Provider("NO", status=0xA900) as no, Provider("STALL", stall="response") as stalls:
        rules = everything_to(
            GOOD=address(good.peer), DEAD=address("DEAD@127.0.0.1:1"), NO=address(no.peer), STALL=address(stalls.peer)
        )
        with routing(tmp_path, rules) as router:
            send(router, *(part10(number) for number in range(50)))
            routers.wait_for(router, lambda: states(router.spool)["GOOD"].get("sent") == 50)
            stalls.stop()


def test_a_router_that_stops_waits_for_a_stalled_destination_only_so_long(tmp_path):
    with Provider("STALL", stall="response") as stalls:
        with routing(tmp_path, everything_to(A=address(stalls.peer))) as router:
            router.forwarder.grace = 0.2
            send(router, part10(1))
            stalls.wait_for(1)
            begin = time.monotonic()
        assert time.monotonic() - begin < 20
    with Spool(tmp_path) as spool:
        [item] = spool.queue.items()
        assert (item.state, item.attempts) == (State.WAITING, 0), "it is not its fault"


def test_run_prints_where_it_listens_and_sums_up(tmp_path):
    import signal
    import subprocess

    directory = tmp_path / "router"
    program = command("router", "run", directory, "--port", "0", "--aet", "GATE")
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    assert line.startswith("listening on 127.0.0.1:")
    assert process.stdout.readline().startswith("its AE title is GATE; ")
    with dn.connect(f"GATE@127.0.0.1:{line.rpartition(':')[2].strip()}", contexts=dn.contexts.storage([CT])) as one:
        assert one.store(part10(1)).status.is_success
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[0] == "1 instance received, 0 refused, 0 sent\n"
    assert process.returncode == 0
    assert (directory / "rules.toml").exists()
