"""Part 10 files: the file meta information, and the walk that tells a whole data set from one that was cut."""

import copy
import io
import pickle
import random

import pydicom
import pytest
from cases import every
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from dicomnet import uids
from dicomnet.errors import InputFileError, InputProblem, InvalidArgument
from dicomnet.files.part10 import (
    GE_IMPLICIT_WITH_BIG_ENDIAN_PIXELS,
    FileMeta,
    Verdict,
    Walker,
    meta_header,
    read_meta,
)

IMPLICIT = uids.IMPLICIT_VR_LITTLE_ENDIAN
LITTLE = uids.EXPLICIT_VR_LITTLE_ENDIAN
BIG = uids.EXPLICIT_VR_BIG_ENDIAN
SYNTAXES = (IMPLICIT, LITTLE, BIG)

# File meta information

GOLDEN = (
    bytes(128)
    + b"DICM"
    + bytes.fromhex("0200 0000 554c 0400") + (140).to_bytes(4, "little")
    + bytes.fromhex("0200 0100 4f42 0000 02000000 0001")
    + bytes.fromhex("0200 0200 5549 0600") + b"1.2.3\0"
    + bytes.fromhex("0200 0300 5549 0800") + b"1.2.3.45"
    + bytes.fromhex("0200 1000 5549 1200") + b"1.2.840.10008.1.2\0"
    + bytes.fromhex("0200 1200 5549 0800") + b"2.25.99\0"
    + bytes.fromhex("0200 1300 5348 0600") + b"X_0_1 "
    + bytes.fromhex("0200 1600 4145 0400") + b"WS1 "
    + bytes.fromhex("0200 0001 5549 0400") + b"1.9\0"
    + bytes.fromhex("0200 0201 4f42 0000 04000000") + b"abc\0"
)  # fmt: skip
GOLDEN_META = FileMeta(
    "1.2.3", "1.2.3.45", IMPLICIT, "2.25.99", "X_0_1", "WS1",
    private_information_creator_uid="1.9", private_information=b"abc",
)  # fmt: skip


def test_golden_bytes():
    assert GOLDEN_META.encode() == GOLDEN
    assert int.from_bytes(GOLDEN[140:144], "little") == len(GOLDEN) - 144


def test_golden_bytes_are_read():
    meta, offset = read_meta(GOLDEN + b"\x08\x00")
    assert offset == len(GOLDEN)
    assert meta.private_information == b"abc\0"  # its length is even in the file: who padded it cannot be told
    assert meta == FileMeta(*[*fields(GOLDEN_META)[:-1], b"abc\0"])


def fields(meta: FileMeta) -> list:
    return [getattr(meta, name) for name in FileMeta.__match_args__]


uid_texts = st.from_regex(r"[0-2](\.(0|[1-9][0-9]{0,4})){1,9}", fullmatch=True)
latin_texts = st.text(st.characters(max_codepoint=0xFF), min_size=1, max_size=16).map(lambda t: t.rstrip(" \0") or "x")
metas = st.builds(
    FileMeta,
    st.none() | uid_texts,
    st.none() | uid_texts,
    uid_texts,
    st.none() | uid_texts,
    st.none() | latin_texts,
    st.none() | latin_texts,
    st.none() | latin_texts,
    st.none() | latin_texts,
    st.none() | uid_texts,
    st.none() | st.binary(max_size=20).map(lambda b: b[: len(b) & ~1]),
)


@given(metas, st.sampled_from([b"", b"\x08\x00\x05\x00", b"\0", b"\x00\x08"]))
def test_what_is_written_is_read(meta, data):
    assert read_meta(meta.encode() + data) == (meta, len(meta.encode()))


