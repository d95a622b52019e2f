"""The programs in `examples/`: short, and each run as it is against real archives, or against providers of ours."""

from __future__ import annotations

import io
import runpy
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import archives
import peers
import pytest
from pydicom.dataset import FileMetaDataset
from rig import instance, keys
from servers import make_settings
from test_interop_services import SELF, Server, dcmqrscp, orthanc

import dicomnet as dn
from dicomnet import uids
from dicomnet.archive.archive import Archive
from dicomnet.cli.app import run as cli
from dicomnet.dataset import codec
from dicomnet.server import Server as ServerOfOurs
from dicomnet.testing import Provider

EXAMPLES = Path(__file__).parent.parent / "examples"
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py"))
COUNT = 6


def run(program: str, *arguments: object, code: int = 0) -> str:
    """Run an example, as Python runs a program, but in this process; what it printed."""
    output, errors = io.StringIO(), io.StringIO()
    ended: object = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        patch.setattr(sys, "argv", [program, *map(str, arguments)])
        try:
            runpy.run_path(str(EXAMPLES / program), run_name="__main__")
        except SystemExit as end:
            ended = end.code or 0
    assert (ended, errors.getvalue()) == (code, ""), output.getvalue() + errors.getvalue()
    return output.getvalue()


@pytest.mark.parametrize("program", PROGRAMS)
def test_without_arguments_it_says_what_it_takes(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    with pytest.raises(SystemExit, match=f"python {program} "):
        runpy.run_path(str(EXAMPLES / program))


def write_study(directory: Path) -> Path:
    """A study of a few images, as files."""
    directory.mkdir()
    for number in range(COUNT):
        dataset = instance(number, StudyDate="20260102", SeriesNumber=1)
        dataset.save_as(directory / f"{number}.dcm", enforce_file_format=True)
    return directory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_study(tmp_path / "studies")


# One of them is enough for `make test`, which tests the services with both.
ARCHIVES = [pytest.param(orthanc, id="orthanc", marks=pytest.mark.long), pytest.param(dcmqrscp, id="dcmqrscp")]
SERVERS = pytest.mark.parametrize("server", ARCHIVES)


@pytest.fixture(scope="module", params=ARCHIVES)
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An archive of somebody else with the study in it."""
    directory = tmp_path_factory.mktemp("server")
    paths = sorted(write_study(tmp_path_factory.mktemp("files") / "studies").iterdir())
    with request.param(directory) as made:
        with dn.connect(made.peer, calling=SELF, contexts=dn.contexts.for_files(paths)) as association:
            assert all(result.ok for result in association.store_many(paths))
        yield made


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_is_short(program: str) -> None:
    text = (EXAMPLES / program).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 25
    assert f"\npython {program} " in text  # how to call it


def test_each_is_run_and_shown() -> None:
    assert len(PROGRAMS) >= 14
    source = Path(__file__).read_text(encoding="utf-8")
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text(encoding="utf-8")
    assert [program for program in PROGRAMS if f'run("{program}"' not in source or program not in page] == []


def test_store_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not with dcmqrscp: of what comes at once, from DCMTK's own storescu too, it acknowledges all and loses some."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "server").mkdir()
    with orthanc(tmp_path / "server") as empty:
        assert run("store_folder.py", empty.peer, folder).count(": stored") == COUNT
        assert len(empty.held()) == COUNT
        instance(99).save_as(folder / "99.dcm", enforce_file_format=True)
        again = run("store_folder.py", empty.peer, folder)
        assert (again.count(": skipped"), again.count(": stored")) == (COUNT, 1)
        assert len(empty.held()) == COUNT + 1


def test_worklist_to_mpps() -> None:
    step = keys(
        Modality="CT",
        ScheduledStationAETitle="CT1",
        ScheduledProcedureStepStartDate="20260102",
        ScheduledProcedureStepStartTime="0900",
        ScheduledProcedureStepDescription="Head",
        ScheduledProcedureStepID="S1",
    )
    item = keys(
        PatientName="DOE^JANE",
        PatientID="P1",
        PatientBirthDate="",
        PatientSex="F",
        AccessionNumber="A1",
        RequestedProcedureID="R1",
        StudyInstanceUID="2.25.100",
        ScheduledProcedureStepSequence=[step],
    )
    with Provider("RIS", matches=[item]) as ris:
        printed = run("worklist_to_mpps.py", ris.peer)
        asked, begun, ended = ris.received
    assert printed.startswith("DOE^JANE: Head\n")
    assert printed.endswith(": COMPLETED\n")
    assert asked.dataset.ScheduledProcedureStepSequence[0].Modality == "CT"
    assert (begun.service, ended.service) == ("N-CREATE", "N-SET")
    assert begun.dataset.PerformedProcedureStepStatus == "IN PROGRESS"
    assert begun.dataset.ScheduledStepAttributesSequence[0].StudyInstanceUID == "2.25.100"
    assert ended.sop_instance_uid == begun.sop_instance_uid
    assert ended.dataset.PerformedProcedureStepStatus == "COMPLETED"
    assert ended.dataset.PerformedSeriesSequence[0].ProtocolName == "HEAD"


def test_drill_down(archive: Server) -> None:
    lines = run("drill_down.py", archive.peer, "DOE*").splitlines()
    assert lines[0].startswith("DOE^JANE, 20260102")
    assert lines[1].split() == ["CT", "1"]
    instances = sorted(" ".join(line.split()) for line in lines[2:])
    assert instances == [f"{number} 2.25.{1000 + number}" for number in range(COUNT)]


def test_retrieve_tls(folder: Path, tmp_path: Path) -> None:
    certificates, incoming = tmp_path / "certificates", tmp_path / "incoming"
    assert cli(["cert", "make", str(certificates), "-q"]) == 0
    tls = dn.TLS(ca=certificates / "ca.pem", cert=certificates / "server.pem", key=certificates / "server.key")
    here = f"dicoms://SELF@localhost:{peers.free_port()}"
    scp = dn.Listener("ARCHIVE", port=0, tls=tls, destinations={"SELF": dn.Entity.parse(here)})
    scp.on_move("STUDY_ROOT")(lambda request: sorted(folder.iterdir()))
    with scp:
        peer = f"dicoms://ARCHIVE@localhost:{scp.address[1]}"
        printed = run("retrieve_tls.py", peer, here, certificates, "2.25.100", incoming)
    assert "TLSv1.3, TLS_" in printed
    assert f"{COUNT} instances by move, 0 failed" in printed
    assert len(list(incoming.iterdir())) == COUNT


@pytest.mark.parametrize("ok", [True, False])
def test_commit(folder: Path, ok: bool) -> None:
    with Provider("ARCHIVE", status={"N-ACTION": 0 if ok else 0x0110}) as provider:
        printed = run("commit.py", provider.peer, folder, code=0 if ok else 1)
        services = [one.service for one in provider.received]
    assert services == ["C-STORE"] * COUNT + ["N-ACTION"]
    assert printed.count(": committed" if ok else ": not committed") == COUNT


def test_first_match(archive: Server) -> None:
    assert run("first_match.py", archive.peer, "P1") == "DOE^JANE: 2.25.100\n"


def test_first_match_is_all_that_is_asked_for() -> None:
    given: list[int] = []

    def matches(_: object) -> Iterator[dict[str, str]]:
        for number in range(10_000):
            given.append(number)
            yield {"PatientName": "DOE^JANE", "StudyInstanceUID": f"2.25.{number}"}

    scp = dn.Listener("ARCHIVE", port=0)
    scp.on_find("STUDY_ROOT")(matches)
    with scp:
        assert run("first_match.py", f"ARCHIVE@127.0.0.1:{scp.address[1]}", "P1") == "DOE^JANE: 2.25.0\n"
    assert len(given) < 10_000


@SERVERS
def test_edit_before_store(server: Any, folder: Path, tmp_path: Path) -> None:
    report = instance(50, sop_class=uids.BASIC_TEXT_SR_STORAGE)
    del report.PixelData
    report.save_as(folder / "report.dcm", enforce_file_format=True)
    (tmp_path / "server").mkdir()
    with server(tmp_path / "server") as empty:
        printed = run("edit_before_store.py", empty.peer, folder)
        held = empty.held()
    assert (printed.count(": stored"), printed.count(": skipped")) == (COUNT, 1)
    assert len(held) == COUNT
    for data in held.values():
        assert codec.decode(data, uids.EXPLICIT_VR_LITTLE_ENDIAN).PatientName == "ANON"


def test_forward(archive: Server, tmp_path: Path) -> None:
    held = archive.held()
    with Provider("NEW") as new:
        printed = run("forward.py", archive.peer, new.peer, "P1")
        arrived = {one.sop_instance_uid: one.data for one in new.received}
    assert printed == f"2.25.100: {COUNT} forwarded, 0 failed\n"
    assert arrived == held


def test_fan_out(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with orthanc(tmp_path / "one") as one, dcmqrscp(tmp_path / "two") as two, Provider("THREE") as three:
        printed = run("fan_out.py", folder, one.peer, two.peer, three.peer)
        assert printed.splitlines() == [f"{peer}: {COUNT} of {COUNT}" for peer in (one.peer, two.peer, three.peer)]
        assert one.held() == two.held()
        assert len(one.held()) == len(three.received) == COUNT


def test_message_log(archive: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "messages.log"
    assert run("message_log.py", archive.peer, log) == "2.25.100\n"
    assert cli(["dump", str(log)]) == 0
    shown = capsys.readouterr().out
    for seen in ("A-ASSOCIATE-RQ", "A-ASSOCIATE-AC", "C-ECHO-RSP", "C-FIND-RQ", "A-RELEASE-RQ"):
        assert seen in shown
    assert "DOE" not in shown


def test_work_items(tmp_path: Path) -> None:
    """The second of two that want it is told so, and goes on."""
    directory = tmp_path / "archive"
    with Archive(directory, archives.make(directory)) as archive:
        peer = f"ARCHIVE@127.0.0.1:{archive.listener.address[1]}"
        with dn.client.UpsScu(peer) as ups:
            for label in ("CT head", "CT chest"):
                ups.create(label, WorklistLabel="Reading")
            ups.create("Segment", WorklistLabel="Other")
        assert run("work_items.py", peer) == "CT head: COMPLETED\nCT chest: COMPLETED\n"
        assert run("work_items.py", peer) == ""


@pytest.mark.long
def test_print_images(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    for path in peers.sample_files():
        if path.name in ("CT_small.dcm", "MR_small.dcm"):
            shutil.copy(path, tmp_path / "studies")
    with served_by(tmp_path / "printer", "printer") as peer:
        assert run("print_images.py", peer, tmp_path / "studies") == "printer: NORMAL\n2 images on 1 films: DONE\n"


def test_make_media(folder: Path, tmp_path: Path) -> None:
    printed = run("make_media.py", folder, tmp_path / "disc", (4 << 20) + 3 * 4096)  # 4 MiB stay free
    lines = printed.splitlines()
    assert len(lines) >= 2
    assert all("whole: True" in line for line in lines)
    assert sum(int(line.split()[2]) for line in lines) == COUNT


def test_tell_availability(folder: Path, tmp_path: Path) -> None:
    with served_by(tmp_path / "ris", "availability") as peer:
        assert run("tell_availability.py", peer, "ARCHIVE", folder) == "6 instances told of in 1 notes\n"


def test_update_patient(tmp_path: Path) -> None:
    with Archive(tmp_path, archives.make(tmp_path, hl7_port=0)) as archive:
        archives.store(archive.holdings, [archives.part10(1, study=study) for study in (1, 2)])
        assert archive.hl7.server is not None
        where = f"127.0.0.1:{archive.hl7.server.address[1]}"
        assert run("update_patient.py", where, "P1", "P2", "Doe^Jane") == "P1 is P2 now\n"
        peer = f"ARCHIVE@127.0.0.1:{archive.listener.address[1]}"
        with dn.connect(peer, contexts=dn.contexts.query_retrieve()) as one:
            assert len(list(one.find("STUDY", PatientID="P2", StudyInstanceUID=None))) == 2


def test_hanging_protocols(tmp_path: Path) -> None:
    with Archive(tmp_path / "archive", archives.make(tmp_path / "archive")) as archive:
        peer = f"ARCHIVE@127.0.0.1:{archive.listener.address[1]}"
        contexts = dn.services.presentation_contexts.sop_classes(uids.HANGING_PROTOCOL_STORAGE)
        with dn.connect(peer, contexts=contexts) as association:
            for number, modality in enumerate(("CT", "MR"), 1):
                one = keys(
                    SOPClassUID=uids.HANGING_PROTOCOL_STORAGE,
                    SOPInstanceUID=f"1.2.7.{number}",
                    HangingProtocolName=f"{modality} chest",
                    HangingProtocolDefinitionSequence=[keys(Modality=modality)],
                )
                one.file_meta = FileMetaDataset()
                one.file_meta.TransferSyntaxUID = uids.EXPLICIT_VR_LITTLE_ENDIAN
                assert association.store(one).status.is_success
        assert run("hanging_protocols.py", peer, "CT", tmp_path / "protocols") == "CT chest: 1 fetched\n"
    assert len([path for path in (tmp_path / "protocols").rglob("*") if path.is_file()]) == 1


@contextmanager
def served_by(directory: Path, add_in: str) -> Iterator[str]:
    """A server with an add-in."""
    with ServerOfOurs(make_settings(addins={"enable": [add_in]}), directory=directory) as server:
        yield f"SERVER@{server.address[0]}:{server.address[1]}"
