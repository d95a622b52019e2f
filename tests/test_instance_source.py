"""Where the bytes of a C-STORE come from: what is sent is the data set of the file, or an error that says why not."""

import io
import os
import sys
import zlib
from pathlib import Path

import pydicom
import pytest
from cases import every
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset

from dicomnet import uids
from dicomnet.config import Limits
from dicomnet.errors import InputFileError, InputProblem, InvalidArgument
from dicomnet.files import instance_source
from dicomnet.files.instance_source import BytesSource, FileSource, describe, open_source
from dicomnet.files.part10 import meta_header, read_meta

LITTLE = uids.EXPLICIT_VR_LITTLE_ENDIAN
DEFLATED = uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
CT = uids.CT_IMAGE_STORAGE
BUFFER = Limits().file_buffer

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
linux = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    long = vr in (b"OB", b"OW", b"SQ", b"UN", b"UT")
    length = b"\0\0" + len(value).to_bytes(4, "little") if long else len(value).to_bytes(2, "little")
    return (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + vr + length + value


def data_set(pixels: bytes = b"", sop_class: bytes = CT.encode() + b"\0", sop_instance: bytes = b"1.2.3.45") -> bytes:
    head = element(0x00080016, b"UI", sop_class) + element(0x00080018, b"UI", sop_instance)
    return head + (element(0x7FE00010, b"OW", pixels) if pixels else b"")


def part10(
    data: bytes, syntax: str = LITTLE, sop_class: str | None = CT, sop_instance: str | None = "1.2.3.45"
) -> bytes:
    return meta_header(sop_class, sop_instance, syntax) + data


def deflated(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-zlib.MAX_WBITS)


def odd_deflated() -> bytes:
    """A deflated data set of odd length."""
    return next(d for n in range(64) if len(d := deflated(data_set(bytes(range(256))[: 2 * n]))) % 2)


@pytest.fixture
def write(tmp_path):
    def write(content: bytes, name: str = "x.dcm") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def content(source: instance_source.Source, unit: int = 16372) -> bytes:
    """All chunks, each copied while it is valid; their lengths are what `chunks` promises."""
    copies = [bytes(chunk) for chunk in source.chunks(unit)]
    assert all(len(chunk) % unit == 0 for chunk in copies[:-1])
    assert all(copies)
    data = b"".join(copies)
    assert len(data) == source.size
    assert source.size % 2 == 0
    return data


def refused(*arguments, opener=open_source, **options) -> InputFileError:
    with pytest.raises(InputFileError) as caught:
        opener(*arguments, **options).close()
    assert "\n" not in str(caught.value)
    return caught.value


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# Files


def test_real_files_give_their_data_sets(sample_files):
    buffer = bytearray(BUFFER)
    sent = set()
    for path in sample_files:
        if path.name in ("MR_truncated.dcm", "rtplan_truncated.dcm", "SC_rgb_jpeg.dcm"):  # the last has implicit VR
            continue
        whole = path.read_bytes()
        meta, offset = read_meta(whole)
        dataset = pydicom.dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"])
        with FileSource(str(path), buffer) as source:
            assert content(source) == whole[offset:] + b"\0" * (len(whole) - offset & 1)
            assert source.name == str(path)
            assert source.transfer_syntax_uid == meta.transfer_syntax_uid
            assert source.sop_class_uid == dataset.SOPClassUID
            assert source.sop_instance_uid == dataset.SOPInstanceUID
        sent.add(meta.transfer_syntax_uid)
    assert {DEFLATED, uids.EXPLICIT_VR_BIG_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.RLE_LOSSLESS} <= sent


@pytest.mark.parametrize("magic", [b"MZ", b"\x7fELF", b"#!/bin/sh\n", b"II*\0", b"MM\0*", b"PK\3\4", b"%PDF-"])
def test_t_preamble_nothing_of_it_goes_out(write, magic):
    """A preamble may be the beginning of a program; the file that is received has 128 zeros (`test_part10.py`)."""
    file = part10(data_set())
    source = open_source(write(magic.ljust(128, b"\x90") + file[128:]), buffer=bytearray(BUFFER))
    assert content(source) == data_set()
    source.close()


def test_other_real_files_are_named(sample_files):
    root = Path(pydicom.__file__).parent / "data" / "test_files"
    problems = {}
    for path in set(root.rglob("*")) - set(sample_files):
        if path.is_file():
            try:
                FileSource(path).close()
            except InputFileError as error:
                problems[path.name] = error.problem.name
    assert problems["no_meta.dcm"] == problems["README.txt"] == "NOT_PART10"
    assert problems["meta_missing_tsyntax.dcm"] == problems["nested_priv_SQ.dcm"] == "MISSING_UID"
    assert problems["empty_charset_LEI.dcm"] == "MISSING_UID"
    assert {"DICOMDIR", "UN_sequence.dcm", "priv_SQ.dcm", "no_meta_group_length.dcm"}.isdisjoint(problems)


@pytest.mark.parametrize("pixels", [0, 2, 600, 5000, 70_000, BUFFER - 400, 3 * BUFFER + 2])
@every("buffer", [None, 0, 1024, 4096, BUFFER])
@every("unit", [2, 1000, 16372, 262_132, 2 * BUFFER])
def test_every_size_buffer_and_unit(write, pixels, buffer, unit):
    if unit == 2 and pixels > 5000:
        unit = 202
    data = data_set(os.urandom(pixels))
    path = write(part10(data))
    with FileSource(path, None if buffer is None else bytearray(buffer)) as source:
        assert content(source, unit) == data
        assert content(source, 2 * unit) == data  # a second round


def test_pieces_of_no_size(write):
    with FileSource(write(part10(data_set(bytes(5000)))), bytearray(1024)) as source, pytest.raises(ZeroDivisionError):
        content(source, 0)


def test_sizes_around_the_buffer(write):
    for size in range(1016, 1032, 2):
        data = data_set(bytes(size - len(part10(data_set(b"\1\2"))) + 2))
        path = write(part10(data))
        assert path.stat().st_size == size
        with FileSource(path, bytearray(1024)) as source:
            assert content(source, 500) == data


def test_a_buffer_serves_one_file_after_another(write):
    buffer = bytearray(4096)
    for number in range(5):
        data = data_set(bytes([number]) * 1000 * number)
        with FileSource(write(part10(data)), buffer) as source:
            assert content(source, 100) == data


def test_the_data_go_out_from_the_buffer_itself(write):
    buffer = bytearray(1 << 16)
    for pixels in (100, 100_000):
        with FileSource(write(part10(data_set(bytes(pixels)))), buffer) as source:
            assert all(chunk.obj is buffer for chunk in source.chunks(1000))


@linux
def test_a_file_that_was_read_whole_is_closed_at_once(write):
    before = open_descriptors()
    small = FileSource(write(part10(data_set())))
    assert open_descriptors() == before
    large = FileSource(write(part10(data_set(bytes(10_000)))), bytearray(1024))
    assert open_descriptors() == before + 1
    large.close()
    large.close()
    assert open_descriptors() == before
    assert content(small) == data_set()
    abandoned = FileSource(write(part10(data_set(bytes(10_000)))), bytearray(1024))
    assert next(abandoned.chunks(10))
    del abandoned
    assert open_descriptors() == before


@linux
@pytest.mark.parametrize("bad", [b"", b"no", part10(data_set(bytes(9000)))[:-2], part10(b"", sop_class=None)])
def test_a_refused_file_is_closed(write, bad):
    before = open_descriptors()
    refused(write(bad), buffer=bytearray(1024))
    assert open_descriptors() == before


def test_the_data_set_is_right_about_its_uids(write):
    data = data_set(sop_class=b"1.2.840.10008.5.1.4.1.1.4\0", sop_instance=b"1.2.3.46")
    with FileSource(write(part10(data))) as source:
        assert source.sop_class_uid == uids.MR_IMAGE_STORAGE
        assert source.sop_instance_uid == "1.2.3.46"
        assert repr(source) == f"<FileSource {source.name!r}: MR Image Storage, {len(data)} bytes>"


def test_uids_come_from_wherever_there_are_any(write):
    with FileSource(write(part10(element(0x00100010, b"PN", b"A^B ")))) as source:
        assert (source.sop_class_uid, source.sop_instance_uid) == (CT, "1.2.3.45")
    with FileSource(write(part10(data_set(), sop_class=None, sop_instance=None))) as source:
        assert (source.sop_class_uid, source.sop_instance_uid) == (CT, "1.2.3.45")
    with FileSource(write(part10(data_set(sop_instance=b"no UID"), sop_instance="1.02.3"))) as source:
        assert source.sop_instance_uid == "1.02.3"  # wrong, but real


# What cannot be sent

PLAIN = element(0x00100010, b"PN", b"A^B ")


@pytest.mark.parametrize(
    ("bad", "problem", "words"),
    [
        (b"", InputProblem.NOT_PART10, "not a DICOM file"),
        (b"\x89PNG" * 100, InputProblem.NOT_PART10, "not a DICOM file"),
        (data_set(bytes(500)), InputProblem.NOT_PART10, "not a DICOM file"),
        (part10(b"")[:200], InputProblem.TRUNCATED, "file meta information"),
        (part10(b""), InputProblem.TRUNCATED, "ends after its file meta information"),
        (part10(data_set(bytes(500)))[:-2], InputProblem.TRUNCATED, "goes on past the end of the file"),
        (part10(data_set(bytes(500)))[:-1], InputProblem.TRUNCATED, "goes on past the end of the file"),
        (part10(data_set() + element(0x00100010, b"PN", b"A^B")), InputProblem.TRUNCATED, "odd number of bytes"),
        (part10(odd_deflated()[:-9], DEFLATED), InputProblem.TRUNCATED, "deflated data set has no end"),
        (part10(b"\xff" * 90, DEFLATED), InputProblem.TRUNCATED, "not a deflated stream"),
        (part10(PLAIN, sop_instance=None), InputProblem.MISSING_UID, "no SOP Instance UID"),
        (part10(PLAIN, sop_class=None), InputProblem.MISSING_UID, "no SOP Class UID"),
        (part10(PLAIN, sop_instance="../x"), InputProblem.MISSING_UID, "'../x' is none"),
        (part10(PLAIN, sop_instance="1." * 40), InputProblem.MISSING_UID, "no SOP Instance UID"),
        (part10(data_set()).replace(b"\x02\0\x10\0UI", b"\x02\0\x11\0UI"), InputProblem.MISSING_UID, "(0002,0010)"),
    ],
)
def test_what_cannot_be_sent_is_named(write, bad, problem, words):
    path = write(bad)
    for error in (refused(path), refused(path, buffer=bytearray(1024)), refused(bad)):
        assert error.problem is problem
        assert words in str(error)
    assert str(refused(path)).startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["missing.dcm", ".", "missing/x.dcm", "nul\0.dcm", "x" * 300])
