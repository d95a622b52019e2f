"""The only bridge to pydicom, which is loaded when the first data set has to be made or understood."""

from __future__ import annotations

import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from io import BytesIO
from typing import Any

from dicomnet import uids
from dicomnet.config import INFLATED_RATIO, INFLATED_SIZE
from dicomnet.dataset import character_sets, long_values, text
from dicomnet.dataset.types import is_uid_like
from dicomnet.errors import InputFileError, InputProblem, InvalidArgument, RemoteProtocolError, cannot_read
from dicomnet.files.instance_source import DEFLATED, BytesSource, Source
from dicomnet.files.instance_source import open_source as _open_source
from dicomnet.log import log
from dicomnet.wire.elements import encode_text, fault_of

__all__ = [
    "NATIVE",
    "UndecodableDataSet",
    "actual_encoding",
    "decode",
    "deflate",
    "encode",
    "encoding_of",
    "from_keywords",
    "inflate",
    "is_dataset",
    "open_source",
    "private_tag",
    "read",
    "source_of",
    "tags",
    "vr_of",
    "without_commands",
]

#: A pydicom Dataset; to name its class here would load it.
Dataset = Any
Buffer = bytes | bytearray | memoryview


_INFLATE_PIECE = 64 << 10

#: Transfer syntaxes without compression of pixel data.
NATIVE = frozenset(
    {
        uids.IMPLICIT_VR_LITTLE_ENDIAN,
        uids.EXPLICIT_VR_LITTLE_ENDIAN,
        uids.EXPLICIT_VR_BIG_ENDIAN,
        uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    }
)
_LITTLE_ENDIAN = frozenset({uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN})
_PIXEL_DATA = 0x7FE00010
_LAST_CREATOR = 0xFF  # of the elements that reserve blocks of private ones (PS3.5 Section 7.8.1)
#: Numbers that are no text in a data set; people type them all the same.
_NUMBERS: dict[str, Callable[[str], int | float]] = {
    **dict.fromkeys(("SL", "SS", "SV", "UL", "US", "UV"), int), "FD": float, "FL": float
}  # fmt: skip
_PRIVATE = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?").fullmatch
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

    A mapping of keywords to values will do, too; where all values are text, that is the fastest (see `from_keywords`).
    Pixel data stay as they are: the data set must have been compressed, or not, as the transfer syntax wants it.

    Raises:
        InvalidArgument: it has elements that a data set cannot have, or values that cannot be encoded, or its pixel
            data are in another transfer syntax.
    """
    if isinstance(dataset, bytes | bytearray | memoryview):
        return bytes(dataset)
    quick = _encode_text(dataset, transfer_syntax) if transfer_syntax in _LITTLE_ENDIAN else None
    if quick is not None:
        return quick
    if not is_dataset(dataset):
        dataset = from_keywords(dataset)
    from pydicom.filebase import DicomBytesIO  # noqa: PLC0415 late on purpose
    from pydicom.filewriter import write_dataset  # noqa: PLC0415

    syntax = str(transfer_syntax)
    _check_encodable(dataset, syntax)
    dataset = text.named(dataset)
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = encoding_of(syntax)
    try:
        if _PIXEL_DATA in dataset:
            dataset["PixelData"].is_undefined_length = syntax not in NATIVE
        write_dataset(file, dataset if file.is_implicit_VR else long_values.written_as_unknown(dataset))
    except Exception as error:  # pydicom has no error of its own for this: values raise what their type makes of them
        raise InvalidArgument(f"the data set cannot be encoded: {error}") from error
    data: bytes = file.getvalue()
    if syntax not in DEFLATED:
        return data

    return deflate(data)


def _encode_text(dataset: Any, syntax: str) -> bytes | None:
    """A data set of nothing but text, as most answers to queries are; None where it has anything else."""
    if is_dataset(dataset):
        elements = [(tag, str(element.VR), element.value) for tag, element in sorted(dataset.items())]
    else:
        elements = sorted((*_tag_and_vr(keyword), value) for keyword, value in dataset.items())
    if not elements or elements[0][0] < _FIRST_DATA_SET_TAG:
        return None
    character_set = dataset.get("SpecificCharacterSet")
    return encode_text(elements, syntax == uids.IMPLICIT_VR_LITTLE_ENDIAN, character_set == "ISO_IR 192")


@lru_cache(1000)
def _tag_and_vr(keyword: str) -> tuple[int, str]:
    from pydicom import datadict  # noqa: PLC0415

    private = private_tag(keyword)
    if private is not None:
        return private, "LO" if private & 0xFFFF <= _LAST_CREATOR else "UN"
    tag = datadict.tag_for_keyword(keyword)
    if tag is None:
        raise InvalidArgument(f"there is no attribute {keyword!r}", hint="Attributes go by their keyword, PatientName.")
    return tag, datadict.dictionary_VR(tag)


def private_tag(keyword: str) -> int | None:
    """The tag that stands in the place of a keyword, "7777,1037", where it is a private one; else None."""
    found = _PRIVATE(keyword)
    if found is None:
        return None
    group, number = int(found[1], 16), int(found[2], 16)
    return group << 16 | number if group % 2 and (0x10 <= number <= _LAST_CREATOR or number > 0x1000) else None


def vr_of(keyword: str) -> str:
    """The value representation of an attribute; the first, where the standard leaves a choice.

    Raises:
        InvalidArgument: there is no such attribute.
    """
    return _tag_and_vr(keyword)[1].split(" ")[0]


def read(path: str | os.PathLike[str], limit: int | None) -> Dataset:
    """The data set of a file without its pixel data: Part 10, or as DICOM wrote them before there were headers.

    Args:
        path: the file.
        limit: the most bytes of a file without a header, which is read into memory; None is any number.

    Raises:
        InputFileError: it cannot be read, or is no data set.
    """
    import pydicom  # noqa: PLC0415 late on purpose

    try:
        with open(path, "rb") as file:
            if file.read(132)[128:] != b"DICM":
                file.seek(0)
                return _decode_headless(file.read(-1 if limit is None else limit))
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        if not len(dataset):
            raise ValueError("it is empty")
        return dataset
    except OSError as error:
        raise cannot_read(error, path) from error
    except Exception as error:  # whatever pydicom stumbles over
        raise InputFileError(f"no data set: {error}", problem=InputProblem.NOT_PART10, path=path) from error


def _decode_headless(data: bytes) -> Dataset:
    try:
        return decode(data, uids.IMPLICIT_VR_LITTLE_ENDIAN)
    except UndecodableDataSet:
        return decode(data, uids.EXPLICIT_VR_LITTLE_ENDIAN)


def _check_encodable(dataset: Dataset, syntax: str) -> None:
    first = min(dataset.keys(), default=_FIRST_DATA_SET_TAG)
    if first < _FIRST_DATA_SET_TAG:
        raise InvalidArgument(f"element {first} belongs to a command or to file meta information, not to a data set")
    own = transfer_syntax_of(dataset)
    if own is None or own == syntax or _PIXEL_DATA not in dataset:
        return
    alike = own in NATIVE and syntax in NATIVE and encoding_of(own)[1] == encoding_of(syntax)[1]
    if not alike:
        raise InvalidArgument(
            f"the pixel data are in {uids.name_of(own)}, not in {uids.name_of(syntax)}",
            hint="Convert them first, for instance with pydicom's compress or decompress.",
        )


def without_commands(dataset: Dataset) -> Dataset:
    """The data set without elements of groups 0000 and 0002, which some programs keep in it; it is said once.

    What a handler answers is worth more than the mistake. Where a user sends such a data set, `encode` refuses it.
    """
    if not is_dataset(dataset):
        return dataset
    tags = list(dataset.keys())
    if min(tags, default=_FIRST_DATA_SET_TAG) >= _FIRST_DATA_SET_TAG:
        return dataset
    _tell_left_out(str(min(tags)))
    copy = type(dataset)()
    copy.update({tag: dataset.get_item(tag) for tag in tags if tag >= _FIRST_DATA_SET_TAG})
    if hasattr(dataset, "file_meta"):
        copy.file_meta = dataset.file_meta
    return copy


@lru_cache(64)
def _tell_left_out(tag: str) -> None:
    log.warning("%s belongs to a command or to file meta information: it is left out of what a handler answers", tag)


def decode(data: Buffer, transfer_syntax: str, character_set: str = "") -> Dataset:
    """Decode a data set into a pydicom Dataset; its values are decoded when they are first touched.

    Args:
        data, transfer_syntax: the bytes, and what they are encoded in.
        character_set: Specific Character Set of a data set that names none, or one in which its text cannot be.

    Raises:
        InvalidArgument: there is no such character set.
        UndecodableDataSet: it is no data set in this transfer syntax, or inflates beyond measure.
    """
    from pydicom.dataset import FileMetaDataset  # noqa: PLC0415 late on purpose
    from pydicom.filereader import read_dataset  # noqa: PLC0415
    from pydicom.uid import UID  # noqa: PLC0415

    syntax = str(transfer_syntax)
    character_sets.mend_gb_2312()
    fallback = character_sets.python_encodings(character_set) if character_set else ()
    try:
        plain = inflate(data) if syntax in DEFLATED else data
        actual_encoding(plain, syntax)
        dataset = read_dataset(BytesIO(plain), *encoding_of(syntax))
        if len(plain) > long_values.LONGEST_SHORT:
            long_values.read_as_known(dataset)
        if fallback and not character_sets.is_text_in_its_own(dataset):
            character_sets.reread(dataset, fallback)
    except UndecodableDataSet:
        raise
    except Exception as error:  # whatever pydicom stumbles over in bytes that came from outside
        # What pydicom says may quote values; it is the cause of this error.
        said = error if isinstance(error, _NoElements) else type(error).__name__
        what = f"not a data set in {uids.name_of(syntax)}: {said}"
        raise UndecodableDataSet(what, data=bytes(data), transfer_syntax=syntax) from error
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    return dataset


class _NoElements(ValueError):
    """What `actual_encoding` finds."""


def actual_encoding(plain: Buffer, syntax: str) -> tuple[bool, bool]:
    """Whether a data set has implicit VR, and whether it is little endian; its elements nest within reason.

    Some writers leave out VRs where there should be some; what reads as implicit VR only is taken so.

    Raises:
        ValueError: these are no elements.
    """
    implicit, little_endian = encoding_of(syntax)
    fault = fault_of(plain, implicit, little_endian)
    if fault is None:
        return implicit, little_endian
    if implicit or fault_of(plain, True, little_endian):
        raise _NoElements(fault)
    return True, little_endian


def deflate(data: bytes) -> bytes:
    """Deflate an encoded data set (PS3.5 Section A.5)."""
    deflated = zlib.compress(data, wbits=-zlib.MAX_WBITS)
    return deflated + b"\0" * (len(deflated) & 1)


def inflate(data: Buffer) -> bytes:
    """Inflate piece by piece: a bomb is known by its ratio long before it has grown.

    Raises:
        UndecodableDataSet: it is not deflated, has no end, or inflates beyond measure.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    view, plain, taken = memoryview(data), bytearray(), 0
    while not inflater.eof and (inflater.unconsumed_tail or taken < len(view)):
        if not inflater.unconsumed_tail:
            piece: Buffer = view[taken : taken + _INFLATE_PIECE]
            taken += len(piece)
        else:
            piece = inflater.unconsumed_tail
        try:
            plain += inflater.decompress(piece, _INFLATE_PIECE)
        except zlib.error as error:
            raise _uninflatable(data, "what is not deflated") from error
        if len(plain) > max(INFLATED_SIZE, INFLATED_RATIO * (taken - len(inflater.unconsumed_tail))):
            raise _uninflatable(data, f"more than {len(plain)} bytes")
    plain += inflater.flush()
    if not inflater.eof:
        raise _uninflatable(data, "no end")
    return bytes(plain)


