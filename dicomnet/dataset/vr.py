"""What is alike in value representations (PS3.5 Section 6.2), for those who read and write elements without pydicom."""

from __future__ import annotations

__all__ = ["BINARY", "LONG_LENGTH", "NUMBER_FORMATS", "PERSON_NAME_GROUPS", "PROSE", "TEXT"]

#: Bytes that are neither text nor single numbers.
BINARY: frozenset[str] = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
#: Text in the encoding that Specific Character Set names; all other text is ASCII.
TEXT: frozenset[str] = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
#: With two reserved bytes and a length of four in explicit VR (Table 7.1-1).
LONG_LENGTH: frozenset[str] = BINARY | {"SQ", "SV", "UC", "UR", "UT", "UV"}
#: Numbers in binary form, and how `struct` has them.
NUMBER_FORMATS: dict[str, str] = {
    "US": "H",
    "SS": "h",
    "UL": "I",
    "SL": "i",
    "FL": "f",
    "FD": "d",
    "UV": "Q",
    "SV": "q",
}
#: One value each: a backslash is a character.
PROSE: frozenset[str] = frozenset({"LT", "ST", "UR", "UT"})
#: The component groups of a name, as the DICOM JSON model and the native model call them (PS3.18 Section F.2.2).
PERSON_NAME_GROUPS: tuple[str, ...] = ("Alphabetic", "Ideographic", "Phonetic")
