"""Command sets, slowly and obviously: by pydicom, and by hand where they have to be wrong. For comparison only."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Mapping

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

GROUP_LENGTH = 0x00000000


def encode(values: Mapping[int, object]) -> bytes:
    """The command set with these values by tag, as pydicom writes implicit VR little endian, group length first."""
    dataset = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag, value in values.items():
            dataset.add_new(tag, VR[tag], list(value) if isinstance(value, tuple) else value)
        body = _written(dataset)
    return element(GROUP_LENGTH, struct.pack("<L", len(body))) + body


def _written(dataset: Dataset) -> bytes:
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, True
    write_dataset(out, dataset)
    return out.getvalue()


def decode(data: bytes) -> dict[int, object]:
    """The values by tag of a command set, as pydicom reads it; without the group length."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = read_dataset(DicomBytesIO(data), is_implicit_VR=True, is_little_endian=True, bytelength=len(data))
        return {int(item.tag): _plain(item.value, item.VR) for item in dataset if int(item.tag) != GROUP_LENGTH}


def _plain(value: object, vr: str) -> object:
    if vr == "AT":
        many = [] if value in (None, "") else value if isinstance(value, list) or hasattr(value, "append") else [value]
        return tuple(int(tag) for tag in many)
    return value if isinstance(value, int) else str(value)


#: VR by tag, as pydicom's dictionary has it.
VR = {
    0x00000002: "UI", 0x00000003: "UI", 0x00000100: "US", 0x00000110: "US", 0x00000120: "US", 0x00000600: "AE",
    0x00000700: "US", 0x00000800: "US", 0x00000900: "US", 0x00000901: "AT", 0x00000902: "LO", 0x00000903: "US",
    0x00001000: "UI", 0x00001001: "UI", 0x00001002: "US", 0x00001005: "AT", 0x00001008: "US", 0x00001020: "US",
    0x00001021: "US", 0x00001022: "US", 0x00001023: "US", 0x00001030: "AE", 0x00001031: "US",
}  # fmt: skip


def element(tag: int, value: bytes, length: int | None = None) -> bytes:
    """One element in implicit VR little endian; ``length`` where it is to lie."""
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def value_bytes(vr: str, value: object) -> bytes:
    """The bytes of a value."""
    if vr == "US":
        return struct.pack("<H", value)
    if vr == "AT":
        return b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in value)
    encoded = str(value).encode("latin-1")
    return encoded + (b"\0" if vr == "UI" else b" ") * (len(encoded) % 2)


def assemble(elements: list[bytes]) -> bytes:
    """Elements as a command set, with a group length that is right."""
    body = b"".join(elements)
    return element(GROUP_LENGTH, struct.pack("<L", len(body))) + body


def fragments(data: bytes, size: int) -> list[tuple[bytes, bool]]:
    """A message's command or data set cut into fragments of ``size``, each with whether it is the last."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
    return [(piece, number == len(pieces) - 1) for number, piece in enumerate(pieces)]
