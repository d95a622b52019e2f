"""A stored instance, opened: its attributes without what is large, and its frames and bulk data by range."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from pydicom.dataset import Dataset
from pydicom.encaps import get_frame

from .. import uids
from ..dataset import codec
from ..errors import DicomNetError
from ..files.part10 import read_meta
from ..repository.blob_store import BlobReader, BlobRef, BlobStore
from ..repository.headers import read_elements
from ..repository.locations import InstanceLocation
from ..wire.element_walk import header_of, select_elements
from .drawing import Frame
from .problems import Problem

__all__ = ["BLOCK", "StoredInstance"]

#: Bytes that are read and sent at once.
BLOCK = 256 << 10
PIXEL_DATA = 0x7FE00010
#: What is read first to find a header, and the longest one.
FIRST_READ, MOST_HEADER = 16 << 10, 256 << 20
_ROWS, _COLUMNS, _SAMPLES, _ALLOCATED, _FRAMES = 0x00280010, 0x00280011, 0x00280002, 0x00280100, 0x00280008
# Elements of the group of Pixel Data that stand before it: the tables of its frames, and how long it is.
_OFFSETS, _LENGTHS, _MOST_BEFORE_PIXELS = 0x0001, 0x0002, 8
#: Fragments of encapsulated pixel data.
MOST_FRAGMENTS = 1 << 18
_ITEM, _END_OF_ITEMS = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_DEFLATED = uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN


class _Memory:
    """A reader of what is in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_into(self, at: int, view: memoryview) -> int:
        piece = self._data[at : at + len(view)]
        view[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """There is nothing to close."""


class _BlobFile(io.RawIOBase):
    """A blob as a file that can be read and sought; pydicom asks files for their name."""

    name = ""

    def __init__(self, reader: BlobReader | _Memory, size: int) -> None:
        self._reader, self._size, self._at = reader, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = self._reader.read_into(self._at, view[: max(self._size - self._at, 0)])
        self._at += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at


class StoredInstance:
    """One instance; a context manager that lets go of its blob.

    Args:
        blobs: the store.
        location: of the instance.

    Attributes:
        location: where it is.
    """

    def __init__(self, blobs: BlobStore, location: InstanceLocation) -> None:
        self.location = location
        ref = BlobRef(location.key, location.offset, location.length)
        try:
            self._blob = blobs.open(ref)
        except OSError as error:
            raise Problem(500, "the stored instance cannot be read") from error
        self._reader: BlobReader | _Memory = self._blob
        self._size = location.length
        self._tables: dict[int, tuple[int, int]] = {}
        self._pixel_vr = b""

    def __enter__(self) -> StoredInstance:
        return self

    def __exit__(self, *_: object) -> None:
        self._blob.close()

    @property
    def transfer_syntax(self) -> str:
        """As it is stored."""
        return self.location.ts

    @property
    def encoding(self) -> str:
        """Of its header and frames here: a deflated one is inflated."""
        return uids.EXPLICIT_VR_LITTLE_ENDIAN if self.location.ts == _DEFLATED else self.location.ts

    def blocks(self) -> Iterator[bytes]:
        """The Part 10 stream as it is stored."""
        yield from _range(self._blob, 0, self.location.length)

    def range(self, start: int, end: int) -> Iterator[bytes]:
        """Bytes of the data set as `encoding` has it, or of the Part 10 stream where that is stored so."""
        yield from _range(self._reader, start, end)

    def _read(self, start: int, size: int) -> bytes:
        """So many bytes, in one piece."""
        buffer = bytearray(size)
        view, at = memoryview(buffer), 0
        while at < size:
            count = self._reader.read_into(start + at, view[at:])
            if not count:
                raise OSError("the stored instance ends too early")
            at += count
        return bytes(buffer)

    # ---- attributes --------------------------------------------------------------------------------------------

    @cached_property
    def _bounds(self) -> tuple[bytes, int]:
        """The data set up to Pixel Data, and where that begins."""
        start = 0
        if self.location.ts != _DEFLATED:
            size = FIRST_READ
            while True:
                window = bytearray(min(size, self._size))
                count = self._reader.read_into(0, memoryview(window))
                found = _header_in(memoryview(window)[:count], self.location.ts, whole=count >= self._size)
                if found is not None:
                    return found
                if size >= MOST_HEADER:
                    raise Problem(500, "the stored instance has no end of its header")
                size *= 8
        plain = self._inflated()
        self._reader, self._size = _Memory(plain), len(plain)
        header = header_of(plain, self.encoding)
        return (plain, len(plain)) if header is None else (header, start + len(header))

    def _inflated(self) -> bytes:
        data = b"".join(self.blocks())
        try:
            return codec.inflate(memoryview(data)[read_meta(data)[1] :])
        except DicomNetError as error:
            raise Problem(500, "the stored instance cannot be inflated") from error

    def header(self) -> bytes:
        """The data set up to Pixel Data, in `encoding`."""
        return self._bounds[0]

    def stored_header(self) -> bytes:
        """The data set up to Pixel Data in its transfer syntax; a deflated one whole."""
        if self.location.ts != _DEFLATED:
            return self.header()
        data = b"".join(self.blocks())
        return data[read_meta(data)[1] :]

    @cached_property
    def dataset(self) -> Dataset:
        """Its attributes up to Pixel Data."""
        try:
            found: Dataset = codec.decode(self.header(), self.encoding)
            return found
        except DicomNetError as error:
            raise Problem(406, "the attributes of the instance cannot be read") from error

    @cached_property
    def _described(self) -> dict[int, int]:
        """The numbers that say where frames are, without a look at anything else; what is no number is left out."""
        tags = (_ROWS, _COLUMNS, _SAMPLES, _ALLOCATED, _FRAMES)
        order = ">" if self.location.ts == uids.EXPLICIT_VR_BIG_ENDIAN else "<"
        found: dict[int, int] = {}
        for tag, element in select_elements(self.header(), self.encoding, tags).items():
            assert isinstance(tag, int)
            value = element.value
            if tag == _FRAMES:
                text = value.split(b"\\")[0].strip(b" \0")
                if text.isdigit() and len(text) < 10:
                    found[tag] = int(text)
            elif len(value) >= 2:
                found[tag] = struct.unpack_from(order + "H", value)[0]
        return found

    @cached_property
    def _pixel_spans(self) -> list[tuple[int, int]]:
        """Where Pixel Data stand in `encoding`: one piece, or one for each fragment; the table of offsets is none."""
        start, length = self._pixel_data
        if length >= 0:
            return [(start, min(start + length, self._size))]
        spans, at = list[tuple[int, int]](), start
        while len(spans) <= MOST_FRAGMENTS:
            head = self._read(at, min(8, self._size - at))
            if head[:4] == _END_OF_ITEMS:
                return spans[1:]
            size = int.from_bytes(head[4:], "little")
            if head[:4] != _ITEM or len(head) < 8 or at + 8 + size > self._size:
                break
            spans.append((at + 8, at + 8 + size))
            at += 8 + size
        raise Problem(404, "the fragments of the Pixel Data cannot be followed to their end")

    def value_size(self, path: list[str]) -> int:
        """Bytes of a value; raises as `value` does."""
        if _is_pixels(path):
            return sum(end - start for start, end in self._pixel_spans)
        return len(self.value(path))

    def value_range(self, path: list[str], start: int, end: int) -> Iterator[bytes]:
        """Bytes of a value in pieces, numbers in little endian. Pixel Data are read while they are sent.

        Raises:
            Problem: as `value` does.
        """
        if not _is_pixels(path):
            yield self.value(path)[start:end]
            return
        unit = self._swapped_unit
        first, last = start // unit * unit, -(-end // unit) * unit
        pieces = self._within_spans(first, last)
        for piece in pieces if unit == 1 else map(self._ordered, pieces):
            yield piece[max(start - first, 0) : max(end - first, 0)]
            first += len(piece)

    def _within_spans(self, start: int, end: int) -> Iterator[bytes]:
        """Bytes of Pixel Data as they are stored."""
        before = 0
        for first, last in self._pixel_spans:
            low, high = max(start - before, 0), min(end - before, last - first)
            if low < high:
                yield from self.range(first + low, first + high)
            before += last - first

    def value(self, path: list[str]) -> bytes:
        """The bytes of one value that stands before Pixel Data.

        Args:
            path: a tag, or tags and numbers of items by turns.

        Raises:
            Problem: 400 for what is no path, 404 for what is not there.
        """
        for place, one in enumerate(path):
            if not re.fullmatch(r"[0-9]{1,6}" if place % 2 else r"[0-9A-Fa-f]{8}", one):
                raise Problem(400, "a path of bulk data is tags and numbers of items by turns", parameter="path")
        item: Any = read_elements(self.header(), self.encoding)
        for place, one in enumerate(path):
            if place % 2:
                item = item[int(one)] if isinstance(item, list) and int(one) < len(item) else []
            else:
                item = next((element.value for element in item if element.tag == int(one, 16)), None)
        if not isinstance(item, bytes):
            raise Problem(404, "the instance has no such value")
        return item

    # ---- pixels ------------------------------------------------------------------------------------------------

    @property
    def frame_count(self) -> int:
        """Number of Frames; 1 where it does not say, or says no number."""
        return self._described.get(_FRAMES, 1) or 1

    @property
    def is_image(self) -> bool:
        """Whether it has rows of pixels."""
        return self._described.get(_ROWS, 0) > 0

    @cached_property
    def _pixel_data(self) -> tuple[int, int]:
        """Where the value of Pixel Data begins, and its length; a length of -1 is undefined."""
        start, order = self._bounds[1], ">" if self.location.ts == uids.EXPLICIT_VR_BIG_ENDIAN else "<"
        implicit = self.location.ts == uids.IMPLICIT_VR_LITTLE_ENDIAN
        for _ in range(_MOST_BEFORE_PIXELS):
            header = self._read(start, min(12, self._size - start))
            if len(header) < 12 or struct.unpack_from(order + "H", header) != (0x7FE0,):
                break
            (element,) = struct.unpack_from(order + "H", header, 2)
            length = int(struct.unpack_from(order + "i", header, 4 if implicit else 8)[0])
            value = start + (8 if implicit else 12)
            if element == 0x0010:
                self._pixel_vr = b"OW" if implicit else header[4:6]
                return value, length
            self._tables[element] = value, length
            start = value + max(length, 0)
        raise Problem(404, "the instance has no Pixel Data")

    @property
    def _swapped_unit(self) -> int:
        """How many bytes of pixels are stored in the opposite order; 1 where none are."""
        pixel = self._pixel_data and self._pixel_vr  # the VR is known when Pixel Data are found
        if self.location.ts != uids.EXPLICIT_VR_BIG_ENDIAN or pixel == b"OB":
            return 1
        return max(self._described.get(_ALLOCATED, 16) // 8, 2)

    def _ordered(self, data: bytes) -> bytes:
        """Pixels in little endian, whatever they are stored in (PS3.18 Section 8.7.3.3)."""
        size = self._swapped_unit
        if size == 1:
            return data
        swapped = bytearray(len(data))
        for place in range(size):
            whole = len(data) // size * size
            swapped[place:whole:size] = data[size - 1 - place : whole : size]
        return bytes(swapped)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one native frame; where single bits do not fill the last one, it has some more."""
        one = self._described
        bits = one.get(_ROWS, 0) * one.get(_COLUMNS, 0) * one.get(_SAMPLES, 1) * one.get(_ALLOCATED, 0)
        return (bits + 7) // 8

    def frame(self, number: int) -> bytes:
        """A frame as it is stored; a native one in little endian.

        Args:
            number: from 1 on.

        Raises:
            Problem: 404, where there is none.
        """
        if not 1 <= number <= self.frame_count:
            raise Problem(404, f"there is no frame {number}: the instance has {self.frame_count}", parameter="frames")
        start, length = self._pixel_data
        if length < 0:
            return self._encapsulated(start, number)
        if self._described.get(_ALLOCATED) == 1 and self.frame_count > 1:
            return self._frame_of_bits(start, number)
        size = self.frame_bytes if self.frame_count > 1 else min(self.frame_bytes or length, length)
        first = (number - 1) * size
        if first + size > length:
            raise Problem(404, f"the instance ends before frame {number}", parameter="frames")
        if self.location.ts != uids.EXPLICIT_VR_BIG_ENDIAN:
            return self._read(start + first, size)
        # Words are swapped whole, also where a frame of single bytes ends within one.
        begin, end = first // 8 * 8, min((first + size + 7) // 8 * 8, length)
        return self._ordered(b"".join(self.range(start + begin, start + end)))[first - begin : first - begin + size]

    def _file(self) -> io.BufferedReader:
        return io.BufferedReader(_BlobFile(self._reader, self._size), 64 << 10)

    def _encapsulated(self, start: int, number: int) -> bytes:
        tables = [self._tables[one] for one in (_OFFSETS, _LENGTHS) if one in self._tables]
        first, second = (b"".join(self.range(at, at + size)) for at, size in tables) if len(tables) == 2 else (b"", b"")
        offsets = (first, second) if first else None
        file = self._file()
        file.seek(start)
        try:
            return get_frame(file, number - 1, extended_offsets=offsets, number_of_frames=self.frame_count)
        except Exception as error:  # of fragments that make no frames
            raise Problem(404, f"frame {number} is not where it should be", parameter="frames") from error

    def _frame_of_bits(self, start: int, number: int) -> bytes:
        """A frame of single bits, which need not begin with a byte."""
        import numpy as np  # noqa: PLC0415 heavy

        size = self._described.get(_ROWS, 0) * self._described.get(_COLUMNS, 0)
        first = (number - 1) * size
        data = b"".join(self.range(start + first // 8, start + (first + size + 7) // 8))
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[first % 8 : first % 8 + size]
        return bytes(np.packbits(bits, bitorder="little").tobytes())

    def raw_frame(self, number: int) -> Frame:
        """A frame with what it takes to decode it elsewhere.

        Raises:
            Problem: 404 for a frame that there is not.
        """
        return Frame(self.header(), self.encoding, self.frame(number), number)


def _is_pixels(path: list[str]) -> bool:
    return path == [f"{PIXEL_DATA:08X}"]


def _range(reader: BlobReader | _Memory, start: int, end: int) -> Iterator[bytes]:
    at = start
    while at < end:
        buffer = bytearray(min(BLOCK, end - at))
        count = reader.read_into(at, memoryview(buffer))
        if not count:
            raise OSError("the stored instance ends too early")
        yield bytes(buffer[:count])
        at += count


def _header_in(window: memoryview, syntax: str, *, whole: bool) -> tuple[bytes, int] | None:
    """The header of a Part 10 stream and where it ends; None where the window is too short."""
    try:
        start = read_meta(window)[1]
    except DicomNetError:
        if whole:
            raise Problem(500, "the stored instance is no Part 10 stream") from None
        return None
    header = header_of(window[start:], syntax)
    if header is not None and (whole or start + len(header) < len(window)):  # one that ends with a window may go on
        return header, start + len(header)
    return (bytes(window[start:]), len(window)) if whole else None
