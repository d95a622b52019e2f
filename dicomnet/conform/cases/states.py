"""The state table of an acceptor: what is not expected, in every state that can be reached (PS3.8 Section 9.2.3)."""

from __future__ import annotations

from collections.abc import Callable

from .. import wire
from ..case import ABORTED, CLOSED, Case, Departure, Grade
from ..peer import Answer, Kind
from ..session import Association, Session, whole
from .forms import aborted, after_abort, demand, established, opening, scripted

MUST = Grade.MUST

# What AA-6 ignores in Sta13; AA-7 answers the others.
_IGNORED = frozenset({"A-ASSOCIATE-AC", "A-ASSOCIATE-RJ", "P-DATA-TF", "A-RELEASE-RQ", "A-RELEASE-RP"})


def _accept(session: Session) -> bytes:
    """A well-formed A-ASSOCIATE-AC, which only an acceptor may send."""
    target = session.target
    items = (
        wire.application(),
        wire.context_result(1),
        wire.user_information(wire.max_length(), wire.implementation()),
    )
    return wire.associate(items, called=target.called, calling=target.calling, kind=wire.ASSOCIATE_AC)


def _request(session: Session) -> bytes:
    return session.request()


def _echo(_: Session) -> bytes:
    return whole(1, wire.command_set(wire.echo_rq()))


def _fixed(data: bytes) -> Callable[[Session], bytes]:
    return lambda _: data


PDUS: dict[str, Callable[[Session], bytes]] = {
    "A-ASSOCIATE-RQ": _request,
    "A-ASSOCIATE-AC": _accept,
    "A-ASSOCIATE-RJ": _fixed(wire.reject(1, 1, 1)),
    "P-DATA-TF": _echo,
    "A-RELEASE-RQ": _fixed(wire.release_rq()),
    "A-RELEASE-RP": _fixed(wire.release_rp()),
    "PDU of type 00H": _fixed(wire.pdu(0x00, bytes(4))),
    "PDU of type 08H": _fixed(wire.pdu(0x08, bytes(4))),
    "PDU of type FFH": _fixed(wire.pdu(0xFF, bytes(4))),
}


def _sta2() -> list[Case]:
    """Sta2: the connection is open, an A-ASSOCIATE-RQ is awaited."""
    names = [name for name in PDUS if name != "A-ASSOCIATE-RQ"]
    return [
        opening(
            f"PS3.8/9.2.3-{1 + at}",
            MUST,
            f"{_the(name)} where an A-ASSOCIATE-RQ is awaited (Sta2) is answered with A-ABORT (AA-1).",
            PDUS[name],
            ABORTED,
        )
        for at, name in enumerate(names)
    ]


def _sta6() -> list[Case]:
    """Sta6: the association is established."""
    names = [name for name in PDUS if name not in ("P-DATA-TF", "A-RELEASE-RQ")]
    return [
        established(
            f"PS3.8/9.2.3-{11 + at}",
            MUST,
            f"{_the(name)} on an established association (Sta6) is answered with A-ABORT (AA-8).",
            PDUS[name],
            ABORTED,
        )
        for at, name in enumerate(names)
    ]


def _source(answer: Answer) -> str:
    demand(answer.kind is Kind.ABORT, answer)
    demand(answer.codes[0] == 2, answer)
    return str(answer)


@scripted("PS3.8/9.2.3-18", MUST, "The A-ABORT of AA-8 comes from the service-provider, source 2.", "A-ABORT 2/x")
def _sta6_source(session: Session) -> str:
    association = session.associate()
    association.send(wire.release_rp())
    return _source(association.answer())


@scripted(
    "PS3.8/9.3.8-1",
    Grade.SHOULD,
    "An unexpected PDU is answered with the reason made for it, 2 (unexpected PDU).",
    "A-ABORT 2/2",
)
def _unexpected_reason(session: Session) -> str:
    association = session.associate()
    association.send(wire.release_rp())
    answer = association.answer()
    demand(answer.kind is Kind.ABORT and answer.codes == (2, 2), answer)
    return str(answer)


@scripted(
    "PS3.8/9.3.8-2",
    Grade.SHOULD,
    "An unknown PDU is answered with the reason made for it, 1 (unrecognized PDU).",
    "A-ABORT 2/1",
)
def _unrecognized_reason(session: Session) -> str:
    association = session.associate()
    association.send(wire.pdu(0x2A, bytes(4)))
    answer = association.answer()
    demand(answer.kind is Kind.ABORT and answer.codes == (2, 1), answer)
    return str(answer)


def _sta3() -> list[Case]:
    """Sta3: the provider's user is to answer. A PDU right behind the request finds it there, or in Sta6 already."""
    names = [name for name in PDUS if name not in ("P-DATA-TF", "A-RELEASE-RQ")]
    return [_right_behind(21 + at, name) for at, name in enumerate(names)]


def _right_behind(number: int, name: str) -> Case:
    def script(session: Session) -> str:
        connection = session.opened(session.request() + PDUS[name](session))
        answer = connection.answer()
        if answer.kind is Kind.ACCEPT:
            answer = connection.answer()
        return ABORTED.check(answer)

    rule = f"{_the(name)} right behind the A-ASSOCIATE-RQ (Sta3 or Sta6) is answered with A-ABORT (AA-8)."
    return Case(f"PS3.8/9.2.3-{number}", MUST, rule, "A-ABORT, perhaps after A-ASSOCIATE-AC", script)


