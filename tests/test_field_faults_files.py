"""Faults of files that were found in the field: the row of the list is in each test's name."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import clients
import pydicom
import pytest
from programs import run, run_here, summary
from pydicom import examples
from test_interop_services import orthanc

import dicomnet as dn
from dicomnet import uids
from dicomnet.files.instance_source import open_source
from dicomnet.files.part10 import read_meta

LITTLE, JPEG_2000, CAPTURE = (
    uids.EXPLICIT_VR_LITTLE_ENDIAN,
    uids.JPEG2000_LOSSLESS,
    uids.SECONDARY_CAPTURE_IMAGE_STORAGE,
)
PREAMBLE = bytes(128) + b"DICM"


def element(tag: int, vr: bytes, value: bytes | str) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    value += (b"\0" if vr in (b"UI", b"OB") else b" ") * (len(value) & 1)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    return head + (struct.pack("<HI", 0, len(value)) if vr == b"OB" else struct.pack("<H", len(value))) + value


def group_2(syntax: str, uid: str, *more: bytes, said: int | None = None) -> bytes:
    """File meta information; its length as it is, or as ``said``."""
    body = element(0x00020001, b"OB", b"\0\1") + element(0x00020002, b"UI", CAPTURE) + element(0x00020003, b"UI", uid)
    body += element(0x00020010, b"UI", syntax) + b"".join(more)
    return element(0x00020000, b"UL", struct.pack("<I", len(body) if said is None else said)) + body


def plain(uid: str) -> bytes:
    return element(0x00080016, b"UI", CAPTURE) + element(0x00080018, b"UI", uid) + element(0x00100020, b"LO", "1")


def whole(uid: str) -> bytes:
    return PREAMBLE + group_2(LITTLE, uid) + plain(uid)


@pytest.fixture
def archive() -> Any:
    came: list[str] = []
    data: list[bytes] = []
    listener = dn.Listener("A", port=0)

    @listener.on_store(unknown_classes=True)
    def keep(request: dn.StoreRequest) -> None:
        came.append(request.sop_instance_uid)
        data.append(request.data)

    with listener:
        listener.came, listener.data = came, data  # type: ignore[attr-defined]
        listener.peer = f"A@127.0.0.1:{listener.address[1]}"  # type: ignore[attr-defined]
        yield listener


# ---- D1 --------------------------------------------------------------------------------------------------------------


def test_d1_a_second_group_0002_is_data(tmp_path: Path) -> None:
    path = tmp_path / "twice.dcm"
    rest = group_2(LITTLE, "1.2.4") + plain("1.2.3")
    path.write_bytes(PREAMBLE + group_2(JPEG_2000, "1.2.3") + rest)
    with open_source(path) as source:
        assert (source.transfer_syntax_uid, source.sop_instance_uid) == (JPEG_2000, "1.2.3")
        assert b"".join(map(bytes, source.chunks(1 << 20))) == rest


@pytest.mark.parametrize("wrong", [0, 8, 60, 10_000])
def test_d1_a_wrong_group_length_splits_nothing(wrong: int) -> None:
    """Such files are many: the group goes on as long as its elements do."""
    head = group_2(LITTLE, "1.2.3", element(0x00020012, b"UI", "1.2.9"), said=wrong)
    meta, start = read_meta(PREAMBLE + head + plain("1.2.3"))
    assert (meta.transfer_syntax_uid, meta.implementation_class_uid, start) == (LITTLE, "1.2.9", 132 + len(head))


@pytest.mark.parametrize("split", ["syntax", "version"])
def test_d1_a_length_that_ends_between_elements_too_early(split: str) -> None:
    """What stands behind is of the same group while its tags go up."""
    length = len(group_2(LITTLE, "1.2.3")) - 12 - (0 if split == "version" else len(element(0x00020010, b"UI", LITTLE)))
    head = group_2(LITTLE, "1.2.3", element(0x00020012, b"UI", "1.2.9"), said=length)
    meta, start = read_meta(PREAMBLE + head + plain("1.2.3"))
    assert (meta.transfer_syntax_uid, meta.implementation_class_uid, start) == (LITTLE, "1.2.9", 132 + len(head))


# ---- D2, D10, S13, S14 -----------------------------------------------------------------------------------------------


def test_d2_one_bad_transfer_syntax_is_named_and_the_others_go(archive: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.dcm").write_bytes(PREAMBLE + group_2(f"{LITTLE}.", "1.2.9") + plain("1.2.9"))
    (tmp_path / "good.dcm").write_bytes(whole("1.2.8"))
    for report in ((), ("--report", tmp_path.parent / "report.jsonl")):
        done = run_here("store", archive.peer, tmp_path, *report)
        assert (done.returncode, "bad.dcm" in done.stderr) == (23, True), done.stderr
    assert archive.came == ["1.2.8", "1.2.8"]


@pytest.mark.parametrize("kind", ["empty folder", "empty zip", "encrypted zip"])
@pytest.mark.parametrize("report", [False, True])
def test_d10_one_empty_container_does_not_end_a_batch(archive: Any, tmp_path: Path, kind: str, report: bool) -> None:
    good, bad = tmp_path / "good.dcm", tmp_path / "bad"
    good.write_bytes(whole("1.2.8"))
    if kind == "empty folder":
        bad.mkdir()
    else:
        with zipfile.ZipFile(bad, "w") as made:
            if kind == "encrypted zip":
                made.writestr("one.dcm", whole("1.2.9"))
        if kind == "encrypted zip":
            data = bytearray(bad.read_bytes())
            for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
                data[data.index(signature) + flags] |= 1
            bad.write_bytes(data)
    more = ("--report", tmp_path / "r.jsonl") if report else ()
    done = run_here("store", archive.peer, bad, good, *more)
    assert archive.came == ["1.2.8"]
    assert (done.returncode != 0, str(bad) in done.stderr) == (True, True), done.stderr


@pytest.mark.parametrize("kind", ["fifo", pytest.param("bomb", marks=pytest.mark.long)])
def test_s14_dump_neither_waits_nor_swells(tmp_path: Path, kind: str) -> None:
    import resource
    import zlib

    path = tmp_path / "one.dcm"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        packer = zlib.compressobj(9, wbits=-15)
        head = plain("1.2.9") + struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 0xFFFFFFF0)
        bomb = packer.compress(head) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(400)) + packer.flush()
        syntax = uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
        path.write_bytes(PREAMBLE + group_2(syntax, "1.2.9") + bomb)
    done = run("dump", path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20)))
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert str(path) in done.stderr


# ---- D8 --------------------------------------------------------------------------------------------------------------


def test_d8_names_that_are_not_utf_8_are_reported_and_resumed(archive: Any, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xe9.dcm"
    Path(os.fsdecode(name)).write_bytes(whole("1.2.8"))
    report = tmp_path / "r.jsonl"
    first = run_here("store", archive.peer, "--report", report, os.fsdecode(name), "--json")
    assert first.returncode == 0, first.stderr
    assert [json.loads(line) for line in report.read_text("utf-8").splitlines()]  # JSON is UTF-8
    second = run_here("store", archive.peer, "--report", report, "--resume", os.fsdecode(name), "--json")
    assert second.returncode == 0, second.stderr
    assert summary(second.stdout)["instances"] == 0
    assert archive.came == ["1.2.8"]


# ---- N12 -------------------------------------------------------------------------------------------------------------


def pump(source: socket.socket, target: socket.socket, stops: bool) -> None:
    """Pass on what comes; close instead of passing on an A-RELEASE-RQ."""
    with suppress(OSError):
        while data := source.recv(65536):
            if stops and data[0] == 5:
                break
            target.sendall(data)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "command",
    [["echo"], ["find", "STUDY", "-k", "PatientID"], ["get", "STUDY", "-k", "StudyInstanceUID=1.2"], ["doctor"]],
)
def test_n12_a_peer_that_closes_instead_of_releasing_is_a_warning(command: list[str], tmp_path: Path) -> None:
    listener = dn.Listener("P", port=0)
    listener.on_find("STUDY_ROOT")(lambda _: [{"PatientID": "42"}])
    listener.on_get("STUDY_ROOT")(lambda _: [])
    with listener, socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    ends = door.accept()[0], socket.create_connection(listener.address)
                    for pair in ((*ends, True), (*reversed(ends), False)):
                        threading.Thread(target=pump, args=pair, daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        more = ["--out", str(tmp_path)] if command[0] == "get" else []
        done = run_here(command[0], f"P@127.0.0.1:{door.getsockname()[1]}", *command[1:], *more)
    assert done.returncode == 0, done.stderr
    assert "did not release" in done.stderr
    assert "operations window: the peer closed" not in done.stdout


# ---- A1, A3, A6, A12 -------------------------------------------------------------------------------------------------

ODD = struct.pack("<HH", 0x10, 0x30) + b"LO" + struct.pack("<H", 3) + b"abc"


@pytest.mark.parametrize("more", [b"", element(0x00100040, b"CS", "M")])
@pytest.mark.parametrize("zipped", [False, True])
def test_a1_an_odd_length_is_named_padded_and_sent(archive: Any, tmp_path: Path, more: bytes, zipped: bool) -> None:
    path = tmp_path / "odd.dcm"
    path.write_bytes(whole("1.2.8") + ODD + more)
    if zipped:
        with zipfile.ZipFile(tmp_path / "odd.zip", "w") as made:
            made.write(path, "odd.dcm")
    done = run_here("store", archive.peer, tmp_path / "odd.zip" if zipped else path)
    assert done.returncode == 0, done.stderr
    assert "(0010,0030) has an odd number of bytes, 3 (PS3.5 Section 7.1.1)" in done.stderr
    assert "truncated" not in done.stderr
    assert archive.came == ["1.2.8"]
    assert archive.data == [plain("1.2.8") + ODD.replace(b"\3\0abc", b"\4\0abc ") + more]


IMPLICIT_DATA = b"".join(
    struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value
    for tag, value in ((0x00080016, CAPTURE.encode() + b"\0"), (0x00080018, b"1.2.3\0"), (0x00100010, b"AB"))
)


@pytest.mark.parametrize(
    ("syntax", "data"),
    [
        (LITTLE, IMPLICIT_DATA),
        (uids.IMPLICIT_VR_LITTLE_ENDIAN, plain("1.2.3")),
        (uids.EXPLICIT_VR_BIG_ENDIAN, plain("1.2.3")),
        (LITTLE, b"no data set at all, by no means."),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_a3_what_is_no_data_set_as_it_says_is_refused_or_forced(
    archive: Any, tmp_path: Path, syntax: str, data: bytes, force: bool
) -> None:
    path = tmp_path / "one.dcm"
    path.write_bytes(PREAMBLE + group_2(syntax, "1.2.3") + data)
    done = run_here("store", archive.peer, path, *(["--force"] if force else []))
    if force:
        assert (done.returncode, archive.data) == (0, [data]), done.stderr
    else:
        assert (done.returncode, archive.data) == (21, []), done.stderr
        assert f"is not in {uids.name_of(syntax)}, which its file meta information names" in done.stderr
        assert "--force" in done.stderr


@pytest.mark.parametrize("data", [IMPLICIT_DATA, plain("1.2.3"), b"neither of both, and no data set."])
@pytest.mark.parametrize("wanted", [False, True])
def test_a6_a_data_set_without_a_header_is_sent_where_that_is_wanted(
    archive: Any, tmp_path: Path, data: bytes, wanted: bool
) -> None:
    path = tmp_path / "headless"
    path.write_bytes(data)
    done = run_here("store", archive.peer, path, *(["--headerless"] if wanted else []))
    sent = wanted and data[:1] == b"\x08"
    assert (done.returncode, archive.data) == ((0, [data]) if sent else (21, [])), done.stderr


def test_a12_a_uid_that_is_too_long_is_refused_by_its_clause(archive: Any, tmp_path: Path) -> None:
    path = tmp_path / "long.dcm"
    path.write_bytes(whole("1.2." + "3" * 70))
    done = run_here("store", archive.peer, path)
    assert (done.returncode, "PS3.5 Section 9.1: digits and dots, 64 at most" in done.stderr) == (23, True)


# ---- A4, A5, A8, U14 -------------------------------------------------------------------------------------------------


def directory_of(folder: Path, *records: dict[str, Any]) -> Path:
    """A DICOMDIR with these records."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = LITTLE
    dataset.file_meta.MediaStorageSOPClassUID = uids.MEDIA_STORAGE_DIRECTORY_STORAGE
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.99"
    dataset.DirectoryRecordSequence = []
    for record in records:
        item = Dataset()
        for keyword, value in record.items():
            setattr(item, keyword, value)
        dataset.DirectoryRecordSequence.append(item)
    pydicom.dcmwrite(folder / "DICOMDIR", dataset, enforce_file_format=True)
    return folder / "DICOMDIR"