def test_what_cannot_be_read_is_named(tmp_path, name):
    error = refused(f"{tmp_path}/{name}")
    assert error.problem is InputProblem.CANNOT_READ
    assert "cannot be read" in str(error)
    assert error.path == f"{tmp_path}/{name}"
    assert isinstance(error, OSError)
    assert (error.errno is None) == ("\0" in name)


@posix
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path / "pipe").problem is InputProblem.CANNOT_READ


@posix
def test_an_endless_device_is_refused():
    assert refused("/dev/zero").problem is InputProblem.NOT_PART10


def test_file_meta_information_without_end(write):
    private = b"\2\0\2\1OB\0\0" + (1 << 21).to_bytes(4, "little") + bytes(1 << 21)
    header = part10(b"") + private
    assert refused(write(header + data_set())).problem is InputProblem.NOT_PART10
    private = b"\2\0\2\1OB\0\0" + (1 << 15).to_bytes(4, "little") + bytes(1 << 15)
    path = write(part10(b"") + private + data_set())
    with FileSource(path, bytearray(1024)) as source:  # the buffer is too small for this one
        assert content(source) == data_set()
    assert describe(path) == (CT, LITTLE)


# Files that change


@pytest.mark.parametrize("size", [0, 200, 50_000, 99_998])
def test_a_file_cut_while_it_is_sent_is_an_error(write, size):
    path = write(part10(data_set(bytes(100_000))))
    with FileSource(path, bytearray(4096)) as source:
        chunks = source.chunks(1000)
        next(chunks)
        os.truncate(path, size)
        with pytest.raises(InputFileError) as caught:
            for _ in chunks:
                pass
    assert caught.value.problem is InputProblem.TRUNCATED
    assert "became shorter" in str(caught.value)
    assert caught.value.path == str(path)


