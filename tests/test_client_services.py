"""Verification, worklist, performed procedure step and storage commitment as components, both faces, real sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import date
from typing import Any

import clients
import faces
import peers
import pytest
import rig

import dicomnet as dn
from dicomnet import uids
from dicomnet._pdu import ReleaseRP, ReleaseRQ
from dicomnet.client import ProcedureStep, Query, QueryOptions, StepState, events
from dicomnet.dataset import codec
from dicomnet.errors import ConnectionFailed, DeadlineExceeded, InvalidArgument, LocalProtocolError, ServiceFailure
from dicomnet.protocol.messages import CommandField
from dicomnet.wire.command_set import Command, decode_command

MPPS = uids.MODALITY_PERFORMED_PROCEDURE_STEP
PUSH = uids.STORAGE_COMMITMENT_PUSH_MODEL
CT = (uids.CT_IMAGE_STORAGE, "2.25.1")
SERIES = {"SeriesInstanceUID": "2.25.9", "ProtocolName": "HEAD"}


@pytest.fixture(params=clients.FACES)
def made(request: pytest.FixtureRequest) -> Iterator[clients.Clients]:
    with faces.nothing_left():
        one = clients.Clients(request.param)
        yield one
        one.close()


def peer_of(listener: Any) -> str:
    return f"{listener.ae_title}@127.0.0.1:{listener.address[1]}"


# ---- verification and worklist ---------------------------------------------------------------------------------------


def test_verification(made: clients.Clients) -> None:
    with dn.Listener("ANY", port=0) as listener, made.make("VerificationScu", peer_of(listener)) as scu:
        assert scu.verify().is_success
    with made.make("VerificationScu", "ANY@127.0.0.1:1") as scu, pytest.raises(ConnectionFailed):
        scu.verify()


def worklist(listener: Any) -> list[Any]:
    asked: list[Any] = []

    @listener.on_find("WORKLIST")
    def find(request: Any) -> Iterator[Any]:
        asked.append(request.identifier)
        step = rig.keys(
            Modality="CT",
            ScheduledProcedureStepID="SPS1",
            ScheduledProcedureStepDescription="Head",
            ScheduledProtocolCodeSequence=[],
        )
        yield rig.keys(
            PatientName="DOE^JANE",
            PatientID="P1",
            PatientBirthDate="19700101",
            PatientSex="F",
            AccessionNumber="A1",
            StudyInstanceUID="2.25.5",
            RequestedProcedureID="RP1",
            ScheduledProcedureStepSequence=[step],
        )

    return asked


def test_a_worklist_is_asked_with_all_that_a_modality_needs(made: clients.Clients) -> None:
    listener = dn.Listener("RIS", port=0)
    asked = worklist(listener)
    with listener, made.make("WorklistScu", peer_of(listener)) as scu:
        day = date(2026, 1, 1)
        [item] = scu.items(step={"Modality": "CT", "ScheduledProcedureStepStartDate": day}, PatientID="P1")
        assert (item.uid, item.step.ScheduledProcedureStepID) == ("2.25.5", "SPS1")
        [again] = scu.items(Query.worklist(PatientName="DOE*"))
        assert again.PatientName == "DOE^JANE"
        with pytest.raises(InvalidArgument, match="'soon' is no date"):
            list(scu.items(step={"ScheduledProcedureStepStartDate": "soon"}))
        with pytest.raises(InvalidArgument, match="has its keys already"):
            list(scu.items(Query.worklist(), PatientID="P1"))
    first = asked[0].ScheduledProcedureStepSequence[0]
    assert (first.Modality, first.ScheduledProcedureStepStartDate, asked[0].PatientID) == ("CT", "20260101", "P1")
    assert "ScheduledStationAETitle" in first
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("granted", "declined"), [(b"\1\1\1\1", []), (b"\1\1\0\1", ["fuzzy"]), (b"", ["fuzzy", "timezone"])]
)
def test_a_worklist_has_options_of_its_own(made: clients.Clients, granted: bytes, declined: list[str]) -> None:
    extended = {uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND: granted} if granted else {}
    listener = dn.Listener("RIS", port=0, acceptance=dn.AcceptancePolicy(extended=extended))
    asked = worklist(listener)
    wanted = QueryOptions(fuzzy=True, timezone="-0500")
    with listener, made.make("WorklistScu", peer_of(listener), wanted=wanted) as scu:
        assert len(list(scu.items(PatientName="DOU*"))) == 1
        assert scu.declined == declined
    assert asked[0].get("TimezoneOffsetFromUTC") == (None if "timezone" in declined else "-0500")


# ---- performed procedure steps ---------------------------------------------------------------------------------------


class Steps:
    """A provider of performed procedure steps that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, Any]] = []
        self.answer: Any = dn.Status.SUCCESS
        self.listener = dn.Listener("RIS", port=0)
        self.listener.on_n_create(MPPS)(lambda request: self._note("create", request))
        self.listener.on_n_set(MPPS)(lambda request: self._note("set", request))

    def _note(self, what: str, request: Any) -> Any:
        self.told.append((what, request.sop_instance_uid, request.dataset))
        return self.answer


