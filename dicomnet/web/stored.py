"""A stored instance, opened: its attributes without what is large, and its frames and bulk data by range."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames, get_frame
from pydicom.uid import UID

from .. import uids
from ..repository.blob_source import header_length
from ..repository.blob_store import BlobReader, BlobRef, BlobStore
from ..repository.headers import read_elements
from ..repository.locations import InstanceLocation
from .problems import Problem

__all__ = ["BLOCK", "StoredInstance"]

#: Bytes that are read and sent at once.
BLOCK = 256 << 10
PIXEL_DATA = 0x7FE00010
_NATIVE = frozenset(
    {uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_BIG_ENDIAN}
    | {uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN}
)


class _BlobFile(io.RawIOBase):
    """A blob as a file that can be read and sought; pydicom asks files for their name."""

    name = ""

    def __init__(self, reader: BlobReader, size: int) -> None:
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
    """

    def __init__(self, blobs: BlobStore, location: InstanceLocation) -> None:
        self.location = location
        ref = BlobRef(location.key, location.offset, location.length)
        try:
            self._reader = blobs.open(ref)
        except OSError as error:
            raise Problem(500, "the stored instance cannot be read") from error
        self._file = io.BufferedReader(_BlobFile(self._reader, ref.length), 64 << 10)

    def __enter__(self) -> StoredInstance:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    @property
    def transfer_syntax(self) -> str:
        """As it is stored."""
        return self.location.ts

    @property
    def is_native(self) -> bool:
        """Whether its pixel data are not compressed."""
        return self.location.ts in _NATIVE

    @cached_property
    def dataset(self) -> Dataset:
        """Its attributes up to Pixel Data, with file meta information."""
        self._file.seek(0)
        return pydicom.dcmread(self._file, stop_before_pixels=True, force=True)

    def blocks(self) -> Iterator[bytes]:
        """The Part 10 stream as it is stored."""
        yield from self.range(0, self.location.length)

    def range(self, start: int, end: int) -> Iterator[bytes]:
        """Bytes of the Part 10 stream."""
        at = start
        while at < end:
            buffer = bytearray(min(BLOCK, end - at))
            count = self._reader.read_into(at, memoryview(buffer))
            if not count:
                raise OSError("the stored instance ends too early")
            yield bytes(buffer[:count])
            at += count

    def header(self) -> bytes:
        """The data set up to Pixel Data, in its transfer syntax."""
        if self.location.ts == uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
            start = header_length(self._reader)
            return b"".join(self.range(start, self.location.length))
        self.dataset  # noqa: B018 reads up to Pixel Data
        end, start = self._file.tell(), header_length(self._reader)
        return b"".join(self.range(start, end))

    def value(self, path: list[str]) -> bytes:
        """The bytes of one value, in the byte order of the transfer syntax.

        Args:
            path: a tag, or tags and numbers of items by turns.

        Raises:
            Problem: 400 for what is no path, 404 for what is not there.
        """
        for place, one in enumerate(path):
            if not re.fullmatch(r"\d{1,6}" if place % 2 else r"[0-9A-Fa-f]{8}", one):
                raise Problem(400, "a path of bulk data is tags and numbers of items by turns", parameter="path")
        if len(path) == 1 and int(path[0], 16) == PIXEL_DATA:
            start, length = self._pixel_data
            return b"".join(self.compressed_frames() if length < 0 else self.range(start, start + length))
        item: Any = read_elements(self.header(), self.location.ts)
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
        """Number of Frames; 1 where it does not say."""
        return int(self.dataset.get("NumberOfFrames") or 1)

    @cached_property
    def _pixel_data(self) -> tuple[int, int]:
        """Where the value of Pixel Data begins, and its length; a length of -1 is undefined."""
        if self.location.ts == uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
            raise Problem(406, "frames of a deflated instance are not served one by one", parameter="Accept")
        self.dataset  # noqa: B018 reads up to Pixel Data
        start = self._file.tell()
        header = self._file.read(12)
        order = ">" if self.location.ts == uids.EXPLICIT_VR_BIG_ENDIAN else "<"
        if len(header) < 12 or struct.unpack_from(order + "HH", header) != (0x7FE0, 0x0010):
            raise Problem(404, "the instance has no Pixel Data")
        if self.location.ts == uids.IMPLICIT_VR_LITTLE_ENDIAN:
            return start + 8, int(struct.unpack_from("<i", header, 4)[0])
        return start + 12, int(struct.unpack_from(order + "i", header, 8)[0])

    @property
    def frame_bytes(self) -> int:
        """Bytes of one native frame of whole bytes."""
        one = self.dataset
        bits = int(one.Rows) * int(one.Columns) * int(one.get("SamplesPerPixel", 1)) * int(one.BitsAllocated)
        return bits // 8

    def frame(self, number: int) -> bytes:
        """A frame as it is stored.

        Args:
            number: from 1 on.

        Raises:
            Problem: 404, where there is none.
        """
        if not 1 <= number <= self.frame_count:
            raise Problem(404, f"frame {number}: the instance has {self.frame_count}", parameter="frames")
        start, length = self._pixel_data
        if length < 0:
            return self._encapsulated(start, number)
        if int(self.dataset.BitsAllocated) == 1 and self.frame_count > 1:
            return self._frame_of_bits(start, number)
        size = self.frame_bytes if self.frame_count > 1 else min(self.frame_bytes or length, length)
        at = start + (number - 1) * size
        return b"".join(self.range(at, at + size))

    def _encapsulated(self, start: int, number: int) -> bytes:
        self._file.seek(start)
        dataset = self.dataset
        table = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
        offsets = (table[0], table[1]) if table[0] and table[1] else None
        return get_frame(self._file, number - 1, extended_offsets=offsets, number_of_frames=self.frame_count)

    def _frame_of_bits(self, start: int, number: int) -> bytes:
        """A frame of single bits, which need not begin with a byte."""
        import numpy as np  # noqa: PLC0415 heavy

        size = int(self.dataset.Rows) * int(self.dataset.Columns)
        first = (number - 1) * size
        data = b"".join(self.range(start + first // 8, start + (first + size + 7) // 8))
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[first % 8 : first % 8 + size]
        return bytes(np.packbits(bits, bitorder="little").tobytes())

    def decoded(self, number: int) -> tuple[Any, Dataset]:
        """A frame as an array, and the attributes that describe it, colour by pixel and not converted.

        Raises:
            Problem: 404 for a frame that there is not, 406 where its codec is not installed.
        """
        frame = self.frame(number)
        image = Dataset()
        image.update(self.dataset)
        image.file_meta = pydicom.dataset.FileMetaDataset()
        image.file_meta.TransferSyntaxUID = UID(self.location.ts)
        if "NumberOfFrames" in image:
            image.NumberOfFrames = 1
        for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
            image.pop(keyword, None)
        if self.is_native:
            image.add_new(PIXEL_DATA, "OW" if image.BitsAllocated > 8 else "OB", frame + b"\0" * (len(frame) & 1))
        else:
            image.add_new(PIXEL_DATA, "OB", pydicom.encaps.encapsulate([frame]))
            image["PixelData"].is_undefined_length = True
        return _pixels(image), image

    def compressed_frames(self) -> Iterator[bytes]:
        """All frames, in order, as they are stored."""
        start, length = self._pixel_data
        if length >= 0:
            for number in range(1, self.frame_count + 1):
                yield self.frame(number)
            return
        self._file.seek(start)
        yield from generate_frames(self._file, number_of_frames=self.frame_count)


def _pixels(image: Dataset) -> Any:
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415 heavy

    try:
        pixels, properties = get_decoder(image.file_meta.TransferSyntaxUID).as_array(image, raw=True)
    except Exception as error:  # decoders raise what they like
        name = uids.name_of(image.file_meta.TransferSyntaxUID)
        raise Problem(406, f"pixel data in {name} cannot be decoded here", parameter="Accept") from error
    image.PhotometricInterpretation = properties["photometric_interpretation"]
    if image.get("SamplesPerPixel", 1) > 1:
        image.PlanarConfiguration = 0
    return pixels
