"""Cut-through: an instance goes on while it arrives, its sender gets the destination's status, and nothing is lost."""

from __future__ import annotations

import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import archives
import certificates
import peers
import pytest
import routers
from programs import peer, run_here
from rig import until
from routers import CT, address, data_set, part10, ready, routing, send, settled, states

import dicomnet as dn
from dicomnet.errors import InputFileError
from dicomnet.files.instance_source import open_source
from dicomnet.net.tls import TLS
from dicomnet.protocol.events import RequestReceived
from dicomnet.protocol.negotiation import AcceptancePolicy, NegotiationOptions
from dicomnet.router.cut_through import REST
from dicomnet.router.facts import Facts
from dicomnet.router.plan import Plan, PlanInvalid
from dicomnet.router.planning import explain_passing
from dicomnet.router.queue import New, State
from dicomnet.router.transit import AHEAD, LEAST, Transit
from dicomnet.status import Status
from dicomnet.sync import Listener
from dicomnet.testing import Provider

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import router_flap
import router_soak

PATIENCE = 20.0
SEVERAL = NegotiationOptions(operations_window=(16, 1))
FORWARD = 'actions = [{ do = "forward", to = ["A"], mode = "cut-through", patience = %s }]'


def through(there: str, *more: str, patience: float = PATIENCE) -> str:
    """Rules by which everything goes on to A while it arrives."""
    return f'[destinations.A]\n{address(there, *more)}\n[[rules]]\nname = "all"\n{FORWARD % patience}\n'


@contextmanager
def passing(directory, there, *more, patience=PATIENCE, **settings):
    """A router whose queue for A has been looked at, and found to be empty."""
    with routing(directory, through(there, *more, patience=patience), **settings) as router:
        ready(router)
        yield router


@contextmanager
def calling(router, **options):
    called = f"ROUTER@127.0.0.1:{router.listener.address[1]}"
    with dn.connect(called, calling="TESTER", contexts=dn.contexts.storage([CT]), **options) as association:
        yield association


def ledger(router):
    router.storage.ledger.settle()
    return {one.uid: (str(one.state), one.ref.key != "") for one in router.spool.queue.items(most=10_000)}


def silent_to_what_is_passed_on(there, router):
    """Have a provider not answer what comes while it arrives at the router; what the queue sends it answers."""
    misbehaves = there.intercept

    def intercept(exchange, event):
        is_request = isinstance(event, RequestReceived)
        return misbehaves(exchange, event) or (is_request and bool(router.cuts._on_their_way()))

    there.intercept = intercept


def aborts_the_first(there):
    """Have a provider abort at the first request, and at that one alone."""
    misbehaves = there.intercept

    def intercept(exchange, event):
        if misbehaves(exchange, event):
            return True
        is_first = isinstance(event, RequestReceived) and len(there.received) == 1
        if is_first:
            exchange.abort()
        return is_first

    there.intercept = intercept


