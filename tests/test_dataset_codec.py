"""The bridge to pydicom: what goes over the wire is what pydicom would write, and comes back as it was."""

import struct
import subprocess
import sys
import warnings
import zlib

import pydicom
import pytest
from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset

from dicomnet import uids
from dicomnet.dataset import codec, text
from dicomnet.dataset.codec import UndecodableDataSet, decode, encode, is_dataset, open_source, source_of
from dicomnet.errors import InputFileError, InputProblem, InvalidArgument
from dicomnet.files.instance_source import BytesSource
from dicomnet.files.part10 import read_meta

IMPLICIT = uids.IMPLICIT_VR_LITTLE_ENDIAN
LITTLE = uids.EXPLICIT_VR_LITTLE_ENDIAN
BIG = uids.EXPLICIT_VR_BIG_ENDIAN
DEFLATED = uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
NATIVE = (IMPLICIT, LITTLE, BIG, DEFLATED)


def identifier() -> Dataset:
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3.4"
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = "Grüße^世界"
    dataset.StudyDate = "20260101-"
    dataset.Rows = 512
    dataset.ReferencedImageSequence = [item]
    return dataset


def instance(syntax: str = LITTLE) -> Dataset:
    dataset = identifier()
    dataset.SOPClassUID = uids.CT_IMAGE_STORAGE
    dataset.SOPInstanceUID = "1.2.3"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


@pytest.mark.parametrize("syntax", NATIVE)
def test_a_data_set_survives_the_way(syntax):
    data = encode(identifier(), syntax)
    assert type(data) is bytes
    assert len(data) % 2 == 0
    again = decode(data, syntax)
    assert again == identifier()
    assert again.file_meta.TransferSyntaxUID == syntax
    assert encode(again, syntax) == data
    assert decode(memoryview(data), syntax) == decode(bytearray(data), syntax) == again


def test_golden_bytes():
    dataset = Dataset()
    dataset.PatientID = "X"
    assert encode(dataset, IMPLICIT) == b"\x10\0\x20\0\2\0\0\0X "
    assert encode(dataset, LITTLE) == b"\x10\0\x20\0LO\2\0X "
    assert encode(dataset, BIG) == b"\0\x10\0\x20LO\0\2X "
    assert zlib.decompress(encode(dataset, DEFLATED), -15) == b"\x10\0\x20\0LO\2\0X "
    assert encode(Dataset(), LITTLE) == b""
    assert decode(b"", LITTLE) == Dataset()


@pytest.mark.parametrize("syntax", NATIVE)
def test_one_encoding_is_read_and_another_written(syntax):
    for other in NATIVE:
        again = decode(encode(decode(encode(identifier(), syntax), syntax), other), other)
        assert again == identifier()


def test_real_files_come_through(sample_files):
    """What pydicom read is encoded as it was, but for group lengths and what else pydicom never writes."""
    same = 0
    for path in sample_files:
        if path.name in ("MR_truncated.dcm", "rtplan_truncated.dcm", "SC_rgb_jpeg.dcm"):
            continue
        whole = path.read_bytes()
        meta, offset = read_meta(whole)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path)
            source = source_of(dataset)
            again = decode(b"".join(source.chunks(2)), source.transfer_syntax_uid)
        assert source.name == str(path)
        assert source.sop_instance_uid == dataset.SOPInstanceUID
        assert source.transfer_syntax_uid == meta.transfer_syntax_uid
        assert again.get("PixelData") == dataset.get("PixelData")
        same += bytes(next(source.chunks(2))) == whole[offset:]
    assert same > len(sample_files) * 0.9


