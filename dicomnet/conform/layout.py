"""The length fields of an A-ASSOCIATE-RQ, each of which can lie: where they are, how wide, and what contains them.

A request is a tree of `Node`s; `encode` writes it with one length replaced. Of every length field `lies` gives the
values that matter: nothing, one, one less, one more, all that its container has left, one more than that, the most.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from . import wire


@dataclass(frozen=True, slots=True)
class Node:
    """A length field with what stands before it, and what it counts."""

    name: str
    start: bytes
    parts: tuple[bytes | Node, ...]
    width: int = 2


class Row(NamedTuple):
    """A length field in the standard.

    Attributes:
        name: of its `Node`.
        section: where the field is defined.
        base: the first of its case numbers.
        field: its name in the standard.
        loose: values up to its container leave a request that can be read, if not understood.
        swallows: a value that takes in all that is left does.
        optional: a provider may skip the sub-item unread, for it need not support what it negotiates.
    """

    name: str
    section: str
    base: int
    field: str
    loose: bool = False
    swallows: bool = False
    optional: bool = False

    @property
    def inner(self) -> bool:
        """Whether the field lies within a sub-item, so that its lies stay in there."""
        return " " in self.name


ROWS: tuple[Row, ...] = (
    Row("10H", "PS3.8/9.3.2.1", 100, "Item-length of the application context item"),
    Row("20H", "PS3.8/9.3.2.2", 100, "Item-length of a presentation context item"),
    Row("30H", "PS3.8/9.3.2.2.1", 100, "Item-length of an abstract syntax sub-item"),
    Row("40H", "PS3.8/9.3.2.2.2", 100, "Item-length of a transfer syntax sub-item", swallows=True),
    Row("50H", "PS3.8/9.3.2.3", 100, "Item-length of the user information item"),
    Row("51H", "PS3.8/D.1.1", 100, "Item-length of the maximum length sub-item"),
    Row("52H", "PS3.7/D.3.3.2.1", 100, "Item-length of the implementation class UID sub-item", swallows=True),
    Row("53H", "PS3.7/D.3.3.3.1", 100, "Item-length of the asynchronous operations window sub-item", optional=True),
    Row("54H", "PS3.7/D.3.3.4.1", 100, "Item-length of a role selection sub-item", optional=True),
    Row("54H UID", "PS3.7/D.3.3.4.1", 110, "UID-length of a role selection sub-item", optional=True),
    Row("56H", "PS3.7/D.3.3.5.1", 100, "Item-length of an extended negotiation sub-item", swallows=True, optional=True),
    Row(
        "56H UID",
        "PS3.7/D.3.3.5.1",
        110,
        "SOP-class-uid-length of an extended negotiation sub-item",
        loose=True,
        optional=True,
    ),
    Row(
        "57H",
        "PS3.7/D.3.3.6.1",
        100,
        "Item-length of a common extended negotiation sub-item",
        swallows=True,
        optional=True,
    ),
    Row(
        "57H class",
        "PS3.7/D.3.3.6.1",
        110,
        "SOP-class-uid-length of a common extended negotiation sub-item",
        optional=True,
    ),
    Row(
        "57H service",
        "PS3.7/D.3.3.6.1",
        120,
        "Service-class-uid-length of a common extended negotiation sub-item",
        optional=True,
    ),
    Row("57H related", "PS3.7/D.3.3.6.1", 130, "length of the related general SOP class identification", optional=True),
    Row("57H UID", "PS3.7/D.3.3.6.1", 140, "length of a related general SOP class UID", optional=True),
    Row("58H", "PS3.7/D.3.3.7.1", 100, "Item-length of a user identity sub-item", optional=True),
    Row("58H primary", "PS3.7/D.3.3.7.1", 110, "Primary-field-length of a user identity sub-item", optional=True),
    Row("58H secondary", "PS3.7/D.3.3.7.1", 120, "Secondary-field-length of a user identity sub-item", optional=True),
    Row("55H", "PS3.7/D.3.3.2.3", 100, "Item-length of the implementation version name sub-item"),
)


def _item(name: str, *parts: bytes | Node) -> Node:
    return Node(name, bytes((int(name[:2], 16), 0)), parts)


def _uid(name: str, uid: str) -> Node:
    return Node(name, b"", (uid.encode(),))


def _user_information() -> Node:
    related = Node("57H related", b"", (_uid("57H UID", wire.CT_STORAGE),))
    common = (_uid("57H class", wire.CT_STORAGE), _uid("57H service", "1.2.840.10008.4.2"), related)
    identity = (b"\x02\x00", Node("58H primary", b"", (b"conform",)), Node("58H secondary", b"", (b"passcode",)))
    return _item(
        "50H",
        _item("51H", struct.pack(">I", 16384)),
        _item("52H", wire.IMPLEMENTATION.encode()),
        _item("53H", struct.pack(">HH", 1, 1)),
        _item("54H", _uid("54H UID", wire.CT_STORAGE), b"\x01\x00"),
        _item("56H", _uid("56H UID", wire.CT_STORAGE), b"\x02\x00\x00\x00"),
        _item("57H", *common),
        _item("58H", *identity),
        _item("55H", wire.VERSION_NAME),
    )


def request(called: str, calling: str) -> Node:
    """An A-ASSOCIATE-RQ that has every length field there is; the root's is PDU-length."""
    fixed = struct.pack(">H2x16s16s32x", 1, wire.title(called), wire.title(calling))
    verification = _item("30H", wire.VERIFICATION.encode())
    transfers = (_item("40H", wire.IMPLICIT.encode()), _item("40H, the second", wire.EXPLICIT.encode()))
    other = (
        b"\x03\0\0\0",
        _item("30H, of the second", wire.CT_STORAGE.encode()),
        _item("40H, of the second", wire.IMPLICIT.encode()),
    )
    items = (
        _item("10H", wire.APPLICATION_CONTEXT.encode()),
        _item("20H", b"\x01\0\0\0", verification, *transfers),
        _item("20H, the second", *other),
        _user_information(),
    )
    return Node("PDU", b"\x01\0", (fixed, *items), width=4)


