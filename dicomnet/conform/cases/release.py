"""Release and abort (PS3.8 Sections 7.2, 7.3, 9.3.6 to 9.3.8)."""

from __future__ import annotations

from .. import wire
from ..case import CLOSED, RELEASED, RELEASED_OR_ABORTED, SUCCESS, Case, Grade
from ..peer import Kind, Reply
from ..session import Session, whole
from .forms import demand, established, scripted, seen_all

MUST, SHOULD, ROBUST = Grade.MUST, Grade.SHOULD, Grade.ROBUST

_ECHO = wire.command_set(wire.echo_rq())


@scripted("PS3.8/7.2-1", MUST, "A release is agreed to.", RELEASED.text)
def _release(session: Session) -> str:
    return RELEASED.check(session.associate().release())


@scripted("PS3.8/7.2-2", MUST, "A release after C-ECHO is agreed to.", RELEASED.text)
def _release_after_echo(session: Session) -> str:
    association = session.associate()
    SUCCESS.check(association.echo())
    return RELEASED.check(association.release())


@scripted("PS3.8/9.3.7-1", MUST, "The A-RELEASE-RP has a length of 4 and zeros in its reserved bytes.", "00 00 00 00")
def _release_form(session: Session) -> str:
    answer = session.associate().release()
    demand(answer.kind is Kind.RELEASE_RP and answer.body == bytes(4) and answer.header[1] == 0, answer.body.hex(" "))
    return "00 00 00 00"


@scripted(
    "PS3.8/7.2-3",
    ROBUST,
    "A release in the middle of a message is agreed to, or the association aborted.",
    RELEASED_OR_ABORTED.text,
)
def _release_in_a_message(session: Session) -> str:
    association = session.associate()
    association.send(wire.data_tf(wire.pdv(1, 1, _ECHO[:20])))
    return RELEASED_OR_ABORTED.check(association.release())


@scripted(
    "PS3.8/7.2-4",
    ROBUST,
    "A release right behind a request is agreed to, with or without its response before, or the association aborted.",
    "a response and A-RELEASE-RP, or one of A-RELEASE-RP and A-ABORT",
)
def _release_behind_a_request(session: Session) -> str:
    association = session.associate()
    association.send(whole(1, _ECHO) + wire.release_rq())
    first = association.message()
    if not isinstance(first, Reply):
        return RELEASED_OR_ABORTED.check(first)
    second = association.answer()
    RELEASED_OR_ABORTED.check(second)
    return seen_all([first, second])


@scripted(
    "PS3.8/7.2-5", MUST, "After the release the provider lets go once the requestor closes.", "the connection is closed"
)
def _close_after_release(session: Session) -> str:
    association = session.associate()
    RELEASED.check(association.release())
    association.connection.end_sending()
    return CLOSED.check(association.answer())


@scripted("PS3.8/7.2-6", MUST, "After A-RELEASE-RP nothing more is sent.", "nothing")
def _nothing_after_release(session: Session) -> str:
    association = session.associate()
    RELEASED.check(association.release())
    answer = association.connection.quiet()
    demand(answer.kind is Kind.SILENCE or answer.ended, answer)
    return str(answer)


def _abort(number: int, words: str, data: bytes) -> Case:
    def script(session: Session) -> str:
        association = session.associate()
        association.send(data)
        return CLOSED.check(association.answer())

    rule = f"An A-ABORT {words} closes the connection, without an answer (AA-3)."
    return Case(f"PS3.8/7.3-{number}", MUST, rule, CLOSED.text, script)


@scripted("PS3.8/7.3-6", MUST, "An A-ABORT in the middle of a message closes the connection (AA-3).", CLOSED.text)
def _abort_in_a_message(session: Session) -> str:
    association = session.associate()
    association.send(wire.data_tf(wire.pdv(1, 1, _ECHO[:20])) + wire.abort())
    return CLOSED.check(association.answer())


@scripted(
    "PS3.8/7.3-7",
    ROBUST,
    "An A-ABORT right behind a request closes the connection.",
    "the connection is closed, perhaps after a response",
)
def _abort_behind_a_request(session: Session) -> str:
    association = session.associate()
    association.send(whole(1, _ECHO) + wire.abort())
    seen = association.message()
    return CLOSED.check(association.answer() if isinstance(seen, Reply) else seen)


@scripted("PS3.8/9.3.8-3", MUST, "An A-ABORT has a length of 4, source 0 or 2 and a reason of the table.", "such a one")
def _abort_form(session: Session) -> str:
    association = session.associate()
    association.send(wire.release_rp())
    answer = association.answer()
    demand(answer.kind is Kind.ABORT and len(answer.body) == 4, answer)
    source, reason = answer.codes
    demand(source in (0, 2) and reason in (0, 1, 2, 4, 5, 6) and (source == 2 or reason == 0), answer)
    return str(answer)


@scripted(
    "PS3.8/9.3.4-4",
    MUST,
    "An A-ASSOCIATE-RJ has a length of 4 and result, source and reason of the table.",
    "such a one",
)
def _reject_form(session: Session) -> str:
    answer = session.opened(session.request(version=0)).answer()
    demand(answer.kind is Kind.REJECT and len(answer.body) == 4, answer)
    result, source, reason = answer.codes
    reasons = {1: (1, 2, 3, 7), 2: (1, 2), 3: (1, 2)}.get(source, ())
    demand(result in (1, 2) and reason in reasons, answer)
    return str(answer)


CASES: tuple[Case, ...] = (
    _release,
    _release_after_echo,
    _release_form,
    established(
        "PS3.8/9.3.6-11",
        MUST,
        "Reserved bytes of an A-RELEASE-RQ are not tested.",
        wire.release_rq(reserved=0xFF),
        RELEASED,
    ),
    _release_in_a_message,
    _release_behind_a_request,
    _close_after_release,
    _nothing_after_release,
    _abort(1, "of the service-user", wire.abort(0, 0)),
    _abort(2, "of the service-provider", wire.abort(2, 2)),
    _abort(3, "with a reserved source (1)", wire.abort(1, 0)),
    _abort(4, "with unknown source and reason (255)", wire.abort(255, 255)),
    _abort(5, "with reserved bytes set", wire.abort(0, 0, reserved=0xFF)),
    _abort_in_a_message,
    _abort_behind_a_request,
    _abort_form,
    _reject_form,
)
