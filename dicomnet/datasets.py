"""The only bridge to pydicom, which is loaded when the first data set has to be made or understood."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any

from dicomnet import uids
from dicomnet._elements import fault_of
from dicomnet.errors import InputFileError, InputProblem, InvalidArgument, RemoteProtocolError
from dicomnet.sources import DEFLATED, BytesSource, Source
from dicomnet.sources import open_source as _open_source

__all__ = [
    "UndecodableDataSet",
    "decode",
    "encode",
    "from_keywords",
    "is_dataset",
    "open_source",
    "source_of",
    "tags",
]

#: A pydicom Dataset; to name its class here would load it.
Dataset = Any
Buffer = bytes | bytearray | memoryview

# A deflated data set may be a bomb: it grows no further than this, or this many times its own size, whichever is more.
INFLATED_SIZE = 1 << 20
INFLATED_RATIO = 200

_NATIVE = frozenset(
    {
        uids.IMPLICIT_VR_LITTLE_ENDIAN,
        uids.EXPLICIT_VR_LITTLE_ENDIAN,
        uids.EXPLICIT_VR_BIG_ENDIAN,
        uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    }
)
_PIXEL_DATA = 0x7FE00010
_FIRST_DATA_SET_TAG = 0x00040000  # below are commands and file meta information


class UndecodableDataSet(RemoteProtocolError):
    """Bytes of a peer that are no data set in their transfer syntax.

    Attributes:
        data: the bytes.
        transfer_syntax: what they were said to be encoded in.
    """

    def __init__(self, message: str, *, data: bytes, transfer_syntax: str, peer: str | None = None) -> None:
        super().__init__(message, peer=peer)
        self.data = data
        self.transfer_syntax = transfer_syntax


def encode(dataset: Dataset, transfer_syntax: str) -> bytes:
    """Encode a pydicom Dataset as it goes over the wire, without file meta information; bytes are taken as they are.

    Pixel data stay as they are: the data set must have been compressed, or not, as the transfer syntax wants it.

    Raises:
        InvalidArgument: it has elements that a data set cannot have, or values that cannot be encoded, or its pixel
            data are in another transfer syntax.
    """
    if isinstance(dataset, bytes | bytearray | memoryview):
        return bytes(dataset)
    from pydicom.filebase import DicomBytesIO  # noqa: PLC0415 late on purpose
    from pydicom.filewriter import write_dataset  # noqa: PLC0415

    syntax = str(transfer_syntax)
    _check_encodable(dataset, syntax)
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = _encoding(syntax)
    try:
        if _PIXEL_DATA in dataset:
            dataset["PixelData"].is_undefined_length = syntax not in _NATIVE
        write_dataset(file, dataset)
    except Exception as error:  # pydicom has no error of its own for this: values raise what their type makes of them
        raise InvalidArgument(f"the data set cannot be encoded: {error}") from error
    data: bytes = file.getvalue()
    if syntax not in DEFLATED:
        return data
    data = zlib.compress(data, wbits=-zlib.MAX_WBITS)
    return data + b"\0" * (len(data) & 1)  # PS3.5 Section A.5


def _check_encodable(dataset: Dataset, syntax: str) -> None:
    first = min(dataset.keys(), default=_FIRST_DATA_SET_TAG)
    if first < _FIRST_DATA_SET_TAG:
        raise InvalidArgument(f"element {first} belongs to a command or to file meta information, not to a data set")
    own = transfer_syntax_of(dataset)
    if own is None or own == syntax or _PIXEL_DATA not in dataset:
        return
    alike = own in _NATIVE and syntax in _NATIVE and _encoding(own)[1] == _encoding(syntax)[1]
    if not alike:
        raise InvalidArgument(
            f"the pixel data are in {uids.name_of(own)}, not in {uids.name_of(syntax)}",
            hint="Convert them first, for instance with pydicom's compress or decompress.",
        )


def decode(data: Buffer, transfer_syntax: str) -> Dataset:
    """Decode a data set into a pydicom Dataset; its values are decoded when they are first touched.

    Raises:
        UndecodableDataSet: it is no data set in this transfer syntax, or inflates beyond measure.
    """
    from pydicom.dataset import FileMetaDataset  # noqa: PLC0415 late on purpose
    from pydicom.filereader import read_dataset  # noqa: PLC0415
    from pydicom.uid import UID  # noqa: PLC0415

    syntax = str(transfer_syntax)
    try:
        plain = _inflate(data) if syntax in DEFLATED else data
        fault = fault_of(plain, *_encoding(syntax))
        if fault:
            raise ValueError(fault)
        dataset = read_dataset(BytesIO(plain), *_encoding(syntax))
    except UndecodableDataSet:
        raise
    except Exception as error:  # whatever pydicom stumbles over in bytes that came from outside
        what = f"not a data set in {uids.name_of(syntax)}: {error}"
        raise UndecodableDataSet(what, data=bytes(data), transfer_syntax=syntax) from error
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    return dataset


def _inflate(data: Buffer) -> bytes:
    limit = max(INFLATED_SIZE, INFLATED_RATIO * len(data))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = inflater.decompress(data, limit)
    if not inflater.eof:
        what = f"more than {limit} bytes" if len(plain) == limit else "no end"
        raise UndecodableDataSet(
            f"a deflated data set of {len(data)} bytes with {what} inside",
            data=bytes(data),
            transfer_syntax=uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        )
    return plain


def _encoding(syntax: str) -> tuple[bool, bool]:
    """Whether it has implicit VR, and whether it is little endian."""
    return syntax == uids.IMPLICIT_VR_LITTLE_ENDIAN, syntax != uids.EXPLICIT_VR_BIG_ENDIAN


def is_dataset(item: object) -> bool:
    """Whether this is a pydicom Dataset; there is none before pydicom was imported, by whomever."""
    module = sys.modules.get("pydicom.dataset")
    return module is not None and isinstance(item, getattr(module, "Dataset", ()))


def transfer_syntax_of(dataset: Dataset) -> str | None:
    """The transfer syntax that a pydicom Dataset says it has."""
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    return str(syntax) if syntax else None


def source_of(dataset: Dataset, transfer_syntax: str | None = None) -> BytesSource:
    """A pydicom Dataset as something to store, encoded now.

    Args:
        dataset: with SOP Class UID and SOP Instance UID.
        transfer_syntax: what to encode it in if its file meta information does not say; see `encode`.

    Raises:
        InputFileError: it does not say what it is.
        InvalidArgument: it cannot be encoded.
    """
    syntax = transfer_syntax_of(dataset) or transfer_syntax
    name = str(getattr(dataset, "filename", None) or f"data set {dataset.get('SOPInstanceUID', '')}".rstrip())
    if syntax is None:
        raise InputFileError(
            "it has no Transfer Syntax UID (0002,0010)",
            problem=InputProblem.MISSING_UID,
            path=name,
            hint="Set its file_meta.TransferSyntaxUID, or tell the transfer syntax.",
        )
    meta = getattr(dataset, "file_meta", {})
    return BytesSource(
        encode(dataset, syntax),
        syntax,
        str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or ""),
        str(dataset.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID") or ""),
        name=name,
    )


def open_source(item: Any, transfer_syntax: str | None = None, *, buffer: bytearray | None = None) -> Source:
    """Open what can be stored: a pydicom Dataset, or whatever `sources.open_source` takes."""
    if is_dataset(item):
        return source_of(item, transfer_syntax)
    return _open_source(item, transfer_syntax, buffer=buffer)


def from_keywords(values: Mapping[str, Any], template: Dataset | None = None) -> Dataset:
    """A pydicom Dataset from keywords and values, over a copy of ``template``; a list of mappings is a sequence.

    Text goes out as it is if it is ASCII, else the data set says that it is UTF-8.

    Raises:
        InvalidArgument: a keyword that does not exist, or a value that its value representation cannot have.
    """
    from pydicom.dataset import Dataset as PydicomDataset  # noqa: PLC0415

    dataset = PydicomDataset()
    if template is not None:
        dataset.update(template)
    for keyword, value in values.items():
        _set(dataset, keyword, value)
    if "SpecificCharacterSet" not in dataset and not _is_ascii(values):
        dataset.SpecificCharacterSet = "ISO_IR 192"
    return dataset


def _is_ascii(value: Any) -> bool:
    if isinstance(value, str):
        return value.isascii()
    if isinstance(value, Mapping):
        return all(map(_is_ascii, value.values()))
    return not isinstance(value, list | tuple) or all(map(_is_ascii, value))


def _set(dataset: Dataset, keyword: str, value: Any) -> None:
    from pydicom import config, datadict  # noqa: PLC0415
    from pydicom.dataelem import DataElement  # noqa: PLC0415

    tag = datadict.tag_for_keyword(keyword)
    if tag is None:
        raise InvalidArgument(f"there is no attribute {keyword!r}", hint="Attributes go by their keyword, PatientName.")
    vr = datadict.dictionary_VR(tag).split(" ")[0]
    if vr == "SQ":
        value = [item if is_dataset(item) else from_keywords(item) for item in value or ()]
    wildcards = isinstance(value, str) and any(mark in value for mark in "*?-\\")
    mode = config.IGNORE if value is None or wildcards else config.RAISE
    try:
        dataset.add(DataElement(tag, vr, "" if value is None and vr != "SQ" else value, validation_mode=mode))
    except Exception as error:  # pydicom's validators raise what their value type raises
        raise InvalidArgument(f"{keyword} ({vr}) cannot have the value {value!r}: {error}") from error


def tags(wanted: Iterable[int | str]) -> tuple[int, ...] | None:
    """Attribute tags from ints and keywords; None for none."""
    from pydicom import datadict  # noqa: PLC0415

    found = []
    for one in wanted:
        tag = one if isinstance(one, int) else datadict.tag_for_keyword(one)
        if tag is None:
            raise InvalidArgument(f"there is no attribute {one!r}")
        found.append(int(tag))
    return tuple(found) or None
