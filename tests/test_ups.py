"""Unified procedure steps over DIMSE (PS3.4 Annex CC): pynetdicom as user, and every state and status of an archive."""

from __future__ import annotations

import itertools
import json
import threading
from contextlib import contextmanager

import archives
import peers
import pytest
from pydicom.dataset import Dataset
from rig import PATIENCE
from test_web_workitems import PERFORMED, new
from web_archives import client, element
from websockets.sync.client import connect as websocket

import dicomnet as dn
from dicomnet import uids
from dicomnet.archive import workitem_reporter
from dicomnet.archive.archive import Archive
from dicomnet.archive.dicom_json import dataset_of_json
from dicomnet.archive.web import web_application
from dicomnet.repository.workitem_rules import CANCELED, COMPLETED, IN_PROGRESS, SCHEDULED
from dicomnet.repository.workitems import FILTERED, GLOBAL
from dicomnet.status import Status
from dicomnet.web.serving import WebServing

PUSH, PULL = uids.UNIFIED_PROCEDURE_STEP_PUSH, uids.UNIFIED_PROCEDURE_STEP_PULL
WATCH, EVENT, QUERY = (
    uids.UNIFIED_PROCEDURE_STEP_WATCH, uids.UNIFIED_PROCEDURE_STEP_EVENT, uids.UNIFIED_PROCEDURE_STEP_QUERY
)  # fmt: skip
STATES = (SCHEDULED, IN_PROGRESS, COMPLETED, CANCELED)
numbers = itertools.count(1)


def a_dataset(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


class Watcher:
    """pynetdicom, told of work items."""

    def __init__(self) -> None:
        from pynetdicom import AE, evt

        self.told: list[tuple[str, int, Dataset]] = []
        self.news = threading.Condition()
        ae = AE("WATCHER")
        ae.add_supported_context(EVENT, scu_role=True, scp_role=True)
        handlers = [(evt.EVT_N_EVENT_REPORT, self._take)]
        self.server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)

    @property
    def port(self) -> int:
        return self.server.server_address[1]

    def _take(self, event) -> tuple[int, None]:
        request = event.request
        assert request.AffectedSOPClassUID == PUSH
        with self.news:
            self.told.append((str(request.AffectedSOPInstanceUID), event.event_type, event.event_information))
            self.news.notify_all()
        return 0x0000, None

    def of(self, uid: str, count: int) -> list[tuple[int, Dataset]]:
        """The first events of an item, as many as are waited for."""

        def mine() -> list[tuple[int, Dataset]]:
            return [(kind, information) for one, kind, information in self.told if one == uid]

        with self.news:
            assert self.news.wait_for(lambda: len(mine()) >= count, PATIENCE), mine()
            return mine()


class Site:
    """An archive with its web services, and pynetdicom as its user and as one who is told."""

    def __init__(self, directory, **settings) -> None:
        self.watcher = Watcher()
        destinations = {"WATCHER": dn.Entity("WATCHER", "127.0.0.1", self.watcher.port)}
        self.settings = archives.make(directory, destinations=destinations, **settings)
        self.directory = directory

    @contextmanager
    def serving(self):
        archive = Archive(self.directory, self.settings)
        app = web_application(archive.holdings, archive.storage, steps=archive.steps)
        with archive, WebServing(app, "127.0.0.1", 0) as web, client(f"{web.url.rstrip('/')}/dicomweb") as self.http:
            self.archive, self.url = archive, web.url.rstrip("/")
            yield self

    @contextmanager
    def link(self, *classes: str):
        from pynetdicom import AE

        ae = AE("PERFORMER")
        for one in classes or (PUSH, PULL, WATCH, QUERY):
            ae.add_requested_context(one, uids.EXPLICIT_VR_LITTLE_ENDIAN)
        association = peers.steadied(ae.associate(*self.archive.listener.address, ae_title="ARCHIVE"))
        assert association.is_established
        yield association
        association.release()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("ups") / "archive")
    with site.serving():
        yield site
    site.watcher.server.shutdown()


@pytest.fixture
def link(site):
    with site.link() as link:
        yield link


