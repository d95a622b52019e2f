"""Edited instances: what a rule changes and what stays byte for byte (a line one forgets)."""

from __future__ import annotations

import peers
import pydicom
import pytest
from pydicom.dataset import Dataset
from routers import address, data_set, everything_to, part10, routing, send, settled

from dicomnet import uids
from dicomnet.dataset import codec
from dicomnet.errors import DicomNetError, InvalidArgument
from dicomnet.router.actions import Edit
from dicomnet.router.transform import Editor, hashed_uid
from dicomnet.testing import Provider

LITTLE = uids.EXPLICIT_VR_LITTLE_ENDIAN
SYNTAXES = (
    LITTLE, uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_BIG_ENDIAN, uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)  # fmt: skip
USUAL = {"SOPInstanceUID": "1.2.3", "PatientID": "P1", "Modality": "CT", "Rows": 512}


def editor(*operations, **more):
    return Editor(Edit.model_validate({"do": "edit", "operations": operations} | more), "ROUTER")


def edited(dataset, *operations, syntax=LITTLE, **more) -> Dataset:
    data = codec.encode(dataset if isinstance(dataset, Dataset) else codec.from_keywords(dataset), syntax)
    result = editor(*operations, **more).edited(data, syntax)
    assert len(result) % 2 == 0
    return codec.decode(result, syntax)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_each_operation_in_each_syntax(syntax):
    found = edited(
        USUAL | {"PatientComments": "x"},
        {"op": "set", "element": "AccessionNumber", "value": "A1"},
        {"op": "set", "element": "Columns", "value": "77"},
        {"op": "copy", "element": "PatientID", "to": "StudyID"},
        {"op": "map", "element": "Modality", "table": {"CT": "MR"}},
        {"op": "map", "element": "PatientID", "table": {"other": "y", "*": "anon"}},
        {"op": "remove", "element": "PatientComments"},
        {"op": "map", "element": "Manufacturer", "table": {"*": "absent ones stay absent"}},
        syntax=syntax,
    )
    assert (found.AccessionNumber, found.StudyID, found.Modality, found.PatientID) == ("A1", "P1", "MR", "anon")
    assert (found.Rows, found.Columns) == (512, 77)
    assert "PatientComments" not in found
    assert "Manufacturer" not in found


def test_original_attributes_say_what_was_there(request):
    found = edited(
        USUAL | {"PatientComments": "odd"},
        {"op": "set", "element": "PatientID", "value": "Q"},
        {"op": "set", "element": "PatientID", "value": "R"},
        {"op": "remove", "element": "PatientComments"},
        {"op": "remove", "element": "Manufacturer"},
    )
    [item] = found.OriginalAttributesSequence
    [before] = item.ModifiedAttributesSequence
    assert [element.keyword for element in before] == ["PatientID", "PatientComments"]
    assert (before.PatientID, before.PatientComments) == ("P1", "odd")
    assert (item.ModifyingSystem, item.ReasonForTheAttributeModification) == ("ROUTER", "COERCE")
    again = edited(found, {"op": "set", "element": "PatientID", "value": "S"})
    assert [one.ModifiedAttributesSequence[0].PatientID for one in again.OriginalAttributesSequence] == ["P1", "R"]


def test_nested_and_private_elements():
    steps = [{"ScheduledProcedureStepID": one} for one in "AB"]
    dataset = codec.from_keywords(USUAL | {"RequestAttributesSequence": steps})
    dataset.private_block(0x0009, "ACME", create=True).add_new(2, "LO", "secret")
    found = edited(
        dataset,
        {"op": "set", "element": "RequestAttributesSequence[1]/ScheduledProcedureStepID", "value": "C"},
        {"op": "set", "element": "RequestAttributesSequence/RequestedProcedureID", "value": "R"},
        {"op": "remove", "element": "0009,{ACME},02"},
    )
    assert [one.ScheduledProcedureStepID for one in found.RequestAttributesSequence] == ["A", "C"]
    assert [one.RequestedProcedureID for one in found.RequestAttributesSequence] == ["R", "R"]
    assert (0x0009, 0x1002) not in found
    original = found.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
    assert [one.ScheduledProcedureStepID for one in original.RequestAttributesSequence] == ["A", "B"]
    assert original[0x0009, 0x1002].value == "secret"


