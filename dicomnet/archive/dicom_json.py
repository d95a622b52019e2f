"""From pydicom's data sets to DICOM JSON, as rows keep it, and back."""

from __future__ import annotations

from typing import Any

from ..errors import InvalidArgument
from ..repository.dicom_json import DicomJson

__all__ = ["dataset_of_json", "json_of_dataset"]

_LEFT_OUT = ("00080005", "00080016", "00080018")  # the character set of bytes, and what the command says


def json_of_dataset(dataset: Any) -> DicomJson:
    """The elements of a data set in Unicode, without its SOP class and instance.

    Raises:
        InvalidArgument: it has a value that is none of its value representation.
    """
    try:
        item: DicomJson = dataset.to_json_dict(suppress_invalid_tags=False)
    except Exception as error:  # whatever pydicom stumbles over
        raise InvalidArgument(f"a value cannot be understood: {type(error).__name__}") from error
    return {tag: one for tag, one in item.items() if tag not in _LEFT_OUT}


def dataset_of_json(item: DicomJson) -> Any:
    """A data set to send, with its text in UTF-8."""
    from pydicom.dataset import Dataset  # noqa: PLC0415 late on purpose

    dataset = Dataset.from_json(item)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    return dataset
