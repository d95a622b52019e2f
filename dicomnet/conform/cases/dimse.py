"""Command sets: what a C-ECHO-RSP must look like, and what becomes of commands that are wrong (PS3.7)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from .. import wire
from ..case import FAILURE, RESPONSE, SUCCESS, Case, Departure, Expect, Grade
from ..instance import ct_image, new_uid
from ..peer import Reply
from ..session import STORE, Session, store_parts, whole, whole_data
from .forms import demand, established, scripted, storing

MUST, SHOULD, ROBUST = Grade.MUST, Grade.SHOULD, Grade.ROBUST

_ECHO = wire.echo_rq()

# ---- the response to C-ECHO ------------------------------------------------------------------------------------------

Check = Callable[[Reply], object]


def _looks(id_: str, grade: Grade, rule: str, expected: str, check: Check) -> Case:
    """The response to a C-ECHO-RQ is looked at: ``check`` gives what is wrong with it, or nothing."""

    def script(session: Session) -> str:
        seen = session.associate().echo(4711)
        if not isinstance(seen, Reply):
            raise Departure(str(seen))
        try:
            wrong = check(seen)
        except (wire.Unreadable, KeyError) as error:
            wrong = f"{seen}: {error!r}"
        if wrong:
            raise Departure(str(wrong))
        return expected

    return Case(id_, grade, rule, expected, script)


def _number(element: int, value: int) -> Check:
    def check(reply: Reply) -> object:
        found = reply.number(element)
        return found != value and f"(0000,{element:04X}) is {'missing' if found is None else found}"

    return check


def _group_length(reply: Reply) -> object:
    said = struct.unpack("<I", reply.command[wire.GROUP_LENGTH])[0]
    return said != len(reply.command_bytes) - 12 and f"{said}, where {len(reply.command_bytes) - 12} bytes follow"


def _ascending(reply: Reply) -> object:
    return list(reply.command) != sorted(reply.command) and "elements out of order"


def _even(reply: Reply) -> object:
    odd = [fragment for fragment in reply.fragments if len(fragment.data) % 2]
    values = [element for element, value in reply.command.items() if len(value) % 2]
    return (odd and "an odd fragment") or (values and f"an odd value in (0000,{values[0]:04X})")


def _affected_class(reply: Reply) -> object:
    value = reply.command.get(wire.AFFECTED_CLASS)
    return value is not None and value != wire.ui(wire.VERIFICATION) and f"{value!r}"


def _controls(reply: Reply) -> object:
    return any(fragment.control > 3 for fragment in reply.fragments) and "bits 2 to 7 of a control header are set"


def _context(reply: Reply) -> object:
    return any(fragment.context_id != 1 for fragment in reply.fragments) and f"context {reply.context_id}"


_RESPONSE = (
    _looks("PS3.7/9.3.5.2-1", MUST, "C-ECHO succeeds.", "status 0000", _number(wire.STATUS, 0)),
    _looks(
        "PS3.7/9.3.5.2-2",
        MUST,
        "The response says which request it answers.",
        "Message ID Being Responded To 4711",
        _number(wire.RESPONDED_TO, 4711),
    ),
    _looks(
        "PS3.7/9.3.5.2-3",
        MUST,
        "The response is a C-ECHO-RSP.",
        "Command Field 8030H",
        _number(wire.FIELD, wire.ECHO_RSP),
    ),
    _looks(
        "PS3.7/9.3.5.2-4",
        MUST,
        "The response has no data set and says so.",
        "Command Data Set Type 0101H",
        _number(wire.DATA_SET_TYPE, wire.NO_DATA_SET),
    ),
    _looks(
        "PS3.7/9.3.5.2-5",
        MUST,
        "An Affected SOP Class UID in the response is that of the request.",
        "none, or that of verification, padded with one NUL",
        _affected_class,
    ),
    _looks("PS3.7/6.3.1-1", MUST, "The Command Group Length is there, and true.", "the true one", _group_length),
    _looks("PS3.7/6.3.1-2", MUST, "Command elements are in ascending order.", "ascending", _ascending),
    _looks("PS3.7/6.3.1-3", MUST, "Fragments and values have an even length.", "even", _even),
    _looks("PS3.8/E.2-2", MUST, "Bits 2 to 7 of the message control header are sent as 0.", "0", _controls),
    _looks("PS3.8/E.1-12", MUST, "A response comes in the presentation context of its request.", "context 1", _context),
)


def _message_id(number: int, message_id: int) -> Case:
    def responds(seen: object) -> bool:
        return isinstance(seen, Reply) and seen.status == 0 and seen.number(wire.RESPONDED_TO) == message_id

    expect = Expect(f"a response to message {message_id}", responds)
    rule = f"A message ID may be any number of 16 bits, {message_id} too."
    return established(
        f"PS3.7/9.1.5-{number}", MUST, rule, whole(1, wire.command_set(wire.echo_rq(message_id))), expect
    )


@scripted("PS3.7/9.1.5-4", MUST, "An association takes one C-ECHO after the other.", "20 responses")
def _twenty(session: Session) -> str:
    association = session.associate()
    for message_id in range(20):
        seen = association.echo(message_id)
        demand(isinstance(seen, Reply) and seen.number(wire.RESPONDED_TO) == message_id, f"{message_id}: {seen}")
    return "20 responses"


# ---- commands that are wrong -----------------------------------------------------------------------------------------


def _command(id_: str, rule: str, data: bytes, expect: Expect = FAILURE, grade: Grade = ROBUST) -> Case:
    return established(id_, grade, rule, whole(1, data), expect)


def _elements(changed: dict[int, bytes] | None = None) -> list[bytes]:
    return [wire.element(number, value) for number, value in (changed or _ECHO).items()]


def _explicit() -> bytes:
    """The C-ECHO-RQ in explicit VR, as some write it by mistake."""
    vrs = {wire.AFFECTED_CLASS: b"UI"}
    parts = [
        struct.pack("<HH2sH", 0, number, vrs.get(number, b"US"), len(value)) + value for number, value in _ECHO.items()
    ]
    body = b"".join(parts)
    return struct.pack("<HH2sHI", 0, 0, b"UL", 4, len(body)) + body


_NAMES = {
    wire.AFFECTED_CLASS: "Affected SOP Class UID",
    wire.FIELD: "Command Field",
    wire.MESSAGE_ID: "Message ID",
    wire.PRIORITY: "Priority",
    wire.DATA_SET_TYPE: "Command Data Set Type",
    wire.AFFECTED_INSTANCE: "Affected SOP Instance UID",
}


def _spoiled(elements: dict[int, bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Each element of a command left out, doubled, and with a value that its VR cannot have."""
    for spoiled, value in elements.items():
        rest = {number: other for number, other in elements.items() if number != spoiled}
        name = _NAMES[spoiled]
        yield f"without {name}", _elements(rest)
        doubled = _elements(elements)
        doubled.insert(list(elements).index(spoiled), wire.element(spoiled, value))
        yield f"with {name} twice", doubled
        mistyped = b"\xff\xfe" if len(value) != 2 else b"\x30\x00\x00"
        yield f"with a mistyped {name}", _elements({**elements, spoiled: mistyped})


