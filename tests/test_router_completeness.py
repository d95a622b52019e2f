"""When a series or a study is complete: what peers say, quiet, counts, a cap; and what becomes of what comes late."""

from __future__ import annotations

import archives
import peers
import pytest
import routers
from routers import address, everything_to, made, part10, routing, send, settled, states

import dicomnet as dn
from dicomnet import uids
from dicomnet.dataset import codec
from dicomnet.router.completeness import Completeness
from dicomnet.router.spool import Spool
from dicomnet.testing import Provider

MPPS = uids.MODALITY_PERFORMED_PROCEDURE_STEP


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


class Gathering:
    """A spool with a rule by study, and its two clocks: that of the day, and that which does not jump."""

    def __init__(self, directory, **rule):
        self.day, self.steady = Clock(), Clock()
        rule = {"unit": "study", "quiet": 60, "cap": 600} | rule
        lines = "\n".join(f"{name} = {value!r}".replace("'", '"') for name, value in rule.items())
        made(directory, everything_to(A=address("A@127.0.0.1:1")) + lines)
        self.directory = directory
        self.open()

    def open(self):
        self.spool = Spool(self.directory, serves=True, clock=self.day)
        self.spool.plans.refresh()
        self.spool.units = Completeness(
            self.spool.database, self.spool.plans.of, clock=self.day, steady=self.steady, count=lambda *_: self.count
        )

    def take(self, *numbers, study=1):
        self.spool.store([archives.an_incoming(number, study=study) for number in numbers])

    def passes(self, seconds):
        self.steady.now += seconds
        self.day.now += seconds
        return self.spool.units.look()

    @property
    def reasons(self):
        return [one["reason"] for one in self.spool.units.units(["complete"])]

    @property
    def states(self):
        return states(self.spool)["A"]


@pytest.fixture
def gathering(tmp_path, request):
    found = Gathering(tmp_path, **getattr(request, "param", {}))
    yield found
    found.spool.close()


def test_a_study_that_is_quiet_is_complete(gathering):
    gathering.take(1, 2)
    assert gathering.passes(59) == 0
    gathering.take(3)
    assert gathering.passes(59) == 0
    assert gathering.states == {"held": 3}
    assert gathering.passes(1) == 1
    assert (gathering.states, gathering.reasons) == ({"waiting": 3}, ["nothing came for 60 s"])


def test_one_study_does_not_wait_for_another(gathering):
    gathering.take(1)
    gathering.passes(40)
    gathering.take(1, study=2)
    assert gathering.passes(20) == 1
    assert gathering.states == {"waiting": 1, "held": 1}


def test_a_study_that_never_rests_is_complete_in_the_end(gathering):
    for number in range(12):
        gathering.take(number)
        gathering.passes(50)
    assert gathering.reasons == ["600 s have passed"]


def test_neither_a_restart_nor_a_clock_that_jumps_completes_a_study_early(gathering):
    gathering.take(1)
    gathering.day.now += 86_400
    assert gathering.spool.units.look() == 0
    gathering.day.now -= 10 * 86_400
    assert gathering.spool.units.look() == 0
    gathering.passes(59)
    gathering.spool.close()
    gathering.open()
    assert gathering.passes(59) == 0, "quiet begins anew: what came meanwhile was not seen"
    assert gathering.passes(1) == 1


def test_the_cap_holds_through_restarts(gathering):
    for number in range(11):
        gathering.take(number)
        gathering.passes(50)
        gathering.spool.close()
        gathering.open()
    gathering.take(99)
    gathering.passes(59)
    assert gathering.reasons == ["600 s have passed"]


