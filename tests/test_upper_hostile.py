"""What a peer can do to the upper layer: cut, lie, speak another protocol, flood, come in any order."""

import itertools
import random
import time

import pytest
from cases import every
from driving import (
    AC,
    ACCEPTOR,
    ARTIM,
    ARTIM_ALONE,
    DATA,
    ECHO,
    IMPLICIT,
    INVALID,
    REQUESTOR,
    RJ,
    ROUTES,
    RQ,
    STORE,
    VERIFICATION,
    Bytes,
    bring,
    connected,
    established,
    opened,
    pdus,
    reader,
    sent_by,
)
from hypothesis import given
from hypothesis import strategies as st

from dicomnet._pdu import (
    PDV,
    Abort,
    AssociateRJ,
    AssociateRQ,
    MaximumLength,
    PDataTF,
    PresentationContextRQ,
    ReleaseRP,
    ReleaseRQ,
)
from dicomnet.config import Limits
from dicomnet.protocol import events
from dicomnet.protocol.states import State
from dicomnet.protocol.upper_layer import UpperLayer
from dicomnet.wire.command_set import Message

# ---- any cut gives the same --------------------------------------------------------------------------------------

BODY = bytes(range(256))
STORE_PDUS = (
    PDataTF([PDV(1, STORE[:20], True, False)]),
    PDataTF([PDV(1, STORE[20:], True, True), PDV(1, BODY[:10], False, False), PDV(1, b"", False, False)]),
    PDataTF([PDV(1, BODY[10:], False, True)]),
)

#: A session is what the peer sends between two answers of ours, and each answer as a verb and its argument.
SESSIONS = {
    "stored and released": (ACCEPTOR, [(RQ, "accept", AC), (*STORE_PDUS, ReleaseRQ(), "release_response")]),
    "rejected by us": (ACCEPTOR, [(RQ, "reject", RJ), (ReleaseRQ(), DATA, Abort(0, 0))]),
    "rejected by the peer": (REQUESTOR, [(RJ,)]),
    "a message right behind the acceptance": (REQUESTOR, [(AC, DATA, DATA)]),
    "released by us": (REQUESTOR, [(AC, "release"), (DATA, ReleaseRP())]),
    "release collision, requestor": (REQUESTOR, [(AC, "release"), (ReleaseRQ(), "release_response"), (ReleaseRP(),)]),
    "release collision, acceptor": (
        ACCEPTOR,
        [(RQ, "accept", AC), ("release",), (ReleaseRQ(), ReleaseRP(), "release_response")],
    ),
    "aborted by the peer": (ACCEPTOR, [(RQ, "accept", AC), (STORE_PDUS[0], STORE_PDUS[1], Abort(2, 0))]),
    "aborted by us in a data set": (ACCEPTOR, [(RQ, "accept", AC), (*STORE_PDUS[:2], "abort"), (STORE_PDUS[2], DATA)]),
    "data before an association": (ACCEPTOR, [(DATA, RQ, ReleaseRQ())]),
    "a second request": (ACCEPTOR, [(RQ, "accept", AC), (DATA, RQ, DATA, Abort(0, 0))]),
    "noise": (ACCEPTOR, [(RQ, "accept", AC), (DATA, b"GET / HTTP/1.1\r\n\r\n", DATA)]),
    "a PDV that reaches past its PDU": (
        ACCEPTOR,
        [(RQ, "accept", AC), (DATA, "04000000000800000006010341424344", DATA)],
    ),
    "a PDV that leaves bytes over": (ACCEPTOR, [(RQ, "accept", AC), ("0400000000090000000401034142434445", DATA)]),
    "a command that overruns": (ACCEPTOR, [(RQ, "accept", AC), (PDataTF([PDV(1, ECHO[:-3], True, True)]), DATA)]),
    "a context that was not accepted": (ACCEPTOR, [(RQ, "accept", AC), (PDataTF([PDV(3, ECHO, True, True)]), DATA)]),
    "an invalid PDU": (ACCEPTOR, [(RQ, "accept", AC), (DATA, INVALID, DATA)]),
    "lost in the middle": (ACCEPTOR, [(RQ, "accept", AC), (*STORE_PDUS[:2],)]),
}
VERBS = {"accept", "reject", "release", "release_response", "abort"}


def flights(session):
    """The session as alternating bytes of the peer and verbs of ours."""
    for flight in session:
        data, verb = b"", None
        for part in flight:
            if isinstance(part, bytes):
                data += part
            elif part in VERBS if isinstance(part, str) else False:
                verb = part
            elif isinstance(part, str):
                data += bytes.fromhex(part)
            elif verb is None:
                data += part.encode()
            else:
                yield data, (verb, part)
                break
        else:
            yield data, verb and (verb,)


