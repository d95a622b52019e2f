"""DIMSE on the wire: command sets against pydicom's encoding, fragments out without a copy, fragments in to a sink."""

import copy
import itertools
import pickle
import re
import struct

import pytest
import reference_dimse as reference
from cases import every
from driving import ECHO, STANDARD
from hypothesis import given
from hypothesis import strategies as st
from pydicom.tag import Tag
from pydicom.uid import UID
from reference_dimse import assemble, element, value_bytes

from dicomnet.errors import InvalidArgument, MalformedPDU
from dicomnet.protocol.messages import CommandField
from dicomnet.status import Status
from dicomnet.wire.command_set import ELEMENTS as FIELDS
from dicomnet.wire.command_set import Command, decode_command

NAME = {tag: name for tag, name, _ in FIELDS}
TAG = {name: tag for tag, name, _ in FIELDS}
VR = {tag: vr for tag, _, vr in FIELDS}
SAMPLES = {
    "UI": "1.2.840.10008.1.1",
    "US": 0x1234,
    "AE": "ARCHIVE",
    "LO": "disk is full",
    "AT": (0x00100010, 0x7FE00010),
}
MESSAGES = STANDARD["dimse"]["messages"]


def tags_of(name: str) -> list[int]:
    """The elements of a message by the standard, group length apart; responses with what relates to a status."""
    tags = {int(item["tag"], 16) for item in MESSAGES[name]["elements"]} - {0}
    if 0x0900 in tags:
        tags |= {int(tag, 16) for tag in STANDARD["dimse"]["status_related_elements"].values()}
    return sorted(tags)


def values_of(name: str) -> dict[int, object]:
    """A message of this kind with everything it can hold."""
    values = {tag: SAMPLES[VR[tag]] for tag in tags_of(name)}
    values[0x0100] = int(MESSAGES[name]["command_field"], 16)
    values[0x0800] = 0x0101 if MESSAGES[name]["dataset_presence"] == "absent" else 0x0001
    return values


def command(values: dict[int, object]) -> Command:
    # The default of the data set type is that there is none; here what is not given is absent.
    return Command(**{"command_data_set_type": None} | {NAME[tag]: value for tag, value in values.items()})


def encoded(values: dict[int, object]) -> list[bytes]:
    return [element(tag, value_bytes(VR[tag], value)) for tag, value in sorted(values.items())]


EACH_ELEMENT = [pytest.param(name, tag, id=f"{name}-{NAME[tag]}") for name in MESSAGES for tag in tags_of(name)]


# ---- the dictionary ----


def test_the_elements_are_those_of_the_standard():
    dictionary = STANDARD["dimse"]["command_dictionary"]
    expected = [(int(item["tag"], 16), item["vr"]) for item in dictionary if item["tag"] != "00000000"]
    assert [(tag, vr) for tag, _, vr in FIELDS] == expected
    assert dict(expected) == reference.VR


@every("tag, name", NAME.items())
def test_an_attribute_is_called_as_its_keyword(tag, name):
    keyword = next(item["keyword"] for item in STANDARD["dimse"]["command_dictionary"] if int(item["tag"], 16) == tag)
    keyword = keyword.replace("ApplicationEntityTitle", "AETitle")
    assert name == re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", keyword).lower()


# ---- command sets: the 23 messages ----


@every("name", MESSAGES)
def test_a_message_is_encoded_as_pydicom_does_and_decoded_again(name):
    values = values_of(name)
    data = command(values).encode()
    assert data == reference.encode(values) == assemble(encoded(values))
    assert decode_command(data) == command(values)
    assert reference.decode(data) == values


@every("name, tag", EACH_ELEMENT)
def test_an_element_that_is_dropped_is_none(name, tag):
    values = values_of(name)
    del values[tag]
    found = decode_command(assemble(encoded(values)))
    assert found == command(values)
    assert getattr(found, NAME[tag]) is None
    assert found.encode() == reference.encode(values)


