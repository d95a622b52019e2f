"""UIDs, and what travels in the user information item (PS3.8 Annexes D and F, PS3.7 Annex D.3.3)."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from .. import wire
from ..case import ANSWERED, REFUSED, Case, Departure, Grade
from ..peer import Kind
from ..session import Session, store_contexts, user_items
from .forms import accepting, asking, demand, scripted

MUST, SHOULD, ROBUST = Grade.MUST, Grade.SHOULD, Grade.ROBUST

# ---- UIDs ------------------------------------------------------------------------------------------------------------

_BAD_UIDS: tuple[tuple[str, bytes], ...] = (
    ("no character", b""),
    ("spaces only", b"    "),
    ("65 characters", b"1.2.840." + b"9" * 57),
    ("1,000 characters", b"1.2.840." + b"9" * 992),
    ("a leading zero", b"1.2.0840.10008.1.1"),
    ("an empty component", b"1.2..840.10008.1.1"),
    ("a leading dot", b".1.2.840.10008.1.1"),
    ("a trailing dot", b"1.2.840.10008.1.1."),
    ("letters", b"1.2.840.1OOO8.1.1"),
    ("a leading space", b" 1.2.840.10008.1.1"),
    ("a space within", b"1.2.840. 10008.1.1"),
    ("a NUL within", b"1.2.840\x0010008.1.1"),
    ("a line feed", b"1.2.840.10008.1.1\n"),
    ("a path", b"../../../etc/passwd"),
    ("a byte of FFH", b"1.2.840.10008.1.1\xff"),
)


def _bad_abstract(at: int, what: str, uid: bytes) -> Case:
    rule = f"An abstract syntax with {what} is no UID: its context is refused, or the whole request."

    def script(session: Session) -> str:
        answer = session.opened(session.request(contexts=(wire.context(1), wire.context(3, uid)))).answer()
        if answer.kind is Kind.ACCEPT:
            demand(not answer.accept.accepts(3), "A-ASSOCIATE-AC with the context accepted")
            return "A-ASSOCIATE-AC with the context refused"
        return REFUSED.check(answer)

    return Case(f"PS3.8/F.1-{11 + at}", ROBUST, rule, "the context, or the request, is refused", script)


def _padded(at: int, padding: bytes, what: str) -> Case:
    rule = f"UIDs padded with a {what}, as many senders pad them, are understood."
    context = wire.context(1, wire.VERIFICATION.encode() + padding, (wire.IMPLICIT.encode() + padding,))
    return accepting(f"PS3.8/F.1-{2 + at}", ROBUST, rule, contexts=(context,))


_UIDS = (
    _padded(0, b"\0", "NUL"),
    _padded(1, b" ", "space"),
    asking(
        "PS3.8/F.1-4",
        ROBUST,
        "A transfer syntax that is no UID, among others, is answered.",
        ANSWERED,
        contexts=(wire.context(1, wire.VERIFICATION, (b"../\xff\n", wire.IMPLICIT)),),
    ),
    asking(
        "PS3.8/F.1-5",
        ROBUST,
        "An implementation class UID that is no UID is answered.",
        ANSWERED,
        user=(wire.max_length(), wire.implementation(b"\xff\n\x1b[2J")),
    ),
    *(_bad_abstract(at, what, uid) for at, (what, uid) in enumerate(_BAD_UIDS)),
)

# ---- sub-items in general --------------------------------------------------------------------------------------------


def _unknown_sub_items() -> list[Case]:
    cases = []
    for at, kind in enumerate((0x5A, 0x60, 0x7F, 0x80, 0xFF)):
        user = list(user_items())
        user.insert(at % 4, wire.item(kind, b"unknown"))
        rule = f"An unknown user information sub-item ({kind:02X}H) is ignored, and no reason to refuse (note 2)."
        cases.append(accepting(f"PS3.8/D.2-{1 + at}", MUST, rule, user=user))
    return cases


_SUB_ITEMS = (
    *_unknown_sub_items(),
    accepting("PS3.8/D.2-6", MUST, "An empty unknown sub-item is ignored.", user=user_items(wire.item(0x5B))),
    accepting(
        "PS3.8/D.2-7",
        MUST,
        "A long unknown sub-item (60,000 bytes) is ignored.",
        user=user_items(wire.item(0x5B, bytes(60000))),
    ),
    asking(
        "PS3.8/D.2-8",
        MUST,
        "An unknown sub-item that is longer than its container makes the PDU invalid.",
        REFUSED,
        user=user_items(wire.item(0x5B, b"unknown", length=8)),
    ),
    accepting(
        "PS3.8/9.3.2.3-3",
        MUST,
        "Sub-items of the user information may come in any order.",
        user=tuple(reversed(user_items())),
    ),
    asking("PS3.8/9.3.2.3-4", ROBUST, "An empty user information item is answered.", ANSWERED, user=()),
    asking(
        "PS3.8/D.1-2", ROBUST, "A request without maximum length is answered.", ANSWERED, user=(wire.implementation(),)
    ),
    asking(
        "PS3.8/D.1-3",
        ROBUST,
        "Two maximum lengths are answered.",
        ANSWERED,
        user=user_items(wire.max_length(4096)),
    ),
    accepting("PS3.8/D.1-4", MUST, "A maximum length of 0 means no limit.", user=user_items(max_length=0)),
    accepting(
        "PS3.8/D.1-5", MUST, "A maximum length of 4 GiB is a limit like others.", user=user_items(max_length=0xFFFFFFFF)
    ),
    asking(
        "PS3.7/D.3.3.2-2",
        ROBUST,
        "A request without implementation class UID is answered.",
        ANSWERED,
        user=(wire.max_length(),),
    ),
    accepting(
        "PS3.7/D.3.3.2-3",
        MUST,
        "The implementation version name is optional.",
        user=(wire.max_length(), wire.implementation()),
    ),
    asking(
        "PS3.7/D.3.3.2-4",
        ROBUST,
        "An implementation version name that is too long (64 characters) is answered.",
        ANSWERED,
        user=(wire.max_length(), wire.implementation(), wire.version_name(b"X" * 64)),
    ),
)

# ---- negotiations ----------------------------------------------------------------------------------------------------


def _answered_in_kind(
    id_: str, rule: str, sub_item: bytes, kind: int, expected: str, good: object, grade: Grade = MUST
) -> Case:
    """Offer something; whatever comes back of that type must be ``good``; nothing may come back, too."""

    def script(session: Session) -> str:
        contexts = store_contexts() if session.facts.stores else (wire.context(1),)
        accept = session.associate(contexts=contexts, user=user_items(sub_item)).accept
        found = accept.sub_items(kind)
        demand(len(found) <= 1 and all(good(body) for body in found), f"{kind:02X}H: {_hex(found)}")  # type: ignore[operator]
        return f"{kind:02X}H: {_hex(found)}" if found else f"no {kind:02X}H"

    return Case(id_, grade, rule, expected, script)


def _hex(bodies: Iterable[bytes]) -> str:
    return ", ".join(body.hex(" ") for body in bodies)


def _window(invoked: int, performed: int) -> object:
    """Whether an answered window lies within the offered one; 0 is no limit."""

    def within(offered: int, answered: int) -> bool:
        return offered == 0 or 0 < answered <= offered

    def good(body: bytes) -> bool:
        if len(body) != 4:
            return False
        answer = struct.unpack(">HH", body)
        return within(invoked, answer[0]) and within(performed, answer[1])

    return good


def _roles(uid: str, scu: int, scp: int) -> object:
    def good(body: bytes) -> bool:
        answer = body[2 + len(uid) :]
        return body[: 2 + len(uid)] == wire.field(uid) and len(answer) == 2 and answer[0] <= scu and answer[1] <= scp

    return good


def _role_cases() -> list[Case]:
    cases = []
    for at, (scu, scp) in enumerate(((1, 0), (0, 1), (1, 1), (0, 0))):
        cases.append(
            _answered_in_kind(
                f"PS3.7/D.3.3.4-{1 + at}",
                f"Of the roles SCU {scu} SCP {scp} the acceptor grants none that was not proposed.",
                wire.role(wire.CT_STORAGE, scu, scp),
                0x54,
                "no 54H, or one that grants at most what was proposed",
                _roles(wire.CT_STORAGE, scu, scp),
            )
        )
    return cases


@scripted(
    "PS3.7/D.3.3.3-4",
    MUST,
    "What was not offered is not answered: no window, role, extended negotiation or user identity in the AC.",
    "51H, 52H and perhaps 55H",
)
def _unasked(session: Session) -> str:
    kinds = [sub.kind for sub in session.associate().accept.user]
    extra = [kind for kind in kinds if kind not in (0x51, 0x52, 0x55)]
    words = " ".join(f"{kind:02X}H" for kind in kinds)
    demand(not extra, words)
    return words


@scripted("PS3.7/D.3.3.4-5", ROBUST, "A role for a SOP class that is not proposed is answered.", ANSWERED.text)
def _stray_role(session: Session) -> str:
    return ANSWERED.check(session.opened(session.request(user=user_items(wire.role("2.25.77", 1, 1)))).answer())


@scripted("PS3.7/D.3.3.4-6", ROBUST, "Two role selections for one SOP class get one answer at most.", "no 54H, or one")
def _two_roles(session: Session) -> str:
    user = user_items(wire.role(wire.VERIFICATION, 1, 0), wire.role(wire.VERIFICATION, 0, 1))
    answer = session.opened(session.request(user=user)).answer()
    if answer.kind is not Kind.ACCEPT:
        return REFUSED.check(answer)
    found = answer.accept.sub_items(0x54)
    demand(len(found) <= 1, f"{len(found)} sub-items 54H")
    return f"{len(found)} sub-items 54H"


def _identity(number: int, kind: int, response: int, **fields: bytes) -> Case:
    def script(session: Session) -> str:
        sub_item = wire.identity(kind, response=response, **fields)
        answer = session.opened(session.request(user=user_items(sub_item))).answer()
        if answer.kind is Kind.REJECT:
            return str(answer)
        if answer.kind is not Kind.ACCEPT:
            raise Departure(str(answer))
        found = len(answer.accept.sub_items(0x59))
        demand(found <= response, f"{found} sub-items 59H")
        return f"A-ASSOCIATE-AC with {found} sub-items 59H"

    asked = "asked for" if response else "not asked for"
    rule = (
        f"A user identity of type {kind} is accepted or rejected; it is answered only if that is asked for ({asked})."
    )
    return Case(f"PS3.7/D.3.3.7-{number}", MUST, rule, "A-ASSOCIATE-AC or A-ASSOCIATE-RJ, no unasked 59H", script)


_COMMON = wire.common_extended(wire.CT_STORAGE, "1.2.840.10008.4.2", (wire.CT_STORAGE,))


def _not_answered(id_: str, rule: str, sub_item: bytes, kind: int) -> Case:
    return _answered_in_kind(id_, rule, sub_item, kind, f"no {kind:02X}H", lambda _: False)


_NEGOTIATION = (
    _answered_in_kind(
        "PS3.7/D.3.3.3-1",
        "An asynchronous operations window of 5/3 is answered with at most as much, or not at all.",
        wire.window(5, 3),
        0x53,
        "no 53H, or at most 5/3",
        _window(5, 3),
    ),
    _answered_in_kind(
        "PS3.7/D.3.3.3-2",
        "An asynchronous operations window of 1/1 cannot grow.",
        wire.window(1, 1),
        0x53,
        "no 53H, or 1/1",
        _window(1, 1),
    ),
    _answered_in_kind(
        "PS3.7/D.3.3.3-3",
        "An unlimited window (0/0) is answered with any, or not at all.",
        wire.window(0, 0),
        0x53,
        "no 53H, or any",
        _window(0, 0),
    ),
    _unasked,
    *_role_cases(),
    _stray_role,
    _two_roles,
    asking(
        "PS3.7/D.3.3.4-7",
        ROBUST,
        "A role of 2, which is neither 0 nor 1, is answered.",
        ANSWERED,
        user=user_items(wire.role(wire.VERIFICATION, 2, 0)),
    ),
    accepting(
        "PS3.7/D.3.3.5-1",
        MUST,
        "SOP class extended negotiation without a meaning changes nothing.",
        user=user_items(wire.extended(wire.VERIFICATION, b"\xde\xad\xbe\xef")),
    ),
    accepting(
        "PS3.7/D.3.3.5-2",
        MUST,
        "SOP class extended negotiation may be without application information.",
        user=user_items(wire.extended(wire.VERIFICATION, b"")),
    ),
    _not_answered("PS3.7/D.3.3.6-1", "SOP class common extended negotiation is never answered.", _COMMON, 0x57),
    accepting(
        "PS3.7/D.3.3.6-2",
        SHOULD,
        "A later version of the common extended negotiation sub-item changes nothing of what is known.",
        user=user_items(
            wire.common_extended(wire.CT_STORAGE, "1.2.840.10008.4.2", version=1, more=b"later"),
        ),
    ),
    *(_identity(kind, kind, 0) for kind in (1, 2, 3, 4, 5)),
    _identity(6, 1, 1),
    _identity(7, 2, 1, secondary=b"passcode"),
    asking(
        "PS3.7/D.3.3.7-8",
        ROBUST,
        "A user identity of a type that does not exist (9) is answered.",
        ANSWERED,
        user=user_items(wire.identity(9)),
    ),
    asking(
        "PS3.7/D.3.3.7-9",
        ROBUST,
        "An empty user name is answered.",
        ANSWERED,
        user=user_items(wire.identity(1, b"")),
    ),
    asking(
        "PS3.7/D.3.3.7-10",
        ROBUST,
        "A user name with control characters is answered.",
        ANSWERED,
        user=user_items(wire.identity(1, b"root\n\x1b[2J\0")),
    ),
    asking(
        "PS3.7/D.3.3.7-11",
        ROBUST,
        "Two user identities are answered.",
        ANSWERED,
        user=user_items(wire.identity(1), wire.identity(1)),
    ),
)

CASES: tuple[Case, ...] = (*_UIDS, *_SUB_ITEMS, *_NEGOTIATION)