class TestCharacterSets:
    GREEK = "\u0391\u03b8\u03ae\u03bd\u03b1"

    def test_new_text_goes_into_the_set_that_is_there(self):
        dataset = USUAL | {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "M\xfcller"}
        found = edited(dataset, {"op": "set", "element": "StudyDescription", "value": "Sch\xe4del"})
        assert (found.SpecificCharacterSet, found.StudyDescription) == ("ISO_IR 100", "Sch\xe4del")

    def test_text_that_it_cannot_hold_makes_all_of_it_utf_8(self):
        nested = [{"RequestedProcedureDescription": "Sch\xe4del"}]
        dataset = USUAL | {
            "SpecificCharacterSet": "ISO_IR 100", "PatientName": "M\xfcller", "RequestAttributesSequence": nested
        }  # fmt: skip
        found = edited(dataset, {"op": "set", "element": "StudyDescription", "value": self.GREEK})
        assert (found.SpecificCharacterSet, found.StudyDescription, found.PatientName) == (
            "ISO_IR 192", self.GREEK, "M\xfcller"
        )  # fmt: skip
        assert found.RequestAttributesSequence[0].RequestedProcedureDescription == "Sch\xe4del"

    def test_what_was_there_before_is_readable_then_too(self):
        dataset = USUAL | {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "M\xfcller"}
        found = edited(dataset, {"op": "set", "element": "PatientName", "value": self.GREEK})
        assert found.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].PatientName == "M\xfcller"


class TestUids:
    def test_they_are_the_same_for_one_key_and_well_known_ones_stay(self):
        dataset = USUAL | {
            "SOPClassUID": uids.CT_IMAGE_STORAGE, "StudyInstanceUID": "1.2",
            "ReferencedImageSequence": [{"ReferencedSOPInstanceUID": "1.2.3"}],
        }  # fmt: skip
        found = edited(dataset, {"op": "hash_uids"}, uid_key="k")
        again = edited(dataset, {"op": "hash_uids"}, uid_key="k", syntax=SYNTAXES[1])
        assert found.SOPClassUID == uids.CT_IMAGE_STORAGE
        assert found.SOPInstanceUID == again.SOPInstanceUID == hashed_uid("1.2.3", "k")
        assert found.ReferencedImageSequence[0].ReferencedSOPInstanceUID == found.SOPInstanceUID
        assert found.StudyInstanceUID != found.SOPInstanceUID != hashed_uid("1.2.3", "other")
        assert uids.is_valid(str(found.SOPInstanceUID))
        assert "OriginalAttributesSequence" not in found, "they are not to be found again"

    def test_one_alone(self):
        found = edited(USUAL | {"StudyInstanceUID": "1.2"}, {"op": "hash_uids", "element": "StudyInstanceUID"})
        assert (found.SOPInstanceUID, found.StudyInstanceUID) == ("1.2.3", hashed_uid("1.2", ""))


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ({"op": "set", "element": "Rows", "value": "many"}, "no value of (0028,0010), a US"),
        ({"op": "set", "element": "RequestAttributesSequence", "value": "x"}, "is a sequence"),
        ({"op": "set", "element": "Modality", "value": "\xe4"}, "which is ASCII"),
        ({"op": "set", "element": "0009,0001", "value": "x"}, "is not in the dictionary"),
    ],
)
def test_what_cannot_be_written_is_refused(operation, words):
    with pytest.raises(InvalidArgument) as caught:
        edited(USUAL, operation)
    assert words in str(caught.value)


