"""Text elements encoded without pydicom, bit for bit as pydicom encodes them; and faults in data sets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from rig import keys

import dicomnet as dn
from dicomnet import uids
from dicomnet.dataset import codec
from dicomnet.wire.elements import encode_text, fault_of

SYNTAXES = [uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN]
KEYWORDS = {
    "AccessionNumber": st.text("AB12", max_size=16),
    "PatientName": st.sampled_from(["", "DOE^JANE", "A^B=C^D", "MÜLLER^ÄNNE", "山田^太郎"]),
    "PatientID": st.text("0123456789", max_size=20),
    "StudyInstanceUID": st.sampled_from(["", "1.2", "1.2.3", ["1.2", "1.23"]]),
    "StudyDate": st.sampled_from(["", "20260101", "20260101-", None]),
    "ModalitiesInStudy": st.sampled_from(["", "CT", ["CT", "MR"], ["CT"], []]),
    "PatientWeight": st.sampled_from(["", "70.5", 70.5, ["1", "2.5"], None]),
    "NumberOfStudyRelatedInstances": st.sampled_from(["", "12", 12, 0, None]),
    "TextValue": st.sampled_from(["", "any text", "ünicode"]),
    "Rows": st.sampled_from([None, 512]),
    "SpecificCharacterSet": st.sampled_from(["ISO_IR 100", "ISO_IR 192", "", ["", "ISO 2022 IR 87"]]),
}


def by_pydicom(dataset: Dataset, syntax: str) -> bytes:
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = syntax == uids.IMPLICIT_VR_LITTLE_ENDIAN, True
    write_dataset(file, dataset)
    return bytes(file.getvalue())


@given(st.fixed_dictionaries({}, optional=KEYWORDS), st.sampled_from(SYNTAXES))
def test_data_sets_are_encoded_as_pydicom_does(values: dict[str, Any], syntax: str) -> None:
    if values.get("SpecificCharacterSet") not in ("ISO_IR 100", "ISO_IR 192"):
        values = {key: value for key, value in values.items() if str(value).isascii()}
    dataset = keys(**values)
    if values.get("SpecificCharacterSet") == "ISO_IR 100" and "山田" in str(dataset.get("PatientName")):
        return
    assert codec.encode(dataset, syntax) == by_pydicom(dataset, syntax)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_mappings_are_data_sets_too(syntax: str) -> None:
    values = {"PatientName": "DOE", "StudyInstanceUID": "1.2.3", "ModalitiesInStudy": ["CT", "MR"], "StudyDate": None}
    assert codec.encode(values, syntax) == by_pydicom(keys(**values), syntax)
    deep = {"PatientName": "MÜLLER", "ReferencedStudySequence": [{"ReferencedSOPInstanceUID": "1.2"}], "Rows": 5}
    back = codec.decode(codec.encode(deep, syntax), syntax)
    assert (str(back.PatientName), back.Rows) == ("MÜLLER", 5)
    assert back.ReferencedStudySequence[0].ReferencedSOPInstanceUID == "1.2"
    with pytest.raises(dn.InvalidArgument, match="NoSuch"):
        codec.encode({"NoSuch": "1"}, syntax)


@pytest.mark.parametrize(
    "element",
    [(0x00280010, "US", 5), (0x00100010, "PN", b"bytes"), (0x00100010, "PN", "Ü"), (0x00100020, "LO", "x" * 70000),
     (0x00101030, "DS", 0.1 + 0.2), (0x00101030, "DS", True)],
)  # fmt: skip
def test_what_is_no_plain_text_is_left_to_others(element: Any) -> None:
    assert encode_text([element], False) is None


@given(st.binary(max_size=200), st.booleans(), st.booleans())
def test_any_bytes_have_a_fault_or_none(data: bytes, implicit: bool, little_endian: bool) -> None:
    fault = fault_of(data, implicit, little_endian)
    assert fault is None or fault
    if not data:
        assert fault is None


@given(st.integers(0, 400), st.sampled_from(SYNTAXES))
def test_a_data_set_cut_short_is_told(cut: int, syntax: str) -> None:
    item = keys(PatientID="1", ReferencedStudySequence=[keys(ReferencedSOPInstanceUID="1.2")] * 2, Rows=1)
    whole = by_pydicom(item, syntax)
    assert fault_of(whole, syntax == uids.IMPLICIT_VR_LITTLE_ENDIAN) is None
    part = whole[:cut]
    sequence = {"ReferencedStudySequence": item.ReferencedStudySequence}
    ends = [by_pydicom(keys(**values), syntax) for values in ({}, sequence, {"PatientID": "1", **sequence})]
    if cut < len(whole):
        assert (fault_of(part, syntax == uids.IMPLICIT_VR_LITTLE_ENDIAN) is None) == (part in ends)
