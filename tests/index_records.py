"""Instances for the tests of the index, made of keywords."""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from typing import Any

from dicomnet import uids
from dicomnet.dataset import codec
from dicomnet.repository.attributes import InstanceRecord, instance_record

USUAL = {
    "SOPClassUID": uids.CT_IMAGE_STORAGE,
    "SOPInstanceUID": "1.2.3.1.1.1",
    "StudyInstanceUID": "1.2.3",
    "SeriesInstanceUID": "1.2.3.1",
    "PatientID": "P1",
    "PatientName": "Doe^Jane",
    "PatientBirthDate": "19700102",
    "PatientSex": "F",
    "StudyDate": "20260131",
    "StudyTime": "101500",
    "AccessionNumber": "A1",
    "Modality": "CT",
    "SeriesNumber": 1,
    "InstanceNumber": 1,
    "Rows": 512,
    "Columns": 512,
}


def header(transfer_syntax: str = uids.EXPLICIT_VR_LITTLE_ENDIAN, **keywords: Any) -> bytes:
    """The encoded data set of an instance: the usual one with other values; None leaves an element out."""
    values = {key: value for key, value in (USUAL | keywords).items() if value is not None}
    return codec.encode(codec.from_keywords(values), transfer_syntax)


def record(transfer_syntax: str = uids.EXPLICIT_VR_LITTLE_ENDIAN, **keywords: Any) -> InstanceRecord:
    data = header(transfer_syntax, **keywords)
    sha = hashlib.sha256(data).digest()
    return instance_record(data, transfer_syntax).placed("main", "segment-1", 0, len(data), sha)


def numbered(study: int, series: int = 1, instance: int = 1, **keywords: Any) -> InstanceRecord:
    """An instance of a tree of studies, each of a patient of its own unless one is given."""
    tree = {
        "StudyInstanceUID": f"1.2.{study}",
        "SeriesInstanceUID": f"1.2.{study}.{series}",
        "SOPInstanceUID": f"1.2.{study}.{series}.{instance}",
        "PatientID": f"P{study}",
        "AccessionNumber": f"A{study}",
        "SeriesNumber": series,
        "InstanceNumber": instance,
    }
    return record(**(tree | keywords))


def many(count: int) -> list[InstanceRecord]:
    """Instances of one series."""
    one = numbered(1)
    return [dataclasses.replace(one, uid=f"1.2.1.1.{number}", number=number) for number in range(1, count + 1)]


def encoded(values: dict[str, Any]) -> bytes:
    """Elements in explicit VR little endian and UTF-8, with whatever text, as devices write it."""
    parts = []
    for keyword, value in sorted(values.items(), key=lambda pair: codec.tags([pair[0]])):
        (tag,), vr = codec.tags([keyword]), codec.vr_of(keyword)
        head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
        if isinstance(value, list):
            items = (encoded(item) for item in value)
            data = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
            parts.append(head + struct.pack("<HI", 0, len(data)) + data)
            continue
        data = struct.pack("<H", value) if isinstance(value, int) else value.encode()
        data += b"\0" * (len(data) & 1) if vr == "UI" else b" " * (len(data) & 1)
        parts.append(head + struct.pack("<H", len(data)) + data)
    return b"".join(parts)