def test_pixel_data_stay_byte_for_byte_in_real_files():
    checked = 0
    for path in peers.sample_files():
        try:
            with codec.open_source(str(path)) as source:
                data, syntax = b"".join(map(bytes, source.chunks(2))), source.transfer_syntax_uid
            before = codec.decode(data, syntax)
            result = editor({"op": "set", "element": "PatientID", "value": "X"}).edited(data, syntax)
        except DicomNetError:
            continue  # truncated, or odd, on purpose
        if "PixelData" not in before:
            continue
        after, pixels = codec.decode(result, syntax), before.PixelData
        assert after.PixelData == pixels, path.name
        assert {one.tag for one in before if one.tag.element} <= {one.tag for one in after}, path.name
        checked += 1
    assert checked > 60


def test_an_edited_instance_arrives_as_another_with_new_meta_information(tmp_path):
    rules = everything_to(A=address("A@h:1")).replace(
        "actions = [", 'actions = [{ do = "edit", uid_key = "k", operations = [{ op = "hash_uids" }, '
        '{ op = "set", element = "PatientID", value = "RESEARCH" }] }, { do = "copy", to = "F" }, '
    )  # fmt: skip
    rules += f'[destinations.F]\nkind = "folder"\npath = "{tmp_path}/out"\n'
    with Provider("A") as archive:
        with routing(tmp_path / "router", rules.replace("A@h:1", archive.peer)) as router:
            send(router, part10(1, size=4096))
            assert settled(router) == {"A": {"sent": 1}, "F": {"sent": 1}}
        [request] = archive.received
    assert request.sop_instance_uid == hashed_uid("1.2.1.1.1", "k")
    [file] = (tmp_path / "out").rglob("*.dcm")
    assert file.relative_to(tmp_path / "out").parts[:2] == ("RESEARCH", hashed_uid("1.2.1", "k"))
    written = pydicom.dcmread(file)
    assert written.file_meta.MediaStorageSOPInstanceUID == written.SOPInstanceUID == request.sop_instance_uid
    assert written.PixelData == codec.decode(data_set(1, size=4096), LITTLE).PixelData


def test_what_leads_nowhere_changes_nothing():
    found = edited(
        USUAL | {"RequestAttributesSequence": [{"ScheduledProcedureStepID": "A"}]},
        {"op": "copy", "element": "StudyID", "to": "AccessionNumber"},
        {"op": "copy", "element": "ScheduledStepAttributesSequence/StudyInstanceUID", "to": "AccessionNumber"},
        {"op": "map", "element": "Modality", "table": {"MR": "CT"}},
    )
    assert "AccessionNumber" not in found
    assert "OriginalAttributesSequence" not in found


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_numbers_with_a_point_and_private_ones(syntax):
    dataset = codec.from_keywords(USUAL | {"DiffusionBValue": 1.5, "RecommendedDisplayFrameRateInFloat": 0.5})
    dataset.private_block(0x0009, "ACME", create=True).add_new(1, "LO", "old")
    found = edited(
        dataset,
        {"op": "set", "element": "DiffusionBValue", "value": "2.25"},
        {"op": "set", "element": "RecommendedDisplayFrameRateInFloat", "value": "30"},
        {"op": "copy", "element": "Rows", "to": "AccessionNumber"},
        {"op": "set", "element": "0009,{ACME},01", "value": "new"},
        {"op": "set", "element": "0009,{ACME},02", "value": "made"},
        syntax=syntax,
    )
    assert (found.DiffusionBValue, found.RecommendedDisplayFrameRateInFloat) == (2.25, 30)
    assert found.AccessionNumber == "512"
    texts = [found[0x0009, element].value for element in (0x1001, 0x1002)]
    assert [(one.decode() if isinstance(one, bytes) else one).strip() for one in texts] == ["new", "made"]


def test_bytes_that_are_no_data_set_of_their_syntax_are_refused():
    with pytest.raises(InvalidArgument):
        editor({"op": "set", "element": "PatientID", "value": "x"}).edited(b"\xff" * 40, LITTLE)
