"""Faults that were found in the field, a test for each kind: its row of the list is in the test's name."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clients
import faces
import pydicom
import pytest
from faces import CT
from pydicom import examples

import dicomnet as dn
from dicomnet import uids
from dicomnet._pdu import AssociateAC, ImplementationClassUID, MaximumLength, PresentationContextAC
from dicomnet.client.procedure_step import beginning
from dicomnet.dataset import codec
from dicomnet.protocol.messages import CommandField

EXPLICIT, IMPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN
CT_FILE = str(examples.get_path("ct"))
STUDY = {"StudyInstanceUID": "1.2"}


@pytest.fixture(params=clients.FACES)
def made(request: Any) -> Iterator[clients.Clients]:
    face = clients.Clients(request.param)
    yield face
    face.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


# ---- storage commitment ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("listens", [False, True])
def test_n02_s6_a_report_that_leaves_instances_out_is_not_ok(made: clients.Clients, listens: bool) -> None:
    listener = dn.Listener("ARCHIVE", port=0)
    asked = [(CT, "1.2.1"), (CT, "1.2.2"), (CT, "1.2.3")]

    @listener.on_n_action(uids.STORAGE_COMMITMENT_PUSH_MODEL)
    def answer(request: dn.NormalizedRequest) -> None:
        references = [*request.dataset.ReferencedSOPSequence[:1], {"ReferencedSOPClassUID": CT}]
        references[1]["ReferencedSOPInstanceUID"] = "1.2.99"
        request.report(1, {"TransactionUID": request.dataset.TransactionUID, "ReferencedSOPSequence": references})

    with listener:
        peer = f"ARCHIVE@127.0.0.1:{listener.address[1]}"
        where = f"127.0.0.1:{free_port()}" if listens else None
        with made.make("CommitmentScu", peer, listen=where, patience=faces.PATIENCE) as scu:
            done = scu.commit(asked)
    assert not done.ok
    assert done.committed == asked[:1]
    assert done.missing == asked[1:]
    assert done.unasked == [(CT, "1.2.99")]
    assert "2 not mentioned" in repr(done)


# ---- retrieves -------------------------------------------------------------------------------------------------------


def archive_for(where: int, **options: Any) -> dn.Listener:
    """An archive that knows WS1 at this port."""
    destinations = {"WS1": dn.Entity("WS1", "127.0.0.1", where)}
    return dn.Listener("PACS", port=0, destinations=destinations, **options)


def test_n03_s7_what_went_elsewhere_is_missing_here(
    made: clients.Clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for face in ("aio", "sync"):
        monkeypatch.setattr(f"dicomnet.client.{face}.retrieve_receiver.STRAGGLER_GRACE", 0.1)
    other = dn.Listener("WS1", port=0)
    other.on_store()(lambda _: None)
    with other, archive_for(other.address[1]) as archive:
        archive.on_move("STUDY_ROOT")(lambda _: [CT_FILE] * 3)
        peer, where = f"PACS@127.0.0.1:{archive.address[1]}", f"127.0.0.1:{free_port()}"
        with made.make("QueryRetrieveScu", peer, calling="WS1", listen=where, by=["move"]) as scu:
            done = scu.retrieve("STUDY", to=tmp_path, **STUDY)
    assert (done.ok, done.completed, done.missing) == (False, 3, 3)
    assert "another address" in done.problem


def test_n03_s7_a_store_that_failed_here_is_not_kept(made: clients.Clients) -> None:
    def counts_it_all_the_same(raw: faces.RawProvider) -> None:
        asked = raw.read()
        contexts = [PresentationContextAC(one.id, 0, one.transfer_syntaxes[0]) for one in asked.presentation_contexts]
        raw.send(AssociateAC(asked.called_ae_title, asked.calling_ae_title, contexts, (MaximumLength(16384),)))
        get = raw.read_command()
        raw.read()  # the identifier
        model = next(one.id for one in asked.presentation_contexts if one.abstract_syntax == get.affected_sop_class_uid)
        ct = next(one.id for one in asked.presentation_contexts if one.abstract_syntax == CT)
        request = faces.store_request(faces.data_of(faces.instance(10)))
        raw.send(request.replace(b"\x03\x03", bytes((ct, 3))).replace(b"\x03\x02", bytes((ct, 2))))
        assert raw.read_command().status == 0xA700
        raw.send(faces.message(model, faces.response(get, number_of_completed_suboperations=1)))
        raw.read()

    with faces.raw_provider(counts_it_all_the_same) as told:
        peer = told.peer  # type: ignore[attr-defined]
        contexts = [*dn.contexts.query_retrieve([CT])]
        with faces.USERS[made.face](peer, contexts=contexts) as user:
            done = user.get("STUDY", to=lambda _: 0xA700, **STUDY)
            assert (done.completed, done.kept, done.missing, done.ok) == (1, 0, 1, False)
            user.abort()


def test_n04_what_arrives_here_is_progress_of_a_move(made: clients.Clients, tmp_path: Path) -> None:
    """The peer sends no pending responses: their time-out would be over long before the last instance."""
    ours, ct = free_port(), pydicom.dcmread(CT_FILE)
    archive = archive_for(ours)

    @archive.on_move("STUDY_ROOT")
    def move(_: dn.MoveRequest) -> int:
        with dn.connect(f"WS1@127.0.0.1:{ours}", calling="PACS", contexts=dn.contexts.for_files([CT_FILE])) as to:
            for number in range(6):
                ct.SOPInstanceUID = ct.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
                assert to.store(ct).ok
                threading.Event().wait(0.6)
        return 0

    with archive:
        options = {"calling": "WS1", "listen": f"127.0.0.1:{ours}", "by": ["move"]}
        peer = f"PACS@127.0.0.1:{archive.address[1]}"
        with made.make("QueryRetrieveScu", peer, timeouts=dn.Timeouts(response=3), **options) as scu:
            assert scu.retrieve("STUDY", to=tmp_path, **STUDY).ok
    assert len(list(tmp_path.iterdir())) == 6


def test_n01_everyday_classes_are_proposed_and_the_rest_on_a_second_association(
    made: clients.Clients, tmp_path: Path
) -> None:
    everyday = ["88.67", "88.59", "13.1.3", "9.1.1", "77.1.4", "77.1.6", "77.1.5.4", "12.1.1", "481.5", "104.1", "11.1"]
    proposed = {context.abstract_syntax for context in dn.contexts.query_retrieve()}
    assert proposed.issuperset(f"1.2.840.10008.5.1.4.1.1.{one}" for one in everyday)
    rare = uids.STORED_PRINT_STORAGE
    assert rare not in proposed
    archive = dn.Listener("PACS", port=0)
    archive.on_get("STUDY_ROOT")(lambda _: [faces.instance(10, uid="2.25.1"), faces.instance(10, rare, "2.25.2")])
    with archive, made.make("QueryRetrieveScu", f"PACS@127.0.0.1:{archive.address[1]}") as scu:
        assert scu.retrieve("STUDY", to=tmp_path, **STUDY).ok
    assert sorted(one.name for one in tmp_path.iterdir()) == ["2.25.1.dcm", "2.25.2.dcm"]


def test_n13_a_peer_that_answers_no_roles_is_asked_all_the_same(made: clients.Clients) -> None:
    """Its acceptance has no role item, and it serves the C-GET."""

    def script(raw: faces.RawProvider) -> None:
        raw.accept()
        get = raw.read_command()
        assert get.command_field == CommandField.C_GET_RQ
        raw.read()
        raw.send(faces.message(1, faces.response(get)))
        raw.read()

    with faces.raw_provider(script) as told, made.make("QueryRetrieveScu", told.peer) as scu:  # type: ignore[attr-defined]
        assert scu.retrieve("STUDY", to=lambda _: None, **STUDY).by == "get"
        scu.abort()


def test_n15_what_c_get_does_not_bring_is_moved(made: clients.Clients, tmp_path: Path) -> None:
    """C-GET brings one of two; the C-MOVE that follows sends both, and what was there is not passed on again."""
    first, second = faces.instance(10, uid="2.25.1"), faces.instance(10, uids.STORED_PRINT_STORAGE, "2.25.2")
    ours, came = free_port(), []
    archive = archive_for(ours)
    archive.on_get("STUDY_ROOT")(lambda _: [first, second])
    archive.on_move("STUDY_ROOT")(lambda _: [first, second])
    with archive:
        peer, where = f"PACS@127.0.0.1:{archive.address[1]}", f"127.0.0.1:{ours}"
        with made.make("QueryRetrieveScu", peer, calling="WS1", listen=where) as scu:
            done = scu.retrieve("STUDY", to=lambda request: came.append(request.sop_instance_uid), **STUDY)
    assert done.ok
    assert came == ["2.25.1", "2.25.2"]


def test_n06_uids_with_leading_zeros_are_kept(made: clients.Clients, tmp_path: Path) -> None:
    bad = "1.2.840.03.1"
    archive = dn.Listener("PACS", port=0)
    archive.on_find("STUDY_ROOT")(lambda _: [{"StudyInstanceUID": bad}])
    archive.on_get("STUDY_ROOT")(lambda _: [faces.instance(10, uid=bad)])
    with archive, made.make("QueryRetrieveScu", f"PACS@127.0.0.1:{archive.address[1]}") as scu:
        (study,) = scu.studies(StudyInstanceUID=bad)
        assert study.uid == bad
        assert list(scu.series(study))
        assert scu.retrieve(study, to=tmp_path).ok
    assert [one.name for one in tmp_path.iterdir()] == [f"{bad}.dcm"]


@pytest.mark.parametrize("text", ["..", "../x", "1..2", ".1", "1.", "1.2\n", "a.b", "1" * 65, ""])
def test_n06_what_cannot_be_a_uid_is_none(text: str) -> None:
    from dicomnet.dataset.types import is_uid_like

    assert not is_uid_like(text)


# ---- text ------------------------------------------------------------------------------------------------------------


def test_n05_text_that_its_character_set_cannot_hold_is_refused(made: clients.Clients) -> None:
    asked: list[Any] = []
    archive = dn.Listener("PACS", port=0)
    archive.on_find("STUDY_ROOT")(lambda request: asked.append(request) or [])
    archive.on_store()(asked.append)
    dataset = pydicom.dcmread(CT_FILE)
    dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 100", "Παπα^Α"
    with archive, made.client(f"PACS@127.0.0.1:{archive.address[1]}") as client:
        with pytest.raises(dn.InvalidArgument, match="PatientName has characters that its character set ISO_IR 100"):
            list(client.find("STUDY", PatientName="Πα^*", SpecificCharacterSet="ISO_IR 100"))
        with pytest.raises(dn.InvalidArgument, match="ISO_IR 100"):
            client.store(dataset)
    assert asked == []


def test_n05_text_without_a_character_set_goes_as_utf_8() -> None:
    dataset = pydicom.Dataset()
    dataset.PatientName = "Παπα^Α"
    encoded = codec.encode(dataset, IMPLICIT)
    assert b"ISO_IR 192" in encoded
    assert "Παπα^Α".encode() in encoded
    assert "SpecificCharacterSet" not in dataset
    item = pydicom.Dataset()
    item.CodeMeaning = "größer"
    dataset.SpecificCharacterSet, dataset.PatientName, dataset.ConceptCodeSequence = "ISO_IR 6", "A", [item]
    with pytest.raises(dn.InvalidArgument, match="CodeMeaning"):
        codec.encode(dataset, IMPLICIT)


# ---- worklist to procedure step --------------------------------------------------------------------------------------


def test_n10_empty_items_of_a_worklist_are_dropped(made: clients.Clients) -> None:
    code = {"CodeValue": "", "CodingSchemeDesignator": "", "CodeMeaning": ""}
    step = {"Modality": "CT", "ScheduledProcedureStepID": "S1", "ScheduledProtocolCodeSequence": [code]}
    item = {"PatientID": "1", "StudyInstanceUID": "1.2.3", "RequestedProcedureCodeSequence": [code]}
    item |= {"ReferencedStudySequence": [{"ReferencedSOPClassUID": "", "ReferencedSOPInstanceUID": ""}]}
    ris = dn.Listener("RIS", port=0)
    ris.on_find("WORKLIST")(
        lambda request: [item | {"ScheduledProcedureStepSequence": [step], "PatientName": str(request.calling)}]
    )
    with ris, made.make("WorklistScu", f"RIS@127.0.0.1:{ris.address[1]}") as scu:
        (found,) = scu.items()
    begun = beginning(found, "CT1", {})
    assert begun["ProcedureCodeSequence"] == begun["PerformedProtocolCodeSequence"] == []
    assert begun["ScheduledStepAttributesSequence"][0]["ReferencedStudySequence"] == []
    found.dataset.StudyInstanceUID = ""
    with pytest.raises(dn.InvalidArgument, match="Study Instance UID"):
        beginning(found, "CT1", {})


# ---- negotiation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("implementation", "extras", "window"),
    [
        ("1.2.3", dn.Peer().storing(None), 1),
        (uids.IMPLEMENTATION_CLASS_UID, dn.Peer().storing(None), 16),
        ("1.2.40.0.13.1.3", dn.Peer().storing(None), 16),
        ("1.2.3", dn.Peer().storing(None, 16), 16),
        ("1.2.3", dn.Peer(window=(16, 1)).storing(None), 16),
        ("1.2.3", dn.NegotiationOptions(operations_window=(16, 1)), 16),
    ],
)
def test_i1_a_window_is_used_where_it_is_known_to_be_kept(
    implementation: str, extras: dn.NegotiationOptions, window: int
) -> None:
    """The acceptor copies the window into its answer, whatever it makes of it."""

    def script(raw: faces.RawProvider) -> None:
        asked = raw.read()
        contexts = [PresentationContextAC(one.id, 0, one.transfer_syntaxes[0]) for one in asked.presentation_contexts]
        copied = [item for item in asked.user_information if not isinstance(item, ImplementationClassUID)]
        answer = (*copied, ImplementationClassUID(implementation))
        raw.send(AssociateAC(asked.called_ae_title, asked.calling_ae_title, tuple(contexts), answer))
        raw.read()

    with faces.raw_provider(script) as told:
        peer = told.peer  # type: ignore[attr-defined]
        association = dn.connect(peer, contexts=dn.contexts.verification(), extras=extras)
        assert association.operations_window == (16, 1)
        assert association._exchange.window == window
        association.abort()


@pytest.mark.parametrize("taken", [IMPLICIT, EXPLICIT])
def test_i2_uncompressed_data_go_to_a_peer_that_takes_one_syntax_only(made: clients.Clients, taken: str) -> None:
    kept: list[Any] = []
    archive = dn.Listener("PACS", port=0)
    takes = archive.on_store(transfer_syntaxes=[taken])
    takes(lambda request: kept.append((request.transfer_syntax_uid, request.data)))
    original = pydicom.dcmread(CT_FILE)
    with archive, made.make("StoreScu", f"PACS@127.0.0.1:{archive.address[1]}") as scu:
        assert [result.outcome.value for result in scu.send(CT_FILE)] == ["stored"]
    ((syntax, data),) = kept
    assert syntax == taken
    assert codec.decode(data, syntax).PixelData == original.PixelData


def test_i2_compressed_data_are_proposed_as_they_are() -> None:
    (context, *others) = dn.contexts.for_files([str(examples.get_path("jpeg2k"))])
    assert len(context.transfer_syntaxes) == 1
    assert [one.abstract_syntax for one in others] == [uids.VERIFICATION]


def test_i3_a_profile_holds_where_its_peer_calls_back() -> None:
    from dicomnet.client import Client
    from dicomnet.client.sync.retrieve_receiver import CallbackListener

    relax = frozenset({dn.Relaxation.PADDED_TITLES})
    entity = dn.Entity("ARCH", "127.0.0.1", 104)
    calls = CallbackListener(Client(dn.Peer(entity, relax=relax)), dn.Entity("ME", "127.0.0.1", 0))
    assert calls.listener.peers.named("ARCH").relax == relax


def test_i5_a_pending_response_behind_the_final_one_is_passed_over() -> None:
    def script(raw: faces.RawProvider) -> None:
        raw.accept()
        find = raw.read_command()
        raw.read()
        raw.send(faces.message(1, faces.response(find)))
        raw.send(faces.message(1, faces.response(find, 0xFF00)))
        echo = raw.read_command()
        raw.send(faces.message(3, faces.response(echo)))
        raw.read()

    model = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
    with faces.raw_provider(script) as told:
        contexts = [*dn.contexts.sop_classes(model), *dn.contexts.verification()]
        association = dn.connect(told.peer, contexts=contexts)  # type: ignore[attr-defined]
        assert list(association.find("STUDY")) == []
        assert association.echo().is_success
        association.abort()


def test_abort_from_another_thread_ends_a_call_under_way() -> None:
    reached = threading.Event()

    def script(raw: faces.RawProvider) -> None:
        raw.accept()
        raw.read_command()
        reached.set()
        raw.read_to_the_end()

    with faces.raw_provider(script) as told:
        association = dn.connect(told.peer, contexts=dn.contexts.verification())  # type: ignore[attr-defined]
        ended: list[BaseException] = []

        def call() -> None:
            try:
                association.echo()
            except BaseException as error:
                ended.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        assert reached.wait(faces.PATIENCE)
        association.abort()
        thread.join(faces.PATIENCE)
        assert [type(error) for error in ended] == [dn.AssociationAborted]
