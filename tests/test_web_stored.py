"""What is read of a stored instance: its header, frames and values, and what those of strange or broken ones are."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import archives
import numpy as np
import pytest
from archives import CT, LITTLE
from index_records import header
from pydicom.encaps import encapsulate, encapsulate_extended

from dicomnet import uids
from dicomnet.files.part10 import meta_header
from dicomnet.repository.blob_store import BlobRef, NewBlob
from dicomnet.repository.locations import InstanceLocation
from dicomnet.web import stored
from dicomnet.web.problems import Problem
from dicomnet.web.stored import StoredInstance

UID = "1.2.3.1.1.1"
BIG, DEFLATED, JPEG = uids.EXPLICIT_VR_BIG_ENDIAN, uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, uids.JPEG_BASELINE_8_BIT
Opened = Callable[..., StoredInstance]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """An instance of these bytes after its file meta information, stored and opened."""
    holdings = archives.opened(tmp_path_factory.mktemp("stored") / "archive")

    def open_(data: bytes, ts: str = LITTLE, *, meta: bytes | None = None, more: int = 0) -> StoredInstance:
        before = meta_header(CT, UID, ts, "TESTER") if meta is None else meta
        [ref] = holdings.blobs.put([NewBlob(CT, UID, ts, before, [data], b"", len(data))])
        return StoredInstance(holdings.blobs, located(ref, ts, more))

    yield open_
    holdings.close()


def located(ref: BlobRef, ts: str = LITTLE, more: int = 0) -> InstanceLocation:
    return InstanceLocation(1, UID, CT, ts, "1.2.3", "1.2.3.1", "", ref.key, ref.offset, ref.length + more, b"")


def pixels(value: bytes, vr: bytes = b"OW", element: int = 0x0010, *, order: str = "<", length: int = -1) -> bytes:
    """An element of the group of Pixel Data in explicit VR."""
    size = len(value) if length < 0 else length
    return struct.pack(order + "HH2sHI", 0x7FE0, element, vr, 0, size) + value


def image(value: bytes, ts: str = LITTLE, vr: bytes = b"OW", **keywords: Any) -> bytes:
    described = {"Rows": 2, "Columns": 3, "BitsAllocated": 16, "SamplesPerPixel": 1} | keywords
    return header(ts, **described) + pixels(value, vr, order=">" if ts == BIG else "<")


def refused(status: int, words: str) -> Any:
    return pytest.raises(Problem, match=words, check=lambda error: error.status == status)


class TestHeader:
    def test_one_that_is_longer_than_what_is_read_first(self, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stored, "FIRST_READ", 64)  # less than the file meta information
        with opened(image(bytes(range(12)))) as one:
            assert one.dataset.PatientID == "P1"
            assert one.frame(1) == bytes(range(12))
        monkeypatch.setattr(stored, "MOST_HEADER", 64)
        with opened(image(bytes(12))) as one, refused(500, "no end of its header"):
            one.header()

    def test_where_the_first_read_ends_between_two_elements(
        self, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The elements after it are of the header, too."""
        data = image(bytes(range(12)))
        for size in range(200, 200 + len(data)):
            monkeypatch.setattr(stored, "FIRST_READ", size)
            with opened(data) as one:
                assert one.frame(1) == bytes(range(12)), size
                assert len(one.header()) == len(data) - 24

    def test_one_without_pixels_is_the_whole_data_set(self, opened: Opened) -> None:
        with opened(header(Rows=None)) as one:
            assert one.header() == one.stored_header() == header(Rows=None)
            assert not one.is_image
            with refused(404, "no Pixel Data"):
                one.frame(1)

    def test_what_is_no_data_set_or_no_part_10_stream(self, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
        with opened(b"\xff" * 40) as one:
            assert one.header() == b"\xff" * 40
            with refused(406, "attributes of the instance cannot be read"):
                _ = one.dataset
        with opened(header(), meta=b"\0" * 300) as one, refused(500, "no Part 10 stream"):
            one.header()
        monkeypatch.setattr(stored, "FIRST_READ", 64)
        with opened(header(), meta=b"\0" * 300) as one, refused(500, "no Part 10 stream"):
            one.header()

    def test_a_deflated_one(self, opened: Opened) -> None:
        plain = image(bytes(range(12)))
        deflated = zlib.compress(plain, wbits=-15)
        deflated += b"\0" * (len(deflated) % 2)
        with opened(deflated, DEFLATED) as one:
            assert one.header() == plain[:-24]
            assert one.stored_header() == deflated
            assert one.frame(1) == bytes(range(12))
            assert one.dataset.Rows == 2
            assert b"".join(one.value_range(["7FE00010"], 3, 5)) == b"\3\4"
        with opened(b"\xff\xff" * 8, DEFLATED) as one, refused(500, "cannot be inflated"):
            one.header()
        nothing = zlib.compress(b"\xff" * 9, wbits=-15)
        with opened(nothing, DEFLATED) as one:
            assert one.header() == b"\xff" * 9

    def test_a_blob_that_is_gone_or_cut(self, opened: Opened, tmp_path: Path) -> None:
        with opened(image(bytes(12))) as one:
            gone = BlobRef("segments/none", 0, 100)
            with refused(500, "cannot be read"):
                StoredInstance(archives.opened(tmp_path / "other").blobs, located(gone))
        with opened(image(bytes(12)), more=50) as one, pytest.raises(OSError, match="ends too early"):
            list(one.blocks())
        cut = header() + pixels(b"", length=1 << 20)
        with opened(cut, more=1 << 21) as one, pytest.raises(OSError, match="ends too early"):
            one.frame(1)


class TestFrames:
    @pytest.mark.parametrize("frames", ["2", "2\\3", " 2 "])
    def test_several(self, opened: Opened, frames: str) -> None:
        with opened(image(bytes(range(24)), NumberOfFrames=2)) as one:
            assert [one.frame(number) for number in (1, 2)] == [bytes(range(12)), bytes(range(12, 24))]
            for number in (0, 3):
                with refused(404, "there is no frame"):
                    one.frame(number)

    def test_fewer_than_it_says(self, opened: Opened) -> None:
        with opened(image(bytes(20), NumberOfFrames=2)) as one, refused(404, "ends before frame 2"):
            one.frame(2)

    @pytest.mark.parametrize("frames", [1, 2, 3])
    def test_of_single_bits(self, opened: Opened, frames: int) -> None:
        """The second frame begins within a byte."""
        bits = np.random.default_rng(frames).integers(0, 2, (frames, 15)).astype(np.uint8)
        value = np.packbits(bits.ravel(), bitorder="little").tobytes()
        value += b"\0" * (len(value) % 2)
        described = {"Rows": 3, "Columns": 5, "BitsAllocated": 1, "NumberOfFrames": frames}
        with opened(image(value, vr=b"OB", **described)) as one:
            for number in range(frames):
                got = np.unpackbits(np.frombuffer(one.frame(number + 1), np.uint8), bitorder="little")[:15]
                assert np.array_equal(got, bits[number])

    def test_in_big_endian_are_turned_round(self, opened: Opened) -> None:
        words = np.arange(12, dtype=np.uint16)
        with opened(image(words.astype(">u2").tobytes(), BIG, NumberOfFrames=2), BIG) as one:
            assert one.frame(2) == words[6:].astype("<u2").tobytes()
            assert b"".join(one.value_range(["7FE00010"], 1, 6)) == words.astype("<u2").tobytes()[1:6]
        described = {"BitsAllocated": 8, "NumberOfFrames": 2}
        with opened(image(bytes(range(12)), BIG, b"OB", **described), BIG) as one:
            assert one.frame(2) == bytes(range(6, 12))

    @pytest.mark.parametrize("extended", [False, True])
    def test_encapsulated(self, opened: Opened, extended: bool) -> None:
        frames = [b"one frame ", b"the second"]
        described = header(JPEG, Rows=2, Columns=3, BitsAllocated=8, NumberOfFrames=2)
        if extended:
            value, offsets, lengths = encapsulate_extended(frames)
            tables = pixels(offsets, b"OV", 0x0001) + pixels(lengths, b"OV", 0x0002)
        else:
            value, tables = encapsulate(frames, has_bot=True), b""
        data = described + tables + pixels(value + b"\xfe\xff\xdd\xe0\0\0\0\0", b"OB", length=0xFFFFFFFF)
        with opened(data, JPEG) as one:
            assert [one.frame(1), one.frame(2)] == frames
            assert one.value_size(["7FE00010"]) == 20
            assert b"".join(one.value_range(["7FE00010"], 8, 13)) == b"".join(frames)[8:13]

    @pytest.mark.parametrize(
        "value",
        [
            b"\xfe\xff\x00\xe0\0\0\0\0" + b"\xfe\xff\x00\xe0\xff\0\0\0ab",
            b"\xfe\xff\x00\xe0\0\0\0\0" + b"no item!",
            b"\xfe\xff\x00\xe0",
        ],
    )
    def test_fragments_that_are_none(self, opened: Opened, value: bytes) -> None:
        described = header(JPEG, Rows=2, Columns=3, BitsAllocated=8)
        data = described + pixels(value, b"OB", length=0xFFFFFFFF)
        with opened(data, JPEG) as one, refused(404, "fragments of the Pixel Data cannot be followed"):
            one.value_size(["7FE00010"])

    def test_a_frame_that_is_not_among_the_fragments(self, opened: Opened) -> None:
        described = header(JPEG, Rows=2, Columns=3, BitsAllocated=8, NumberOfFrames=3)
        value = encapsulate([b"one frame ", b"the second"], has_bot=True)
        for number, wrong in ((3, value), (1, b"no item!")):
            data = described + pixels(wrong, b"OB", length=0xFFFFFFFF)
            with opened(data, JPEG) as one, refused(404, f"frame {number} is not where it should be"):
                one.frame(number)

    def test_tables_without_pixels_after_them(self, opened: Opened) -> None:
        many = b"".join(pixels(b"ab", b"OV", element) for element in range(1, 12))
        with opened(header(JPEG) + many, JPEG) as one, refused(404, "no Pixel Data"):
            one.frame(1)


class TestValues:
    @pytest.fixture
    def one(self, opened: Opened) -> Iterator[StoredInstance]:
        inner = [{"ReferencedSOPInstanceUID": "1.2.3"}, {"ReferencedSOPInstanceUID": "1.2.4"}]
        with opened(image(bytes(12), ReferencedImageSequence=inner)) as one:
            yield one

    def test_one_by_its_path(self, one: StoredInstance) -> None:
        assert one.value(["00100020"]) == b"P1"
        assert one.value(["00081140", "1", "00081155"]) == b"1.2.4\0"
        assert b"".join(one.value_range(["00081140", "0", "00081155"], 2, 5)) == b"2.3"
        assert one.value_size(["00100020"]) == 2

    @pytest.mark.parametrize(
        "path",
        [["00081140"], ["00081140", "2", "00081155"], ["00081140", "1"], ["00101001"], ["00100020", "0", "00081155"]],
    )
    def test_what_is_not_there(self, one: StoredInstance, path: list[str]) -> None:
        with refused(404, "no such value"):
            one.value(path)

    @pytest.mark.parametrize("path", [["PatientID"], ["0010002"], ["00081140", "-1"], ["00081140", "00081155"]])
    def test_what_is_no_path(self, one: StoredInstance, path: list[str]) -> None:
        with refused(400, "by turns"):
            one.value(path)
