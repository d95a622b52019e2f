"""A second PDU codec, slow and obvious, to compare `dicomnet._pdu` with: written from the standard's tables alone.

It knows nothing of the package. `encode` takes any object whose class and attributes have the standard's names;
`decode` gives such objects back as pairs of class name and fields, and `plain` turns a value of the package into the
same form. What is not a PDU raises `Wrong`.
"""

from __future__ import annotations

import struct
from typing import Any

Plain = tuple[str, dict[str, Any]]

PDU_TYPES = {
    "AssociateRQ": 1,
    "AssociateAC": 2,
    "AssociateRJ": 3,
    "PDataTF": 4,
    "ReleaseRQ": 5,
    "ReleaseRP": 6,
    "Abort": 7,
}
KNOWN_ITEMS = {0x10, 0x20, 0x21, 0x30, 0x40, *range(0x50, 0x5A)}
MAX_UNKNOWN = 1024


class Wrong(Exception):
    """These bytes are not a PDU."""


def require(condition: object, what: str) -> None:
    if not condition:
        raise Wrong(what)


def plain(value: Any) -> Any:
    """The value as (class name, fields), also within tuples."""
    if isinstance(value, tuple):
        return tuple(plain(part) for part in value)
    if hasattr(value, "__match_args__"):
        return type(value).__name__, {name: plain(getattr(value, name)) for name in value.__match_args__}
    return value


# Encoding


def item(kind: int, content: bytes, second: int = 0) -> bytes:
    return struct.pack(">BBH", kind, second, len(content)) + content


def field(content: bytes) -> bytes:
    return struct.pack(">H", len(content)) + content


def encode_item(value: Any) -> bytes:
    match type(value).__name__:
        case "UnknownItem":
            return item(value.type, value.data)
        case "MaximumLength":
            return item(0x51, struct.pack(">I", value.value))
        case "ImplementationClassUID":
            return item(0x52, value.uid.encode("ascii"))
        case "AsynchronousOperationsWindow":
            return item(0x53, struct.pack(">HH", value.invoked, value.performed))
        case "RoleSelection":
            return item(0x54, field(value.sop_class_uid.encode("ascii")) + bytes([value.scu, value.scp]))
        case "ImplementationVersionName":
            return item(0x55, value.name.encode("latin-1"))
        case "SOPClassExtendedNegotiation":
            return item(0x56, field(value.sop_class_uid.encode("ascii")) + value.application_information)
        case "SOPClassCommonExtendedNegotiation":
            related = b"".join(field(uid.encode("ascii")) for uid in value.related_general_sop_class_uids)
            uids = field(value.sop_class_uid.encode("ascii")) + field(value.service_class_uid.encode("ascii"))
            return item(0x57, uids + field(related), value.version)
        case "UserIdentityRQ":
            flags = bytes([value.type, value.positive_response_requested])
            return item(0x58, flags + field(value.primary) + field(value.secondary))
        case "UserIdentityAC":
            return item(0x59, field(value.response))
        case "PresentationContextRQ":
            syntaxes = b"".join(item(0x40, uid.encode("ascii")) for uid in value.transfer_syntaxes)
            content = item(0x30, value.abstract_syntax.encode("ascii")) + syntaxes
            return item(0x20, bytes([value.id, 0, 0, 0]) + content + encode_items(value.unknown))
        case "PresentationContextAC":
            syntax = b"" if value.transfer_syntax is None else item(0x40, value.transfer_syntax.encode("ascii"))
            return item(0x21, bytes([value.id, 0, value.result, 0]) + syntax + encode_items(value.unknown))
        case "PDV":
            control = (1 if value.is_command else 0) + (2 if value.is_last else 0)
            return struct.pack(">IBB", 2 + len(value.data), value.context_id, control) + value.data
    raise TypeError(type(value))


def encode_items(values: Any) -> bytes:
    return b"".join(encode_item(value) for value in values)