def test_what_is_appended_meanwhile_is_not_sent(write):
    path = write(part10(data_set(bytes(100_000))))
    with FileSource(path, bytearray(4096)) as source:
        with path.open("ab") as file:
            file.write(bytes(5000))
        assert content(source, 1000) == data_set(bytes(100_000))


def test_a_file_cut_between_size_and_read_is_an_error(write, monkeypatch):
    path = write(part10(data_set(bytes(500))))
    monkeypatch.setattr(instance_source, "_read_at", lambda fd, view, position: 0)
    assert "became shorter" in str(refused(path))


def test_a_read_may_give_less_than_was_asked_for(write, monkeypatch):
    path = write(part10(data_set(bytes(range(250)) * 20)))
    whole = instance_source._read_at
    monkeypatch.setattr(instance_source, "_read_at", lambda fd, view, position: whole(fd, view[:333], position))
    with FileSource(path, bytearray(2048)) as source:
        assert content(source, 500) == data_set(bytes(range(250)) * 20)


def test_a_failing_read_is_an_error(write, monkeypatch):
    path = write(part10(data_set(bytes(9000))))

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with FileSource(path, bytearray(1024)) as source:
        monkeypatch.setattr(instance_source, "_read_at", fail)
        with pytest.raises(InputFileError, match="cannot be read: Input/output error") as caught:
            content(source)
    assert (caught.value.errno, caught.value.problem) == (5, InputProblem.CANNOT_READ)
    assert refused(path).errno == 5


