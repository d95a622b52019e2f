"""Instances that come as metadata and bulk data, made into files (PS3.18 Sections 8.7.3 and 10.5.1)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.valuerep import format_number_as_ds

from .. import uids
from ..errors import InvalidArgument
from ..repository.dicom_json import DicomJson
from .drawing import NATIVE
from .media_types import MediaType

__all__ = ["BulkData", "file_of"]

_PIXEL_DATA = "7FE00010"
#: What is no attribute of an instance: the syntax that it is to be had in, which metadata tell.
_LEFT_OUT = ("00080005", "00083002")
_DS_CHARACTERS = 16
#: The transfer syntax of a compressed frame that does not name it (PS3.18 Table 8.7.3-2 and 8.7.3-5).
_SYNTAXES = {
    "image/jpeg": uids.JPEG_LOSSLESS_SV1,
    "image/jls": uids.JPEG_LS_LOSSLESS,
    "image/jp2": uids.JPEG2000_LOSSLESS,
    "image/jphc": uids.HTJ2K_LOSSLESS,
    "image/dicom-rle": uids.RLE_LOSSLESS,
    "video/mp4": "1.2.840.10008.1.2.4.102",
}


@dataclass(frozen=True, slots=True)
class BulkData:
    """A part with a value, or with a frame of Pixel Data.

    Attributes:
        kind: its media type.
        content: its bytes.
    """

    kind: MediaType
    content: bytes

    @property
    def transfer_syntax(self) -> str:
        """Of pixels in it."""
        return self.kind.transfer_syntax or _SYNTAXES.get(self.kind.type, uids.EXPLICIT_VR_LITTLE_ENDIAN)


def file_of(item: DicomJson, bulk: Mapping[str, Sequence[BulkData]]) -> bytes:
    """A Part 10 stream of a data set.

    Args:
        item: in the DICOM JSON model, of the right form.
        bulk: the parts for each BulkDataURI; several are the frames of Pixel Data.

    Raises:
        InvalidArgument: a value is not there, or is none of its VR.
    """
    pixels = item.get(_PIXEL_DATA, {})
    frames = _found(bulk, pixels["BulkDataURI"]) if "BulkDataURI" in pixels else []
    syntax = frames[0].transfer_syntax if frames else uids.EXPLICIT_VR_LITTLE_ENDIAN
    if syntax not in NATIVE:
        item = {tag: element for tag, element in item.items() if tag != _PIXEL_DATA}
    elif syntax != uids.EXPLICIT_VR_LITTLE_ENDIAN:
        raise InvalidArgument("uncompressed Pixel Data come in Explicit VR Little Endian")
    item = {tag: element for tag, element in item.items() if tag not in _LEFT_OUT and tag[:4] not in ("0000", "0002")}

    def value(_tag: str, _vr: str, uri: str) -> bytes:
        content = b"".join(one.content for one in _found(bulk, uri))
        return content + b"\0" * (len(content) % 2)

    try:
        dataset = Dataset.from_json(_with_short_decimals(item), value)
        if syntax not in NATIVE:
            dataset.add_new(int(_PIXEL_DATA, 16), "OB", encapsulate([one.content for one in frames]))
            dataset["PixelData"].is_undefined_length = True
        return _written(dataset, syntax)
    except InvalidArgument:
        raise
    except Exception as error:  # whatever pydicom stumbles over
        raise InvalidArgument(f"a value cannot be understood: {type(error).__name__}") from error


def _found(bulk: Mapping[str, Sequence[BulkData]], uri: str) -> Sequence[BulkData]:
    if uri not in bulk:
        raise InvalidArgument("a value has no part with its Content-Location")
    return bulk[uri]


def _with_short_decimals(item: DicomJson) -> DicomJson:
    """With numbers that fit into decimal strings."""
    return {tag: _with_short_decimal(element) for tag, element in item.items()}


def _with_short_decimal(element: dict[str, Any]) -> dict[str, Any]:
    values = element.get("Value") or []
    if element["vr"] == "SQ":
        return element | {"Value": [_with_short_decimals(one or {}) for one in values]}
    if element["vr"] == "DS" and any(len(str(one)) > _DS_CHARACTERS for one in values):
        return element | {"Value": [None if one is None else format_number_as_ds(float(one)) for one in values]}
    return element


def _written(dataset: Dataset, syntax: str) -> bytes:
    meta: Any = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    dataset.SpecificCharacterSet, dataset.file_meta = "ISO_IR 192", meta
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