def test_a_step_from_the_worklist_to_its_end(made: clients.Clients) -> None:
    ris = Steps()
    worklist(ris.listener)
    with ris.listener:
        peer = peer_of(ris.listener)
        with made.make("WorklistScu", peer) as scu:
            [item] = scu.items()
        with made.make("MppsScu", peer, calling="CT1") as scu:
            step = scu.begin(item)
            scu.update(step, PerformedProcedureStepDescription="Head, with contrast")
            scu.complete(step, [SERIES])
    assert step.state is StepState.COMPLETED
    (_, uid, created), (_, _, changed), (_, _, ended) = ris.told
    assert [what for what, _, _ in ris.told] == ["create", "set", "set"]
    assert uid == step.uid
    [scheduled] = created.ScheduledStepAttributesSequence
    assert (scheduled.StudyInstanceUID, scheduled.AccessionNumber, scheduled.RequestedProcedureID) == (
        "2.25.5", "A1", "RP1",
    )  # fmt: skip
    assert scheduled.ScheduledProcedureStepID == created.PerformedProcedureStepID == "SPS1"
    assert (created.PatientName, created.PatientID, created.PatientSex) == ("DOE^JANE", "P1", "F")
    assert (created.Modality, created.PerformedStationAETitle) == ("CT", "CT1")
    assert created.PerformedProcedureStepStatus == "IN PROGRESS"
    assert len(created.PerformedProcedureStepStartDate) == 8
    for keyword in ("StudyID", "PerformedProcedureStepEndDate", "PerformedSeriesSequence", "ReferencedPatientSequence"):
        assert created[keyword].is_empty
    assert changed.PerformedProcedureStepDescription == "Head, with contrast"
    assert "PerformedProcedureStepStatus" not in changed
    assert ended.PerformedProcedureStepStatus == "COMPLETED"
    assert len(ended.PerformedProcedureStepEndTime) == 6
    [series] = ended.PerformedSeriesSequence
    assert (series.SeriesInstanceUID, series.ProtocolName) == ("2.25.9", "HEAD")
    assert series["ReferencedImageSequence"].is_empty
    assert series["OperatorsName"].is_empty


def begun(scu: Any, **more: Any) -> Any:
    scheduled = [{"StudyInstanceUID": "2.25.5"}]
    return scu.begin(Modality="CT", PerformedProcedureStepID="1", ScheduledStepAttributesSequence=scheduled, **more)


@pytest.mark.parametrize("end", ["complete", "discontinue"])
def test_nothing_follows_the_end_of_a_step(made: clients.Clients, end: str) -> None:
    ris = Steps()
    with ris.listener, made.make("MppsScu", peer_of(ris.listener)) as scu:
        step = begun(scu)
        if end == "complete":
            scu.complete(step, [SERIES])
        else:
            scu.discontinue(step, reason=("110514", "DCM", "Incorrect worklist entry selected"))
        count = len(ris.told)
        for further in (
            lambda: scu.update(step, PerformedProcedureStepDescription="more"),
            lambda: scu.complete(step, [SERIES]),
            lambda: scu.discontinue(step),
        ):
            with pytest.raises(LocalProtocolError, match=f"is {step.state.value}, and stays"):
                further()
        assert len(ris.told) == count  # refused before anything was sent
    last = ris.told[-1][2]
    assert last.PerformedProcedureStepStatus == step.state.value == f"{end.upper()}D".replace("EED", "ED")
    if end == "discontinue":
        assert last.PerformedProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110514"


