"""The table of the 23 messages against the standard's (PS3.7 Sections 9.3 and 10.3), and messages on their way out."""

import re

import pytest
from cases import every
from driving import STANDARD

from dicomnet._pdu import PDV, decode_first
from dicomnet.errors import InvalidArgument, LocalProtocolError
from dicomnet.protocol import messages
from dicomnet.protocol.message_exchange import Outgoing
from dicomnet.protocol.messages import MESSAGES, CommandField, DataInMemory, DataSet, Priority
from dicomnet.wire.command_set import ELEMENTS, Command

STANDARDS = STANDARD["dimse"]["messages"]
NAME = {tag: name for tag, name, _ in ELEMENTS}
PROTOCOL = {"command_field", "command_data_set_type"}  # in every message, hence not in the table


def names_of(message: str, *requirements: str) -> set[str]:
    return {
        NAME[int(item["tag"], 16)]
        for item in STANDARDS[message]["elements"]
        if item["tag"] != "00000000" and re.match(r"[MUC]", item["requirement"])[0] in requirements
    } - PROTOCOL


def test_there_are_the_23_messages_of_the_standard():
    assert {message.name for message in MESSAGES.values()} == set(STANDARDS)
    assert len(MESSAGES) == len(CommandField) == 23
    assert {field.name.replace("_", "-"): f"{field:04X}" for field in CommandField} == STANDARD["dimse"][
        "command_field"
    ]


@every("message", MESSAGES.values())
def test_a_message_needs_and_has_what_the_standard_says(message):
    standard = STANDARDS[message.name]
    assert set(message.required) == names_of(message.name, "M")
    related = {"offending_element", "error_comment", "error_id"} if message.field & 0x8000 else set()
    tags = {"attribute_identifier_list"} & set(message.optional)  # status-related elements of their own
    assert set(message.optional) - related - tags == names_of(message.name, "U", "C") - tags
    assert message.data_set is DataSet[standard["dataset_presence"].upper()]
    assert f"{message.field:04X}" == standard["command_field"]


def test_priorities_are_those_of_the_standard():
    standard = STANDARD["dimse"]["command_set_encoding"]["Priority"]
    assert {priority.name: f"{priority:04X}" for priority in Priority} == standard


@every("message", MESSAGES.values())
def test_the_first_element_that_is_missing_is_named(message):
    whole = {name: "1.2" if "uid" in name else 1 for name in message.required}
    assert messages.missing_element(Command(command_field=message.field, **whole)) is None
    assert messages.name_of(Command(command_field=message.field)) == message.name
    for name in message.required:
        rest = {other: value for other, value in whole.items() if other != name}
        assert messages.missing_element(Command(command_field=message.field, **rest)) == name


def test_of_a_message_that_nobody_knows_nothing_is_missing():
    assert messages.missing_element(Command(command_field=0x0999)) is None
    assert messages.name_of(Command(command_field=0x0999)) == "command field 0999H"
    assert messages.name_of(Command()) == "command field 0000H"


# ---- on the way out ----

STORE = Command(command_field=1, message_id=7, command_data_set_type=1)


def pdvs_of(outgoing: Outgoing) -> list[PDV]:
    data = b""
    while not outgoing.done:
        data += b"".join(outgoing.next_piece())
    found, offset = [], 0
    while offset < len(data):
        pdu, offset = decode_first(data, offset)
        found += pdu.pdvs
    return found


class Source:
    """Gives what it is told to, whatever size it claims."""

    def __init__(self, size: int, *pieces: bytes | Exception) -> None:
        self.size = size
        self.pieces = pieces

    def chunks(self, unit: int):
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield memoryview(piece)


@every("unit", [2, 10, 1000])
@every("piece", [1, 10, 25, 1000])
@every("length", [0, 2, 8, 10, 12, 100])
def test_a_message_goes_out_whole_and_in_order(length, piece, unit):
    data = bytes(range(length))
    outgoing = Outgoing(5, STORE, DataInMemory(data, piece), unit)
    assert not outgoing.begun
    found = pdvs_of(outgoing)
    assert outgoing.begun
    assert {pdv.context_id for pdv in found} == {5}
    command = [pdv for pdv in found if pdv.is_command]
    rest = found[len(command) :]
    assert not any(pdv.is_command for pdv in rest)
    assert b"".join(pdv.data for pdv in command) == STORE.encode()
    assert b"".join(pdv.data for pdv in rest) == data
    for part in (command, rest):
        assert [pdv.is_last for pdv in part] == [False] * (len(part) - 1) + [True]
        assert all(len(pdv.data) == unit for pdv in part[:-1])


def test_data_in_memory_is_not_copied():
    data = bytearray(100)
    assert all(piece.obj is data for piece in DataInMemory(data, 10).chunks(4))
    assert [len(piece) for piece in DataInMemory(data, 10).chunks(4)] == [8] * 12 + [4]
    assert [len(piece) for piece in DataInMemory(data, 2).chunks(40)] == [40, 40, 20]


def test_data_in_memory_may_be_of_any_shape_but_not_odd():
    assert DataInMemory(memoryview(bytes(8)).cast("I"), 100).size == 8
    with pytest.raises(InvalidArgument, match="even"):
        DataInMemory(b"abc", 100)


@pytest.mark.parametrize(
    "source", [Source(8, b"abcd"), Source(2, b"abcd"), Source(4), Source(6, b"abcd", b"", b"ef")], ids=range(4)
)
def test_a_source_that_gives_something_else_than_it_said(source):
    outgoing = Outgoing(1, STORE, source, 100)
    with pytest.raises(LocalProtocolError, match="size"):
        pdvs_of(outgoing)


def test_a_source_that_fails_before_its_first_byte_has_sent_nothing():
    outgoing = Outgoing(1, STORE, Source(4, OSError("gone"), b"abcd"), 100)
    with pytest.raises(OSError, match="gone"):
        outgoing.next_piece()
    assert not outgoing.begun


def test_a_data_set_that_ends_early_sends_one_more_fragment():
    outgoing = Outgoing(1, STORE, Source(1000, b"abcd", OSError("not asked for")), 4)
    outgoing.next_piece()
    outgoing.end_early()
    (last,) = pdvs_of(outgoing)
    assert last == PDV(1, b"\0\0", False, True)
    assert outgoing.done
