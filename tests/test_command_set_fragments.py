"""Messages cut into fragments without a copy, and fragments joined into messages that go to a sink."""

import itertools

import pytest
import reference_dimse as reference
from cases import every
from driving import ACCEPTOR, ARTIM_ALONE, ECHO, Bytes, established
from hypothesis import given
from hypothesis import strategies as st
from reference_dimse import assemble, element, value_bytes

from dicomnet._pdu import PDV, Abort, PDataTF, decode, decode_first
from dicomnet.config import Limits
from dicomnet.errors import LocalProtocolError
from dicomnet.protocol.upper_layer import UpperLayer
from dicomnet.wire.command_set import ELEMENTS as FIELDS
from dicomnet.wire.command_set import Command, Message, MessageReader, decode_command, fragment_size, frame

TAG = {name: tag for tag, name, _ in FIELDS}
VR = {tag: vr for tag, _, vr in FIELDS}


def encoded(values: dict[int, object]) -> list[bytes]:
    return [element(tag, value_bytes(VR[tag], value)) for tag, value in sorted(values.items())]


# ---- fragments out ----


@every("limit", [16, 17, 4096, 1 << 20])
@every("maximum", [0, *range(8, 40), 4095, 4096, 16384, 131072, 0xFFFFFFFF])
def test_a_fragment_is_even_and_fits(maximum, limit):
    size = fragment_size(maximum, limit)
    assert size >= 2
    assert size % 2 == 0
    allowed = min(maximum or limit, limit)
    assert size + 6 <= allowed
    if allowed >= 14:
        assert size + 12 in (allowed, allowed - 1), "with the PDU's own header, since some peers count that"


@pytest.mark.parametrize("maximum", range(1, 8))
def test_a_peer_that_takes_nothing(maximum):
    with pytest.raises(LocalProtocolError):
        fragment_size(maximum, 1 << 20)


def pdvs_of(buffers) -> list[PDV]:
    """The PDVs in buffers to be sent, one PDU each."""
    data = b"".join(buffers)
    found, offset = [], 0
    while offset < len(data):
        pdu, offset = decode_first(data, offset)
        (pdv,) = pdu.pdvs
        found.append(pdv)
    return found


@pytest.mark.parametrize("is_command", [True, False])
@pytest.mark.parametrize("size", [2, 4, 10, 100])
def test_every_length_around_the_boundaries(size, is_command):
    for length in range(3 * size + 3):
        data = bytes(range(256)) * 2
        buffers = frame(5, data[:length], size, is_command, True)
        assert pdvs_of(buffers) == [
            PDV(5, piece, is_command, last) for piece, last in reference.fragments(data[:length], size)
        ]
        assert all(len(header) == 12 for header in buffers[::2])
        open_end = frame(5, data[:length], size, is_command, False)
        assert not any(pdv.is_last for pdv in pdvs_of(open_end))
        assert b"".join(pdv.data for pdv in pdvs_of(open_end)) == data[:length]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("length", [0, 2, 10, 12, 1000])
def test_what_is_sent_is_the_callers_memory(kind, length):
    data = kind(bytes(length))
    owner = data.obj if kind is memoryview else data
    buffers = frame(1, data, 10, False, True)
    headers, bodies = buffers[::2], buffers[1::2]
    assert all(body.obj is owner for body in bodies)
    assert sum(map(len, bodies)) == length
    assert len({id(header.obj) for header in headers}) == 1, "all headers in one block"


def test_a_change_of_the_callers_memory_is_sent():
    data = bytearray(b"abcd")
    buffers = frame(1, data, 10, False, True)
    data[:] = b"efgh"
    assert pdvs_of(buffers)[0].data == b"efgh"


# ---- fragments in ----


class Peer:
    """An established association, its reader, and what came of it."""

    def __init__(self, open_sink=None, limits=None, contexts=(1, 3)):
        self.sinks = []
        self.reader = MessageReader(open_sink or self.open, limits)
        self.reader.accept_contexts(contexts)
        self.upper = established(UpperLayer(limits, ARTIM_ALONE, self.reader), ACCEPTOR)
        self.upper.outgoing()
        self.upper.events()

    def open(self, context_id, command):
        self.sinks.append(Bytes())
        return self.sinks[-1]

    def send(self, *pdvs):
        self.upper.receive(PDataTF(pdvs).encode())

    def messages(self):
        return [event for event in self.upper.events() if isinstance(event, Message)]

    def abort(self):
        data = b"".join(self.upper.outgoing())
        return decode(data) if data else None


STORE = Command(command_field=1, message_id=1, command_data_set_type=1).encode()


def expected_of(sequence, announces):
    """What becomes of fragments C, C* (command, its last), D and D*: how many messages, and whether it is an abort."""
    messages, in_data = 0, False
    for kind in sequence:
        if (kind[0] == "D") is not in_data:
            return messages, True
        if kind == "C*" and announces:
            in_data = True
        elif kind in ("C*", "D*"):
            in_data = False
            messages += 1
    return messages, False