@pytest.mark.parametrize("name", ["IM1", "im1", "IM1.DCM", "im1.dcm", "IM1;1", "IM1.;1"])
def test_a4_a5_a_file_id_is_found_however_the_medium_spells_it(archive: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / name).write_bytes(whole("1.2.8"))
    (tmp_path / "images" / "IM2").write_bytes(whole("1.2.9"))
    listing = directory_of(
        tmp_path,
        {"RecordInUseFlag": 0xFFFF, "ReferencedFileID": ["IMAGES", "IM1 "]},
        {"RecordInUseFlag": 0, "ReferencedFileID": ["IMAGES", "IM2"]},
        {"RecordInUseFlag": 0xFFFF},
    )
    done = run_here("store", archive.peer, listing)
    assert (done.returncode, archive.came) == (0, ["1.2.8"]), done.stderr


@pytest.mark.parametrize("file_id", [["..", "out"], ["IMAGES", "IM3"], "../out"])
def test_a5_a_file_id_that_leads_nowhere_is_named(archive: Any, tmp_path: Path, file_id: Any) -> None:
    folder = tmp_path / "medium"
    (folder / "images").mkdir(parents=True)
    (tmp_path / "out").write_bytes(whole("1.2.7"))
    (folder / "images" / "im1").write_bytes(whole("1.2.8"))
    listing = directory_of(folder, {"ReferencedFileID": file_id}, {"ReferencedFileID": ["IMAGES", "IM1"]})
    done = run_here("store", archive.peer, listing)
    assert (done.returncode, archive.came) == (20, ["1.2.8"]), done.stderr
    assert "leads nowhere" in done.stderr


