"""From rows to answers: data sets for C-FIND, as bytes without pydicom, and DICOM JSON for QIDO-RS (PS3.18 Annex F)."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import TypeAlias

from .. import uids
from ..dataset.vr import BINARY, LONG_LENGTH, NUMBER_FORMATS, PERSON_NAME_GROUPS, PROSE
from .attributes import Attributes
from .catalog import ATTRIBUTES, VR_OF, Level
from .keys import CHARACTER_SET, LEVEL, Identifier, Key
from .rows import NAME_OF_LEVEL, Layout, Reader, Row
from .text import encodings_of

__all__ = ["Answering", "Answers", "ItemAnswering", "Json", "Match", "json_element"]

Json: TypeAlias = "str | int | float | list[Json] | dict[str, Json] | None"

_RETRIEVE_AE_TITLE, _AVAILABILITY = 0x00080054, 0x00080056
_NOT_TEXT = BINARY | {"AT"}
_SURELY_A_NUMBER = 16  # digits: of more than 4300 Python makes no number
_LONGEST_SHORT = 0xFFFE  # bytes of a value whose length has 16 bits
_RETRIEVE_URL = 0x00081190
_SEGMENTS = {0x0020000D: "/studies/", 0x0020000E: "/series/", 0x00080018: "/instances/"}
_json_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode

Value = str | list[Attributes]


@dataclass(frozen=True, slots=True)
class Answers:
    """What every answer says of where its instances are; what is empty is left out.

    Attributes:
        retrieve_ae_title: the titles that they can be retrieved from, separated by backslashes.
        availability: ONLINE, NEARLINE, OFFLINE or UNAVAILABLE (PS3.3 Section C.4.23.1.1).
    """

    retrieve_ae_title: str = ""
    availability: str = "ONLINE"


@dataclass(frozen=True, slots=True)
class _Field:
    """One element of the answer: its constant, or what reads it; neither, where it comes back empty."""

    tag: int
    vr: str
    read: Reader | None = None
    constant: str = ""
    items: tuple[Key, ...] = ()

    def value(self, row: Row) -> Value:
        return self.constant if self.read is None else self.read(row)


class Answering:
    """Makes the answers to one identifier: every key is answered, also what the index does not know.

    Args:
        identifier: its keys.
        level: of the entities.
        layout: of the rows; what is missing in it is added.
        answers: what all answers say.
    """

    def __init__(self, identifier: Identifier, level: Level, layout: Layout, answers: Answers) -> None:
        constants = {LEVEL: NAME_OF_LEVEL[level], _AVAILABILITY: answers.availability}
        constants[_RETRIEVE_AE_TITLE] = answers.retrieve_ae_title
        fields = {key.tag: self._field(key, level, layout) for key in identifier.keys if key.tag not in constants}
        asked = {key.tag for key in identifier.keys}
        for tag, text in constants.items():
            if text or tag in asked:
                fields[tag] = _Field(tag, "AE" if tag == _RETRIEVE_AE_TITLE else "CS", constant=text)
        self.fields: list[_Field] = [fields[tag] for tag in sorted(fields)]
        self._json_fields = [(f"{one.tag:08X}", one.vr, one.read, _is_plain(one.vr), one) for one in self.fields]
        self._json_texts = [_prepared_text(one) for one in self.fields if one.tag != _RETRIEVE_URL]
        self._before_url = sum(one.tag < _RETRIEVE_URL for one in self.fields)
        self._segments = [(segment, fields.get(tag)) for tag, segment in _SEGMENTS.items()]
        self._encoders: dict[str, Encoder] = {}

    def _field(self, key: Key, level: Level, layout: Layout) -> _Field:
        attribute = ATTRIBUTES.get(key.tag)
        if attribute is None or attribute.level > level:
            return _Field(key.tag, key.vr or "UN")
        return _Field(key.tag, key.vr, layout.reader(key.tag), items=key.items)

    def encode(self, row: Row, transfer_syntax: str, character_set: str) -> bytes:
        """The answer as a data set."""
        encoder = self._encoders.get(transfer_syntax)
        if encoder is None:
            encoder = self._encoders[transfer_syntax] = Encoder(self.fields, transfer_syntax)
        return encoder.encode(row, character_set)

    def json(self, row: Row) -> dict[str, Json]:
        """The answer in the DICOM JSON model."""
        answer: dict[str, Json] = {}
        for name, vr, read, is_plain, field in self._json_fields:
            value = field.constant if read is None else read(row)
            if not value:
                answer[name] = {"vr": vr}
            elif is_plain and isinstance(value, str) and "\\" not in value:  # nearly all of them
                answer[name] = {"vr": vr, "Value": [value]}
            else:
                answer[name] = json_element(vr, value, field.items)
        return answer

    def json_text(self, row: Row, base: str) -> str:
        """See `Match.json_text`."""
        pieces: list[str] = []
        for begin, empty, read, write, field in self._json_texts:
            value = field.constant if read is None else read(row)
            if not value:
                pieces.append(empty)
            elif write is not None and isinstance(value, str) and "\\" not in value:  # nearly all of them
                pieces.append(f"{begin}{write(value)}]}}")
            else:
                pieces.append(f'"{field.tag:08X}":{_json_text(json_element(field.vr, value, field.items))}')
        url = f'"{_RETRIEVE_URL:08X}":{{"vr":"UR","Value":[{_json_text(base + self._address(row))}]}}'
        pieces.insert(self._before_url, url)
        return f"{{{','.join(pieces)}}}"

    def _address(self, row: Row) -> str:
        """Of the entity, as far as the answer names what it is in."""
        address = ""
        for segment, field in self._segments:
            value = field.value(row) if field is not None else ""
            if not value:
                break
            address += f"{segment}{value}"
        return address


class ItemAnswering:
    """Makes answers of attributes that are in no row: every key is answered, with nothing else.

    Args:
        identifier: its keys.
        transfer_syntax: as in `Match.encode`; so is ``character_set``.
    """

    def __init__(self, identifier: Identifier, transfer_syntax: str, character_set: str = "") -> None:
        fields = [_Field(key.tag, key.vr or "UN", _item_reader(key.tag), items=key.items) for key in identifier.keys]
        self._encoder = Encoder(fields, transfer_syntax)
        self._character_set = character_set

    def encode(self, attributes: Attributes) -> bytes:
        """One answer as a data set."""
        return self._encoder.encode((attributes,), self._character_set)


def _item_reader(tag: int) -> Reader:
    name = f"{tag:08X}"
    return lambda row: row[0].get(name, "")


class Match:
    """One entity that a query has found.

    Attributes:
        row: as the database gave it.
    """

    __slots__ = ("_answering", "row")

    def __init__(self, row: Row, answering: Answering) -> None:
        self.row: Row = row
        self._answering = answering

    @property
    def cursor(self) -> int:
        """Where a later query goes on: its ``after``."""
        return int(self.row[0])

    def encode(self, transfer_syntax: str, character_set: str = "") -> bytes:
        """The identifier of a C-FIND response.

        Args:
            transfer_syntax: any without compression of pixel data, deflated included.
            character_set: a Specific Character Set without code extensions that the peer prefers; text that is not in
                it, and all text that is not ASCII where it is empty, is in ISO_IR 192.
        """
        return self._answering.encode(self.row, transfer_syntax, character_set)

    def json(self) -> dict[str, Json]:
        """The answer in the DICOM JSON model."""
        return self._answering.json(self.row)

    def json_text(self, base: str) -> str:
        """The same as text, with the address that the entity can be retrieved from (0008,1190).

        Args:
            base: of the services, without a slash at its end.
        """
        return self._answering.json_text(self.row, base)

    def attributes(self) -> Attributes:
        """The values by tag, as eight hexadecimal digits; empty ones, too."""
        return {f"{one.tag:08X}": one.value(self.row) for one in self._answering.fields}


# Bytes

# What reads the value; the element where there is none, or a constant; its beginning; what packs a length, and whether
# that has 16 bits; whether it is text, and what fills that up.
_Prepared = tuple[Reader | None, bytes, bytes, Callable[[int], bytes], bool, bool, bytes, _Field]


class Encoder:
    """Encodes answers in one transfer syntax; what is the same in all of them is made once."""

    def __init__(self, fields: list[_Field], transfer_syntax: str) -> None:
        self.implicit: bool = transfer_syntax == uids.IMPLICIT_VR_LITTLE_ENDIAN
        self.deflated: bool = transfer_syntax == uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
        self.order = ">" if transfer_syntax == uids.EXPLICIT_VR_BIG_ENDIAN else "<"
        self.long: struct.Struct
        self.short: struct.Struct
        self.tag: struct.Struct
        self.tag, self.short, self.long = (struct.Struct(self.order + form) for form in ("HH", "H", "I"))
        self.all_fields = fields
        self.fields: list[_Prepared] = [self.prepared(field) for field in fields]

    def prepared(self, field: _Field) -> _Prepared:
        begin, pack, is_short = self.header(field.tag, field.vr)
        constant = field.constant.encode() + b" " * (len(field.constant) & 1)
        is_text = field.vr not in NUMBER_FORMATS and field.vr != "SQ"
        fixed = begin + pack(len(constant)) + constant
        pad = b"\0" if field.vr == "UI" else b" "
        return field.read, fixed, begin, pack, is_short, is_text, pad, field

    def header(self, tag: int, vr: str) -> tuple[bytes, Callable[[int], bytes], bool]:
        """An element's beginning, what packs its length, and whether that has 16 bits."""
        begin = self.tag.pack(tag >> 16, tag & 0xFFFF)
        if self.implicit:
            return begin, self.long.pack, False
        if vr in LONG_LENGTH:
            return begin + vr.encode() + b"\0\0", self.long.pack, False
        return begin + vr.encode(), self.short.pack, True

    def encode(self, row: Row, character_set: str) -> bytes:
        if character_set and character_set != "ISO_IR 192":
            try:
                data = self.data_set(row, encodings_of(character_set)[0], character_set)
            except UnicodeEncodeError:
                data = self.data_set(row, "utf-8", "ISO_IR 192")
        else:
            data = self.data_set(row, "utf-8", "ISO_IR 192")
        if not self.deflated:
            return data
        data = zlib.compress(data, wbits=-zlib.MAX_WBITS)
        return data + b"\0" * (len(data) & 1)  # PS3.5 Section A.5

    def data_set(self, row: Row, codec: str, character_set: str) -> bytes:
        parts: list[bytes] = []
        for read, fixed, begin, pack, is_short, is_text, pad, field in self.fields:
            value = None if read is None else read(row)
            if not value:
                parts.append(fixed)
                continue
            if is_text and isinstance(value, str):
                data = value.encode(codec)
                if len(data) & 1:
                    data += pad
            else:
                data = self.value(field.vr, value, field.items, codec)
            if is_short and len(data) > _LONGEST_SHORT:
                data = data[:_LONGEST_SHORT]
            parts += begin, pack(len(data)), data
        whole = b"".join(parts)
        return whole if whole.isascii() or not self.is_text(row) else self.text(CHARACTER_SET, character_set) + whole

    def is_text(self, row: Row) -> bool:
        """Whether the bytes that are no ASCII are text, and not lengths or numbers."""
        return any(not _is_ascii(field.value(row)) for field in self.all_fields)

    def text(self, tag: int, text: str) -> bytes:
        begin, pack, _ = self.header(tag, "CS")
        data = text.encode() + b" " * (len(text) & 1)
        return begin + pack(len(data)) + data

    def value(self, vr: str, value: Value, items: tuple[Key, ...], codec: str) -> bytes:
        """The bytes of a value, even in number."""
        if isinstance(value, list):
            return b"".join(map(self.item, ((one, items, codec) for one in value)))
        if vr in NUMBER_FORMATS:
            return self.numbers(vr, value)
        data = value.encode(codec)
        if len(data) & 1:
            data += b"\0" if vr == "UI" else b" "
        return data

    def numbers(self, vr: str, value: str) -> bytes:
        form = self.order + NUMBER_FORMATS[vr]
        try:
            numbers = [float(text) if vr[0] == "F" else int(text) for text in value.split("\\")]
            return b"".join(struct.pack(form, number) for number in numbers)
        except (ValueError, struct.error):
            return b""

    def item(self, told: tuple[Attributes, tuple[Key, ...], str]) -> bytes:
        """One item: what was asked for in it, or all that is kept."""
        stored, asked, codec = told
        parts = []
        for tag, vr, items in _asked(stored, asked):
            begin, pack, _ = self.header(tag, vr)
            value = stored.get(f"{tag:08X}", "")
            data = self.value(vr, value, items, codec) if value else b""
            parts.append(begin + pack(len(data)) + data)
        body = b"".join(parts)
        return self.tag.pack(0xFFFE, 0xE000) + self.long.pack(len(body)) + body