@pytest.mark.parametrize("together", [False, True], ids=["a PDU each", "one PDU"])
@pytest.mark.parametrize("announces", [True, False], ids=["data", "no data"])
@pytest.mark.parametrize("length", range(1, 6))
def test_fragments_in_every_order(length, announces, together):
    last = STORE if announces else ECHO
    pdv = {
        "C": PDV(1, element(0x4000, b"x"), True, False),
        "C*": PDV(1, last, True, True),
        "D": PDV(1, b"ab", False, False),
        "D*": PDV(1, b"cd", False, True),
    }
    for sequence in itertools.product(pdv, repeat=length):
        peer = Peer()
        fragments = [pdv[kind] for kind in sequence]
        for pdu in [fragments] if together else [[one] for one in fragments]:
            peer.send(*pdu)
        count, aborted = expected_of(sequence, announces)
        found = peer.messages()
        assert len(found) == count, sequence
        assert peer.abort() == (Abort(2, 5) if aborted else None), sequence
        for message in found:
            assert message.command == decode_command(last)
            assert (message.data is not None) is announces
            assert message.error is None
        assert [sink.end for sink in peer.sinks[:count]] == ["closed"] * (count if announces else 0)
        assert all(set(sink.written) <= set(b"abcd") for sink in peer.sinks)
        assert all(sink.end == "discarded" for sink in peer.sinks[count:] if aborted)


def test_a_message_in_two_contexts():
    peer = Peer()
    peer.send(PDV(1, STORE[:8], True, False))
    peer.send(PDV(3, STORE[8:], True, True))
    assert peer.abort() == Abort(2, 5)
    peer = Peer()
    peer.send(PDV(1, STORE, True, True), PDV(3, b"ab", False, True))
    assert peer.abort() == Abort(2, 5)
    assert peer.messages() == []


def test_two_messages_in_two_contexts():
    peer = Peer()
    peer.send(PDV(1, ECHO, True, True))
    peer.send(PDV(3, ECHO, True, True))
    assert [message.context_id for message in peer.messages()] == [1, 3]


@pytest.mark.parametrize("context_id", [5, 255])
def test_a_context_that_was_not_accepted(context_id):
    peer = Peer()
    peer.send(PDV(context_id, ECHO, True, True))
    assert peer.abort() == Abort(2, 6)


@pytest.mark.parametrize("context_id", [0, 2, 254])
def test_a_context_that_cannot_be(context_id):
    peer = Peer()
    peer.upper.receive(bytes.fromhex("04000000000800000004") + bytes([context_id, 3]) + b"ab")
    assert peer.abort() == Abort(2, 6)


@pytest.mark.parametrize("field", ["command_field", "command_data_set_type"])
def test_a_command_set_that_does_not_say_what_it_is(field):
    values = {0x100: 0x30, 0x110: 1, 0x800: 0x0101}
    del values[TAG[field]]
    peer = Peer()
    peer.send(PDV(1, assemble(encoded(values)), True, True))
    assert peer.abort() == Abort(2, 6)


@pytest.mark.parametrize("kind", [0x0000, 0x0001, 0x0100, 0x0102, 0xFFFF, 0x0101])
def test_the_data_set_type_is_taken_at_its_word(kind):
    peer = Peer()
    peer.send(PDV(1, Command(command_field=1, message_id=1, command_data_set_type=kind).encode(), True, True))
    assert len(peer.messages()) == (1 if kind == 0x0101 else 0)
    assert peer.reader.busy is (kind != 0x0101)
    peer.send(PDV(1, b"ab", False, True))
    assert peer.abort() == (Abort(2, 5) if kind == 0x0101 else None)


def test_a_data_set_may_be_empty():
    peer = Peer()
    peer.send(PDV(1, STORE, True, True))
    peer.send(PDV(1, b"", False, True))
    (message,) = peer.messages()
    assert bytes(message.data.written) == b""
    assert message.data.end == "closed"
    assert "context_id=1" in repr(message)


@pytest.mark.parametrize("announces", [True, False])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_command_set_in_small_fragments(size, announces):
    data = STORE if announces else ECHO
    peer = Peer()
    for piece, last in reference.fragments(data, size):
        peer.send(PDV(1, piece, True, last))
    if announces:
        peer.send(PDV(1, b"ab", False, True))
    assert [message.command for message in peer.messages()] == [decode_command(data)]


@pytest.mark.parametrize("in_pieces", [True, False])
@pytest.mark.parametrize("over", [0, 1, 1000])
def test_a_command_set_over_its_limit(over, in_pieces):
    limits = Limits(command_set=256)
    data = ECHO + element(0x4000, bytes(256 + over - len(ECHO) - 8))
    assert len(data) == 256 + over
    peer = Peer(limits=limits)
    for piece, last in reference.fragments(data, 100 if in_pieces else 10_000):
        peer.send(PDV(1, piece, True, last))
    assert len(peer.messages()) == (0 if over else 1)
    assert peer.abort() == (Abort(2, 6) if over else None)


