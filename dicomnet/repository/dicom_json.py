"""Attributes in the DICOM JSON model (PS3.18 Annex F), as rows keep them, and as matching wants them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from ..dataset.vr import PERSON_NAME_GROUPS
from .attributes import Attributes
from .catalog import VR_OF
from .text import clean

__all__ = ["DicomJson", "attributes_of_json", "items_at", "packed", "set_text", "text_at"]

#: Elements by tag, as eight hexadecimal digits.
DicomJson: TypeAlias = "dict[str, dict[str, Any]]"


def attributes_of_json(item: Mapping[str, Any]) -> Attributes:
    """What matching and answers want: text by tag, or the items of a sequence; what is empty, or bytes, is left out."""
    found: Attributes = {}
    for tag, element in item.items():
        values = element.get("Value") or ()
        if element.get("vr") == "SQ":
            found[tag] = [attributes_of_json(one or {}) for one in values]
        elif text := clean("\\".join(_text_of(one) for one in values)):
            found[tag] = text
    return {tag: value for tag, value in found.items() if value}


def _text_of(value: Any) -> str:
    if isinstance(value, Mapping):
        return "=".join(str(value.get(group) or "") for group in PERSON_NAME_GROUPS).rstrip("=")
    return "" if value is None else str(value)


def text_at(item: Mapping[str, Any], tag: int) -> str:
    """The text of an element, all its values; empty where there is none."""
    values: Iterable[Any] = item.get(f"{tag:08X}", {}).get("Value") or ()
    return clean("\\".join(_text_of(one) for one in values))


def items_at(item: Mapping[str, Any], tag: int) -> list[DicomJson]:
    """The items of a sequence."""
    return [one or {} for one in item.get(f"{tag:08X}", {}).get("Value") or ()]


def set_text(item: DicomJson, tag: int, text: str) -> None:
    """Give an element of the catalog, which is no name and no number, a value."""
    item[f"{tag:08X}"] = {"vr": VR_OF[tag], "Value": [text]}


def packed(item: Mapping[str, Any]) -> str:
    """The text of a row: the same elements give the same; NUL is left out, which PostgreSQL does not take."""
    return json.dumps(item, ensure_ascii=False, separators=(",", ":"), sort_keys=True).replace("\\u0000", "")
