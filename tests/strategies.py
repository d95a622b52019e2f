"""Hypothesis strategies for every PDU and item, for cuts of a stream, and for bytes that are almost a PDU."""

from __future__ import annotations

from hypothesis import strategies as st

from dicomnet import _pdu as pdu

KNOWN_ITEMS = [0x10, 0x20, 0x21, 0x30, 0x40, *range(0x50, 0x5A)]

bytes_ = st.integers(0, 0xFF)
words = st.integers(0, 0xFFFF)
payloads = st.binary(max_size=40)


def padded_text(limit: int, highest: int, padding: str) -> st.SearchStrategy[str]:
    """Text as it is after its padding was removed."""
    characters = st.characters(min_codepoint=0, max_codepoint=highest)
    return st.text(characters, max_size=limit).map(lambda text: text.lstrip(" ").rstrip(padding))


# Mostly what a UID looks like; sometimes any text that the codec must carry all the same.
uids = st.one_of(
    st.lists(st.integers(0, 99999), min_size=2, max_size=9).map(lambda parts: ".".join(map(str, parts))),
    st.sampled_from(["1.2.840.10008.1.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.5.1.4.1.1.2"]),
    st.text(st.characters(max_codepoint=0x7F), max_size=70).map(lambda text: text.rstrip(" \0")),
)
ae_titles = st.one_of(
    st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_- ", max_size=16).map(lambda text: text.strip(" ")),
    padded_text(16, 0xFF, " "),
)
context_ids = st.integers(0, 127).map(lambda number: 2 * number + 1)

unknown_items = st.builds(pdu.UnknownItem, bytes_.filter(lambda kind: kind not in KNOWN_ITEMS), payloads)
unknown = st.lists(unknown_items, max_size=2).map(tuple)

sub_items = st.one_of(
    st.builds(pdu.MaximumLength, st.integers(0, 0xFFFFFFFF)),
    st.builds(pdu.ImplementationClassUID, uids),
    st.builds(pdu.AsynchronousOperationsWindow, words, words),
    st.builds(pdu.RoleSelection, uids, st.booleans(), st.booleans()),
    st.builds(pdu.ImplementationVersionName, padded_text(20, 0xFF, " \0")),
    st.builds(pdu.SOPClassExtendedNegotiation, uids, payloads),
    st.builds(pdu.SOPClassCommonExtendedNegotiation, uids, uids, st.lists(uids, max_size=3), bytes_),
    st.builds(pdu.UserIdentityRQ, bytes_, payloads, payloads, st.booleans()),
    st.builds(pdu.UserIdentityAC, payloads),
    unknown_items,
)
contexts_rq = st.builds(
    pdu.PresentationContextRQ, context_ids, uids, st.lists(uids, min_size=1, max_size=3).map(tuple), unknown
)
contexts_ac = st.one_of(
    st.builds(pdu.PresentationContextAC, context_ids, st.just(0), uids, unknown),
    st.builds(pdu.PresentationContextAC, context_ids, st.integers(1, 255), st.none() | uids, unknown),
)
pdvs = st.builds(pdu.PDV, context_ids, st.binary(max_size=200), st.booleans(), st.booleans())
items = st.one_of(sub_items, contexts_rq, contexts_ac, pdvs)


def associates(kind: type, contexts: st.SearchStrategy) -> st.SearchStrategy:
    return st.builds(
        kind,
        ae_titles,
        ae_titles,
        st.lists(contexts, min_size=1, max_size=4, unique_by=lambda context: context.id).map(tuple),
        st.lists(sub_items, max_size=4).map(tuple),
        uids,
        words,
        unknown,
    )


associate_rqs = associates(pdu.AssociateRQ, contexts_rq)
associate_acs = associates(pdu.AssociateAC, contexts_ac)
data_tfs = st.builds(pdu.PDataTF, st.lists(pdvs, min_size=1, max_size=4).map(tuple))


def pdus() -> st.SearchStrategy[pdu.PDU]:
    """Any PDU."""
    return st.one_of(
        associate_rqs,
        associate_acs,
        data_tfs,
        st.builds(pdu.AssociateRJ, bytes_, bytes_, bytes_),
        st.builds(pdu.Abort, bytes_, bytes_),
        st.just(pdu.ReleaseRQ()),
        st.just(pdu.ReleaseRP()),
    )


def cuts() -> st.SearchStrategy[list[int]]:
    """Sizes of the pieces in which a stream arrives, used in turn and again from the start."""
    return st.lists(st.integers(1, 90), min_size=1, max_size=6)


def split(data: bytes, sizes: list[int]) -> list[bytes]:
    """`data` in pieces of the given sizes."""
    pieces = []
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(data[at : at + size])
        at += size
        turn += 1
    return pieces


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A PDU with a few bytes changed, inserted or removed, its outer length then made true or not."""
    data = bytearray(draw(pdus()).encode())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1)) if data else 0
        match draw(st.sampled_from(["set", "insert", "remove", "length"])):
            case "set":
                data[at : at + 1] = bytes([draw(st.one_of(bytes_, st.sampled_from([0, 1, 2, 0x40, 0x50, 0xFF])))])
            case "insert":
                data[at:at] = draw(st.binary(max_size=8))
            case "remove":
                del data[at : at + draw(st.integers(1, 8))]
            case _:
                data[at : at + 2] = draw(st.sampled_from([b"\0\0", b"\0\1", b"\xff\xff", b"\0\4", b"\0\xff"]))
    if len(data) >= 6 and draw(st.booleans()):
        data[2:6] = (len(data) - 6).to_bytes(4, "big")
    return bytes(data)
