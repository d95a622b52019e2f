"""C-STORE of a small CT image: cut in many ways, ended early, and under names that are none (PS3.7 Section 9.3.1)."""

from __future__ import annotations

from collections.abc import Callable

from .. import wire
from ..case import RELEASED, RESPONSE, SUCCESS, Case, Departure, Grade, NotApplicable
from ..instance import ct_image, new_uid
from ..peer import Kind, Reply
from ..session import STORE, Session, cut, pdvs, store_contexts, store_frames, store_parts, whole, whole_data
from .forms import demand, scripted, storing

MUST, SHOULD, ROBUST = Grade.MUST, Grade.SHOULD, Grade.ROBUST

Frames = Callable[[bytes, bytes], bytes]


def _cut(number: int, rule: str, frames: Frames) -> Case:
    """The parts of a C-STORE-RQ, put into P-DATA-TF in some legal way."""
    return storing(f"PS3.8/E.1-{number}", MUST, rule, lambda _: frames(*store_parts()), SUCCESS)


def _each(command: bytes, data: bytes, size: int) -> bytes:
    """Every fragment in a P-DATA-TF of its own."""
    fragments = pdvs(STORE, command, size, True) + pdvs(STORE, data, size, False)
    return b"".join(wire.data_tf(fragment) for fragment in fragments)


def _together(command: bytes, data: bytes, size: int) -> bytes:
    """All fragments in one P-DATA-TF."""
    return wire.data_tf(*pdvs(STORE, command, size, True), *pdvs(STORE, data, size, False))


def _uneven(command: bytes, data: bytes) -> bytes:
    """Fragments that grow: 2, 4, 6 … bytes."""
    pieces = []
    size = 2
    while data:
        pieces.append(data[:size])
        data, size = data[size:], size + 2
    last = len(pieces) - 1
    frames = [wire.pdv(STORE, wire.LAST if at == last else 0, piece) for at, piece in enumerate(pieces)]
    return whole(STORE, command) + b"".join(wire.data_tf(frame) for frame in frames)


def _empty_last(command: bytes, data: bytes) -> bytes:
    return whole(STORE, command) + wire.data_tf(wire.pdv(STORE, 0, data)) + whole_data(STORE, b"")


def _three_and_one(command: bytes, data: bytes) -> bytes:
    """Command and the first fragments of data in one P-DATA-TF, the rest in another."""
    first, second, *rest = pdvs(STORE, data, 200, False)
    return wire.data_tf(wire.pdv(STORE, 3, command), first, second) + wire.data_tf(*rest)


_CUTS = (
    storing("PS3.7/9.3.1.3-1", MUST, "A CT image is stored.", lambda _: store_frames(), SUCCESS),
    _cut(31, "Command set and data set may share a P-DATA-TF.", lambda c, d: _together(c, d, 4096)),
    _cut(32, "They may come in fragments of two bytes in P-DATA-TF of their own.", lambda c, d: _each(c, d, 2)),
    _cut(33, "They may come in fragments of two bytes, all in one P-DATA-TF.", lambda c, d: _together(c, d, 2)),
    _cut(34, "They may come in fragments of 16 bytes in P-DATA-TF of their own.", lambda c, d: _each(c, d, 16)),
    _cut(35, "They may come in fragments of 16 bytes, all in one P-DATA-TF.", lambda c, d: _together(c, d, 16)),
    _cut(36, "They may come in fragments of 254 bytes in P-DATA-TF of their own.", lambda c, d: _each(c, d, 254)),
    _cut(37, "Fragments of a data set may have any even length.", _uneven),
    _cut(38, "A P-DATA-TF may hold the command set and some of the data set.", _three_and_one),
)

_EMPTY = storing(
    "PS3.8/E.1-39",
    SHOULD,
    "An empty last fragment of a data set can be processed (note).",
    lambda _: _empty_last(*store_parts()),
    SUCCESS,
)