class Step:
    """A step in a state, by pynetdicom alone."""

    def __init__(self, link, state: str = SCHEDULED, **more: object) -> None:
        self.link, self.uid, self.txn = link, f"1.2.5.{next(numbers)}", ""
        assert link.send_n_create(dataset_of_json(new(**more)), PUSH, self.uid)[0].Status == 0
        if state in (IN_PROGRESS, COMPLETED, CANCELED):
            self.txn = uids.new()
            assert self.to(IN_PROGRESS, self.txn) == 0
        if state == COMPLETED:
            assert self.set(dataset_of_json(PERFORMED)) == 0
        if state in (COMPLETED, CANCELED):
            assert self.to(state, self.txn) == 0
        assert self.state == state

    def to(self, state: str, txn: str) -> int:
        information = a_dataset(ProcedureStepState=state)
        if txn:
            information.TransactionUID = txn
        return self.link.send_n_action(information, 1, PUSH, self.uid, meta_uid=PULL)[0].Status

    def set(self, changes: Dataset, txn: str | None = None) -> int:
        if txn or (txn is None and self.txn):
            changes.TransactionUID = txn or self.txn
        return self.link.send_n_set(changes, PUSH, self.uid, meta_uid=PULL)[0].Status

    def act(self, action: int, information: Dataset | None = None, uid: str = "", context: str = WATCH) -> int:
        return self.link.send_n_action(information, action, PUSH, uid or self.uid, meta_uid=context)[0].Status

    def watch(self, lock: str = "FALSE", uid: str = "", who: str = "WATCHER", **keys: object) -> int:
        return self.act(3, a_dataset(ReceivingAE=who, DeletionLock=lock, **keys), uid)

    def unwatch(self, uid: str = "", action: int = 4) -> int:
        return self.act(action, a_dataset(ReceivingAE="WATCHER"), uid)

    @property
    def item(self) -> Dataset:
        status, item = self.link.send_n_get([], PUSH, self.uid, meta_uid=PULL)
        assert status.Status == 0
        return item

    @property
    def state(self) -> str:
        return self.item.ProcedureStepState


# PS3.4 Table CC.1.1-2 with the right Transaction UID: state, asked for -> status, state after.
TABLE = {
    (SCHEDULED, SCHEDULED): (0xC303, SCHEDULED), (SCHEDULED, IN_PROGRESS): (0x0000, IN_PROGRESS),
    (SCHEDULED, COMPLETED): (0xC310, SCHEDULED), (SCHEDULED, CANCELED): (0xC310, SCHEDULED),
    (IN_PROGRESS, SCHEDULED): (0xC303, IN_PROGRESS), (IN_PROGRESS, IN_PROGRESS): (0xC302, IN_PROGRESS),
    (IN_PROGRESS, COMPLETED): (0xC304, IN_PROGRESS), (IN_PROGRESS, CANCELED): (0x0000, CANCELED),
    (COMPLETED, SCHEDULED): (0xC303, COMPLETED), (COMPLETED, IN_PROGRESS): (0xC300, COMPLETED),
    (COMPLETED, COMPLETED): (0xB306, COMPLETED), (COMPLETED, CANCELED): (0xC300, COMPLETED),
    (CANCELED, SCHEDULED): (0xC303, CANCELED), (CANCELED, IN_PROGRESS): (0xC300, CANCELED),
    (CANCELED, COMPLETED): (0xC300, CANCELED), (CANCELED, CANCELED): (0xB304, CANCELED),
}  # fmt: skip


class TestStates:
    @pytest.mark.parametrize(("state", "wanted"), TABLE)
    def test_every_state_asked_for_every_state(self, link, state, wanted):
        step = Step(link, state)
        assert (step.to(wanted, step.txn or uids.new()), step.state) == TABLE[state, wanted]

    @pytest.mark.parametrize("state", STATES)
    @pytest.mark.parametrize("wanted", [IN_PROGRESS, COMPLETED, CANCELED])
    def test_without_the_right_transaction_uid(self, link, state, wanted):
        step = Step(link, state)
        assert (step.to(wanted, ""), step.state) == (0xC301, state)
        if state != SCHEDULED:  # there is no right one yet
            assert (step.to(wanted, uids.new()), step.state) == (0xC301, state)

    @pytest.mark.parametrize("wanted", STATES)
    def test_of_a_step_that_is_not_there(self, link, wanted):
        step = Step(link)
        step.uid = "1.2.999"
        assert step.to(wanted, uids.new()) == 0xC307

    @pytest.mark.parametrize(("state", "status", "after"), [
        (SCHEDULED, 0x0000, CANCELED), (IN_PROGRESS, 0xC312, IN_PROGRESS), (COMPLETED, 0xC311, COMPLETED),
        (CANCELED, 0xB304, CANCELED),
    ])  # fmt: skip
    @pytest.mark.parametrize("context", [PUSH, WATCH])
    def test_a_request_to_cancel(self, link, state, status, after, context):
        step = Step(link, state)
        assert (step.act(2, None, context=context), step.state) == (status, after)
        assert step.act(2, None, "1.2.999") == 0xC307

    def test_what_state_there_is_none(self, link):
        assert Step(link).to("PAUSED", uids.new()) == 0x0106


