"""PDUs, items and commands as plain values, for JSON and for people: names for numbers, and no secrets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import uids
from .._dimse import ELEMENTS, Command, decode_command
from .._items import UserIdentityAC, UserIdentityRQ, Value
from .._pdu import Abort, AssociateAC, AssociateRJ, AssociateRQ, PDataTF, ReleaseRP, ReleaseRQ
from ..errors import AssociationAborted, AssociationRejected, MalformedPDU
from ..messages import name_of
from ..status import Status

__all__ = ["PDU_NAMES", "Fields", "command_fields", "decoded_command", "lines", "named", "sized", "value_fields"]

PDU_NAMES = {
    AssociateRQ: "A-ASSOCIATE-RQ",
    AssociateAC: "A-ASSOCIATE-AC",
    AssociateRJ: "A-ASSOCIATE-RJ",
    PDataTF: "P-DATA-TF",
    ReleaseRQ: "A-RELEASE-RQ",
    ReleaseRP: "A-RELEASE-RP",
    Abort: "A-ABORT",
}
_NAMED_USER = {1, 2}  # types of user identity whose primary field is a name and no secret (PS3.7 Annex D.3.3.7)
_SHOWN_BYTES = 16

Fields = dict[str, Any]


def value_fields(value: Value) -> Fields:
    """The fields of a PDU or an item by their names; those of items in it, too."""
    names: tuple[str, ...] = type(value).__match_args__
    fields: Fields = {name: getattr(value, name) for name in names}
    if isinstance(value, UserIdentityRQ):
        is_name = value.type in _NAMED_USER
        fields["primary"] = value.primary.decode("utf-8", "replace") if is_name else sized(value.primary)
        fields["secondary"] = sized(value.secondary)
    if isinstance(value, UserIdentityAC):
        fields["response"] = sized(value.response)  # it may be a ticket
    if isinstance(value, AssociateRJ):
        fields["meaning"] = AssociationRejected(value.result, value.source, value.reason, hint="").message
    if isinstance(value, Abort):
        fields["meaning"] = AssociationAborted(value.source, value.reason).message
    return {name: _plain(field) for name, field in fields.items() if field not in ((), None)}


def _plain(field: Any) -> Any:
    if isinstance(field, Value):
        return {"item": type(field).__name__} | value_fields(field)
    if isinstance(field, tuple):
        return [_plain(part) for part in field]
    if isinstance(field, bytes):
        return _hex(field)
    return named(field) if isinstance(field, str) else field


def named(text: str) -> str:
    """A UID with its name, where it has one."""
    name = uids.name_of(text)
    return text if name == text else f"{text} ({name})"


def sized(data: bytes) -> str:
    """So many bytes."""
    return f"{len(data)} byte{'' if len(data) == 1 else 's'}"


def _hex(data: bytes) -> str:
    more = "…" if len(data) > _SHOWN_BYTES else ""
    return f"{sized(data)} {data[:_SHOWN_BYTES].hex(' ')}{more}".strip()


def decoded_command(data: bytes | bytearray) -> Fields:
    """What is in the bytes of a command set, or what is wrong with them."""
    try:
        command = decode_command(data)
    except MalformedPDU as error:
        return {"malformed": error.message}
    return command_fields(command)


def command_fields(command: Command) -> Fields:
    """The elements of a command set by their names, after that of its message."""
    elements = {name: getattr(command, name) for _, name, _ in ELEMENTS if getattr(command, name) is not None}
    return {"message": name_of(command)} | {name: _element(command, name, elements[name]) for name in elements}


def _element(command: Command, name: str, value: Any) -> Any:
    if name == "status":
        return str(Status(value, name_of(command).removesuffix("-RSP")))
    if isinstance(value, tuple):
        return [f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in value]
    if name in ("command_field", "command_data_set_type"):
        return f"{value:04X}H"
    return named(value) if isinstance(value, str) else value


def lines(fields: Fields, depth: int = 1) -> Iterator[str]:
    """The fields of a PDU, an item or a message for people: one to a line, what is in them indented."""
    margin = "    " * depth
    for name, field in fields.items():
        if not isinstance(field, list):
            yield f"{margin}{_words(name)}: {field}"
        elif all(isinstance(part, str) for part in field):
            yield f"{margin}{_words(name)}: {', '.join(field)}"
        else:
            yield f"{margin}{_words(name)}:"
            for part in field:
                yield from _part(dict(part), depth + 1)


def _part(part: Fields, depth: int) -> Iterator[str]:
    """An item or a fragment: a heading, and below it what does not fit there."""
    if "item" in part:
        heading = str(part.pop("item"))
        if len(part) == 1:
            heading += f": {part.popitem()[1]}"
    else:
        last = ", the last" if part.pop("last") else ""
        heading = f"context {part.pop('context')}: {part.pop('kind')}, {part.pop('size')} bytes{last}"
    yield "    " * depth + heading
    yield from lines(part, depth + 1)


_UPPER = {"ae": "AE", "id": "ID", "scp": "SCP", "scu": "SCU", "uid": "UID"}


def _words(name: str) -> str:
    return " ".join(_UPPER.get(word, word) for word in name.split("_"))
