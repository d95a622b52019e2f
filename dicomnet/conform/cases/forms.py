"""The forms that most cases have: send this, expect that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..case import Case, Departure, Expect, Grade
from ..peer import Answer, Connection, Kind, Seen
from ..session import Association, Session, works

Bytes = bytes | Callable[[Session], bytes]

WORKS = "it is accepted and works"


def opening(id_: str, grade: Grade, rule: str, data: Bytes, expect: Expect, **flags: Any) -> Case:
    """On a new connection these bytes are sent; one answer is judged."""

    def script(session: Session) -> str:
        return expect.check(session.opened(_bytes(data, session)).answer())

    return Case(id_, grade, rule, expect.text, script, **flags)


def asking(id_: str, grade: Grade, rule: str, expect: Expect, /, **changes: Any) -> Case:
    """An A-ASSOCIATE-RQ with something changed (see `Session.request`); its answer is judged."""

    def script(session: Session) -> str:
        return expect.check(session.opened(session.request(**changes)).answer())

    return Case(id_, grade, rule, expect.text, script)


def accepting(id_: str, grade: Grade, rule: str, /, **changes: Any) -> Case:
    """An A-ASSOCIATE-RQ with something changed that must make no difference: C-ECHO and release work all the same."""

    def script(session: Session) -> str:
        connection = session.opened(session.request(**changes))
        return works(session, connection.answer(), connection)

    return Case(id_, grade, rule, WORKS, script)


def established(id_: str, grade: Grade, rule: str, data: Bytes, expect: Expect, **flags: Any) -> Case:
    """On an association with verification in context 1 these bytes are sent; the message or answer is judged."""

    def script(session: Session) -> str:
        association = session.associate()
        association.send(_bytes(data, session))
        return expect.check(association.message())

    return Case(id_, grade, rule, expect.text, script, **flags)


def storing(id_: str, grade: Grade, rule: str, data: Bytes, expect: Expect, **flags: Any) -> Case:
    """On an association that also has CT images in context 3 these bytes are sent; message or answer is judged."""

    def script(session: Session) -> str:
        association = session.associate_to_store()
        association.send(_bytes(data, session))
        return expect.check(association.message())

    return Case(id_, grade, rule, expect.text, script, stores=True, **flags)


def scripted(
    id_: str, grade: Grade, rule: str, expected: str, **flags: Any
) -> Callable[[Callable[[Session], str]], Case]:
    """A decorator for cases that have no usual form."""

    def make(script: Callable[[Session], str]) -> Case:
        return Case(id_, grade, rule, expected, script, **flags)

    return make


def demand(condition: bool, observed: object) -> None:
    """Depart with what was observed unless the condition holds."""
    if not condition:
        raise Departure(str(observed))


def aborted(session: Session) -> tuple[Association, Connection]:
    """An association in Sta13: the provider has aborted it over an unexpected PDU, and PDUs are still in step."""
    association = session.associate()
    association.send(b"\x06\x00\x00\x00\x00\x04\x00\x00\x00\x00")  # A-RELEASE-RP that the provider does not wait for
    answer = association.answer()
    if answer.kind is not Kind.ABORT:
        raise Departure(f"no A-ABORT to begin with, but {answer}")
    return association, association.connection


def after_abort(answers: list[Answer]) -> str:
    """In words, what still came after an A-ABORT."""
    return f"A-ABORT, then {', '.join(map(str, answers))}" if answers else "A-ABORT, then nothing"


def seen_all(answers: list[Seen]) -> str:
    """Several answers in words."""
    return ", then ".join(map(str, answers))


def _bytes(data: Bytes, session: Session) -> bytes:
    return data if isinstance(data, bytes) else data(session)