class TestAttributes:
    @pytest.mark.parametrize(("change", "status"), [
        ({"00741000": element("CS", COMPLETED)}, 0xC309), ({"00741204": {"vr": "LO"}}, 0x0121),
        ({"00404041": element("CS", "MAYBE")}, 0x0106), ({"00081195": element("UI", "1.2")}, 0x0106),
        ({"00741202": {"vr": "LO"}}, 0xB300),
    ])  # fmt: skip
    def test_how_a_step_begins(self, link, change, status):
        assert link.send_n_create(dataset_of_json(new(**change)), PUSH, uids.new())[0].Status == status

    def test_what_is_missing_or_there(self, link):
        item = dataset_of_json(new())
        step = Step(link)
        assert link.send_n_create(item, PUSH, step.uid)[0].Status == 0x0111
        del item.InputReadinessState
        answer = link.send_n_create(item, PUSH, uids.new())[0]
        assert (answer.Status, answer.ErrorComment) == (0x0120, "the work item has no Input Readiness State")
        assert link.send_n_create(dataset_of_json(new()), PULL, uids.new(), meta_uid=PUSH)[0].Status == 0x0119

    @pytest.mark.parametrize(("state", "txn", "status"), [
        (SCHEDULED, "", 0x0000), (SCHEDULED, "1.2.3", 0xC310), (IN_PROGRESS, "1.2.3", 0xC301),
        (COMPLETED, None, 0xC300), (CANCELED, None, 0xC300),
    ])  # fmt: skip
    def test_who_may_change_it_when(self, link, state, txn, status):
        assert Step(link, state).set(a_dataset(ProcedureStepLabel="Other"), txn) == status

    def test_the_performer_changes_it(self, link):
        step = Step(link, IN_PROGRESS)
        assert step.set(a_dataset(ProcedureStepLabel="Other")) == 0
        assert step.item.ProcedureStepLabel == "Other"
        for settled in ({"PatientID": "P2"}, {"ProcedureStepState": COMPLETED}, {"AdmissionID": "1"}):
            assert step.set(a_dataset(**settled)) == 0x0106
        assert step.set(a_dataset(StudyInstanceUID="1.2.3")) == 0  # that is not known before
        step.uid = "1.2.999"
        assert step.set(a_dataset(ProcedureStepLabel="x")) == 0xC307

    def test_what_was_asked_for_and_never_the_lock(self, link):
        step = Step(link, IN_PROGRESS)
        assert "TransactionUID" not in step.item
        for context in (PUSH, PULL, WATCH):
            status, item = link.send_n_get([0x00741000, 0x00081195], PUSH, step.uid, meta_uid=context)
            assert (status.Status, item.ProcedureStepState, len(item)) == (0x0001, IN_PROGRESS, 2)
        assert link.send_n_get([0x00741000], PUSH, step.uid, meta_uid=PULL)[0].Status == 0
        assert link.send_n_get([], PUSH, "1.2.999", meta_uid=PULL)[0].Status == 0xC307

    def test_what_is_not_negotiated(self, link):
        step = Step(link)
        assert step.act(1, a_dataset(ProcedureStepState=IN_PROGRESS, TransactionUID="1.2")) == 0x0123
        assert step.act(3, a_dataset(ReceivingAE="WATCHER", DeletionLock="FALSE"), context=PULL) == 0x0123
        assert step.act(9, None) == 0x0123
        assert link.send_n_set(a_dataset(ProcedureStepLabel="x"), PUSH, step.uid)[0].Status == 0x0211