def play(role, session, cut, with_reader=True):
    """Everything that came of a session whose bytes arrive as ``cut`` cuts them."""
    upper = UpperLayer(Limits(empty_pdvs=3), ARTIM_ALONE, reader(Limits(empty_pdvs=3)) if with_reader else None)
    upper.tick(0.0)
    if role == REQUESTOR:
        upper.on_accept = lambda accept: None
        connected(upper)
    else:
        opened(upper)
    sent, happened = b"", []
    for data, verb in flights(session):
        for piece in cut(data):
            buffer = bytearray(piece)
            upper.receive(buffer)
            buffer[:] = bytes(len(buffer))  # whoever still looks at it sees nothing
        if verb:
            getattr(upper, verb[0])(*verb[1:])
        sent += b"".join(upper.outgoing())
        happened += map(described, upper.events())
    state = upper.state
    upper.receive_eof()
    happened += map(described, upper.events())
    return sent, happened, state, upper.abort_reason, upper.abort_detail


def described(event):
    if not isinstance(event, Message):
        return event
    sink = event.data
    return event.context_id, event.command, sink and (bytes(sink.written), sink.end)


def whole(data):
    return [data]


def byte_by_byte(data):
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize("with_reader", [True, False], ids=["reader", "plain"])
@every("name", SESSIONS)
def test_no_single_cut_makes_a_difference(name, with_reader):
    role, session = SESSIONS[name]
    expected = play(role, session, whole, with_reader)
    assert play(role, session, byte_by_byte, with_reader) == expected
    longest = max(len(data) for data, _ in flights(session))
    for at in range(1, longest):
        assert play(role, session, lambda data, at=at: [data[:at], data[at:]], with_reader) == expected


@given(name=st.sampled_from(sorted(SESSIONS)), seed=st.integers(0, 2**32))
def test_no_cuts_make_a_difference(name, seed):
    role, session = SESSIONS[name]
    generator = random.Random(seed)

    def cut(data):
        places = sorted(generator.choices(range(len(data) + 1), k=generator.randrange(8)))
        return [data[start:stop] for start, stop in itertools.pairwise([0, *places, len(data)])]

    assert play(role, session, cut) == play(role, session, whole)


def test_a_session_is_what_it_is_called():
    """The recorded sessions end as their names say, so that they are worth cutting."""
    sent, happened, state, _, _ = play(*SESSIONS["stored and released"], whole)
    assert [type(pdu).__name__ for pdu in pdus(sent)] == ["AssociateAC", "ReleaseRP"]
    assert happened[1][2] == (BODY, "closed")
    assert state is State.STA13_AWAIT_TRANSPORT_CLOSE
    for name in ("release collision, requestor", "release collision, acceptor"):
        _, happened, _, _, _ = play(*SESSIONS[name], whole)
        assert events.ReleaseIndication(True) in happened
        assert events.ReleaseConfirmation() in happened
    assert play(*SESSIONS["a PDV that reaches past its PDU"], whole)[3] == 6
    assert play(*SESSIONS["a PDV that leaves bytes over"], whole)[3] == 6
    assert play(*SESSIONS["a command that overruns"], whole)[3] == 6


# ---- T-FOREIGN ----------------------------------------------------------------------------------------------------

FOREIGN = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: archive\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(190),
    "SSH": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
    "SMB": bytes.fromhex("00000054fe534d4240000000") + bytes(76),
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "HL7": b"\x0bMSH|^~\\&|ADT|HOSPITAL|||20260101||ADT^A01|1|P|2.5\r\x1c\r",
    "RDP": bytes.fromhex("0300002b26e00000000000436f6f6b69653a206d737473686173683d"),
    "MySQL": bytes.fromhex("4a0000000a352e352e352d31302e31312e34"),
    "LDAP": bytes.fromhex("300c020101600702010304008000"),
    "SMTP": b"EHLO scanner.example\r\n",
    "PROXY": b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 11112\r\n",
    "zeros": bytes(64),
    "ones": b"\xff" * 64,
}


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
@every("name", FOREIGN)
def test_another_protocol_gets_one_abort_and_nothing_of_it_is_parsed(name, cut):
    for build, answer in [
        # AA-1 gives the source service-user by the text, whose reason is not significant; AA-8 says what was wrong.
        (opened, Abort(0, 0)),
        (connected, Abort(2, 1)),
        (lambda upper: established(upper, ACCEPTOR), Abort(2, 1)),
    ]:
        upper = bring(build, now=0.0)
        for piece in cut(FOREIGN[name] + FOREIGN["HTTP"] * 1000 + RQ.encode()):
            upper.receive(piece)
        first = FOREIGN[name][0]
        expected = answer if first > 7 or first == 0 or answer.source == 0 else Abort(2, 6)
        assert sent_by(upper) == [expected]
        assert upper.state is State.STA13_AWAIT_TRANSPORT_CLOSE
        assert upper.abort_reason == (1 if first > 7 or first == 0 else 6)
        upper.tick(ARTIM)
        assert upper.closed