@given(uid_texts, uid_texts, st.sampled_from(SYNTAXES), st.from_regex(r"[A-Z0-9_]{1,16}", fullmatch=True))
def test_pydicom_reads_what_is_written(sop_class, sop_instance, syntax, title):
    header = meta_header(sop_class, sop_instance, syntax, title, sending_ae_title=title, receiving_ae_title="US")
    dataset = pydicom.dcmread(io.BytesIO(header))
    meta = dataset.file_meta
    assert dataset.preamble == bytes(128)
    assert meta.FileMetaInformationVersion == b"\x00\x01"
    assert meta.FileMetaInformationGroupLength == len(header) - 144
    assert meta.MediaStorageSOPClassUID == sop_class
    assert meta.MediaStorageSOPInstanceUID == sop_instance
    assert meta.TransferSyntaxUID == syntax
    assert meta.ImplementationClassUID == uids.IMPLEMENTATION_CLASS_UID
    assert meta.ImplementationVersionName == uids.IMPLEMENTATION_VERSION_NAME
    assert meta.SourceApplicationEntityTitle == meta.SendingApplicationEntityTitle == title
    assert meta.ReceivingApplicationEntityTitle == "US"
    assert read_meta(header)[0].sending_ae_title == title


def test_what_a_peer_sends_in_place_of_a_uid_can_be_written():
    meta, _ = read_meta(meta_header("", "../é x", LITTLE, ""))
    assert (meta.sop_class_uid, meta.sop_instance_uid, meta.source_ae_title) == (None, "../é x", None)


def test_pydicom_s_uids_become_plain_text():
    meta = FileMeta(pydicom.uid.UID("1.2.3"), pydicom.uid.UID("1.2.3.4"), pydicom.uid.ImplicitVRLittleEndian)
    assert [type(text) for text in fields(meta)[:3]] == [str] * 3
    assert meta.sop_instance_uid == "1.2.3.4"


@pytest.mark.parametrize(
    "arguments",
    [(None, None, None), (None, None, " \0"), (None, "1.2.\u0661", LITTLE), (None, "1" * 70000, LITTLE)],
    ids=["no syntax", "blank syntax", "not Latin-1", "too long"],
)
def test_what_no_header_can_hold_is_refused(arguments):
    with pytest.raises(InvalidArgument):
        meta_header(*arguments)


def test_a_value_is_frozen_compares_and_survives_a_pickle():
    assert pickle.loads(pickle.dumps(GOLDEN_META)) == copy.copy(GOLDEN_META) == GOLDEN_META
    assert hash(copy.copy(GOLDEN_META)) == hash(GOLDEN_META)
    assert FileMeta("1.2.3", "1.2.3.45", IMPLICIT) != GOLDEN_META
    assert GOLDEN_META != "FileMeta"
    assert "transfer_syntax_uid='1.2.840.10008.1.2'" in repr(GOLDEN_META)
    with pytest.raises(AttributeError):
        GOLDEN_META.sop_class_uid = "1.2"


def element(number: int, vr: str, value: bytes) -> bytes:
    long = b"\0\0" + len(value).to_bytes(4, "little") if vr == "OB" else len(value).to_bytes(2, "little")
    return b"\2\0" + number.to_bytes(2, "little") + vr.encode() + long + value


def implicit(number: int, value: bytes) -> bytes:
    return b"\2\0" + number.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value


START = bytes(128) + b"DICM"
SYNTAX = element(0x10, "UI", b"1.2.840.10008.1.2.1\0")


@pytest.mark.parametrize(
    "group",
    [
        SYNTAX,
        element(0, "UL", b"\xff\0\0\0") + SYNTAX,
        element(0, "UL", b"\0\0\0\0") + SYNTAX,
        element(0, "UL", b"\x00\x00\x00\xff") + SYNTAX,
        element(0x16, "AE", b"WS1 ") + SYNTAX + element(0, "UL", b"\6\0\0\0"),
        element(0x77, "LO", b"unknown ") + SYNTAX,
        element(1, "OB", b"\0\1") + SYNTAX + element(0x26, "UR", b"")[:6] + b"\0\0\4\0\0\0http",
        implicit(0, b"\x1c\0\0\0") + implicit(0x10, b"1.2.840.10008.1.2.1\0"),
    ],
    ids=["no length", "long", "short", "huge", "unsorted", "unknown", "UR", "implicit VR"],
)
def test_odd_groups_are_read(group):
    meta, offset = read_meta(START + group + b"\x08\0\5\0CS\0\0")
    assert meta.transfer_syntax_uid == LITTLE
    assert offset == 132 + len(group)