class TestQueries:
    @pytest.mark.parametrize("model", [PULL, WATCH, QUERY])
    def test_by_each_model(self, link, model):
        step = Step(link, **{"00741202": element("LO", f"Label {model}")})
        keys = a_dataset(WorklistLabel=f"label {model}".capitalize(), ProcedureStepState=SCHEDULED, SOPInstanceUID="",
                         PatientName="doe*", ScheduledProcedureStepStartDateTime="20260101-20260102",
                         ScheduledStationNameCodeSequence=[])  # fmt: skip
        found = [one for status, one in link.send_c_find(keys, model) if status.Status == 0xFF00]
        assert [one.SOPInstanceUID for one in found] == [step.uid]
        assert found[0].PatientName == "Doe^Jane"
        assert "InputReadinessState" not in found[0]
        keys.ProcedureStepState = COMPLETED
        assert [status.Status for status, _ in link.send_c_find(keys, model)] == [0x0000]

    def test_keys_that_make_no_sense(self, link):
        Step(link)
        keys = a_dataset(ScheduledProcedureStepStartDateTime="20261301")
        (answer,) = (status for status, _ in link.send_c_find(keys, PULL))
        assert (answer.Status, answer.OffendingElement) == (0xA900, 0x00404005)
        keys = a_dataset(SOPInstanceUID="", AcquisitionComments="x")  # which is no key of these
        assert next(link.send_c_find(keys, PULL))[0].Status == 0xFF01


class TestSubscriptions:
    def test_from_the_state_to_the_end(self, site, link):
        step = Step(link)
        assert step.watch() == 0
        step.txn = uids.new()
        step.to(IN_PROGRESS, step.txn)
        step.set(a_dataset(ProcedureStepProgressInformationSequence=[a_dataset(ProcedureStepProgress="50")]))
        station = a_dataset(CodeValue="WS2", CodingSchemeDesignator="99X", CodeMeaning="Workstation 2")
        step.set(a_dataset(ScheduledStationNameCodeSequence=[station]))
        step.set(a_dataset(InputReadinessState="INCOMPLETE"))
        assert step.act(2, a_dataset(ReasonForCancellation="Too late")) == 0
        step.to(CANCELED, step.txn)
        told = site.watcher.of(step.uid, 7)
        assert [kind for kind, _ in told] == [1, 1, 3, 5, 1, 2, 1]
        states = [one.ProcedureStepState for kind, one in told if kind == 1]
        assert states == [SCHEDULED, IN_PROGRESS, IN_PROGRESS, CANCELED]
        assert told[2][1].ProcedureStepProgressInformationSequence[0].ProcedureStepProgress == 50
        assert told[3][1].ScheduledStationNameCodeSequence[0].CodeValue == "WS2"
        assert (told[5][1].RequestingAE, told[5][1].ReasonForCancellation) == ("PERFORMER", "Too late")
        assert told[6][1].ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"

    def test_to_all_then_suspended_then_to_none(self, site, link):
        old = Step(link)
        assert old.watch("TRUE", GLOBAL) == 0
        later = Step(link)
        assert [kind for kind, _ in site.watcher.of(old.uid, 1) + site.watcher.of(later.uid, 1)] == [1, 1]
        assert old.unwatch(GLOBAL, 5) == 0
        unheard = Step(link)
        later.to(IN_PROGRESS, uids.new())
        site.watcher.of(later.uid, 2)
        assert old.unwatch(GLOBAL) == 0
        old.to(IN_PROGRESS, uids.new())
        last = Step(link)
        assert last.watch() == 0
        site.watcher.of(last.uid, 1)
        told = [uid for uid, _, _ in site.watcher.told]
        assert (told.count(old.uid), told.count(unheard.uid)) == (1, 0)
        last.unwatch()

    def test_to_those_that_match(self, site, link):
        other = Step(link)
        assert other.watch(uid=FILTERED, WorklistLabel="Knees") == 0
        knee = Step(link, **{"00741202": element("LO", "Knees")})
        assert len(site.watcher.of(knee.uid, 1)) == 1
        assert other.unwatch(GLOBAL) == 0

    def test_what_is_refused(self, site, link):
        step = Step(link)
        assert step.watch(who="STRANGER") == 0xC308
        assert step.watch(uid="1.2.999") == 0xC307
        assert step.watch("MAYBE") == 0x0115
        assert step.watch(uid=FILTERED) == 0x0115
        assert step.unwatch("1.2.999") == 0xC307
        assert step.unwatch(action=5) == 0xC314
        assert step.act(4, a_dataset(DeletionLock="TRUE")) == 0x0115
        site.archive.holdings.workitems._most_locks = 0
        try:
            assert step.watch("TRUE") == 0xB301
        finally:
            site.archive.holdings.workitems._most_locks = 10_000
            step.unwatch()