def _uninflatable(data: Buffer, what: str) -> UndecodableDataSet:
    return UndecodableDataSet(
        f"a deflated data set of {len(data)} bytes with {what} inside",
        data=bytes(data),
        transfer_syntax=uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    )


def encoding_of(syntax: str) -> tuple[bool, bool]:
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
    for keyword, value in sorted(values.items()):  # creators stand before what is theirs
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
    from pydicom import config  # noqa: PLC0415
    from pydicom.dataelem import DataElement  # noqa: PLC0415

    tag, vr = _tag_and_vr(keyword)
    vr = vr.split(" ")[0] if vr != "UN" else _private_vr(dataset, tag, keyword)
    if vr == "SQ":
        value = [item if is_dataset(item) else from_keywords(item) for item in _items(keyword, value)]
    wildcards = isinstance(value, str) and any(mark in value for mark in "*?-\\")
    uids = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    named = vr == "UI" and all(isinstance(one, str) and is_uid_like(one) for one in uids)
    mode = config.IGNORE if value is None or wildcards or named else config.RAISE
    try:
        if vr in _NUMBERS and isinstance(value, str) and value:
            value = _NUMBERS[vr](value)
        dataset.add(DataElement(tag, vr, "" if value is None and vr != "SQ" else value, validation_mode=mode))
    except Exception as error:  # pydicom's validators raise what their value type raises
        raise InvalidArgument(f"{keyword} ({vr}) cannot have the value {value!r}: {error}") from error


