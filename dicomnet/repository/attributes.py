"""From the beginning of a data set to what the index keeps of an instance and of what it belongs to."""

from __future__ import annotations

import json
import math
import re
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from .. import uids
from ..dataset.vr import BINARY, NUMBER_FORMATS
from ..errors import InvalidArgument
from ..files.instance_source import DEFLATED
from ..wire.element_walk import Selection
from .catalog import ATTRIBUTES, VR_OF, Level, keyword_of, of_level
from .folding import fold_name
from .headers import Element, Item, read_elements
from .text import clean, clean_uid, decode, encodings_of

__all__ = [
    "LONGEST",
    "Attributes",
    "InstanceRecord",
    "MissingElement",
    "PatientRecord",
    "SeriesRecord",
    "StudyRecord",
    "attributes_of",
    "instance_record",
    "normal_date",
    "normal_time",
    "patient_record",
    "text_of",
]

#: Attributes by tag, as eight hexadecimal digits: text (values separated by backslashes), or the items of a sequence.
Attributes = dict[str, "str | list[Attributes]"]

_CHARACTER_SET = 0x00080005
_WITHOUT_CHARACTER_SET = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UR"})
_DATE = re.compile(r"(\d{4})\.?(\d\d)\.?(\d\d)")
_TIME = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{1,6}))?)?)?")
_INTEGER = re.compile(r"[+-]?\d{1,12}")
_LARGEST_NUMBER = 2**31 - 1
_LONGEST_UID = 128  # twice what the standard allows
LONGEST = 300  # characters of what has an index; PostgreSQL takes no entries beyond 2,704 bytes


class MissingElement(InvalidArgument):
    """An instance that cannot be indexed, since it lacks an element that identifies it.

    Attributes:
        tag: the element, for Offending Element (0000,0901) of the response.
    """

    def __init__(self, tag: int, what: str = "") -> None:
        name = f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {keyword_of(tag)}"
        super().__init__(
            f"the data set has no {what}{name}", hint="An archive cannot tell where it belongs without it."
        )
        self.tag = tag


@dataclass(frozen=True, slots=True)
class PatientRecord:
    """A patient, as one instance describes them.

    Attributes:
        pid, issuer: Patient ID and its issuer; empty where absent.
        name: Patient's Name with all its groups; name_n, name_i and name_p are folded: all groups, the ideographic and
            the phonetic one.
        birth: in normal form; as it was written among the other attributes, where that is another one.
        attrs: JSON of the other attributes.
    """

    pid: str = ""
    issuer: str = ""
    name: str = ""
    birth: str = ""
    sex: str = ""
    attrs: str = "{}"
    name_n: str = ""
    name_i: str = ""
    name_p: str = ""


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """A study, as one instance describes it.

    Attributes:
        date, time: normal forms (see `normal_date`), by which they are compared; where the element is written in
            another way, its text is among the other attributes, too.
    """

    uid: str
    date: str = ""
    time: str = ""
    acc: str = ""
    issuer_acc: str = ""
    study_id: str = ""
    descr: str = ""
    refphys: str = ""
    refphys_n: str = ""
    attrs: str = "{}"


@dataclass(frozen=True, slots=True)
class SeriesRecord:
    """A series, as one instance describes it; ``pps_uid`` is that of its performed procedure step."""

    uid: str
    modality: str = ""
    number: int | None = None
    descr: str = ""
    body: str = ""
    station: str = ""
    pps_uid: str = ""
    attrs: str = "{}"


@dataclass(slots=True)
class InstanceRecord:
    """All that the index is told of an instance.

    Attributes:
        uid, cls, ts: SOP Instance UID, SOP Class UID and transfer syntax.
        number, frames, rows, columns, bits: None where the instance has none.
        attrs: JSON of other attributes of its own, for what is no image; empty for images.
        size, sha: length in bytes of the stored Part 10 stream, and SHA-256 by which copies are told from others.
        storage, key, offset: the blob store, and where in it the stream begins; see `placed`.
    """

    patient: PatientRecord
    study: StudyRecord
    series: SeriesRecord
    uid: str
    cls: str
    ts: str
    number: int | None = None
    frames: int | None = None
    rows: int | None = None
    columns: int | None = None
    bits: int | None = None
    attrs: str = ""
    size: int = 0
    sha: bytes = b""
    storage: str = ""
    key: str = ""
    offset: int = 0

    def placed(self, storage: str, key: str, offset: int, size: int, sha: bytes) -> InstanceRecord:
        """It is stored now: ``size`` bytes from ``offset`` on, under ``key`` of the blob store ``storage``; itself."""
        self.storage, self.key, self.offset, self.size, self.sha = storage, key, offset, size, sha
        return self


