"""The base service `storage`: files below a directory, at paths made of attributes by a template."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from string import Formatter

from ..errors import InvalidArgument

__all__ = ["LONGEST_NAME", "FolderStorage", "check_template", "safe_name"]

#: Bytes of a part of a path; file systems take 255.
LONGEST_NAME = 128
_UNSAFE = re.compile(r"[^A-Za-z0-9._^=+@,-]+")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def safe_name(text: str) -> str:
    """A value of an attribute as one part of a path: no separators, no hidden or reserved names, not too long.

    An empty value is "_".
    """
    name = _UNSAFE.sub("_", text.strip()).strip("._ ")[:LONGEST_NAME].rstrip("._ ")
    return f"_{name}" if not name or _RESERVED.fullmatch(name) else name


def check_template(template: str) -> tuple[str, ...]:
    """The attributes that a template names.

    Raises:
        InvalidArgument: it is no template, is absolute, or leads upwards.
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise InvalidArgument(f'the template "{template}" does not end: {error}') from error
    if any(form or conversion for _, _, form, conversion in parts):
        raise InvalidArgument(f'the template "{template}" has formats; attributes stand alone, as in {{PatientID}}')
    names = tuple(name for _, name, _, _ in parts if name is not None)
    if not names or not all(name.isidentifier() for name in names):
        raise InvalidArgument(f'the template "{template}" names no attributes by keyword, as in {{StudyInstanceUID}}')
    if template.startswith("/") or any(part in ("", ".", "..") for part in template.split("/")):
        raise InvalidArgument(f'the template "{template}" is no path below the storage directory')
    return names


class FolderStorage:
    """Storage below one directory.

    Args:
        root: the directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def spool(self) -> Path:
        """Where data sets stay while they arrive; made when it is first asked for."""
        path = self.root / ".incoming"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def place(self, template: str, attributes: Mapping[str, str]) -> Path:
        """The path for an instance; no value of an attribute leads out of the directory."""
        named = {name: safe_name(str(attributes.get(name, "") or "")) for name in check_template(template)}
        return self.root / template.format_map(named)