def test_reading_without_preadv(write, monkeypatch):
    path = write(part10(data_set(bytes(range(250)) * 20)))
    monkeypatch.setattr(instance_source, "_read_at", instance_source._seek_and_read)
    with FileSource(path, bytearray(1024)) as source:
        assert content(source, 500) == data_set(bytes(range(250)) * 20)


# The search for a cut in large files


def encapsulated(fragments: int, size: int, *, close: bool = True) -> bytes:
    item = b"\xfe\xff\x00\xe0" + size.to_bytes(4, "little") + bytes(size)
    head = data_set() + b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\0\0\0\0"
    return head + item * fragments + (b"\xfe\xff\xdd\xe0\0\0\0\0" if close else b"")


class Reads:
    """Counts what is read."""

    def __init__(self, monkeypatch):
        self.calls = self.bytes = 0
        self._read_at = instance_source._read_at
        monkeypatch.setattr(instance_source, "_read_at", self)

    def __call__(self, fd, view, position):
        self.calls += 1
        self.bytes += len(view)
        return self._read_at(fd, view, position)


def test_fragments_past_the_buffer_are_looked_at(write, monkeypatch):
    whole = part10(encapsulated(100, 5000), uids.RLE_LOSSLESS)
    path = write(whole)
    reads = Reads(monkeypatch)
    with FileSource(path, bytearray(4096)):
        assert reads.calls < 110
    assert refused(write(whole[:-8]), buffer=bytearray(4096)).problem is InputProblem.TRUNCATED
    assert refused(write(whole[:-5000]), buffer=bytearray(4096)).problem is InputProblem.TRUNCATED


