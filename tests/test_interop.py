"""Stores between dicomnet and itself, DCMTK and pynetdicom, with every real file of pydicom's wheel that is whole."""

from __future__ import annotations

import os
import subprocess
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import peers
import programs
import pydicom
import pytest
from pydicom.filereader import _read_file_meta_info, read_preamble

from dicomnet import uids
from dicomnet.errors import InputFileError
from dicomnet.files.instance_source import FileSource

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # real files break rules

BIG_ENDIAN = uids.EXPLICIT_VR_BIG_ENDIAN
NATIVE = frozenset({uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN, BIG_ENDIAN})
DEFLATED = uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
# What makes DCMTK's storescu offer a transfer syntax.
PROPOSALS = {
    uids.IMPLICIT_VR_LITTLE_ENDIAN: "-xi",
    uids.EXPLICIT_VR_LITTLE_ENDIAN: "-xe",
    uids.EXPLICIT_VR_BIG_ENDIAN: "-xb",
    DEFLATED: "-xd",
    uids.RLE_LOSSLESS: "-xr",
    uids.JPEG_BASELINE_8_BIT: "-xy",
    uids.JPEG_EXTENDED_12_BIT: "-xx",
    uids.JPEG_LOSSLESS_SV1: "-xs",
    uids.JPEG_LS_LOSSLESS: "-xt",
    uids.JPEG_LS_NEAR_LOSSLESS: "-xu",
    uids.JPEG2000_LOSSLESS: "-xv",
    uids.JPEG2000: "-xw",
}


# Real, but broken in ways that DCMTK's users cannot read: they find no SOP Class UID, and send nothing.
UNREADABLE_BY_DCMTK = {
    "SC_rgb_jpeg.dcm": "its data set is in implicit VR, under an explicit transfer syntax",
    "rtdose_rle.dcm": "its UIDs have VR UN",
    "rtdose_rle_1frame.dcm": "its UIDs have VR UN",
}


def described(path: Path) -> tuple[str, str]:
    """SOP Instance UID and transfer syntax."""
    with FileSource(path) as source:
        return source.sop_instance_uid, source.transfer_syntax_uid


def is_whole(path: Path) -> bool:
    try:
        FileSource(path).close()
    except InputFileError:
        return False
    return True


@pytest.fixture(scope="session")
def samples(sample_files):
    return [path for path in sample_files if is_whole(path)]


def meta_uid(path: Path) -> str:
    return str(pydicom.dcmread(path, stop_before_pixels=True).file_meta.MediaStorageSOPInstanceUID)


def waves(paths: list[Path], name=lambda path: described(path)[0]) -> list[dict[str, Path]]:
    """Files by SOP Instance UID, each once in a lot: some samples are one instance in several encodings."""
    lots: list[dict[str, Path]] = []
    for path in paths:
        uid = name(path)
        lot = next((lot for lot in lots if uid not in lot), None)
        if lot is None:
            lots.append(lot := {})
        lot[uid] = path
    return lots


def data_set(path: Path) -> bytes:
    """The bytes of a file's data set, as they go over the wire, found by pydicom."""
    with path.open("rb") as file:
        read_preamble(file, force=False)
        meta = _read_file_meta_info(file)
        data = file.read()
    # PS3.5 Section A.5: a deflated stream of odd length is padded.
    return data + b"\0" if meta.TransferSyntaxUID == DEFLATED and len(data) % 2 else data


def received(directory: Path) -> dict[str, Path]:
    """Files in a provider's directory by SOP Instance UID, as their file meta information has it."""
    return {meta_uid(path): path for path in directory.iterdir()}


def assert_bits_arrived(lot: dict[str, Path], directory: Path) -> None:
    """The lot and nothing else; it is removed then, for the next one."""
    arrived = received(directory)
    assert arrived.keys() == lot.keys()
    for uid, path in lot.items():
        assert data_set(arrived[uid]) == data_set(path), path
        assert described(arrived[uid])[1] == described(path)[1]
        arrived[uid].unlink()


def elements(dataset: pydicom.Dataset, big_endian: bool) -> list[tuple]:
    """What a data set says, without what senders may drop or make anew: group lengths, padding and byte order."""
    return [
        (element.tag, value(element, big_endian))
        for element in dataset
        if element.tag.element != 0 and element.tag != 0xFFFCFFFC
    ]


def value(element: pydicom.DataElement, big_endian: bool) -> object:
    if element.VR == "SQ":
        return [elements(item, big_endian) for item in element.value]
    if element.VR == "OW" and big_endian:
        words = bytearray(element.value)
        words[::2], words[1::2] = words[1::2], words[::2]
        return bytes(words)
    return element.value


def assert_meaning_arrived(lot: dict[str, Path], directory: Path, native: frozenset[str] = frozenset()) -> None:
    """Every element is as it was, and the transfer syntax, too, but for `native` ones, which may become each other."""
    arrived = received(directory)
    assert arrived.keys() == lot.keys()
    for uid, path in lot.items():
        before, after = described(path)[1], described(arrived[uid])[1]
        assert before == after or {before, after} <= native
        assert elements(pydicom.dcmread(arrived[uid]), after == BIG_ENDIAN) == elements(
            pydicom.dcmread(path), before == BIG_ENDIAN
        ), path
        arrived[uid].unlink()


@pytest.fixture
def recv(tmp_path):
    with programs.provider("--out", tmp_path) as provider:
        yield provider


