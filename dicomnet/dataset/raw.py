"""Data sets whose values are never decoded: read from one native encoding, written in another (PS3.5 Section 7).

A conversion between implicit and explicit VR, or between byte orders, changes headers and the order of bytes within
words, and nothing else. So a data set is read into elements that keep their values as the bytes that came; what cannot
be written in the other encoding is refused by name, and nothing is dropped or made anew.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from ..config import DEEPEST_SEQUENCE
from ..errors import InvalidArgument
from .vr import LONG_LENGTH

__all__ = ["PIXEL_DATA", "Encoding", "RawDataSet", "RawElement", "read", "write"]

Buffer = bytes | bytearray | memoryview

UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONGEST_SHORT = 0xFFFE  # an even length in two bytes
#: VRs that consist of words, and the bytes of one (PS3.5 Section 7.3).
_WORD = {"AT": 2, "OD": 8, "OF": 4, "OL": 4, "OV": 8, "OW": 2, "SL": 4, "SS": 2, "SV": 8, "UL": 4, "US": 2, "UV": 8,
         "FD": 8, "FL": 4}  # fmt: skip
#: VRs whose values are padded with a space (PS3.5 Section 6.2).
_SPACED = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT"})
_TYPE_CODES = {2: "H", 4: "I", 8: "Q"}
_PIXEL_REPRESENTATION, _BITS_ALLOCATED = 0x00280103, 0x00280100
_WAVEFORM_BITS_ALLOCATED, _LUT_DESCRIPTOR = 0x54001004, 0x00283002
PIXEL_DATA, _WAVEFORM_DATA, _LUT_DATA = 0x7FE00010, 0x54001010, 0x00283006


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


class Encoding(NamedTuple):
    """How data elements are written.

    Attributes:
        implicit: their headers have no VR.
        little_endian: the low byte of a word comes first.
    """

    implicit: bool
    little_endian: bool

    @property
    def order(self) -> str:
        """The byte order as `struct` has it."""
        return "<" if self.little_endian else ">"


class RawElement:
    """One data element.

    Attributes:
        tag: group and element number.
        vr: two letters; of implicit VR what the dictionary says, UN where it says nothing.
        value: its bytes in the byte order of ``little_endian``; for a sequence its items; for encapsulated pixel data
            the items as they came, without the delimiter.
        little_endian: the order of the bytes of ``value``.
        undefined: its length was not given, but delimited.
    """

    __slots__ = ("little_endian", "tag", "undefined", "value", "vr")

    def __init__(
        self, tag: int, vr: str, value: Buffer | list[RawDataSet], little_endian: bool = True, undefined: bool = False
    ) -> None:
        self.tag: int = tag
        self.vr: str = vr
        self.value: Buffer | list[RawDataSet] = value
        self.little_endian: bool = little_endian
        self.undefined: bool = undefined

    @property
    def name(self) -> str:
        """The tag as people write it."""
        return _name(self.tag)


class RawDataSet:
    """Data elements by tag, in their order; of a sequence's item also whether its length was undefined."""

    __slots__ = ("elements", "undefined")

    def __init__(self, elements: dict[int, RawElement] | None = None, undefined: bool = False) -> None:
        self.elements: dict[int, RawElement] = {} if elements is None else elements
        self.undefined: bool = undefined

    def number(self, tag: int, default: int = 0) -> int:
        """The first unsigned short of an element; ``default`` where it is absent or too short."""
        element = self.elements.get(tag)
        if element is None or isinstance(element.value, list) or len(element.value) < 2:
            return default
        return int(struct.unpack_from("<H" if element.little_endian else ">H", element.value)[0])

    def text(self, tag: int) -> str:
        """An element's ASCII text without its padding; empty where it is absent."""
        element = self.elements.get(tag)
        if element is None or isinstance(element.value, list):
            return ""
        return bytes(element.value).decode("ascii", "replace").strip(" \0")

    def set_number(self, tag: int, value: int) -> None:
        """Give an element one unsigned short."""
        self.put(RawElement(tag, "US", struct.pack("<H", value)))

    def set_text(self, tag: int, vr: str, value: str) -> None:
        """Give an element ASCII text, padded to even length."""
        data = value.encode("ascii")
        self.put(RawElement(tag, vr, data + (b"\0" if vr == "UI" else b" ") * (len(data) & 1)))

    def put(self, element: RawElement) -> None:
        """Set an element, at its place in the order of tags."""
        known = element.tag in self.elements
        self.elements[element.tag] = element
        if not known:
            self.elements = dict(sorted(self.elements.items()))

    def walk(self) -> Iterator[RawDataSet]:
        """This data set and all that are nested in it, from the outside to the inside."""
        yield self
        for element in self.elements.values():
            if isinstance(element.value, list):
                for item in element.value:
                    yield from item.walk()


# ---- reading -------------------------------------------------------------------------------------------------------


