"""Rules about messages that are no C-STORE: passed on by the queues as they came, and what they set going."""

from __future__ import annotations

import threading

import peers
import pytest
from routers import address, eventually, made, part10, routing, send, states, wait_for
from sqlalchemy import inspect

import dicomnet as dn
from dicomnet import uids
from dicomnet.dataset import codec
from dicomnet.router.facts import AVAILABILITY
from dicomnet.router.plan import Plan, PlanInvalid
from dicomnet.router.queue import State
from dicomnet.router.samples import coverage, spooled
from dicomnet.router.spool import Spool
from dicomnet.status import Status
from dicomnet.testing import Provider

MPPS = uids.MODALITY_PERFORMED_PROCEDURE_STEP
STEP, STUDY = "1.9.1", "1.2.1"
BEGUN = {
    "PatientID": "P1", "Modality": "CT", "PerformedProcedureStepStatus": "IN PROGRESS",
    "ScheduledStepAttributesSequence": [{"StudyInstanceUID": STUDY}],
}  # fmt: skip
ENDED = {"PerformedProcedureStepStatus": "COMPLETED"}
RULE = """
[[rules]]
name = "steps to the RIS"
on = "procedure step"
when = {when}
actions = [{{ do = "forward", to = ["RIS"] }}]
"""
ANY = '{ field = "PerformedProcedureStepStatus", exists = true }'


class Ris:
    """A provider of MPPS that writes down what it is told, and answers as it is wanted to."""

    def __init__(self, answer: Status = Status.SUCCESS) -> None:
        self.told: list[tuple[str, str, str, str]] = []
        self.answer = answer
        self._lock = threading.Lock()
        self.listener = dn.sync.Listener("RIS", port=0)
        self.listener.on_n_create(MPPS)(self._take)
        self.listener.on_n_set(MPPS)(self._take)

    def _take(self, request):
        with self._lock:
            status = str(request.dataset.PerformedProcedureStepStatus)
            self.told.append((request.operation.name, request.sop_instance_uid, request.calling, status))
        return self.answer

    def __enter__(self):
        self.listener.__enter__()
        return self

    def __exit__(self, *error):
        return self.listener.__exit__(*error)

    @property
    def rules(self):
        return "[destinations.RIS]\n" + address(f"RIS@127.0.0.1:{self.listener.address[1]}")


def tell(router, *messages, calling="CT1", cls=MPPS):
    peer = f"ROUTER@127.0.0.1:{router.listener.address[1]}"
    with dn.connect(peer, calling=calling, contexts=dn.contexts.sop_classes(cls)) as association:
        for operation, values in messages:
            getattr(association, operation)(cls, STEP, codec.from_keywords(values))