def _asked(stored: Mapping[str, Value], asked: tuple[Key, ...]) -> list[tuple[int, str, tuple[Key, ...]]]:
    if asked:
        return [(key.tag, key.vr, key.items) for key in asked]
    return [(int(tag, 16), VR_OF.get(int(tag, 16), "UN"), ()) for tag in sorted(stored)]


def _is_ascii(value: Value) -> bool:
    if isinstance(value, str):
        return value.isascii()
    return all(_is_ascii(inner) for item in value for inner in item.values())


# DICOM JSON


def json_element(vr: str, value: Value, items: tuple[Key, ...] = ()) -> dict[str, Json]:
    """An element in the DICOM JSON model; of a sequence, the keys that were asked for in its items, or all."""
    if not value or vr in _NOT_TEXT:
        return {"vr": vr}
    if isinstance(value, list):
        return {"vr": "SQ", "Value": [_json_item(item, items) for item in value]}
    values = [value] if vr in PROSE else value.split("\\")
    return {"vr": vr, "Value": [_json_value(vr, one) for one in values]}


def _is_plain(vr: str) -> bool:
    """Whether one value is in DICOM JSON as it is in the index."""
    return vr not in _NOT_TEXT and vr not in NUMBER_FORMATS and vr not in ("PN", "IS", "DS", "SQ")


