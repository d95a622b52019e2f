"""Performed procedure steps by the rules of PS3.4 Annex F, their links to the worklist, and where they go on to."""

from __future__ import annotations

import threading

import archives
import peers
import pytest
from rig import until

import dicomnet as dn
from dicomnet import uids
from dicomnet.archive.archive import Archive
from dicomnet.archive.dicom_json import json_of_dataset
from dicomnet.archive.worklist_files import item_of_keywords
from dicomnet.dataset import codec
from dicomnet.repository.outbox import ItemState, Outbox
from dicomnet.repository.performed_steps import PerformedSteps
from dicomnet.repository.worklist import Worklist
from dicomnet.status import Status

PATIENCE = 30
MPPS = uids.MODALITY_PERFORMED_PROCEDURE_STEP
SCHEDULED = {
    "PatientName": "Müller^Jörg",
    "PatientID": "P1",
    "AccessionNumber": "A1",
    "RequestedProcedureID": "R1",
    "StudyInstanceUID": "1.2.1",
    "ScheduledProcedureStepSequence": [
        {"ScheduledProcedureStepID": f"S{number}", "Modality": "CT", "ScheduledProcedureStepStartDate": "20260131"}
        for number in (1, 2)
    ],
}
BEGINNING = {
    "PatientName": "Müller^Jörg",
    "SpecificCharacterSet": "ISO_IR 100",
    "PatientID": "P1",
    "Modality": "CT",
    "PerformedStationAETitle": "CT1",
    "PerformedProcedureStepStartDate": "20260131",
    "PerformedProcedureStepStartTime": "1000",
    "PerformedProcedureStepStatus": "IN PROGRESS",
    "PerformedProcedureStepID": "1",
    "ScheduledStepAttributesSequence": [{"StudyInstanceUID": "1.2.1", "ScheduledProcedureStepID": "S1"}],
}
END = {"PerformedProcedureStepStatus": "COMPLETED", "PerformedSeriesSequence": [{"SeriesInstanceUID": "1.2.1.1"}]}


def a_dataset(values, **keywords):
    return codec.from_keywords({key: value for key, value in (values | keywords).items() if value is not None})


def stations_of(archive):
    """The states of the scheduled steps, by their IDs."""
    (entry,) = Worklist(archive.holdings.database)
    return {step["00400009"]["Value"][0]: step["00400020"]["Value"][0] for step in entry.steps}


def step_of(archive, uid):
    with archive.holdings.database.read() as connection:
        return PerformedSteps().get(connection, uid)


def peer_of(archive):
    return dn.Entity("ARCHIVE", *archive.listener.address)


def connected(archive, *classes):
    contexts = dn.contexts.sop_classes(MPPS, *classes)
    return dn.connect(peer_of(archive), calling="CT1", contexts=contexts)


def status_of(call, *arguments):
    """The status of a service, also where it is a failure."""
    try:
        return call(*arguments).status
    except dn.errors.ServiceFailure as error:
        return error.status


@pytest.fixture
def archive(tmp_path):
    with Archive(tmp_path / "archive", archives.make(tmp_path / "archive")) as archive:
        archive.steps._patience = 0.0
        Worklist(archive.holdings.database).add(item_of_keywords(SCHEDULED))
        yield archive


class TestRows:
    def test_a_step_in_both_databases(self, database):
        Worklist(database).add(item_of_keywords(SCHEDULED))
        steps = PerformedSteps()
        with database.write() as connection:
            assert (
                steps.create(connection, "1.2.3", json_of_dataset(a_dataset(BEGINNING, PatientID="P1\0")), "CT1") == 1
            )
        with database.write() as connection:
            step = steps.get(connection, "1.2.3", lock=True)
            assert steps.change(connection, step, json_of_dataset(a_dataset(END))).has_ended
        with database.read() as connection:
            step = steps.get(connection, "1.2.3")
            assert steps.get(connection, "1.2.4") is None
        assert (step.status, step.item["00100020"]["Value"]) == ("COMPLETED", ["P1"])
        (entry,) = Worklist(database)
        assert [one["00400020"]["Value"][0] for one in entry.steps] == ["COMPLETED", "SCHEDULED"]