def test_pixel_data_of_a_new_dataset_are_written_as_the_syntax_wants_them():
    dataset = instance(uids.RLE_LOSSLESS)
    dataset.PixelData = pydicom.encaps.encapsulate([b"frame"])
    dataset["PixelData"].VR = "OB"
    assert encode(dataset, uids.RLE_LOSSLESS).endswith(b"frame\0\xfe\xff\xdd\xe0\0\0\0\0")
    dataset = instance()
    dataset.PixelData = b"abcd"
    dataset["PixelData"].VR = "OW"
    assert encode(dataset, LITTLE).endswith(b"\xe0\x7f\x10\0OW\0\0\4\0\0\0abcd")


@pytest.mark.parametrize(
    ("own", "wanted"), [(LITTLE, uids.RLE_LOSSLESS), (uids.RLE_LOSSLESS, LITTLE), (LITTLE, BIG), (BIG, IMPLICIT)]
)
def test_pixel_data_are_not_converted(own, wanted):
    dataset = instance(own)
    dataset.PixelData = b"abcd"
    dataset["PixelData"].VR = "OW"
    with pytest.raises(InvalidArgument, match="the pixel data are in") as caught:
        encode(dataset, wanted)
    assert uids.name_of(own) in str(caught.value)
    del dataset.PixelData
    assert encode(dataset, BIG)


def test_little_endian_pixel_data_go_into_all_little_endian_syntaxes():
    dataset = instance(LITTLE)
    dataset.PixelData = b"abcd"
    dataset["PixelData"].VR = "OW"
    for syntax in (LITTLE, IMPLICIT, DEFLATED):
        assert decode(encode(dataset, syntax), syntax).PixelData == b"abcd"


@pytest.mark.parametrize("tag", [0x00000002, 0x00020010])
def test_commands_and_file_meta_information_are_no_data_set(tag):
    dataset = identifier()
    dataset.add_new(tag, "UI", "1.2.3")
    with pytest.raises(InvalidArgument, match="belongs to a command or to file meta information"):
        encode(dataset, LITTLE)


def test_a_value_that_cannot_be_encoded_is_named():
    dataset = identifier()
    dataset.add(DataElement("Rows", "US", 70_000, validation_mode=IGNORE))
    with pytest.raises(InvalidArgument, match="cannot be encoded"):
        encode(dataset, LITTLE)