@scripted("PS3.7/9.3.1.3-2", MUST, "A CT image is stored in explicit VR little endian.", SUCCESS.text, stores=True)
def _explicit(session: Session) -> str:
    if not session.facts.explicit or not session.target.stores:
        raise NotApplicable("no CT images in explicit VR little endian are stored here")
    association = session.associate(contexts=store_contexts(wire.EXPLICIT))
    return SUCCESS.check(association.store(store_frames(wire.EXPLICIT)))


@scripted("PS3.7/9.3.1.3-3", MUST, "Several images are stored on one association.", "three times success", stores=True)
def _three(session: Session) -> str:
    association = session.associate_to_store()
    for _ in range(3):
        SUCCESS.check(association.store())
    RELEASED.check(association.release())
    return "three times success, then A-RELEASE-RP"


@scripted("PS3.7/9.3.1.3-4", MUST, "C-ECHO and C-STORE take turns on one association.", "both succeed", stores=True)
def _turns(session: Session) -> str:
    association = session.associate_to_store()
    for _ in range(2):
        SUCCESS.check(association.echo())
        SUCCESS.check(association.store())
    return "both succeed"


@scripted(
    "PS3.7/9.3.1.2-1",
    MUST,
    "A C-STORE-RSP says which message it answers, and repeats the UIDs if it has them.",
    "the message ID, and no other UIDs than those of the request",
    stores=True,
)
def _response(session: Session) -> str:
    association = session.associate_to_store()
    instance = new_uid()
    request = wire.store_rq(instance, 4711)
    association.send(whole(STORE, wire.command_set(request)) + whole_data(STORE, ct_image(instance, wire.IMPLICIT)))
    seen = association.message()
    SUCCESS.check(seen)
    assert isinstance(seen, Reply)
    demand(seen.number(wire.RESPONDED_TO) == 4711 and seen.context_id == STORE, seen)
    for element in (wire.AFFECTED_CLASS, wire.AFFECTED_INSTANCE):
        found = seen.command.get(element, request[element])
        demand(found == request[element], f"(0000,{element:04X}) is {found!r}")
    return str(seen)


@scripted(
    "PS3.8/D.1-12",
    MUST,
    "A P-DATA-TF of exactly the announced maximum length is taken.",
    SUCCESS.text,
    stores=True,
)
def _full_length(session: Session) -> str:
    association = session.associate_to_store()
    limit = association.accept.max_length
    size = (limit if 0 < limit <= 1 << 24 else 1 << 17) - 6 & ~1
    instance = new_uid()
    command = wire.command_set(wire.store_rq(instance))
    data = ct_image(instance, wire.IMPLICIT, padding=2 * size)
    frames = b"".join(wire.data_tf(fragment) for fragment in pdvs(STORE, data, size, False))
    return SUCCESS.check(association.store(whole(STORE, command) + frames))


@scripted(
    "PS3.8/9.1.3-6", MUST, "A C-STORE-RQ may arrive in segments that cut every header.", SUCCESS.text, stores=True
)
def _segments(session: Session) -> str:
    association = session.associate_to_store()
    for piece in cut(_each(*store_parts(), 100), 5):
        association.send(piece)
    return SUCCESS.check(association.message())


# ---- ended early -----------------------------------------------------------------------------------------------------


def _broken_off(number: int, rule: str, ending: str) -> Case:
    """A data set that breaks off: the provider lets go, and answers nothing as if it were stored."""

    def script(session: Session) -> str:
        association = session.associate_to_store()
        command, data = store_parts()
        association.send(whole(STORE, command) + wire.data_tf(wire.pdv(STORE, 0, data[:300])))
        if ending == "reset":
            association.connection.reset()
            return "reset"
        if ending == "abort":
            association.send(wire.abort())
        elif ending == "in a fragment":
            association.send(wire.data_tf(wire.pdv(STORE, 2, data[300:]))[:50])
        if ending != "abort":
            association.connection.end_sending()
        answer = association.message()
        demand(not isinstance(answer, Reply), answer)
        assert not isinstance(answer, Reply)
        demand(answer.ended or answer.kind is Kind.ABORT, answer)
        return str(answer)

    expected = "no response; the connection is closed"
    return Case(f"PS3.7/9.3.1.3-{number}", ROBUST, rule, expected, script, stores=True)