class Halves:
    """An instance that is sent in two halves: the second one when ``between`` lets it go."""

    def __init__(self, number, between, size=800_000):
        self.data = data_set(number, size=size)
        self.name, self.between = "halves", between
        with open_source(part10(number, size=size)) as whole:
            self.sop_class_uid, self.sop_instance_uid = whole.sop_class_uid, whole.sop_instance_uid
            self.transfer_syntax_uid, self.size = whole.transfer_syntax_uid, whole.size

    def chunks(self, unit):
        half = max(self.size // 2 // unit, 1) * unit
        yield self.data[:half]
        self.between()
        yield self.data[half:]

    def close(self):
        pass


class Watching(Listener):
    """A destination that tells when the first bytes of an instance are there, and may not read on until it is let."""

    def __init__(self, **options):
        super().__init__("A", port=options.pop("port", 0), drain=1.0, **options)
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.whole: list[bytes] = []
        self.left = 0
        self.on_store(unknown_classes=True, sink=self.sink)(self._store)

    def sink(self, arrival):
        return Watched(self)

    @property
    def peer(self):
        return f"A@127.0.0.1:{self.address[1]}"

    def _store(self, request):
        self.whole.append(bytes(request.sink.data))
        return Status.SUCCESS


class Windowed(Watching):
    """One that answers the first instance when the second is there, or those of `answers`."""

    def __init__(self):
        super().__init__(acceptance=AcceptancePolicy(operations_window=(16, 1)))
        self.second, self.answers = threading.Event(), threading.Event()
        self.answers.set()
        self._arrived = 0

    def sink(self, arrival):
        self._arrived += 1
        if self._arrived == 2:
            self.second.set()
        return super().sink(arrival)

    def _store(self, request):
        assert self.second.wait(PATIENCE), "the second one was not sent before the answer"
        assert self.answers.wait(PATIENCE)
        return super()._store(request)


class Watched:
    def __init__(self, owner):
        self._owner, self.data, self._is_whole = owner, bytearray(), False

    @property
    def size(self):
        return len(self.data)

    def write(self, views):
        for view in views:
            self.data += view
        self._owner.begun.set()
        assert self._owner.go_on.wait(PATIENCE)

    def close(self):
        self._is_whole = True

    def discard(self):
        self._owner.left += not self._is_whole


class TestWhileItArrives:
    def test_the_destination_has_the_beginning_before_the_sender_has_sent_the_end(self, tmp_path):
        with Watching() as there, passing(tmp_path, there.peer) as router, calling(router) as association:
            seen = []
            half = Halves(1, lambda: seen.append(there.begun.wait(PATIENCE)))
            assert association.store(half).status == Status.SUCCESS
            assert seen == [True]
            assert there.whole == [half.data]
            assert ledger(router) == {half.sop_instance_uid: ("sent", False)}, "the ledger has it, the spool does not"

    @pytest.mark.parametrize("size", [0, 2000, 70_000, 1_200_000, 9_000_000])
    def test_every_size_arrives_byte_for_byte_over_one_association(self, tmp_path, size):
        with Provider("A") as there, passing(tmp_path, there.peer) as router:
            send(router, *(part10(number, size=size) for number in range(3)))
            assert [one.data for one in there.received] == [data_set(number, size=size) for number in range(3)]
            assert len(there.requested) == 1
            assert set(ledger(router).values()) == {("sent", False)}
            assert not list((tmp_path / "spool" / "incoming").iterdir())

    def test_the_next_is_sent_while_the_destination_makes_the_one_before_durable(self, tmp_path):
        with Windowed() as there, passing(tmp_path, there.peer) as router:
            there.go_on.clear()  # the first is not read to its end before the second is whole at the router
            large = Halves(1, lambda: None, size=30 << 20)
            with ThreadPoolExecutor() as pool, calling(router, extras=SEVERAL) as association:
                stored = pool.submit(list, association.store_many([large, part10(2), part10(3)]))
                assert there.begun.wait(PATIENCE)
                waiting = router.cuts._ways["A"].passages[0]
                end = time.monotonic() + PATIENCE
                while not (len(waiting.on_their_way) == 3 and waiting.on_their_way[2].is_whole):
                    assert time.monotonic() < end
                    threading.Event().wait(0.01)
                there.go_on.set()
                assert [one.status for one in stored.result(PATIENCE)] == [Status.SUCCESS] * 3
            assert there.whole == [large.data, data_set(2), data_set(3)]
            assert set(ledger(router).values()) == {("sent", False)}

    def test_all_that_are_under_way_go_by_the_queue_where_they_are_not_answered_in_time(self, tmp_path):
        with Windowed() as there, passing(tmp_path, there.peer, patience=1) as router:
            there.answers.clear()
            with calling(router, extras=SEVERAL) as association:
                results = association.store_many([part10(1), part10(2), part10(3)])
                assert [one.status for one in results] == [Status.SUCCESS] * 3
            there.answers.set()
            assert settled(router, 60) == {"A": {"sent": 3}}
            assert all(kept for _, kept in ledger(router).values()), "what was not answered is in the spool"

    def test_a_destination_that_reads_slowly_holds_up_no_memory(self, tmp_path):
        with Watching() as there, passing(tmp_path, there.peer) as router, calling(router) as association:
            there.go_on.clear()
            held = []

            def sent():  # half of it is far more than what all sockets hold
                passage = router.cuts._ways["A"].passages[0]
                until(lambda: passage.current is not None)  # its thread may come later than all that
                held.append(passage.current._held)
                there.go_on.set()

            half = Halves(1, sent, size=60 << 20)
            assert association.store(half).status == Status.SUCCESS
            assert held[0] <= AHEAD
            assert there.whole == [half.data]

    def test_several_senders_and_all_arrives(self, tmp_path):
        with Provider("A") as there, passing(tmp_path, there.peer, "width = 2") as router:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda study: send(router, *(part10(n, study=study, size=9000) for n in range(20))),
                              range(1, 5)))  # fmt: skip
            assert settled(router) == {"A": {"sent": 80}}
            assert len(there.received) == 80
            assert len(there.requested) <= 2 + 2, "as many associations as it is wide, beside those of its queue"

    def test_it_calls_by_the_title_of_the_sender_where_that_is_wanted(self, tmp_path):
        with Provider("A") as there, passing(tmp_path, there.peer, "pass_calling = true") as router:
            for title in ("CT1", "CT1", "CT2"):
                send(router, part10(len(there.received)), calling=title)
            assert [one.calling for one in there.received] == ["CT1", "CT1", "CT2"]
            assert len(there.requested) == 2
            assert set(ledger(router).values()) == {("sent", False)}

    def test_over_tls(self, tmp_path):
        authority = certificates.Authority(tmp_path)
        server, client = authority.issue("localhost"), authority.issue("router")
        with Provider("A", tls=TLS(ca=authority.file, cert=server.cert, key=server.key)) as there:
            files = f'tls_ca = "{authority.file}"', f'tls_cert = "{client.cert}"', f'tls_key = "{client.key}"'
            with passing(tmp_path / "r", f"dicoms://A@localhost:{there.address[1]}", *files) as router:
                send(router, part10(1, size=100_000))
                assert there.received[0].data == data_set(1, size=100_000)
                assert set(ledger(router).values()) == {("sent", False)}