@pytest.mark.parametrize(
    "data", [b"\xff" * 100, b"\x08\0\5\0CS\xff\0x", b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\1\2\3\4"]
)
@pytest.mark.parametrize("syntax", NATIVE)
def test_bytes_that_are_no_data_set(data, syntax):
    """pydicom takes some garbage; where it does not, the error is ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            decode(data, syntax)
        except UndecodableDataSet as error:
            refusal = str(error)
            assert (error.data, error.transfer_syntax) == (data, syntax)  # noqa: PT017
        else:
            return
    assert uids.name_of(syntax) in refusal or "deflated" in refusal


def test_bytes_are_encoded_already():
    for data in (b"ab", bytearray(b"ab"), memoryview(b"ab")):
        assert encode(data, LITTLE) == b"ab"


@pytest.mark.long
def test_a_deflated_bomb_does_not_go_off():
    bomb = zlib.compress(bytes(300 << 20), 9, wbits=-15)
    assert len(bomb) < 400_000
    with pytest.raises(UndecodableDataSet, match="more than"):
        decode(bomb, DEFLATED)


def test_a_cut_deflated_data_set_is_an_error():
    data = encode(identifier(), DEFLATED)
    with pytest.raises(UndecodableDataSet, match="no end"):
        decode(data[:-9], DEFLATED)


# Sources


def test_a_dataset_is_a_source():
    for opener in (source_of, open_source):
        source = opener(instance())
        assert isinstance(source, BytesSource)
        assert bytes(next(source.chunks(1000))) == encode(instance(), LITTLE)
        assert (source.sop_class_uid, source.sop_instance_uid) == (uids.CT_IMAGE_STORAGE, "1.2.3")
        assert source.transfer_syntax_uid == LITTLE
        assert source.name == "data set 1.2.3"
        assert {type(text) for text in (source.sop_class_uid, source.transfer_syntax_uid)} == {str}


def test_the_transfer_syntax_is_its_own_or_told():
    dataset = instance()
    assert source_of(dataset, IMPLICIT).transfer_syntax_uid == LITTLE
    del dataset.file_meta
    assert source_of(dataset, IMPLICIT).transfer_syntax_uid == IMPLICIT
    with pytest.raises(InputFileError, match=r"data set 1\.2\.3: it has no Transfer Syntax UID") as caught:
        source_of(dataset)
    assert caught.value.problem is InputProblem.MISSING_UID


def test_uids_of_the_file_meta_information_serve():
    dataset = instance()
    del dataset.SOPClassUID
    del dataset.SOPInstanceUID
    with pytest.raises(InputFileError, match="it has no SOP Instance UID"):
        source_of(dataset)
    dataset.file_meta.MediaStorageSOPClassUID = uids.CT_IMAGE_STORAGE
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.4"
    assert source_of(dataset).sop_instance_uid == "1.2.4"


def test_other_things_are_opened_too(sample_files):
    with open_source(sample_files[0], buffer=bytearray(1 << 16)) as source:
        assert source.name == str(sample_files[0])
    with pytest.raises(InvalidArgument):
        open_source(None)


def test_what_is_a_dataset():
    assert is_dataset(Dataset())
    assert is_dataset(pydicom.FileDataset("x", {}))
    assert not is_dataset({})
    assert not is_dataset(None)


def test_pydicom_is_loaded_when_it_is_needed():
    program = (
        "import sys; from dicomnet.dataset import codec\n"
        "assert not codec.is_dataset({})\n"
        "late = {'pydicom', 'numpy'} & set(sys.modules)\n"
        "assert not late, late\n"
        "codec.decode(b'', '1.2.840.10008.1.2'); assert 'pydicom' in sys.modules"
    )
    subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path = {sys.path!r}\n{program}"], check=True)


def test_all_names_exist():
    assert all(hasattr(codec, name) for name in codec.__all__)


@pytest.mark.parametrize("value", [5, "x", [1], ["x"], {"Modality": "CT"}, b"x"])
def test_a_sequence_of_what_is_no_mapping_is_refused(value):
    with pytest.raises(InvalidArgument, match="its items are mappings, in a list"):
        codec.from_keywords({"ScheduledProcedureStepSequence": value})


@pytest.mark.parametrize("value", [5, [5], ["1.2", 5]])
def test_a_uid_that_is_no_text_is_refused(value):
    with pytest.raises(InvalidArgument, match="StudyInstanceUID"):
        codec.from_keywords({"StudyInstanceUID": value})


def test_what_is_left_out_or_named_keeps_the_file_meta_information():
    given = instance()
    given.add_new(0x00000002, "UI", "1.2")
    kept = codec.without_commands(given)
    assert (0x00000002 in kept, kept.file_meta) == (False, given.file_meta)
    given = instance()
    del given.SpecificCharacterSet
    named = text.named(given)
    assert (named.SpecificCharacterSet, named.file_meta) == ("ISO_IR 192", given.file_meta)
    assert "SpecificCharacterSet" not in given


def test_an_attribute_that_there_is_not_is_named():
    assert codec.tags([0x00100010, "PatientID"]) == (0x00100010, 0x00100020)
    assert codec.tags([]) is None
    with pytest.raises(InvalidArgument, match="there is no attribute 'PatientNames'"):
        codec.tags(["PatientNames"])


def test_a_long_private_value_of_unknown_vr_stays_bytes():
    value = b"x" * 70_000
    data = struct.pack("<HH2sHI", 0x0009, 0x1001, b"UN", 0, len(value)) + value
    assert codec.decode(data, uids.EXPLICIT_VR_LITTLE_ENDIAN)[0x0009, 0x1001].value == value


def test_an_attribute_of_unknown_vr_is_no_private_one():
    assert codec.from_keywords({"SelectorUNValue": b"ab"})["SelectorUNValue"].VR == "UN"
