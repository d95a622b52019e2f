"""Worklist items from what people write: keywords, JSON files, and data sets such as DCMTK's worklist files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..dataset import codec
from ..errors import InputFileError, InputProblem, InvalidArgument, cannot_read
from ..repository.dicom_json import DicomJson
from .dicom_json import json_of_dataset

__all__ = ["item_of_keywords", "items_of_file"]

_MOST_BYTES = 64 << 20  # of a file
_TAG = re.compile(r"[0-9A-Fa-f]{8}")


def item_of_keywords(values: Mapping[str, Any]) -> DicomJson:
    """DICOM JSON of values by keyword; a sequence is a list of such mappings.

    Raises:
        InvalidArgument: there is no such attribute, or it cannot have this value.
    """
    return json_of_dataset(codec.from_keywords(dict(values)))


def items_of_file(path: Path) -> list[DicomJson]:
    """The items of a file: DICOM JSON or keywords with values, one object or a list of them; or one data set.

    Raises:
        InputFileError: it cannot be read, or is none of these.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputFileError("too large for worklist items", problem=InputProblem.CANNOT_READ, path=path)
        beginning = path.read_bytes().lstrip(b"\xef\xbb\xbf \t\r\n")
    except InputFileError:
        raise
    except OSError as error:
        raise cannot_read(error, path) from error
    if beginning[:1] not in (b"{", b"["):
        return [json_of_dataset(codec.read(path, _MOST_BYTES))]
    try:
        found = json.loads(beginning)
        return [_item(one) for one in (found if isinstance(found, list) else [found])]
    except (ValueError, InvalidArgument) as error:
        raise InputFileError(f"no worklist items: {error}", problem=InputProblem.NOT_PART10, path=path) from error


def _item(value: Any) -> DicomJson:
    if not isinstance(value, dict) or not value:
        raise ValueError("an item is an object with elements")
    if not all(_TAG.fullmatch(name) for name in value):
        return item_of_keywords(value)
    from pydicom.dataset import Dataset  # noqa: PLC0415 late on purpose

    try:
        return json_of_dataset(Dataset.from_json(value))
    except Exception as error:  # whatever pydicom stumbles over
        raise ValueError(f"it is no DICOM JSON: {error}") from error