def test_a8_an_encrypted_entry_is_called_that(archive: Any, tmp_path: Path) -> None:
    path = tmp_path / "one.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("one.dcm", whole("1.2.9"))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\3\4") + 6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    done = run_here("store", archive.peer, path)
    assert "one.zip!one.dcm: it is encrypted. Unpack it." in done.stderr
    assert "ZipInfo" not in done.stderr


def test_u14_junk_in_a_folder_is_summed_up(archive: Any, tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}.txt").write_text("junk")
    (tmp_path / "good.dcm").write_bytes(whole("1.2.8"))
    done = run_here("store", archive.peer, tmp_path)
    assert archive.came == ["1.2.8"]
    lines = done.stderr.splitlines()
    assert len(lines) == 6
    assert lines[-1].startswith("error: 25 more, which -v names: not a DICOM file")
    told = run_here("store", archive.peer, tmp_path, "-v").stderr.splitlines()
    assert len([line for line in told if ".txt" in line]) == 30


# ---- A10 -------------------------------------------------------------------------------------------------------------


def test_a10_iso_2022_ir_58_is_read_written_and_checked() -> None:
    import pydicom

    from dicomnet.dataset import codec

    dataset = pydicom.Dataset()
    dataset.SpecificCharacterSet, dataset.PatientName = ["", "ISO 2022 IR 58"], "Zhang^XiaoDong=张^小东"
    encoded = codec.encode(dataset, LITTLE)
    assert b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab" in encoded  # PS3.5 Section K.2
    assert codec.decode(encoded, LITTLE).PatientName == dataset.PatientName
    dataset.PatientName = "Zhang^XiaoDong=Παπα"
    codec.encode(dataset, LITTLE)  # GB 2312 has Greek letters
    dataset.PatientName = "Zhang^XiaoDong=ابو"
    with pytest.raises(dn.InvalidArgument, match="ISO 2022 IR 58"):
        codec.encode(dataset, LITTLE)