class TestDicomnetToDicomnet:
    @pytest.mark.long
    def test_bit_for_bit_in_every_transfer_syntax(self, samples, recv, tmp_path):
        assert {described(path)[1] for path in samples} >= PROPOSALS.keys()
        for lot in waves(samples):
            result = programs.run("store", recv.address, *lot.values(), "--json")
            assert result.returncode == 0, result.stderr
            assert programs.summary(result.stdout)["instances"] == len(lot)
            assert_bits_arrived(lot, tmp_path)

    def test_over_several_associations(self, samples, tmp_path):
        lot = waves(samples)[0]
        with programs.provider("--out", tmp_path, "-pdu", "4k") as recv:
            result = programs.run("store", recv.address, *lot.values(), "--associations", 4)
        assert result.returncode == 0, result.stderr
        assert_bits_arrived(lot, tmp_path)


def readable_by_dcmtk(paths: list[Path]) -> list[Path]:
    return [path for path in paths if path.name not in UNREADABLE_BY_DCMTK]


# Else it waits 40 ms for a delayed acknowledgement with every instance.
DCMTK_ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


class TestDcmtk:
    @contextmanager
    def storescp(self, directory: Path):
        port = peers.free_port()
        program = [peers.peer_program("storescp"), "+B", "+xa", "-pm", "-od", directory, port]
        with programs.peer(program, port, env=DCMTK_ENVIRONMENT):
            yield f"STORESCP@127.0.0.1:{port}"

    def test_store_to_storescp(self, samples, tmp_path):
        with self.storescp(tmp_path) as address:
            for lot in waves(samples):
                result = programs.run("store", address, *lot.values())
                assert result.returncode == 0, result.stderr
                assert_bits_arrived(lot, tmp_path)

    def test_echo_to_storescp(self, tmp_path):
        with self.storescp(tmp_path) as address:
            assert programs.run("echo", address, "--count", 3).returncode == 0

    def dcmtk(self, program: str, *arguments: object) -> None:
        result = subprocess.run(
            [peers.peer_program(program), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=programs.PATIENCE,
            env=DCMTK_ENVIRONMENT,
        )
        assert result.returncode == 0, result.stdout + result.stderr

    def test_echoscu(self):
        with programs.provider("--discard", address="STORE@127.0.0.1:0") as recv:
            self.dcmtk("echoscu", "-aec", "STORE", "-pts", 3, "-ppc", 10, "--repeat", 5, recv.host, recv.port)

    def test_storescu(self, samples, recv, tmp_path):
        by_syntax = defaultdict(list)
        for path in readable_by_dcmtk(samples):
            by_syntax[described(path)[1]].append(path)
        for syntax, paths in by_syntax.items():
            for lot in waves(paths):
                self.dcmtk("storescu", "-R", PROPOSALS[syntax], recv.host, recv.port, *lot.values())
                assert_meaning_arrived(lot, tmp_path)

    def test_dcmsend(self, samples, recv, tmp_path):
        for lot in waves(readable_by_dcmtk(samples)):
            self.dcmtk("dcmsend", "-dn", "-nuc", recv.host, recv.port, *lot.values())
            assert_meaning_arrived(lot, tmp_path, NATIVE)


class TestPynetdicom:
    def test_store_to_its_provider(self, samples, monkeypatch):
        pynetdicom = peers.peer_module("pynetdicom")
        monkeypatch.setattr(pynetdicom._config, "UNRESTRICTED_STORAGE_SERVICE", True)
        kept = []

        def keep(event):
            kept.append(
                (event.request.AffectedSOPInstanceUID, event.context.transfer_syntax, event.request.DataSet.getvalue())
            )
            return 0x0000

        ae = pynetdicom.AE("PYNETDICOM")
        ae.add_supported_context(uids.VERIFICATION)
        server = ae.start_server(
            ("127.0.0.1", peers.free_port()), block=False, evt_handlers=[(pynetdicom.evt.EVT_C_STORE, keep)]
        )
        try:
            address = f"127.0.0.1:{server.server_address[1]}"
            assert programs.run("echo", address).returncode == 0
            result = programs.run("store", address, *samples, "--json")
        finally:
            server.shutdown()
        assert result.returncode == 0, result.stderr
        expected = {(*described(path), data_set(path)) for path in samples}
        assert {(str(uid), str(syntax), data) for uid, syntax, data in kept} == expected
        assert len(kept) == len(samples)

    @contextmanager
    def associated(self, recv: programs.Provider, paths: list[Path]):
        pynetdicom = peers.peer_module("pynetdicom")
        ae = pynetdicom.AE("PYNETDICOM")
        ae.add_requested_context(uids.VERIFICATION)
        sources = [FileSource(path) for path in paths]
        for pair in {(source.sop_class_uid, source.transfer_syntax_uid) for source in sources}:
            ae.add_requested_context(*pair)
        association = peers.steadied(ae.associate(recv.host, recv.port))
        assert association.is_established
        yield association
        association.release()
        assert association.is_released

    def test_its_user_sending_files(self, samples, recv, tmp_path, monkeypatch):
        pynetdicom = peers.peer_module("pynetdicom")
        monkeypatch.setattr(pynetdicom._config, "STORE_SEND_CHUNKED_DATASET", True)
        for lot in waves(samples, meta_uid):  # which is what it goes by
            with self.associated(recv, list(lot.values())) as association:
                assert association.send_c_echo().Status == 0
                assert {association.send_c_store(path).Status for path in lot.values()} == {0}
            assert_bits_arrived(lot, tmp_path)

    def test_its_user_sending_data_sets(self, samples, recv, tmp_path):
        names = {"CT_small.dcm", "MR_small_bigendian.dcm", "rtplan.dcm", "image_dfl.dcm", "693_J2KI.dcm"}
        (lot,) = waves([path for path in samples if path.name in names])
        with self.associated(recv, list(lot.values())) as association:
            assert {association.send_c_store(pydicom.dcmread(path)).Status for path in lot.values()} == {0}
        assert_meaning_arrived(lot, tmp_path)