class TestPassedOn:
    def test_a_step_is_begun_and_ended_at_the_destination_in_that_order(self, tmp_path):
        with Ris() as ris, routing(tmp_path, ris.rules + RULE.format(when=ANY)) as router:
            tell(router, ("n_create", BEGUN), ("n_set", ENDED))
            assert eventually(router, {"RIS": {"sent": 2}})
            assert ris.told == [
                ("N-CREATE-RQ", STEP, "ROUTER", "IN PROGRESS"), ("N-SET-RQ", STEP, "ROUTER", "COMPLETED")
            ]  # fmt: skip
            assert [one.message for one in router.spool.queue.items()] == ["N-CREATE", "N-SET"]
            assert router.spool.queue.items()[0].study == STUDY

    def test_a_condition_is_asked_and_what_no_rule_wants_is_answered_and_not_kept(self, tmp_path):
        when = '{ field = "PerformedProcedureStepStatus", equals = "COMPLETED" }'
        with Ris() as ris, routing(tmp_path, ris.rules + RULE.format(when=when)) as router:
            tell(router, ("n_create", BEGUN), ("n_set", ENDED))
            assert eventually(router, {"RIS": {"sent": 1}})
            assert [one[0] for one in ris.told] == ["N-SET-RQ"]

    def test_the_title_of_who_told_it_is_passed_on_where_that_is_wanted(self, tmp_path):
        with Ris() as ris, routing(tmp_path, f"{ris.rules}\npass_calling = true\n" + RULE.format(when=ANY)) as router:
            tell(router, ("n_create", BEGUN))
            assert eventually(router, {"RIS": {"sent": 1}})
            assert ris.told[0][2] == "CT1"

    @pytest.mark.parametrize(
        ("answer", "becomes"),
        [(Status(0x0111), "sent"), (Status.PROCESSING_FAILURE, "parked"), (Status(0x0112), "parked")],
    )
    def test_what_the_destination_says_decides_what_becomes_of_it(self, tmp_path, answer, becomes):
        with Ris(answer) as ris, routing(tmp_path, f"{ris.rules}\ntries = 2\n" + RULE.format(when=ANY)) as router:
            tell(router, ("n_create", BEGUN))
            assert eventually(router, {"RIS": {becomes: 1}})

    def test_a_destination_that_is_away_gets_it_later_and_a_restart_loses_none(self, tmp_path):
        port = peers.free_port()
        rules = "[destinations.RIS]\n" + address(f"RIS@127.0.0.1:{port}") + RULE.format(when=ANY)
        with routing(tmp_path, rules) as router:
            tell(router, ("n_create", BEGUN))
        with Spool(tmp_path) as spool:
            assert states(spool) == {"RIS": {"waiting": 1}}
        with Ris() as ris, routing(tmp_path, ris.rules + RULE.format(when=ANY)) as router:
            assert eventually(router, {"RIS": {"sent": 1}})
            assert ris.told[0][1:2] == (STEP,)

    def test_what_cannot_be_made_durable_is_not_acknowledged(self, tmp_path, monkeypatch):
        with Ris() as ris, routing(tmp_path, ris.rules + RULE.format(when=ANY)) as router:

            def full(group):
                raise OSError(28, "No space left on device")

            monkeypatch.setattr(router.spool.blobs, "put", full)
            with pytest.raises(dn.errors.ServiceFailure) as caught:
                tell(router, ("n_create", BEGUN))
            assert caught.value.status == Status.PROCESSING_FAILURE

    def test_an_availability_notification_goes_on_too(self, tmp_path):
        told = []
        listener = dn.sync.Listener("RIS", port=0)
        listener.on_n_create(AVAILABILITY)(
            lambda request: told.append(request.dataset.StudyInstanceUID) or Status.SUCCESS
        )
        with listener:
            rule = RULE.format(when='{ field = "StudyInstanceUID", exists = true }').replace(
                "procedure step", "availability"
            )
            rules = "[destinations.RIS]\n" + address(f"RIS@127.0.0.1:{listener.address[1]}") + rule
            with routing(tmp_path, rules) as router:
                tell(router, ("n_create", {"StudyInstanceUID": STUDY}), cls=AVAILABILITY)
                assert eventually(router, {"RIS": {"sent": 1}})
        assert told == [STUDY]


class TestApart:
    """Instances and messages: each has its own rules."""

    def test_a_rule_about_messages_does_not_fire_for_an_instance_nor_the_other_way_round(self, tmp_path):
        every = '\n[[rules]]\nname = "all"\nactions = [{ do = "hold", to = ["RIS"] }]\n'
        with Ris() as ris, routing(tmp_path, ris.rules + RULE.format(when=ANY) + every) as router:
            send(router, part10(1))
            tell(router, ("n_create", BEGUN))
            assert eventually(router, {"RIS": {"held": 1, "sent": 1}})
            samples = list(spooled(router.spool))
            assert len(samples) == 1, "rules are tried on instances"
            plan = router.spool.plans.current[1]
            assert coverage(plan, samples).never == []
            assert 'rule "steps to the RIS" does not fire: it is about each procedure step' in plan.explain(
                samples[0].facts
            )

    @pytest.mark.parametrize(
        ("more", "what"),
        [
            (
                'actions = [{ do = "edit", operations = [{ op = "remove", element = "PatientName" }] }]',
                "edit is for instances",
            ),
            ('actions = [{ do = "forward", to = ["RIS"], mode = "cut-through" }]', "goes by the queue"),
            ('actions = [{ do = "forward", to = ["DIR"] }]', '"DIR" is not'),
            ('unit = "study"\nactions = [{ do = "forward", to = ["RIS"] }]', "belongs to no study"),
        ],
    )
    def test_what_only_an_instance_can_have_is_refused(self, more, what):
        toml = f"""
            [destinations.RIS]
            address = "RIS@127.0.0.1:104"
            [destinations.DIR]
            kind = "folder"
            path = "/nowhere"
            [[rules]]
            name = "steps"
            on = "procedure step"
            {more}
        """
        with pytest.raises(PlanInvalid, match=what):
            Plan.from_toml(toml)