def test_what_the_rules_forbid_is_refused_before_it_is_sent(made: clients.Clients) -> None:
    ris = Steps()
    with ris.listener, made.make("MppsScu", peer_of(ris.listener)) as scu:
        for begin, words in (
            (lambda: scu.begin(Modality="CT"), "needs PerformedProcedureStepID, ScheduledStepAttributesSequence"),
            (lambda: begun(scu, PerformedProcedureStepStatus="COMPLETED"), "begins IN PROGRESS"),
            (lambda: begun(scu, PerformedProcedureStepStartDate="today"), "is no date"),
            (lambda: begun(scu, uid="not one"), "is not a UID"),
        ):
            with pytest.raises(InvalidArgument, match=words):
                begin()
        assert ris.told == []
        step = begun(scu)
        for change, words in (
            (lambda: scu.update(step, Modality="MR"), "Modality: only the beginning"),
            (lambda: scu.update(step, PerformedProcedureStepStatus="COMPLETED"), "ends by complete"),
            (lambda: scu.complete(step), "has at least one series"),
            (lambda: scu.complete(step, [{"ProtocolName": "HEAD"}]), "needs SeriesInstanceUID"),
        ):
            with pytest.raises(InvalidArgument, match=words):
                change()
        assert len(ris.told) == 1
        scu.update(step, PerformedSeriesSequence=[SERIES])
        scu.complete(step)  # the series were told before
    assert len(ris.told) == 3


def test_a_step_that_the_peer_refuses_to_end_goes_on(made: clients.Clients) -> None:
    ris = Steps()
    with ris.listener, made.make("MppsScu", peer_of(ris.listener)) as scu:
        step = begun(scu)
        ris.answer = dn.Status(0x0110)
        with pytest.raises(ServiceFailure):
            scu.complete(step, [SERIES])
        assert step.state is StepState.IN_PROGRESS
        ris.answer = dn.Status.SUCCESS
        other = ProcedureStep(step.uid)  # as another process knows it
        scu.discontinue(other)
        assert other.state is StepState.DISCONTINUED


def test_a_handler_sees_and_changes_what_a_step_says(made: clients.Clients) -> None:
    ris = Steps()
    with ris.listener, made.make("MppsScu", peer_of(ris.listener)) as scu:
        told: list[Any] = []

        def edit(event: Any) -> None:
            event.arguments[0].StudyID = "S1"

        scu.on(events.BeforeAction)(made.handler(edit))
        scu.on(events.AfterAction)(made.handler(lambda event: told.append(event.result.status)))
        begun(scu)
        assert [int(one) for one in told] == [0]
    assert ris.told[0][2].StudyID == "S1"


# ---- storage commitment ----------------------------------------------------------------------------------------------


class Committing:
    """A provider that commits itself to what is asked, and says so here, there, or never."""

    def __init__(self, *, port: int = 0, where: str = "same", calling: str = "ARCHIVE") -> None:
        self.answers: list[Any] = []
        self.threads: list[threading.Thread] = []
        self._port, self._where, self._calling = port, where, calling
        self.listener = dn.Listener("ARCHIVE", port=0, drain=2)
        self.listener.on_n_action(PUSH)(self._action)

    def _action(self, request: Any) -> dn.Status:
        asked = request.dataset
        report = rig.keys(TransactionUID=asked.TransactionUID, ReferencedSOPSequence=asked.ReferencedSOPSequence)
        if self._where == "same":
            request.report(1, report)
        elif self._where == "later":
            self.threads.append(threading.Thread(target=self._report, args=(report,)))
            self.threads[-1].start()
        return dn.Status.SUCCESS

    def _report(self, report: Any) -> None:
        contexts = [dn.ProposedContext(PUSH, dn.contexts.UNCOMPRESSED, scu=False, scp=True)]
        try:
            with dn.connect(f"WS1@127.0.0.1:{self._port}", calling=self._calling, contexts=contexts) as association:
                other = rig.keys(TransactionUID="2.25.404", ReferencedSOPSequence=report.ReferencedSOPSequence)
                for one in (other, report):
                    try:
                        reply = association.n_event_report(PUSH, uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE, 1, one)
                        self.answers.append(int(reply.status))
                    except ServiceFailure as failure:
                        self.answers.append(int(failure.status))
        except dn.DicomNetError as error:
            self.answers.append(error)


