"""The services against real programs, in both roles: Orthanc, DCMTK's tools and servers, pynetdicom."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers
import pydicom
import pytest
from rig import PATIENCE, instance, keys

import dicomnet as dn
from dicomnet import uids
from dicomnet.files.part10 import read_meta

COUNT = 150
SELF = "SELF"
PRINTER, PRINTER_INSTANCE = "1.2.840.10008.5.1.1.16", "1.2.840.10008.5.1.1.17"
QR = dn.contexts.query_retrieve([uids.CT_IMAGE_STORAGE])


def program(name: str) -> str:
    """A program of the system: pynetdicom puts its own storescu and others into the interpreter's folder."""
    own = Path(sys.executable).parent
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != own)
    found = shutil.which(name, path=path + os.pathsep + "/usr/sbin")
    if found is None:
        peers.absent(name)
    return str(found)


def run(name: str, *arguments: object, code: int | None = 0) -> str:
    """Run one of DCMTK's tools; what it printed."""
    command = [program(name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, errors="replace")
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@contextmanager
def running(command: list[str], peer: str, **options: Any) -> Iterator[None]:
    """A server, from when it answers until it is ended."""
    with (options.pop("log")).open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, **options)
        try:
            end = time.monotonic() + PATIENCE
            while not answers(peer):
                with suppress(subprocess.TimeoutExpired):  # it listens soon, or it ends
                    process.wait(0.05)
                    raise AssertionError(Path(log.name).read_text(errors="replace"))
                assert time.monotonic() < end, Path(log.name).read_text(errors="replace")
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(peer: str) -> bool:
    try:
        with dn.connect(peer, calling=SELF, contexts=dn.contexts.verification()) as association:
            return association.echo().is_success
    except dn.DicomNetError:
        return False


@dataclass
class Server:
    """A server that holds the study: where it listens, where it thinks we do, and how it tells what it holds."""

    peer: str
    our_port: int
    held: Callable[[], dict[str, bytes]]


def study() -> list[Any]:
    return [instance(number, pixels=2048, StudyDate="20260102", StudyID="7", SeriesNumber=1) for number in range(COUNT)]


def data_set(file: bytes) -> bytes:
    """What follows the file meta information."""
    return file[read_meta(file)[1] :]


@contextmanager
def orthanc(directory: Path) -> Iterator[Server]:
    port, http, ours = peers.free_port(), peers.free_port(), peers.free_port()
    settings = {
        "Name": "test",
        "StorageDirectory": str(directory / "storage"),
        "IndexDirectory": str(directory / "storage"),
        "DicomAet": "ORTHANC",
        "DicomPort": port,
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "DicomModalities": {"self": [SELF, "127.0.0.1", ours]},
        "StorageCompression": False,
        "Plugins": [],
    }
    path = directory / "orthanc.json"
    path.write_text(json.dumps(settings))

    def read(what: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/{what}", timeout=PATIENCE) as response:
            return bytes(response.read())

    def held() -> dict[str, bytes]:
        files = [read(f"instances/{one}/file") for one in json.loads(read("instances"))]
        return {read_meta(file)[0].sop_instance_uid or "": data_set(file) for file in files}

    peer = f"ORTHANC@127.0.0.1:{port}"
    with running([program("Orthanc"), str(path)], peer, log=directory / "log"):
        yield Server(peer, ours, held)


@contextmanager
def dcmqrscp(directory: Path) -> Iterator[Server]:
    port, ours = peers.free_port(), peers.free_port()
    storage = directory / "storage"
    storage.mkdir()
    path = directory / "dcmqrscp.cfg"
    path.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 65536\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nself = ({SELF}, 127.0.0.1, {ours})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQRSCP {storage} RW (200, 1024mb) ANY\nAETable END\n"
    )

    def held() -> dict[str, bytes]:
        files = [file.read_bytes() for file in storage.iterdir() if file.name != "index.dat"]
        return {read_meta(file)[0].sop_instance_uid or "": data_set(file) for file in files}

    peer = f"QRSCP@127.0.0.1:{port}"
    with running([program("dcmqrscp"), "-c", str(path), "-v"], peer, log=directory / "log"):
        yield Server(peer, ours, held)


