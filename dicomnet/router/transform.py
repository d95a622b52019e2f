"""Elements edited on their way: what a rule sets, copies, maps, removes or hashes; all else stays byte for byte.

What is changed is noted in the Original Attributes Sequence (PS3.3 Section C.12.1.1.9), but for UIDs that are hashed:
those are not to be found again. New text that the character set of the data set cannot hold makes all its text UTF-8.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable, Iterator
from datetime import datetime

from ..dataset import codec
from ..dataset.raw import Encoding, RawDataSet, RawElement, read, write
from ..dataset.vr import NUMBER_FORMATS, PROSE, TEXT
from ..errors import InvalidArgument
from ..files.instance_source import DEFLATED
from ..repository.headers import Element
from ..repository.text import encodings_of
from .actions import Edit, Operation
from .facts import values_of
from .paths import Step, parse_path

__all__ = ["Editor", "hashed_uid"]

_CHARACTER_SET, _SOP_INSTANCE = 0x00080005, 0x00080018
_ORIGINAL, _MODIFIED = 0x04000561, 0x04000550
_LONGEST_SHORT = 0xFFFE


def hashed_uid(uid: str, key: str) -> str:
    """Another UID for a UID: always the same for one key, on any node, and no way back without it (PS3.5 Annex B.2)."""
    digest = hmac.new(key.encode(), uid.encode(), hashlib.sha256).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big') | 1 << 127}"


class Editor:
    """Edits data sets by the operations of a rule.

    Args:
        edit: the operations, in order.
        system: who edits, for Original Attributes Sequence.
        now: when.
    """

    def __init__(self, edit: Edit, system: str, *, now: Callable[[], datetime] = datetime.now) -> None:
        self._operations, self._system, self._now = edit.operations, system, now
        self._key = edit.uid_key

    def edited(self, data: bytes | bytearray | memoryview, transfer_syntax: str) -> bytes:
        """An encoded data set, edited, in the same transfer syntax.

        Raises:
            InvalidArgument: it cannot be read, or not be edited so.
        """
        plain = codec.inflate(data) if transfer_syntax in DEFLATED else data
        try:
            encoding = Encoding(*codec.actual_encoding(plain, transfer_syntax))
        except ValueError as error:
            raise InvalidArgument(f"it cannot be read: {error}") from error
        dataset = read(plain, encoding)
        for inner in list(dataset.walk()):
            _drop_group_lengths(inner)
        self._before = RawDataSet()
        self._touched: set[int] = set()
        for one in self._operations:
            self._apply(dataset, one)
        if self._touched:
            self._note(dataset)
        encoded = write(dataset, Encoding(*codec.encoding_of(transfer_syntax)))
        return codec.deflate(encoded) if transfer_syntax in DEFLATED else encoded

    # ---- operations --------------------------------------------------------------------------------------------

    def _apply(self, dataset: RawDataSet, one: Operation) -> None:
        if one.op == "hash_uids":
            self._hash(dataset, one.element)
            return
        assert one.element is not None
        changed = parse_path(one.to if one.op == "copy" and one.to else one.element)
        first = next((tag for tag in _tags_of(dataset, changed.steps[0])), changed.steps[0].tag)
        before = dataset.elements.get(first)
        if before is not None and first not in self._before.elements:
            self._before.put(_copied(before))  # now: what is inside may change
        if self._change(dataset, one):
            self._touched.add(first)

    def _change(self, dataset: RawDataSet, one: Operation) -> bool:
        """Do an operation; whether anything is another than before."""
        path = parse_path(one.element or "")
        if one.op == "copy":
            found = self._values(dataset, path.steps)
            if found is None:
                return False
            return self._put(dataset, parse_path(one.to or "").steps, lambda _: found)
        if one.op == "set":
            return self._put(dataset, path.steps, lambda _: [one.value or ""])
        if one.op == "remove":
            return self._remove(dataset, path.steps)
        table = one.table or {}

        def mapped(values: list[str]) -> list[str] | None:
            new = [table.get(value, table.get("*", value)) for value in values or [""]]
            return None if new == (values or [""]) else new

        return self._put(dataset, path.steps, mapped, only_there=True)

    def _values(self, dataset: RawDataSet, steps: tuple[Step, ...]) -> list[str] | None:
        """The values of the first element that a path leads to; None where it leads nowhere."""
        for inner, tag in _ends(dataset, steps):
            if tag in inner.elements:
                return _read(inner.elements[tag], _encodings(dataset))
        return None

    def _put(
        self,
        dataset: RawDataSet,
        steps: tuple[Step, ...],
        new: Callable[[list[str]], list[str] | None],
        *,
        only_there: bool = False,
    ) -> bool:
        changed = False
        for inner, tag in list(_ends(dataset, steps)):
            there = inner.elements.get(tag)
            if there is None and only_there:
                continue
            values = new(_read(there, _encodings(dataset)) if there is not None else [])
            if values is None:
                continue
            vr = there.vr if there is not None and there.vr != "UN" else _vr(tag, steps[-1])
            inner.put(RawElement(tag, vr, self._encoded(dataset, tag, vr, values)))
            changed = True
        return changed

    def _encoded(self, dataset: RawDataSet, tag: int, vr: str, values: list[str]) -> bytes:
        text = "\\".join(values)
        if vr in NUMBER_FORMATS:
            return _packed(vr, text, tag)
        if vr == "SQ":
            raise InvalidArgument(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) is a sequence, and has no value of its own")
        if vr not in TEXT:
            try:
                data = text.encode("ascii")
            except UnicodeEncodeError as error:
                raise InvalidArgument(f'"{text}" is no value of {vr}, which is ASCII') from error
        else:
            data = self._text(dataset, vr, text)
        data += (b"\0" if vr == "UI" else b" ") * (len(data) & 1)
        return data

    def _text(self, dataset: RawDataSet, vr: str, text: str) -> bytes:
        """Text in the character set of the data set, which becomes UTF-8 where it cannot hold it."""
        if text.isascii():
            return text.encode("ascii")
        encodings = _encodings(dataset)
        if len(encodings) == 1 and encodings[0] != "ascii":
            try:
                return text.encode(encodings[0])
            except UnicodeEncodeError:
                pass
        own = dataset.text(_CHARACTER_SET)
        for one in (dataset, self._before):
            _recode(one, own)
        dataset.set_text(_CHARACTER_SET, "CS", "ISO_IR 192")
        return text.encode("utf-8")

    def _remove(self, dataset: RawDataSet, steps: tuple[Step, ...]) -> bool:
        gone = [inner.elements.pop(tag, None) for inner, tag in list(_ends(dataset, steps))]
        return any(one is not None for one in gone)

    def _hash(self, dataset: RawDataSet, element: str | None) -> None:
        wanted = None if element is None else set(parse_path(element).steps[-1].tags())
        for inner in list(dataset.walk()):
            for tag, one in list(inner.elements.items()):
                if one.vr != "UI" or isinstance(one.value, list) or not (wanted is None or tag in wanted):
                    continue
                uids = [part.strip(" \0") for part in bytes(one.value).decode("ascii", "replace").split("\\")]
                new = "\\".join(hashed_uid(uid, self._key) if uid and not _is_well_known(uid) else uid for uid in uids)
                inner.set_text(tag, "UI", new)

    # ---- what was there before ---------------------------------------------------------------------------------

    def _note(self, dataset: RawDataSet) -> None:
        before = RawDataSet({tag: one for tag, one in self._before.elements.items() if tag in self._touched})
        item = RawDataSet()
        item.put(RawElement(_MODIFIED, "SQ", [before]))
        item.set_text(0x04000562, "DT", self._now().strftime("%Y%m%d%H%M%S"))
        item.put(RawElement(0x04000563, "LO", _even(self._system.encode("ascii", "replace"))))
        item.put(RawElement(0x04000564, "LO", b""))
        item.put(RawElement(0x04000565, "CS", b"COERCE"))
        there = dataset.elements.get(_ORIGINAL)
        items = list(there.value) if there is not None and isinstance(there.value, list) else []
        dataset.put(RawElement(_ORIGINAL, "SQ", [*items, item]))


def _even(data: bytes) -> bytes:
    return data + b" " * (len(data) & 1)


def _drop_group_lengths(dataset: RawDataSet) -> None:
    """Group lengths (gggg,0000) are retired, and would be wrong by now."""
    for tag in [tag for tag in dataset.elements if tag & 0xFFFF == 0]:
        del dataset.elements[tag]


def _tags_of(dataset: RawDataSet, step: Step) -> Iterator[int]:
    """The tags of a step in a data set: of a private one those in its creator's blocks."""
    if not step.creator:
        yield step.tag
        return
    group = step.tag >> 16
    for block in range(0x10, 0x100):
        if dataset.text(group << 16 | block) == step.creator:
            yield group << 16 | block << 8 | step.tag & 0xFF


