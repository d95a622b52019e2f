"""`UpsScu` and ``dicomnet ups``: with pynetdicom as provider, which answers every status, and with our archive."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import contextmanager

import archives
import clients
import peers
import pytest
from programs import ROOT, command, end, run_here, summary
from pydicom.dataset import Dataset
from test_ups import EVENT, PULL, PUSH, QUERY, WATCH

import dicomnet as dn
from dicomnet.archive.archive import Archive
from dicomnet.client import Query, Workitem, WorkitemState
from dicomnet.client.aio import UpsScu as AsyncUpsScu
from dicomnet.client.workitem import ALL, MATCHING
from dicomnet.dataset import codec

STATION, WORK = ("WS1", "99X", "Workstation 1"), ("SEG", "99X", "Segmentation")
STOPPED = ("110513", "DCM", "Discontinued for unspecified reason")
IN_PROGRESS = WorkitemState.IN_PROGRESS
UID, TXN = "1.2.3", "1.2.4"


class Manager:
    """pynetdicom as worklist manager: it takes everything, answers as it is told to, and reports."""

    def __init__(self) -> None:
        from pynetdicom import AE, evt

        self.asked: list[tuple[str, str, int, Dataset | None, str]] = []
        self.answer = 0x0000
        self.ae = AE("MANAGER")
        for one in (PUSH, PULL, WATCH, QUERY):
            self.ae.add_supported_context(one)
        handlers = [
            (evt.EVT_N_CREATE, self.create), (evt.EVT_N_SET, self.change), (evt.EVT_N_GET, self.get),
            (evt.EVT_N_ACTION, self.act), (evt.EVT_C_FIND, self.find),
        ]  # fmt: skip
        self.server = self.ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.peer = f"MANAGER@127.0.0.1:{self.server.server_address[1]}"

    def keep(self, event, what: str, uid: str, sop_class: str, dataset: Dataset | None, action: int = 0) -> int:
        assert sop_class == PUSH  # whatever is negotiated (PS3.4 Section CC.3.1)
        self.asked.append((what, uid, action, dataset, event.context.abstract_syntax))
        return self.answer

    def create(self, event):
        request = event.request
        status = self.keep(event, "create", request.AffectedSOPInstanceUID, request.AffectedSOPClassUID,
                           event.attribute_list)  # fmt: skip
        return status, event.attribute_list

    def change(self, event):
        request, changes = event.request, event.modification_list
        return self.keep(event, "set", request.RequestedSOPInstanceUID, request.RequestedSOPClassUID, changes), changes

    def get(self, event):
        request = event.request
        status = self.keep(event, "get", request.RequestedSOPInstanceUID, request.RequestedSOPClassUID, None)
        return status, codec.from_keywords({"ProcedureStepState": "SCHEDULED"})

    def act(self, event):
        request = event.request
        information = event.action_information if request.ActionInformation else None
        uid, sop_class = request.RequestedSOPInstanceUID, request.RequestedSOPClassUID
        return self.keep(event, "action", uid, sop_class, information, event.action_type), None

    def find(self, event):
        self.asked.append(("find", "", 0, event.identifier, event.context.abstract_syntax))
        if self.answer:
            yield self.answer, None
            return
        for uid in ("1.2.1", "1.2.2"):
            yield 0xFF00, codec.from_keywords({"SOPInstanceUID": uid, "ProcedureStepState": "SCHEDULED"})

    def report(self, address: tuple[str, int], event: int, **values: object) -> int:
        from pynetdicom import AE, build_role

        ae = AE("MANAGER")
        ae.add_requested_context(EVENT)
        role = build_role(EVENT, scp_role=True)
        link = peers.steadied(ae.associate(*address, ae_title="WATCHER", ext_neg=[role]))
        assert link.is_established
        status = link.send_n_event_report(codec.from_keywords(values), event, PUSH, UID, meta_uid=EVENT)[0]
        link.release()
        return status.Status


@pytest.fixture(scope="module")
def started():
    manager = Manager()
    yield manager
    manager.server.shutdown()


@pytest.fixture
def manager(started):
    started.asked.clear()
    started.answer = 0x0000
    return started


@pytest.fixture(params=clients.FACES)
def made(request):
    one = clients.Clients(request.param)
    yield one
    one.close()


@pytest.fixture
def ups(manager, made):
    with made.make("UpsScu", manager.peer, calling="WATCHER") as ups:
        yield ups


def held() -> Workitem:
    return Workitem(UID, TXN, IN_PROGRESS)


class TestPynetdicomProvides:
    def test_push(self, manager, ups):
        item = ups.create("Segment", uid=UID, PatientName="Doe^Jané", InputInformationSequence=[])
        assert (item.uid, item.state) == (UID, WorkitemState.SCHEDULED)
        ((what, uid, _, dataset, context),) = manager.asked
        assert (what, uid, context) == ("create", UID, PUSH)
        assert (dataset.ProcedureStepLabel, dataset.ProcedureStepState) == ("Segment", "SCHEDULED")
        assert dataset.PatientName == "Doe^Jané"
        assert dataset.UnifiedProcedureStepPerformedProcedureSequence == []
        ups.request_cancel(item, reason="Wrong one", code=STOPPED, contact="Dr. Who", uri="tel:1")
        _, _, action, dataset, context = manager.asked[-1]
        assert (action, dataset.ReasonForCancellation, dataset.ContactURI) == (2, "Wrong one", "tel:1")
        assert (dataset.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue, context) == ("110513", PUSH)

    def test_pull(self, manager, ups):
        assert [one.uid for one in ups.items(ProcedureStepState="SCHEDULED")] == ["1.2.1", "1.2.2"]
        assert manager.asked[-1][-1] == PULL
        assert ups.get(UID, "ProcedureStepState").ProcedureStepState == "SCHEDULED"
        item = ups.claim(UID)
        _, _, action, dataset, context = manager.asked[-1]
        assert (action, dataset.ProcedureStepState, context) == (1, "IN PROGRESS", PULL)
        assert dataset.TransactionUID == item.transaction_uid
        ups.progress(item, 12.5, "a bit")
        progress = manager.asked[-1][3]
        assert progress.TransactionUID == item.transaction_uid
        assert progress.ProcedureStepProgressInformationSequence[0].ProcedureStepProgress == 12.5
        ups.complete(item, station=STATION, work=WORK, start="20260101")
        (performed,) = manager.asked[-2][3].UnifiedProcedureStepPerformedProcedureSequence
        assert performed.PerformedStationNameCodeSequence[0].CodeValue == "WS1"
        assert performed.OutputInformationSequence == []
        assert manager.asked[-1][3].ProcedureStepState == "COMPLETED"
        assert item.state is WorkitemState.COMPLETED
        with pytest.raises(dn.LocalProtocolError):
            ups.progress(item, 100)
        item = held()
        ups.discontinue(item, reason="Broken", code=STOPPED)
        (why,) = manager.asked[-2][3].ProcedureStepProgressInformationSequence
        assert (why.ReasonForCancellation, item.state) == ("Broken", WorkitemState.CANCELED)

    def test_watch_and_query(self, manager, ups):
        assert ups.subscribe(UID, lock=True).is_success
        _, uid, action, dataset, context = manager.asked[-1]
        assert (uid, action, context) == (UID, 3, WATCH)
        assert (dataset.ReceivingAE, dataset.DeletionLock) == ("WATCHER", "TRUE")
        ups.subscribe()
        ups.subscribe(WorklistLabel="Hearts", receiver="OTHER")
        ups.unsubscribe()
        ups.suspend()
        assert [one[1:3] for one in manager.asked[1:]] == [(ALL, 3), (MATCHING, 3), (ALL, 4), (ALL, 5)]
        assert manager.asked[2][3].WorklistLabel == "Hearts"
        assert manager.asked[2][3].ReceivingAE == "OTHER"
        for model, context in (("UPS_WATCH", WATCH), ("UPS_QUERY", QUERY)):
            assert len(list(ups.items(model=model, PatientID="P1"))) == 2
            assert manager.asked[-1][-1] == context

    def test_events(self, manager, ups, made):
        with made.within(ups.watch("127.0.0.1:0")) as watch:
            assert manager.report(watch.address, 1, ProcedureStepState="COMPLETED", InputReadinessState="READY") == 0
            assert manager.report(watch.address, 2, RequestingAE="OTHER", ReasonForCancellation="Late") == 0
            assert manager.report(watch.address, 4, SCPStatus="RESTARTED") == 0
            told = [watch.next(30) for _ in range(3)]
            with pytest.raises(dn.DeadlineExceeded):
                watch.next(0)
        assert [(one.uid, one.kind, one.state) for one in told] == [
            (UID, 1, WorkitemState.COMPLETED), (UID, 2, None), (UID, 4, None),
        ]  # fmt: skip
        assert told[1].dataset.RequestingAE == "OTHER"

    def test_events_are_refused_while_too_many_wait_for_next(self, manager, ups, made, monkeypatch):
        monkeypatch.setattr(f"dicomnet.client.{made.face}.ups._MOST_TOLD", 2)
        with made.within(ups.watch("127.0.0.1:0")) as watch:
            assert [manager.report(watch.address, 4, SCPStatus="RESTARTED") for _ in range(3)] == [0, 0, 0x0213]
            assert [watch.next(30).kind for _ in range(2)] == [4, 4]
            assert manager.report(watch.address, 4, SCPStatus="RESTARTED") == 0


#: Every status of PS3.4 Annex CC by what can be answered with it (Tables CC.2.1-2, 2.2-2, 2.3-3, 2.5-4, 2.6-1, 2.7-1).
FAILURES = {
    "create": (0xC309, 0x0106, 0x0111, 0x0120, 0x0124),
    "claim": (0xC300, 0xC301, 0xC302, 0xC303, 0xC304, 0xC307, 0xC310),
    "request_cancel": (0xC311, 0xC313, 0xC307, 0xC312),
    "subscribe": (0xC307, 0xC308, 0xC314, 0xC315),
    "update": (0xC310, 0xC301, 0xC300, 0xC307),
    "get": (0xC307,),
    "items": (0xA700, 0xA900, 0x0122, 0xC001),
}
WARNINGS = {
    "create": (0xB300,), "claim": (0xB304, 0xB306), "request_cancel": (0xB304,), "subscribe": (0xB301,),
    "update": (0xB305, 0x0001),
}  # fmt: skip


def update(ups) -> dn.Status:
    item = held()
    ups.update(item, WorklistLabel="Other")
    return item.status


DO = {
    "create": lambda ups: ups.create("Segment").status,
    "claim": lambda ups: ups.claim(UID).status,
    "request_cancel": lambda ups: ups.request_cancel(UID),
    "subscribe": lambda ups: ups.subscribe(UID),
    "update": update,
    "get": lambda ups: ups.get(UID),
    "items": lambda ups: list(ups.items(PatientID="P1")),
}


def each(table):
    return [(what, status) for what, statuses in table.items() for status in statuses]


@pytest.mark.parametrize(("what", "status"), each(FAILURES))
def test_every_failure_is_told_in_the_words_of_the_standard(manager, ups, what, status):
    manager.answer = status
    with pytest.raises(dn.ServiceFailure) as caught:
        DO[what](ups)
    assert caught.value.status == status
    if what != "items":
        assert "Unknown status" not in caught.value.status.meaning
        assert caught.value.status.meaning in str(caught.value)


@pytest.mark.parametrize(("what", "status"), each(WARNINGS))
def test_every_warning_is_handed_back(manager, ups, what, status):
    manager.answer = status
    answered = DO[what](ups)
    assert (answered, answered.is_warning) == (status, True)
    assert "Unknown status" not in answered.meaning


def test_what_cannot_be_is_not_sent(manager, ups):
    for wrong in (
        lambda: ups.create(""), lambda: ups.create("x", ProcedureStepState="COMPLETED"),
        lambda: ups.create("x", NoSuchThing=1), lambda: ups.create("x", ScheduledProcedureStepStartDateTime="soon"),
        lambda: ups.subscribe(UID, WorklistLabel="x"), lambda: Workitem("1.02"), lambda: list(ups.items(NoSuchThing=1)),
        lambda: ups.discontinue(Workitem(UID)), lambda: ups.watch("nowhere"),
        lambda: list(ups.items(Query(model="UPS"), PatientID="P1")),
    ):  # fmt: skip
        with pytest.raises((dn.InvalidArgument, dn.LocalProtocolError)):
            wrong()
    assert manager.asked == []


@contextmanager
def archive_at(directory, port: int):
    destinations = {"WATCHER": dn.Entity("WATCHER", "127.0.0.1", port)}
    with Archive(directory, archives.make(directory, destinations=destinations)) as archive:
        yield f"ARCHIVE@127.0.0.1:{archive.listener.address[1]}"


def test_by_asyncio_from_the_start_to_the_end(tmp_path):
    async def run() -> list[object]:
        port = peers.free_port()
        with archive_at(tmp_path / "archive", port) as peer:
            async with AsyncUpsScu(peer, calling="WATCHER") as ups, ups.watch(f"127.0.0.1:{port}") as watch:
                item = await ups.create("Segment", WorklistLabel="Lungs")
                await ups.subscribe(item)
                [found] = [one async for one in ups.items(WorklistLabel="Lungs")]
                mine = await ups.claim(found.uid)
                await ups.progress(mine, 50)
                await ups.request_cancel(item, reason="Late")
                await ups.complete(mine, station=STATION, work=WORK, start="20260101")
                told = [await watch.next(30) for _ in range(5)]
                return [one.state.value if one.state else one.kind for one in told]

    assert asyncio.run(run()) == ["SCHEDULED", "IN PROGRESS", 3, 2, "COMPLETED"]


def test_the_command(tmp_path):
    port = peers.free_port()
    with archive_at(tmp_path / "archive", port) as peer:
        watch = command("ups", "watch", peer, "--listen", f"127.0.0.1:{port}", "--limit", 4, "--aet", "WATCHER")
        watching = subprocess.Popen(watch, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        try:
            assert watching.stdout is not None
            assert "tells us at" in watching.stdout.readline()  # from now on
            made = run_here("ups", "create", peer, "Segment", "-k", "WorklistLabel=Lungs", "--json")
            uid = summary(made.stdout)["uid"]
            lock = ("--txn", summary(run_here("ups", "claim", peer, uid, "--json").stdout)["transaction_uid"])
            assert run_here("ups", "set", peer, uid, *lock, "--percent", 50).returncode == 0
            codes = ("--station", "WS1:99X:One", "--work", "SEG:99X:Segmentation")
            assert run_here("ups", "complete", peer, uid, *lock, *codes, "--start", "2026").returncode == 0
            seen = watching.stdout.read().splitlines()
        finally:
            end(watching)
        told = ["state SCHEDULED", "state IN PROGRESS", "progress", "state COMPLETED"]
        assert seen[:4] == [f"{uid}: {one}" for one in told]
        assert uid in run_here("ups", "find", peer, "-k", "ProcedureStepState=COMPLETED").stdout
        assert "COMPLETED" in run_here("ups", "get", peer, uid).stdout
        late = run_here("ups", "claim", peer, uid)
        assert (late.returncode != 0, "0xC301" in late.stderr, len(late.stderr.splitlines())) == (True, True, 1)
        assert run_here("ups", "cancel", peer, "1.2.999").returncode != 0
        wrong = run_here("ups", "complete", peer, uid, *lock, "--station", "WS1", "--work", "x", "--start", "2026")
        assert (wrong.returncode, "is no code" in wrong.stderr) == (2, True)
