"""A-ASSOCIATE-RQ: versions, reserved fields, AE titles, items and their order (PS3.8 Sections 9.3.1 and 9.3.2)."""

from __future__ import annotations

import itertools

from .. import wire
from ..case import ANSWERED, ANSWERED_OR_ENDED, REFUSED, REJECTED, Case, Grade
from ..session import UNKNOWN_CLASS, Session, user_items
from .forms import accepting, asking, demand, scripted

MUST, SHOULD, ROBUST = Grade.MUST, Grade.SHOULD, Grade.ROBUST

_APPLICATION = wire.application()
_CONTEXT = wire.context(1)
_USER = wire.user_information(*user_items())

_VERSIONS = (
    accepting(
        "PS3.8/9.3.2-1", MUST, "Of the protocol version only bit 0 is tested: 0003H is accepted.", version=0x0003
    ),
    accepting(
        "PS3.8/9.3.2-2", MUST, "Of the protocol version only bit 0 is tested: 8001H is accepted.", version=0x8001
    ),
    accepting(
        "PS3.8/9.3.2-3", MUST, "Of the protocol version only bit 0 is tested: FFFFH is accepted.", version=0xFFFF
    ),
    asking(
        "PS3.8/9.3.2-4", MUST, "Without bit 0 the version is not supported (0000H): AE-6.", REJECTED, version=0x0000
    ),
    asking(
        "PS3.8/9.3.2-5", MUST, "Without bit 0 the version is not supported (0002H): AE-6.", REJECTED, version=0x0002
    ),
)

_RESERVED = (
    accepting("PS3.8/9.3.2-6", MUST, "Byte 2 of the A-ASSOCIATE-RQ is reserved and not tested.", reserved=0xFF),
    accepting("PS3.8/9.3.2-7", MUST, "Bytes 9 and 10 are reserved and not tested.", spare=b"\xff\xff"),
    accepting("PS3.8/9.3.2-8", MUST, "Bytes 43 to 74 are reserved and not tested.", tail=b"\xff" * 32),
    accepting(
        "PS3.8/9.3.2.1-1",
        MUST,
        "Byte 2 of the application context item is reserved and not tested.",
        application=wire.application(reserved=0xFF),
    ),
    accepting(
        "PS3.8/9.3.2.2-1",
        MUST,
        "Reserved bytes of a presentation context and its sub-items are not tested.",
        contexts=(wire.context(1, reserved=0xFF),),
    ),
    accepting(
        "PS3.8/9.3.2.3-1",
        MUST,
        "Byte 2 of the user information item is reserved and not tested.",
        items=(_APPLICATION, _CONTEXT, wire.user_information(*user_items(), reserved=0xFF)),
    ),
    accepting(
        "PS3.8/9.3.2.3-2",
        MUST,
        "Byte 2 of user information sub-items is reserved and not tested.",
        user=(
            wire.item(0x51, b"\0\0\x40\0", reserved=0xFF),
            wire.item(0x52, wire.IMPLEMENTATION.encode(), reserved=0xFF),
            wire.item(0x55, wire.VERSION_NAME, reserved=0xFF),
        ),
    ),
)

# ---- AE titles -------------------------------------------------------------------------------------------------------

# What cannot be part of an AE title (ISO 646 G0, no backslash by the VR AE), and must not reach a log or a path.
_NO_TITLES: tuple[tuple[str, bytes], ...] = (
    ("all spaces", b" " * 16),
    ("all zero bytes", bytes(16)),
    ("a line feed", b"EVIL\nroot: login "),
    ("an escape sequence", b"EVIL\x1b[2J"),
    ("a NUL in the middle", b"EVIL\0TITLE"),
    ("a delete character", b"EVIL\x7fTITLE"),
    ("a backslash", rb"EVIL\TITLE"),
    ("a Latin-1 letter", b"\xc9VIL"),
    ("a byte of FFH", b"EVIL\xff"),
)


@scripted("PS3.8/9.3.2-9", MUST, "Leading spaces of the called AE title do not count.", "it is accepted")
def _leading_spaces(session: Session) -> str:
    spaces = " " * min(3, 16 - len(session.target.called))
    answer = session.opened(session.request(called=spaces + session.target.called)).answer()
    demand(str(answer) == "A-ASSOCIATE-AC", answer)
    return str(answer)


