"""What is known of a peer before it speaks: `Peer`, a profile, and each `Relaxation` by which a rule is lenient.

Without a profile the rules are those of the standard. A profile is found by the AE title that the peer calls, or is
called, by, or by the implementation class UID that it sends; what it relaxes holds for its associations alone.
Nothing here makes a decoder lenient: an A-ASSOCIATE-RQ or -AC is mended first, and then judged as strictly as any.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from .. import uids
from .._pdu import PDU_ASSOCIATE_RQ, AssociateRQ
from ..config import ANY_SCP, OPERATIONS_WINDOW, Entity
from ..errors import InvalidArgument
from .negotiation import NegotiationOptions, UserIdentity

__all__ = ["STRICT", "Peer", "Peers", "Relaxation", "normalize_request", "repair_pdu"]


class Relaxation(Enum):
    """A rule that a profile may relax, and why; docs/peers.md has them as a table."""

    reason: str

    def __new__(cls, name: str, reason: str) -> Relaxation:
        """A member whose value is its name; the reason is an attribute."""
        member = object.__new__(cls)
        member._value_ = name
        member.reason = reason
        return member

    BLANK_TITLES = "blank titles", "Calling and called AE title may be blank: devices without configured titles."
    PADDED_TITLES = "padded titles", "AE titles may end at a NUL: C strings in the field, and what follows them."
    TITLE_CASE = "title case", "The called AE title may differ in case: consoles that turn what is typed into capitals."
    PROTOCOL_VERSION = "protocol version", "Bit 0 of the version need not be set: senders that leave the field zero."
    APPLICATION_CONTEXT = "application context", "It may be absent or have another name: private ones of old devices."
    NO_USER_INFORMATION = "no user information", "The item may be absent, which leaves the maximum length unlimited."
    STRAY_ITEMS = "stray items", "Items twice or where they do not belong are passed over: copied lists of items."
    CONTEXT_IDS = "context IDs", "Contexts with an even or a used ID are passed over: counters that go by one, or wrap."
    PADDED_UIDS = "padded UIDs", "UIDs may have spaces before them and end at a NUL: C strings of a fixed length."
    LONG_PDUS = "long PDUs", "P-DATA-TF may be longer than announced, up to Limits.tolerated_pdu: fixed block sizes."
    PADDED_PDUS = "padded PDUs", "Up to five bytes may follow the last PDV of a P-DATA-TF: PDUs padded to words."
    MISMATCHED_CLASS = "mismatched class", "A C-STORE may be of another SOP class than its context: one for all images."
    NO_PRIORITY = "no priority", "Requests may lack Priority, which is taken for medium: it has long meant nothing."
    STRAY_RESPONSES = "stray responses", "Responses to no request are passed over: final responses that are sent twice."


@dataclass(frozen=True, slots=True)
class Peer:
    r"""The profile of a peer, for `connect` or among the ``peers`` of a listener.

    Attributes:
        entity: its AE title and where it listens; what finds it by title. `connect` needs one.
        implementation_class_uid: finds it, as an acceptor, where no title does.
        tls: how connections to it are secured, a `TLS`.
        identity: our user, as it is to be told.
        relax: what it may do beside what the standard lets it.
        character_set: Specific Character Set of its data sets that name none, or one that cannot be theirs; values are
            separated by backslashes, as in ``\\ISO 2022 IR 87``.
        transcode: when instances for it are converted, where the call or the provider does not say; see
            `transfer_choice.fitting`.
        window: how many operations at a time to ask it for, see `NegotiationOptions.operations_window`; (1, 1) keeps
            it from being asked where instances are stored, too.
        calling: our AE title for it, where a client or a command is given no other; empty for the usual one.
    """

    entity: Entity | None = None
    implementation_class_uid: str = ""
    tls: Any = None
    identity: UserIdentity | None = None
    relax: frozenset[Relaxation] = frozenset()
    character_set: str = ""
    transcode: Any = None
    window: tuple[int, int] | None = None
    calling: str = ""

    @classmethod
    def of(cls, peer: str | Entity | Peer) -> Peer:
        """A profile from whatever names a peer.

        Raises:
            InvalidArgument: an address that is none.
        """
        if isinstance(peer, Peer):
            return peer
        return cls(Entity.parse(peer) if isinstance(peer, str) else peer)

    def address(self) -> Entity:
        """Where to connect to.

        Raises:
            InvalidArgument: the profile does not say.
        """
        if self.entity is None:
            raise InvalidArgument("a peer to connect to needs an entity", hint="Peer(Entity.parse('AET@host:port'))")
        return self.entity

    def titled(self, ae_title: str | None) -> Peer:
        """The same by another called AE title; itself where that is None.

        Raises:
            InvalidArgument: the profile does not say where to connect to.
        """
        return self if ae_title is None else replace(self, entity=replace(self.address(), ae_title=ae_title))

    def proposing(self, extras: NegotiationOptions | None) -> NegotiationOptions | None:
        """What to propose to it: ``extras``, and what they leave to the profile."""
        if self.identity is None and self.window is None:
            return extras
        extras = extras or NegotiationOptions()
        return extras._replace(
            identity=extras.identity or self.identity,
            operations_window=extras.operations_window or self.window,
        )

    def storing(
        self, extras: NegotiationOptions | None, window: int | None = None, usual: int = OPERATIONS_WINDOW
    ) -> NegotiationOptions:
        """What to propose to it where instances are to be stored: `proposing`, and several of them at a time.

        Args:
            extras: what is to be proposed anyway.
            window: how many, whatever they and the profile say; 1 proposes none.
            usual: how many, where that is not said, of an acceptor that is known to keep to it.
        """
        extras = self.proposing(extras) or NegotiationOptions()
        if window is None and extras.operations_window is not None:
            return extras
        return extras._replace(operations_window=(window or usual, 1), unproven_window=window is not None)


#: The profile of a peer that has none.
STRICT = Peer()


class Peers:
    """The profiles of a listener.

    Raises:
        InvalidArgument: one by which no peer could be found.
    """

    def __init__(self, peers: Iterable[Peer] = ()) -> None:
        self._by_title: dict[str, Peer] = {}
        self._by_implementation: dict[str, Peer] = {}
        for peer in peers:
            if peer.entity is None and not peer.implementation_class_uid:
                raise InvalidArgument("a peer of a listener needs an entity or an implementation class UID")
            if peer.entity is not None:
                self._by_title.setdefault(peer.entity.ae_title, peer)
            else:
                self._by_implementation.setdefault(peer.implementation_class_uid, peer)

    def __bool__(self) -> bool:
        return bool(self._by_title or self._by_implementation)

    def named(self, title: str) -> Peer:
        """The profile of an AE title."""
        return self._by_title.get(title, STRICT)

    def calling(self, body: bytes) -> Peer:
        """Whose A-ASSOCIATE-RQ this is, by its calling AE title or its implementation class UID, malformed or not."""
        title = _text(body[20:36])
        if title in self._by_title:
            return self._by_title[title]
        if not self._by_implementation:
            return STRICT
        information = b"".join(value for kind, _, value in _items(body[_FIXED:]) or () if kind == _USER_INFORMATION)
        sent = (_text(value) for kind, _, value in _items(information) or () if kind == _IMPLEMENTATION_CLASS_UID)
        return next((self._by_implementation[uid] for uid in sent if uid in self._by_implementation), STRICT)


# ---- an A-ASSOCIATE-RQ or -AC before it is decoded (PS3.8 Section 9.3) -----------------------------------------------

_Item = tuple[int, int, bytes]  # item type, the byte after it, value

_FIXED = 68  # bytes of an A-ASSOCIATE body before its items; titles at 4 and 20
_APPLICATION_CONTEXT, _CONTEXT_RQ, _CONTEXT_AC, _USER_INFORMATION = 0x10, 0x20, 0x21, 0x50
_ABSTRACT_SYNTAX, _TRANSFER_SYNTAX, _IMPLEMENTATION_CLASS_UID = 0x30, 0x40, 0x52
_UID_ITEMS = frozenset({_APPLICATION_CONTEXT, _ABSTRACT_SYNTAX, _TRANSFER_SYNTAX, _IMPLEMENTATION_CLASS_UID})
_SUB_ITEMS = frozenset(range(0x51, 0x5A))
# What may stand in an item more than once, and once.
_INSIDE: dict[int, tuple[Collection[int], Collection[int]]] = {
    _CONTEXT_RQ: ({_TRANSFER_SYNTAX}, {_ABSTRACT_SYNTAX}),
    _CONTEXT_AC: ((), {_TRANSFER_SYNTAX}),
    _USER_INFORMATION: (_SUB_ITEMS, ()),
}
_KNOWN = _SUB_ITEMS | {
    _APPLICATION_CONTEXT, _CONTEXT_RQ, _CONTEXT_AC, _ABSTRACT_SYNTAX, _TRANSFER_SYNTAX, _USER_INFORMATION,
}  # fmt: skip
_MENDED = frozenset(
    {
        Relaxation.PADDED_TITLES,
        Relaxation.PROTOCOL_VERSION,
        Relaxation.APPLICATION_CONTEXT,
        Relaxation.NO_USER_INFORMATION,
        Relaxation.STRAY_ITEMS,
        Relaxation.CONTEXT_IDS,
        Relaxation.PADDED_UIDS,
    }
)


def repair_pdu(kind: int, body: bytes, relax: frozenset[Relaxation]) -> bytes:
    """The body of an A-ASSOCIATE-RQ or -AC with what is relaxed put right; nothing is taken for right that is not."""
    if len(body) < _FIXED:
        return body
    body = _with_spaces(body)
    if relax.isdisjoint(_MENDED):
        return body
    fixed = _mended_fixed(body[:_FIXED], relax)
    items = _items(body[_FIXED:])
    if items is None:  # lengths that lie: the decoder says so
        return fixed + body[_FIXED:]
    context = _CONTEXT_RQ if kind == PDU_ASSOCIATE_RQ else _CONTEXT_AC
    return fixed + _encoded(_mended_items(items, context, relax))


def _with_spaces(body: bytes) -> bytes:
    """Titles that are padded with NULs alone, as one implementation does, padded as PS3.8 Section 9.3.2 says."""
    titles = body[4:20], body[20:36]
    if b"\0" not in body[4:36] or not all(map(_is_padded_title, titles)):
        return body
    return body[:4] + b"".join(title.rstrip(b"\0").ljust(16) for title in titles) + body[36:]


def _is_padded_title(field: bytes) -> bool:
    text = field.rstrip(b"\0")
    return bool(text.strip()) and b"\0" not in text and text.isascii() and text.decode("latin-1").isprintable()


def _mended_fixed(fixed: bytes, relax: frozenset[Relaxation]) -> bytes:
    if Relaxation.PROTOCOL_VERSION in relax:
        fixed = fixed[:1] + bytes([fixed[1] | 1]) + fixed[2:]
    if Relaxation.PADDED_TITLES in relax:
        called, calling = (_text(fixed[at : at + 16]).encode("latin-1").ljust(16) for at in (4, 20))
        fixed = fixed[:4] + called + calling + fixed[36:]
    return fixed


def _mended_items(items: list[_Item], context: int, relax: frozenset[Relaxation]) -> list[_Item]:
    if Relaxation.STRAY_ITEMS in relax:
        items = _belonging(items, {context}, {_APPLICATION_CONTEXT, _USER_INFORMATION})
    if Relaxation.CONTEXT_IDS in relax:
        items = _odd_and_unused(items, context)
    if Relaxation.APPLICATION_CONTEXT in relax:
        others = [item for item in items if item[0] != _APPLICATION_CONTEXT]
        items = [(_APPLICATION_CONTEXT, 0, uids.APPLICATION_CONTEXT.encode()), *others]
    if Relaxation.NO_USER_INFORMATION in relax and all(item[0] != _USER_INFORMATION for item in items):
        items = [*items, (_USER_INFORMATION, 0, b"")]
    return [_mended_item(*item, relax) for item in items]


def _mended_item(kind: int, second: int, value: bytes, relax: frozenset[Relaxation]) -> _Item:
    start = 0 if kind == _USER_INFORMATION else 4
    inner = _items(value[start:]) if kind in _INSIDE else None
    if inner is None:
        return _mended_uid(kind, second, value, relax)
    if Relaxation.STRAY_ITEMS in relax:
        inner = _belonging(inner, *_INSIDE[kind])
    # No deeper: these hold no items, whatever their type says.
    return kind, second, value[:start] + _encoded([_mended_uid(*item, relax) for item in inner])


def _mended_uid(kind: int, second: int, value: bytes, relax: frozenset[Relaxation]) -> _Item:
    padded = kind in _UID_ITEMS and Relaxation.PADDED_UIDS in relax
    return kind, second, _text(value).encode("latin-1") if padded else value


def _belonging(items: list[_Item], many: Collection[int], once: Collection[int]) -> list[_Item]:
    """The items that may stand here, and unknown ones; of some only the first."""
    seen: set[int] = set()
    kept = []
    for item in items:
        kind = item[0]
        if kind not in _KNOWN or kind in many or (kind in once and kind not in seen):
            kept.append(item)
        seen.add(kind)
    return kept


def _odd_and_unused(items: list[_Item], context: int) -> list[_Item]:
    seen: set[int] = set()
    kept = []
    for item in items:
        number = item[2][0] if item[0] == context and item[2] else None
        if number is None or (number % 2 and number not in seen):
            kept.append(item)
        seen.add(number or 0)
    return kept


def _items(data: bytes) -> list[_Item] | None:
    """The items that ``data`` consist of; None where their lengths do not fit."""
    found: list[_Item] = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at + 2 : at + 4])
        if at + 4 > len(data) or end > len(data):
            return None
        found.append((data[at], data[at + 1], data[at + 4 : end]))
        at = end
    return found


def _encoded(items: list[_Item]) -> bytes:
    return b"".join(bytes((kind, second)) + len(value).to_bytes(2) + value for kind, second, value in items)


def _text(value: bytes) -> str:
    """What a field of fixed length says: up to its first NUL, without the spaces around it."""
    return value.split(b"\0")[0].decode("latin-1").strip(" ")


# ---- an A-ASSOCIATE-RQ before it is judged ---------------------------------------------------------------------------


def normalize_request(request: AssociateRQ, called: str | None, relax: frozenset[Relaxation]) -> AssociateRQ:
    """A request as it is to be judged, by a provider that is called so, or anything: with the titles that it gets.

    A caller without a title is taken for anonymous, so that a list of those who may call still keeps it out.
    """
    asked, asking = request.called_ae_title, request.calling_ae_title
    if Relaxation.BLANK_TITLES in relax:
        asked, asking = asked or called or ANY_SCP, asking or _ANONYMOUS
    if Relaxation.TITLE_CASE in relax and called is not None and asked.upper() == called.upper():
        asked = called
    if (asked, asking) == (request.called_ae_title, request.calling_ae_title):
        return request
    return AssociateRQ(
        asked,
        asking,
        request.presentation_contexts,
        request.user_information,
        request.application_context_name,
        request.protocol_version,
        request.unknown,
    )


_ANONYMOUS = "ANONYMOUS"