class TestBothWays:
    """One step: pynetdicom over DIMSE, and UPS-RS."""

    def test_the_same_step_the_same_lock_the_same_events(self, site, link):
        uid, path = "1.2.6.1", "/workitems/1.2.6.1"
        assert site.http.post(f"/workitems?{uid}", json=new()).status_code == 201
        with websocket(f"ws{site.url.removeprefix('http')}/dicomweb/subscribers/WATCHER", open_timeout=30) as channel:
            step = Step(link)
            step.uid = uid
            assert step.watch() == 0  # by DIMSE, for both
            step.txn = uids.new()
            assert step.to(IN_PROGRESS, step.txn) == 0
            state = {"00741000": element("CS", COMPLETED), "00081195": element("UI", uids.new())}
            assert site.http.put(f"{path}/state", json=state).status_code == 400  # it is locked
            assert site.http.post(f"{path}?{step.txn}", json=PERFORMED).status_code == 200
            state["00081195"] = element("UI", step.txn)
            assert site.http.put(f"{path}/state", json=state).status_code == 200
            assert step.state == COMPLETED
            heard = [json.loads(channel.recv(timeout=30)) for _ in range(3)]
        assert [one["00741000"]["Value"][0] for one in heard] == [SCHEDULED, IN_PROGRESS, COMPLETED]
        states = [one.ProcedureStepState for _, one in site.watcher.of(uid, 3)]
        assert states == [SCHEDULED, IN_PROGRESS, COMPLETED]

    @pytest.mark.parametrize("value", [
        {"00741002": element("SQ", {"00741004": element("DS", "abc")})}, {"00280010": element("US", 70000)},
    ])  # fmt: skip
    def test_what_dimse_could_not_tell_is_not_taken_by_http(self, site, link, value):
        step = Step(link)
        assert site.http.post(f"/workitems/{step.uid}", json=value).status_code == 400
        assert step.state == SCHEDULED

    def test_what_was_subscribed_by_http_is_reported_by_dimse(self, site, link):
        step = Step(link)
        assert site.http.post(f"/workitems/{step.uid}/subscribers/WATCHER").status_code == 201
        assert site.watcher.of(step.uid, 1)[0][1].ProcedureStepState == SCHEDULED


def test_what_cannot_be_encoded_is_no_reason_to_tell_of_nothing_more(tmp_path, monkeypatch):
    site = Site(tmp_path / "archive")
    real = workitem_reporter.dataset_of_json

    def fails_once(item):
        monkeypatch.setattr(workitem_reporter, "dataset_of_json", real)
        raise ValueError("a value that has no encoding")

    try:
        with site.serving(), site.link() as link:
            monkeypatch.setattr(workitem_reporter, "dataset_of_json", fails_once)
            step = Step(link)
            assert step.watch() == 0  # its first report is the one that fails
            step.to(IN_PROGRESS, uids.new())
            assert site.watcher.of(step.uid, 1)[0][1].ProcedureStepState == IN_PROGRESS
    finally:
        site.watcher.server.shutdown()


def test_those_that_the_settings_name_are_told_of_the_start_too(tmp_path):
    site = Site(tmp_path / "archive", workitems_to=("WATCHER",))
    try:
        with site.serving():
            ((kind, told),) = site.watcher.of(GLOBAL, 1)
        assert (kind, told.SCPStatus) == (4, "RESTARTED")
    finally:
        site.watcher.server.shutdown()


def test_one_that_does_not_answer_holds_up_no_other(tmp_path):
    """A subscriber whose port takes connections and says nothing."""
    site = Site(tmp_path / "archive")
    with peers.full_backlog() as port:
        site.settings.destinations["SILENT"] = dn.Entity("SILENT", "127.0.0.1", port)
        with site.serving(), site.link() as link:
            step = Step(link)
            assert step.watch(who="SILENT") == 0
            assert step.watch() == 0
            step.to(IN_PROGRESS, uids.new())
            assert [one.ProcedureStepState for _, one in site.watcher.of(step.uid, 2)] == [SCHEDULED, IN_PROGRESS]
            site.archive.reporter.patience = 0.0  # for the one that is silent, at the end
    site.watcher.server.shutdown()