@every("name, tag", EACH_ELEMENT)
def test_an_element_that_is_doubled_is_refused(name, tag):
    elements = encoded(values_of(name))
    at = sorted(values_of(name)).index(tag)
    for place in (at, 0, len(elements)):
        with pytest.raises(MalformedPDU, match="twice") as caught:
            decode_command(assemble([*elements[:place], elements[at], *elements[place:]]))
        assert (caught.value.reason, caught.value.pdu_type) == (6, 4)


@every("name, tag", EACH_ELEMENT)
def test_an_element_that_is_empty_is_absent(name, tag):
    values = values_of(name)
    elements = encoded(values)
    elements[sorted(values).index(tag)] = element(tag, b"")
    del values[tag]
    assert decode_command(assemble(elements)) == command(values)


WRONG = {
    "US": [b"\x01", b"\x01\x02\x03", b"\x01\x02\x03\x04", b"17"[:1], b"0001"],
    "UI": ["1.2.ä".encode("latin-1") + b"\0", b"\xff\xff"],
    "AT": [b"\x10", b"\x10\x00", b"\x10\x00\x10", b"\x10\x00\x10\x00\x10\x00"],
    "AE": [],
    "LO": [],
}


@every("name, tag", EACH_ELEMENT)
def test_an_element_that_is_mistyped_is_refused(name, tag):
    values = values_of(name)
    elements = encoded(values)
    at = sorted(values).index(tag)
    value = value_bytes(VR[tag], values[tag])
    lies = [element(tag, value, length) for length in (0xFFFFFFFF, 0x80000000, 10_000)]
    explicit = struct.pack("<HH2sH", 0, tag, VR[tag].encode(), len(value)) + value
    other_group = element(0x00080000 | tag, value)
    for wrong in [*(element(tag, value) for value in WRONG[VR[tag]]), *lies, explicit, other_group]:
        with pytest.raises(MalformedPDU) as caught:
            decode_command(assemble([*elements[:at], wrong, *elements[at + 1 :]]))
        assert caught.value.reason == 6


@every("name", MESSAGES)
def test_order_and_group_length_do_not_matter(name):
    """DCMTK, Orthanc and pynetdicom take them all; senders of each kind exist."""
    elements = encoded(values_of(name))
    expected = command(values_of(name))
    assert decode_command(assemble(elements[::-1])) == expected
    assert decode_command(b"".join(elements)) == expected
    for length in (0, 1, 0xFFFFFFFF):
        assert decode_command(element(0, struct.pack("<L", length)) + b"".join(elements)) == expected
    assert decode_command(b"".join(elements) + element(0, b"\0\0\0\0")) == expected


@every("name", MESSAGES)
def test_a_command_set_cut_short_anywhere_but_between_elements_is_refused(name):
    elements = encoded(values_of(name))
    data = b"".join(elements)
    between = set(itertools.accumulate(map(len, elements), initial=0))
    for size in range(len(data)):
        if size in between:
            decode_command(data[:size])
        else:
            with pytest.raises(MalformedPDU, match="past the end"):
                decode_command(data[:size])


@pytest.mark.parametrize("size", range(1, 8))
def test_bytes_left_over_are_refused_even_where_they_are_zero(size):
    with pytest.raises(MalformedPDU):
        decode_command(ECHO + bytes(size))


@every("item", STANDARD["dimse"]["retired_command_elements"])
def test_retired_and_unknown_elements_are_passed_over(item):
    tag = int(item["tag"], 16)
    assert decode_command(ECHO + element(tag, b"old stuff ")) == decode_command(ECHO)
    assert decode_command(element(tag, b"") + element(0x0999, b"123") + ECHO) == decode_command(ECHO)


# ---- command sets: values ----


@pytest.mark.parametrize("padding", [b"", b"\0", b" ", b"\0\0\0", b" \0"])
def test_padding_of_texts_is_dropped(padding):
    data = element(2, b"1.2" + padding) + element(0x600, b"  ARCHIVE" + padding)
    found = decode_command(data)
    assert (found.affected_sop_class_uid, found.move_destination) == ("1.2", "ARCHIVE")