class TestStatus:
    """The sender gets the destination's status, and what it says of the instance is true."""

    @pytest.mark.parametrize("status", [0xB000, 0xB007])
    def test_a_warning_is_passed_on_and_written_down(self, tmp_path, status):
        with Provider("A", status=status) as there, passing(tmp_path, there.peer) as router:
            with calling(router) as association:
                assert association.store(part10(1)).status == status
            assert ledger(router) == {"1.2.1.1.1": ("sent", False)}
            assert f"{status:04X}" in router.spool.queue.items()[0].why

    @pytest.mark.parametrize("status", [0xA900, 0xC000, 0x0122])
    def test_a_refusal_is_passed_on_and_nothing_is_kept(self, tmp_path, status):
        with Provider("A", status=status) as there, passing(tmp_path, there.peer) as router:
            with calling(router) as association:
                assert association.store(part10(1, size=5000)).status == status
            assert ledger(router) == {}
            assert router.storage.failed == 1
            assert router.storage._memory.held == 0

    def test_what_the_destination_has_already_is_there(self, tmp_path):
        with Provider("A", status=0x0111) as there, passing(tmp_path, there.peer) as router:
            send(router, part10(1))
            assert ledger(router) == {"1.2.1.1.1": ("sent", False)}

    def test_one_that_has_no_room_gets_it_from_the_queue(self, tmp_path):
        with Provider("A", status=0xA700) as there, passing(tmp_path, there.peer) as router:
            send(router, part10(1, size=5000))
            there.status = 0
            assert settled(router) == {"A": {"sent": 1}}
            assert ledger(router) == {"1.2.1.1.1": ("sent", True)}
            assert there.received[-1].data == data_set(1, size=5000)