def normal_date(text: str) -> str:
    """A date as YYYYMMDD, also from the old form with dots; empty where the text is no date."""
    match = _DATE.fullmatch(text)
    if match is None or not ("01" <= match[2] <= "12" and "01" <= match[3] <= "31"):
        return ""
    return match[1] + match[2] + match[3]


def normal_time(text: str) -> str:
    """A time as HHMMSS, with its fraction, also from the old form with colons; empty where it is none.

    Minutes and seconds that are left out count as 0, so that times compare as text.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        return ""
    hour, minute, second = match[1], match[2] or "00", match[3] or "00"
    if hour > "23" or minute > "59" or second > "60":
        return ""
    return hour + minute + second + (f".{match[4]}" if match[4] else "")


# From elements to attributes


def attributes_of(item: Item, encodings: tuple[str, ...]) -> Attributes:
    """The attributes of a data set or an item that the index knows, without those that are empty."""
    found: Attributes = {}
    for element in item:
        value = _value_of(element, encodings)
        if value:
            found[f"{element.tag:08X}"] = value
    return found


def _value_of(element: Element, encodings: tuple[str, ...]) -> str | list[Attributes]:
    value = element.value
    if isinstance(value, list) is not (VR_OF.get(element.tag, element.vr) == "SQ"):
        return ""  # no answer could tell it: a device wrote a text for a sequence, or a sequence for a text
    if isinstance(value, list):
        return [attributes_of([one for one in item if one.tag in VR_OF], encodings) for item in value]
    return text_of(VR_OF.get(element.tag, element.vr) if element.vr == "UN" else element.vr, value, encodings)


def text_of(vr: str, value: bytes, encodings: tuple[str, ...]) -> str:
    """The value of an element as text: numbers in decimals, nothing for what is neither text nor number."""
    if vr == "UI":
        return clean_uid(value)
    if vr in NUMBER_FORMATS:
        return _number_text(vr, value)
    if vr in BINARY or vr in {"SQ", "AT"}:
        return ""
    if vr in _WITHOUT_CHARACTER_SET:
        return clean(value.decode("ascii", "replace"))
    return decode(value, encodings)


def _number_text(vr: str, value: bytes) -> str:
    form = "<" + NUMBER_FORMATS[vr]
    write = {"FL": _single_text, "FD": _double_text}.get(vr, str)
    return "\\".join(write(number) for (number,) in _whole(form, value))


def _double_text(number: float) -> str:
    """The shortest text that is this number again."""
    return repr(number).removesuffix(".0")


def _single_text(number: float) -> str:
    """The shortest text that is this number again in 32 bits."""
    if math.isfinite(number):
        for digits in (6, 7, 8):
            text = f"{number:.{digits}g}"
            if struct.unpack("<f", struct.pack("<f", float(text)))[0] == number:
                return text
    return f"{number:.9g}"


def _whole(form: str, value: bytes) -> Iterable[tuple[float]]:
    size = struct.calcsize(form)
    return struct.iter_unpack(form, value[: len(value) // size * size])


# Instances

_WANTED = frozenset({*(tag for tag, one in ATTRIBUTES.items() if not one.computed), _CHARACTER_SET})
_OTHERS = {level: frozenset(f"{one.tag:08X}" for one in of_level(level) if not one.column) for level in Level}
_STUDY_UID, _SERIES_UID, _SOP_UID, _SOP_CLASS = 0x0020000D, 0x0020000E, 0x00080018, 0x00080016


def instance_record(
    header: bytes | bytearray | memoryview,
    transfer_syntax: str,
    *,
    sop_class_uid: str = "",
    sop_instance_uid: str = "",
    character_set: str = "",
) -> InstanceRecord:
    """What the index keeps of an instance.

    Args:
        header: its data set, or the beginning up to Pixel Data.
        transfer_syntax: what the data set is encoded in.
        sop_class_uid, sop_instance_uid: those of the C-STORE request or the file meta information, where the data set
            has none.
        character_set: Specific Character Set of a data set that names none.

    Raises:
        MissingElement: an element without which it cannot be indexed.
    """
    if transfer_syntax in _QUICK_SYNTAXES:
        quick = _quick_record(header, transfer_syntax, sop_class_uid, sop_instance_uid, character_set)
        if quick is not None:
            return quick
    return _record(_read(header, transfer_syntax, character_set), transfer_syntax, sop_class_uid, sop_instance_uid)


def _record(found: Attributes, transfer_syntax: str, sop_class_uid: str, sop_instance_uid: str) -> InstanceRecord:
    uid = _unique(found, _SOP_UID, sop_instance_uid)
    cls = _unique(found, _SOP_CLASS, sop_class_uid)
    rows = _integer(found, 0x00280010)
    return InstanceRecord(
        patient=_patient(found),
        study=_study(found),
        series=_series(found),
        uid=uid,
        cls=cls,
        ts=transfer_syntax,
        number=_integer(found, 0x00200013),
        frames=_integer(found, 0x00280008),
        rows=rows,
        columns=_integer(found, 0x00280011),
        bits=_integer(found, 0x00280100),
        attrs="" if rows else _others(Level.IMAGE, found),
    )


# Instances of one series differ in little: what its patient, study and series are made of is the same bytes each time.

_QUICK_SYNTAXES = frozenset(uids.TRANSFER_SYNTAXES) - {uids.EXPLICIT_VR_BIG_ENDIAN, *DEFLATED}
_OF_IMAGES = {0x00080016: "UI", 0x00080018: "UI", 0x00200013: "IS", 0x00280008: "IS", 0x00280010: "US",
              0x00280011: "US", 0x00280100: "US"}  # fmt: skip
_ROWS = 0x00280010
_ABOVE = tuple(sorted(tag for tag in _WANTED if tag == _CHARACTER_SET or ATTRIBUTES[tag].level < Level.IMAGE))
_SELECTION = Selection((*_ABOVE, *_OF_IMAGES))
_Above = tuple[PatientRecord, StudyRecord, SeriesRecord]
_MOST_KNOWN = 1024
_known: dict[tuple[object, ...], _Above] = {}
_making_room = threading.Lock()


def _quick_record(
    header: bytes | bytearray | memoryview, transfer_syntax: str, cls: str, uid: str, character_set: str
) -> InstanceRecord | None:
    """The record of an image whose patient, study and series came in the same bytes before; None for any other."""
    found = _SELECTION.find(header, transfer_syntax)
    if _ROWS not in found:
        return None
    own: Attributes = {
        f"{tag:08X}": text_of(vr, found.pop(tag).value, ()) for tag, vr in _OF_IMAGES.items() if tag in found
    }
    key = (transfer_syntax, character_set, *((one.tag, one.value) for one in found.values()))
    above = _known.get(key)
    if above is None:
        whole = _record(_read(header, transfer_syntax, character_set), transfer_syntax, cls, uid)
        with _making_room:
            if len(_known) >= _MOST_KNOWN:
                _known.clear()
            _known[key] = whole.patient, whole.study, whole.series
        return whole if whole.rows else None
    if not _integer(own, _ROWS):
        return None
    return _image(own, transfer_syntax, above, _unique(own, _SOP_UID, uid), _unique(own, _SOP_CLASS, cls))


def _image(own: Attributes, transfer_syntax: str, above: _Above, uid: str, cls: str) -> InstanceRecord:
    patient, study, series = above
    return InstanceRecord(
        patient=patient,
        study=study,
        series=series,
        uid=uid,
        cls=cls,
        ts=transfer_syntax,
        number=_integer(own, 0x00200013),
        frames=_integer(own, 0x00280008),
        rows=_integer(own, _ROWS),
        columns=_integer(own, 0x00280011),
        bits=_integer(own, 0x00280100),
    )


def _read(header: bytes | bytearray | memoryview, transfer_syntax: str, character_set: str) -> Attributes:
    item = read_elements(header, transfer_syntax, _WANTED)
    named = next((_bytes_text(one) for one in item if one.tag == _CHARACTER_SET), "")
    found = attributes_of(item, encodings_of(named or character_set))
    found.pop(f"{_CHARACTER_SET:08X}", None)
    return found


def _bytes_text(element: Element) -> str:
    return clean_uid(element.value) if isinstance(element.value, bytes) else ""


def _text(found: Attributes, tag: int) -> str:
    value = found.get(f"{tag:08X}", "")
    return value if isinstance(value, str) else ""


def _short(found: Attributes, tag: int) -> str:
    """The beginning of a value that is absurdly long; the stored instance has it whole."""
    return _text(found, tag)[:LONGEST]


def _unique(found: Attributes, tag: int, given: str = "") -> str:
    uid = _text(found, tag) or given
    if not uid or len(uid) > _LONGEST_UID or "\\" in uid:
        raise MissingElement(tag, "usable " if uid else "")
    return uid


def _integer(found: Attributes, tag: int) -> int | None:
    text = _text(found, tag)
    if not _INTEGER.fullmatch(text):
        return None
    return max(-_LARGEST_NUMBER, min(int(text), _LARGEST_NUMBER))


def _others(level: Level, found: Attributes, extra: Attributes | None = None) -> str:
    """JSON of the attributes of a level that have no column; the same attributes always give the same text."""
    others = {tag: value for tag, value in found.items() if tag in _OTHERS[level]} | (extra or {})
    return json.dumps(others, ensure_ascii=False, separators=(",", ":"), sort_keys=True) if others else "{}"


def _patient(found: Attributes) -> PatientRecord:
    pid, issuer, birth, sex = (_short(found, tag) for tag in (0x00100020, 0x00100021, 0x00100030, 0x00100040))
    others = _others(Level.PATIENT, found, _as_written(0x00100030, birth, normal_date(birth)))
    return patient_record(pid, issuer, _text(found, 0x00100010), normal_date(birth), sex, others)


@lru_cache(256)
def patient_record(
    pid: str, issuer: str = "", name: str = "", birth: str = "", sex: str = "", attrs: str = "{}"
) -> PatientRecord:
    """A patient with the folded forms of the name."""
    groups = fold_name(name)
    folded = "=".join(groups).rstrip("=")[:LONGEST]
    return PatientRecord(pid, issuer, name, birth, sex, attrs, folded, groups[1][:LONGEST], groups[2][:LONGEST])


def _study(found: Attributes) -> StudyRecord:
    date, time = _text(found, 0x00080020), _text(found, 0x00080030)
    normal = normal_date(date), normal_time(time)
    as_written = _as_written(0x00080020, date, normal[0]) | _as_written(0x00080030, time, normal[1])
    physician = _text(found, 0x00080090)
    return StudyRecord(
        uid=_unique(found, _STUDY_UID),
        date=normal[0],
        time=normal[1],
        acc=_short(found, 0x00080050),
        issuer_acc=_issuer(found),
        study_id=_short(found, 0x00200010),
        descr=_text(found, 0x00081030),
        refphys=physician,
        refphys_n="=".join(fold_name(physician)).rstrip("="),
        attrs=_others(Level.STUDY, found, as_written),
    )


def _as_written(tag: int, text: str, normal: str) -> Attributes:
    """A value whose column holds another form of it."""
    return {f"{tag:08X}": text} if text != normal else {}


def _issuer(found: Attributes) -> str:
    """Who gave the accession number: Local Namespace Entity ID, else Universal Entity ID (PS3.3 Table 10-17)."""
    items = found.get("00080051")
    first = items[0] if isinstance(items, list) and items else {}
    return _text(first, 0x00400031) or _text(first, 0x00400032)


def _series(found: Attributes) -> SeriesRecord:
    steps = found.get("00081111")
    step = steps[0] if isinstance(steps, list) and steps else {}
    return SeriesRecord(
        uid=_unique(found, _SERIES_UID),
        modality=_short(found, 0x00080060).partition("\\")[0],
        number=_integer(found, 0x00200011),
        descr=_text(found, 0x0008103E),
        body=_text(found, 0x00180015),
        station=_text(found, 0x00081010),
        pps_uid=_text(step, 0x00081155)[:LONGEST],
        attrs=_others(Level.SERIES, found),
    )