def encode_body(value: Any) -> bytes:
    match type(value).__name__:
        case "AssociateRQ" | "AssociateAC":
            called = value.called_ae_title.encode("latin-1").ljust(16, b" ")
            calling = value.calling_ae_title.encode("latin-1").ljust(16, b" ")
            return (
                struct.pack(">HH", value.protocol_version, 0)
                + called
                + calling
                + bytes(32)
                + item(0x10, value.application_context_name.encode("ascii"))
                + encode_items(value.presentation_contexts)
                + item(0x50, encode_items(value.user_information))
                + encode_items(value.unknown)
            )
        case "AssociateRJ":
            return bytes([0, value.result, value.source, value.reason])
        case "PDataTF":
            return encode_items(value.pdvs)
        case "ReleaseRQ" | "ReleaseRP":
            return bytes(4)
        case "Abort":
            return bytes([0, 0, value.source, value.reason])
    raise TypeError(type(value))


def encode(value: Any) -> bytes:
    body = encode_body(value)
    return struct.pack(">BBI", PDU_TYPES[type(value).__name__], 0, len(body)) + body


# Decoding


class Reader:
    """Bytes that are taken from the front."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, size: int) -> bytes:
        require(size <= len(self.data), f"{size} bytes wanted, {len(self.data)} left")
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def rest(self) -> bytes:
        return self.take(len(self.data))

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def field(self) -> bytes:
        return self.take(self.number(2))

    def flag(self) -> bool:
        value = self.number(1)
        require(value in (0, 1), "a flag")
        return bool(value)

    def items(self) -> list[tuple[int, int, Reader]]:
        found = []
        while self.data:
            kind, second = self.number(1), self.number(1)
            found.append((kind, second, Reader(self.field())))
        return found


def uid(data: bytes) -> str:
    require(data.isascii(), "a UID is ASCII")
    return data.decode("ascii").rstrip(" \0")


def unknown(kind: int, content: Reader) -> Plain:
    require(kind not in KNOWN_ITEMS, "a known item in the wrong place, or twice")
    return "UnknownItem", {"type": kind, "data": content.rest()}


def decode_user_information(information: Reader) -> tuple[Plain, ...]:
    values = []
    for kind, second, content in information.items():
        values.append(decode_sub_item(kind, second, content))
        require(not content.data, "bytes left over in a sub-item")
    return tuple(values)


def decode_sub_item(kind: int, second: int, content: Reader) -> Plain:
    match kind:
        case 0x51:
            return "MaximumLength", {"value": content.number(4)}
        case 0x52:
            return "ImplementationClassUID", {"uid": uid(content.rest())}
        case 0x53:
            return "AsynchronousOperationsWindow", {"invoked": content.number(2), "performed": content.number(2)}
        case 0x54:
            name = uid(content.field())
            return "RoleSelection", {"sop_class_uid": name, "scu": content.flag(), "scp": content.flag()}
        case 0x55:
            return "ImplementationVersionName", {"name": content.rest().decode("latin-1").lstrip(" ").rstrip(" \0")}
        case 0x56:
            name = uid(content.field())
            return "SOPClassExtendedNegotiation", {"sop_class_uid": name, "application_information": content.rest()}
        case 0x57:
            fields = {"sop_class_uid": uid(content.field()), "service_class_uid": uid(content.field())}
            related, uids = Reader(content.field()), []
            while related.data:
                uids.append(uid(related.field()))
            content.rest()  # reserved
            return "SOPClassCommonExtendedNegotiation", {
                **fields,
                "related_general_sop_class_uids": tuple(uids),
                "version": second,
            }
        case 0x58:
            identity = {"type": content.number(1), "positive_response_requested": content.flag()}
            return "UserIdentityRQ", {**identity, "primary": content.field(), "secondary": content.field()}
        case 0x59:
            return "UserIdentityAC", {"response": content.field()}
    return unknown(kind, content)


def decode_context_rq(content: Reader) -> Plain:
    number = content.number(1)
    content.take(3)
    abstract: list[str] = []
    transfer: list[str] = []
    others: list[Plain] = []
    for kind, _, inner in content.items():
        if kind == 0x30 and not abstract:
            abstract.append(uid(inner.rest()))
        elif kind == 0x40:
            transfer.append(uid(inner.rest()))
        else:
            others.append(unknown(kind, inner))
    require(abstract and transfer, "an abstract syntax and at least one transfer syntax")
    require(number % 2, "an odd context ID")
    require(len(others) <= MAX_UNKNOWN, "not too many unknown items")
    return "PresentationContextRQ", {
        "id": number,
        "abstract_syntax": abstract[0],
        "transfer_syntaxes": tuple(transfer),
        "unknown": tuple(others),
    }


def decode_context_ac(content: Reader) -> Plain:
    number = content.number(1)
    content.take(1)
    result = content.number(1)
    content.take(1)
    require(number % 2, "an odd context ID")
    try:
        syntax, others = decode_accepted_syntax(content)
    except Wrong:
        require(result != 0, "an accepted context that is well formed")
        syntax, others = None, ()
    require(result != 0 or syntax is not None, "a transfer syntax for an accepted context")
    return "PresentationContextAC", {"id": number, "result": result, "transfer_syntax": syntax, "unknown": others}


def decode_accepted_syntax(content: Reader) -> tuple[str | None, tuple[Plain, ...]]:
    syntax = None
    others = []
    for kind, _, inner in content.items():
        if kind == 0x40 and syntax is None:
            syntax = uid(inner.rest())
        else:
            others.append(unknown(kind, inner))
    require(len(others) <= MAX_UNKNOWN, "not too many unknown items")
    return syntax, tuple(others)


def decode_associate(name: str, content: Reader) -> Plain:
    version = content.number(2)
    content.take(2)
    called, calling = (content.take(16).decode("latin-1").strip(" ") for _ in range(2))
    content.take(32)
    names: list[str] = []
    contexts: list[Plain] = []
    informations: list[tuple[Plain, ...]] = []
    others: list[Plain] = []
    for kind, _, inner in content.items():
        if kind == 0x10 and not names:
            names.append(uid(inner.rest()))
        elif kind == 0x20 and name == "AssociateRQ":
            contexts.append(decode_context_rq(inner))
        elif kind == 0x21 and name == "AssociateAC":
            contexts.append(decode_context_ac(inner))
        elif kind == 0x50 and not informations:
            informations.append(decode_user_information(inner))
        else:
            others.append(unknown(kind, inner))
    require(names and contexts and informations, "the items that every association has")
    require(len({context[1]["id"] for context in contexts}) == len(contexts), "each context ID once")
    require(len(others) <= MAX_UNKNOWN, "not too many unknown items")
    return name, {
        "called_ae_title": called,
        "calling_ae_title": calling,
        "presentation_contexts": tuple(contexts),
        "user_information": informations[0],
        "application_context_name": names[0],
        "protocol_version": version,
        "unknown": tuple(others),
    }


def decode_pdvs(content: Reader) -> Plain:
    pdvs = []
    while content.data:
        fragment = Reader(content.take(content.number(4)))
        number, control = fragment.number(1), fragment.number(1)
        require(number % 2, "an odd context ID")
        fields = {"is_command": bool(control & 1), "is_last": bool(control & 2)}
        pdvs.append(("PDV", {"context_id": number, "data": fragment.rest(), **fields}))
    require(pdvs, "at least one PDV")
    return "PDataTF", {"pdvs": tuple(pdvs)}


def decode_short(name: str, content: Reader) -> Plain:
    _, a, b, c = content.take(4)
    if name == "AssociateRJ":
        return name, {"result": a, "source": b, "reason": c}
    return (name, {"source": b, "reason": c}) if name == "Abort" else (name, {})


def decode(data: bytes) -> Plain:
    """The one PDU in `data`."""
    whole = Reader(data)
    kind = whole.number(1)
    whole.take(1)
    content = Reader(whole.take(whole.number(4)))
    require(not whole.data, "bytes after the PDU")
    names = {number: name for name, number in PDU_TYPES.items()}
    require(kind in names, "a known type")
    name = names[kind]
    if name in ("AssociateRQ", "AssociateAC"):
        return decode_associate(name, content)
    value = decode_pdvs(content) if name == "PDataTF" else decode_short(name, content)
    require(not content.data, "bytes left over in the PDU")
    return value