def test_the_search_has_an_end(write, monkeypatch):
    path = write(part10(encapsulated(400, 6000, close=False), uids.RLE_LOSSLESS))
    reads = Reads(monkeypatch)
    with FileSource(path, bytearray(4096)) as source:  # whether it is whole is not known, so it is sent
        assert reads.calls == 1 + instance_source.WALK_WINDOWS
        assert reads.bytes <= (1 + instance_source.WALK_WINDOWS) * instance_source.WALK_WINDOW
        assert source.size == len(encapsulated(400, 6000, close=False))


def test_native_pixel_data_cost_one_read(write, monkeypatch):
    path = write(part10(data_set(bytes(3 << 20))))
    reads = Reads(monkeypatch)
    with FileSource(path):
        assert reads.calls == 1
    os.truncate(path, 3 << 20)
    reads.calls = 0
    assert refused(path).problem is InputProblem.TRUNCATED
    assert reads.calls == 1


# Deflated data sets


@pytest.mark.parametrize("buffer", [None, bytearray(1024)])
def test_an_odd_deflated_data_set_is_padded(write, buffer):
    data = odd_deflated()
    with FileSource(write(part10(data, DEFLATED)), buffer) as source:
        assert content(source, 16) == data + b"\0"
        assert (source.sop_class_uid, source.sop_instance_uid) == (CT, "1.2.3.45")


def test_padding_at_the_edges_of_the_buffer(write):
    stream = deflated(data_set(os.urandom(3000)))
    header = part10(b"", DEFLATED)
    for more in range(8):
        data = stream + b"\xff" * more  # what follows the stream is nobody's business
        whole = header + data
        for size in range(len(whole) - 2, len(whole) + 4):
            with FileSource(write(whole), bytearray(b"\x55" * size)) as source:
                assert content(source, 32) == data + b"\0" * (len(data) & 1)
        with FileSource(write(whole), bytearray(b"\x55" * 1024)) as source:
            assert content(source, 32) == data + b"\0" * (len(data) & 1)


@pytest.mark.parametrize("cut", [1, 2, 3, 20, 1000])
def test_a_cut_deflated_stream_is_seen_if_it_fits_the_buffer(write, cut):
    whole = part10(deflated(data_set(os.urandom(200_000))), DEFLATED)
    assert "no end" in str(refused(write(whole[:-cut])))
    assert "no end" in str(refused(whole[:-cut]))


def test_inflating_has_an_end(write):
    bomb = part10(deflated(data_set(bytes(64 << 20))), DEFLATED)
    with FileSource(write(bomb[:-1])) as source:  # its cut lies further on than is looked
        assert source.sop_class_uid == CT
    whole = part10(deflated(data_set(bytes(instance_source.INFLATE_LIMIT - instance_source.INFLATE_STEP))), DEFLATED)
    assert "no end" in str(refused(write(whole[:-2])))


@pytest.mark.parametrize("steps", range(1, 4))
@pytest.mark.parametrize("more", range(-2, 3))
def test_streams_that_end_with_a_step(write, steps, more):
    inflated = data_set(b"\1\2")
    pixels = steps * instance_source.INFLATE_STEP - len(inflated) + 2 + 2 * more
    with FileSource(write(part10(deflated(data_set(bytes(pixels))), DEFLATED))) as source:
        assert source.sop_instance_uid == "1.2.3.45"


# Memory


@given(st.integers(0, 400), st.integers(1, 300))
def test_bytes_are_cut_into_even_chunks(pixels, unit):
    data = data_set(bytes(2 * pixels))
    with BytesSource(data, LITTLE) as source:
        assert content(source, unit) == data


def test_bytes_go_out_from_where_they_are():
    data = bytearray(data_set(bytes(3 * BUFFER)))
    chunks = list(BytesSource(data, LITTLE).chunks(16372))
    assert len(chunks) > 3
    assert all(chunk.obj is data for chunk in chunks)
    whole = part10(data_set(bytes(100)))
    assert [chunk.obj is whole for chunk in BytesSource(whole).chunks(16372)] == [True]


