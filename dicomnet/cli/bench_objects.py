"""Objects that `dicomnet bench` sends: as large as wanted, each with its own UID, of a patient who does not exist."""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import isqrt

from .. import uids
from ..dataset import codec
from ..errors import InvalidArgument
from ..protocol.messages import DataInMemory
from .output import amount

__all__ = ["SOP_CLASS", "TRANSFER_SYNTAX", "Generator", "Object"]

SOP_CLASS = uids.SECONDARY_CAPTURE_IMAGE_STORAGE
TRANSFER_SYNTAX = uids.EXPLICIT_VR_LITTLE_ENDIAN

_PIECE = 1 << 20  # bytes: what is given out at a time
_LARGEST = 0xFFFF * 0xFFFE  # Rows and Columns have 16 bits
_DIGITS = 44  # of a UID under 2.25 as most are, so that one can stand where another stood
_HEADER = 12  # bytes of an element with a VR of OB


def _new_uid() -> str:
    while len(uid := uids.new()) != _DIGITS:
        pass
    return uid


class Generator:
    """Makes objects of one size, which share their bytes: one is sent, whole, before the next one is.

    Args:
        size: bytes of a data set; the last one goes into the trailing padding.
        study, series: the UIDs that all objects of a run share.

    Raises:
        InvalidArgument: there is no image of this size.
    """

    def __init__(self, size: int, study: str, series: str) -> None:
        uid = _new_uid()
        self._image(size, 1, 2, uid, study, series)  # its first part is as long as that of every other
        room = size - len(self._first) - 2 * _HEADER
        if size % 2 or room < 2 or room > _LARGEST:
            least = len(self._first) + 2 * _HEADER + 2
            raise InvalidArgument(f"no object has {size} bytes: it takes an even number from {least} to {_LARGEST}")
        columns = max(isqrt(room) & ~1, 2)
        rows = min(room // columns, 0xFFFF)
        self._image(size, rows, columns, uid, study, series)
        pixels = rows * columns
        noise = os.urandom(min(pixels, _PIECE))  # what compresses on its way would measure something else
        self._bytes = bytearray(self._first)
        self._bytes += b"\xe0\x7f\x10\x00OB\0\0" + pixels.to_bytes(4, "little")
        self._bytes += (noise * (pixels // len(noise) + 1))[:pixels]
        left = size - len(self._bytes) - _HEADER
        self._bytes += b"\xfc\xff\xfc\xffOB\0\0" + left.to_bytes(4, "little") + bytes(left)
        self._place = self._first.index(uid.encode())
        self.size = size

    def _image(self, size: int, rows: int, columns: int, uid: str, study: str, series: str) -> None:
        """Everything before the pixels."""
        values = {
            "ImageType": ["DERIVED", "SECONDARY"], "SOPClassUID": SOP_CLASS, "SOPInstanceUID": uid,
            "Modality": "OT", "ConversionType": "SYN", "PatientName": "BENCH^DICOMNET", "PatientID": "DICOMNET-BENCH",
            "StudyDate": "", "StudyTime": "", "AccessionNumber": "", "ReferringPhysicianName": "",
            "PatientBirthDate": "", "PatientSex": "", "StudyInstanceUID": study, "SeriesInstanceUID": series,
            "StudyID": "", "SeriesNumber": 1, "InstanceNumber": 1, "PatientOrientation": "",
            "SeriesDescription": f"generated, {amount(size)}", "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2", "Rows": rows, "Columns": columns, "BitsAllocated": 8,
            "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0,
        }  # fmt: skip
        self._first = codec.encode(codec.from_keywords(values), TRANSFER_SYNTAX)

    def object(self) -> Object:
        """The next one."""
        return Object(self, _new_uid())

    def bytes_of(self, uid: str) -> memoryview:
        """The data set of the object with this UID; until the next one is asked for."""
        self._bytes[self._place : self._place + _DIGITS] = uid.encode()
        return memoryview(self._bytes)


class Object:
    """One object, as a `sources.Source`."""

    sop_class_uid = SOP_CLASS
    transfer_syntax_uid = TRANSFER_SYNTAX

    def __init__(self, generator: Generator, uid: str) -> None:
        self._generator = generator
        self.sop_instance_uid: str
        self.name = self.sop_instance_uid = uid
        self.size: int = generator.size

    def chunks(self, unit: int) -> Iterator[memoryview]:
        """See `sources.Source.chunks`; made only once the object before is out."""
        yield from DataInMemory(self._generator.bytes_of(self.sop_instance_uid), _PIECE).chunks(unit)

    def close(self) -> None:
        """There is nothing to let go of."""

    def __enter__(self) -> Object:
        return self

    def __exit__(self, *_: object) -> None: ...