def test_after_a_restart_subscribers_are_told_so(tmp_path):
    site = Site(tmp_path / "archive")
    try:
        with site.serving(), site.link() as link:
            step = Step(link)
            step.watch("TRUE")
            site.watcher.of(step.uid, 1)
        with site.serving(), site.link() as link:
            ((kind, told),) = site.watcher.of(GLOBAL, 1)
            said = told.SCPStatus, told.SubscriptionListStatus, told.UnifiedProcedureStepListStatus
            assert (kind, said) == (4, ("RESTARTED", "WARM START", "WARM START"))
            step.link = link
            assert step.to(IN_PROGRESS, uids.new()) == 0
            assert site.watcher.of(step.uid, 2)[1][1].ProcedureStepState == IN_PROGRESS
    finally:
        site.watcher.server.shutdown()


def test_one_that_refuses_a_report_is_told_the_next(tmp_path, caplog):
    site, told, news = Site(tmp_path / "archive"), [], threading.Semaphore(0)

    def refuse(request):
        told.append(str(request.dataset.ProcedureStepState))
        news.release()
        return Status.PROCESSING_FAILURE

    with dn.Listener("REFUSES", port=0) as listener:
        listener.on_event_report(EVENT)(refuse)
        listener.on_event_report(PUSH)(refuse)
        site.settings.destinations["REFUSES"] = dn.Entity("REFUSES", *listener.address)
        with site.serving(), site.link() as link:
            step = Step(link)
            assert step.watch(who="REFUSES") == 0
            step.to(IN_PROGRESS, uids.new())
            for _ in range(2):
                assert news.acquire(timeout=PATIENCE)
    site.watcher.server.shutdown()
    assert told == [SCHEDULED, IN_PROGRESS]
    assert "REFUSES answered a report of a work item with 0x0110" in caplog.text
    assert "dropped" not in caplog.text


def test_one_that_does_not_keep_up_loses_the_oldest(tmp_path, monkeypatch, caplog):
    """It takes one connection, and says nothing while more is to be told than is kept."""
    monkeypatch.setattr(workitem_reporter, "MOST_WAITING", 2)
    site = Site(tmp_path / "archive")
    with peers.full_backlog() as port:
        site.settings.destinations["SLOW"] = dn.Entity("SLOW", "127.0.0.1", port)
        with site.serving(), site.link() as link:
            step = Step(link)
            assert step.watch(who="SLOW") == 0
            for percent in ("10", "20", "30", "40"):
                progress = a_dataset(ProcedureStepProgress=percent)
                assert step.set(a_dataset(ProcedureStepProgressInformationSequence=[progress])) == 0
            site.archive.reporter.patience = 0.0
            waiting = site.archive.reporter._waiting["SLOW"]
            assert len(waiting) <= 2
    site.watcher.server.shutdown()
    assert "SLOW does not keep up with work items: the oldest of 2 notices is dropped" in caplog.text


def test_a_work_item_of_a_uid_that_is_none(link):
    assert link.send_n_create(dataset_of_json(new()), PUSH, "1.2.03")[0].Status == 0x0117


def test_more_work_items_than_anybody_wants(link, monkeypatch):
    monkeypatch.setattr("dicomnet.archive.workitems.MOST_MATCHES", 1)
    label = f"Many {next(numbers)}"
    for _ in range(2):
        Step(link, **{"00741202": element("LO", label)})
    keys = a_dataset(WorklistLabel=label, SOPInstanceUID="")
    assert [status.Status for status, _ in link.send_c_find(keys, PULL)] == [0xFF00, 0xA700]


def test_a_subscription_to_those_of_a_station(site, link):
    """Keys within a sequence (PS3.4 Section CC.2.3.1)."""

    def station(code):
        return a_dataset(CodeValue=code, CodingSchemeDesignator="99X", CodeMeaning=code)

    other = Step(link)
    assert other.watch(uid=FILTERED, ScheduledStationNameCodeSequence=[a_dataset(CodeValue="WS7")]) == 0
    code = {"00080100": element("SH", "WS7"), "00080102": element("SH", "99X"), "00080104": element("LO", "WS7")}
    step = Step(link, **{"00404025": {"vr": "SQ", "Value": [code]}})
    assert site.watcher.of(step.uid, 1)[0][1].ProcedureStepState == SCHEDULED
    assert other.uid not in {uid for uid, _, _ in site.watcher.told}
    assert other.unwatch(GLOBAL) == 0