# Where the standard names no consequence and providers can do well without, an answer of any kind will do.
_BEARABLE = ("without Affected SOP Class UID", "with a mistyped Affected SOP Class UID", "without Priority")


def _spoiled_echo() -> list[Case]:
    rule = "A C-ECHO-RQ {} fails, or aborts the association."
    lenient = "A C-ECHO-RQ {} is answered, or aborts the association."
    return [
        _command(
            f"PS3.7/9.3.5.1-{11 + at}",
            (lenient if what in _BEARABLE else rule).format(what),
            wire.command_set(elements),
            RESPONSE if what in _BEARABLE else FAILURE,
        )
        for at, (what, elements) in enumerate(_spoiled(_ECHO))
    ]


def _spoiled_store() -> list[Case]:
    instance = new_uid()
    return [
        storing(
            f"PS3.7/9.3.1.1-{11 + at}",
            ROBUST,
            f"A C-STORE-RQ {what} {'is answered' if what in _BEARABLE[2:] else 'fails'}, or aborts the association.",
            whole(STORE, wire.command_set(elements)) + whole_data(STORE, ct_image(instance, wire.IMPLICIT)),
            RESPONSE if what in _BEARABLE[2:] else FAILURE,
        )
        for at, (what, elements) in enumerate(_spoiled(wire.store_rq(instance)))
    ]


def _dangling(number: int, value: bytes, length: int) -> bytes:
    """A C-ECHO-RQ whose last element has another length than value."""
    return wire.command_set([*_elements()[:-1], wire.element(number, value, length=length)])


