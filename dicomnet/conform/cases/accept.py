"""What an A-ASSOCIATE-AC must look like (PS3.8 Sections 7.1.1 and 9.3.3, Annexes D and F; PS3.7 Annex D)."""

from __future__ import annotations

import re
from collections.abc import Callable

from .. import wire
from ..case import ANSWERED, REJECTED, Case, Departure, Grade
from ..peer import Kind, Reply
from ..session import UNKNOWN_CLASS, Session, store_contexts, user_items, works
from .forms import accepting, asking, demand, scripted

MUST, SHOULD = Grade.MUST, Grade.SHOULD

_UID = re.compile(rb"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
_TAIL = bytes(range(0x41, 0x61))

Check = Callable[[wire.Associate], object]


def _accept_of(session: Session, **changes: object) -> wire.Associate:
    return session.associate(**changes).accept


def _looks(id_: str, grade: Grade, rule: str, expected: str, check: Check, /, **changes: object) -> Case:
    """The A-ASSOCIATE-AC to a request is looked at: ``check`` gives what is wrong with it, or nothing."""

    def script(session: Session) -> str:
        accept = _accept_of(session, **changes)
        try:
            wrong = check(accept)
        except wire.Unreadable as error:
            wrong = error
        if wrong:
            raise Departure(str(wrong))
        return expected

    return Case(id_, grade, rule, expected, script)


def _order(accept: wire.Associate) -> object:
    kinds = [found.kind for found in accept.items]
    return kinds != sorted(kinds) and "items in the order " + " ".join(f"{kind:02X}H" for kind in kinds)


def _counts(accept: wire.Associate) -> object:
    counts = {kind: len(accept.bodies(kind)) for kind in (0x10, 0x50)}
    return counts != {0x10: 1, 0x50: 1} and f"{counts[0x10]} items 10H, {counts[0x50]} items 50H"


def _sub_item_counts(accept: wire.Associate) -> object:
    counts = {kind: len(accept.sub_items(kind)) for kind in (0x51, 0x52)}
    return counts != {0x51: 1, 0x52: 1} and f"{counts[0x51]} sub-items 51H, {counts[0x52]} sub-items 52H"


def _uids(accept: wire.Associate) -> object:
    uids = accept.bodies(0x10) + accept.sub_items(0x52)
    uids += [transfer for found in accept.results.values() for transfer in found.transfers]
    bad = [uid for uid in uids if not _UID.fullmatch(uid) or len(uid) > 64]
    return bad and f"not a UID: {bad[0]!r}"


def _version_name(accept: wire.Associate) -> object:
    names = accept.sub_items(0x55)
    bad = [name for name in names if not 1 <= len(name) <= 16 or any(not 0x20 <= byte < 0x7F for byte in name)]
    return bad and f"the implementation version name {bad[0]!r}"


def _reserved(accept: wire.Associate) -> object:
    found = [item for item in (*accept.items, *accept.user) if item.reserved]
    contexts = [context for context in accept.results.values() if context.reserved != bytes(2)]
    if found:
        return f"item {found[0].kind:02X}H with a reserved byte of {found[0].reserved:02X}H"
    return (contexts and "a presentation context with reserved bytes set") or (
        accept.spare != bytes(2) and f"bytes 9 and 10 are {accept.spare.hex()}"
    )


def _one_to_one(accept: wire.Associate) -> object:
    found = sorted(context[0] for context in accept.bodies(0x21))
    return found != [1, 3, 5, 7, 9] and f"results for the IDs {found}, where 1 3 5 7 9 were offered"


def _offered(accept: wire.Associate) -> object:
    for found in accept.results.values():
        if found.result == 0 and (len(found.transfers) != 1 or found.transfers[0].decode("latin-1") not in _OFFER):
            return f"context {found.context_id} accepted with transfer syntax {found.transfers}"
    return None


_OFFER = (wire.IMPLICIT, wire.EXPLICIT)
_FIVE = (
    *store_contexts(),
    wire.context(5, UNKNOWN_CLASS),
    wire.context(7, wire.VERIFICATION, (wire.EXPLICIT,)),
    wire.context(9, wire.CT_STORAGE, _OFFER),
)


@scripted(
    "PS3.8/9.3.3-2",
    MUST,
    "Bytes 11 to 42 of the A-ASSOCIATE-AC, the AE titles, are those of the request, byte for byte.",
    "both titles come back",
)
def _titles(session: Session) -> str:
    called, calling = wire.title(session.target.called), wire.title("  " + session.target.calling[:14])
    accept = _accept_of(session, called=called, calling=calling)
    demand((accept.called, accept.calling) == (called, calling), f"{accept.called!r} and {accept.calling!r}")
    return "both titles come back"


@scripted("PS3.8/9.3.3-3", MUST, "Bytes 43 to 74 of the A-ASSOCIATE-AC are those of the request.", "they come back")
def _tail(session: Session) -> str:
    accept = _accept_of(session, tail=_TAIL)
    demand(accept.tail == _TAIL, "zeros" if accept.tail == bytes(32) else accept.tail.hex())
    return "they come back"


@scripted(
    "PS3.8/7.1.1.14-4",
    SHOULD,
    "A SOP class that does not exist is refused in its context, with result 3 (abstract syntax not supported).",
    "result 3",
)
def _unknown_class(session: Session) -> str:
    accept = _accept_of(session, contexts=(wire.context(1), wire.context(3, UNKNOWN_CLASS)))
    result = accept.results.get(3)
    demand(result is not None and result.result == 3, f"result {result.result}" if result else "no result")
    return "result 3"


@scripted("PS3.8/7.1.1.14-5", MUST, "One refused context does not touch the others.", "C-ECHO works beside it")
def _beside_a_refusal(session: Session) -> str:
    association = session.associate(contexts=(wire.context(1), wire.context(3, UNKNOWN_CLASS)))
    seen = association.echo()
    demand(isinstance(seen, Reply) and seen.status == 0, seen)
    return str(seen)


@scripted(
    "PS3.8/7.1.1.14-6",
    MUST,
    "Where every context is refused the association is accepted all the same, or rejected in words.",
    "A-ASSOCIATE-AC with every context refused, or A-ASSOCIATE-RJ",
)
def _all_refused(session: Session) -> str:
    answer = session.opened(session.request(contexts=(wire.context(1, UNKNOWN_CLASS),))).answer()
    demand(answer.kind in (Kind.ACCEPT, Kind.REJECT), answer)
    return str(answer)


@scripted(
    "PS3.7/D.3.3.1-1",
    MUST,
    "The maximum length is a limit to what is sent: a response is cut to fit 64 bytes.",
    "a response in P-DATA-TF of at most 64 bytes",
)
def _small_limit(session: Session) -> str:
    return _limited(session, 64)


@scripted(
    "PS3.7/D.3.3.1-2", MUST, "The same with an odd limit, 45 bytes.", "a response in P-DATA-TF of at most 45 bytes"
)
def _odd_limit(session: Session) -> str:
    return _limited(session, 45)


def _limited(session: Session, limit: int) -> str:
    answer = session.opened(session.request(user=user_items(max_length=limit)))
    first = answer.answer()
    if first.kind is Kind.REJECT:
        return str(first)
    demand(first.kind is Kind.ACCEPT, first)
    answer.send(wire.data_tf(wire.pdv(1, 3, wire.command_set(wire.echo_rq()))))
    seen = answer.message()
    if not isinstance(seen, Reply):
        raise Departure(str(seen))
    longest = max(seen.pdu_lengths)
    demand(longest <= limit and seen.status == 0, f"{seen} in P-DATA-TF of up to {longest} bytes")
    return f"{seen} in {len(seen.pdu_lengths)} P-DATA-TF of up to {longest} bytes"


@scripted(
    "PS3.7/D.3.3.1-3",
    Grade.ROBUST,
    "A maximum length with no room for data (6) does no harm: the association is refused, or ended at the latest when "
    "there is something to say.",
    "A-ASSOCIATE-RJ or A-ABORT, or the connection is closed",
)
def _no_room(session: Session) -> str:
    connection = session.opened(session.request(user=user_items(max_length=6)))
    answer = connection.answer()
    if answer.kind is Kind.ACCEPT:
        connection.send(wire.data_tf(wire.pdv(1, 3, wire.command_set(wire.echo_rq()))))
        answer = connection.answer()
    demand(answer.kind in (Kind.REJECT, Kind.ABORT) or answer.ended, answer)
    return str(answer)


@scripted(
    "PS3.7/D.3.3.1-4",
    Grade.ROBUST,
    "A provider announces a maximum length other than 0: no limit at all is an invitation.",
    "a limit of at most 128 MiB",
)
def _announced(session: Session) -> str:
    limit = _accept_of(session).max_length
    demand(0 < limit <= 1 << 27, f"a limit of {limit}")
    return f"a limit of {limit} bytes"


@scripted("PS3.8/9.3.4-1", SHOULD, "An unsupported protocol version is rejected as 1/2/2.", "A-ASSOCIATE-RJ 1/2/2")
def _version_reason(session: Session) -> str:
    answer = session.opened(session.request(version=2)).answer()
    demand(answer.kind is Kind.REJECT and answer.codes == (1, 2, 2), answer)
    return str(answer)


@scripted(
    "PS3.8/7.1.1.2-1",
    MUST,
    "Another application context is rejected, or answered with the one of DICOM; it cannot be agreed to.",
    "A-ASSOCIATE-RJ, or A-ASSOCIATE-AC with 1.2.840.10008.3.1.1.1",
)
def _other_application(session: Session) -> str:
    answer = session.opened(session.request(application=wire.application("1.2.840.10008.3.1.1.99"))).answer()
    if answer.kind is Kind.ACCEPT:
        names = answer.accept.bodies(0x10)
        demand(names == [wire.APPLICATION_CONTEXT.encode()], f"A-ASSOCIATE-AC with {names}")
        return "A-ASSOCIATE-AC with the application context of DICOM"
    return REJECTED.check(answer)


@scripted("PS3.8/9.3.4-2", SHOULD, "Another application context is rejected as 1/1/2.", "A-ASSOCIATE-RJ 1/1/2")
def _application_reason(session: Session) -> str:
    answer = session.opened(session.request(application=wire.application("1.2.840.10008.3.1.1.99"))).answer()
    demand(answer.kind is Kind.REJECT and answer.codes == (1, 1, 2), answer)
    return str(answer)


@scripted(
    "PS3.8/9.3.4-3",
    SHOULD,
    "A called AE title that is not the provider's is taken all the same, or rejected as 1/1/7.",
    "A-ASSOCIATE-AC or A-ASSOCIATE-RJ 1/1/7",
)
def _other_called(session: Session) -> str:
    answer = session.opened(session.request(called="NOBODY_HERE")).answer()
    demand(answer.kind is Kind.ACCEPT or (answer.kind is Kind.REJECT and answer.codes == (1, 1, 7)), answer)
    return str(answer)


@scripted("PS3.8/7.1.2-1", MUST, "An ordinary request is accepted: C-ECHO and release work.", "the association works")
def _ordinary(session: Session) -> str:
    connection = session.opened(session.request())
    return works(session, connection.answer(), connection)


_MANY = tuple(wire.context(2 * at + 1, UNKNOWN_CLASS if at else wire.VERIFICATION) for at in range(128))


@scripted("PS3.8/7.1.1.13-1", MUST, "128 presentation contexts are taken, and each is answered.", "128 results")
def _all_contexts(session: Session) -> str:
    association = session.associate(contexts=_MANY)
    found = len(association.accept.results)
    demand(found == 128, f"{found} results")
    seen = association.echo()
    demand(isinstance(seen, Reply) and seen.status == 0, seen)
    return "128 results, and C-ECHO works"


CASES: tuple[Case, ...] = (
    _ordinary,
    _looks("PS3.8/9.3.3-1", MUST, "The A-ASSOCIATE-AC can be read: its lengths agree.", "readable", _order),
    _titles,
    _tail,
    _looks(
        "PS3.8/9.3.3-4",
        MUST,
        "Bit 0 of the protocol version in the A-ASSOCIATE-AC is set.",
        "bit 0 is set",
        lambda accept: not accept.version & 1 and f"version {accept.version:04X}",
    ),
    _looks("PS3.8/9.3.3-5", MUST, "The A-ASSOCIATE-AC sends its reserved bytes as zero.", "zero", _reserved),
    _looks("PS3.8/9.3.3-6", MUST, "One application context and one user information item answer.", "one each", _counts),
    _looks("PS3.8/9.3.1-1", MUST, "Items stand in increasing order of their types.", "increasing", _order),
    _looks(
        "PS3.8/D.1-1",
        MUST,
        "The A-ASSOCIATE-AC holds one maximum length and one implementation class UID.",
        "one each",
        _sub_item_counts,
    ),
    _looks("PS3.8/F.1-1", MUST, "UIDs in the A-ASSOCIATE-AC are UIDs, without padding.", "UIDs", _uids),
    _looks("PS3.7/D.3.3.2-1", MUST, "An implementation version name has 1 to 16 characters.", "1 to 16", _version_name),
    _looks(
        "PS3.8/7.1.1.14-1",
        MUST,
        "Every proposed context gets exactly one result.",
        "results for 1 3 5 7 9",
        _one_to_one,
        contexts=_FIVE,
    ),
    _looks(
        "PS3.8/7.1.1.14-2",
        MUST,
        "An accepted context has one transfer syntax, of those that were offered for it.",
        "one of those offered",
        _offered,
        contexts=_FIVE,
    ),
    accepting(
        "PS3.8/7.1.1.14-3",
        MUST,
        "Verification is accepted in implicit VR little endian, the default of DICOM, among others.",
        contexts=(wire.context(1, wire.VERIFICATION, ("2.25.99887766", wire.IMPLICIT)),),
    ),
    _unknown_class,
    _beside_a_refusal,
    _all_refused,
    asking(
        "PS3.8/7.1.1.14-7",
        MUST,
        "A context with none but unknown transfer syntaxes is answered.",
        ANSWERED,
        contexts=(wire.context(1, wire.VERIFICATION, ("2.25.99887766",)),),
    ),
    _all_contexts,
    accepting(
        "PS3.8/7.1.1.13-2",
        MUST,
        "Context IDs may come in any order.",
        contexts=(wire.context(255, UNKNOWN_CLASS), wire.context(7, UNKNOWN_CLASS), wire.context(1)),
    ),
    accepting(
        "PS3.8/7.1.1.13-3",
        MUST,
        "An abstract syntax may be offered in several contexts.",
        contexts=(wire.context(1), wire.context(3), wire.context(5, wire.VERIFICATION, (wire.EXPLICIT,))),
    ),
    accepting(
        "PS3.8/7.1.1.13-4",
        MUST,
        "A context may offer many transfer syntaxes.",
        contexts=(wire.context(1, wire.VERIFICATION, (*(f"2.25.{7000 + at}" for at in range(64)), wire.IMPLICIT)),),
    ),
    accepting(
        "PS3.8/7.1.1.13-5",
        MUST,
        "A request of 200 KB, 128 contexts of 110 transfer syntaxes, is an ordinary one.",
        contexts=(
            wire.context(1),
            *(
                wire.context(2 * at + 1, UNKNOWN_CLASS, [f"2.25.{7000 + n}" for n in range(110)])
                for at in range(1, 128)
            ),
        ),
    ),
    _small_limit,
    _odd_limit,
    _no_room,
    _announced,
    _version_reason,
    _other_application,
    _application_reason,
    _other_called,
)
