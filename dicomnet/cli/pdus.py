"""Reads a captured stream of PDUs, and says what is in each, for `dicomnet dump`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from .. import uids
from .._dimse import ELEMENTS, Command, decode_command
from .._items import UserIdentityRQ, Value
from .._pdu import PDV, Abort, AssociateAC, AssociateRJ, AssociateRQ, PDataTF, ReleaseRP, ReleaseRQ, decode
from ..errors import AssociationAborted, AssociationRejected, InputFileError, InputProblem, MalformedPDU
from ..messages import name_of
from ..status import Status

__all__ = ["HEADER_SIZE", "PDU_NAMES", "lines", "pdus"]

HEADER_SIZE = 6
PDU_NAMES = {
    AssociateRQ: "A-ASSOCIATE-RQ",
    AssociateAC: "A-ASSOCIATE-AC",
    AssociateRJ: "A-ASSOCIATE-RJ",
    PDataTF: "P-DATA-TF",
    ReleaseRQ: "A-RELEASE-RQ",
    ReleaseRP: "A-RELEASE-RP",
    Abort: "A-ABORT",
}
# More than any implementation announces: what claims to be longer is not a PDU but noise.
_LONGEST = 256 << 20
# A command set is bounded so by us as a receiver, too.
_LONGEST_COMMAND = 64 << 10
_NAMED_USER = {1, 2}  # types of user identity whose primary field is a name and no secret (PS3.7 Annex D.3.3.7)
_SHOWN_BYTES = 16

Fields = dict[str, Any]


def pdus(file: BinaryIO, size: int) -> Iterator[Fields]:
    """What is in each PDU of a stream, with the offset of its first byte and its length.

    Args:
        file: at its start.
        size: all bytes there are.

    Raises:
        InputFileError: it ends within a PDU, or is not a stream of PDUs from some byte on.
    """
    commands: dict[int, bytearray] = {}
    offset = 0
    while offset < size:
        header = file.read(HEADER_SIZE)
        length = int.from_bytes(header[2:], "big")
        if len(header) < HEADER_SIZE or length > size - offset - HEADER_SIZE:
            raise InputFileError(
                f"truncated: the PDU at byte {offset} goes on past the end of the file, {size}",
                problem=InputProblem.TRUNCATED,
            )
        if length > _LONGEST:
            raise InputFileError(f"no PDU at byte {offset}", problem=InputProblem.NOT_PART10)
        try:
            pdu = decode(header + file.read(length))
        except MalformedPDU as error:
            yield {"offset": offset, "length": length, "pdu": f"type {header[0]:02X}H", "malformed": error.message}
        else:
            fields = _data(pdu, commands) if isinstance(pdu, PDataTF) else _value(pdu)
            yield {"offset": offset, "length": length, "pdu": PDU_NAMES[type(pdu)]} | fields
        offset += HEADER_SIZE + length


def _value(value: Value) -> Fields:
    """The fields of a PDU or an item by their names; those of items in it, too."""
    names: tuple[str, ...] = type(value).__match_args__
    fields: Fields = {name: getattr(value, name) for name in names}
    if isinstance(value, UserIdentityRQ):
        if value.type in _NAMED_USER:
            fields["primary"] = value.primary.decode("utf-8", "replace")
        fields["secondary"] = _size(value.secondary)
    if isinstance(value, AssociateRJ):
        fields["meaning"] = AssociationRejected(value.result, value.source, value.reason, hint="").message
    if isinstance(value, Abort):
        fields["meaning"] = AssociationAborted(value.source, value.reason).message
    return {name: _plain(field) for name, field in fields.items() if field not in ((), None)}


def _plain(field: Any) -> Any:
    if isinstance(field, Value):
        return {"item": type(field).__name__} | _value(field)
    if isinstance(field, tuple):
        return [_plain(part) for part in field]
    if isinstance(field, bytes):
        return _hex(field)
    return named(field) if isinstance(field, str) else field


def named(text: str) -> str:
    """A UID with its name, where it has one."""
    name = uids.name_of(text)
    return text if name == text else f"{text} ({name})"


def _size(data: bytes) -> str:
    return f"{len(data)} byte{'' if len(data) == 1 else 's'}"


def _hex(data: bytes) -> str:
    more = "…" if len(data) > _SHOWN_BYTES else ""
    return f"{_size(data)} {data[:_SHOWN_BYTES].hex(' ')}{more}".strip()


def _data(pdu: PDataTF, commands: dict[int, bytearray]) -> Fields:
    return {"pdvs": [_pdv(pdv, commands) for pdv in pdu.pdvs]}


def _pdv(pdv: PDV, commands: dict[int, bytearray]) -> Fields:
    """A fragment; the last of a command set brings the command."""
    fields: Fields = {
        "context": pdv.context_id,
        "kind": "command" if pdv.is_command else "data set",
        "last": pdv.is_last,
        "size": len(pdv.data),
    }
    if pdv.is_command:
        command = commands.setdefault(pdv.context_id, bytearray())
        command += pdv.data[: _LONGEST_COMMAND + 1 - len(command)]
        if pdv.is_last:
            del commands[pdv.context_id]
            fields |= _command(command)
    return fields


def _command(data: bytearray) -> Fields:
    try:
        command = decode_command(data)
    except MalformedPDU as error:
        return {"malformed": error.message}
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
