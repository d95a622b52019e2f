"""A DICOMDIR as it is written: records by pydicom's rules, laid out and linked here (PS3.3 Annex F, PS3.10 Section 8).

pydicom's `FileSet` looks through all siblings of each record, and through all instances for each: 5,000 take minutes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from .. import uids
from ..dataset.types import Dataset
from ..errors import InvalidArgument
from ..files.part10 import meta_header

__all__ = ["Directory"]

_KEYS = {"PATIENT": "PatientID", "STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID"}
_PREFIXES = {"PATIENT": "PT", "STUDY": "ST", "SERIES": "SE", "IMAGE": "IM"}
_OTHER = "OB"
_IN_USE = 0xFFFF
# Where the values are in an encoded record, whose first elements these always are: (0004,1400), 1410 and 1420.
_NEXT, _LOWER = 8, 30
_ITEM = b"\xfe\xff\x00\xe0"


class _Node:
    """A directory record, the File ID of what it stands for, and those below it by what tells them apart."""

    __slots__ = ("encoded", "file_id", "offset", "record", "under")

    def __init__(self, record: Dataset | None, file_id: tuple[str, ...]) -> None:
        self.record, self.file_id = record, file_id
        self.under: dict[str, _Node] = {}
        self.encoded = bytearray()
        self.offset = 0

    def walk(self) -> Iterator[_Node]:
        """It and all below, in the order in which they are written."""
        yield self
        for node in self.under.values():
            yield from node.walk()


class Directory:
    """The directory of one file-set.

    Args:
        file_set_id: File-set ID (0004,1130); may be empty.
    """

    def __init__(self, file_set_id: str = "") -> None:
        self.file_set_id = file_set_id
        self.uid: str = uids.new()
        self._root = _Node(None, ())
        self._levels: dict[tuple[str, ...], tuple[str, ...]] = {}

    def add(self, header: Dataset) -> tuple[str, ...]:
        """List an instance that is not listed yet; the File ID of its file.

        Raises:
            InvalidArgument: it lacks what its records need.
        """
        from pydicom.fileset import DIRECTORY_RECORDERS  # noqa: PLC0415 heavy

        node = self._root
        levels = self._levels_of(header)
        for level in levels:
            key = str(header.get(_KEYS.get(level, "SOPInstanceUID")))
            below = node.under.get(key)
            if below is None:
                try:
                    record = DIRECTORY_RECORDERS[level](header)
                except (ValueError, AttributeError) as error:  # as pydicom says what is missing
                    raise InvalidArgument(f"a DICOMDIR cannot list {header.SOPInstanceUID}: {error}") from error
                name = f"{_PREFIXES.get(level, _OTHER)}{len(node.under):06d}"
                below = node.under[key] = _Node(_completed(record, level, header), (*node.file_id, name))
            node = below
        assert node.record is not None
        node.record.ReferencedFileID = list(node.file_id)
        node.record.ReferencedSOPClassUIDInFile = header.SOPClassUID
        node.record.ReferencedSOPInstanceUIDInFile = header.SOPInstanceUID
        node.record.ReferencedTransferSyntaxUIDInFile = header.file_meta.TransferSyntaxUID
        return node.file_id

    def _levels_of(self, header: Dataset) -> tuple[str, ...]:
        """The types of its records, from the top; pydicom says, once for all that are alike."""
        from pydicom.dataset import Dataset as PydicomDataset  # noqa: PLC0415 heavy
        from pydicom.fileset import FileSet  # noqa: PLC0415

        document, plan = "EncapsulatedDocument" in header, "RTPlanLabel" in header
        kind = str(header.SOPClassUID), str(header.get("Modality", "")), str(document), str(plan)
        if kind not in self._levels:
            whole = PydicomDataset()
            whole.update(header)
            whole.file_meta = header.file_meta
            try:
                node = FileSet().add(whole).node
            except (ValueError, AttributeError, NotImplementedError) as error:
                raise InvalidArgument(f"a DICOMDIR cannot list {header.SOPInstanceUID}: {error}") from error
            self._levels[kind] = tuple(one.record_type for one in node.reverse() if not one.is_root)[::-1]
        return self._levels[kind]

    def encode(self) -> bytes:
        """The DICOMDIR, a Part 10 file in explicit VR little endian."""
        begins = meta_header(uids.MEDIA_STORAGE_DIRECTORY_STORAGE, self.uid, uids.EXPLICIT_VR_LITTLE_ENDIAN, "DICOMNET")
        name = self.file_set_id.encode("ascii")
        named = _element(0x1130, b"CS", name + b" " * (len(name) & 1))
        nodes = [node for node in self._root.walk() if node is not self._root]
        offset = len(begins) + len(named) + 12 + 12 + 10 + 12
        for node in nodes:
            node.encoded = bytearray(_encoded(node.record))
            node.offset, offset = offset, offset + 8 + len(node.encoded)
        for above in (self._root, *nodes):
            below = list(above.under.values())
            for one, following in pairwise(below):
                struct.pack_into("<I", one.encoded, _NEXT, following.offset)
            if below and above is not self._root:
                struct.pack_into("<I", above.encoded, _LOWER, below[0].offset)
        top = list(self._root.under.values())
        first, last = (top[0].offset, top[-1].offset) if top else (0, 0)
        items = b"".join(_ITEM + struct.pack("<I", len(node.encoded)) + node.encoded for node in nodes)
        return b"".join((
            begins, named, _element(0x1200, b"UL", struct.pack("<I", first)),
            _element(0x1202, b"UL", struct.pack("<I", last)), _element(0x1212, b"US", bytes(2)),
            struct.pack("<HH2sHI", 4, 0x1220, b"SQ", 0, len(items)), items,
        ))  # fmt: skip


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", 4, number, vr, len(value)) + value


def _completed(record: Dataset, level: str, header: Dataset) -> Dataset:
    """A record with what all have."""
    record.OffsetOfTheNextDirectoryRecord = 0
    record.RecordInUseFlag = _IN_USE
    record.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    record.DirectoryRecordType = level
    if "SpecificCharacterSet" in header:
        record.SpecificCharacterSet = header.SpecificCharacterSet
    return record


def _encoded(record: Any) -> bytes:
    from pydicom.filebase import DicomBytesIO  # noqa: PLC0415 heavy
    from pydicom.filewriter import write_dataset  # noqa: PLC0415

    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    write_dataset(out, record)
    return bytes(out.getvalue())
