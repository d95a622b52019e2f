"""Values past 64 KiB whose VR has a length of two bytes: in explicit VR they go as UN (PS3.5 Section 6.2.2).

Of a known attribute they are what its VR says, in implicit VR little endian: a list of 1,500 UIDs is a list.
"""

from __future__ import annotations

from typing import Any

from .types import Dataset

__all__ = ["LONGEST_SHORT", "read_as_known", "written_as_unknown"]

#: Bytes of a value, the most that an even length of two bytes can say.
LONGEST_SHORT = 0xFFFE
_MANY = 500  # values; with the most that each may have, fewer are never too long


def read_as_known(dataset: Dataset) -> None:
    """Give elements of UN that the dictionary knows, and that are too long for its VR, this VR."""
    from pydicom import datadict  # noqa: PLC0415 late on purpose

    for tag in dataset.keys():  # noqa: SIM118 iteration itself would decode
        element: Any = dataset.get_item(tag)  # RawDataElement, which is a tuple, or what was decoded already
        if element.VR != "UN" or not element.is_raw or element.value is None or len(element.value) <= LONGEST_SHORT:
            continue
        try:
            vr = datadict.dictionary_VR(tag)
        except KeyError:  # a private one, whose creator alone knows
            continue
        dataset[tag] = element._replace(VR=vr.split(" ")[0], is_implicit_VR=True, is_little_endian=True)


def written_as_unknown(dataset: Dataset) -> Dataset:
    """The data set, or a copy in which values that are too long for their VR are UN already."""
    from pydicom.dataelem import RawDataElement  # noqa: PLC0415 late on purpose
    from pydicom.filebase import DicomBytesIO  # noqa: PLC0415
    from pydicom.filewriter import write_data_element  # noqa: PLC0415

    tags = [tag for tag in dataset.keys() if _is_long(dataset.get_item(tag))]  # noqa: SIM118
    if not tags:
        return dataset
    copy = type(dataset)()
    copy.update(dataset)
    for tag in tags:
        file = DicomBytesIO()
        file.is_implicit_VR = file.is_little_endian = True
        write_data_element(file, dataset[tag])
        value = file.getvalue()[8:]
        copy[tag] = RawDataElement(tag, "UN", len(value), value, 0, False, True)
    return copy


def _is_long(element: Any) -> bool:
    values = element.value
    if getattr(element, "is_raw", False) or element.VR == "SQ" or not hasattr(values, "append") or len(values) < _MANY:
        return False
    return sum(len(str(value)) + 1 for value in values) - 1 > LONGEST_SHORT