def _titles() -> list[Case]:
    rule = "An AE title with {} is none: the request is refused (calling)."
    cases = [
        asking(f"PS3.8/7.1.1.3-{1 + at}", ROBUST, rule.format(what), REFUSED, calling=text)
        for at, (what, text) in enumerate(_NO_TITLES)
    ]
    rule = "An AE title with {} is none: the request is refused (called)."
    return cases + [
        asking(f"PS3.8/7.1.1.4-{1 + at}", ROBUST, rule.format(what), REFUSED, called=text)
        for at, (what, text) in enumerate(_NO_TITLES)
    ]


_TITLES = (
    _leading_spaces,
    accepting("PS3.8/9.3.2-10", MUST, "Leading spaces of the calling AE title do not count.", calling="   CONFORM"),
    accepting("PS3.8/9.3.2-11", MUST, "A calling AE title may have 16 characters.", calling="CONFORM_16_CHARS"),
    accepting("PS3.8/9.3.2-12", SHOULD, "A calling AE title may have spaces in it.", calling="CON FORM 1"),
    *_titles(),
)

# ---- items -----------------------------------------------------------------------------------------------------------

_NAMES = {_APPLICATION: "10H", _CONTEXT: "20H", _USER: "50H"}


def _orders() -> list[Case]:
    orders = list(itertools.permutations((_APPLICATION, _CONTEXT, _USER)))[1:]
    return [
        accepting(
            f"PS3.8/9.3.1-{11 + at}",
            ROBUST,
            f"Items out of order are understood; there are senders of them ({' '.join(_NAMES[i] for i in order)}).",
            items=order,
        )
        for at, order in enumerate(orders)
    ]


def _unknown_items() -> list[Case]:
    """An item of an unknown type, everywhere."""
    cases = []
    for at, kind in enumerate((0x00, 0x11, 0x2F, 0x60, 0xFF)):
        extra = wire.item(kind, b"unknown")
        items = [_APPLICATION, _CONTEXT, _USER]
        items.insert(min(at, 3), extra)
        rule = f"An item of an unknown type ({kind:02X}H) is skipped, wherever it stands."
        cases.append(accepting(f"PS3.8/9.3.1-{21 + at}", MUST, rule, items=items))
    return cases


_ITEMS = (
    *_orders(),
    *_unknown_items(),
    accepting(
        "PS3.8/9.3.1-26",
        MUST,
        "An empty item of an unknown type is skipped.",
        items=(_APPLICATION, wire.item(0x3A), _CONTEXT, _USER),
    ),
    accepting(
        "PS3.8/9.3.1-27",
        MUST,
        "An item of an unknown type as long as can be (65535 bytes) is skipped.",
        items=(_APPLICATION, _CONTEXT, _USER, wire.item(0x77, bytes(65535))),
    ),
    accepting(
        "PS3.8/9.3.1-28",
        MUST,
        "A sub-item of an unknown type in a presentation context is skipped.",
        contexts=(wire.context(1, extra=wire.item(0x4A, b"unknown")),),
    ),
    asking(
        "PS3.8/9.3.1-29",
        MUST,
        "An unknown item that is longer than what is left makes the PDU invalid.",
        REFUSED,
        items=(_APPLICATION, _CONTEXT, _USER, wire.item(0x77, b"unknown", length=8)),
    ),
    asking(
        "PS3.8/9.3.1-30",
        ROBUST,
        "2,000 unknown items are skipped, or are too many; they are answered.",
        ANSWERED,
        items=(_APPLICATION, _CONTEXT, _USER, *[wire.item(0x77, b"x")] * 2000),
    ),
    asking(
        "PS3.8/9.3.1-31",
        ROBUST,
        "Three bytes after the last item are no item: the PDU is invalid.",
        REFUSED,
        items=(_APPLICATION, _CONTEXT, _USER, b"\0\0\0"),
    ),
    asking(
        "PS3.8/9.3.2-21", MUST, "A request without application context is invalid.", REFUSED, items=(_CONTEXT, _USER)
    ),
    asking(
        "PS3.8/9.3.2-22",
        MUST,
        "A request without presentation context is invalid.",
        REFUSED,
        items=(_APPLICATION, _USER),
    ),
    asking(
        "PS3.8/9.3.2-23",
        MUST,
        "A request without user information is invalid.",
        REFUSED,
        items=(_APPLICATION, _CONTEXT),
    ),
    asking("PS3.8/9.3.2-24", MUST, "A request without any item is invalid.", REFUSED, items=()),
    asking(
        "PS3.8/9.3.2-25",
        MUST,
        "A request has one application context; two make it invalid.",
        REFUSED,
        items=(_APPLICATION, _APPLICATION, _CONTEXT, _USER),
    ),
    asking(
        "PS3.8/9.3.2-26",
        MUST,
        "A request has one user information item; two make it invalid.",
        REFUSED,
        items=(_APPLICATION, _CONTEXT, _USER, _USER),
    ),
    asking(
        "PS3.8/9.3.2-27",
        MUST,
        "An item of an A-ASSOCIATE-AC (21H) does not stand for a presentation context of a request.",
        REFUSED,
        items=(_APPLICATION, wire.context_result(1), _USER),
    ),
    asking(
        "PS3.8/9.3.2.1-2",
        ROBUST,
        "An application context name that is padded with a NUL is answered.",
        ANSWERED,
        application=wire.application(wire.APPLICATION_CONTEXT.encode() + b"\0"),
    ),
    asking(
        "PS3.8/9.3.2.1-3",
        MUST,
        "An empty application context name is not that of DICOM.",
        REFUSED,
        application=wire.application(b""),
    ),
)

