"""TCP connections: opened, closed, cut, slow, and of other protocols (PS3.8 Section 9.1)."""

from __future__ import annotations

import struct
from collections.abc import Callable

from .. import wire
from ..case import ABORTED, CLOSED, Case, Departure, Grade
from ..peer import Connection, Kind
from ..session import Session, alive, works
from .forms import demand, opening, scripted

_TLS_12 = bytes.fromhex(
    "16030100480100004403035b90c5a1f6f53f2a1c5f0f0c9c2f5d8e7a6b4c3d2e1f00112233445566778899000004c02f00ff"
    "01000017000a00080006001700180019000b00020100000d0000"
)
_TLS_13 = bytes.fromhex(
    "160301007a01000076030300112233445566778899aabbccddeeff00112233445566778899aabbccddeeff2000112233445566778899"
    "aabbccddeeff00112233445566778899aabbccddeeff00021301010000"
) + bytes(80)

_MANY = 120  # connections; few providers have more places

# Who else knocks on a port: scanners, load balancers, and people who mistyped.
FOREIGN = (
    ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: pacs\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n"),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")),
    ("TLS 1.2", _TLS_12),
    ("TLS 1.3", _TLS_13),
    ("HL7 over MLLP", b"\x0bMSH|^~\\&|A|B|C|D|20260101||ADT^A01|1|P|2.5\rPID|1||1\r\x1c\r"),
    ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
    ("SMB", bytes.fromhex("00000054ff534d4272000000001843c8") + bytes(72)),
    ("Redis", b"*1\r\n$4\r\nPING\r\n"),
    ("PostgreSQL", bytes.fromhex("0000000804d2162f")),
    ("SMTP", b"EHLO scanner.example\r\n"),
    ("LDAP", bytes.fromhex("300c020101600702010304008000")),
    ("RDP", bytes.fromhex("0300001300e00000000000000100080003000000")),
)


def _foreign(number: int, name: str, data: bytes) -> Case:
    def script(session: Session) -> str:
        connection = session.opened(data)
        answers = [connection.answer(), *connection.rest()]
        demand(answers[0].kind is Kind.ABORT, answers[0])
        demand(len(answers) == 1, f"{len(answers)} PDUs: {', '.join(map(str, answers[:4]))}")
        return "one A-ABORT, nothing more"

    rule = f"A peer that speaks another protocol gets one A-ABORT, not one for each piece of what it says ({name})."
    return Case(f"PS3.8/9.2.3-{number}", Grade.ROBUST, rule, "one A-ABORT, nothing more", script)


@scripted("PS3.8/9.1.2-1", Grade.MUST, "A connection that closes without a byte does no harm.", "it goes on serving")
def _open_and_close(session: Session) -> str:
    session.connect().close()
    return "closed"


@scripted("PS3.8/9.1.2-2", Grade.ROBUST, "A connection that is reset at once does no harm.", "it goes on serving")
def _open_and_reset(session: Session) -> str:
    session.connect().reset()
    return "reset"


@scripted("PS3.8/9.1.2-3", Grade.ROBUST, "Part of a PDU header, then a reset, does no harm.", "it goes on serving")
def _header_and_reset(session: Session) -> str:
    session.opened(b"\x01\x00\x00").reset()
    return "reset"


@scripted(
    "PS3.8/9.1.2-4", Grade.ROBUST, "A reset in the middle of an A-ASSOCIATE-RQ does no harm.", "it goes on serving"
)
def _request_and_reset(session: Session) -> str:
    session.opened(session.request()[:100]).reset()
    return "reset"


@scripted(
    "PS3.8/9.1.3-1", Grade.MUST, "A PDU may arrive byte by byte: TCP knows no boundaries.", "the association works"
)
def _byte_by_byte(session: Session) -> str:
    connection = session.connect()
    for byte in session.request():
        connection.send(bytes((byte,)))
    return works(session, connection.answer(), connection)


@scripted(
    "PS3.8/9.1.3-2", Grade.MUST, "A request may arrive in two halves, cut inside an item.", "the association works"
)
def _two_halves(session: Session) -> str:
    request = session.request()
    connection = session.opened(request[:91])
    connection.quiet()
    connection.send(request[91:])
    return works(session, connection.answer(), connection)


def _half_closed(number: int, rule: str, data: bytes | None) -> Case:
    """The peer stops sending: an end of the stream where more must come is the end of the connection (AA-4, AA-5)."""

    def script(session: Session) -> str:
        connection = session.opened(session.request()[:100] if data is None else data)
        connection.end_sending()
        answer = connection.answer()
        if answer.kind is Kind.ABORT:
            return str(answer)
        return CLOSED.check(answer)

    return Case(f"PS3.8/9.1.4-{number}", Grade.ROBUST, rule, "the connection is closed", script)


@scripted(
    "PS3.8/9.1.4-4",
    Grade.ROBUST,
    "An association whose peer closes its sending side is over: the provider closes, too.",
    "the connection is closed",
)
def _half_closed_association(session: Session) -> str:
    association = session.associate()
    association.connection.end_sending()
    return CLOSED.check(association.answer())


@scripted(
    "PS3.8/9.1.4-5",
    Grade.ROBUST,
    "The same in the middle of a P-DATA-TF.",
    "the connection is closed",
)
def _half_closed_data(session: Session) -> str:
    association = session.associate()
    association.send(wire.data_tf(wire.pdv(1, 3, wire.command_set(wire.echo_rq())))[:20])
    association.connection.end_sending()
    answer = association.answer()
    return str(answer) if answer.kind is Kind.ABORT else CLOSED.check(answer)


