"""A CT image of four pixels: small, valid, and of a patient who does not exist (PS3.3 Section A.3)."""

from __future__ import annotations

import struct
import uuid

from .wire import CT_STORAGE, EXPLICIT

_LONG = frozenset({"OB", "OW", "SQ", "UN", "UT"})

# Tag, VR and value of what the modules of a CT image require (types 1 and 2). UIDs are added by `ct_image`.
_ELEMENTS: tuple[tuple[int, str, str | bytes], ...] = (
    (0x00080005, "CS", "ISO_IR 100"),
    (0x00080008, "CS", r"ORIGINAL\PRIMARY\AXIAL"),
    (0x00080020, "DA", "20260101"),
    (0x00080030, "TM", "120000"),
    (0x00080050, "SH", ""),
    (0x00080060, "CS", "CT"),
    (0x00080070, "LO", "dicomnet"),
    (0x00080090, "PN", ""),
    (0x00100010, "PN", "CONFORM^TEST"),
    (0x00100020, "LO", "DICOMNET-CONFORM"),
    (0x00100030, "DA", ""),
    (0x00100040, "CS", "O"),
    (0x00180050, "DS", "1"),
    (0x00180060, "DS", "120"),
    (0x00200010, "SH", "1"),
    (0x00200011, "IS", "1"),
    (0x00200012, "IS", "1"),
    (0x00200013, "IS", "1"),
    (0x00200032, "DS", r"0\0\0"),
    (0x00200037, "DS", r"1\0\0\0\1\0"),
    (0x00201040, "LO", ""),
    (0x00280002, "US", struct.pack("<H", 1)),
    (0x00280004, "CS", "MONOCHROME2"),
    (0x00280010, "US", struct.pack("<H", 2)),
    (0x00280011, "US", struct.pack("<H", 2)),
    (0x00280030, "DS", r"1\1"),
    (0x00280100, "US", struct.pack("<H", 16)),
    (0x00280101, "US", struct.pack("<H", 12)),
    (0x00280102, "US", struct.pack("<H", 11)),
    (0x00280103, "US", struct.pack("<H", 0)),
    (0x00281052, "DS", "-1024"),
    (0x00281053, "DS", "1"),
    (0x7FE00010, "OW", bytes(8)),
)


def new_uid() -> str:
    """A UID that no other object has (PS3.5 Annex B.2)."""
    return f"2.25.{uuid.uuid4().int}"


def ct_image(instance: str, transfer_syntax: str, *, padding: int = 0) -> bytes:
    """The data set of a CT image.

    Args:
        instance: its SOP Instance UID.
        transfer_syntax: implicit or explicit VR little endian.
        padding: bytes of Data Set Trailing Padding to append, even; 0 for none.
    """
    own: list[tuple[int, str, str | bytes]] = [(0x00080016, "UI", CT_STORAGE), (0x00080018, "UI", instance)]
    own += [(tag, "UI", new_uid()) for tag in (0x0020000D, 0x0020000E, 0x00200052)]
    if padding:
        own.append((0xFFFCFFFC, "OB", bytes(padding)))
    explicit = transfer_syntax == EXPLICIT
    return b"".join(_encode(tag, vr, value, explicit) for tag, vr, value in sorted([*_ELEMENTS, *own]))


def _encode(tag: int, vr: str, value: str | bytes, explicit: bool) -> bytes:
    data = value if isinstance(value, bytes) else value.encode("ascii")
    data += (b"\0" if vr == "UI" else b" ") * (len(data) % 2)
    start = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if not explicit:
        return start + struct.pack("<I", len(data)) + data
    if vr in _LONG:
        return start + struct.pack("<2sHI", vr.encode(), 0, len(data)) + data
    return start + struct.pack("<2sH", vr.encode(), len(data)) + data
