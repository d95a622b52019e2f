"""Data sets rewritten between native encodings without a look at their values; faults.md D3, D7, D9 and D12."""

from __future__ import annotations

import struct
from io import BytesIO

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnet import uids
from dicomnet.config import DEEPEST_SEQUENCE
from dicomnet.dataset import codec, raw
from dicomnet.dataset.transcoding import converted
from dicomnet.errors import InvalidArgument
from dicomnet.files.instance_source import BytesSource

EXPLICIT, IMPLICIT, BIG = raw.Encoding(False, True), raw.Encoding(True, True), raw.Encoding(False, False)
UIDS = {
    EXPLICIT: uids.EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT: uids.IMPLICIT_VR_LITTLE_ENDIAN,
    BIG: uids.EXPLICIT_VR_BIG_ENDIAN,
}


def explicit(*elements: tuple[int, bytes, bytes], order: str = "<") -> bytes:
    data = b""
    for tag, vr, value in elements:
        length = (
            struct.pack(order + "HI", 0, len(value))
            if vr in (b"UN", b"OB", b"OW", b"SQ")
            else struct.pack(order + "H", len(value))
        )
        data += struct.pack(order + "HH", tag >> 16, tag & 0xFFFF) + vr + length + value
    return data


def implicit(*elements: tuple[int, bytes]) -> bytes:
    return b"".join(struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value for tag, value in elements)


PLAIN = ((0x00080016, b"UI", b"1.2.840.10008.5.1.4.1.1.7\0"), (0x00080018, b"UI", b"1.2.3\0"))


def test_private_elements_of_implicit_vr_keep_their_bytes():
    data = implicit((0x00090010, b"ACME"), (0x00091001, b"v "), (0x00091002, b"\1\2\3\4"))
    out = raw.write(raw.read(data, IMPLICIT), EXPLICIT)
    assert out == explicit((0x00090010, b"LO", b"ACME"), (0x00091001, b"UN", b"v "), (0x00091002, b"UN", b"\1\2\3\4"))
    assert raw.write(raw.read(out, EXPLICIT), IMPLICIT) == data


def test_what_is_unknown_is_little_endian_in_a_big_endian_data_set():
    data = explicit(*PLAIN, (0x00190010, b"LO", b"GEMS_ACQU_01"), (0x00191002, b"UN", b"\x90\3\0\0"), order=">")
    little = raw.write(raw.read(data, BIG), EXPLICIT)
    assert little.endswith(b"\x90\3\0\0")
    assert raw.write(raw.read(little, EXPLICIT), BIG) == data


def test_retired_curves_are_words():
    out = raw.write(raw.read(implicit((0x50003000, b"\1\0\2\0")), IMPLICIT), BIG)
    assert out == explicit((0x50003000, b"OW", b"\0\1\0\2"), order=">")


def test_a_value_that_its_vr_cannot_have_is_kept():
    data = explicit(*PLAIN, (0x00280009, b"AT", b"\xbc\x0b"))
    assert raw.write(raw.read(data, EXPLICIT), IMPLICIT).endswith(b"\xbc\x0b")
    source = BytesSource(explicit(*PLAIN, (0x00200000 | 0x9A, b"UL", b"\xbc\x0b")), UIDS[EXPLICIT])
    with pytest.raises(InvalidArgument, match=r"\(0020,009A\) \(UL\) has 2 bytes, which are no whole words"):
        converted(source, UIDS[BIG])


def test_a_value_too_long_for_its_header_is_written_as_unknown_and_read_again():
    text = b"1.2.3\\" * 12000
    out = raw.write(raw.read(implicit((0x0020000D, text)), IMPLICIT), EXPLICIT)
    assert out == explicit((0x0020000D, b"UN", text))
    assert raw.write(raw.read(out, EXPLICIT), IMPLICIT) == implicit((0x0020000D, text))


def test_a_sequence_in_un_is_implicit_vr_inside():
    item = implicit((0x00100010, b"DOE^JANE"))
    nested = struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    data = struct.pack("<HH2sHI", 0x0009, 0x1001, b"UN", 0, 0xFFFFFFFF) + nested + end
    found = raw.read(data, EXPLICIT)
    assert isinstance(found.elements[0x00091001].value, list)
    assert bytes(found.elements[0x00091001].value[0].elements[0x00100010].value) == b"DOE^JANE"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (explicit(*PLAIN)[:-1], "says it has 6 bytes, and has 5"),
        (explicit(*PLAIN) + b"\0\0\0", "3 bytes after the last element"),
        (struct.pack("<HH2sHI", 8, 0x1115, b"SQ", 0, 0xFFFFFFFF), "has no end"),
        (struct.pack("<HH2sHIHHI", 8, 0x1115, b"SQ", 0, 8, 8, 8, 0), "where an item of a sequence should begin"),
        (
            struct.pack("<HH2sHI", 8, 0x1115, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF),
            "no end",
        ),
    ],
)
def test_what_is_no_data_set_is_refused(data, said):
    with pytest.raises(InvalidArgument, match=said):
        raw.read(data, EXPLICIT)