class TestRules:
    def test_it_begins_and_ends_and_stays(self, archive):
        with connected(archive) as association:
            assert association.n_create(MPPS, "1.2.3", a_dataset(BEGINNING)).status.is_success
            assert stations_of(archive) == {"S1": "STARTED", "S2": "SCHEDULED"}
            assert status_of(association.n_create, MPPS, "1.2.3", a_dataset(BEGINNING)) == 0x0111
            assert association.n_set(MPPS, "1.2.3", a_dataset(END)).status.is_success
            assert stations_of(archive) == {"S1": "COMPLETED", "S2": "SCHEDULED"}
            for again in (
                END,
                {"PerformedProcedureStepStatus": "DISCONTINUED"},
                {"CommentsOnThePerformedProcedureStep": "x"},
            ):
                status = status_of(association.n_set, MPPS, "1.2.3", a_dataset(again))
                assert (status, status.error_id) == (0x0110, 0xA710)
        assert stations_of(archive) == {"S1": "COMPLETED", "S2": "SCHEDULED"}
        assert step_of(archive, "1.2.3").item["00100010"]["Value"] == [{"Alphabetic": "Müller^Jörg"}]

    def test_one_that_is_discontinued(self, archive):
        with connected(archive) as association:
            association.n_create(MPPS, "1.2.3", a_dataset(BEGINNING))
            association.n_set(MPPS, "1.2.3", a_dataset({"PerformedProcedureStepStatus": "DISCONTINUED"}))
        assert stations_of(archive)["S1"] == "DISCONTINUED"

    def test_one_that_performs_two_scheduled_steps(self, archive):
        both = [{"StudyInstanceUID": "1.2.1", "ScheduledProcedureStepID": one} for one in ("S1", "S2")]
        with connected(archive) as association:
            association.n_create(MPPS, "1.2.3", a_dataset(BEGINNING, ScheduledStepAttributesSequence=both))
        assert stations_of(archive) == {"S1": "STARTED", "S2": "STARTED"}

    @pytest.mark.parametrize("study", ["1.2.1", "1.2.77"])
    def test_one_that_was_not_scheduled(self, archive, study):
        unscheduled = [{"StudyInstanceUID": study, "ScheduledProcedureStepID": None}]
        with connected(archive) as association:
            dataset = a_dataset(BEGINNING, ScheduledStepAttributesSequence=unscheduled)
            assert association.n_create(MPPS, "1.2.3", dataset).status.is_success
            assert association.n_set(MPPS, "1.2.3", a_dataset(END)).status.is_success
        assert stations_of(archive) == {"S1": "SCHEDULED", "S2": "SCHEDULED"}

    def test_without_a_uid_one_is_made_and_returned(self, archive):
        with connected(archive) as association:
            reply = association.mpps_create(a_dataset(BEGINNING))
        assert uids.is_valid(reply.sop_instance_uid)
        assert step_of(archive, reply.sop_instance_uid).status == "IN PROGRESS"

    def test_one_that_is_not_known(self, archive):
        with connected(archive) as association:
            assert status_of(association.n_set, MPPS, "1.2.9", a_dataset(END)) == 0x0112
            assert status_of(association.n_get, MPPS, "1.2.9") == 0x0112

    @pytest.mark.parametrize(
        ("changed", "code", "tag"),
        [
            ({"Modality": None}, 0x0120, 0x00080060),
            ({"ScheduledStepAttributesSequence": None}, 0x0120, 0x00400270),
            ({"PerformedProcedureStepStatus": None}, 0x0120, 0x00400252),
            ({"PerformedProcedureStepID": ""}, 0x0121, 0x00400253),
            ({"ScheduledStepAttributesSequence": []}, 0x0121, 0x00400270),
            ({"ScheduledStepAttributesSequence": [{"StudyInstanceUID": ""}]}, 0x0121, 0x0020000D),
            ({"ScheduledStepAttributesSequence": [{"StudyInstanceUID": "1.2.03"}]}, 0x0106, 0x0020000D),
            ({"PerformedProcedureStepStatus": "COMPLETED"}, 0x0106, 0x00400252),
        ],
    )
    def test_a_beginning_that_is_none(self, archive, changed, code, tag):
        with connected(archive) as association:
            status = status_of(association.n_create, MPPS, "1.2.3", a_dataset(BEGINNING, **changed))
        assert (status, status.offending) == (code, (tag,))
        assert step_of(archive, "1.2.3") is None
        assert stations_of(archive)["S1"] == "SCHEDULED"

    @pytest.mark.parametrize(
        ("changes", "code", "tag"),
        [
            ({"PatientID": "P2"}, 0x0105, 0x00100020),
            ({"ScheduledStepAttributesSequence": []}, 0x0105, 0x00400270),
            ({"PerformedProcedureStepStartTime": "11"}, 0x0105, 0x00400245),
            ({"PerformedProcedureStepStatus": "DONE"}, 0x0106, 0x00400252),
        ],
    )
    def test_a_change_that_is_none(self, archive, changes, code, tag):
        with connected(archive) as association:
            association.n_create(MPPS, "1.2.3", a_dataset(BEGINNING))
            before = step_of(archive, "1.2.3")
            status = status_of(association.n_set, MPPS, "1.2.3", a_dataset(changes))
        assert (status, status.offending) == (code, (tag,))
        assert step_of(archive, "1.2.3") == before

    def test_a_change_that_comes_before_its_beginning_waits_for_it(self, archive):
        archive.steps._patience = PATIENCE
        statuses = []

        def change():
            with connected(archive) as association:
                statuses.append(status_of(association.n_set, MPPS, "1.2.3", a_dataset(END)))

        thread = threading.Thread(target=change)
        thread.start()
        with connected(archive) as association:
            assert association.n_create(MPPS, "1.2.3", a_dataset(BEGINNING)).status.is_success
        thread.join(PATIENCE)
        assert [int(one) for one in statuses] == [0]
        assert stations_of(archive)["S1"] == "COMPLETED"

    def test_it_is_retrieved(self, archive):
        retrieve = uids.MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE
        with connected(archive, retrieve) as association:
            association.n_create(MPPS, "1.2.3", a_dataset(BEGINNING))
            reply = association.n_get(retrieve, "1.2.3")
            assert (str(reply.dataset.PatientName), reply.dataset.Modality) == ("Müller^Jörg", "CT")
            reply = association.n_get(retrieve, "1.2.3", [0x00400252, 0x00400250])
            assert (reply.status, reply.dataset.PerformedProcedureStepStatus) == (0x0001, "IN PROGRESS")

    def test_it_survives_a_restart(self, tmp_path):
        directory = tmp_path / "archive"
        with Archive(directory, archives.make(directory)) as archive, connected(archive) as association:
            association.n_create(MPPS, "1.2.3", a_dataset(BEGINNING))
        with Archive(directory, archives.make(directory)) as archive, connected(archive) as association:
            assert association.n_set(MPPS, "1.2.3", a_dataset(END)).status.is_success
            assert step_of(archive, "1.2.3").status == "COMPLETED"