@every("kind", [0, *range(8, 256)])
def test_an_unknown_type_is_judged_by_its_first_byte(kind):
    upper = bring(lambda upper: established(upper, REQUESTOR))
    upper.receive(bytes([kind]))
    assert sent_by(upper) == [Abort(2, 1)]


# ---- T-VER ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0x0001, 0x0003, 0x8001, 0xFFFF, 0x0000, 0x0002, 0x8000, 0xFFFE])
def test_only_bit_0_of_the_protocol_version_counts(version):
    upper = bring(opened, now=0.0)
    upper.tick(10.0)
    upper.receive(
        AssociateRQ("A", "B", RQ.presentation_contexts, RQ.user_information, protocol_version=version).encode()
    )
    if version & 1:
        assert upper.state is State.STA3_AWAIT_LOCAL_ASSOCIATE_RESPONSE
        assert upper.deadline is None
    else:
        assert sent_by(upper) == [AssociateRJ(1, 2, 2)]
        assert upper.events() == []
        assert upper.deadline == 10.0 + ARTIM


# ---- T-STA13 --------------------------------------------------------------------------------------------------------

AFTER_THE_END = [route for route in ROUTES if route[0] == 13]


@pytest.mark.parametrize(
    "data",
    [DATA.encode() * 1000, RQ.encode() * 300, ReleaseRQ().encode() * 1000, b"\xff" * 100_000, INVALID * 1000],
    ids=["data", "requests", "releases", "noise", "invalid"],
)
@every("state, route, build", AFTER_THE_END)
def test_what_comes_after_the_end_is_passed_over(state, route, build, data):
    upper = bring(build, now=0.0, with_reader=True)
    aborted = "aborted" in route or route == "offended"
    for _ in range(4):
        upper.receive(data)
    assert len(sent_by(upper)) <= (0 if aborted else 1)
    assert upper.events() == []
    assert upper.deadline == ARTIM
    assert upper.state is state


@pytest.mark.measures
def test_a_hundred_megabytes_after_the_abort_cost_next_to_nothing():
    upper = bring(lambda upper: established(upper, ACCEPTOR), with_reader=True)
    upper.receive(STORE_PDUS[0].encode() + STORE_PDUS[1].encode())
    upper.abort()
    flood = (PDataTF([PDV(1, bytes(16378), False, False)]).encode()) * 64
    upper.outgoing()
    start = time.process_time()
    for _ in range(100):
        upper.receive(flood)
    assert time.process_time() - start < 2.0
    assert upper.outgoing() == upper.events() == []


@every("at", range(1, sum(len(pdu.encode()) for pdu in STORE_PDUS) + 1))
def test_after_our_abort_the_rest_of_a_message_is_not_one(at):
    """Wherever the abort falls, what follows is neither data nor a command, and an A-ABORT still ends it all."""
    data = b"".join(pdu.encode() for pdu in STORE_PDUS)
    upper = bring(lambda upper: established(upper, ACCEPTOR), with_reader=True)
    upper.receive(data[:at])
    upper.events()
    upper.abort()
    upper.outgoing()
    upper.receive(data[at:] + DATA.encode())
    assert upper.events() == upper.outgoing() == []
    upper.receive(Abort(0, 0).encode())
    assert upper.closed


@pytest.mark.parametrize("at", range(1, 10))
def test_an_abort_of_the_peer_that_crosses_ours_still_closes(at):
    upper = bring(lambda upper: established(upper, ACCEPTOR), with_reader=True)
    upper.receive(Abort(2, 0).encode()[:at])
    upper.abort()
    upper.receive(Abort(2, 0).encode()[at:])
    assert upper.closed


# ---- sinks at the end of an association --------------------------------------------------------------------------

ENDS = {
    "abort of the peer": lambda upper: upper.receive(Abort(0, 0).encode()),
    "abort of ours": lambda upper: upper.abort(),
    "lost": lambda upper: upper.receive_eof(),
    "noise": lambda upper: upper.receive(b"\xff"),
    "unexpected": lambda upper: upper.receive(RQ.encode()),
    "released": lambda upper: (upper.receive(ReleaseRQ().encode()), upper.release_response(), upper.receive_eof()),
    "release of ours": lambda upper: (upper.release(), upper.receive(ReleaseRP().encode())),
    "silence": lambda upper: upper.tick(1e9),
}