class TestByTheQueue:
    """Where it cannot be passed on it is durable in the queue before the sender is told so."""

    def test_a_destination_that_is_away(self, tmp_path):
        port = peers.free_port()
        with passing(tmp_path, f"A@127.0.0.1:{port}") as router:
            send(router, *(part10(number, size=3000) for number in range(5)))
            assert set(ledger(router).values()) <= {("waiting", True), ("leased", True)}
            with Provider("A", port=port) as there:
                assert settled(router) == {"A": {"sent": 5}}
                assert [one.data for one in there.received] == [data_set(n, size=3000) for n in range(5)]

    def test_one_that_dies_in_the_middle_of_an_instance(self, tmp_path):
        with Watching() as there:
            proxy = router_flap.Proxy(there.address[1])
            with passing(tmp_path, f"A@127.0.0.1:{proxy.port}") as router:

                def cut():
                    assert there.begun.wait(PATIENCE)
                    proxy.set_open(False)

                half = Halves(1, cut)
                with calling(router) as association:
                    assert association.store(half).status == Status.SUCCESS
                    assert there.whole == []
                    proxy.set_open(True)
                    assert settled(router) == {"A": {"sent": 1}}
                assert there.whole == [half.data]
                until(lambda: there.left == 1)  # the half that it had is gone

    def test_one_that_dies_after_it_has_all_of_it_may_get_it_twice(self, tmp_path):
        with Provider("A") as there, passing(tmp_path, there.peer) as router:
            aborts_the_first(there)
            send(router, part10(1, size=3000))
            assert settled(router) == {"A": {"sent": 1}}
            assert {one.data for one in there.received} == {data_set(1, size=3000)}

    def test_one_that_does_not_answer_in_time(self, tmp_path):
        with Provider("A") as there, passing(tmp_path, there.peer, patience=0.2) as router:
            silent_to_what_is_passed_on(there, router)
            begin = time.monotonic()
            send(router, part10(1, size=3000))
            assert 0.2 <= time.monotonic() - begin < PATIENCE
            assert settled(router) == {"A": {"sent": 1}}
            assert ledger(router) == {"1.2.1.1.1": ("sent", True)}
            rests = router.cuts._ways["A"]._until - time.monotonic()
            assert rests > REST, "that its association is over then does not make it shorter"
            send(router, part10(2))  # it rests: the next goes by the queue at once
            assert settled(router) == {"A": {"sent": 2}}
            assert ledger(router)["1.2.1.1.2"] == ("sent", True)

    def test_one_that_is_slow_is_waited_for_as_long_as_its_rule_says(self, tmp_path):
        with Watching() as there, passing(tmp_path, there.peer) as router, calling(router) as association:
            there.go_on.clear()
            late = threading.Timer(0.3, there.go_on.set)
            late.start()
            assert association.store(part10(1, size=300_000)).status == Status.SUCCESS
            late.join()
            assert set(ledger(router).values()) == {("sent", False)}

    def test_a_class_that_the_destination_refuses(self, tmp_path):
        with Provider("A", refuse=[CT]) as there, passing(tmp_path, there.peer, "tries = 1") as router:
            send(router, part10(1), part10(2))
            assert settled(router) == {"A": {"parked": 2}}
            assert set(ledger(router).values()) == {("parked", True)}

    def test_nothing_overtakes_what_waits(self, tmp_path):
        with Provider("A") as there, passing(tmp_path, there.peer) as router:
            there.reject = (2, 3, 1)
            send(router, part10(1))
            there.reject = None
            send(router, part10(2))
            assert settled(router) == {"A": {"sent": 2}}
            assert [one.sop_instance_uid for one in there.received] == ["1.2.1.1.1", "1.2.1.1.2"]

    def test_what_more_than_one_is_to_get(self, tmp_path):
        more = '\n[[rules]]\nname = "too"\nactions = [{ do = "forward", to = ["B"] }]\n'
        with Provider("A") as one, Provider("B") as two:
            rules = through(one.peer) + f'[destinations.B]\naddress = "{two.peer}"\n' + more
            with routing(tmp_path, rules) as router:
                ready(router)
                send(router, part10(1))
                assert settled(router) == {"A": {"sent": 1}, "B": {"sent": 1}}
                assert all(one.ref.key for one in router.spool.queue.items())

    def test_what_comes_again_within_the_hour(self, tmp_path):
        with Provider("A") as there, passing(tmp_path, there.peer) as router:
            send(router, part10(1))
            send(router, part10(1))
            assert settled(router) == {"A": {"sent": 2}}
            assert {one.ref.key != "" for one in router.spool.queue.items()} == {False, True}

    def test_what_no_rule_can_read_is_parked(self, tmp_path):
        with Provider("A") as there, passing(tmp_path, there.peer) as router, calling(router) as association:
            broken = archives.meta_header(CT, "1.2.9", archives.LITTLE, "X") + data_set(1)[:-40]
            source = dn.files.instance_source.BytesSource(broken[len(broken) - len(data_set(1)) + 40 :],
                                                          archives.LITTLE, CT, "1.2.9", force=True)  # fmt: skip
            assert association.store(source).status == Status.SUCCESS
            assert {one.state for one in router.spool.queue.items()} <= {State.PARKED, State.HELD, State.SENT}