class TestPeers:
    def test_our_users(self, archive):
        with dn.client.WorklistScu(peer_of(archive), calling="CT1") as worklist:
            item = next(iter(worklist.items()))
            with dn.client.MppsScu(worklist.client) as steps:
                step = steps.begin(item)
                assert stations_of(archive)["S1"] == "STARTED"
                steps.update(step, PerformedProcedureStepDescription="head")
                steps.complete(step, [{"SeriesInstanceUID": "1.2.1.1", "ProtocolName": "HEAD"}])
            assert stations_of(archive)["S1"] == "COMPLETED"
            assert [one.step.ScheduledProcedureStepID for one in worklist.items()] == ["S2"]

    def test_pynetdicom(self, archive):
        ae = peers.peer_module("pynetdicom").AE()
        ae.add_requested_context(MPPS)
        association = ae.associate(*archive.listener.address, ae_title="ARCHIVE")
        assert association.send_n_create(a_dataset(BEGINNING), MPPS, "1.2.3")[0].Status == 0
        assert association.send_n_set(a_dataset(END), MPPS, "1.2.3")[0].Status == 0
        status = association.send_n_set(a_dataset(END), MPPS, "1.2.3")[0]
        assert (status.Status, status.ErrorID) == (0x0110, 0xA710)
        association.release()
        assert stations_of(archive)["S1"] == "COMPLETED"


class Ris:
    """Another system, which is told of steps; it answers as it is told to."""

    def __init__(self, port=0):
        self.told = []
        self.answers = []
        self.heard = threading.Condition()
        self.listener = dn.Listener("RIS", port=port)
        self.listener.on_n_create(MPPS)(self.tell)
        self.listener.on_n_set(MPPS)(self.tell)

    def tell(self, request):
        with self.heard:
            answer = self.answers.pop(0) if self.answers else Status.SUCCESS
            self.told.append((request.operation.name, request.sop_instance_uid, request.dataset.get("PatientName")))
            self.heard.notify_all()
            return answer

    def wait_for(self, count):
        with self.heard:
            assert self.heard.wait_for(lambda: len(self.told) >= count, PATIENCE)
        return [(name, uid) for name, uid, _ in self.told]


def forwarding(directory, port):
    destinations = {"RIS": dn.Entity("RIS", "127.0.0.1", port)}
    return Archive(directory, archives.make(directory, destinations=destinations, steps_to=("RIS",)))