class Failing(Bytes):
    def discard(self) -> None:
        super().discard()
        raise OSError("no")


@pytest.mark.parametrize("sink", [Bytes, Failing])
@pytest.mark.parametrize("end", ENDS)
def test_whatever_ends_the_association_the_half_of_a_message_is_discarded(end, sink):
    opened_sinks = []
    made = reader()
    made.open_sink = lambda context_id, command: opened_sinks.append(sink()) or opened_sinks[-1]
    upper = UpperLayer(reader=made)
    upper.tick(0.0)
    established(upper, ACCEPTOR)
    upper.receive(STORE_PDUS[0].encode() + STORE_PDUS[1].encode())
    ENDS[end](upper)
    assert [one.end for one in opened_sinks] == ["discarded"]
    assert not any(isinstance(event, Message) for event in upper.events())


# ---- T-PDV ----------------------------------------------------------------------------------------------------------


def walk(body):
    """The PDVs of a P-DATA-TF's body, slowly and obviously; None where it is not made of PDVs."""
    found = []
    while body:
        if len(body) < 6:
            return None
        length = int.from_bytes(body[:4], "big")
        if length < 2 or length > len(body) - 4:
            return None
        found.append(PDV(body[4], body[6 : 4 + length], bool(body[5] & 1), bool(body[5] & 2)))
        body = body[4 + length :]
    return found or None


def expect(body, cut=whole):
    upper = bring(lambda upper: established(upper, ACCEPTOR), limits=Limits(max_pdu=16384))
    for piece in cut(b"\x04\x00" + len(body).to_bytes(4, "big") + body):
        upper.receive(piece)
    found = walk(body)
    if found is None:
        assert sent_by(upper) == [Abort(2, 6)], body
        assert [type(event) for event in upper.events()] == [events.AbortIndication]
    else:
        assert upper.events() == [events.DataIndication(tuple(found))], body


LENGTHS = [*range(65), 0xFF, 0x100, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]


@every("size", range(40))
def test_every_length_of_a_pdv_in_a_pdu_of_every_size(size):
    """The second PDV's length runs, too, wherever there is room for its header."""
    for length in LENGTHS:
        body = (length.to_bytes(4, "big") + b"\x01\x00" + bytes(size))[:size]
        expect(body)
        if 2 <= length <= size - 8:
            for second in range(size):
                at = 4 + length
                expect((body[:at] + second.to_bytes(4, "big") + b"\x01\x02" + bytes(size))[:size])


@given(st.binary(max_size=40), st.booleans())
def test_any_bytes_in_a_p_data_tf(body, cut):
    expect(body, byte_by_byte if cut else whole)


@every("control", range(256))
def test_only_two_bits_of_the_message_control_header_count(control):
    upper = bring(lambda upper: established(upper, ACCEPTOR))
    upper.receive(bytes.fromhex("040000000008000000040 1".replace(" ", "")) + bytes([control]) + b"ab")
    assert upper.events() == [events.DataIndication((PDV(1, b"ab", bool(control & 1), bool(control & 2)),))]


# ---- T-FLOOD --------------------------------------------------------------------------------------------------------


@pytest.mark.measures
@pytest.mark.parametrize("control", [0, 1], ids=["data", "command"])
def test_a_million_empty_fragments(control):
    """Legal one by one, they end the association after `Limits.empty_pdvs`, and cost nothing from then on."""
    upper = bring(lambda upper: established(upper, ACCEPTOR), with_reader=True, limits=Limits(max_pdu=262144))
    upper.receive(PDataTF([PDV(1, STORE, True, True)]).encode() if control == 0 else b"")
    pdu = b"\x04\x00" + (6 * 40_000).to_bytes(4, "big") + (b"\x00\x00\x00\x02\x01" + bytes([control])) * 40_000
    start = time.process_time()
    for _ in range(25):
        upper.receive(pdu)
    assert time.process_time() - start < 1.0
    assert sent_by(upper) == [Abort(2, 6)]


def test_a_request_with_every_context_and_nothing_but_bytes_of_one():
    contexts = [PresentationContextRQ(2 * n + 1, VERIFICATION, [IMPLICIT]) for n in range(128)]
    request = AssociateRQ("A", "B", contexts, [MaximumLength(16384)])
    upper = bring(opened)
    for piece in byte_by_byte(request.encode()):
        upper.receive(piece)
    assert upper.events() == [events.AssociateIndication(request)]