# ---- names and contents ----------------------------------------------------------------------------------------------

_NO_INSTANCES: tuple[tuple[str, bytes], ...] = (
    ("empty", b""),
    ("longer than 64 characters", b"1.2." + b"3" * 80),
    ("a relative path", b"../../conform-was-here"),
    ("an absolute path", b"/conform-was-here"),
    ("a path of another system", rb"..\..\conform-was-here"),
    ("two dots", b".."),
    ("letters", b"conform-was-here"),
    ("a line feed", b"1.2.3\n4.5.6 "),
    ("a NUL within", b"1.2.3\x004.5.6 "),
)


def _bad_instance(at: int, what: str, uid: bytes) -> Case:
    def frames(_: Session) -> bytes:
        command = wire.command_set(wire.store_rq(uid + b"\0" * (len(uid) % 2)))
        return whole(STORE, command) + whole_data(STORE, ct_image(new_uid(), wire.IMPLICIT))

    rule = f"An Affected SOP Instance UID that is no UID ({what}) is refused, or does no harm."
    return storing(f"PS3.7/9.1.1.1.3-{1 + at}", ROBUST, rule, frames, RESPONSE)


# (0008,1115) of undefined length, and in it an item of undefined length.
_SEQUENCE = bytes.fromhex("08001511 ffffffff feff00e0 ffffffff")


def _contents(number: int, what: str, data: bytes) -> Case:
    """What is no data set: stored as it is, or refused; the provider lives on."""

    def frames(_: Session) -> bytes:
        return whole(STORE, wire.command_set(wire.store_rq(new_uid()))) + whole_data(STORE, data)

    rule = f"A data set that is none ({what}) is answered, or aborts the association."
    return storing(f"PS3.7/9.1.1.1.8-{number}", ROBUST, rule, frames, RESPONSE)


@scripted(
    "PS3.7/9.1.1.1.8-5",
    ROBUST,
    "A data set of no bytes is answered, or aborts the association.",
    RESPONSE.text,
    stores=True,
)
def _no_bytes(session: Session) -> str:
    association = session.associate_to_store()
    association.send(whole(STORE, wire.command_set(wire.store_rq(new_uid()))) + whole_data(STORE, b""))
    seen = association.message()
    if isinstance(seen, Reply) and seen.number(wire.RESPONDED_TO) is None:
        raise Departure(f"{seen} that answers nothing")
    return RESPONSE.check(seen)


CASES: tuple[Case, ...] = (
    *_CUTS,
    _EMPTY,
    _explicit,
    _three,
    _turns,
    _response,
    _full_length,
    _segments,
    _broken_off(11, "An A-ABORT in the middle of a data set ends the association.", "abort"),
    _broken_off(12, "The end of the stream in the middle of a data set ends the association.", "end"),
    _broken_off(13, "The end of the stream in the middle of a fragment ends the association.", "in a fragment"),
    _broken_off(14, "A reset in the middle of a data set does no harm.", "reset"),
    *(_bad_instance(at, what, uid) for at, (what, uid) in enumerate(_NO_INSTANCES)),
    _contents(1, "zeros", bytes(1000)),
    _contents(2, "an element that claims FFFFFFFEH bytes", b"\x08\x00\x05\x00\xfe\xff\xff\xff" + bytes(100)),
    _contents(3, "10,000 sequences, one in the other", _SEQUENCE * 10000),
    _contents(4, "text", b"<html><body>This is no DICOM.</body></html>\n" * 10),
    _no_bytes,
)