@pytest.fixture(scope="module", params=[orthanc, dcmqrscp], ids=["orthanc", "dcmqrscp"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that was sent the study."""
    with request.param(tmp_path_factory.mktemp("server")) as made:
        contexts = dn.contexts.storage([uids.CT_IMAGE_STORAGE])
        with dn.connect(made.peer, calling=SELF, contexts=contexts) as association:
            assert all(result.ok for result in association.store_many(study()))
        yield made


# ---- as user ---------------------------------------------------------------------------------------------------------


def test_a_study_is_found(server: Server) -> None:
    with dn.connect(server.peer, calling=SELF, contexts=QR) as association:
        [one] = association.find("STUDY", PatientName="DOE*", StudyDate="20260101-", returning=["StudyID"])
        [series] = association.find("SERIES", StudyInstanceUID=one.StudyInstanceUID, returning=["Modality"])
        images = list(
            association.find(
                "IMAGE",
                StudyInstanceUID=one.StudyInstanceUID,
                SeriesInstanceUID=series.SeriesInstanceUID,
                returning=["InstanceNumber"],
            )
        )
        [patient] = association.find("PATIENT", model="PATIENT_ROOT", PatientID="P1", returning=["PatientName"])
        assert not list(association.find("STUDY", PatientID="NOBODY"))
    assert (one.StudyInstanceUID, one.StudyID.strip()) == ("2.25.100", "7")
    assert series.Modality == "CT"
    assert patient.PatientName == "DOE^JANE"
    assert sorted(int(image.InstanceNumber) for image in images) == list(range(COUNT))


def test_a_batch_goes_one_by_one_to_who_does_not_answer_its_operations_window(server: Server) -> None:
    held = server.held()
    agreed: list[tuple[int, int]] = []
    with dn.client.StoreScu(server.peer, calling=SELF) as scu:
        scu.client.on(dn.client.events.AfterAssociate)(lambda event: agreed.append(event.association.operations_window))
        assert scu.client.extras is not None
        assert scu.client.extras.operations_window == (16, 1)
        assert all(result.ok for result in scu.send(*study()))
    assert agreed == [(1, 1)]
    assert server.held() == held


def test_a_find_loop_may_be_left(server: Server) -> None:
    with dn.connect(server.peer, calling=SELF, contexts=[*QR, *dn.contexts.verification()]) as association:
        for match in association.find("IMAGE", StudyInstanceUID="2.25.100", SeriesInstanceUID="2.25.200"):
            assert match.SOPInstanceUID
            break
        assert association.echo().is_success


def test_a_study_comes_by_get_bit_for_bit(server: Server, tmp_path: Path) -> None:
    progress: list[Any] = []
    with dn.connect(server.peer, calling=SELF, contexts=QR) as association:
        done = association.get("STUDY", to=tmp_path, StudyInstanceUID="2.25.100", progress=progress.append)
    assert done.ok
    assert done.completed == COUNT
    assert progress
    assert {path.stem: data_set(path.read_bytes()) for path in tmp_path.iterdir()} == server.held()


def test_a_study_comes_by_move_to_ourselves_bit_for_bit(server: Server, tmp_path: Path) -> None:
    listener = dn.Listener(SELF, port=server.our_port)

    @listener.on_store(spool=str(tmp_path))
    def keep(request: Any) -> None:
        request.file.commit(tmp_path / f"{request.sop_instance_uid}.dcm")

    with listener, dn.connect(server.peer, calling=SELF, contexts=QR) as association:
        done = association.move("STUDY", destination=SELF, StudyInstanceUID="2.25.100")
    assert done.ok
    assert done.completed == COUNT
    assert {path.stem: data_set(path.read_bytes()) for path in tmp_path.iterdir()} == server.held()


def test_one_series_and_one_image(server: Server, tmp_path: Path) -> None:
    with dn.connect(server.peer, calling=SELF, contexts=QR) as association:
        unique = {"StudyInstanceUID": "2.25.100", "SeriesInstanceUID": "2.25.200"}
        assert association.get("SERIES", to=tmp_path, **unique).completed == COUNT
        kept: list[Any] = []
        done = association.get(
            "IMAGE", to=lambda request: kept.append(request.dataset), SOPInstanceUID="2.25.1007", **unique
        )
    assert done.completed == 1
    assert [dataset.InstanceNumber for dataset in kept] == [7]


def test_a_move_to_nobody_they_know(server: Server) -> None:
    with dn.connect(server.peer, calling=SELF, contexts=QR) as association:  # noqa: SIM117
        with pytest.raises(dn.DicomNetError) as error:
            association.move("STUDY", destination="STRANGER", StudyInstanceUID="2.25.100")
    assert isinstance(error.value, dn.ServiceFailure)
    assert error.value.status.is_failure


def test_worklist_from_wlmscpfs(tmp_path: Path) -> None:
    port = peers.free_port()
    folder = tmp_path / "WLM"
    folder.mkdir()
    (folder / "lockfile").touch()
    for number, modality in enumerate(["CT", "MR", "CT"]):
        step = keys(
            Modality=modality,
            ScheduledStationAETitle=SELF,
            ScheduledProcedureStepStartDate="20260102",
            ScheduledProcedureStepStartTime="1200",
            ScheduledPerformingPhysicianName="DOC",
            ScheduledProcedureStepDescription="STEP",
            ScheduledProcedureStepID=str(number),
        )
        item = keys(
            SpecificCharacterSet="ISO_IR 100",
            PatientName=f"MÜLLER^{number}",
            PatientID=str(number),
            StudyInstanceUID=f"2.25.{number}",
            RequestedProcedureID=str(number),
            RequestedProcedureDescription="DO",
            AccessionNumber=str(number),
            ScheduledProcedureStepSequence=[step],
        )
        item.file_meta = pydicom.dataset.FileMetaDataset()
        item.file_meta.TransferSyntaxUID = uids.EXPLICIT_VR_LITTLE_ENDIAN
        item.file_meta.MediaStorageSOPClassUID = "1.2.276.0.7230010.3.1.0.1"
        item.file_meta.MediaStorageSOPInstanceUID = f"2.25.{number}"
        item.save_as(folder / f"{number}.wl", enforce_file_format=True)
    command = [program("wlmscpfs"), "-dfp", str(tmp_path), str(port)]
    with running(command, f"WLM@127.0.0.1:{port}", log=tmp_path / "log"):  # noqa: SIM117
        with dn.connect(f"WLM@127.0.0.1:{port}", calling=SELF, contexts=dn.contexts.worklist()) as association:
            wanted = {"Modality": "CT", "ScheduledProcedureStepStartDate": None, "ScheduledProcedureStepID": None}
            matches = list(
                association.worklist(
                    ScheduledProcedureStepSequence=[wanted], returning=["PatientName", "PatientID", "StudyInstanceUID"]
                )
            )
    assert sorted(match.PatientID for match in matches) == ["0", "2"]
    assert {str(match.PatientName)[:6] for match in matches} == {"MÜLLER"}
    assert {match.ScheduledProcedureStepSequence[0].Modality for match in matches} == {"CT"}


# ---- as provider -----------------------------------------------------------------------------------------------------


class Archive:
    """A provider of ours that holds a study in memory."""

    def __init__(self, count: int, *, destinations: dict[str, dn.Entity] | None = None) -> None:
        self.instances = [instance(number) for number in range(count)]
        self.listener = dn.Listener("ARCHIVE", port=0, destinations=destinations, drain=2)
        self.listener.on_store()(lambda request: self.instances.append(request.dataset))
        self.listener.on_find("STUDY_ROOT", "PATIENT_ROOT", "WORKLIST")(self.find)
        self.listener.on_get("STUDY_ROOT", "PATIENT_ROOT")(lambda _: iter(self.instances))
        self.listener.on_move("STUDY_ROOT", "PATIENT_ROOT")(lambda _: iter(self.instances))
        self.asked: list[Any] = []

    def find(self, request: Any) -> Iterator[Any]:
        self.asked.append(request.identifier)
        for one in self.instances:
            match = keys(**{e.keyword: one.get(e.keyword) for e in request.identifier if e.keyword in one})
            match.QueryRetrieveLevel = request.level
            yield match

    @contextmanager
    def serving(self) -> Iterator[int]:
        with self.listener:
            yield self.listener.address[1]


def test_dcmtk_verifies_and_stores(tmp_path: Path) -> None:
    archive = Archive(0)
    instance(1).save_as(tmp_path / "one.dcm", enforce_file_format=True)
    with archive.serving() as port:
        run("echoscu", "-aec", "ARCHIVE", "127.0.0.1", port)
        run("storescu", "-aec", "ARCHIVE", "127.0.0.1", port, tmp_path / "one.dcm")
    assert [one.SOPInstanceUID for one in archive.instances] == ["2.25.1001"]


@pytest.mark.parametrize("model", ["-S", "-P", "-W"])
def test_findscu_finds(model: str, tmp_path: Path) -> None:
    archive = Archive(5)
    with archive.serving() as port:
        run(
            *("findscu", model, "-aec", "ARCHIVE", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=DOE*"),
            *("-k", "StudyInstanceUID", "-X", "-od", tmp_path, "127.0.0.1", port),
        )
    answers_ = [pydicom.dcmread(path, force=True) for path in tmp_path.iterdir()]
    assert [one.PatientName for one in answers_] == ["DOE^JANE"] * 5
    assert archive.asked[0].PatientName == "DOE*"


def test_findscu_cancels() -> None:
    archive = Archive(2000)
    with archive.serving() as port:
        printed = run(
            *("findscu", "-v", "-S", "-aec", "ARCHIVE", "--cancel", 2, "-k", "QueryRetrieveLevel=STUDY"),
            *("-k", "StudyInstanceUID", "127.0.0.1", port),
        )
    assert "Cancel" in printed
    assert printed.count("Received Find Response") < 2000


@pytest.mark.parametrize("model", ["-S", "-P"])
def test_getscu_gets(model: str, tmp_path: Path) -> None:
    archive = Archive(5)
    with archive.serving() as port:
        run(
            *("getscu", model, "-aec", "ARCHIVE", "-k", "QueryRetrieveLevel=STUDY"),
            *("-k", "StudyInstanceUID=2.25.100", "-od", tmp_path, "127.0.0.1", port),
        )
    got = [pydicom.dcmread(path) for path in tmp_path.iterdir()]
    assert sorted(one.SOPInstanceUID for one in got) == [f"2.25.{number}" for number in range(1000, 1005)]


@pytest.mark.parametrize("model", ["-S", "-P"])
def test_movescu_moves_to_itself(model: str, tmp_path: Path) -> None:
    port = peers.free_port()
    archive = Archive(5, destinations={"MOVESCU": dn.Entity("MOVESCU", "127.0.0.1", port)})
    with archive.serving() as ours:
        run(
            *("movescu", model, "-aet", "MOVESCU", "-aec", "ARCHIVE", "+P", port, "-k", "QueryRetrieveLevel=STUDY"),
            *("-k", "StudyInstanceUID=2.25.100", "-od", tmp_path, "127.0.0.1", ours),
        )
    got = [pydicom.dcmread(path) for path in tmp_path.iterdir()]
    assert sorted(one.SOPInstanceUID for one in got) == [f"2.25.{number}" for number in range(1000, 1005)]


def test_movescu_to_somebody_we_do_not_know_is_refused() -> None:
    archive = Archive(5)
    with archive.serving() as ours:
        printed = run(
            *("movescu", "-v", "-S", "-aet", "MOVESCU", "-aec", "ARCHIVE", "-aem", "STRANGER"),
            *("-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=2.25.100", "127.0.0.1", ours),
            code=None,
        )
    assert "MoveDestinationUnknown" in printed.replace(" ", "")


def test_termscu_does_not_end_our_provider() -> None:
    archive = Archive(0)
    with archive.serving() as port:
        run("termscu", "-aec", "ARCHIVE", "127.0.0.1", port, code=None)
        run("echoscu", "-aec", "ARCHIVE", "127.0.0.1", port)


# ---- pynetdicom ------------------------------------------------------------------------------------------------------


@contextmanager
def pynetdicom_user(port: int, *abstract_syntaxes: str, roles: Any = (), handlers: Any = ()) -> Iterator[Any]:
    ae = peers.peer_module("pynetdicom").AE("PYNET")
    for uid in abstract_syntaxes:
        ae.add_requested_context(uid)
    association = ae.associate("127.0.0.1", port, ae_title="ARCHIVE", ext_neg=list(roles), evt_handlers=list(handlers))
    assert association.is_established
    try:
        yield association
    finally:
        association.release()
        ae.shutdown()


def test_pynetdicom_finds_gets_and_moves() -> None:
    pynetdicom = peers.peer_module("pynetdicom")
    models = [getattr(uids, f"STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_{name}") for name in ("FIND", "GET", "MOVE")]
    role = pynetdicom.build_role(uids.CT_IMAGE_STORAGE, scp_role=True)
    stored: list[str] = []

    def keep(event: Any) -> int:
        stored.append(event.dataset.SOPInstanceUID)
        return 0

    there = dn.Listener("THERE", port=0)
    moved: list[str] = []
    there.on_store()(lambda request: moved.append(request.sop_instance_uid))
    with there:
        archive = Archive(5, destinations={"THERE": dn.Entity("THERE", *there.address)})
        handlers = [(pynetdicom.evt.EVT_C_STORE, keep)]
        with (
            archive.serving() as port,
            pynetdicom_user(port, *models, uids.CT_IMAGE_STORAGE, roles=[role], handlers=handlers) as association,
        ):
            identifier = keys(QueryRetrieveLevel="STUDY", StudyInstanceUID="2.25.100", PatientName="")
            found = list(association.send_c_find(identifier, models[0]))
            got = list(association.send_c_get(identifier, models[1]))
            sent = list(association.send_c_move(identifier, "THERE", models[2]))
    assert [status.Status for status, _ in found] == [0xFF00] * 5 + [0]
    assert found[0][1].PatientName == "DOE^JANE"
    assert got[-1][0].Status == 0
    assert got[-1][0].NumberOfCompletedSuboperations == 5
    assert sent[-1][0].NumberOfCompletedSuboperations == 5
    assert stored == moved == [f"2.25.{number}" for number in range(1000, 1005)]


def test_pynetdicom_asks_our_n_services() -> None:
    listener = dn.Listener("ARCHIVE", port=0, drain=2)
    seen: list[str] = []

    def handler(request: Any) -> Any:
        seen.append(request.operation.name)
        return 0, keys(PatientID="ANSWER")

    for register in ("on_n_get", "on_n_set", "on_n_action", "on_n_create", "on_event_report"):
        getattr(listener, register)(PRINTER)(handler)
    listener.on_n_delete(PRINTER)(lambda request: seen.append(request.operation.name))
    given = keys(PatientID="ASK")
    with listener, pynetdicom_user(listener.address[1], PRINTER) as user:
        replies = [
            user.send_n_get([0x00100020], PRINTER, PRINTER_INSTANCE),
            user.send_n_set(given, PRINTER, PRINTER_INSTANCE),
            user.send_n_action(given, 1, PRINTER, PRINTER_INSTANCE),
            user.send_n_create(given, PRINTER, "1.2.3"),
            user.send_n_event_report(given, 1, PRINTER, PRINTER_INSTANCE),
        ]
        deleted = user.send_n_delete(PRINTER, PRINTER_INSTANCE)
    assert [status.Status for status, _ in replies] == [0] * 5
    assert [dataset.PatientID for _, dataset in replies] == ["ANSWER"] * 5
    assert deleted.Status == 0
    assert seen == ["N-GET-RQ", "N-SET-RQ", "N-ACTION-RQ", "N-CREATE-RQ", "N-EVENT-REPORT-RQ", "N-DELETE-RQ"]


def test_our_n_services_ask_pynetdicom() -> None:
    pynetdicom = peers.peer_module("pynetdicom")
    ae = pynetdicom.AE("PYNET")
    ae.add_supported_context(PRINTER)
    seen: list[str] = []

    def handler(event: Any) -> Any:
        seen.append(event.event.name)
        return 0, keys(PatientID="ANSWER")

    def delete(event: Any) -> int:
        seen.append(event.event.name)
        return 0

    names = ["EVT_N_GET", "EVT_N_SET", "EVT_N_ACTION", "EVT_N_CREATE", "EVT_N_EVENT_REPORT"]
    handlers = [(getattr(pynetdicom.evt, name), handler) for name in names]
    port = peers.free_port()
    handlers.append((pynetdicom.evt.EVT_N_DELETE, delete))
    provider = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    given = keys(PatientID="ASK")
    try:
        with dn.connect(f"PYNET@127.0.0.1:{port}", contexts=dn.contexts.sop_classes(PRINTER)) as user:
            replies = [
                user.n_get(PRINTER, PRINTER_INSTANCE, ["PatientID"]),
                user.n_set(PRINTER, PRINTER_INSTANCE, given),
                user.n_action(PRINTER, PRINTER_INSTANCE, 1, given),
                user.n_create(PRINTER, "1.2.3", given),
                user.n_event_report(PRINTER, PRINTER_INSTANCE, 1, given),
            ]
            user.n_delete(PRINTER, PRINTER_INSTANCE)
    finally:
        provider.shutdown()
    assert [reply.dataset.PatientID for reply in replies] == ["ANSWER"] * 5
    assert seen == [*names, "EVT_N_DELETE"]


@pytest.mark.long
def test_pynetdicom_is_told_of_a_commitment_on_its_own_association() -> None:
    pynetdicom = peers.peer_module("pynetdicom")
    push = uids.STORAGE_COMMITMENT_PUSH_MODEL
    listener = dn.Listener("ARCHIVE", port=0, drain=2)

    @listener.on_n_action(push)
    def commit(request: Any) -> None:
        request.report(1, request.dataset, sop_instance_uid=uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE)

    reported = threading.Event()
    reports: list[Any] = []

    def report(event: Any) -> Any:
        reports.append(event.event_information)
        reported.set()
        return 0, None

    asked = keys(
        TransactionUID="2.25.5",
        ReferencedSOPSequence=[keys(ReferencedSOPClassUID=uids.CT_IMAGE_STORAGE, ReferencedSOPInstanceUID="2.25.1")],
    )
    handlers = [(pynetdicom.evt.EVT_N_EVENT_REPORT, report)]
    with listener, pynetdicom_user(listener.address[1], push, handlers=handlers) as user:
        status, _ = user.send_n_action(asked, 1, push, uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE)
        assert status.Status == 0
        assert reported.wait(PATIENCE)
    assert reports[0].TransactionUID == "2.25.5"


def test_we_are_told_of_a_commitment_by_pynetdicom() -> None:
    """An archive that reports on an association of its own, as provider of the SOP class (PS3.4 Section J.3.3)."""
    pynetdicom = peers.peer_module("pynetdicom")
    push = uids.STORAGE_COMMITMENT_PUSH_MODEL
    listener = dn.Listener("ARCHIVE", port=0, drain=2)
    reports: list[Any] = []
    listener.on_event_report(push)(lambda request: reports.append((request.event_type_id, request.dataset)))
    role = pynetdicom.build_role(push, scp_role=True)
    with listener, pynetdicom_user(listener.address[1], push, roles=[role]) as user:
        status, _ = user.send_n_event_report(
            keys(TransactionUID="2.25.5"), 1, push, uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE
        )
    assert status.Status == 0
    assert [(event, dataset.TransactionUID) for event, dataset in reports] == [(1, "2.25.5")]


def test_pynetdicom_reports_on_our_own_association() -> None:
    """A printer that says how it is to whoever has asked it to print (PS3.4 Section H.4.6)."""
    pynetdicom = peers.peer_module("pynetdicom")
    ae = pynetdicom.AE("PYNET")
    ae.add_supported_context(PRINTER)
    answers: list[int] = []

    def report(association: Any) -> None:
        status, _ = association.send_n_event_report(keys(PrinterStatusInfo="WARM"), 1, PRINTER, PRINTER_INSTANCE)
        answers.append(status.Status)

    def act(event: Any) -> Any:
        threads.append(threading.Thread(target=report, args=(event.assoc,)))
        threads[0].start()
        return 0, None

    port, threads = peers.free_port(), []
    handlers = [(pynetdicom.evt.EVT_N_ACTION, act)]
    provider = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    heard: list[str] = []
    try:
        with dn.connect(f"PYNET@127.0.0.1:{port}", contexts=dn.contexts.sop_classes(PRINTER)) as user:
            user.on_event_report(PRINTER)(lambda request: heard.append(request.dataset.PrinterStatusInfo))
            assert user.n_action(PRINTER, PRINTER_INSTANCE, 1).status.is_success
            user.wait_for_event_report()
            threads[0].join(PATIENCE)
    finally:
        provider.shutdown()
    assert (heard, answers) == (["WARM"], [0])
