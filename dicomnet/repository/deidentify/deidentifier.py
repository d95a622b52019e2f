"""`Deidentifier`: applies the profile to data sets (PS3.15 Section E.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from dataclasses import dataclass, field
from typing import Any

from ...dataset import codec
from ...dataset.vr import TEXT
from ...errors import InvalidArgument
from .keys import Replacements
from .profile import CODES, Option, action_of, options_of

__all__ = ["Deidentifier", "NotDeidentified", "Report"]

_DONE = {"D": "replaced", "Z": "emptied", "X": "removed", "U": "mapped", "C": "cleaned"}
_PATIENT_NAME, _PATIENT_ID = 0x00100010, 0x00100020
_PRIVATE_SAFETY = 0x00080300  # Private Data Element Characteristics Sequence
_CLEANED = TEXT | {"CS", "AE", "UR"}
_DUMMIES = {
    "AE": "ANONYMIZED", "AS": "000Y", "CS": "ANONYMIZED", "DA": "19000101", "DS": "0", "DT": "19000101000000",
    "FD": 0.0, "FL": 0.0, "IS": "0", "LO": "ANONYMIZED", "LT": "ANONYMIZED", "PN": "ANONYMIZED", "SH": "ANONYMIZED",
    "SL": 0, "SS": 0, "ST": "ANONYMIZED", "SV": 0, "TM": "000000", "UC": "ANONYMIZED", "UL": 0, "UR": "urn:anonymized",
    "US": 0, "UT": "ANONYMIZED", "UV": 0, "AT": 0, "OB": b"\0\0", "OW": b"\0\0", "OF": bytes(4), "OD": bytes(8),
    "OL": bytes(4), "OV": bytes(8), "UN": b"\0\0",
}  # fmt: skip
# Where words stand that may be repeated in free text: names, identifiers, places.
_TELLING = (0x00100010, 0x00100020, 0x00101000, 0x00101001, 0x00101005, 0x00101060, 0x00080050, 0x00080080, 0x00080081,
            0x00080090, 0x00081010, 0x00081040, 0x00081048, 0x00081050, 0x00081060, 0x00081070, 0x00101040, 0x00102154,
            0x00200010, 0x00321032)  # fmt: skip
_WORD = re.compile(r"[\w'-]+")
_NUMBERS = re.compile(r"\d[\d./:-]{3,}\d|\d{5,}")  # dates, times and identifiers
_PERSONS = re.compile(r"\b(?:Drs?|Prof|Mr|Mrs|Ms|Miss|Herr|Frau|Mme|M)\.?\s+\S+(?:\s+[A-ZÄÖÜ]\S+)?", re.IGNORECASE)


class NotDeidentified(InvalidArgument):
    """A data set that cannot be de-identified here: its pixels, or what it encapsulates, tell who it is."""


@dataclass(slots=True)
class Report:
    """What was done. Nothing in it is a value of the data set.

    Attributes:
        done: paths of elements by what was done to them: replaced, emptied, removed, mapped, cleaned, kept.
        warnings: what was not looked at.
    """

    done: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def add(self, what: str, path: str) -> None:
        """Something was done to an element."""
        self.done.setdefault(what, []).append(path)

    def counts(self) -> dict[str, int]:
        """How many elements, by what was done to them."""
        return {what: len(paths) for what, paths in sorted(self.done.items())}


class Deidentifier:
    """Applies the profile, with the options that are chosen.

    Args:
        key: what replacements are made by; see `keys.key_in`.
        options: by name.
        burned_in: take instances that say that identifying text is burned into their pixels, and warn.
        safe_private: private elements that are safe, as (creator, group, last two digits of the element); with the
            option PRIVATE.

    Raises:
        InvalidArgument: options that are none, or exclude each other.
    """

    def __init__(
        self,
        key: bytes,
        options: Iterable[str] = (),
        *,
        burned_in: bool = False,
        safe_private: Iterable[tuple[str, int, int]] = (),
    ) -> None:
        self.options: frozenset[Option] = options_of(options)
        self.replacements: Replacements = Replacements(key)
        self._burned_in = burned_in
        self._safe_private = frozenset(safe_private)

    def data_set(self, data: bytes, transfer_syntax: str) -> tuple[bytes, Report]:
        """A data set as it is encoded, de-identified; its SOP Instance UID is another one.

        Raises:
            UndecodableDataSet: it is none.
            NotDeidentified: see `apply`.
        """
        dataset = codec.decode(data, transfer_syntax)
        report = self.apply(dataset)
        return codec.encode(dataset, transfer_syntax), report

    def apply(self, dataset: Any) -> Report:
        """De-identify a pydicom Dataset in place; what was done.

        Raises:
            NotDeidentified: identifying text is burned into its pixels, and that was not allowed.
        """
        report = Report()
        self._check_pixels(dataset, report)
        _Pass(self, dataset, report).level(dataset, "")
        self._say(dataset)
        return report

    def _check_pixels(self, dataset: Any, report: Report) -> None:
        if "PixelData" not in dataset:
            return
        burned_in = str(dataset.get("BurnedInAnnotation", "") or "").upper()
        if burned_in == "YES":
            if not self._burned_in:
                raise NotDeidentified(
                    "identifying text is burned into the pixels (Burned In Annotation is YES)",
                    hint="Pixels are not cleaned here: leave it out, or allow burned-in text.",
                )
            report.warnings.append("identifying text is burned into the pixels")
        elif burned_in != "NO":
            report.warnings.append("the instance does not say whether text is burned into its pixels")

    def _say(self, dataset: Any) -> None:
        """PS3.15 Section E.1.1, steps 6 to 9."""
        chosen = [None, *(option for option in Option if option in self.options)]
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = [CODES[option][1][:64] for option in chosen]
        dataset.DeidentificationMethodCodeSequence = [_coded(*CODES[option]) for option in chosen]
        if Option.FULL_DATES in self.options:
            dataset.LongitudinalTemporalInformationModified = "UNMODIFIED"
        else:
            shifted = Option.SHIFTED_DATES in self.options
            dataset.LongitudinalTemporalInformationModified = "MODIFIED" if shifted else "REMOVED"

    def is_safe(self, creator: str, tag: int) -> bool:
        """Whether the caller has called a private element safe."""
        return (creator, tag >> 16, tag & 0xFF) in self._safe_private


def _coded(value: str, meaning: str) -> Any:
    from pydicom.dataset import Dataset  # noqa: PLC0415

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


class _Pass:
    """One data set on its way through the profile."""

    def __init__(self, owner: Deidentifier, root: Any, report: Report) -> None:
        self.owner, self.report, self.options = owner, report, owner.options
        self.replacements = owner.replacements
        patient = _text(root, _PATIENT_ID) or _text(root, _PATIENT_NAME), _text(root, 0x00100021)
        self.pseudonym = self.replacements.patient(*patient)
        self.days = self.replacements.days(*patient)
        self.telling = frozenset(_telling(root))
        self.safe = frozenset(_safe_blocks(root)) if Option.PRIVATE in self.options else frozenset()

    def level(self, dataset: Any, path: str) -> None:
        """The elements of a data set, or of an item."""
        for tag in list(dataset.keys()):
            number = int(tag)
            name = f"{path}({number >> 16:04X},{number & 0xFFFF:04X})"
            action = action_of(number, self.options)
            if number >> 16 & 1 and action == "C":
                action = "K" if self.is_safe(dataset, number) else "X"
            if action == "X":
                del dataset[tag]
                self.report.add("removed", name)
            else:
                self.element(dataset, tag, action, name)

    def is_safe(self, dataset: Any, tag: int) -> bool:
        """Whether a private element is known to be safe (PS3.15 Section E.3.10)."""
        if 0x10 <= tag & 0xFFFF <= 0xFF:
            return True  # a creator
        place = tag >> 16, tag >> 8 & 0xFF
        creator = str(dataset[place].value) if place in dataset else ""
        safe = (creator, tag >> 16, None) in self.safe or (creator, tag >> 16, tag & 0xFF) in self.safe
        return safe or self.owner.is_safe(creator, tag)

    def element(self, dataset: Any, tag: Any, action: str, name: str) -> None:
        element = dataset[tag]
        if element.VR == "SQ":
            self.sequence(element, action, name)
            return
        if action == "K":
            return
        if action == "C":
            action = self.clean(dataset, element)
        elif action == "Z":
            element.value = self.emptied(int(tag))
        elif action == "U":
            element.value = _each(element.value, self.uid)
        elif action == "D":
            element.value = self.dummy(int(tag), element)
        self.report.add(_DONE.get(action, action), name)

    def sequence(self, element: Any, action: str, name: str) -> None:
        if action == "Z":
            element.value = []
            self.report.add("emptied", name)
            return
        for number, item in enumerate(element.value or ()):
            self.level(item, f"{name}[{number}]")
        if action == "D":
            for item in element.value or ():
                self.hollow(item)
            self.report.add("replaced", name)

    def hollow(self, item: Any) -> None:
        """Give every element of an item a value that says nothing."""
        for element in item:
            if element.VR == "SQ":
                for one in element.value or ():
                    self.hollow(one)
            elif element.VR == "UI":
                element.value = _each(element.value, self.uid)
            else:
                element.value = self.dummy(int(element.tag), element)

    def uid(self, uid: str) -> str:
        """The one that stands for it; what the standard defines, as SOP classes are, belongs to no patient."""
        text = str(uid)
        return text if not text or text.startswith("1.2.840.10008.") else self.replacements.uid(text)

    def emptied(self, tag: int) -> Any:
        return self.pseudonym if tag == _PATIENT_NAME else None

    def dummy(self, tag: int, element: Any) -> Any:
        if tag == _PATIENT_ID:
            return self.pseudonym
        if element.VR == "UI":
            return _each(element.value, self.uid)
        return _DUMMIES.get(element.VR, "")

    def clean(self, dataset: Any, element: Any) -> str:
        """Shift a date, clean a text; what is neither goes. What was done."""
        if element.VR in ("DA", "DT"):
            shifted = _each(element.value, lambda text: self.replacements.shifted(str(text), self.days))
            element.value = shifted
            return "shifted"
        if element.VR == "TM":
            return "kept"  # times of the day tell no date
        if element.VR in _CLEANED:
            element.value = _each(element.value, self.without_names)
            return "cleaned"
        del dataset[element.tag]
        return "removed"

    def without_names(self, text: str) -> str:
        """A text without what may tell: words that name persons or places elsewhere in the data set, long numbers."""
        bare = _NUMBERS.sub("", _PERSONS.sub("", str(text)))
        kept = _WORD.sub(lambda match: "" if match[0].casefold() in self.telling else match[0], bare)
        return " ".join(kept.split())


def _each(value: Any, change: Callable[[str], str]) -> Any:
    if value is None or value == "":
        return value
    if isinstance(value, MutableSequence):
        return [change(str(one)) for one in value]
    return change(str(value))


def _text(dataset: Any, tag: int) -> str:
    return str(dataset[tag].value or "") if tag in dataset else ""


def _telling(dataset: Any) -> Iterator[str]:
    """Words of two letters or more in what names persons, places and orders."""
    for tag in _TELLING:
        for word in _WORD.findall(_text(dataset, tag).replace("^", " ").replace("=", " ")):
            if len(word) > 1:
                yield word.casefold()


def _safe_blocks(dataset: Any) -> Iterator[tuple[str, int, int | None]]:
    """The private blocks, and elements, that the instance itself calls safe (PS3.3 Section C.12.1.1.7)."""
    for item in dataset[_PRIVATE_SAFETY].value if _PRIVATE_SAFETY in dataset else ():
        creator, group = str(item.get("PrivateCreatorReference", "")), int(item.get("PrivateGroupReference", 0) or 0)
        status = str(item.get("BlockIdentifyingInformationStatus", ""))
        if status == "SAFE":
            yield creator, group, None
        elif status == "MIXED":
            for element in _numbers(item.get("NonidentifyingPrivateElements")):
                yield creator, group, element & 0xFF


def _numbers(value: Any) -> list[int]:
    return [] if value is None else [int(value)] if isinstance(value, int) else [int(one) for one in value]