def test_earlier_studies_are_wanted_once_when_an_examination_begins(tmp_path):
    rules = """
[destinations.ARCHIVE]
address = "ARCHIVE@127.0.0.1:1"
[[rules]]
name = "priors"
on = "procedure step"
when = { field = "PerformedProcedureStepStatus", equals = "IN PROGRESS" }
actions = [{ do = "prefetch", source = "ARCHIVE", to = "STATION" }]
"""
    with routing(tmp_path, rules) as router:
        tell(router, ("n_create", BEGUN), ("n_create", BEGUN | {"PatientID": "P2"}))
        kept = [one.state for one in router.spool.queue.items(destination="ARCHIVE")]
        assert len(kept) == 1
        assert kept[0] in (State.WAITING, State.LEASED)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_tables_from_before_messages_get_their_column(tmp_path, kind, request):
    cluster = request.getfixturevalue("postgresql") if kind == "postgresql" else None
    database = cluster.url(cluster.new_database()) if cluster is not None else ""
    settings = made(tmp_path, "", database=database)
    with Spool(tmp_path, settings, serves=True) as spool, spool.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE router_received DROP COLUMN message")
        connection.exec_driver_sql("UPDATE router_version SET version = 2")
    with Spool(tmp_path, settings, serves=True) as spool, spool.database.read() as connection:
        assert "message" in {one["name"] for one in inspect(connection).get_columns("router_received")}


class TestRefused:
    @pytest.mark.parametrize(("cls", "messages"), [
        (MPPS, [("n_set", ENDED)]), (AVAILABILITY, [("n_create", {"StudyInstanceUID": STUDY})]),
    ])  # fmt: skip
    def test_a_message_that_cannot_be_kept_is_to_come_again(self, tmp_path, monkeypatch, cls, messages):
        rule = RULE.format(when=ANY)
        if cls == AVAILABILITY:
            rule = rule.replace("procedure step", "availability").replace("PerformedProcedureStepStatus", "PatientID")
            rule = rule.replace("exists = true", "exists = false")
        with Ris() as ris, routing(tmp_path, ris.rules + rule) as router:

            def full(group):
                raise OSError(28, "No space left on device")

            monkeypatch.setattr(router.spool.blobs, "put", full)
            with pytest.raises(dn.errors.ServiceFailure) as caught:
                tell(router, *messages, cls=cls)
            assert caught.value.status == Status.PROCESSING_FAILURE
            assert states(router.spool) == {}

    def test_a_step_that_was_discontinued_is_passed_on_and_completes_nothing(self, tmp_path):
        with Ris() as ris, routing(tmp_path, ris.rules + RULE.format(when=ANY)) as router:
            tell(router, ("n_create", BEGUN), ("n_set", {"PerformedProcedureStepStatus": "DISCONTINUED"}))
            assert eventually(router, {"RIS": {"sent": 2}})
            assert [one[3] for one in ris.told] == ["IN PROGRESS", "DISCONTINUED"]

    @pytest.mark.parametrize(("how", "becomes"), [("class", "parked"), ("title", "parked"), ("for now", "waiting")])
    def test_a_destination_that_will_not_hear_it(self, tmp_path, how, becomes):
        """It does not take the class, or not this caller, or takes nobody for now."""
        rejects = {"title": (1, 1, 3), "for now": (2, 3, 1)}
        ris = Provider("RIS", reject=rejects[how]) if how in rejects else dn.sync.Listener("RIS", port=0)
        with ris:
            there = address(f"RIS@127.0.0.1:{ris.address[1]}", "tries = 1")
            with routing(tmp_path, f"[destinations.RIS]\n{there}\n" + RULE.format(when=ANY)) as router:
                tell(router, ("n_create", BEGUN))
                if becomes == "waiting":
                    wait_for(router, lambda: router.forwarder.health["RIS"].failures > 1)
                assert eventually(router, {"RIS": {becomes: 1}})
                assert router.spool.queue.items()[0].why

    def test_one_that_no_rule_can_read_is_kept_and_parked(self, tmp_path):
        slow = RULE.format(when='{ field = "PatientComments", matches = "(?:#|##)+$" }')
        with Ris() as ris, routing(tmp_path, ris.rules + slow) as router:
            tell(router, ("n_create", BEGUN | {"PatientComments": "#" * 500 + "!"}))
            assert eventually(router, {"": {"parked": 1}})
            [parked] = router.spool.queue.items()
        assert "takes too long" in parked.why
        assert ris.told == []
