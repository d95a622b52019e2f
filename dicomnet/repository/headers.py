"""A walk over the elements of a data set's beginning, without pydicom (PS3.5 Section 7).

It may be cut anywhere: what is not there whole is left out. Values stay bytes; sequences are lists of items.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass

from .. import uids
from ..dataset.vr import LONG_LENGTH, NUMBER_FORMATS
from .catalog import VR_OF

__all__ = ["Element", "Item", "read_elements"]

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_SIZES = {vr: struct.calcsize(form) for vr, form in NUMBER_FORMATS.items()}  # of numbers, in bytes
_LONG_FORMS = frozenset(vr.encode() for vr in LONG_LENGTH)
_HEADER = struct.Struct("<HH2sH")
_MAX_DEPTH = 16
_LAST = 0x7FE0000F  # nothing that is searched stands at pixel data, or after it
_INFLATED = 4 << 20  # the most bytes that are inflated for the sake of the header

Item = list["Element"]


@dataclass(frozen=True, slots=True)
class Element:
    """One element: its value as bytes, numbers in little endian whatever they came in, or the items of a sequence."""

    tag: int
    vr: str
    value: bytes | list[Item]


class _Cut(Exception):
    """The bytes end here."""


def read_elements(
    data: bytes | bytearray | memoryview, transfer_syntax: str, wanted: Collection[int] | None = None
) -> Item:
    """The elements of a data set, up to its pixel data.

    Args:
        data: the data set, or as much of its beginning as there is.
        transfer_syntax: what it is encoded in.
        wanted: tags of its top level; None is all of them.
    """
    if transfer_syntax == uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, _INFLATED)
    walker = _Walker(bytes(data), transfer_syntax != uids.EXPLICIT_VR_BIG_ENDIAN)
    found: Item = []
    last = max(wanted) if wanted else _LAST
    implicit = transfer_syntax == uids.IMPLICIT_VR_LITTLE_ENDIAN
    try:
        if walker.little and not implicit and wanted is not None:
            walker.top_level(found, wanted, last)
        else:
            walker.data_set(found, len(walker.data), implicit, wanted, last)
    except _Cut:
        pass
    return found


class _Walker:
    def __init__(self, data: bytes, little: bool) -> None:
        self.data = data
        self.position = 0
        self.little = little
        order = "<" if little else ">"
        self.tag = struct.Struct(order + "HH")
        self.short = struct.Struct(order + "H")
        self.long = struct.Struct(order + "I")

    def unpack(self, form: struct.Struct) -> int:
        try:
            (number,) = form.unpack_from(self.data, self.position)
        except struct.error:
            raise _Cut from None
        self.position += form.size
        return int(number)

    def next_tag(self) -> int:
        try:
            group, element = self.tag.unpack_from(self.data, self.position)
        except struct.error:
            raise _Cut from None
        self.position += 4
        return int(group << 16 | element)

    def top_level(self, found: Item, wanted: Collection[int], last: int) -> None:
        """As `data_set` for the top level of the usual encoding, with one call for the header of each element."""
        data, position, end = self.data, 0, len(self.data)
        unpack, unpack_long = _HEADER.unpack_from, self.long.unpack_from
        while position + 12 <= end:
            group, element, vr, length = unpack(data, position)
            tag = group << 16 | element
            if tag > last:
                return
            start = position + 8
            if vr in _LONG_FORMS:
                (length,) = unpack_long(data, start)
                start += 4
                if length == _UNDEFINED or (vr == b"SQ" and tag in wanted):
                    self.position = position
                    self.data_set(found, position + 1, False, wanted, last)
                    position = self.position
                    continue
            position = start + length
            if tag in wanted:
                if position > end:
                    raise _Cut
                found.append(Element(tag, vr.decode("ascii", "replace"), data[start:position]))
        self.position = position
        self.data_set(found, end, False, wanted, last)  # what is left is shorter than a long header

    def data_set(
        self, found: Item, end: int, implicit: bool, wanted: Collection[int] | None, last: int, depth: int = 0
    ) -> None:
        """Elements up to ``end`` or to an item's delimiter, appended as they are read: a cut loses none."""
        while self.position < end:
            tag = self.next_tag()
            if tag == _ITEM_END:
                self.unpack(self.long)
                return
            if tag > last and depth == 0:
                return
            vr, length = self.header(tag, implicit)
            is_wanted = wanted is None or tag in wanted
            if length == _UNDEFINED or vr == "SQ" or (implicit and self.looks_like_items(length)):
                within = len(self.data) if length == _UNDEFINED else self.position + length
                if length != _UNDEFINED and not is_wanted:
                    self.position = within
                    continue
                items: list[Item] = []
                self.items(items, within, implicit or vr == "UN", depth + 1)
                if is_wanted:
                    found.append(Element(tag, "SQ", items))
                continue
            value_end = self.position + length
            if value_end > len(self.data):
                raise _Cut
            if is_wanted:
                found.append(Element(tag, vr, self.in_little_endian(vr, self.data[self.position : value_end])))
            self.position = value_end

    def in_little_endian(self, vr: str, value: bytes) -> bytes:
        size = _SIZES.get(vr, 1)
        if self.little or size == 1:
            return value
        return b"".join(value[start : start + size][::-1] for start in range(0, len(value), size))

    def header(self, tag: int, implicit: bool) -> tuple[str, int]:
        if implicit:
            return VR_OF.get(tag, "LO" if tag & 0x1FF00 == 0x10000 else "UN"), self.unpack(self.long)
        vr = self.data[self.position : self.position + 2].decode("ascii", "replace")
        self.position += 2
        if vr not in LONG_LENGTH:
            return vr, self.unpack(self.short)
        self.position += 2
        return vr, self.unpack(self.long)

    def looks_like_items(self, length: int) -> bool:
        """Implicit VR does not tell a sequence: a value that begins as one is taken for one."""
        return length >= 8 and self.data[self.position : self.position + 4] == b"\xfe\xff\x00\xe0"

    def items(self, found: list[Item], end: int, implicit: bool, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise _Cut
        while self.position < end:
            tag = self.next_tag()
            length = self.unpack(self.long)
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM:
                raise _Cut
            item: Item = []
            self.data_set(item, end if length == _UNDEFINED else self.position + length, implicit, None, _LAST, depth)
            found.append(item)