def test_a_deflated_data_set_may_look_like_more_of_the_group():
    group = element(0, "UL", len(SYNTAX).to_bytes(4, "little")) + SYNTAX
    assert read_meta(START + group + b"\2\0\xca\xfe\xba\xbe\2\0")[1] == 132 + len(group)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", InputProblem.NOT_PART10),
        (b"DICM", InputProblem.NOT_PART10),
        (START[:-1], InputProblem.NOT_PART10),
        (bytes(128) + b"MCID" + SYNTAX, InputProblem.NOT_PART10),
        (START + SYNTAX + b"\2\0\x77\0??\0\0", InputProblem.NOT_PART10),
        (START + SYNTAX + b"\2\0\x77\0UN\0\0\xff\xff\xff\xff", InputProblem.NOT_PART10),
        (START, InputProblem.MISSING_UID),
        (START + b"\x08\0\5\0CS\0\0", InputProblem.MISSING_UID),
        (START + element(0x10, "UI", b" \0"), InputProblem.MISSING_UID),
        (START + SYNTAX[:-1], InputProblem.TRUNCATED),
        (START + SYNTAX + b"\2\0\x77", InputProblem.TRUNCATED),
    ],
)
def test_what_is_no_header_is_named(data, problem):
    with pytest.raises(InputFileError) as caught:
        read_meta(data)
    assert caught.value.problem is problem


@every("end", range(len(GOLDEN)))
def test_every_cut_of_a_header_is_named_or_ends_an_element(end):
    try:
        _, offset = read_meta(GOLDEN[:end])
    except InputFileError as error:
        problem = error.problem
    else:
        assert end - offset < 2  # a group number was not to be seen any more
        return
    assert (problem is InputProblem.NOT_PART10) == (end < 132)
    assert problem is not InputProblem.CANNOT_READ


@given(st.data())
def test_a_damaged_header_is_read_or_refused(data):
    damaged = bytearray(GOLDEN)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(128, len(GOLDEN) - 1))] = data.draw(st.integers(0, 255))
    try:
        _, offset = read_meta(damaged)
    except InputFileError:
        return
    assert 132 <= offset <= len(damaged)


# The walk


def encoded(dataset: Dataset, syntax: str) -> bytes:
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = syntax == IMPLICIT, syntax != BIG
    write_dataset(file, dataset)
    return file.getvalue()


def boundaries(dataset: Dataset, syntax: str) -> set[int]:
    """Where the elements of the data set itself end."""
    ends, position = {0}, 0
    for tag in sorted(dataset.keys()):
        alone = Dataset()
        alone[tag] = dataset[tag]
        position += len(encoded(alone, syntax))
        ends.add(position)
    return ends


@st.composite
def data_sets(draw, depth: int = 0) -> Dataset:
    dataset = Dataset()
    if depth == 0 or draw(st.booleans()):
        dataset.SOPClassUID = draw(uid_texts)
        dataset.SOPInstanceUID = draw(uid_texts)
    texts = st.text("ABC^ 1", max_size=12)
    for tag, vr, values in [
        (0x00080005, "CS", st.just("ISO_IR 100")),
        (0x00100010, "PN", texts),
        (0x00180015, "LO", texts),
        (0x00280010, "US", st.integers(0, 65535)),
        (0x00284000, "LT", texts),
        (0x0040A160, "UT", texts),
        (0x00091001, "UN", st.binary(max_size=9).map(lambda b: b + b"\0" * (len(b) & 1))),
        (0x00660016, "OW", st.binary(max_size=9).map(lambda b: b * 2)),
        (0x00720074, "FD", st.floats(allow_nan=False)),
    ]:
        if draw(st.booleans()):
            dataset.add_new(tag, vr, draw(values))
    for tag in (0x00081140, 0x300A00B0):
        if depth < 3 and draw(st.integers(0, 3)) == 0:
            items = draw(st.lists(data_sets(depth=depth + 1), max_size=3))
            for item in items:
                item.is_undefined_length_sequence_item = draw(st.booleans())
            dataset.add_new(tag, "SQ", items)
            dataset[tag].is_undefined_length = draw(st.booleans())
    return dataset


