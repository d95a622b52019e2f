"""What works by default, with no option, with peers that are less than ideal."""

from __future__ import annotations

import select
from pathlib import Path

import faces
import peers
import programs
import pydicom
import pytest
from programs import run_here
from pydicom import examples

import dicomnet as dn
from dicomnet import uids
from dicomnet._pdu import AssociateAC, ImplementationClassUID, PDataTF, PresentationContextAC

COUNT = 30


def instances(folder: Path, kind: str = "ct", count: int = COUNT) -> list[Path]:
    """So many copies of an example, each an instance of its own."""
    folder.mkdir(exist_ok=True)
    dataset, made = pydicom.dcmread(examples.get_path(kind)), []
    for number in range(count):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.{number + 1}"
        made.append(folder / f"{number:03}.dcm")
        dataset.save_as(made[-1])
    return made


def test_a_provider_that_copies_the_window_and_keeps_one_at_a_time_gets_all(tmp_path: Path) -> None:
    kept: list[str] = []

    def one_at_a_time(raw: faces.RawProvider) -> None:
        asked = raw.read()
        contexts = tuple(
            PresentationContextAC(one.id, 0, one.transfer_syntaxes[0]) for one in asked.presentation_contexts
        )
        copied = [item for item in asked.user_information if not isinstance(item, ImplementationClassUID)]
        answer = (*copied, ImplementationClassUID("1.2.3"))
        raw.send(AssociateAC(asked.called_ae_title, asked.calling_ae_title, contexts, answer))
        while isinstance(pdu := raw.read(), PDataTF):
            command = faces.decode(pdu.pdvs[0].data)
            last = any(pdv.is_last and not pdv.is_command for pdv in pdu.pdvs)
            while not last:
                last = any(pdv.is_last and not pdv.is_command for pdv in raw.read().pdvs)
            if select.select([raw.sock], [], [], 0.005)[0]:
                return  # another request is there already: such a provider loses one of them
            kept.append(command.affected_sop_instance_uid or "")
            reply = faces.response(command, affected_sop_instance_uid=command.affected_sop_instance_uid)
            raw.send(faces.message(pdu.pdvs[0].context_id, reply))
        raw.send(bytes.fromhex("06000000000400000000"))  # A-RELEASE-RP

    with faces.raw_provider(one_at_a_time) as told:
        done = run_here("store", told.peer, *instances(tmp_path))  # type: ignore[attr-defined]
    assert done.returncode == 0, done.stderr
    assert len(set(kept)) == COUNT


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big endian"])
def test_a_provider_of_one_uncompressed_syntax_gets_every_uncompressed_file(tmp_path: Path, syntax: str) -> None:
    option = {"implicit": "+xi", "explicit": "+xe", "big endian": "+xb"}[syntax]
    native = {uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_BIG_ENDIAN}
    native |= {uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN}
    files: dict[str, Path] = {}
    for path in peers.sample_files():
        meta = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID", "SOPClassUID"])
        storable = meta.get("SOPClassUID") in uids.STORAGE_CLASSES and "truncated" not in path.name
        if meta.file_meta.TransferSyntaxUID in native and storable:
            files.setdefault(str(meta.SOPInstanceUID), path)
    assert len(files) > 10
    port = peers.free_port()
    (tmp_path / "out").mkdir()
    program = [peers.peer_program("storescp"), option, "-od", tmp_path / "out", port]
    with programs.peer(program, port):
        done = run_here("store", f"STORESCP@127.0.0.1:{port}", *files.values())
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").iterdir())) == len(files)


def test_a_get_that_proposes_jpeg_first_brings_every_instance_that_can_be_converted(tmp_path: Path) -> None:
    given = [str(examples.get_path(kind)) for kind in ("ct", "mr", "jpeg2k", "rt_dose", "rgb_color")]
    datasets = [pydicom.dcmread(path, stop_before_pixels=True) for path in given]
    archive = dn.Listener("PACS", port=0)
    archive.on_get("STUDY_ROOT")(lambda _: given)
    jpeg_first = [uids.JPEG_LOSSLESS_SV1, uids.EXPLICIT_VR_LITTLE_ENDIAN]
    contexts = dn.contexts.query_retrieve({one.SOPClassUID for one in datasets}, jpeg_first)
    with archive, dn.connect(f"PACS@127.0.0.1:{archive.address[1]}", contexts=contexts) as user:
        done = user.get("STUDY", StudyInstanceUID="1.2", to=tmp_path)
    assert (done.completed, done.failed) == (len(given), 0)
