"""Reads a captured stream of PDUs, and says what is in each, for `dicomnet dump`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from .._pdu import PDV, PDataTF, decode
from ..errors import InputFileError, InputProblem, MalformedPDU
from ..protocol.trace import PDU_NAMES, Fields, decoded_command, lines, value_fields

__all__ = ["HEADER_SIZE", "lines", "pdus"]

HEADER_SIZE = 6
# More than any implementation announces: what claims to be longer is not a PDU but noise.
_LONGEST = 256 << 20
# A command set is bounded so by us as a receiver, too.
_LONGEST_COMMAND = 64 << 10


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
            fields = _data(pdu, commands) if isinstance(pdu, PDataTF) else value_fields(pdu)
            yield {"offset": offset, "length": length, "pdu": PDU_NAMES[type(pdu)]} | fields
        offset += HEADER_SIZE + length


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
            fields |= decoded_command(command)
    return fields