@st.composite
def with_pixels(draw) -> tuple[Dataset, str]:
    """A data set and the syntax it is in, with native or encapsulated pixel data or without."""
    dataset, syntax = draw(data_sets()), draw(st.sampled_from(SYNTAXES))
    kind = draw(st.sampled_from(["none", "native", "encapsulated"]))
    if kind == "native":
        dataset.add_new(0x7FE00010, "OW", draw(st.binary(max_size=99).map(lambda b: b * 2)))
    elif kind == "encapsulated" and syntax == LITTLE:
        frames = draw(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4))
        dataset.add_new(0x7FE00010, "OB", encapsulate(frames, has_bot=draw(st.booleans())))
        dataset["PixelData"].is_undefined_length = True
        if draw(st.booleans()):
            dataset.add_new(0xFFFCFFFC, "OB", bytes(draw(st.integers(0, 10)) * 2))
    return dataset, syntax


def walk(data: bytes, syntax: str, sizes=(1 << 30,), start: int = 0) -> Walker:
    """Walk with windows of these sizes in turn."""
    walker = Walker(syntax, start, start + len(data))
    sizes = list(sizes)
    turns = 0
    while walker.verdict is Verdict.MORE:
        position = walker.position
        size = sizes[turns % len(sizes)]
        assert walker.walk(data[position - start : position - start + size], position) is walker.verdict
        assert walker.position > position or walker.verdict is not Verdict.MORE or size == 0
        turns += 1
    return walker


@given(with_pixels(), st.integers(0, 5000))
def test_a_whole_data_set_is_complete(given_set, start):
    dataset, syntax = given_set
    walker = walk(encoded(dataset, syntax), syntax, start=start)
    assert walker.verdict is Verdict.COMPLETE
    assert walker.sop_class_uid == dataset.SOPClassUID
    assert walker.sop_instance_uid == dataset.SOPInstanceUID


@given(with_pixels(), st.lists(st.integers(128, 400), min_size=1, max_size=5))
def test_it_is_so_whatever_the_windows(given_set, sizes):
    dataset, syntax = given_set
    data = encoded(dataset, syntax)
    walker = walk(data, syntax, sizes)
    assert walker.verdict is Verdict.COMPLETE
    assert (walker.sop_class_uid, walker.sop_instance_uid) == (dataset.SOPClassUID, dataset.SOPInstanceUID)
    cut = data[: len(data) * 2 // 3]
    assert walk(cut, syntax, sizes).verdict is walk(cut, syntax).verdict


def test_uids_are_found_wherever_the_first_window_ends():
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID, dataset.SOPInstanceUID = uids.CT_IMAGE_STORAGE, "2.25." + "9" * 39
    dataset.PatientID = "X"
    for syntax in SYNTAXES:
        data = encoded(dataset, syntax)
        for size in range(len(data)):
            walker = Walker(syntax, 0, len(data))
            all_told = size >= len(data) - len("X ")  # the last header says where the last value ends
            assert walker.walk(data[:size], 0) is (Verdict.COMPLETE if all_told else Verdict.MORE)
            assert walker.walk(data[walker.position :], walker.position) is Verdict.COMPLETE
            assert (walker.sop_class_uid, walker.sop_instance_uid) == (dataset.SOPClassUID, dataset.SOPInstanceUID)


@given(with_pixels())
@settings(max_examples=60)
@pytest.mark.long
def test_every_truncation_is_seen(given_set):
    dataset, syntax = given_set
    data, ends = encoded(dataset, syntax), boundaries(dataset, syntax)
    assert max(ends) == len(data)
    for size in range(len(data)):
        expected = Verdict.COMPLETE if size in ends else Verdict.TRUNCATED
        assert walk(data[:size], syntax).verdict is expected, f"{size} of {len(data)} bytes"


@given(with_pixels(), st.randoms(use_true_random=False))
@pytest.mark.long
def test_damage_never_hangs_or_crashes(given_set, chance):
    dataset, syntax = given_set
    data = bytearray(encoded(dataset, syntax))
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] = chance.choice([0, 0xFF, 0xFE, chance.randrange(256)])
    walk(bytes(data), chance.choice(SYNTAXES), [chance.randint(128, 300)])


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_noise_never_hangs_or_crashes(syntax):
    chance = random.Random(syntax)
    for size in range(600):
        walk(chance.randbytes(size), syntax, [128, 200])