@scripted(
    "PS3.8/9.2.3-28",
    MUST,
    "An A-ABORT right behind the A-ASSOCIATE-RQ (Sta3 or Sta6) closes the connection (AA-3).",
    "the connection is closed",
)
def _abort_right_behind(session: Session) -> str:
    connection = session.opened(session.request() + wire.abort())
    answer = connection.answer()
    return CLOSED.check(connection.answer() if answer.kind is Kind.ACCEPT else answer)


def _sta8(number: int, name: str) -> Case:
    """Sta8: a release is asked for. The provider may have answered already, and then be in Sta13."""

    def script(session: Session) -> str:
        association = session.associate()
        association.send(wire.release_rq() + PDUS[name](session))
        answer = association.answer()
        demand(answer.kind in (Kind.RELEASE_RP, Kind.ABORT), answer)
        more = association.connection.rest()
        demand(all(kind is Kind.ABORT for kind in (found.kind for found in more)), f"{answer}, then {_names(more)}")
        return str(answer)

    rule = f"{_the(name)} right behind an A-RELEASE-RQ (Sta8 or Sta13) gets A-ABORT, or is past the release."
    return Case(f"PS3.8/9.2.3-{number}", MUST, rule, "A-RELEASE-RP or A-ABORT, and no other PDU", script)


def _sta13(number: int, name: str, may_abort: bool) -> Case:
    """Sta13: only the end of the connection is awaited. AA-6 ignores, AA-7 sends (another) A-ABORT."""

    def script(session: Session) -> str:
        association, connection = aborted(session)
        association.send(PDUS[name](session))
        more = connection.rest()
        allowed = 1 if may_abort else 0
        good = all(answer.kind is Kind.ABORT for answer in more) and len(more) <= allowed
        demand(good, after_abort(more))
        return after_abort(more)

    what = "answered with A-ABORT at most (AA-7)" if may_abort else "ignored (AA-6)"
    rule = f"{_the(name)} after the provider's A-ABORT (Sta13) is {what}."
    return Case(f"PS3.8/9.2.3-{number}", MUST, rule, f"{_the(name)} is {what}", script)


@scripted("PS3.8/9.2.3-9", MUST, "An A-ABORT in Sta2 closes the connection, without an answer (AA-2).", CLOSED.text)
def _abort_in_sta2(session: Session) -> str:
    return CLOSED.check(session.opened(wire.abort()).answer())


@scripted(
    "PS3.8/9.2.3-50", MUST, "An A-ABORT in Sta13 closes the connection at once (AA-2).", "the connection is closed"
)
def _abort_in_sta13(session: Session) -> str:
    association, connection = aborted(session)
    association.send(wire.abort())
    return CLOSED.check(connection.answer())


@scripted(
    "PS3.8/9.2.3-51",
    Grade.ROBUST,
    "A megabyte of P-DATA-TF after the provider's A-ABORT is swallowed, or the connection is closed.",
    "no PDU",
)
def _flood_in_sta13(session: Session) -> str:
    association, connection = aborted(session)
    chunk = wire.data_tf(wire.pdv(1, 0, bytes(4090)))
    for _ in range(256):
        if not association.send(chunk):
            break
    more = connection.rest()
    demand(not more, after_abort(more))
    return after_abort(more)


def _second_association(number: int, rule: str, version: int) -> Case:
    """One connection, one association (PS3.8 Section 9.1.1)."""

    def script(session: Session) -> str:
        connection = session.opened(session.request(version=version))
        first = connection.answer()
        if first.kind is Kind.ACCEPT:
            first = Association(connection, first, session.facts).release()
        if first.kind not in (Kind.RELEASE_RP, Kind.REJECT):
            raise Departure(f"no end of the first association, but {first}")
        connection.send(session.request())
        more = connection.rest()
        demand(all(answer.kind is Kind.ABORT for answer in more), f"{first}, then {_names(more)}")
        return f"{first}, then {_names(more) or 'nothing'}"

    return Case(f"PS3.8/9.1.1-{number}", MUST, rule, "A-ABORT or nothing", script)


def _the(name: str) -> str:
    return f"An {name}" if name.startswith("A-") else f"A {name}"


def _names(answers: list[Answer]) -> str:
    return ", ".join(map(str, answers))


CASES: tuple[Case, ...] = (
    *_sta2(),
    _abort_in_sta2,
    *_sta6(),
    _sta6_source,
    _unexpected_reason,
    _unrecognized_reason,
    *_sta3(),
    _abort_right_behind,
    *(_sta8(31 + at, name) for at, name in enumerate(PDUS)),
    *(_sta13(41 + at, name, name not in _IGNORED) for at, name in enumerate(PDUS)),
    _abort_in_sta13,
    _flood_in_sta13,
    _second_association(1, "After a release the connection serves no second association.", 1),
    _second_association(2, "After a rejection the connection serves no second association.", 0),
)