_WRONG = (
    *_spoiled_echo(),
    *_spoiled_store(),
    _command(
        "PS3.7/6.3.1-11",
        "A command set without Command Group Length can be understood; it is answered, or aborts the association.",
        wire.command_set(_ECHO, group_length=None),
        RESPONSE,
    ),
    _command(
        "PS3.7/6.3.1-12",
        "A Command Group Length that is too small is noticed, or does not matter.",
        wire.command_set(_ECHO, group_length=8),
        RESPONSE,
    ),
    _command(
        "PS3.7/6.3.1-13",
        "A Command Group Length that is too large is noticed, or does not matter.",
        wire.command_set(_ECHO, group_length=0xFFFFFFFF),
        RESPONSE,
    ),
    _command(
        "PS3.7/6.3.1-14",
        "Command elements out of order are noticed, or do not matter.",
        wire.command_set(list(reversed(_elements()))),
        RESPONSE,
    ),
    _command(
        "PS3.7/6.3.1-15",
        "An element of another group in a command set fails, or aborts the association.",
        wire.command_set([*_elements(), wire.element(0x0010, b"DOE^JOHN", group=0x0010)]),
    ),
    _command(
        "PS3.7/6.3.1-16",
        "An element that claims FFFFFFFFH bytes fails, or aborts the association.",
        _dangling(wire.DATA_SET_TYPE, wire.us(0x0101), 0xFFFFFFFF),
    ),
    _command(
        "PS3.7/6.3.1-17",
        "An element that is longer than the command set fails, or aborts the association.",
        _dangling(wire.DATA_SET_TYPE, wire.us(0x0101), 4),
    ),
    _command(
        "PS3.7/6.3.1-18",
        "An element that claims 7FFFFFFEH bytes fails, or aborts the association.",
        _dangling(wire.DATA_SET_TYPE, wire.us(0x0101), 0x7FFFFFFE),
    ),
    _command(
        "PS3.7/6.3.1-19",
        "A command set that ends within an element's header fails, or aborts the association.",
        wire.command_set([*_elements(), b"\0\0\0\x09\x02"]),
    ),
    _command("PS3.7/6.3.1-20", "An empty command set fails, or aborts the association.", b""),
    _command(
        "PS3.7/6.3.1-21",
        "A command set of nothing but its group length fails, or aborts the association.",
        wire.command_set({}),
    ),
    _command("PS3.7/6.3.1-22", "A command set of zeros fails, or aborts the association.", bytes(64)),
    _command("PS3.7/6.3.1-23", "A command set in explicit VR fails, or aborts the association.", _explicit(), RESPONSE),
    _command(
        "PS3.7/6.3.1-24",
        "The retired Length to End (0000,0001) may be there, and is not relied upon (note 1).",
        wire.command_set({0x0001: struct.pack("<I", 64), **_ECHO}),
        SUCCESS,
        SHOULD,
    ),
    _command(
        "PS3.7/6.3.1-25",
        "A command element that does not exist is answered, or aborts the association.",
        wire.command_set({**_ECHO, 0x7777: b"what?!"}),
        RESPONSE,
    ),
    _command(
        "PS3.7/6.3.1-26",
        "A UID of 10,000 characters is answered, or aborts the association.",
        wire.command_set({**_ECHO, wire.AFFECTED_CLASS: b"1." * 5000}),
        RESPONSE,
    ),
)

# ---- commands that are not for here ----------------------------------------------------------------------------------


def _with_field(value: int, **more: bytes) -> bytes:
    elements = {**_ECHO, wire.FIELD: wire.us(value)}
    elements |= {int(name[1:], 16): data for name, data in more.items()}
    return wire.command_set(dict(sorted(elements.items())))


def _unrecognized(seen: object) -> bool:
    return isinstance(seen, Reply) and seen.status == 0x0211


@scripted("PS3.7/9.3.2.3-1", ROBUST, "A C-CANCEL-RQ for nothing that is going on is ignored.", "C-ECHO works after it")
def _stray_cancel(session: Session) -> str:
    association = session.associate()
    cancel = {wire.FIELD: wire.us(wire.CANCEL_RQ), wire.RESPONDED_TO: wire.us(99)}
    association.send(whole(1, wire.command_set({**cancel, wire.DATA_SET_TYPE: wire.us(wire.NO_DATA_SET)})))
    return SUCCESS.check(association.echo())


_STRAY_RESPONSE = wire.command_set(wire.response(_ECHO))

