"""A workstation whose peers do a part of what they are asked, or nothing; and whose own queue meets errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rig
from archives import CT, part10
from rig import until
from servers import Told, make_settings
from test_interop_services import SELF
from workstations import serving, stored

import dicomnet as dn
from dicomnet.errors import AssociationRejected, DicomNetError, InvalidArgument, ServiceFailure, TLSFailed
from dicomnet.server.admin import AdminError
from dicomnet.server.ae_entry import AEEntry
from dicomnet.server.database import Database
from dicomnet.status import Status
from dicomnet.testing import Provider
from dicomnet.workstation import jobs
from dicomnet.workstation.jobs import Job, JobKind, JobQueue, JobState, Order
from dicomnet.workstation.runner import Runner
from dicomnet.workstation.work import Incomplete, retry_class_of

SERIES = "1.2.1.1"


def known(server: Any, provider: dn.Listener) -> None:
    host, port = provider.address
    server.base.ae_titles.add(AEEntry(title="PEER", host=host, port=port))


def failed(station: Any, job: Job) -> Job:
    """A job, once it has said what went wrong."""
    until(lambda: station.queue.get(job.id).error)
    found: Job = station.queue.get(job.id)
    return found


def has(*numbers: int) -> list[Any]:
    """What a peer finds at any level."""
    return [
        rig.keys(StudyInstanceUID="1.2.1", SeriesInstanceUID=SERIES, SOPInstanceUID=f"{SERIES}.{one}", SOPClassUID=CT)
        for one in numbers
    ]


class TestPeers:
    def test_one_that_does_not_send_all_it_has(self, tmp_path: Path) -> None:
        with (
            Provider("PEER", matches=has(1, 2), instances=[part10(1)]) as peer,
            serving(tmp_path) as (server, station, _),
        ):
            known(server, peer)
            waits = failed(station, station.order(Order(JobKind.RETRIEVE, "PEER", "1.2.1", by="get")))
            assert (waits.error, waits.retry) == ("PEER did not send 1 of 2 instances", "partial")
            assert (waits.expected, waits.present, waits.found) == (2, 1, 0)

    def test_one_that_knows_no_list_of_uids_is_asked_for_the_series(self, tmp_path: Path) -> None:
        asked: list[str] = []

        def get(request: Any) -> Iterator[Any]:
            asked.append(request.dataset.get("QueryRetrieveLevel"))
            if asked[-1] == "SERIES":
                yield from map(part10, (1, 2, 3))

        with serving(tmp_path) as (server, station, _), Told(server) as told:
            listener = dn.Listener("PEER", port=0)
            listener.on_find("STUDY")(lambda request: has(1, 2, 3))
            listener.on_get("STUDY")(get)
            with listener:
                known(server, listener)
                stored(server.peer, part10(1))
                job = station.order(Order(JobKind.RETRIEVE, "PEER", "1.2.1", by="get"))
                with told._changed:
                    assert told._changed.wait_for(lambda: station.queue.get(job.id).state.is_over, 30)
            assert station.queue.get(job.id).present == 3
        assert asked == ["IMAGE", "SERIES"]

    def test_what_is_asked_for_by_its_uid_is_all_that_comes(self, tmp_path: Path) -> None:
        with (
            Provider("PEER", matches=has(1, 2), instances=[part10(2)]) as peer,
            serving(tmp_path) as (server, station, _),
        ):
            known(server, peer)
            one = Order(JobKind.RETRIEVE, "PEER", "1.2.1", (SERIES,), (f"{SERIES}.2",), by="get")
            job = station.order(one)
            until(lambda: station.queue.get(job.id).state is JobState.DONE)
            assert station.queue.get(job.id).expected == 1
            assert peer.received[-1].dataset.SOPInstanceUID == f"{SERIES}.2"

    @pytest.mark.parametrize(
        ("status", "words"), [(0xA700, "did not take 2 of 2 instances: "), (0x0111, "")], ids=["refuses", "has it"]
    )
    def test_one_that_stores_nothing(self, tmp_path: Path, status: int, words: str) -> None:
        with Provider("PEER", status={"C-STORE": status}) as peer, serving(tmp_path) as (server, station, _):
            known(server, peer)
            stored(server.peer, part10(1), part10(2))
            job = station.order(Order(JobKind.SEND, "PEER", "1.2.1"))
            if words:
                waits = failed(station, job)
                assert (words in waits.error, waits.retry, waits.present) == (True, "partial", 0)
            else:  # a duplicate is there: nothing more is to be done
                until(lambda: station.queue.get(job.id).state is JobState.DONE)

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        with serving(tmp_path) as (server, station, _):
            server.base.ae_titles.add(AEEntry(title="PEER", host="127.0.0.1", port=1))
            stored(server.peer, part10(1))
            waits = failed(station, station.order(Order(JobKind.SEND, "PEER", "1.2.1")))
            assert ("Connection refused" in waits.error, waits.retry) == (True, "network")
            nothing = failed(station, station.order(Order(JobKind.SEND, "PEER", "1.2.404")))
            assert nothing.error == "nothing of it is here"

    def test_earlier_studies_that_cannot_be_fetched_are_logged(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with serving(tmp_path, priors_from=["GONE"], end_of_study=0.1) as (server, _, _), Told(server) as told:
            stored(server.peer, part10(1))
            told.wait_for("workstation.study_ended")
            until(lambda: "no earlier studies are fetched from GONE" in caplog.text)


@pytest.mark.parametrize(
    ("error", "retry"),
    [
        (Incomplete("a part"), "partial"),
        (AssociationRejected(2, 3, 2), "network"),
        (AssociationRejected(1, 1, 7), "once"),
        (ServiceFailure(Status(0xA701), "busy"), "busy"),
        (ServiceFailure(Status(0xC000), "no"), "partial"),
        (TLSFailed("no trust"), "once"),
        (dn.ConnectionFailed("refused"), "network"),
        (dn.DeadlineExceeded("response", 30), "network"),
        (InvalidArgument("no such title"), "once"),
    ],
)
def test_how_soon_what_failed_is_tried_again(error: DicomNetError, retry: str) -> None:
    assert retry_class_of(error) == retry


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (Order(JobKind.RETRIEVE, "PEER", "1.2/3"), '"1.2/3" is no UID'),
        (Order(JobKind.RETRIEVE, "PEER", "1.2", ("x",)), '"x" is no UID'),
        (Order(JobKind.RETRIEVE, "PEER", "1.2", by="mail"), '"mail" is no way to retrieve'),
        (Order(JobKind.RETRIEVE, "CLOUD", "1.2", by="get"), "CLOUD is asked over DICOMweb: there is no C-GET"),
    ],
)
def test_an_order_that_cannot_be(tmp_path: Path, order: Order, words: str) -> None:
    with serving(tmp_path, dicomweb={"CLOUD": "http://127.0.0.1:1/"}) as (_, station, _):
        with pytest.raises(InvalidArgument, match=words):
            station.order(order)
        with pytest.raises(InvalidArgument, match='"ROOM" is no level'):
            station.query("CLOUD", "ROOM", {})
        assert station.queue.page() == []


def test_a_study_without_a_patient_has_no_earlier_ones(tmp_path: Path) -> None:
    with serving(tmp_path) as (server, station, _):
        stored(server.peer, part10(1, PatientID=""))
        with pytest.raises(InvalidArgument, match="has no Patient ID"):
            station.prefetch("1.2.1", "PEER")


def test_an_ae_that_studies_are_fetched_from_stays_known(tmp_path: Path) -> None:
    with serving(tmp_path, priors_from=["PEER"]) as (_, _, admin):
        admin.add_ae("PEER", aliases=["OTHER"])
        admin.add_ae("FREE")
        with pytest.raises(AdminError, match="priors_from") as refused:
            admin.remove_ae("PEER")
        assert refused.value.status == 409
        admin.remove_ae("FREE")


def test_another_quota_holds_at_once_and_jobs_are_counted(tmp_path: Path) -> None:
    chosen = {"durability": "os", "end_of_study": 0.1, "open_for": 0.001}
    with serving(tmp_path, **chosen) as (server, station, _), Told(server) as told:
        stored(server.peer, part10(1, size=1 << 16))
        server.base.ae_titles.add(AEEntry(title="PEER", host="127.0.0.1", port=1))
        job = station.order(Order(JobKind.SEND, "PEER", "1.2.1"))
        failed(station, job)
        assert (
            "dicomnet_workstation_waiting 1.0"
            in server.metrics.exposition(list(server.addins.metrics.values())).decode()
        )
        station.cancel(job.id)
        told.wait_for("workstation.study_ended")
        tables = make_settings(
            server={"ae_title": SELF}, timeouts={"reconnect": 0.1},
            addin={"workstation": {**chosen, "quota": "1k"}},
        )  # fmt: skip
        server.reload(tables)
        until(lambda: not station.local())


class TestRunner:
    """Jobs of a queue without a workstation."""

    @staticmethod
    def queue(told: Callable[[Job], object] = lambda job: None) -> JobQueue:
        return JobQueue(Database(None, schema=jobs.SCHEMA, version=1), told=told)

    @pytest.mark.parametrize(
        ("raised", "error", "retry"),
        [
            (OSError(28, "No space left on device"), "[Errno 28] No space left on device", "busy"),
            (RuntimeError("DOE^JANE"), "RuntimeError: see the log", "once"),
        ],
        ids=["a full disk", "a mistake"],
    )
    def test_what_a_job_raises(
        self, raised: Exception, error: str, retry: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        def work(*_: object) -> None:
            raise raised

        queue = self.queue()
        runner = Runner(queue, work, parallel=1)
        runner.start()
        try:
            job = queue.add(Order(JobKind.SEND, "PEER", "1.2.1"))
            until(lambda: queue.get(job.id).error)
            assert (queue.get(job.id).error, queue.get(job.id).retry) == (error, retry)
        finally:
            runner.close()
        assert ("failed" in caplog.text) == (retry == "once")

    def test_a_queue_that_cannot_be_read_is_read_again(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("dicomnet.workstation.runner._IDLE", 0.1)
        queue, done = self.queue(), threading.Event()
        take, failures = queue.take, [OSError("the disk is away")]

        def take_later(**options: Any) -> Any:
            if failures:
                raise failures.pop()
            return take(**options)

        monkeypatch.setattr(queue, "take", take_later)
        runner = Runner(queue, lambda *_: done.set(), parallel=1)
        runner.start()
        try:
            queue.add(Order(JobKind.SEND, "PEER", "1.2.1"))
            assert done.wait(30)
        finally:
            runner.close()
        assert "the queue of jobs cannot go on" in caplog.text

    def test_the_oldest_that_are_over_are_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(jobs, "KEPT", 3)
        queue = self.queue()
        for number in range(1, 8):
            one = queue.add(Order(JobKind.SEND, "PEER", f"1.2.{number}"))
            queue.note_sent(one.id, [f"1.2.{number}.1"])
            queue.cancel(one.id)
        assert [one.id for one in queue.page()] == [7, 6, 5, 4]  # the three before the last was put, and that
        assert (queue.sent(3), queue.sent(4)) == (set(), {"1.2.4.1"})