def read(data: Buffer, encoding: Encoding) -> RawDataSet:
    """Read a data set; values are views of ``data``.

    Raises:
        InvalidArgument: it ends within an element, or nests deeper than ``config.DEEPEST_SEQUENCE``.
    """
    reader = _Reader(memoryview(data), encoding)
    found, _ = reader.data_set(0, len(reader.data), 0)
    _settle(found, 0)
    return found


class _Reader:
    """Reads elements of one encoding from one piece of memory."""

    def __init__(self, data: memoryview, encoding: Encoding) -> None:
        self.data = data
        self.encoding = encoding
        self.header = struct.Struct(encoding.order + "HHI")
        self.short = struct.Struct(encoding.order + "HH2sH")
        self.length = struct.Struct(encoding.order + "I")

    def data_set(self, start: int, end: int, depth: int, *, delimited: bool = False) -> tuple[RawDataSet, int]:
        """The elements from ``start`` to ``end``, or to an item delimiter; and where reading stopped."""
        if depth > DEEPEST_SEQUENCE:
            raise InvalidArgument(f"sequences are nested more than {DEEPEST_SEQUENCE} deep")
        found = RawDataSet(undefined=delimited)
        at = start
        while at < end:
            tag, vr, length, at = self.element_header(at, end)
            if tag == _ITEM_END and delimited:
                return found, at
            element, at = self.element(tag, vr, length, at, end, depth)
            found.elements[tag] = element
        if delimited:
            raise InvalidArgument("an item of undefined length has no end")
        return found, at

    def element_header(self, at: int, end: int) -> tuple[int, str, int, int]:
        """Tag, VR, length, and where the value begins."""
        if end - at < 8:
            raise InvalidArgument(f"{end - at} bytes after the last element")
        group, number, length = self.header.unpack_from(self.data, at)
        tag = group << 16 | number
        if self.encoding.implicit or group == 0xFFFE:
            return tag, "" if group == 0xFFFE else _vr_of(tag), length, at + 8
        vr = bytes(self.data[at + 4 : at + 6]).decode("latin-1")
        if vr not in LONG_LENGTH:
            return tag, vr, self.short.unpack_from(self.data, at)[3], at + 8
        if end - at < 12:
            raise InvalidArgument(f"element {tag:08X} ends within its header")
        return tag, vr, self.length.unpack_from(self.data, at + 8)[0], at + 12

    def element(self, tag: int, vr: str, length: int, at: int, end: int, depth: int) -> tuple[RawElement, int]:
        """An element whose header has been read, and where the next begins."""
        little = self.encoding.little_endian
        if length == UNDEFINED:
            if tag == PIXEL_DATA and not self.encoding.implicit:
                stop = self.end_of_fragments(at, end)
                return RawElement(tag, vr, self.data[at : stop - 8], little, undefined=True), stop
            if vr == "UN":  # a sequence in implicit VR little endian, whatever is around it (PS3.5 Section 6.2.2)
                items, stop = _Reader(self.data, Encoding(True, True)).items(at, end, depth)
            else:
                items, stop = self.items(at, end, depth)
            return RawElement(tag, "SQ", items, little, undefined=True), stop
        if length > end - at:
            raise InvalidArgument(f"element {_name(tag)} says it has {length} bytes, and has {end - at}")
        if vr == "SQ":
            items, _ = self.items(at, at + length, depth, delimited=False)
            return RawElement(tag, vr, items, little), at + length
        # What is in UN is little endian always (PS3.5 Section 6.2.2).
        return RawElement(tag, vr, self.data[at : at + length], little or vr == "UN"), at + length

    def items(self, at: int, end: int, depth: int, *, delimited: bool = True) -> tuple[list[RawDataSet], int]:
        """The items of a sequence, and where reading stopped."""
        found: list[RawDataSet] = []
        while at < end:
            tag, _, length, at = self.element_header(at, end)
            if tag == _SEQUENCE_END and delimited:
                return found, at
            if tag != _ITEM:
                raise InvalidArgument(f"{_name(tag)} where an item of a sequence should begin")
            if length == UNDEFINED:
                item, at = self.data_set(at, end, depth + 1, delimited=True)
            elif length > end - at:
                raise InvalidArgument(f"an item says it has {length} bytes, and has {end - at}")
            else:
                item, at = self.data_set(at, at + length, depth + 1)
            found.append(item)
        if delimited:
            raise InvalidArgument("a sequence of undefined length has no end")
        return found, at

    def end_of_fragments(self, at: int, end: int) -> int:
        """Where encapsulated pixel data end (PS3.5 Section A.4)."""
        while at < end:
            tag, _, length, at = self.element_header(at, end)
            if tag == _SEQUENCE_END:
                return at
            if tag != _ITEM or length > end - at:
                break
            at += length
        raise InvalidArgument("encapsulated pixel data have no end")