texts = st.text("ABC ^=", max_size=8).map(lambda text: text.encode() + b" " * (len(text) % 2))
words = st.lists(st.integers(0, 65535), max_size=5)


@st.composite
def data_sets(draw, depth=0):
    """Encoded in explicit VR little endian, with nested sequences of both kinds of length."""
    elements = [(0x00080050, b"SH", draw(texts)), (0x00100010, b"PN", draw(texts))]
    numbers = struct.pack(f"<{len(found := draw(words))}H", *found)
    elements += [(0x00280010, b"US", numbers), (0x00291010, b"UN", draw(texts)), (0x7FE00010, b"OW", numbers)]
    if depth < 2 and draw(st.booleans()):
        items = b""
        for item in draw(st.lists(data_sets(depth + 1), max_size=2)):
            if draw(st.booleans()):
                items += struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item
            else:
                items += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + item + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
        elements.insert(1, (0x00081115, b"SQ", items))
    return explicit(*elements)


@given(data_sets())
def test_every_way_round_gives_the_same_bytes(data):
    for there in (IMPLICIT, BIG, EXPLICIT):
        encoded = raw.write(raw.read(data, EXPLICIT), there)
        back = raw.write(raw.read(encoded, there), EXPLICIT)
        assert raw.write(raw.read(back, EXPLICIT), there) == encoded
        if there != IMPLICIT:  # which has no VRs: what it does not know becomes UN
            assert back == data


@given(data_sets(), st.sampled_from([IMPLICIT, BIG]))
def test_pydicom_reads_the_same_values(data, there):
    def values(encoded, encoding):
        dataset = codec.decode(encoded, UIDS[encoding])
        return [(element.tag, element.value) for element in dataset.iterall() if element.VR not in ("OW", "SQ", "UN")]

    assert values(raw.write(raw.read(data, EXPLICIT), there), there) == values(data, EXPLICIT)


def test_a_data_set_that_was_printed_is_stored():
    """D3: printing decodes values, whose VRs pydicom has as an enumeration then."""
    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = uids.SECONDARY_CAPTURE_IMAGE_STORAGE, "1.2.5"
    dataset.private_block(0x9, "ACME", create=True).add_new(1, "SH", "v")
    data = codec.encode(dataset, UIDS[IMPLICIT])
    again = codec.decode(data, UIDS[IMPLICIT])
    str(again)
    assert codec.encode(again, UIDS[IMPLICIT]) == data
    assert pydicom.dcmread(BytesIO(codec.encode(again, UIDS[EXPLICIT])), force=True) is not None


SEQUENCE = struct.pack("<HH2sHI", 8, 0x1115, b"SQ", 0, 0xFFFFFFFF)
ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
PIXELS = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((SEQUENCE + ITEM) * (DEEPEST_SEQUENCE + 1), f"nested more than {DEEPEST_SEQUENCE} deep"),
        (SEQUENCE[:8], "element 00081115 ends within its header"),
        (SEQUENCE + struct.pack("<HHI", 0xFFFE, 0xE000, 100) + bytes(8), "says it has 100 bytes, and has 8"),
        (PIXELS, "encapsulated pixel data have no end"),
        (PIXELS + struct.pack("<HHI", 0xFFFE, 0xE000, 4) + bytes(4), "encapsulated pixel data have no end"),
        (PIXELS + struct.pack("<HHI", 0xFFFE, 0xE000, 100) + bytes(4), "encapsulated pixel data have no end"),
        (PIXELS + explicit(*PLAIN), "encapsulated pixel data have no end"),
    ],
)
def test_what_would_lead_too_far_is_refused(data, said):
    with pytest.raises(InvalidArgument, match=said):
        raw.read(data, EXPLICIT)


@pytest.mark.parametrize(
    ("before", "element", "vr"),
    [
        ((), (0x00081FFE, bytes(4)), b"UN"),  # of no edition of the standard
        ((0x54001004, b"\x10\0"), (0x54001010, bytes(4)), b"OW"),
        ((0x54001004, b"\x08\0"), (0x54001010, bytes(4)), b"OB"),
        ((0x00283002, b"\1\0\0\0\x10\0"), (0x00283006, bytes(2)), b"US"),
        ((0x00283002, b"\2\0\0\0\x10\0"), (0x00283006, bytes(4)), b"OW"),
    ],
)
def test_what_implicit_vr_leaves_open_is_settled_by_what_stands_around(before, element, vr):
    out = raw.write(raw.read(implicit(*filter(None, [before, element])), IMPLICIT), EXPLICIT)
    assert out.endswith(explicit((element[0], vr, element[1])))


def test_the_length_of_a_group_is_known_and_goes():
    """It would be another one in another encoding (PS3.5 Section 7.2)."""
    found = raw.read(implicit((0x00080000, bytes(4)), (0x00080018, b"1.2.3\0")), IMPLICIT)
    assert found.elements[0x00080000].vr == "UL"
    assert raw.write(found, EXPLICIT) == explicit((0x00080018, b"UI", b"1.2.3\0"))
