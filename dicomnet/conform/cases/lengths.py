"""Lengths that lie (PS3.8 Section 9.3, PS3.7 Annex D.3.3): nothing may be read past a container, nothing waited for."""

from __future__ import annotations

from .. import layout, wire
from ..case import ABORTED, ANSWERED, ENDED, REFUSED, REFUSED_OR_ENDED, Case, Grade
from ..peer import Kind
from ..session import Session, whole
from .forms import demand, established, opening, scripted

MUST, ROBUST = Grade.MUST, Grade.ROBUST

_MOST = 0xFFFFFFFF
_ECHO = wire.command_set(wire.echo_rq())
_ECHO_FRAME = whole(1, _ECHO)


def _rows() -> list[Case]:
    """Every length field of an A-ASSOCIATE-RQ with every lie."""
    tree = layout.request("X", "X")
    return [_lying(row, lie) for row in layout.ROWS for lie in layout.lies(row, *layout.room(tree, row.name))]


def _lying(row: layout.Row, lie: layout.Lie) -> Case:
    expect = ANSWERED if lie.readable else REFUSED
    outcome = "it is answered" if lie.readable else "the PDU is invalid"

    def script(session: Session) -> str:
        tree = layout.request(session.target.called, session.target.calling)
        return expect.check(session.opened(layout.encode(tree, row.name, lie.value)).answer())

    rule = f"The {row.field} is {lie.words}: {outcome}."
    return Case(f"{row.section}-{row.base + lie.at}", MUST if lie.binding else ROBUST, rule, expect.text, script)


def _request_length(number: int, words: str, length: int) -> Case:
    """PDU-length of the request, too short: the rest of the bytes is another PDU, or noise."""

    def script(session: Session) -> str:
        request = session.request()
        data = wire.pdu(wire.ASSOCIATE_RQ, request[6:], length=length if length >= 0 else len(request) - 6 + length)
        return REFUSED.check(session.opened(data).answer())

    rule = f"The PDU-length of an A-ASSOCIATE-RQ is {words}: the PDU is invalid."
    return Case(f"PS3.8/9.3.2-{number}", MUST, rule, REFUSED.text, script)


@scripted(
    "PS3.8/9.3.2-105",
    ROBUST,
    "An A-ASSOCIATE-RQ that lacks its last byte is not accepted, and ends with the connection.",
    "nothing, until the connection ends",
)
def _one_byte_short(session: Session) -> str:
    request = session.request()
    connection = session.opened(wire.pdu(wire.ASSOCIATE_RQ, request[6:], length=len(request) - 5))
    early = connection.quiet()
    demand(early.kind is Kind.SILENCE, f"{early} before the request was complete")
    connection.end_sending()
    return ENDED.check(connection.answer())


def _huge() -> list[Case]:
    """A PDU header that announces 4 GiB, before and during an association."""
    rule = "A PDU of type {:02X}H that claims 4 GiB is refused at its header, not waited for ({})."
    cases = []
    for kind in range(1, 8):
        header = wire.pdu(kind, bytes(4), length=_MOST)
        first, second = f"PS3.8/9.3.1-{40 + kind}", f"PS3.8/9.3.1-{50 + kind}"
        cases += [
            opening(first, ROBUST, rule.format(kind, "Sta2"), header, REFUSED_OR_ENDED),
            established(second, ROBUST, rule.format(kind, "Sta6"), header, ENDED),
        ]
    return cases


@scripted(
    "PS3.8/D.1-11",
    MUST,
    "A P-DATA-TF that is one byte longer than the announced maximum is a protocol error.",
    ABORTED.text,
)
def _over_the_maximum(session: Session) -> str:
    association = session.associate()
    limit = association.accept.max_length
    if not 0 < limit < _MOST:
        return f"no maximum is announced ({limit})"
    # The header alone tells; some providers look only once everything is there, so it is sent whole where it is small.
    body = bytes(limit + 1 if limit < 1 << 20 else 0)
    association.send(wire.pdu(wire.DATA_TF, wire.pdv(1, 0, body)[: len(body)] or b"\0", length=limit + 1))
    return ABORTED.check(association.answer())


_DATA_LENGTHS = (
    *(
        established(
            f"PS3.8/9.3.5-{1 + at}",
            MUST,
            f"A P-DATA-TF of {length} bytes has no room for a presentation data value: it is invalid.",
            wire.pdu(wire.DATA_TF, bytes(length)),
            ABORTED,
        )
        for at, length in enumerate((0, 1, 4, 5))
    ),
    established(
        "PS3.8/9.3.5-5",
        MUST,
        "A P-DATA-TF that ends before its presentation data value does is invalid.",
        wire.pdu(wire.DATA_TF, _ECHO_FRAME[6:], length=len(_ECHO_FRAME) - 7),
        ABORTED,
    ),
    established(
        "PS3.8/9.3.5-6",
        MUST,
        "A byte that follows the last presentation data value of a P-DATA-TF makes it invalid.",
        wire.pdu(wire.DATA_TF, wire.pdv(1, 1, _ECHO[:10]) + b"\0"),
        ABORTED,
    ),
    established(
        "PS3.8/9.3.5-7",
        MUST,
        "The same with a whole command before that byte.",
        wire.pdu(wire.DATA_TF, _ECHO_FRAME[6:] + b"\0"),
        ABORTED,
    ),
    _over_the_maximum,
    *(
        established(
            f"PS3.8/9.3.5.1-{1 + at}",
            MUST,
            f"The Item-length of a presentation data value is {words}: it is invalid.",
            wire.data_tf(wire.pdv(1, 3, _ECHO, length=length)),
            ABORTED,
        )
        for at, (words, length) in enumerate(
            (
                ("0", 0),
                ("1, less than ID and message control header take", 1),
                ("one less than true", len(_ECHO) + 1),
                ("one more than true", len(_ECHO) + 3),
                ("FFFFH", 0xFFFF),
                ("80000000H", 0x80000000),
                ("FFFFFFFFH", _MOST),
            )
        )
    ),
)

_FIXED = (
    *(
        established(
            f"PS3.8/9.3.6-{1 + at}",
            MUST,
            f"The PDU-length of an A-RELEASE-RQ is fixed to 4: {length} is invalid.",
            wire.pdu(wire.RELEASE_RQ, bytes(length)),
            ABORTED,
        )
        for at, length in enumerate((0, 3, 5, 1000))
    ),
    *(
        established(
            f"PS3.8/9.3.8-{11 + at}",
            MUST,
            f"The PDU-length of an A-ABORT is fixed to 4: {length} is invalid, and ends the association all the same.",
            wire.pdu(wire.ABORT, bytes(length)),
            ENDED,
        )
        for at, length in enumerate((0, 3, 5, 1000))
    ),
)

CASES: tuple[Case, ...] = (
    *_rows(),
    _request_length(101, "0", 0),
    _request_length(102, "1", 1),
    _request_length(103, "67, less than its fixed fields take", 67),
    _request_length(104, "one less than true", -1),
    _one_byte_short,
    *_huge(),
    *_DATA_LENGTHS,
    *_FIXED,
)