# ---- presentation contexts -------------------------------------------------------------------------------------------

_SYNTAX = wire.item(0x30, wire.VERIFICATION.encode())
_TRANSFER = wire.item(0x40, wire.IMPLICIT.encode())
_HEAD = b"\x01\0\0\0"


def _ids() -> list[Case]:
    rule = "Presentation context IDs are odd: {} makes the request invalid."
    return [
        asking(f"PS3.8/9.3.2.2-{2 + at}", MUST, rule.format(number), REFUSED, contexts=(_CONTEXT, wire.context(number)))
        for at, number in enumerate((0, 2, 128, 254))
    ]


_CONTEXTS = (
    *_ids(),
    asking(
        "PS3.8/9.3.2.2-6",
        MUST,
        "An ID stands for one presentation context: the same ID twice makes the request invalid.",
        REFUSED,
        contexts=(_CONTEXT, wire.context(1, wire.CT_STORAGE)),
    ),
    asking(
        "PS3.8/9.3.2.2-7",
        MUST,
        "There are 128 IDs: 200 presentation contexts use some of them twice.",
        REFUSED,
        contexts=[wire.context((2 * at + 1) & 0xFF, UNKNOWN_CLASS) for at in range(200)],
    ),
    asking(
        "PS3.8/9.3.2.2-8",
        MUST,
        "A presentation context without abstract syntax is invalid.",
        REFUSED,
        contexts=(wire.item(0x20, _HEAD + _TRANSFER),),
    ),
    asking(
        "PS3.8/9.3.2.2-9",
        MUST,
        "A presentation context without transfer syntax is invalid.",
        REFUSED,
        contexts=(wire.item(0x20, _HEAD + _SYNTAX),),
    ),
    asking(
        "PS3.8/9.3.2.2-10",
        MUST,
        "A presentation context has one abstract syntax; two make it invalid.",
        REFUSED,
        contexts=(wire.item(0x20, _HEAD + _SYNTAX + _SYNTAX + _TRANSFER),),
    ),
    asking(
        "PS3.8/9.3.2.2-11",
        MUST,
        "A presentation context without anything but an ID is invalid.",
        REFUSED,
        contexts=(wire.item(0x20, _HEAD),),
    ),
    asking(
        "PS3.8/9.3.2.2-12",
        ROBUST,
        "Transfer syntax before abstract syntax is answered.",
        ANSWERED,
        contexts=(wire.item(0x20, _HEAD + _TRANSFER + _SYNTAX),),
    ),
    asking(
        "PS3.8/9.3.2.2-13",
        ROBUST,
        "A request of 2 MiB has nothing to say that would need it; it ends in an answer, or in a closed connection.",
        ANSWERED_OR_ENDED,
        items=(_APPLICATION, _CONTEXT, *[wire.item(0x77, bytes(65000))] * 33, _USER),
    ),
)

CASES: tuple[Case, ...] = (*_VERSIONS, *_RESERVED, *_TITLES, *_ITEMS, *_CONTEXTS)
