"""Text of data sets as the index keeps it, in any character set, without pydicom (PS3.3 Section C.12.1.1.2).

Nothing is refused: bytes that are not in the character set that they are said to be in are taken for UTF-8, else for
ISO 8859-1, which has a character for each byte. The stored instance keeps them as they came.
"""

from __future__ import annotations

from functools import lru_cache

__all__ = ["clean", "clean_uid", "decode", "encodings_of"]

_CODECS = {
    "": "ascii", "6": "ascii", "13": "shift_jis", "100": "iso8859_1", "101": "iso8859_2", "109": "iso8859_3",
    "110": "iso8859_4", "126": "iso8859_7", "127": "iso8859_6", "138": "iso8859_8", "144": "iso8859_5",
    "148": "iso8859_9", "149": "euc_kr", "58": "gb2312", "87": "iso2022_jp", "159": "iso2022_jp_2",
    "166": "iso8859_11", "192": "utf_8", "203": "iso8859_15", "GB18030": "gb18030", "GBK": "gbk",
}  # fmt: skip
# What an escape sequence switches to: a codec, and whether the codec wants to see the sequence itself.
_ESCAPES = {
    b"(B": ("ascii", False), b"-A": ("iso8859_1", False), b"-B": ("iso8859_2", False), b"-C": ("iso8859_3", False),
    b"-D": ("iso8859_4", False), b"-F": ("iso8859_7", False), b"-G": ("iso8859_6", False),
    b"-H": ("iso8859_8", False), b"-L": ("iso8859_5", False), b"-M": ("iso8859_9", False), b"-T": ("iso8859_11", False),
    b"-b": ("iso8859_15", False), b")I": ("shift_jis", False), b"(J": ("iso2022_jp", True), b"$B": ("iso2022_jp", True),
    b"$(D": ("iso2022_jp_2", True), b"$)C": ("euc_kr", False), b"$)A": ("gb2312", False),
}  # fmt: skip
_UNWANTED = {ord("\0"): None, 0xFDD0: None, 0xFDD1: None}  # PostgreSQL has no NUL; the others mark wild cards in keys


@lru_cache(256)
def encodings_of(specific_character_set: str) -> tuple[str, ...]:
    """Python's codecs for a Specific Character Set; what is unknown counts as ASCII."""
    terms = specific_character_set.split("\\")
    numbers = (term.strip().removeprefix("ISO_IR ").removeprefix("ISO 2022 IR ").strip() for term in terms)
    return tuple(_CODECS.get(number, "ascii") for number in numbers)


def decode(value: bytes, encodings: tuple[str, ...]) -> str:
    """The text of a value, without the padding around it.

    Args:
        value: its bytes, all values of an element that has several.
        encodings: what `encodings_of` gives.
    """
    if value.isascii() and b"\x1b" not in value:
        return clean(value.decode("ascii"))
    try:
        if b"\x1b" in value and len(encodings) > 1:
            return clean(_decode_extended(value, encodings[0]))
        return clean(value.decode(encodings[0]))
    except UnicodeError:
        return clean(_decode_anyhow(value))


def _decode_extended(value: bytes, first: str) -> str:
    """Code extensions: each escape sequence switches, the initial set is there again after a delimiter."""
    pieces = []
    for number, piece in enumerate(value.split(b"\x1b")):
        if number == 0:
            pieces.append(piece.decode(first))
            continue
        escape = piece[: 3 if piece[:2] in (b"$(", b"$)") else 2]
        codec, shown = _ESCAPES.get(escape, ("", False))
        if not codec:
            raise UnicodeError(f"unknown escape sequence {escape!r}")
        body = piece[len(escape) :]
        pieces.append((b"\x1b" + piece).decode(codec) if shown else body.decode(codec))
    return "".join(pieces)


def _decode_anyhow(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeError:
        return value.decode("iso8859_1")


def clean(text: str) -> str:
    """Text as the index keeps and compares it: no padding around any of its values, no NUL."""
    if not text.isprintable():
        text = text.translate(_UNWANTED)
    if "\\" in text:
        return "\\".join(part.strip() for part in text.split("\\"))
    return text.strip()


def clean_uid(value: bytes) -> str:
    """A UID, or several, without padding: NUL as the standard wants it, or spaces as some devices write it."""
    return clean(value.decode("ascii", "replace"))