def encode(part: bytes | Node, name: str = "", lie: int = 0) -> bytes:
    """The bytes of a tree; the length called ``name`` is replaced by a lie."""
    if isinstance(part, bytes):
        return part
    body = b"".join(encode(inner, name, lie) for inner in part.parts)
    length = lie if part.name == name else len(body)
    return part.start + length.to_bytes(part.width, "big") + body


def room(root: Node, name: str) -> tuple[int, int]:
    """Of the length called ``name``: the truth, and what its container has left for it."""
    for parent, child, before in _children(root):
        if child.name == name:
            header = len(child.start) + child.width
            truth = len(encode(child)) - header
            return truth, sum(len(encode(part)) for part in parent.parts) - before - header
    raise KeyError(name)


def _children(node: Node) -> Iterator[tuple[Node, Node, int]]:
    """Every node below another: its parent, itself, and how many bytes of the parent stand before it."""
    before = 0
    for part in node.parts:
        if isinstance(part, Node):
            yield node, part, before
            yield from _children(part)
        before += len(encode(part))


# A length of 0 only moves what was inside to where unknown items are skipped.
_MAY_BE_EMPTY = ("50H", "57H related")


class Lie(NamedTuple):
    """A value for a length field.

    Attributes:
        at: numbers the kind of lie.
        words, value: the value, described and true.
        readable: the request can be read in spite of it.
        binding: it breaks the request for every reader, also for one that skips what it does not support.
    """

    at: int
    words: str
    value: int
    readable: bool
    binding: bool


def lies(row: Row, truth: int, left: int) -> list[Lie]:
    """The lies about one length field, without those that are true or come twice."""
    values = (
        ("0", 0, row.loose or row.name in _MAY_BE_EMPTY),
        ("1", 1, row.loose),
        ("one less than true", truth - 1, row.loose),
        ("one more than true", truth + 1, row.loose),
        ("all that its container has left", left, row.loose or row.swallows),
        ("one more than its container has left", left + 1, False),
        ("FFFFH", 0xFFFF, False),
    )
    found: dict[int, Lie] = {truth: Lie(0, "", 0, readable=True, binding=False)}
    for at, (words, value, loose) in enumerate(values, 1):
        readable = loose and value <= left
        binding = not readable and not (row.optional and (row.inner or value == left))
        found.setdefault(value, Lie(at, words, value, readable, binding))
    return [lie for lie in found.values() if lie.at]