@pytest.mark.parametrize("is_command", [True, False])
@pytest.mark.parametrize(("count", "taken"), [(0, True), (5, True), (6, False)])
def test_empty_fragments_are_taken_but_counted(count, taken, is_command):
    peer = Peer(limits=Limits(empty_pdvs=5))
    for _ in range(2):  # they are counted anew for each message
        if not is_command:
            peer.send(PDV(1, STORE, True, True))
        for _ in range(count):
            peer.send(PDV(1, b"", is_command, False))
        peer.send(PDV(1, ECHO if is_command else b"ab", is_command, True))
    assert len(peer.messages()) == (2 if taken else 0)
    assert peer.abort() == (None if taken else Abort(2, 6))


def test_an_odd_fragment_is_taken():
    peer = Peer()
    peer.send(PDV(1, STORE, True, True), PDV(1, b"abc", False, False), PDV(1, b"d", False, True))
    assert bytes(peer.messages()[0].data.written) == b"abcd"


def test_the_sink_gets_the_callers_memory_in_as_few_calls_as_reads():
    calls = []

    class Looking(Bytes):
        def write(self, views):
            calls.append([view.obj for view in views])
            super().write(views)

    peer = Peer(lambda context_id, command: Looking())
    first = PDataTF([PDV(1, STORE, True, True), PDV(1, b"ab", False, False), PDV(1, b"cd", False, False)]).encode()
    second = PDataTF([PDV(1, b"ef", False, False), PDV(1, b"gh", False, True)]).encode()
    buffers = [bytearray(first), bytearray(second)]
    for buffer in buffers:
        peer.upper.receive(buffer)
    assert [[id(owner) for owner in owners] for owners in calls] == [[id(buffer)] * 2 for buffer in buffers]
    assert bytes(peer.messages()[0].data.written) == b"abcdefgh"


def test_after_receive_nobody_holds_the_callers_memory():
    peer = Peer()
    peer.send(PDV(1, STORE, True, True))
    buffer = bytearray(PDataTF([PDV(1, b"ab", False, False), PDV(1, b"cd", False, False)]).encode()[:-1])
    peer.upper.receive(buffer)
    buffer.extend(b"it would be a BufferError if anybody did")


def test_the_sink_is_chosen_by_context_and_command():
    asked = []
    peer = Peer(lambda context_id, command: asked.append((context_id, command)) or Bytes())
    peer.send(PDV(3, STORE, True, True))
    assert asked == [(3, decode_command(STORE))]


FAILURES = ["open", "write", "close", "write and discard"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("no"), MemoryError()], ids=repr)
@pytest.mark.parametrize("where", FAILURES)
def test_a_sink_that_fails_is_told_about_and_the_association_goes_on(where, error):
    class Failing(Bytes):
        writes = 0

        def write(self, views):
            self.writes += 1
            if "write" in where:
                raise error

        def close(self):
            super().close()
            if where == "close":
                raise error

        def discard(self):
            super().discard()
            if "discard" in where:
                raise RuntimeError("worse")

    sink = Failing()

    def open_sink(context_id, command):
        if where == "open":
            raise error
        return sink

    peer = Peer(open_sink)
    peer.send(PDV(1, STORE, True, True), PDV(1, b"ab", False, False))
    for _ in range(3):
        peer.send(PDV(1, b"cd", False, False))
    peer.send(PDV(1, b"ef", False, True))
    peer.send(PDV(1, ECHO, True, True))
    failed, echo = peer.messages()
    assert failed.error is error
    assert failed.data is (None if where == "open" else sink)
    assert echo.error is None
    assert peer.abort() is None
    if "write" in where:
        assert sink.writes == 1, "what comes after is not written any more"
        assert sink.end == "discarded"


def test_messages_one_behind_the_other():
    peer = Peer()
    data = b"".join(
        PDataTF([PDV(1, STORE, True, True), PDV(1, bytes([number]) * 4, False, True)]).encode() for number in range(50)
    )
    peer.upper.receive(data)
    assert [bytes(message.data.written) for message in peer.messages()] == [bytes([n]) * 4 for n in range(50)]


@given(st.binary(max_size=200), st.lists(st.integers(1, 50), min_size=1), st.integers(1, 64), st.integers(1, 64))
def test_what_is_framed_comes_out_again(data, cuts, command_unit, data_unit):
    peer = Peer()
    stream = b"".join(frame(1, STORE, command_unit, True, True)) + b"".join(frame(1, data, data_unit, False, True))
    at = 0
    for cut in itertools.cycle(cuts):
        if at >= len(stream):
            break
        peer.upper.receive(stream[at : at + cut])
        at += cut
    (message,) = peer.messages()
    assert message.command == decode_command(STORE)
    assert bytes(message.data.written) == data