# The text of an element before its values; all of it where there is none; what reads it, and what writes one value.
_PreparedText = tuple[str, str, Reader | None, Callable[[str], str] | None, _Field]


def _prepared_text(field: _Field) -> _PreparedText:
    begin = f'"{field.tag:08X}":{{"vr":"{field.vr}"'
    write = encode_basestring if _is_plain(field.vr) else _WRITERS.get(field.vr)
    return f'{begin},"Value":[', f"{begin}}}", field.read, write, field


def _name_text(value: str) -> str:
    if "=" in value:
        return _json_text(_json_value("PN", value))
    return f'{{"Alphabetic":{encode_basestring(value)}}}'


def _number_text(value: str) -> str:
    if len(value) <= _SURELY_A_NUMBER and value.isascii() and value.isdigit():
        return str(int(value))
    return _json_text(_json_number(value))


_WRITERS = {"PN": _name_text, "IS": _number_text, "DS": _number_text}


def _json_item(stored: Attributes, asked: tuple[Key, ...]) -> Json:
    return {
        f"{tag:08X}": json_element(vr, stored.get(f"{tag:08X}", ""), inner) for tag, vr, inner in _asked(stored, asked)
    }


def _json_value(vr: str, text: str) -> Json:
    if not text:
        return None
    if vr == "PN":
        return {name: group for name, group in zip(PERSON_NAME_GROUPS, text.split("=", 2), strict=False) if group}
    if vr in ("IS", "DS") or vr in NUMBER_FORMATS:
        return _json_number(text)
    return text


def _json_number(text: str) -> Json:
    """A number, as text where it is none (PS3.18 Section F.2.2 allows both)."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return text
    return number if number - number == 0 else text  # JSON has neither infinity nor NaN
