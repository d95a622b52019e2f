"""P-DATA-TF: fragments, presentation data values, the order of a message's parts (PS3.8 Section 9.3.5, Annex E)."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from .. import wire
from ..case import ABORTED, FAILURE, RESPONSE, SUCCESS, Case, Grade
from ..peer import Reply, Seen
from ..session import STORE, UNKNOWN_CLASS, Session, cut, pdvs, store_parts, whole, whole_data
from .forms import demand, established, scripted, seen_all, storing

MUST, SHOULD, ROBUST = Grade.MUST, Grade.SHOULD, Grade.ROBUST

_ECHO = wire.command_set(wire.echo_rq())
_WHOLE = whole(1, _ECHO)
_MIDDLE = len(_ECHO) // 2

# ---- echo, cut in every way ------------------------------------------------------------------------------------------


def _echo_in_fragments(number: int, size: int, together: bool) -> Case:
    fragments = pdvs(1, _ECHO, size, True)
    data = wire.data_tf(*fragments) if together else b"".join(wire.data_tf(fragment) for fragment in fragments)
    where = "in one P-DATA-TF" if together else "in P-DATA-TF of their own"
    rule = f"A command set may come in fragments of {size} bytes {where}."
    return established(f"PS3.8/E.1-{number}", MUST, rule, data, SUCCESS)


@scripted("PS3.8/9.1.3-3", MUST, "A P-DATA-TF may arrive byte by byte.", SUCCESS.text)
def _byte_by_byte(session: Session) -> str:
    association = session.associate()
    for byte in _WHOLE:
        association.send(bytes((byte,)))
    return SUCCESS.check(association.message())


@scripted("PS3.8/9.1.3-4", MUST, "Two messages may arrive in one TCP segment.", "both are answered")
def _one_segment(session: Session) -> str:
    association = session.associate()
    # Not yet answered is not yet allowed for the second (no window was negotiated), but answered it can be.
    association.send(_WHOLE)
    first = association.message()
    SUCCESS.check(first)
    association.send(_WHOLE[:40])
    association.send(_WHOLE[40:])
    second = association.message()
    SUCCESS.check(second)
    return seen_all([first, second])


@scripted(
    "PS3.8/9.1.3-5",
    ROBUST,
    "A request that does not wait for the response before it, without a window, is answered or ends the association.",
    RESPONSE.text,
)
def _impatient(session: Session) -> str:
    association = session.associate()
    association.send(whole(1, _ECHO) + whole(1, wire.command_set(wire.echo_rq(2))))
    first = association.message()
    RESPONSE.check(first)
    second = association.message() if isinstance(first, Reply) else None
    if second is not None:
        RESPONSE.check(second)
    return seen_all([first] if second is None else [first, second])


_CUTS = (
    _byte_by_byte,
    _one_segment,
    _impatient,
    _echo_in_fragments(1, 2, False),
    _echo_in_fragments(2, 2, True),
    _echo_in_fragments(3, 16, False),
    _echo_in_fragments(4, 16, True),
    _echo_in_fragments(5, 34, False),
    established(
        "PS3.8/E.1-6",
        ROBUST,
        "Fragments of one byte each are odd, which is forbidden; they are understood or abort the association.",
        b"".join(wire.data_tf(fragment) for fragment in pdvs(1, _ECHO, 1, True)),
        RESPONSE,
    ),
    established(
        "PS3.8/E.1-7",
        SHOULD,
        "An empty fragment before the others can be processed (note).",
        wire.data_tf(wire.pdv(1, 1)) + _WHOLE,
        SUCCESS,
    ),
    established(
        "PS3.8/E.1-8",
        SHOULD,
        "An empty last fragment can be processed (note).",
        wire.data_tf(wire.pdv(1, 1, _ECHO)) + wire.data_tf(wire.pdv(1, 3)),
        SUCCESS,
    ),
    established(
        "PS3.8/E.1-9",
        SHOULD,
        "An empty last fragment can be processed in the P-DATA-TF of the others (note).",
        wire.data_tf(wire.pdv(1, 1, _ECHO), wire.pdv(1, 3)),
        SUCCESS,
    ),
    established(
        "PS3.8/E.2-1",
        MUST,
        "Bits 2 to 7 of the message control header are never checked.",
        wire.data_tf(wire.pdv(1, 0xFF, _ECHO)),
        SUCCESS,
    ),
    established(
        "PS3.8/9.3.5-8",
        MUST,
        "Byte 2 of a P-DATA-TF is reserved and not tested.",
        wire.data_tf(wire.pdv(1, 3, _ECHO), reserved=0xFF),
        SUCCESS,
    ),
)

# ---- presentation contexts of messages -------------------------------------------------------------------------------


@scripted(
    "PS3.8/9.3.5.1-11",
    ROBUST,
    "A message in a presentation context that was refused ends the association, or fails.",
    FAILURE.text,
)
def _refused_context(session: Session) -> str:
    association = session.associate(contexts=(wire.context(1), wire.context(3, UNKNOWN_CLASS)))
    if association.accept.accepts(3):
        return "that context is accepted"
    association.send(whole(3, _ECHO))
    return FAILURE.check(association.message())


@scripted(
    "PS3.8/E.1-10",
    ROBUST,
    "The fragments of a command set stay in one presentation context.",
    ABORTED.text,
)
def _two_contexts(session: Session) -> str:
    association = session.associate(contexts=(wire.context(1), wire.context(3, wire.VERIFICATION)))
    association.send(wire.data_tf(wire.pdv(1, 1, _ECHO[:_MIDDLE])) + wire.data_tf(wire.pdv(3, 3, _ECHO[_MIDDLE:])))
    return FAILURE.check(association.message())


def _store_in_two_contexts(_: Session) -> bytes:
    command, data = store_parts()
    return whole(STORE, command) + whole_data(1, data)


_CONTEXTS = (
    established(
        "PS3.8/9.3.5.1-12",
        MUST,
        "A presentation context ID of 0 is not odd: the presentation data value is invalid.",
        whole(0, _ECHO),
        ABORTED,
    ),
    established(
        "PS3.8/9.3.5.1-13",
        MUST,
        "A presentation context ID of 2 is not odd: the presentation data value is invalid.",
        whole(2, _ECHO),
        ABORTED,
    ),
    established(
        "PS3.8/9.3.5.1-14",
        ROBUST,
        "A message in a presentation context that was never offered ends the association, or fails.",
        whole(99, _ECHO),
        FAILURE,
    ),
    _refused_context,
    _two_contexts,
    storing(
        "PS3.8/E.1-11",
        ROBUST,
        "Command set and data set of a message stay in one presentation context.",
        _store_in_two_contexts,
        FAILURE,
    ),
)

# ---- the order of a message's parts ----------------------------------------------------------------------------------

# C and D: a fragment of command or data that is not the last; C* and D*: one that is.


_PARTS = ("C", "C*", "D", "D*")
_NEXT = {
    ("start", "C"): "command",
    ("start", "C*"): "data",
    ("command", "C"): "command",
    ("command", "C*"): "data",
    ("data", "D"): "data",
}


def _wrong_orders(longest: int) -> list[tuple[str, ...]]:
    """Orders of the parts of a message whose last part, and no other, is wrong."""
    found = []
    for length in range(1, longest + 1):
        for order in itertools.product(_PARTS, repeat=length):
            state: str | None = "start"
            for part in order[:-1]:
                state = _NEXT.get((state or "", part))
            if state and (state, order[-1]) not in _NEXT and (state, order[-1]) != ("data", "D*"):
                found.append(order)
    return found


def _in_order(order: tuple[str, ...]) -> bytes:
    """The fragments of a C-STORE in some order, each with its share of command or data set."""
    command, data = store_parts()
    shares = {"C": cut(command, 40), "D": cut(data, 100)}
    rest = {"C": iter(shares["C"]), "D": iter(shares["D"])}
    frames = b""
    for part in order:
        kind = part[0]
        piece = b"".join(rest[kind]) if part.endswith("*") else next(rest[kind], b"\0\0")
        control = (wire.COMMAND if kind == "C" else 0) | (wire.LAST if part.endswith("*") else 0)
        frames += wire.data_tf(wire.pdv(STORE, control, piece))
    return frames


def _order_cases() -> list[Case]:
    rule = "The parts of a message come in order, command before data: not {}."
    return [
        storing(f"PS3.8/E.1-{41 + at}", ROBUST, rule.format(" ".join(order)), _frames_of(order), FAILURE)
        for at, order in enumerate(_wrong_orders(3))
    ]


def _frames_of(order: tuple[str, ...]) -> Callable[[Session], bytes]:
    return lambda _: _in_order(order)


@scripted(
    "PS3.8/E.1-71",
    ROBUST,
    "A data set that no command announced ends the association.",
    "C-ECHO-RSP with status 0000, then A-ABORT",
)
def _stray_data(session: Session) -> str:
    association = session.associate()
    association.send(_WHOLE + whole_data(1, bytes(4)))
    first = association.message()
    if not isinstance(first, Reply):
        return ABORTED.check(first)
    second = association.message()
    ABORTED.check(second)
    return seen_all([first, second])


_ORDER = (
    *_order_cases(),
    _stray_data,
    established(
        "PS3.8/E.1-72",
        ROBUST,
        "Two messages in one P-DATA-TF, which is forbidden, are answered or abort the association.",
        wire.data_tf(wire.pdv(1, 3, _ECHO), wire.pdv(1, 3, _ECHO)),
        RESPONSE,
    ),
)

# ---- floods ----------------------------------------------------------------------------------------------------------


def _flood(number: int, rule: str, frame: bytes, count: int) -> Case:
    """The same fragment again and again; somewhere there must be an end to it."""

    def script(session: Session) -> str:
        association = session.associate()
        block = frame * 500
        for _ in range(count // 500):
            if not association.send(block):
                break
        answer: Seen = association.answer()
        demand(FAILURE.test(answer) or getattr(answer, "ended", False), answer)
        return str(answer)

    return Case(f"PS3.8/E.1-{number}", ROBUST, rule, "A-ABORT, or the connection is closed", script, alone=True)


_FLOODS = (
    _flood(81, "Empty fragments without end end the association.", wire.data_tf(wire.pdv(1, 1)), 200_000),
    _flood(
        82,
        "A command set without end (10 MB) ends the association.",
        wire.data_tf(wire.pdv(1, 1, bytes(4096))),
        2_500,
    ),
    _flood(
        83,
        "A command set of fragments of two bytes without end ends the association.",
        wire.data_tf(wire.pdv(1, 1, b"\0\0")),
        100_000,
    ),
)

CASES: tuple[Case, ...] = (*_CUTS, *_CONTEXTS, *_ORDER, *_FLOODS)
