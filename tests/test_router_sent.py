"""Rules about what a destination has taken: where it goes after that."""

from __future__ import annotations

import pytest
from routers import address, eventually, part10, ready, routing, send, settled, states

import dicomnet as dn
from dicomnet.router.plan import Plan, PlanInvalid
from dicomnet.router.queue import State
from dicomnet.router.report import report
from dicomnet.router.spool import Spool
from dicomnet.testing import Provider

FIRST = '[[rules]]\nname = "first"\nactions = [{ do = "forward", to = ["A"] }]\n'


def after(destination, actions, name="after", more=""):
    when = f'{{ field = "destination", equals = "{destination}" }}'
    return f'[[rules]]\nname = "{name}"\non = "sent"\nwhen = {when}\nactions = [{actions}]\n{more}\n'


def to(*names):
    return ", ".join(f'{{ do = "forward", to = ["{name}"] }}' for name in names)


@pytest.fixture
def a():
    with Provider("A") as a:
        yield a


@pytest.fixture
def b():
    with Provider("B") as b:
        yield b


def peers(**providers):
    return "".join(f"[destinations.{name}]\n{address(one.peer)}\n" for name, one in providers.items())


def test_what_one_destination_has_taken_goes_on_to_another(tmp_path, a, b):
    with routing(tmp_path, peers(A=a, B=b) + FIRST + after("A", to("B"))) as router:
        send(router, part10(1), part10(2))
        assert eventually(router, {"A": {"sent": 2}, "B": {"sent": 2}})
        assert {one.sop_instance_uid for one in b.received} == {"1.2.1.1.1", "1.2.1.1.2"}
        [study] = report(router.spool.database)
        assert (study.received, study.sent, study.balances) == (2, 2, True)


def test_what_it_has_not_taken_does_not(tmp_path, a, b):
    a.status = 0xC000
    rules = peers(A=a, B=b).replace("[destinations.B]", "tries = 1\n[destinations.B]")
    with routing(tmp_path, rules + FIRST + after("A", to("B"))) as router:
        send(router, part10(1))
        assert settled(router) == {"A": {"parked": 1}}
        a.status = 0
        router.spool.queue.retry()
        router.forwarder.wake()
        assert eventually(router, {"A": {"sent": 1}, "B": {"sent": 1}})


def test_another_copy_may_be_changed_and_the_condition_is_asked(tmp_path, a, b):
    edit = '{ do = "edit", operations = [{ op = "set", element = "PatientID", value = "X" }] }, '
    rules = after("A", edit + to("B")).replace(
        "when = ", 'when = { all = [{ field = "InstanceNumber", equals = 2 }, '
    ).replace('equals = "A" }', 'equals = "A" }] }')  # fmt: skip
    with routing(tmp_path, peers(A=a, B=b) + FIRST + rules) as router:
        send(router, part10(1), part10(2))
        assert eventually(router, {"A": {"sent": 2}, "B": {"sent": 1}})
        assert [one.dataset.PatientID for one in b.received] == ["X"]


def test_rules_that_send_it_round_do_so_once(tmp_path, a, b):
    """A line one forgets: nothing goes round in a loop."""
    rules = FIRST + after("A", to("B"), "on to B") + after("B", to("A"), "back to A")
    with routing(tmp_path, peers(A=a, B=b) + rules) as router:
        send(router, part10(1))
        assert eventually(router, {"A": {"sent": 2}, "B": {"sent": 1}})
        assert settled(router) == {"A": {"sent": 2}, "B": {"sent": 1}}
        [study] = report(router.spool.database)
        assert (study.sent, study.balances) == (1, True)


def test_what_would_go_where_it_has_just_gone_is_dropped(tmp_path, a):
    with routing(tmp_path, peers(A=a) + FIRST + after("A", to("A"))) as router:
        send(router, part10(1))
        assert eventually(router, {"A": {"sent": 1, "dropped": 1}})
        assert len(a.received) == 1


def test_its_bytes_stay_until_all_of_it_is_over(tmp_path, a):
    away = "[destinations.B]\n" + address("B@127.0.0.1:1", "active = false") + "\n"
    with routing(tmp_path, peers(A=a) + away + FIRST + after("A", to("B")), keep=1e-6) as router:
        send(router, part10(1))
        assert eventually(router, {"A": {"sent": 1}, "B": {"waiting": 1}})
        assert router.spool.tidy() == 0
    with Spool(tmp_path, router.settings) as spool:
        assert states(spool) == {"A": {"sent": 1}, "B": {"waiting": 1}}
        spool.queue.drop(destination="B")
        assert spool.tidy() == 1


def test_a_rule_that_cannot_read_it_parks_it_and_the_delivery_stays_sent(tmp_path, a, monkeypatch):
    with routing(tmp_path, peers(A=a) + FIRST + after("A", to("A"))) as router:
        monkeypatch.setattr("dicomnet.router.following.source_of", lambda spool, item: 1 / 0)
        send(router, part10(1))
        assert eventually(router, {"A": {"sent": 1}, "": {"parked": 1}})
        [parked] = router.spool.queue.items(states=[State.PARKED])
        assert parked.why == "it was sent to A; after that: ZeroDivisionError"


@pytest.mark.parametrize("fires", [True, False])
def test_what_such_a_rule_wants_is_not_passed_on_while_it_arrives(tmp_path, a, b, fires):
    through = FIRST.replace("] }]", '], mode = "cut-through", patience = 45 }]')
    rules = peers(A=a, B=b) + through + after("A" if fires else "B", to("B" if fires else "A"))
    with routing(tmp_path, rules) as router:
        ready(router)
        send(router, part10(1))
        expected = {"A": {"sent": 1}} | ({"B": {"sent": 1}} if fires else {})
        assert eventually(router, expected)
        kept = router.spool.queue.items(states=[State.SENT], destination="A")
        assert bool(kept[0].ref.key) is fires, "the spool has no copy of what was passed on"


def test_studies_that_were_fetched_from_a_peer_were_not_sent_there(tmp_path, b):
    listener = dn.sync.Listener("A", port=0)
    listener.on_find(lambda request: [])
    with listener:
        fetch = '{ do = "prefetch", source = "A", to = "B", same_modality = false }'
        rules = FIRST.replace('{ do = "forward", to = ["A"] }', fetch) + after("A", to("B"))
        peer = "[destinations.A]\n" + address(f"A@127.0.0.1:{listener.address[1]}") + "\n"
        with routing(tmp_path, peer + peers(B=b) + rules) as router:
            send(router, part10(1))
            assert settled(router) == {"A": {"sent": 1}}


@pytest.mark.parametrize(
    ("actions", "more", "what"),
    [
        ('{ do = "drop" }', "", "drop is for instances that arrive"),
        ('{ do = "prefetch", source = "A", to = "WS" }', "", "prefetch is for instances that arrive"),
        ('{ do = "retrieve", source = "A", to = "WS" }', "", "retrieve is for messages"),
        ('{ do = "ask", source = "A" }', "", "ask is for what is asked for"),
        ('{ do = "forward", to = ["A"], mode = "cut-through" }', "", "it goes by the queue"),
        (to("A"), 'unit = "study"', "is not gathered to a study"),
    ],
)  # fmt: skip
def test_what_is_too_late_then_is_refused_when_the_rule_is_saved(actions, more, what):
    with pytest.raises(PlanInvalid, match=what):
        Plan.from_toml('[destinations.A]\naddress = "A@127.0.0.1:104"\n' + after("B", actions, more=more))
