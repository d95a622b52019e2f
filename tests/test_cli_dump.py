"""`dicomnet dump`: files and captured streams, whole, cut and hostile."""

from __future__ import annotations

import json
from pathlib import Path

import programs
import pytest
from pydicom.data import get_testdata_file

from dicomnet import uids
from dicomnet._pdu import (
    PDV,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    ImplementationClassUID,
    MaximumLength,
    PDataTF,
    PresentationContextAC,
    PresentationContextRQ,
    ReleaseRP,
    ReleaseRQ,
    RoleSelection,
    UnknownItem,
    UserIdentityRQ,
)
from dicomnet.wire.command_set import Command

GOLDEN = Path(__file__).parent / "data" / "golden"
USER_INFORMATION = (
    MaximumLength(16384),
    ImplementationClassUID("1.2.3"),
    RoleSelection(uids.CT_IMAGE_STORAGE, True, False),
    UserIdentityRQ(2, b"user", b"open sesame"),
    UnknownItem(0x5A, bytes(40)),
)
REQUEST = AssociateRQ(
    "CALLED",
    "CALL\x1b[31mING",
    (PresentationContextRQ(1, uids.VERIFICATION, ("1.2.840.10008.1.2",)),),
    USER_INFORMATION,
)
ECHO = Command(command_field=0x0030, message_id=7, affected_sop_class_uid=uids.VERIFICATION).encode()
STATUS = Command(
    command_field=0x8001, message_id_being_responded_to=7, status=0xA700, offending_element=(0x00100010,)
).encode()
STREAM = (
    REQUEST,
    AssociateAC("CALLED", "CALLING", (PresentationContextAC(1, 0, "1.2.840.10008.1.2"),), USER_INFORMATION[:2]),
    PDataTF((PDV(1, ECHO[:20], True, False),)),
    PDataTF((PDV(1, ECHO[20:], True, True), PDV(1, bytes(100), False, False))),
    PDataTF((PDV(1, STATUS, True, True),)),
    AssociateRJ(1, 1, 7),
    ReleaseRQ(),
    ReleaseRP(),
    Abort(2, 6),
)


@pytest.fixture
def stream(tmp_path):
    path = tmp_path / "stream"
    path.write_bytes(b"".join(pdu.encode() for pdu in STREAM))
    return path


def dump(path: object, *options: str) -> str:
    result = programs.run_here("dump", path, *options)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


class TestStreams:
    def test_every_pdu(self, stream):
        heads = [line.split(": ")[1].split(",")[0] for line in dump(stream).splitlines() if not line.startswith(" ")]
        assert heads == [
            "A-ASSOCIATE-RQ", "A-ASSOCIATE-AC", "P-DATA-TF", "P-DATA-TF", "P-DATA-TF", "A-ASSOCIATE-RJ", "A-RELEASE-RQ",
            "A-RELEASE-RP", "A-ABORT",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        "words",
        [
            "\n    called AE title: CALLED\n",
            "\n            abstract syntax: 1.2.840.10008.1.1 (Verification)\n",
            "\n            transfer syntaxes: 1.2.840.10008.1.2 (Implicit VR Little Endian)\n",
            "\n        MaximumLength: 16384\n",
            "\n            primary: user\n",
            "\n            secondary: 11 bytes\n",
            "\n            data: 40 bytes 00 00",
            "\n        context 1: command, 20 bytes\n",
            "\n            message: C-ECHO-RQ\n",
            "\n            message ID: 7\n",
            "\n        context 1: data set, 100 bytes\n",
            "\n            message: C-STORE-RSP\n",
            "\n            status: 0xA700 (failure: Refused: Out of resources)\n",
            "\n            offending element: (0010,0010)\n",
            "called AE title not recognised\n",
            "invalid PDU parameter value)\n",
        ],
    )
    def test_what_is_in_them(self, words, stream):
        assert words in dump(stream)

    def test_what_a_peer_wrote_is_escaped(self, stream):
        output = dump(stream)
        assert "\x1b" not in output
        assert "calling AE title: CALL\\x1b[31mING" in output

    def test_secrets_stay_secret(self, stream):
        assert "sesame" not in dump(stream) + dump(stream, "--json")

    def test_json(self, stream):
        *pdus, total = map(json.loads, dump(stream, "--json").splitlines())
        assert [pdu["length"] for pdu in pdus] == [len(pdu.encode()) - 6 for pdu in STREAM]
        assert pdus[3]["pdvs"][0].items() >= {"message": "C-ECHO-RQ", "context": 1, "last": True}.items()
        assert total == {"summary": {"pdus": len(STREAM), "failed": 0}}

    @pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.bin"))[::6], ids=lambda path: path.stem)
    def test_streams_captured_from_dcmtk(self, path):
        assert dump(path).startswith("0: ")

    def test_a_stream_that_is_cut(self, stream):
        content = stream.read_bytes()
        stream.write_bytes(content[:-2])
        result = programs.run_here("dump", stream)
        assert result.returncode == 22
        assert result.stdout.count("A-RELEASE") == 2
        assert result.stderr == (
            f"error: {stream}: truncated: the PDU at byte {len(content) - 10} goes on past the end of the file, "
            f"{len(content) - 2}\n"
        )

    def test_a_pdu_that_is_malformed_is_named_and_passed_over(self, stream):
        stream.write_bytes(REQUEST.encode() + b"\x05\0\0\0\0\x02\0\0" + ReleaseRP().encode())
        result = programs.run_here("dump", stream)
        assert result.returncode == 22
        assert "malformed: " in result.stdout
        assert "A-RELEASE-RP" in result.stdout

    def test_a_command_that_is_malformed(self, stream):
        stream.write_bytes(PDataTF((PDV(1, ECHO[:-3], True, True),)).encode())
        assert "malformed: " in dump(stream)

    def test_a_length_that_lies(self, stream):
        stream.write_bytes(b"\x04\0\xff\xff\xff\xff" + bytes(100))
        assert programs.run_here("dump", stream).returncode == 22