class TestForwarding:
    def test_in_order_and_as_it_came(self, tmp_path):
        ris = Ris()
        with ris.listener:
            archive = forwarding(tmp_path / "archive", ris.listener.address[1])
            with archive, connected(archive) as association:
                for uid in ("1.2.3", "1.2.4"):
                    association.n_create(MPPS, uid, a_dataset(BEGINNING))
                    association.n_set(MPPS, uid, a_dataset(END))
                told = ris.wait_for(4)
        for uid in ("1.2.3", "1.2.4"):
            assert [name for name, one in told if one == uid] == ["N-CREATE-RQ", "N-SET-RQ"]
        assert {str(name) for _, _, name in ris.told if name} == {"Müller^Jörg"}

    def test_what_is_refused_is_not_passed_on(self, tmp_path):
        ris = Ris()
        with ris.listener:
            archive = forwarding(tmp_path / "archive", ris.listener.address[1])
            archive.steps._patience = 0.0
            with archive, connected(archive) as association:
                association.n_create(MPPS, "1.2.3", a_dataset(BEGINNING))
                status_of(association.n_create, MPPS, "1.2.3", a_dataset(BEGINNING))
                status_of(association.n_set, MPPS, "1.2.9", a_dataset(END))
                association.n_set(MPPS, "1.2.3", a_dataset(END))
                assert ris.wait_for(2) == [("N-CREATE-RQ", "1.2.3"), ("N-SET-RQ", "1.2.3")]
            assert len(ris.told) == 2

    def test_it_survives_a_restart_and_a_system_that_is_down(self, tmp_path, free_port):
        directory = tmp_path / "archive"
        archive = forwarding(directory, free_port)
        with archive, connected(archive) as association:
            association.n_create(MPPS, "1.2.3", a_dataset(BEGINNING))
            association.n_set(MPPS, "1.2.3", a_dataset(END))
        ris = Ris(free_port)
        archive = forwarding(directory, free_port)
        archive.holdings.outbox.retry(queue="procedure-step")
        with ris.listener, archive:
            assert ris.wait_for(2) == [("N-CREATE-RQ", "1.2.3"), ("N-SET-RQ", "1.2.3")]

    def test_what_the_other_system_has_already_is_done(self, tmp_path):
        ris = Ris()
        ris.answers = [Status.DUPLICATE_SOP_INSTANCE]
        with ris.listener:
            archive = forwarding(tmp_path / "archive", ris.listener.address[1])
            with archive, connected(archive) as association:
                association.n_create(MPPS, "1.2.3", a_dataset(BEGINNING))
                association.n_set(MPPS, "1.2.3", a_dataset(END))
                ris.wait_for(2)

    def test_what_the_other_system_refuses_is_parked_with_what_follows(self, tmp_path):
        ris = Ris()
        ris.answers = [Status(0x0120, comment="no Modality")]
        with ris.listener:
            archive = forwarding(tmp_path / "archive", ris.listener.address[1])
            outbox: Outbox = archive.holdings.outbox
            with archive, connected(archive) as association:
                association.n_create(MPPS, "1.2.3", a_dataset(BEGINNING))
                ris.wait_for(1)
                association.n_set(MPPS, "1.2.3", a_dataset(END))
                association.n_create(MPPS, "1.2.4", a_dataset(BEGINNING))
                assert ris.wait_for(2)[-1] == ("N-CREATE-RQ", "1.2.4")
                states = [one.state for one in outbox.items() if one.payload["uid"] == "1.2.3"]
        assert states == [ItemState.PARKED, ItemState.WAITING]

    def test_an_end_whose_answer_was_lost_is_known_by_the_next_try(self, tmp_path):
        """The other system has it, and refuses to change a step that has ended (PS3.4 Table F.7.2-2)."""
        ris = Ris()
        ris.answers = [Status.SUCCESS, Status.RESOURCE_LIMITATION, Status(0x0110, error_id=0xA710)]
        with ris.listener:
            archive = forwarding(tmp_path / "archive", ris.listener.address[1])
            outbox: Outbox = archive.holdings.outbox
            with archive, connected(archive) as association:
                association.n_create(MPPS, "1.2.3", a_dataset(BEGINNING))
                association.n_set(MPPS, "1.2.3", a_dataset(END))
                ris.wait_for(2)
                until(lambda: any(one.error for one in outbox.items()))
                outbox.retry(queue="procedure-step")
                archive.steps._forwarder.wake()
                ris.wait_for(3)
                until(lambda: not outbox.items())