def _ends(dataset: RawDataSet, steps: tuple[Step, ...]) -> Iterator[tuple[RawDataSet, int]]:
    """The data sets that a path's last element stands in, or would; with its tag there."""
    step, rest = steps[0], steps[1:]
    for tag in _tags_of(dataset, step):
        if not rest:
            yield dataset, tag
            continue
        element = dataset.elements.get(tag)
        if element is not None and isinstance(element.value, list):
            items = element.value if step.item is None else element.value[step.item : step.item + 1]
            for inner in items:
                yield from _ends(inner, rest)


def _encodings(dataset: RawDataSet) -> tuple[str, ...]:
    return encodings_of(dataset.text(_CHARACTER_SET))


def _read(element: RawElement, encodings: tuple[str, ...]) -> list[str]:
    if isinstance(element.value, list):
        return []
    value = bytes(element.value)
    size = struct.calcsize(NUMBER_FORMATS.get(element.vr, "B"))
    if not element.little_endian and size > 1:
        value = b"".join(value[at : at + size][::-1] for at in range(0, len(value), size))
    return values_of(Element(element.tag, element.vr, value), encodings)


def _vr(tag: int, step: Step) -> str:
    from pydicom.datadict import dictionary_VR  # noqa: PLC0415 late on purpose

    if step.creator:
        return "LO"
    try:
        return str(dictionary_VR(tag)).split(" ")[0]
    except KeyError as error:
        raise InvalidArgument(f"{step} is not in the dictionary, so it cannot be made") from error


