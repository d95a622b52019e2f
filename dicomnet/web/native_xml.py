"""The Native DICOM Model: a data set as XML (PS3.19 Annex A), made from the JSON that there is of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from pydicom.datadict import keyword_for_tag
from starlette.responses import Response

from ..dataset.vr import PERSON_NAME_GROUPS
from .media_types import DICOM_XML
from .multipart import Part, boundary, written
from .pieces import streamed

__all__ = ["native_xml", "xml_answer"]

_NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
#: Characters that XML 1.0 cannot have.
_not_xml = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")


def xml_answer(items: Iterable[Mapping[str, Any]], headers: Mapping[str, str]) -> Response:
    """Data sets, each as a part of its own (PS3.18 Section 8.7.3).

    Args:
        items: the data sets in the DICOM JSON model.
        headers: of the answer.
    """
    mark = boundary()
    content_type = f'multipart/related; type="{DICOM_XML}"; boundary={mark}'
    parts = (Part(DICOM_XML, [native_xml(item)]) for item in items)
    return streamed(written(parts, mark), {**headers, "Content-Type": content_type})


def native_xml(item: Mapping[str, Any]) -> bytes:
    """A data set as an XML document.

    Args:
        item: the data set in the DICOM JSON model (PS3.18 Annex F).
    """
    root = Element("NativeDicomModel", {"xmlns": _NAMESPACE, "xml:space": "preserve"})
    _add(root, item)
    # Readers of XML take a carriage return that is not escaped for a line feed (XML 1.0 Section 2.11).
    document: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return document.replace(b"\r", b"&#13;")


def _add(parent: Element, item: Mapping[str, Any]) -> None:
    for tag, element in item.items():
        attribute = SubElement(parent, "DicomAttribute", _names(tag, element["vr"], item))
        if "BulkDataURI" in element:
            SubElement(attribute, "BulkData", {"uri": element["BulkDataURI"]})
        elif "InlineBinary" in element:
            SubElement(attribute, "InlineBinary").text = element["InlineBinary"]
        for number, value in enumerate(element.get("Value", ()), 1):
            _add_value(attribute, str(number), element["vr"], value)


def _names(tag: str, vr: str, item: Mapping[str, Any]) -> dict[str, str]:
    """What an attribute is: a private one by its creator, without the block that it has here."""
    names = {"tag": tag, "vr": vr}
    number = int(tag, 16)
    if number >> 16 & 1 and number & 0xF000:
        creator = item.get(f"{tag[:4]}00{tag[4:6]}", {}).get("Value") or [""]
        names |= {"tag": f"{tag[:4]}00{tag[6:]}", "privateCreator": _text(creator[0])} if creator[0] else {}
    elif keyword := keyword_for_tag(number):
        names["keyword"] = keyword
    return names


def _add_value(attribute: Element, number: str, vr: str, value: Any) -> None:
    if vr == "SQ":
        _add(SubElement(attribute, "Item", {"number": number}), value or {})
    elif vr == "PN":
        name = SubElement(attribute, "PersonName", {"number": number})
        for group in PERSON_NAME_GROUPS:
            if text := (value or {}).get(group):
                components = zip(_COMPONENTS, text.split("^"), strict=False)
                parent = SubElement(name, group)
                for component, part in components:
                    if part:
                        SubElement(parent, component).text = _text(part)
    elif value is not None:  # an empty one among several
        SubElement(attribute, "Value", {"number": number}).text = _text(value)


def _text(value: object) -> str:
    return _not_xml.sub("\N{REPLACEMENT CHARACTER}", value if isinstance(value, str) else f"{value}")
