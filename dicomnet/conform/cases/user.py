"""The cases for a user (SCU): what its requests must look like, and what it makes of all kinds of providers."""

from __future__ import annotations

import re
from collections.abc import Callable

from .. import wire
from ..caller import Caller, framed, response_set, success
from ..case import ABORTED, CLOSED, Case, Departure, Expect, Grade, NotApplicable, one_of
from ..peer import Answer, Kind, Reply, Seen
from ..session import pdvs
from .forms import demand

MUST, SHOULD, ROBUST = Grade.MUST, Grade.SHOULD, Grade.ROBUST

_UID = re.compile(rb"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
_WORKS = "requests, A-RELEASE-RQ, and the connection is closed"
_GIVES_UP = Expect(
    "A-RELEASE-RQ or A-ABORT, or the connection is closed",
    one_of(Kind.RELEASE_RQ, Kind.ABORT, Kind.CLOSED, Kind.RESET),
)
_SAYS_SO = Expect("A-RELEASE-RQ or A-ABORT", one_of(Kind.RELEASE_RQ, Kind.ABORT))

Script = Callable[[Caller], str]


def _case(id_: str, grade: Grade, rule: str, expected: str, script: Script) -> Case:
    return Case(id_, grade, rule, expected, script)


# ---- the request, looked at ------------------------------------------------------------------------------------------


def _looks(number: str, grade: Grade, rule: str, expected: str, check: Callable[[Caller], object]) -> Case:
    """The A-ASSOCIATE-RQ is looked at: ``check`` gives what is wrong with it, or nothing."""

    def script(caller: Caller) -> str:
        wrong = check(caller)
        if wrong:
            raise Departure(str(wrong))
        return expected

    return _case(number, grade, rule, expected, script)


def _reserved(caller: Caller) -> object:
    request = caller.request
    items = [item for item in (*request.items, *request.user) if item.reserved and item.kind != 0x57]
    if caller.asked.header[1] or request.spare != bytes(2) or request.tail != bytes(32):
        return "reserved bytes of the PDU are set"
    contexts = any(body[1:4] != bytes(3) for body in request.bodies(0x20))
    return (items and f"item {items[0].kind:02X}H with a reserved byte set") or (contexts and "set in a context")


def _titles(caller: Caller) -> object:
    for title in (caller.request.called, caller.request.calling):
        if not title.strip(b" ") or any(not 0x20 <= byte < 0x7F or byte == 0x5C for byte in title):
            return repr(title)
    return None


def _items(caller: Caller) -> object:
    kinds = [item.kind for item in caller.request.items]
    good = kinds == sorted(kinds) and kinds.count(0x10) == 1 and kinds.count(0x50) == 1 and 0x20 in kinds
    return not good and "items " + " ".join(f"{kind:02X}H" for kind in kinds)


def _ids(caller: Caller) -> object:
    numbers = [body[0] for body in caller.request.bodies(0x20)]
    return (len(set(numbers)) != len(numbers) or any(number % 2 == 0 for number in numbers)) and f"IDs {numbers}"


def _uids(caller: Caller) -> object:
    uids = caller.request.bodies(0x10) + caller.request.sub_items(0x52)
    for abstract, transfers in caller.request.proposed.values():
        uids += [abstract, *transfers]
    bad = [uid for uid in uids if not _UID.fullmatch(uid) or len(uid) > 64]
    return bad and f"not a UID: {bad[0]!r}"


def _sub_items(caller: Caller) -> object:
    counts = [len(caller.request.sub_items(kind)) for kind in (0x51, 0x52)]
    return counts != [1, 1] and f"{counts[0]} sub-items 51H, {counts[1]} sub-items 52H"


LOOKS: tuple[Case, ...] = (
    _looks(
        "PS3.8/9.3.2-201",
        MUST,
        "Bit 0 of the protocol version in the A-ASSOCIATE-RQ is set.",
        "bit 0 is set",
        lambda caller: not caller.request.version & 1 and f"version {caller.request.version:04X}",
    ),
    _looks("PS3.8/9.3.2-202", MUST, "Reserved bytes of the A-ASSOCIATE-RQ are sent as zero.", "zero", _reserved),
    _looks("PS3.8/9.3.2-203", MUST, "AE titles are of ISO 646 G0, and not blank.", "two titles", _titles),
    _looks(
        "PS3.8/9.3.2-204",
        MUST,
        "Items come in order: one application context, presentation contexts, one user information.",
        "10H 20H … 50H",
        _items,
    ),
    _looks(
        "PS3.8/9.3.2.1-201",
        MUST,
        "The application context is that of DICOM.",
        wire.APPLICATION_CONTEXT,
        lambda caller: (
            caller.request.bodies(0x10) != [wire.APPLICATION_CONTEXT.encode()] and caller.request.bodies(0x10)
        ),
    ),
    _looks("PS3.8/9.3.2.2-201", MUST, "Presentation context IDs are odd, and each is used once.", "odd", _ids),
    _looks("PS3.8/F.1-201", MUST, "UIDs in the A-ASSOCIATE-RQ are UIDs, without padding.", "UIDs", _uids),
    _looks(
        "PS3.8/D.1-201",
        MUST,
        "The A-ASSOCIATE-RQ holds one maximum length and one implementation class UID.",
        "one each",
        _sub_items,
    ),
)

# ---- accepted, in unusual ways ---------------------------------------------------------------------------------------


def _serving(id_: str, grade: Grade, rule: str, make: Callable[[Caller], bytes]) -> Case:
    """An A-ASSOCIATE-AC that must make no difference: the user does what it came for."""

    def script(caller: Caller) -> str:
        caller.send(make(caller))
        return caller.serve()

    return _case(id_, grade, rule, _WORKS, script)


def _responding(id_: str, grade: Grade, rule: str, respond: Callable[[Reply], bytes]) -> Case:
    """Responses in an unusual form that must make no difference."""

    def script(caller: Caller) -> str:
        caller.send(caller.accept())
        return caller.serve(respond)

    return _case(id_, grade, rule, _WORKS, script)


def _with_items(*extra: bytes) -> Callable[[Caller], bytes]:
    def make(caller: Caller) -> bytes:
        information = wire.user_information(wire.max_length(), wire.implementation())
        return caller.accept(items=(wire.application(), extra[0], *caller.results(), *extra[1:], information, *extra))

    return make


def _small_pieces(caller: Caller) -> str:
    limit = 64
    caller.send(caller.accept(max_length=limit))
    longest: list[int] = []

    def respond(request: Reply) -> bytes:
        longest.extend(request.pdu_lengths)
        return success(request)

    words = caller.serve(respond)
    demand(max(longest) <= limit, f"a P-DATA-TF of {max(longest)} bytes")
    return f"{words}; P-DATA-TF of up to {max(longest)} bytes"


def _in_fragments(request: Reply) -> bytes:
    fragments = pdvs(request.context_id, response_set(request), 2, True)
    return b"".join(wire.data_tf(fragment) for fragment in fragments)


def _empty_last(request: Reply) -> bytes:
    number = request.context_id
    return wire.data_tf(wire.pdv(number, 1, response_set(request))) + wire.data_tf(wire.pdv(number, 3))


def _controls(request: Reply) -> bytes:
    return wire.data_tf(wire.pdv(request.context_id, 0xFF, response_set(request)))


ACCEPTED: tuple[Case, ...] = (
    _serving("PS3.8/9.3.3-201", MUST, "An ordinary A-ASSOCIATE-AC is followed by work and release.", Caller.accept),
    _serving(
        "PS3.8/9.3.3-202",
        MUST,
        "AE titles and reserved bytes of the A-ASSOCIATE-AC are not tested.",
        lambda caller: caller.accept(called=b"\xff" * 16, calling=b"\0" * 16, tail=b"\xaa" * 32, spare=b"\xff\xff"),
    ),
    _serving(
        "PS3.8/9.3.3-203",
        MUST,
        "Of the protocol version in the A-ASSOCIATE-AC only bit 0 is tested.",
        lambda caller: caller.accept(version=0x8001),
    ),
    _serving(
        "PS3.8/7.1.1.14-201",
        MUST,
        "The results of presentation contexts may come in any order.",
        lambda caller: caller.accept(results=list(reversed(caller.results()))),
    ),
    _serving(
        "PS3.8/9.3.1-201",
        MUST,
        "Items of unknown types in the A-ASSOCIATE-AC are skipped.",
        _with_items(wire.item(0x1F, b"unknown"), wire.item(0x77, b"")),
    ),
    _serving(
        "PS3.8/D.2-201",
        MUST,
        "Unknown sub-items of the user information in the A-ASSOCIATE-AC are ignored.",
        lambda caller: caller.accept(user=(wire.item(0x5A, b"unknown"), wire.item(0xFF, bytes(300)))),
    ),
    _serving("PS3.8/D.1-202", MUST, "A maximum length of 0 means no limit.", lambda c: c.accept(max_length=0)),
    _case(
        "PS3.8/D.1-203",
        MUST,
        "A maximum length of 64 bytes is kept.",
        "P-DATA-TF of at most 64 bytes",
        _small_pieces,
    ),
    _responding("PS3.8/E.1-201", MUST, "A response may come in fragments of two bytes.", _in_fragments),
    _responding("PS3.8/E.1-202", SHOULD, "An empty last fragment of a response can be processed (note).", _empty_last),
    _responding("PS3.8/E.2-201", MUST, "Bits 2 to 7 of the message control header are never checked.", _controls),
    _responding(
        "PS3.7/9.3.5.2-201",
        SHOULD,
        "A response with a failure status is no reason to do without a release.",
        lambda request: framed(request, response_set(request, 0x0110)),
    ),
)

# ---- refused contexts ------------------------------------------------------------------------------------------------


def _refusing(
    id_: str, grade: Grade, rule: str, results: Callable[[Caller], list[bytes]], expect: Expect = _GIVES_UP
) -> Case:
    """No context can be used: nothing is sent in any."""

    def script(caller: Caller) -> str:
        caller.send(caller.accept(results=results(caller)))
        return expect.check(caller.connection.message())

    return _case(id_, grade, rule, expect.text, script)


def _one_refused(caller: Caller) -> str:
    if len(caller.request.proposed) < 2:
        raise NotApplicable("only one presentation context is proposed")
    refused = min(caller.request.proposed)
    others = [result for result in caller.results() if result[4] != refused]
    caller.send(caller.accept(results=[wire.context_result(refused, 3, None), *others]))
    while isinstance(seen := caller.connection.message(), Reply):
        demand(seen.context_id != refused, f"{seen} in the refused context {refused}")
        caller.send(success(seen))
    return _GIVES_UP.check(seen)


REFUSED: tuple[Case, ...] = (
    _refusing("PS3.8/9.3.3.2-201", MUST, "Nothing is sent in a context that was refused.", Caller.refusals),
    _refusing(
        "PS3.8/9.3.3.2-202",
        MUST,
        "What follows a refusal is not significant, and may be missing.",
        lambda caller: caller.refusals(bare=True),
    ),
    _refusing(
        "PS3.8/9.1.4-201",
        SHOULD,
        "An association of no use is released or aborted, not just disconnected (note 1).",
        Caller.refusals,
        _SAYS_SO,
    ),
    _case(
        "PS3.8/9.3.3.2-203",
        MUST,
        "Where one context is refused, only the others are used.",
        "nothing in the refused one",
        _one_refused,
    ),
    _refusing(
        "PS3.8/9.3.3.2-204",
        ROBUST,
        "Nothing is sent in a context that was accepted with a transfer syntax that was not offered.",
        lambda caller: [wire.context_result(number, 0, "2.25.77") for number in caller.request.proposed],
    ),
)

# ---- not what was asked for ------------------------------------------------------------------------------------------


def _instead(id_: str, grade: Grade, rule: str, make: Callable[[Caller], bytes], expect: Expect) -> Case:
    """Something else in the place of the A-ASSOCIATE-AC."""

    def script(caller: Caller) -> str:
        caller.send(make(caller))
        return expect.check(caller.answer())

    return _case(id_, grade, rule, expect.text, script)


def _lying(caller: Caller) -> bytes:
    """The first item is longer than the PDU."""
    accept = caller.accept()
    return accept[:76] + b"\xff\xff" + accept[78:]


def _short(caller: Caller) -> bytes:
    """PDU-length is one less than true."""
    accept = caller.accept()
    return wire.pdu(wire.ASSOCIATE_AC, accept[6:], length=len(accept) - 7)


def _without_information(caller: Caller) -> bytes:
    return caller.accept(items=(wire.application(), *caller.results()))


_PDUS: dict[str, Callable[[Caller], bytes]] = {
    "A-ASSOCIATE-RQ": lambda caller: wire.pdu(wire.ASSOCIATE_RQ, caller.asked.body),
    "A-ASSOCIATE-AC": Caller.accept,
    "A-ASSOCIATE-RJ": lambda _: wire.reject(1, 1, 1),
    "P-DATA-TF": lambda _: wire.data_tf(wire.pdv(1, 3, wire.command_set(wire.echo_rq()))),
    "A-RELEASE-RQ": lambda _: wire.release_rq(),
    "A-RELEASE-RP": lambda _: wire.release_rp(),
    "PDU of type 08H": lambda _: wire.pdu(8, bytes(4)),
}


def _sta5() -> list[Case]:
    names = [name for name in _PDUS if name not in ("A-ASSOCIATE-AC", "A-ASSOCIATE-RJ")]
    rule = "{} where an A-ASSOCIATE-AC is awaited (Sta5) is answered with A-ABORT (AA-8)."
    return [
        _instead(f"PS3.8/9.2.3-{201 + at}", MUST, rule.format(_the(name)), _PDUS[name], ABORTED)
        for at, name in enumerate(names)
    ]


def _the(name: str) -> str:
    return f"An {name}" if name.startswith("A-") else f"A {name}"


def _rejections() -> list[Case]:
    codes = ((1, 1, 1), (1, 1, 7), (1, 2, 2), (2, 3, 1), (255, 255, 255))
    rule = "After an A-ASSOCIATE-RJ ({}/{}/{}) the requestor closes the connection (AE-4)."
    return [
        _instead(
            f"PS3.8/9.3.4-{201 + at}",
            ROBUST if code[0] == 255 else MUST,
            rule.format(*code),
            lambda _, code=code: wire.reject(*code),  # type: ignore[misc]
            CLOSED,
        )
        for at, code in enumerate(codes)
    ]


INSTEAD: tuple[Case, ...] = (
    *_sta5(),
    _instead(
        "PS3.8/9.2.3-206", MUST, "An A-ABORT in Sta5 closes the connection (AA-3).", lambda _: wire.abort(2, 0), CLOSED
    ),
    *_rejections(),
    _instead("PS3.8/9.3.3-211", MUST, "An item that is longer than the A-ASSOCIATE-AC is invalid.", _lying, ABORTED),
    _instead("PS3.8/9.3.3-212", MUST, "An A-ASSOCIATE-AC that ends within an item is invalid.", _short, ABORTED),
    _instead(
        "PS3.8/9.3.3-213",
        MUST,
        "An A-ASSOCIATE-AC without user information is invalid.",
        _without_information,
        ABORTED,
    ),
    _instead(
        "PS3.8/9.3.3-214",
        ROBUST,
        "An A-ASSOCIATE-AC that claims 4 GiB is refused at its header, not waited for.",
        lambda _: wire.pdu(wire.ASSOCIATE_AC, bytes(68), length=0xFFFFFFFF),
        Expect("A-ABORT, or the connection is closed", one_of(Kind.ABORT, Kind.CLOSED, Kind.RESET)),
    ),
    _instead(
        "PS3.8/9.2.3-207",
        ROBUST,
        "Who is answered by a web server has the wrong port, and lets go.",
        lambda _: b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
        Expect("A-ABORT, or the connection is closed", one_of(Kind.ABORT, Kind.CLOSED, Kind.RESET)),
    ),
)

# ---- on the association ----------------------------------------------------------------------------------------------


def _on_request(id_: str, grade: Grade, rule: str, make: Callable[[Caller, Reply], bytes], expect: Expect) -> Case:
    """Something else in the place of the first response."""

    def script(caller: Caller) -> str:
        seen = caller.first_request()
        if not isinstance(seen, Reply):
            raise Departure(f"no request, but {seen}")
        caller.send(make(caller, seen))
        return expect.check(_past_requests(caller))

    return _case(id_, grade, rule, expect.text, script)


def _past_requests(caller: Caller) -> Seen:
    """The next thing that is not one more request: a user may have sent several."""
    seen: Seen = caller.connection.message()
    for _ in range(100):
        if not isinstance(seen, Reply):
            break
        seen = caller.connection.message()
    return seen


def _sta6() -> list[Case]:
    names = [name for name in _PDUS if name not in ("P-DATA-TF", "A-RELEASE-RQ")]
    rule = "{} on an established association (Sta6) is answered with A-ABORT (AA-8)."
    return [
        _on_request(
            f"PS3.8/9.2.3-{211 + at}",
            MUST,
            rule.format(_the(name)),
            lambda caller, _, name=name: _PDUS[name](caller),  # type: ignore[misc]
            ABORTED,
        )
        for at, name in enumerate(names)
    ]


def _wrong_message(_: Caller, request: Reply) -> bytes:
    return framed(request, response_set(request, x0120=wire.us(54321)))


def _wrong_context(caller: Caller, request: Reply) -> bytes:
    free = next((number for number in range(255, 0, -2) if number not in caller.request.proposed), None)
    if free is None:
        raise NotApplicable("all 128 presentation contexts are in use")
    return framed(request, response_set(request), context_id=free)


def _even_context(_: Caller, request: Reply) -> bytes:
    return framed(request, response_set(request), context_id=2)


def _long_fragment(_: Caller, request: Reply) -> bytes:
    command = response_set(request)
    return wire.data_tf(wire.pdv(request.context_id, 3, command, length=len(command) + 3))


def _no_command(_: Caller, request: Reply) -> bytes:
    return framed(request, b"this is no command set")


def _to_release(caller: Caller) -> None:
    """Serve the user up to its A-RELEASE-RQ."""
    caller.send(caller.accept())
    while isinstance(seen := caller.connection.message(), Reply):
        caller.send(success(seen))
    if seen.kind is not Kind.RELEASE_RQ:
        raise Departure(f"no A-RELEASE-RQ, but {seen}")


def _collision(caller: Caller) -> str:
    _to_release(caller)
    caller.send(wire.release_rq())
    first = caller.answer()
    demand(first.kind is Kind.RELEASE_RP, first)
    caller.send(wire.release_rp())
    last: Answer = caller.answer()
    demand(last.ended, f"{first}, then {last}")
    return "A-RELEASE-RP, then the connection is closed"


def _no_release(caller: Caller) -> str:
    _to_release(caller)
    caller.send(caller.accept())
    return ABORTED.check(caller.answer())


def _abort_release(caller: Caller) -> str:
    _to_release(caller)
    caller.send(wire.abort())
    return CLOSED.check(caller.answer())


ASSOCIATED: tuple[Case, ...] = (
    *_sta6(),
    _on_request(
        "PS3.8/9.2.3-221",
        MUST,
        "An A-ABORT in the place of a response closes the connection (AA-3).",
        lambda *_: wire.abort(0, 0),
        CLOSED,
    ),
    _on_request(
        "PS3.8/9.2.3-222",
        MUST,
        "An A-RELEASE-RQ in the place of a response (Sta8) is agreed to, or the association aborted.",
        lambda *_: wire.release_rq(),
        Expect("A-RELEASE-RP or A-ABORT", one_of(Kind.RELEASE_RP, Kind.ABORT)),
    ),
    _on_request(
        "PS3.8/9.3.5.1-201",
        MUST,
        "A presentation data value that is longer than its P-DATA-TF is invalid.",
        _long_fragment,
        ABORTED,
    ),
    _on_request(
        "PS3.8/9.3.5.1-202", MUST, "A response in a context with an even ID is invalid.", _even_context, ABORTED
    ),
    _on_request(
        "PS3.8/9.3.5.1-203",
        ROBUST,
        "A response in a context that does not exist aborts the association.",
        _wrong_context,
        ABORTED,
    ),
    _on_request(
        "PS3.7/9.3.5.2-202",
        ROBUST,
        "A response to a message that was never sent aborts the association.",
        _wrong_message,
        ABORTED,
    ),
    _on_request(
        "PS3.7/6.3.1-201", ROBUST, "A response that is no command set aborts the association.", _no_command, ABORTED
    ),
    _case(
        "PS3.8/9.2.3-223",
        MUST,
        "An A-RELEASE-RQ that meets the requestor's own (Sta7, AR-8) is answered, and the answer awaited (AR-9, AR-3).",
        "A-RELEASE-RP, then the connection is closed",
        _collision,
    ),
    _case(
        "PS3.8/9.2.3-224",
        MUST,
        "An A-ASSOCIATE-AC where an A-RELEASE-RP is awaited (Sta7) is answered with A-ABORT (AA-8).",
        ABORTED.text,
        _no_release,
    ),
    _case(
        "PS3.8/9.2.3-225",
        MUST,
        "An A-ABORT where an A-RELEASE-RP is awaited (Sta7) closes the connection (AA-3).",
        CLOSED.text,
        _abort_release,
    ),
)

CASES: tuple[Case, ...] = (*ACCEPTED, *REFUSED, *INSTEAD, *ASSOCIATED)