# ---- A11 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", clients.FACES)
def test_a11_a_data_set_that_no_handler_can_read_fails_alone(archive: Any, tmp_path: Path, face: str) -> None:
    deep = b""
    for _ in range(70):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(deep)) + deep
        deep = struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, len(item)) + item
    (tmp_path / "a.dcm").write_bytes(PREAMBLE + group_2(LITTLE, "1.2.7") + plain("1.2.7")[:-10] + deep)
    (tmp_path / "b.dcm").write_bytes(whole("1.2.8"))
    made = clients.Clients(face)
    with made.make("StoreScu", archive.peer) as scu:
        scu.on(dn.client.events.BeforeStore)(made.handler(lambda event: event.dataset and None))
        results = {Path(one.name).name: one for one in scu.send(str(tmp_path))}
    made.close()
    assert results["b.dcm"].ok
    assert not results["a.dcm"].ok
    assert "a.dcm" in str(results["a.dcm"].error)
    assert "nest deeper" in str(results["a.dcm"].error)


# ---- A2, U1: Orthanc and one poison file -----------------------------------------------------------------------------


def test_a2_u1_orthanc_takes_what_it_can_of_a_folder_with_a_poison_file(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    uid = "1.2.826.0.1.3680043.8.498.1"
    for number in range(1, 13):
        with pydicom.config.disable_value_validation():
            dataset = pydicom.dcmread(examples.get_path("ct"))
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{number}"
        dataset.save_as(folder / f"{number:02}.dcm")
    poison = folder / "06.dcm"
    data = poison.read_bytes()
    at = data.index(struct.pack("<HH", 0x0018, 0x0050) + b"DS")
    sequence = struct.pack("<HH2sHI", 0x0010, 0x1002, b"SQ", 0, 8) + struct.pack("<HHI", 0x1234, 0x5678, 0)
    poison.write_bytes(data[:at] + sequence + data[at:])  # no item where one has to be: Orthanc aborts
    (folder / "notes.txt").write_text("junk")
    (tmp_path / "orthanc").mkdir()
    with orthanc(tmp_path / "orthanc") as server:
        done = run_here("store", server.peer, folder, "--json")
        told = summary(done.stdout)
        with dn.client.QueryRetrieveScu(server.peer) as scu:
            (study,) = scu.studies()
            found = {one.uid for series in scu.series(study) for one in scu.instances(series)}
    assert found == {f"{uid}.{number}" for number in range(1, 13) if number != 6}
    assert told["instances"] == 11
    assert done.returncode == 62
    named = [line for line in done.stderr.splitlines() if "06.dcm" in line]
    assert len(named) == 1, done.stderr