def nested(depth: int, *, close: bool = True) -> bytes:
    """Sequences of undefined length, each in an item of undefined length of the one before."""
    opening = bytes.fromhex("08004011 5351 0000 ffffffff feff00e0 ffffffff")
    closing = bytes.fromhex("feff0de0 00000000 feffdde0 00000000")
    return opening * depth + (closing * depth if close else b"")


@pytest.mark.parametrize(("depth", "verdict"), [(1, 1), (63, 1), (64, 1), (65, 3), (100_000, 3)])
def test_the_depth_is_bounded(depth, verdict):
    assert walk(nested(depth), LITTLE).verdict == verdict


@pytest.mark.parametrize("depth", [1, 63, 64])
def test_an_open_sequence_at_the_end_is_a_truncation(depth):
    assert walk(nested(depth, close=False), LITTLE).verdict is Verdict.TRUNCATED


def test_unknown_of_undefined_length_holds_implicit_little_endian():
    inner = bytes.fromhex("feff00e0 ffffffff 08000500 04000000") + b"ABCD" + bytes.fromhex("feff0de0 00000000")
    for syntax, head in ((LITTLE, "09000110 554e 0000 ffffffff"), (BIG, "00091001 554e 0000 ffffffff")):
        data = bytes.fromhex(head) + inner + bytes.fromhex("feffdde0 00000000")
        assert walk(data, syntax).verdict is Verdict.COMPLETE
        assert walk(data[:-1], syntax).verdict is Verdict.TRUNCATED


STRANGE = {
    "explicit where implicit is promised": (IMPLICIT, "08000500 4353 1000 4142"),
    "implicit where explicit is promised": (LITTLE, "08000500 ff000000 4142"),
    "big endian where little is promised": (LITTLE, "00080005 4353 00ff 4142"),
    "little endian where big is promised": (BIG, "08000500 4353 ff00 4142"),
    "tags going down": (LITTLE, "10001000 504e 0200 4142 08000500 4353 ff00 4142"),
    "a tag twice": (LITTLE, "08000500 4353 0200 4142 08000500 4353 ff00 4142"),
    "group zero": (LITTLE, "00000500 4353 ff00 4142"),
    "an odd length before": (LITTLE, "08000500 4353 0300 414243 08001600 5549 ff00 4142"),
    "a short length where a long one belongs": (LITTLE, "09000110 554e 0400 41424344 4142"),
    "a VR that is none": (LITTLE, "08000500 3f3f ff00 4142"),
    "zeros at the end": (LITTLE, "08000500 4353 0200 4142 00000000"),
    "zeros at the end of big endian": (BIG, "00080005 4353 0002 4142 00000000"),
    "an empty line at the end": (LITTLE, "e07f1000 4f57 0000 02000000 4142 0d0a 0d0a"),
    "a sequence of other things than items": (LITTLE, "08004011 5351 0000 ffffffff 08000500 4353 0200"),
    "an item outside of a sequence": (LITTLE, "08000500 4353 0200 4142 feff00e0 ffffffff"),
    "an end of an item outside of it": (LITTLE, "feff0de0 00000000"),
    "the end of a sequence within its item": (
        LITTLE,
        "08004011 5351 0000 ffffffff feff00e0 ffffffff feffdde0 00000000",
    ),
    "text of undefined length": (LITTLE, "08000500 5554 0000 ffffffff 4142"),
    "explicit VR within UN": (LITTLE, "09000110 554e 0000 ffffffff feff00e0 ffffffff 08000500 4353 0600 4142"),
}


@pytest.mark.parametrize(("syntax", "data"), STRANGE.values(), ids=STRANGE)
def test_what_is_not_understood_is_never_called_truncated(syntax, data):
    assert walk(bytes.fromhex(data), syntax).verdict is Verdict.STRANGE