class TestSenders:
    def test_one_that_leaves_in_the_middle_leaves_nothing_at_the_destination(self, tmp_path):
        with Watching() as there, passing(tmp_path, there.peer) as router:

            def leave():
                assert there.begun.wait(PATIENCE)
                raise InputFileError("it cannot be read any more", problem=dn.errors.InputProblem.CANNOT_READ)

            with pytest.raises(dn.DicomNetError), calling(router) as association:
                association.store(Halves(1, leave))
            ready(router)
            with calling(router) as association:
                assert association.store(part10(2, size=3000)).status == Status.SUCCESS
            assert there.whole == [data_set(2, size=3000)]
            assert ledger(router) == {"1.2.1.1.2": ("sent", False)}
            assert router.storage._memory.held == 0

    def test_one_that_is_slow_holds_up_no_other(self, tmp_path):
        with Watching() as there, passing(tmp_path, there.peer) as router:

            def meanwhile():
                assert there.begun.wait(PATIENCE)
                send(router, part10(2, size=3000))

            with calling(router) as association:
                assert association.store(Halves(1, meanwhile)).status == Status.SUCCESS
            assert settled(router) == {"A": {"sent": 2}}
            assert set(there.whole) == {data_set(1, size=800_000), data_set(2, size=3000)}

    def test_the_router_stops_and_what_was_acknowledged_is_kept(self, tmp_path):
        with Watching() as there:
            there.go_on.clear()
            with passing(tmp_path, there.peer) as router, ThreadPoolExecutor() as pool:
                with calling(router) as association:
                    answer = pool.submit(association.store, part10(1, size=3000))
                    assert there.begun.wait(PATIENCE)
                    router.cuts.close()
                    assert answer.result(PATIENCE).status == Status.SUCCESS
                    assert set(ledger(router)) == {"1.2.1.1.1"}
                    assert next(iter(ledger(router).values()))[1], "it is in the spool"
                    there.go_on.set()
                assert settled(router) == {"A": {"sent": 1}}


