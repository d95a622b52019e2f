"""Data sets that come in the Native DICOM Model (PS3.19 Annex A), read into the DICOM JSON model.

From there on they go the way of those that come as JSON.
"""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from pydicom.datadict import dictionary_VR, tag_for_keyword

from ..dataset.vr import PERSON_NAME_GROUPS
from ..repository.dicom_json import DicomJson
from .bodies import MOST_DEPTH, check_item
from .problems import Problem

__all__ = ["item_of_xml"]

_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_WHOLE = frozenset({"SL", "SS", "SV", "UL", "US", "UV"})
_BROKEN = frozenset({"FD", "FL"})
#: Values that a document may leave out of one attribute, as empty.
_MOST_MISSING = 1024
#: The blocks of private elements of a group (PS3.5 Section 7.8.1).
_FIRST_BLOCK, _LAST_BLOCK = 0x10, 0xFF


class _Tree(TreeBuilder):
    """Takes no document type: with one come entities, which may be files, or bombs."""

    def doctype(self, *_: object) -> None:
        raise Problem(400, "the native model has no document type", parameter="body")


def item_of_xml(body: bytes) -> DicomJson:
    """The data set of a document.

    Raises:
        Problem: 400 for what is none.
    """
    parser = XMLParser(target=_Tree())
    try:
        parser.feed(body)
        root: Element = parser.close()
    except (ParseError, ValueError, LookupError) as error:
        raise Problem(400, "the part is not XML", parameter="body") from error
    if _name(root) != "NativeDicomModel":
        raise Problem(400, "the document is no NativeDicomModel", parameter="body")
    item = _item(root, 0)
    check_item(item)
    return item


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _item(parent: Element, depth: int) -> DicomJson:
    if depth > MOST_DEPTH:
        raise Problem(400, "sequences nest too deep", parameter="body")
    item: DicomJson = {}
    private: list[tuple[str, str, dict[str, Any]]] = []
    for attribute in parent:
        if _name(attribute) != "DicomAttribute":
            raise Problem(400, f"{_name(attribute)[:32]!r} is no DicomAttribute", parameter="body")
        tag, creator = _tag(attribute), attribute.get("privateCreator", "")
        element = _element(attribute, tag, depth)
        if creator:
            private.append((tag, creator, element))
        else:
            item[tag] = element
    for tag, creator, element in private:
        item[f"{tag[:4]}{_block(item, tag[:4], creator):02X}{tag[6:]}"] = element
    return dict(sorted(item.items()))


def _tag(attribute: Element) -> str:
    tag = attribute.get("tag", "").upper()
    if not tag and (number := tag_for_keyword(attribute.get("keyword", ""))) is not None:
        tag = f"{number:08X}"
    return tag


def _block(item: DicomJson, group: str, creator: str) -> int:
    """The block that a private creator has in a group; the first one that is free where it has none."""
    for block in range(_FIRST_BLOCK, _LAST_BLOCK + 1):
        tag = f"{group}00{block:02X}"
        if tag not in item:
            item[tag] = {"vr": "LO", "Value": [creator]}
        if item[tag].get("Value") == [creator]:
            return block
    raise Problem(400, "a group has too many private creators", parameter=group)


def _element(attribute: Element, tag: str, depth: int) -> dict[str, Any]:
    element: dict[str, Any] = {"vr": attribute.get("vr", "") or _usual_vr(tag)}
    numbered: list[tuple[int, Any]] = []
    for child in attribute:
        name = _name(child)
        if name == "BulkData":
            element["BulkDataURI"] = child.get("uri") or child.get("uuid") or ""
        elif name == "InlineBinary":
            element["InlineBinary"] = "".join((child.text or "").split())
        elif name in ("Value", "PersonName", "Item"):
            numbered.append((_number(child, len(numbered) + 1), _value(child, name, element["vr"], tag, depth)))
        else:
            raise Problem(400, f"{name[:32]!r} is no value of the native model", parameter=tag)
    if numbered:
        element["Value"] = _in_order(numbered, tag)
    return element


def _in_order(numbered: list[tuple[int, Any]], tag: str) -> list[Any]:
    """Values by their numbers; those between that are missing are empty."""
    greatest = max(number for number, _ in numbered)
    if greatest > len(numbered) + _MOST_MISSING or min(number for number, _ in numbered) < 1:
        raise Problem(400, "values are numbered from 1 on", parameter=tag)
    values: list[Any] = [None] * greatest
    for number, value in numbered:
        values[number - 1] = value
    return values


def _usual_vr(tag: str) -> str:
    try:
        return dictionary_VR(int(tag, 16)).split(" ")[0]
    except (KeyError, ValueError):
        return "UN"


def _number(child: Element, default: int) -> int:
    text = child.get("number", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else default


def _value(child: Element, name: str, vr: str, tag: str, depth: int) -> Any:
    if name == "Item":
        return _item(child, depth + 1)
    if name == "PersonName":
        groups = {_name(group): "^".join(_components(group)).rstrip("^") for group in child}
        return {group: text for group, text in groups.items() if group in PERSON_NAME_GROUPS and text}
    text = child.text or ""
    if not text:
        return None
    try:
        return int(text) if vr in _WHOLE else float(text) if vr in _BROKEN else text
    except ValueError as error:
        raise Problem(400, f"a value of {vr} is a number", parameter=tag) from error


def _components(group: Element) -> list[str]:
    found = {_name(one): one.text or "" for one in group}
    return [found.get(component, "") for component in _COMPONENTS]
