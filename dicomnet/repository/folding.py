"""Folding: names as they are compared, whatever their case and accents (PS3.4 Section C.2.2.2.1)."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

__all__ = ["FoldedName", "fold", "fold_name"]

#: The three component groups of a name, folded: alphabetic, ideographic, phonetic.
FoldedName = tuple[str, str, str]

_KANA_MARKS = {"\u3099", "\u309a"}  # voicing of kana: another letter, not an accent


@lru_cache(4096)
def fold(text: str) -> str:
    """Text without case and accents, in compatibility form; carets stay."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text)
    bare = "".join(c for c in decomposed if not unicodedata.combining(c) or c in _KANA_MARKS)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKD", bare.casefold()))


@lru_cache(4096)
def fold_name(name: str) -> FoldedName:
    """The component groups of a name, each folded, without spaces around components and without trailing carets."""
    groups = [_fold_group(group) for group in name.split("=", 2)]
    groups += ["", ""]
    return groups[0], groups[1], groups[2]


def _fold_group(group: str) -> str:
    return "^".join(part.strip() for part in fold(group).split("^")).rstrip("^")
