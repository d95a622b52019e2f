"""Actions beside sending: functions that change instances, earlier studies that are fetched, times of the day."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import archives
import pytest
import routers
from routers import address, everything_to, made, part10, routing, send, settled, states

from dicomnet import Entity
from dicomnet.archive.archive import Archive
from dicomnet.archive.settings import ArchiveSettings
from dicomnet.router.conditions import Window
from dicomnet.router.plan import Plan, PlanInvalid
from dicomnet.router.planning import opening
from dicomnet.router.spool import Spool
from dicomnet.testing import Provider


def mark(dataset):
    """What a rule of the tests calls."""
    if dataset.InstanceNumber == 2:
        raise RuntimeError("P1 must not be told")
    dataset.StudyDescription = "seen"


class TestCall:
    def test_a_function_changes_what_is_sent_and_what_it_raises_parks_that_one(self, tmp_path):
        call = f'actions = [{{ do = "call", function = "{__name__}:mark" }}, '
        with Provider("A") as archive:
            rules = everything_to(A=address(archive.peer)).replace("actions = [", call)
            with routing(tmp_path, rules) as router:
                send(router, part10(1), part10(2), part10(3))
                assert settled(router) == {"A": {"sent": 2, "parked": 1}}
                [parked] = router.spool.queue.items(states=[routers.State.PARKED])
            assert {one.dataset.StudyDescription for one in archive.received} == {"seen"}
        assert parked.why == "it cannot be made ready: RuntimeError", "what it says may tell of a patient"

    @pytest.mark.parametrize("function", ["no.such:thing", "os:no_such", "os.path"])
    def test_one_that_there_is_not_is_refused_when_the_rule_is_saved(self, function):
        with pytest.raises(PlanInvalid, match=r"there is no function|match pattern"):
            Plan.read({"rules": [{"name": "x", "actions": [{"do": "call", "function": function}]}]})


class TestPrefetch:
    """Earlier studies of a patient come with a new one, once."""

    def archive(self, directory, workstation):
        settings = ArchiveSettings.make(directory, port=0, durability="os")
        settings = replace(settings, destinations={"WS": Entity.parse(workstation.peer)})
        archive = Archive(directory, settings)
        archive.holdings.intake.store([
            archives.an_incoming(1, study=study, PatientID="P1", StudyDate=date, Modality=modality)
            for study, date, modality in ((2, "20260101", "CT"), (3, "20260201", "CT"), (4, "20260301", "MR"))
        ])  # fmt: skip
        return archive

    def test_the_latest_of_the_same_kind_is_sent_to_the_workstation(self, tmp_path):
        with Provider("WS") as workstation, self.archive(tmp_path / "archive", workstation) as archive:
            peer = f"ARCHIVE@127.0.0.1:{archive.listener.address[1]}"
            rules = everything_to(PACS=address(peer)).replace(
                '{ do = "forward", to = ["PACS"] }', '{ do = "prefetch", source = "PACS", to = "WS", most = 1 }'
            )
            with routing(tmp_path / "router", rules) as router:
                send(router, part10(1), part10(2))
                assert settled(router) == {"PACS": {"sent": 1}, "": {"dropped": 1}}
                whys = sorted(one.why for one in router.spool.queue.items())
            assert whys == ["1 of 2 earlier studies sent to WS", "its rule has acted for the same a while ago"]
            assert [one.sop_instance_uid for one in workstation.received] == ["1.2.3.1.1"]

    def test_its_source_has_to_be_a_peer(self):
        prefetch = {"do": "prefetch", "source": "F", "to": "WS"}
        folder = {"F": {"kind": "folder", "path": "/tmp"}}
        with pytest.raises(PlanInvalid, match='"F" is no DICOM peer'):
            Plan.read({"rules": [{"name": "x", "actions": [prefetch]}], "destinations": folder})


class TestTimes:
    NIGHT = Window(start="22:00", end="06:00")

    @pytest.mark.parametrize(
        ("now", "due"),
        [("12:00", "2026-01-31T22:00"), ("23:00", None), ("05:59", None), ("06:00", "2026-01-31T22:00")],
    )
    def test_when_a_window_opens(self, now, due):
        found = opening(self.NIGHT, datetime.fromisoformat(f"2026-01-31T{now}"))
        assert found == (datetime.fromisoformat(due).timestamp() if due else 0.0)

    def test_a_window_that_is_over_today_opens_tomorrow(self):
        found = opening(Window(start="08:00", end="10:00"), datetime(2026, 1, 31, 12))
        assert found == datetime(2026, 2, 1, 8).timestamp()

    def test_what_is_sent_at_night_waits_for_it(self, tmp_path):
        now = [datetime(2026, 1, 31, 12).timestamp()]
        rules = everything_to(A=address("A@127.0.0.1:1"))
        made(tmp_path, rules.replace('to = ["A"]', 'to = ["A"], between = { start = "22:00", end = "06:00" }'))
        with Spool(tmp_path, serves=True, clock=lambda: now[0]) as spool:
            spool.plans.refresh()
            spool.store([archives.an_incoming(1)])
            assert spool.queue.lease("A") == []
            assert spool.queue.next_due("A") == datetime(2026, 1, 31, 22).timestamp()
            now[0] += 10 * 3600
            assert len(spool.queue.lease("A")) == 1
            assert states(spool) == {"A": {"leased": 1}}