@pytest.mark.parametrize(
    ("syntax", "data"),
    [
        (LITTLE, ""),
        (LITTLE, "10001000 504e 0200 4142 08000500 4353 0200 4142"),
        (LITTLE, "08000500 4353 0300 414243"),
        (GE_IMPLICIT_WITH_BIG_ENDIAN_PIXELS, "08000500 02000000 4142"),
        (uids.RLE_LOSSLESS, "e07f1000 4f42 0000 ffffffff feff00e0 00000000 feff00e0 02000000 4142 feffdde000000000"),
        ("9.9.9", "08000500 4353 0200 4142"),
    ],
)  # fmt: skip
def test_what_ends_with_the_file_is_complete_even_if_it_is_odd(syntax, data):
    assert walk(bytes.fromhex(data), syntax).verdict is Verdict.COMPLETE


def test_a_cut_is_where_the_walk_stands():
    walker = walk(bytes.fromhex("08000500 4353 0200 4142 10001000 504e 0a00 4142"), LITTLE, start=300)
    assert walker.verdict is Verdict.TRUNCATED
    assert walker.position == 310


def test_a_large_value_is_not_looked_at():
    walker = Walker(LITTLE, 0, 12 + (1 << 40))
    header = bytes.fromhex("08000500 4353 0000 e07f1000 4f57 0000 f0ffffff")
    assert walker.walk(header, 0) is Verdict.MORE
    assert walker.position == 20 + 0xFFFFFFF0


def test_a_window_that_does_not_help_changes_nothing():
    walker = Walker(LITTLE, 100, 200)
    for window, offset in [(b"", 100), (b"\x08\0\5\0CS", 100), (bytes(10), 0), (bytes(500), 300)]:
        assert walker.walk(window, offset) is Verdict.MORE
        assert walker.position == 100
    assert walker.walk(b"\x08\0\5\0CS\2\0AB", 100) is Verdict.MORE
    assert walker.position == 110


def test_only_the_uids_of_the_data_set_itself_count():
    dataset, item = Dataset(), Dataset()
    item.SOPClassUID, item.SOPInstanceUID = "1.2.3", "1.2.4"
    dataset.ReferencedImageSequence = [item]
    dataset["ReferencedImageSequence"].is_undefined_length = item.is_undefined_length_sequence_item = True
    walker = walk(encoded(dataset, LITTLE), LITTLE)
    assert walker.verdict is Verdict.COMPLETE
    assert walker.sop_class_uid is walker.sop_instance_uid is None


@pytest.mark.parametrize("arguments", [(LITTLE, -1, 5), (LITTLE, 6, 5)])
def test_a_file_cannot_end_before_it_begins(arguments):
    with pytest.raises(InvalidArgument):
        Walker(*arguments)


def test_real_files_are_complete_or_truly_truncated(sample_files):
    verdicts = {}
    for path in sample_files:
        data = path.read_bytes()
        meta, offset = read_meta(data)
        if meta.transfer_syntax_uid != uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
            walker = Walker(meta.transfer_syntax_uid, offset, len(data))
            verdicts.setdefault(walker.walk(data, 0), set()).add(path.name)
    assert verdicts[Verdict.TRUNCATED] == {"MR_truncated.dcm", "rtplan_truncated.dcm"}
    assert verdicts[Verdict.STRANGE] == {"SC_rgb_jpeg.dcm"}  # implicit VR in a file that promises explicit
    assert Verdict.MORE not in verdicts


def test_real_files_are_seen_to_be_truncated(sample_files):
    chance = random.Random(0)
    for path in sample_files:
        data = path.read_bytes()
        meta, offset = read_meta(data)
        if walk(data[offset:], meta.transfer_syntax_uid).verdict is not Verdict.COMPLETE:
            continue
        for size in [len(data) - 1, len(data) - 2, *chance.choices(range(offset, len(data)), k=16)]:
            verdict = walk(data[offset:size], meta.transfer_syntax_uid).verdict
            # Now and then a cut hits the end of an element. Only the first bytes may look like another syntax.
            assert verdict is Verdict.TRUNCATED or (size < len(data) - 2 and verdict is Verdict.COMPLETE), path.name