def _packed(vr: str, text: str, tag: int) -> bytes:
    try:
        number = float if vr in ("FL", "FD") else int
        numbers = [number(one) for one in text.split("\\") if one]
        return struct.pack(f"<{len(numbers)}{NUMBER_FORMATS[vr]}", *numbers)
    except (ValueError, struct.error, OverflowError) as error:
        raise InvalidArgument(f'"{text}" is no value of ({tag >> 16:04X},{tag & 0xFFFF:04X}), a {vr}') from error


def _is_well_known(uid: str) -> bool:
    """Whether the standard gives this UID a meaning: classes, transfer syntaxes, frames of reference."""
    from pydicom._uid_dict import UID_dictionary  # noqa: PLC0415 late on purpose

    return uid in UID_dictionary


def _copied(element: RawElement) -> RawElement:
    """An element whose value does not change with the other's."""
    value = element.value
    if not isinstance(value, list):
        return RawElement(element.tag, element.vr, value, element.little_endian, element.undefined)
    items = [RawDataSet({tag: _copied(one) for tag, one in item.elements.items()}, item.undefined)
             for item in value]  # fmt: skip
    return RawElement(element.tag, element.vr, items, element.little_endian, element.undefined)


def _recode(dataset: RawDataSet, character_set: str) -> None:
    """Write all text of a data set in UTF-8, that of items with character sets of their own too."""
    from pydicom.charset import convert_encodings, decode_bytes  # noqa: PLC0415 late on purpose

    own = dataset.text(_CHARACTER_SET) or character_set
    encodings = convert_encodings(own.split("\\") if "\\" in own else own)
    dataset.elements.pop(_CHARACTER_SET, None)
    for element in dataset.elements.values():
        if isinstance(element.value, list):
            for item in element.value:
                _recode(item, own)
        elif element.vr in TEXT and not bytes(element.value).isascii():
            delimiters = set() if element.vr in PROSE else {0x5C}
            text = decode_bytes(bytes(element.value), encodings, delimiters)
            element.value = _even(text.rstrip(" ").encode("utf-8"))
