"""The generated UIDs against pydicom's dictionary, and the grammar of PS3.5 Section 9.1."""

from pathlib import Path

import pytest
from cases import every
from pydicom.uid import UID_dictionary

from dicomnet import uids

CONSTANTS = {name: value for name, value in vars(uids).items() if name.isupper() and isinstance(value, str)}
OURS = {"IMPLEMENTATION_CLASS_UID", "IMPLEMENTATION_VERSION_NAME"}


def test_every_constant_is_a_valid_uid_of_its_own_with_a_name():
    well_known = {name: value for name, value in CONSTANTS.items() if name not in OURS}
    assert len(set(well_known.values())) == len(well_known) > 350
    for value in well_known.values():
        assert uids.is_valid(value)
        assert uids.name_of(value) != value


def test_names_agree_with_pydicom():
    for uid, name in uids.NAMES.items():
        if uid in UID_dictionary:
            assert UID_dictionary[uid][0].removesuffix(" SOP Class") == name


@pytest.mark.parametrize(
    ("name", "uid"),
    [
        ("VERIFICATION", "1.2.840.10008.1.1"),
        ("CT_IMAGE_STORAGE", "1.2.840.10008.5.1.4.1.1.2"),
        ("IMPLICIT_VR_LITTLE_ENDIAN", "1.2.840.10008.1.2"),
        ("EXPLICIT_VR_LITTLE_ENDIAN", "1.2.840.10008.1.2.1"),
        ("DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN", "1.2.840.10008.1.2.1.99"),
        ("EXPLICIT_VR_BIG_ENDIAN", "1.2.840.10008.1.2.2"),
        ("JPEG_BASELINE_8_BIT", "1.2.840.10008.1.2.4.50"),
        ("JPEG_XL", "1.2.840.10008.1.2.4.112"),
        ("HTJ2K_LOSSLESS_RPCL", "1.2.840.10008.1.2.4.202"),
        ("STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND", "1.2.840.10008.5.1.4.1.2.2.1"),
        ("APPLICATION_CONTEXT", "1.2.840.10008.3.1.1.1"),
    ],
)
def test_well_known(name, uid):
    assert getattr(uids, name) == uid


def test_storage_classes():
    assert uids.CT_IMAGE_STORAGE in uids.STORAGE_CLASSES
    assert uids.HANGING_PROTOCOL_STORAGE in uids.STORAGE_CLASSES
    assert uids.ULTRASOUND_IMAGE_STORAGE_RETIRED in uids.STORAGE_CLASSES
    assert uids.VERIFICATION not in uids.STORAGE_CLASSES
    assert uids.STORAGE_COMMITMENT_PUSH_MODEL not in uids.STORAGE_CLASSES
    assert uids.MEDIA_STORAGE_DIRECTORY_STORAGE not in uids.STORAGE_CLASSES
    assert len(uids.STORAGE_CLASSES) > 180


def test_transfer_syntaxes():
    assert len(set(uids.TRANSFER_SYNTAXES)) == len(uids.TRANSFER_SYNTAXES) > 50
    assert uids.DEFLATED_IMAGE_FRAME_COMPRESSION in uids.TRANSFER_SYNTAXES
    assert uids.XML_ENCODING not in uids.TRANSFER_SYNTAXES


def test_implementation_identity():
    assert uids.is_valid(uids.IMPLEMENTATION_CLASS_UID)
    assert uids.IMPLEMENTATION_CLASS_UID.startswith("2.25.")
    assert len(uids.IMPLEMENTATION_VERSION_NAME) <= 16


def test_name_of_an_unknown_uid_is_the_uid():
    assert uids.name_of("1.2.3") == "1.2.3"
    assert uids.name_of(uids.CT_IMAGE_STORAGE) == "CT Image Storage"


@pytest.mark.parametrize("uid", ["1.2", "0.0", "2.25.0", "1.2.840.10008.1.1", "1." + "2" * 62, "1.0.10.100"])
def test_valid(uid):
    assert uids.is_valid(uid)


@every(
    "uid",
    [
        "", ".", "..", "1", "0", "1.", ".1", "1..2", "01.2", "1.02", "1.00", "1.2 ", " 1.2", "1.2\0", "1.2\n", "1.-2",
        "1.+2", "1.2a", "a", "../x", "/abs", "a/../../b", "C:\\x", "con", "1/2", "1\\2", "1.2/..", "1.2/../3", "~",
        "*", "1.*", "1.?", "1.\u0663", "1.\xb2", "1_0.2", "1.1e3", "1." + "2" * 63, "1.2" * 40, "1,2", "1.2;", "$(x)",
        "`x`", "%00",
    ],
)  # fmt: skip
def test_invalid(uid):
    assert not uids.is_valid(uid)


def test_the_module_is_what_its_generator_writes():
    generator = pytest.importorskip("tools.uids", reason="a wheel is tested without the tools")
    assert generator.rendered() == Path(uids.__file__).read_text(encoding="utf-8")