class TestFiles:
    def test_every_sample(self, sample_files):
        by_size = sorted(sample_files, key=lambda path: path.stat().st_size)
        for path in by_size[:: len(by_size) // 5]:
            result = programs.run_here("dump", path)
            assert result.returncode in (0, 22)
            assert "\n(0008,0018) U" in result.stdout

    def test_values(self, sample_files):
        (path,) = (path for path in sample_files if path.name == "CT_small.dcm")
        output = dump(path)
        assert "(0002,0010) UI TransferSyntaxUID: 1.2.840.10008.1.2.1 (Explicit VR Little Endian)\n" in output
        assert "(0008,0008) CS ImageType: ORIGINAL\\PRIMARY\\AXIAL\n" in output
        assert "(7FE0,0010) OW PixelData: 32768 bytes\n" in output

    def test_a_value_is_shown_in_part(self, tmp_path):
        path = tmp_path / "long"
        text = b"\x10\x00\x00\x40LT" + (900).to_bytes(2, "little") + b"x\x1b" * 450
        path.write_bytes(bytes(128) + b"DICM" + bytes.fromhex("02000000 554c0400 00000000".replace(" ", "")) + text)
        output = programs.run_here("dump", path).stdout
        assert "(900 characters)" in output
        assert "\x1b" not in output
        assert all(len(line) < 400 for line in output.splitlines())

    def test_json(self, sample_files):
        *elements, total = map(json.loads, dump(sample_files[0], "--json").splitlines())
        assert all(element.keys() == {"tag", "vr", "keyword", "value"} for element in elements)
        assert total == {"summary": {"elements": len(elements), "failed": 0}}

    def test_a_truncated_file_is_shown_as_far_as_it_goes(self, sample_files):
        (path,) = (path for path in sample_files if path.name == "MR_truncated.dcm")
        result = programs.run_here("dump", path)
        assert result.returncode == 22
        assert "(0008,0018)" in result.stdout
        assert result.stderr.startswith(f"error: {path}: truncated: ")

    def test_noise_after_the_prefix(self, tmp_path):
        path = tmp_path / "noise"
        path.write_bytes(bytes(128) + b"DICM" + b"\xff" * 500)
        result = programs.run_here("dump", path)
        assert result.returncode == 23
        assert result.stderr == f"error: {path}: its file meta information has no Transfer Syntax UID (0002,0010)\n"


@pytest.mark.parametrize(
    ("content", "code"), [(b"hello", 21), (b"", 21), (bytes(200), 21), (b"\x08\0\0\0\0\0", 21), (None, 20)]
)
def test_what_is_neither(content, code, tmp_path):
    path = tmp_path / "x"
    if content is not None:
        path.write_bytes(content)
    result = programs.run_here("dump", path)
    assert result.returncode == code
    assert result.stderr.startswith(f"error: {path}: ")
    assert result.stderr.count("\n") == 1


def test_what_is_no_file_is_called_so():
    result = programs.run_here("dump", "/dev/null")
    assert (result.returncode, result.stderr) == (20, "error: /dev/null: is no ordinary file\n")


def test_a_name_is_one_value_and_a_file_cut_short_is_shown_as_far_as_it_goes(tmp_path):
    content = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    (tmp_path / "whole").write_bytes(content)
    (tmp_path / "cut").write_bytes(content[:1000])
    whole = programs.run_here("dump", tmp_path / "whole")
    assert "(0010,0010) PN PatientName: CompressedSamples^CT1\n" in whole.stdout
    assert "(0008,0008) CS ImageType: ORIGINAL\\PRIMARY\\AXIAL\n" in whole.stdout
    cut = programs.run_here("dump", tmp_path / "cut", "--json")
    assert cut.returncode == 22
    assert cut.stderr.startswith(f"error: {tmp_path / 'cut'}: truncated: ")
    assert programs.summary(cut.stdout) == {"elements": len(cut.stdout.splitlines()) - 1, "failed": 1}
    assert "CompressedSamples^CT1" in cut.stdout
