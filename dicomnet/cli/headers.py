"""Reads the headers of a Part 10 file, with a bounded part of every value, for `dicomnet dump`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

from ..dataset.codec import inflate
from ..errors import InputFileError, InputProblem, cannot_read
from ..files.instance_source import DEFLATED
from ..files.part10 import read_meta
from ..protocol.trace import named

__all__ = ["elements"]

# Values longer than this stay where they are; what is shown of the others.
_LONGEST = 1024
_SHOWN = 64
_UNDEFINED = 0xFFFFFFFF

Fields = dict[str, Any]


def elements(path: str) -> Iterator[Fields]:
    """The elements of the file meta information and, at the top level, of the data set.

    Raises:
        InputFileError: it cannot be read or parsed.
    """
    import pydicom
    from pydicom.config import settings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values that break a rule are what one wants to see
        settings.reading_validation_mode = pydicom.config.IGNORE
        try:
            for part in _parts(path):
                for tag in sorted(part.keys()):
                    yield _element(part, tag)
        except OSError as error:
            if error.errno is None:  # pydicom's own, at the end of a file that is cut short
                raise InputFileError(f"truncated: {error}", path=path, problem=InputProblem.TRUNCATED) from error
            raise cannot_read(error, path) from error
        except Exception as error:  # pydicom promises no type
            reason = f"cannot be parsed: {error}"
            raise InputFileError(reason, path=path, problem=InputProblem.TRUNCATED) from error


def _parts(path: str) -> tuple[Any, Any]:
    """The file meta information, and the data set; a deflated one within bounds, which pydicom does not have."""
    import pydicom
    from pydicom.filereader import read_dataset

    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") not in DEFLATED:
        dataset = pydicom.dcmread(path, defer_size=_LONGEST, force=True)
        return dataset.file_meta, dataset
    with open(path, "rb") as file:
        data = file.read()
    _, start = read_meta(data)
    return meta, read_dataset(BytesIO(inflate(memoryview(data)[start:])), False, True)


def _element(dataset: Any, tag: Any) -> Fields:
    from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag

    raw = dataset.get_item(tag, keep_deferred=True)
    vr = raw.VR or (dictionary_VR(tag) if dictionary_has_tag(tag) else "UN")
    length = getattr(raw, "length", 0)
    if vr != "SQ" and (raw.value is None or length > _LONGEST):
        value = "of undefined length, encapsulated" if length == _UNDEFINED else f"{length} bytes"
    else:
        element = dataset[tag]  # whose VR is the dictionary's where the file says UN
        value = _shown(element.VR, element.value)
    return {
        "tag": f"({tag.group:04X},{tag.element:04X})",
        "vr": vr,
        "keyword": keyword_for_tag(tag) or ("private" if tag.is_private else "unknown"),
        "value": value,
    }


def _shown(vr: str, value: Any) -> str:
    if vr == "SQ":
        return f"{len(value)} item{'' if len(value) == 1 else 's'}"
    if value is None:
        return ""
    if isinstance(value, bytes):
        more = "…" if len(value) > _SHOWN // 4 else ""
        return f"{len(value)} bytes {value[: _SHOWN // 4].hex(' ')}{more}".strip()
    if vr == "UI":
        return named(str(value))
    several = isinstance(value, Sequence) and not isinstance(value, str)  # a PersonName has letters, and is one value
    text = "\\".join(map(str, value)) if several else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"