def test_a_commitment_on_the_same_association(made: clients.Clients) -> None:
    archive = Committing()
    with archive.listener, made.make("CommitmentScu", peer_of(archive.listener)) as scu:
        assert scu.commit([CT]).committed == [CT]


def test_a_peer_that_ends_the_association_may_report_on_another(made: clients.Clients) -> None:
    ending = []

    def end(request: Any) -> dn.Status:
        ending.append(threading.Thread(target=listener.stop))
        ending[-1].start()
        return dn.Status.SUCCESS

    listener = dn.Listener("ARCHIVE", port=0, drain=2, timeouts=dn.Timeouts(quiet=0.1))
    listener.on_n_action(PUSH)(end)
    with (
        listener,
        made.make("CommitmentScu", peer_of(listener)) as scu,
        pytest.raises(dn.DicomNetError, match=r"Give listen \(--listen\)"),
    ):
        scu.commit([CT])
    for thread in ending:
        thread.join()


def test_a_commitment_with_a_listener(made: clients.Clients) -> None:
    port = peers.free_port()
    archive = Committing(port=port, where="later")
    with (
        archive.listener,
        made.make("CommitmentScu", peer_of(archive.listener), calling="WS1", listen=f"127.0.0.1:{port}") as scu,
    ):
        told: list[Any] = []
        scu.on(events.AfterAction)(made.handler(told.append))
        result = scu.commit([CT])
        assert (result.ok, result.committed, result.failed) == (True, [CT], [])
        assert told[0].result is result
        for thread in archive.threads:
            thread.join(faces.PATIENCE)
        with pytest.raises(ConnectionFailed):
            dn.connect(f"WS1@127.0.0.1:{port}", calling="ARCHIVE", contexts=dn.contexts.verification())
    assert archive.answers == [0x0115, 0]


def test_a_hasty_report_on_the_same_association_is_heard_with_a_listener(made: clients.Clients) -> None:
    heard: list[bool] = []

    def play(sock: Any, reader: Any) -> None:
        while not (pdv := reader.next().pdvs[-1]).is_last or pdv.is_command:
            pass
        asked = codec.decode(bytes(pdv.data), dn.contexts.UNCOMPRESSED[0])
        instance = uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE
        uid = {"affected_sop_class_uid": PUSH, "affected_sop_instance_uid": instance}
        accepted = Command(
            command_field=CommandField.N_ACTION_RSP, message_id_being_responded_to=1, status=0, action_type_id=1, **uid
        )
        report = Command(
            command_field=CommandField.N_EVENT_REPORT_RQ, message_id=9, event_type_id=1, command_data_set_type=1, **uid
        )
        said = codec.encode(asked, dn.contexts.UNCOMPRESSED[0])
        sock.sendall(rig.message(accepted) + rig.message(report, said))
        while not isinstance(pdu := reader.next(), ReleaseRQ):
            heard.append(decode_command(bytes(pdu.pdvs[0].data)).status == 0)
        sock.sendall(ReleaseRP().encode())

    options = {"listen": f"127.0.0.1:{peers.free_port()}", "patience": 0.1}
    with rig.Script(play) as archive, made.make("CommitmentScu", archive.peer, **options) as scu:
        assert scu.commit([CT]).committed == [CT]
    assert heard in ([True], [])  # on a busy machine our release was faster than the report


@pytest.mark.parametrize("where", ["never", "later"])
def test_a_report_that_does_not_come_from_the_peer_is_none(made: clients.Clients, where: str) -> None:
    port = peers.free_port()
    archive = Committing(port=port, where=where, calling="STRANGER")
    options = {"calling": "WS1", "listen": f"127.0.0.1:{port}", "patience": 2.0}
    with archive.listener, made.make("CommitmentScu", peer_of(archive.listener), **options) as scu:
        with pytest.raises(DeadlineExceeded, match=r"commitment time-out after 2 s"):
            scu.commit([CT])
        for thread in archive.threads:
            thread.join(faces.PATIENCE)
    assert [type(one) for one in archive.answers] == ([] if where == "never" else [dn.AssociationRejected])


def test_nothing_is_no_commitment(made: clients.Clients) -> None:
    archive = Committing()
    with archive.listener, made.make("CommitmentScu", peer_of(archive.listener)) as scu:  # noqa: SIM117
        with pytest.raises(InvalidArgument, match="at least one instance"):
            scu.commit([])