class TestLoops:
    def test_three_routers_in_a_ring_end(self, tmp_path):
        ports = [peers.free_port() for _ in range(3)]
        rings = []
        for number, port in enumerate(ports):
            to = (number + 1) % 3
            rules = through(f"R{to}@127.0.0.1:{ports[to]}", patience=2.0)
            rings.append(routing(tmp_path / str(number), rules, ae_title=f"R{number}", port=port))
        with rings[0] as first, rings[1] as second, rings[2] as third:
            send(first, part10(1, size=3000))
            end = time.monotonic() + PATIENCE
            while not any("dropped" in found.get("A", {}) for found in map(states, (first.spool, second.spool,
                                                                                    third.spool))):  # fmt: skip
                assert time.monotonic() < end
                threading.Event().wait(0.05)
            for one in (first, second, third):
                settled(one)


class TestStorescp:
    """DCMTK as the destination."""

    @contextmanager
    def there(self, directory, port, *options):
        directory.mkdir(exist_ok=True)
        program = [peers.peer_program("storescp"), "+B", "+xa", *options, "-od", directory, port]
        with peer(program, port) as running:
            yield running

    def sent(self, router, numbers):
        send(router, *(part10(number, size=200_000) for number in numbers))

    def assert_all_there(self, directory, numbers):
        found = {data for one in directory.iterdir() if (data := one.read_bytes()[-200_000:])}
        assert found >= {data_set(number, size=200_000)[-200_000:] for number in numbers}

    def test_it_takes_them_bit_for_bit(self, tmp_path):
        port, out = peers.free_port(), tmp_path / "out"
        with self.there(out, port), passing(tmp_path / "router", f"STORESCP@127.0.0.1:{port}") as router:
            self.sent(router, range(10))
            assert set(ledger(router).values()) == {("sent", False)}
            self.assert_all_there(out, range(10))

    @pytest.mark.long
    @pytest.mark.deadline(240)
    def test_it_is_killed_in_the_midst_and_gets_all_of_it(self, tmp_path):
        port, out = peers.free_port(), tmp_path / "out"
        with passing(tmp_path / "router", f"STORESCP@127.0.0.1:{port}") as router, ThreadPoolExecutor() as pool:
            for wave in range(4):
                with self.there(out, port) as running:
                    ready(router)
                    mine = range(40 * wave, 40 * wave + 40)
                    sending = pool.submit(self.sent, router, mine)
                    end = time.monotonic() + 2 * PATIENCE  # a lane that was cut rests first
                    while router.storage.stored < 40 * wave + 8:
                        assert time.monotonic() < end
                        threading.Event().wait(0.005)
                    running.send_signal(signal.SIGKILL)
                    sending.result(60)
            with self.there(out, port):
                assert settled(router, 60) == {"A": {"sent": 160}}
            passed = sum(not kept for _, kept in ledger(router).values())
            assert 8 <= passed < 160, "some went on while they arrived, and some by the queue"
            self.assert_all_there(out, range(160))


