"""Character sets as pydicom takes them, and those of data sets whose own are missing, or wrong.

PS3.3 Section C.12.1.1.2 and PS3.5 Section 6.1 have what is right.

A peer's profile says what such data sets are in; a character set that fits is believed. pydicom, which
decodes the text, is loaded with the first data set.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from typing import Any

from dicomnet import uids
from dicomnet.errors import InvalidArgument

from .vr import TEXT

__all__ = ["is_text_in_its_own", "is_unnamed", "mend_gb_2312", "python_encodings", "reread"]

#: A pydicom Dataset; to name its class here would load it.
Dataset = Any
Buffer = bytes | bytearray | memoryview

_ASCII_TERMS = ("", "ISO_IR 6", "ISO 2022 IR 6")


@lru_cache(1)
def mend_gb_2312() -> None:
    """Have pydicom write and read the escape sequence of ISO 2022 IR 58 (PS3.5 Sections 6.1.2.5.3 and K.2).

    It takes Python's codec for one that does so itself, and that one knows none.
    """
    from pydicom import charset  # noqa: PLC0415

    others = tuple(one for one in charset.handled_encodings if one != "iso_ir_58")
    charset.handled_encodings = others  # type: ignore[assignment]  # pydicom says three


@lru_cache(1000)
def python_encodings(character_set: str) -> tuple[str, ...]:
    """The codecs of a Specific Character Set, its values separated by backslashes (PS3.3 Section C.12.1.1.2)."""
    from pydicom.charset import convert_encodings, python_encoding  # noqa: PLC0415

    terms = character_set.split("\\")
    unknown = next((term for term in terms if term not in python_encoding), None)
    if unknown is not None:
        raise InvalidArgument(f"there is no character set {unknown!r}", hint="The names are those of PS3.3 C.12.1.1.2.")
    return tuple(convert_encodings(terms))


def is_unnamed(data: Buffer, transfer_syntax: str) -> bool:
    """Whether a data set has text beyond ASCII, outside sequences, and names no character set for it."""
    from pydicom.filereader import read_dataset  # noqa: PLC0415

    implicit, little_endian = (
        transfer_syntax == uids.IMPLICIT_VR_LITTLE_ENDIAN,
        transfer_syntax != uids.EXPLICIT_VR_BIG_ENDIAN,
    )
    try:
        dataset = read_dataset(BytesIO(data), implicit, little_endian)
        named = dataset.get("SpecificCharacterSet")
        return not named and any(not text.isascii() for text in _texts(dataset))
    except Exception:  # whatever pydicom stumbles over: who decodes it is told
        return False


def is_text_in_its_own(dataset: Dataset) -> bool:
    """Whether a data set names a character set, and its text, outside sequences, can be in it."""
    from pydicom.charset import python_encoding  # noqa: PLC0415

    named = dataset.get("SpecificCharacterSet")
    terms = [named] if isinstance(named, str) else list(named or ())
    if not any(terms) or any(term not in python_encoding for term in terms):
        return False
    first = "ascii" if terms[0] in _ASCII_TERMS else python_encoding[terms[0]]
    return all(_can_be_in(text, first, len(terms) > 1) for text in _texts(dataset))


def _texts(dataset: Dataset) -> Iterator[bytes]:
    """The encoded values that the character set concerns."""
    from pydicom.datadict import dictionary_VR  # noqa: PLC0415

    for tag in dataset.keys():  # noqa: SIM118 iteration itself would decode
        element = dataset.get_item(tag)
        if isinstance(element.value, bytes):
            try:
                vr = element.VR or dictionary_VR(element.tag)
            except KeyError:  # a private element of implicit VR
                continue
            if vr in TEXT:
                yield element.value


def _can_be_in(text: bytes, codec: str, extended: bool) -> bool:
    if b"\x1b" in text:
        return extended
    try:
        text.decode(codec)
    except UnicodeError:
        return False
    return True


def reread(dataset: Dataset, codecs: tuple[str, ...]) -> None:
    """Decode the text of a data set by these codecs, that of its sequences too."""
    dataset.set_original_encoding(*dataset.original_encoding, list(codecs))
    for tag in dataset.keys():  # noqa: SIM118 iteration itself would decode
        element = dataset.get_item(tag)
        if element.VR == "SQ" and not isinstance(element.value, bytes):
            for item in element.value:
                reread(item, codecs)