@scripted("PS3.8/9.1.4-6", Grade.ROBUST, "A reset in the middle of a P-DATA-TF does no harm.", "it goes on serving")
def _reset_data(session: Session) -> str:
    association = session.associate()
    association.send(wire.data_tf(wire.pdv(1, 3, wire.command_set(wire.echo_rq())))[:20])
    association.connection.reset()
    return "reset"


# ---- slow peers, and others meanwhile --------------------------------------------------------------------------------


def _others_are_served(session: Session) -> str:
    trouble = alive(session.target)
    if trouble is not None:
        raise Departure(f"meanwhile another peer gets: {trouble.words}")
    return "others are served meanwhile"


def _slow(number: int, rule: str, start: str, data: bytes) -> Case:
    def script(session: Session) -> str:
        if start == "association":
            session.associate().send(data)
        else:
            session.opened(session.request()[:100] if start == "request" else data)
        return _others_are_served(session)

    return Case(f"PS3.8/9.1.5-{number}", Grade.ROBUST, rule, "others are served meanwhile", script)


@scripted(
    "PS3.8/9.1.5-5",
    Grade.ROBUST,
    "A peer that sends requests and reads no answer delays no other peer.",
    "others are served meanwhile",
    alone=True,
)
def _never_reads(session: Session) -> str:
    association = session.associate()
    request = wire.data_tf(wire.pdv(1, 3, wire.command_set(wire.echo_rq())))
    association.connection.timeout = session.target.timeout / 2
    association.send(request * 20000)
    return _others_are_served(session)


@scripted(
    "PS3.8/9.1.5-6",
    Grade.ROBUST,
    "Twelve connections that say nothing do not lock others out.",
    "others are served meanwhile",
    alone=True,
)
def _twelve_silent(session: Session) -> str:
    for _ in range(12):
        session.connect()
    return _others_are_served(session)


def _many_closed(number: int, words: str, make: Callable[[Session], bytes], answered: bool) -> Case:
    """More connections than a provider has places, each over before the next: none may keep its place."""

    def script(session: Session) -> str:
        for _ in range(_MANY):
            connection = session.opened(make(session))
            if answered:
                connection.answer()
            connection.close()
        trouble = alive(session.target)
        demand(trouble is None, f"afterwards another peer gets: {trouble.words}" if trouble else "")
        return "others are served at once"

    rule = f"{_MANY} connections that {words} and closed occupy nothing."
    return Case(f"PS3.8/9.1.4-{number}", Grade.ROBUST, rule, "others are served at once", script, alone=True)


# ---- timers ----------------------------------------------------------------------------------------------------------


def _artim(number: int, rule: str, start: str) -> Case:
    def script(session: Session) -> str:
        connection = _in_artim(session, start)
        answer = connection.answer(session.target.artim)
        if answer.kind is Kind.ABORT:
            answer = connection.answer(session.target.artim)
        return CLOSED.check(answer)

    return Case(f"PS3.8/9.1.5-{number}", Grade.MUST, rule, "the connection is closed in time", script, slow=True)


def _in_artim(session: Session, start: str) -> Connection:
    """A connection on which ARTIM runs."""
    if start == "silence":
        return session.connect()
    if start == "request":
        return session.opened(session.request()[:100])
    connection = session.opened(session.request() if start == "association" else session.request(version=0))
    connection.answer()
    if start == "association":
        connection.send(wire.pdu(8))
        connection.answer()
    return connection


CASES: tuple[Case, ...] = (
    _open_and_close,
    _open_and_reset,
    _header_and_reset,
    _request_and_reset,
    _byte_by_byte,
    _two_halves,
    _half_closed(1, "A peer that closes its sending side without a byte gets its connection closed.", b""),
    _half_closed(2, "The same after part of a PDU header.", b"\x01\x00\x00"),
    _half_closed(3, "The same in the middle of an A-ASSOCIATE-RQ.", None),
    _half_closed_association,
    _half_closed_data,
    _reset_data,
    _slow(1, "A connection that says nothing delays no other peer.", "opening", b""),
    _slow(2, "Three bytes of a PDU header, and nothing more, delay no other peer.", "opening", b"\x01\x00\x00"),
    _slow(3, "An A-ASSOCIATE-RQ that stops in the middle delays no other peer.", "request", b""),
    _slow(
        4,
        "A P-DATA-TF that stops in the middle delays no other peer.",
        "association",
        struct.pack(">BBIIBB", 4, 0, 4096, 4092, 1, 0) + bytes(100),
    ),
    _never_reads,
    _twelve_silent,
    _many_closed(11, "were opened", lambda _: b"", answered=False),
    _many_closed(12, "sent three bytes", lambda _: b"\x01\x00\x00", answered=False),
    _many_closed(13, "sent half a request", lambda session: session.request()[:100], answered=False),
    _many_closed(14, "spoke HTTP", lambda _: FOREIGN[0][1], answered=False),
    _many_closed(15, "were rejected", lambda session: session.request(version=0), answered=True),
    _many_closed(16, "were accepted", lambda session: session.request(), answered=True),
    _artim(8, "ARTIM ends a connection on which no A-ASSOCIATE-RQ arrives.", "silence"),
    _artim(9, "ARTIM ends a connection on which an A-ASSOCIATE-RQ never ends.", "request"),
    _artim(10, "ARTIM ends a connection that stays open after an A-ASSOCIATE-RJ.", "reject"),
    _artim(11, "ARTIM ends a connection that stays open after an A-ABORT.", "association"),
    *(
        opening(
            f"PS3.8/9.2.3-{61 + at}",
            Grade.MUST,
            f"Bytes of another protocol are an unrecognized or invalid PDU in Sta2, answered with A-ABORT ({name}).",
            data,
            ABORTED,
        )
        for at, (name, data) in enumerate(FOREIGN)
    ),
    *(_foreign(81 + at, name, data) for at, (name, data) in enumerate(FOREIGN)),
)