class TestLate:
    def complete(self, gathering):
        gathering.take(1, 2)
        gathering.passes(60)
        for item in gathering.spool.queue.lease("A"):
            gathering.spool.queue.finish([(item, routers.State.SENT, "")])
        assert gathering.states == {"sent": 2}
        gathering.take(3)

    def test_only_the_new_ones(self, gathering):
        self.complete(gathering)
        assert gathering.states == {"sent": 2, "waiting": 1}

    @pytest.mark.parametrize("gathering", [{"late": "never"}], indirect=True)
    def test_never(self, gathering):
        self.complete(gathering)
        assert gathering.states == {"sent": 2, "held": 1}
        assert gathering.spool.queue.items(states=[routers.State.HELD])[0].why == "it came after its study was complete"

    @pytest.mark.parametrize("gathering", [{"late": "always"}], indirect=True)
    def test_always_sends_all_of_it_again(self, gathering):
        self.complete(gathering)
        assert gathering.states == {"sent": 2, "held": 1}
        gathering.passes(60)
        assert gathering.states == {"sent": 2, "waiting": 3}


@pytest.mark.parametrize("gathering", [{"count_from": "A"}], indirect=True)
def test_a_count_that_was_asked_for_is_waited_for(gathering):
    gathering.count = 2
    gathering.take(1)
    assert gathering.passes(60) == 0
    gathering.take(2)
    assert gathering.passes(60) == 1
    assert gathering.reasons == ["2 of 2 instances are here"]


def test_an_announcement_is_waited_for_as_long_as_something_is_missing(gathering):
    gathering.take(1)
    gathering.spool.units.announced("1.9", "1.2.1", [("1.2.1.1", "1.2.1.1.1"), ("1.2.1.1", "1.2.1.1.2")])
    assert gathering.states == {"held": 1}
    gathering.take(2)
    assert gathering.passes(0) == 1
    assert gathering.reasons == ["all 2 announced instances are here"]


def by(unit, peer):
    return everything_to(A=address(peer)) + f'unit = "{unit}"\nquiet = 3600.0\ncap = 7200.0\n'


def test_what_came_on_an_association_goes_when_it_is_released(tmp_path):
    with Provider("A") as archive, routing(tmp_path, by("association", archive.peer)) as router:
        send(router, part10(1), part10(2))
        assert routers.eventually(router, {"A": {"sent": 2}})
        assert router.spool.units.units()[0]["reason"] == "the association has ended"


@pytest.mark.parametrize("unit", ["study", "series"])
def test_a_modality_that_reports_its_step_completes_study_and_series(tmp_path, unit):
    with Provider("A") as archive, routing(tmp_path, by(unit, archive.peer)) as router:
        send(router, part10(1))
        peer = f"ROUTER@127.0.0.1:{router.listener.address[1]}"
        step = codec.from_keywords({"ScheduledStepAttributesSequence": [{"StudyInstanceUID": "1.2.1"}]})
        references = [{"ReferencedSOPInstanceUID": f"1.2.1.1.{number}"} for number in (1, 2)]
        series = {"SeriesInstanceUID": "1.2.1.1", "ReferencedImageSequence": references}
        done = {"PerformedProcedureStepStatus": "COMPLETED", "PerformedSeriesSequence": [series]}
        with dn.connect(peer, contexts=dn.contexts.sop_classes(MPPS)) as association:
            association.n_create(MPPS, "1.9.1", step)
            association.n_set(MPPS, "1.9.1", codec.from_keywords(done))
        assert states(router.spool) == {"A": {"held": 1}}
        send(router, part10(2))
        router.spool.units.look()
        assert settled(router) == {"A": {"sent": 2}}


def test_the_count_is_asked_for_by_c_find(tmp_path):
    match = codec.from_keywords({"StudyInstanceUID": "1.2.1", "NumberOfStudyRelatedInstances": "7"})
    with Provider("A", matches=[match]) as archive:
        with routing(tmp_path, everything_to(A=address(archive.peer))) as router:
            assert router.forwarder.count("A", "1.2.1") == 7
        with routing(tmp_path / "2", everything_to(A=address(f"A@127.0.0.1:{peers.free_port()}"))) as router:
            assert router.forwarder.count("A", "1.2.1") is None