class TestRules:
    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ('to = ["A", "B"], mode = "cut-through"', "cut-through goes to one destination"),
            (
                'to = ["A"], mode = "cut-through", between = { start = "22:00", end = "06:00" }',
                "cut-through and between exclude",
            ),
            ('to = ["A"], mode = "cut-through", compress = "JPEGLSLossless"', "cut-through and compress exclude"),
            ('to = ["A"], mode = "cut_through"', "mode: input should be 'queue' or 'cut-through'"),
            ('to = ["A"], mode = "cut-through", patience = 0', "patience"),
            ('to = ["A"], mode = "cut-through", patience = 60', "patience: input should be less than or equal to 45"),
            ('to = ["F"], mode = "cut-through"', 'cut-through goes to a DICOM peer, which "F" is not'),
            ('to = ["C"], mode = "cut-through"', '"C" is asked for commitment'),
        ],
    )
    def test_what_cannot_be_is_refused_when_it_is_saved(self, text, place):
        self.refused(f'[[rules]]\nname = "x"\nactions = [{{ do = "forward", {text} }}]', place)

    def refused(self, rules, place):
        tables = "".join(f'[destinations.{name}]\n{what}\n' for name, what in (
            ("A", 'address = "A@h:104"'), ("B", 'address = "B@h:104"'), ("C", 'address = "C@h:104"\ncommit = true'),
            ("F", 'kind = "folder"\npath = "/tmp/x"'),
        ))  # fmt: skip
        with pytest.raises(PlanInvalid) as caught:
            Plan.from_toml(tables + rules)
        problem = caught.value.problems[0]
        assert place in str(problem)
        assert problem.place.startswith('rule 1 ("x")')

    def test_what_is_changed_or_gathered_is_not_passed_on(self):
        act = '{ do = "forward", to = ["A"], mode = "cut-through" }'
        changed = f'[[rules]]\nname = "x"\nactions = [{{ do = "deidentify" }}, {act}]'
        self.refused(changed, "the actions before it change")
        self.refused(f'[[rules]]\nname = "x"\nunit = "study"\nactions = [{act}]', "until a study is complete")

    def test_the_schema_has_it(self):
        forward = Plan.model_json_schema(by_alias=True)["$defs"]["Forward"]["properties"]
        assert forward["mode"]["enum"] == ["queue", "cut-through"]
        assert forward["patience"]["default"] == 10.0

    def test_explain_says_whether_and_why_not(self):
        forward = '[[rules]]\nname = "b"\nactions = [{ do = "forward", to = ["B"] }]'
        other = f'[destinations.B]\naddress = "B@h:104"\n{forward}'
        facts = Facts(data_set(1), archives.LITTLE, CT, calling="CT1", whole=True)
        one, two = Plan.from_toml(through("A@h:104")), Plan.from_toml(through("A@h:104") + other)
        assert list(explain_passing(one, facts)) == [
            "cut-through to A; by its queue where it is away, slow, or has something waiting"
        ]
        [why] = explain_passing(two, facts)
        assert why == "no cut-through, but by the queue: more than one destination is to get it"
        assert list(explain_passing(Plan.from_toml(other), facts)) == []

    def test_the_command_line_explains_it(self, tmp_path):
        routers.made(tmp_path / "router", through("A@127.0.0.1:1"))
        (tmp_path / "1.dcm").write_bytes(part10(1))
        done = run_here("router", "rules", "explain", tmp_path / "router", tmp_path / "1.dcm")
        assert "cut-through to A" in done.stdout


class TestTransit:
    def transit(self):
        return Transit((CT, "1.2.3", archives.LITTLE), Facts(b"", archives.LITTLE, CT, calling="CT1"), New("A"), 10.0)

    def test_pieces_are_multiples_of_the_unit_and_the_last_one_is_told(self):
        transit = self.transit()
        chunks = transit.chunks(100)
        transit.write([b"a" * 150])
        assert (len(next(chunks)), transit.over) == (100, False)
        transit.write([b"b" * 250])
        assert (len(next(chunks)), transit.over) == (200, False), "what may be the last is kept back"
        transit.end()
        assert (len(next(chunks)), transit.over) == (100, True)
        assert list(chunks) == []

    def test_no_full_fragment_is_waited_for(self):
        transit = self.transit()
        transit.write([b"a" * (LEAST + 1)])
        assert len(next(transit.chunks(1 << 20))) == LEAST

    def test_an_odd_length_is_not_passed_on(self):
        transit = self.transit()
        transit.write([b"abc"])
        transit.end()
        with pytest.raises(InputFileError, match="odd number of bytes, 3"):
            next(transit.chunks(100))

    def test_who_is_first_decides(self):
        transit = self.transit()
        transit.give_up("too late")
        transit.leave()
        assert transit.answer.result().why == "too late"
        with pytest.raises(InputFileError):
            next(transit.chunks(100))


@pytest.mark.long
@pytest.mark.deadline(600)
def test_a_few_kills_lose_nothing(tmp_path):
    outcome = router_soak.soak(3, tmp_path, seed=1, say=False, through=True, slowest=PATIENCE)
    assert outcome.good, outcome
    assert outcome.acknowledged