@pytest.mark.parametrize(
    "wrong",
    [
        {"message_id": -1},
        {"message_id": 65536},
        {"status": 1 << 40},
        {"affected_sop_class_uid": "1.2.ä"},
        {"affected_sop_instance_uid": "1.2.\N{DEVANAGARI DIGIT THREE}"},
        {"error_comment": "\N{GREEK CAPITAL LETTER OMEGA}"},
        {"move_destination": "\N{SNOWMAN}"},
        {"offending_element": (-1,)},
        {"attribute_identifier_list": (0x00100010, 1 << 32)},
    ],
    ids=str,
)
def test_a_value_that_its_element_cannot_hold(wrong):
    with pytest.raises(InvalidArgument):
        Command(command_field=1, **wrong).encode()


@pytest.mark.parametrize("wrong", [{"message_id": "7"}, {"error_comment": 7}, {"offending_element": 7}], ids=str)
def test_a_value_of_another_type(wrong):
    with pytest.raises((TypeError, AttributeError)):
        Command(**wrong).encode()


def test_values_of_pydicom_and_of_our_own_enums_are_taken():
    found = Command(
        affected_sop_class_uid=UID("1.2.840.10008.1.1"),
        command_field=CommandField.C_ECHO_RSP,
        status=Status.OUT_OF_RESOURCES,
        offending_element=[Tag("PatientName")],
    ).encode()
    assert found == reference.encode(
        {2: "1.2.840.10008.1.1", 0x100: 0x8030, 0x800: 0x0101, 0x900: 0xA700, 0x901: (0x00100010,)}
    )


def test_a_command_is_a_value():
    one, same, other = (Command(command_field=0x30, message_id=number) for number in (1, 1, 2))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != "a command"
    assert pickle.loads(pickle.dumps(one)) == copy.copy(one) == one
    assert repr(one) == "Command(command_field=48, message_id=1, command_data_set_type=257)"
    with pytest.raises(AttributeError):
        one.message_id = 2
    with pytest.raises(TypeError):
        Command(0x30)


def test_a_command_knows_what_it_is():
    assert not Command().is_response
    assert not Command(command_field=0x0FFF).is_response
    assert Command(command_field=0x8001).is_response
    assert not Command().has_data_set


@pytest.mark.parametrize("kind", [0x0000, 0x0001, 0x0100, 0x0102, 0xFFFF])
def test_every_data_set_type_but_one_announces_a_data_set(kind):
    assert Command(command_data_set_type=kind).has_data_set
    assert not Command(command_data_set_type=0x0101).has_data_set


TEXT = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
OF_VR = {
    "US": st.integers(0, 0xFFFF),
    "UI": st.text("0123456789.", min_size=1, max_size=64),
    "AE": TEXT,
    "LO": TEXT,
    "AT": st.lists(st.integers(0, 0xFFFFFFFF), min_size=1, max_size=5).map(tuple),
}
VALUES = st.fixed_dictionaries({}, optional={tag: OF_VR[vr] for tag, vr in VR.items()})


@given(VALUES)
def test_any_values_survive_and_are_encoded_as_pydicom_does(values):
    data = command(values).encode()
    assert decode_command(data) == command(values)
    if not any("\\" in str(value) for value in values.values()):  # pydicom takes it for several values
        assert data == reference.encode(values)


@given(VALUES, st.randoms())
def test_any_order_decodes_the_same(values, random):
    elements = encoded(values)
    random.shuffle(elements)
    assert decode_command(bytearray(b"".join(elements))) == command(values)


@given(
    st.one_of(
        st.binary(max_size=80),
        st.lists(
            st.tuples(
                st.sampled_from([*VR, 0, 0x4000, 0x00080005]), st.binary(max_size=6), st.none() | st.integers(0, 9)
            )
        ).map(lambda items: b"".join(element(*item) for item in items)),
    )
)
def test_any_bytes_are_a_command_set_or_refused(data):
    error = None
    try:
        found = decode_command(memoryview(data))
    except MalformedPDU as raised:
        error = raised
    if error is None:
        assert decode_command(found.encode()) == found
    else:
        assert error.reason == 6
        assert 0 <= error.offset <= len(data)