@pytest.mark.parametrize("pixels", [0, 100, 2 * BUFFER])
def test_odd_deflated_bytes_are_padded(pixels):
    data = odd_deflated() + b"\xff" * pixels
    source = BytesSource(data, DEFLATED)
    assert content(source, 512) == data + b"\0"


def test_uids_may_be_told():
    source = BytesSource(PLAIN, LITTLE, CT, "1.2.3")
    assert (source.sop_class_uid, source.sop_instance_uid) == (CT, "1.2.3")
    source = BytesSource(data_set(), LITTLE, sop_instance_uid="1.2.99")
    assert (source.sop_class_uid, source.sop_instance_uid) == (CT, "1.2.99")
    assert source.transfer_syntax_uid == LITTLE


def test_bytes_are_looked_over_too():
    error = refused(data_set(bytes(100))[:-2], LITTLE)
    assert error.problem is InputProblem.TRUNCATED
    assert str(error).startswith("data set in memory: truncated")
    assert refused(b"", LITTLE).problem is InputProblem.TRUNCATED
    assert refused(data_set(bytes(100))).problem is InputProblem.NOT_PART10


# What may be given


@pytest.mark.parametrize(
    "give",
    [str, Path, lambda p: p.read_bytes(), lambda p: bytearray(p.read_bytes()), lambda p: memoryview(p.read_bytes())],
)
def test_paths_and_bytes(write, give):
    data = data_set(bytes(100))
    given_item = give(write(part10(data)))
    assert describe(given_item) == (CT, LITTLE)
    with open_source(given_item, LITTLE, buffer=bytearray(1 << 16)) as source:
        assert content(source) == data


@pytest.mark.parametrize("buffering", [-1, 0])
@pytest.mark.parametrize("pixels", [100, 50_000])
def test_open_files_are_read_from_their_position_and_left_alone(write, buffering, pixels):
    data = data_set(bytes(pixels))
    path = write(b"something before" + part10(data))
    with path.open("rb", buffering) as file:
        file.seek(16)
        for _ in range(2):
            assert describe(file) == (CT, LITTLE)
            with open_source(file, buffer=bytearray(1024)) as source:
                assert source.name == str(path)
                assert content(source, 1000) == data
        assert file.tell() == 16
        assert file.read(4) == bytes(4)
    assert refused(file).problem is InputProblem.CANNOT_READ


def test_other_files_are_read_from_their_position(write):
    import gzip

    data = data_set(bytes(100))
    file = io.BytesIO(b"before" + part10(data))
    file.seek(6)
    for _ in range(2):
        assert describe(file) == (CT, LITTLE)
        assert content(open_source(file)) == data
    with gzip.open(write(gzip.compress(part10(data)))) as file:  # its descriptor gives other bytes
        assert content(open_source(file)) == data
    with gzip.open(write(b"no gzip")) as file:
        assert refused(file).problem is InputProblem.CANNOT_READ


def test_sources_are_taken_as_they_are():
    source = BytesSource(data_set(), LITTLE)
    assert open_source(source) is source
    assert describe(source) == (CT, LITTLE)


@pytest.mark.parametrize("item", [None, 5, object(), [], io.StringIO("text")])
def test_nothing_else_is_taken(item):
    with pytest.raises(InvalidArgument, match="nothing to store"):
        open_source(item)
    assert describe(item) is None


def test_what_cannot_be_sent_is_not_described(write):
    assert describe(write(b"no")) is None
    assert describe("missing.dcm") is None


def test_a_dataset_is_described_without_being_encoded():
    dataset = Dataset()
    assert describe(dataset) is None
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = LITTLE
    assert describe(dataset) is None
    dataset.SOPClassUID = CT
    described = describe(dataset)
    assert described == (CT, LITTLE)
    assert {type(text) for text in described} == {str}