def _items(keyword: str, value: Any) -> Iterable[Any]:
    """The items of a sequence, data sets or mappings."""
    items = [] if value is None else value
    if not isinstance(items, str | bytes | Mapping) and isinstance(items, Iterable):
        items = list(items)
        if all(is_dataset(item) or isinstance(item, Mapping) for item in items):
            return items
    raise InvalidArgument(f"{keyword} (SQ) cannot have the value {value!r}: its items are mappings, in a list")


def _private_vr(dataset: Dataset, tag: int, keyword: str) -> str:
    """The VR of a private attribute, as its creator's dictionary has it; text where none is known (PS3.5 7.8.1)."""
    from pydicom import datadict  # noqa: PLC0415

    if private_tag(keyword) is None:
        return "UN"
    reserved = tag & 0xFFFF0000 | tag >> 8 & 0xFF
    creator = dataset.get(reserved)
    if creator is None or not creator.value:
        where = f"{reserved >> 16:04X},{reserved & 0xFFFF:04X}"
        raise InvalidArgument(f"{keyword} is private, and its creator is not given", hint=f"Give {where}=CREATOR, too.")
    try:
        return str(datadict.private_dictionary_VR(tag, str(creator.value))).split(" ", maxsplit=1)[0]
    except KeyError:
        return "LO"


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