@lru_cache(4096)
def _vr_of(tag: int) -> str:
    """The VR of an element without one: several joined by " or " where the dictionary leaves a choice."""
    from pydicom import datadict  # noqa: PLC0415 heavy

    group, number = tag >> 16, tag & 0xFFFF
    if number == 0:
        return "UL"
    if group % 2:
        return "LO" if 0x10 <= number <= 0xFF else "UN"
    try:
        return str(datadict.dictionary_VR(tag))
    except KeyError:
        return "UN"


def _settle(dataset: RawDataSet, representation: int) -> None:
    """Choose where the dictionary leaves a choice of VRs (PS3.5 Annex A.1); items inherit Pixel Representation."""
    representation = dataset.number(_PIXEL_REPRESENTATION, representation)
    for element in dataset.elements.values():
        if " or " in element.vr:
            element.vr = _chosen(element, dataset, representation)
        if isinstance(element.value, list):
            for item in element.value:
                _settle(item, representation)


def _chosen(element: RawElement, around: RawDataSet, representation: int) -> str:
    choices = element.vr.split(" or ")
    if element.tag == PIXEL_DATA:
        return "OW" if around.number(_BITS_ALLOCATED, 16) > 8 else "OB"
    if element.tag == _WAVEFORM_DATA:
        return "OW" if around.number(_WAVEFORM_BITS_ALLOCATED, 16) > 8 else "OB"
    if element.tag == _LUT_DATA:
        return "US" if around.number(_LUT_DESCRIPTOR, 2) == 1 else "OW"
    if "OW" in choices:
        return "OW"
    return "SS" if "SS" in choices and representation == 1 else choices[0]


# ---- writing -------------------------------------------------------------------------------------------------------


def write(dataset: RawDataSet, encoding: Encoding) -> bytes:
    """Write a data set in an encoding.

    Raises:
        InvalidArgument: a value that does not consist of whole words has to change its byte order.
    """
    out = bytearray()
    _write_elements(out, dataset, encoding)
    return bytes(out)


def _write_elements(out: bytearray, dataset: RawDataSet, encoding: Encoding) -> None:
    for element in dataset.elements.values():
        if isinstance(element.value, list):
            _write_sequence(out, element, encoding)
        elif element.undefined:
            _write_header(out, element.tag, element.vr, UNDEFINED, encoding)
            out += element.value
            out += _delimiter(_SEQUENCE_END, encoding)
        elif element.tag & 0xFFFF or element.tag >> 16 == 0:  # group lengths would be wrong, and are retired
            value = _ordered(element, encoding)
            if len(value) & 1:  # PS3.5 Section 7.1.1
                value = bytes(value) + (b" " if element.vr in _SPACED else b"\0")
            _write_header(out, element.tag, element.vr, len(value), encoding)
            out += value


def _write_sequence(out: bytearray, element: RawElement, encoding: Encoding) -> None:
    inner = bytearray()
    assert isinstance(element.value, list)
    for item in element.value:
        body = bytearray()
        _write_elements(body, item, encoding)
        inner += struct.pack(encoding.order + "HHI", 0xFFFE, 0xE000, UNDEFINED if item.undefined else len(body))
        inner += body
        if item.undefined:
            inner += _delimiter(_ITEM_END, encoding)
    _write_header(out, element.tag, "SQ", UNDEFINED if element.undefined else len(inner), encoding)
    out += inner
    if element.undefined:
        out += _delimiter(_SEQUENCE_END, encoding)


def _write_header(out: bytearray, tag: int, vr: str, length: int, encoding: Encoding) -> None:
    group, number = tag >> 16, tag & 0xFFFF
    if encoding.implicit:
        out += struct.pack(encoding.order + "HHI", group, number, length)
        return
    if vr not in LONG_LENGTH and length <= _LONGEST_SHORT:
        out += struct.pack(encoding.order + "HH2sH", group, number, vr.encode("latin-1"), length)
        return
    # A value too long for its VR's header is written as UN (PS3.5 Section 6.2.2).
    written = (vr if vr in LONG_LENGTH else "UN").encode("latin-1")
    out += struct.pack(encoding.order + "HH2sHI", group, number, written, 0, length)


def _ordered(element: RawElement, encoding: Encoding) -> Buffer:
    """The value in the byte order of an encoding."""
    value = element.value
    assert not isinstance(value, list)
    as_unknown = not encoding.implicit and element.vr not in LONG_LENGTH and len(value) > _LONGEST_SHORT
    wanted = encoding.little_endian or as_unknown or element.vr == "UN"
    word = _WORD.get(element.vr, 1)
    if element.little_endian == wanted or word == 1 or not len(value):
        return value
    if len(value) % word:
        raise InvalidArgument(
            f"element {element.name} ({element.vr}) has {len(value)} bytes, which are no whole words: its byte order "
            "cannot be changed"
        )
    words = array(_TYPE_CODES[word], bytes(value))
    words.byteswap()
    return words.tobytes()


def _delimiter(tag: int, encoding: Encoding) -> bytes:
    return struct.pack(encoding.order + "HHI", tag >> 16, tag & 0xFFFF, 0)