_ELSEWHERE = (
    _command("PS3.7/C.5.18-1", "An unknown command (7777H) fails, or aborts the association.", _with_field(0x7777)),
    _command(
        "PS3.7/C.5.18-2",
        "An unknown command is answered with the status made for it, 0211H (unrecognized operation).",
        _with_field(0x7777),
        Expect("a response with status 0211", _unrecognized),
        SHOULD,
    ),
    _command(
        "PS3.7/C.5.18-3",
        "An unknown response (F777H) to nothing ends the association, or fails.",
        _with_field(0xF777),
    ),
    _command(
        "PS3.7/C.5.18-4",
        "An N-GET-RQ of the verification class fails, or aborts the association.",
        wire.command_set(
            {
                wire.REQUESTED_CLASS: wire.ui(wire.VERIFICATION),
                wire.FIELD: wire.us(wire.GET_RQ),
                wire.MESSAGE_ID: wire.us(1),
                wire.DATA_SET_TYPE: wire.us(wire.NO_DATA_SET),
                wire.REQUESTED_INSTANCE: wire.ui("1.2.3"),
            }
        ),
    ),
    _command(
        "PS3.7/C.5.18-5",
        "A C-FIND-RQ without identifier fails, or aborts the association.",
        _with_field(wire.FIND_RQ, x0700=wire.us(0)),
    ),
    established(
        "PS3.7/C.5.18-6",
        ROBUST,
        "A C-STORE-RQ in the context of verification fails, or aborts the association.",
        whole(1, wire.command_set(wire.store_rq("2.25.1"))) + whole_data(1, ct_image("2.25.1", wire.IMPLICIT)),
        FAILURE,
    ),
    _command(
        "PS3.7/9.1.5-5",
        "A C-ECHO-RQ of another SOP class is refused with 0122H (SOP class not supported), or succeeds all the same.",
        wire.command_set({**_ECHO, wire.AFFECTED_CLASS: wire.ui("2.25.77")}),
        RESPONSE,
    ),
    _stray_cancel,
    _command(
        "PS3.7/9.3.5.2-11",
        "A response to a request that was never made ends the association.",
        _STRAY_RESPONSE,
    ),
)

# ---- the data set flag -----------------------------------------------------------------------------------------------


def _flagged_echo(number: int, flag: int) -> Case:
    data = whole(1, wire.command_set({**_ECHO, wire.DATA_SET_TYPE: wire.us(flag)})) + whole_data(1, bytes(8))
    rule = f"0101H alone means that there is no data set: after {flag:04X}H one is read, and the message answered."
    return established(f"PS3.7/9.3-{number}", ROBUST, rule, data, RESPONSE)


def _flagged_store(number: int, flag: int) -> Case:
    def frames(_: Session) -> bytes:
        instance = new_uid()
        elements = {**wire.store_rq(instance), wire.DATA_SET_TYPE: wire.us(flag)}
        return whole(STORE, wire.command_set(elements)) + whole_data(STORE, ct_image(instance, wire.IMPLICIT))

    rule = f"Any Command Data Set Type but 0101H says that a data set follows, {flag:04X}H too."
    return storing(f"PS3.7/9.3.1.1-{number}", MUST, rule, frames, SUCCESS)


def _store_without_data(_: Session) -> bytes:
    command, data = store_parts()
    elements = {**wire.read_command(command), wire.DATA_SET_TYPE: wire.us(wire.NO_DATA_SET)}
    del elements[wire.GROUP_LENGTH]
    return whole(STORE, wire.command_set(elements)) + whole_data(STORE, data)


_FLAGS = (
    *(_flagged_echo(1 + at, flag) for at, flag in enumerate((0x0000, 0x0001, 0x0102, 0xFFFF))),
    *(_flagged_store(1 + at, flag) for at, flag in enumerate((0x0000, 0x0001, 0x0100, 0x0102, 0xFFFE, 0xFFFF))),
    storing(
        "PS3.7/9.3.1.1-7",
        ROBUST,
        "A C-STORE-RQ that says it has no data set fails, or aborts the association.",
        _store_without_data,
        FAILURE,
    ),
)

CASES: tuple[Case, ...] = (
    *_RESPONSE,
    *(_message_id(1 + at, message_id) for at, message_id in enumerate((0, 1, 65535))),
    _twenty,
    *_WRONG,
    *_ELSEWHERE,
    *_FLAGS,
)
