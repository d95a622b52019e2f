"""Where `dicomnet recv` keeps an instance: a template of names, none of which can leave the directory."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..dataset.character_sets import python_encodings
from ..errors import InvalidArgument
from ..services.provider_requests import StoreRequest
from ..wire.element_walk import Element

__all__ = ["Layout"]

_CHARACTER_SET = 0x00080005
_FIELDS = {
    "date": 0x00080020,
    "modality": 0x00080060,
    "patient": 0x00100020,
    "study": 0x0020000D,
    "series": 0x0020000E,
}
_OWN = ("uid", "calling")
_MOST = 64  # characters of a name: every UID fits
_UNSAFE = re.compile(r"[^\w.,+=-]+")
_PLACE = re.compile(r"\{(\w*)\}")


class Layout:
    """A template such as ``{patient}/{study}/{uid}.dcm``.

    Args:
        template: a relative path; in braces ``uid``, ``study``, ``series`` (their UIDs), ``patient`` (ID),
            ``modality``, ``date`` (of the study) and ``calling`` (AE title).

    Attributes:
        elements: what the data set is to be looked through for.

    Raises:
        InvalidArgument: it has a place that is none, or leads out of the directory.
    """

    def __init__(self, template: str) -> None:
        self._template = template
        used = set(_PLACE.findall(template))
        unknown = sorted(used - {*_FIELDS, *_OWN})
        if unknown or _PLACE.sub("", template).count("{"):
            raise InvalidArgument(
                f'"{template}": {{{unknown[0] if unknown else ""}}} is no place in a layout',
                hint=f"There are {', '.join(f'{{{one}}}' for one in sorted((*_FIELDS, *_OWN)))}.",
            )
        if "uid" not in used:
            raise InvalidArgument(f'"{template}": every instance would have the same name', hint="Put in {uid}.")
        parts = template.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\0" in template or "\\" in template:
            raise InvalidArgument(f'"{template}" is no relative path', hint="Write it like {study}/{uid}.dcm.")
        tags = [tag for name, tag in _FIELDS.items() if name in used]
        self.elements: tuple[int, ...] = (_CHARACTER_SET, *tags) if tags else ()

    def name_of(self, request: StoreRequest, uid: str) -> str:
        """The name of an instance: a relative path.

        Args:
            request: brings it.
            uid: its SOP Instance UID, or a name of ours where that is none.
        """
        found: Mapping[object, Element] = (request.elements or {}) if self.elements else {}  # type: ignore[assignment]
        values = {name: _text(found, tag) for name, tag in _FIELDS.items()}
        values |= {"uid": uid, "calling": request.calling}
        return _PLACE.sub(lambda place: _safe(values[place[1]]), self._template)


def _text(found: Mapping[object, Element], tag: int) -> str:
    element, named = found.get(tag), found.get(_CHARACTER_SET)
    if element is None:
        return ""
    try:
        terms = named.value.decode("ascii").strip(" \0") if named is not None else ""
        codec = python_encodings(terms)[0] if terms else "ascii"
        return element.value.decode(codec, "replace")
    except (InvalidArgument, ValueError, LookupError):
        return element.value.decode("ascii", "replace")


def _safe(text: str) -> str:
    """A text as a part of a name: what a peer made up never becomes a path."""
    name = _UNSAFE.sub("_", text.strip(" \0")).lstrip(".")[:_MOST]
    return name or "none"
