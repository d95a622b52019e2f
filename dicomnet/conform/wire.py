"""Frames of the upper layer and command sets, built and read with `struct` alone.

The suite judges other people's bytes, and dicomnet's own: so it shares no code with dicomnet's codec, and it can say
anything, right or wrong. Builders take the truth by default; ``length`` and the like let them lie.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, DATA_TF, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLEMENTATION = "2.25.130904811218532091170266254498498180651"
VERSION_NAME = b"CONFORM"

COMMAND, LAST = 1, 2  # bits of a message control header (PS3.8 Annex E.2)

AFFECTED_CLASS, REQUESTED_CLASS, FIELD, MESSAGE_ID, RESPONDED_TO = 0x0002, 0x0003, 0x0100, 0x0110, 0x0120
PRIORITY, DATA_SET_TYPE, STATUS, AFFECTED_INSTANCE, REQUESTED_INSTANCE = 0x0700, 0x0800, 0x0900, 0x1000, 0x1001
GROUP_LENGTH = 0x0000
ECHO_RQ, ECHO_RSP, STORE_RQ, STORE_RSP, FIND_RQ, GET_RQ, CANCEL_RQ = 0x30, 0x8030, 0x01, 0x8001, 0x20, 0x110, 0x0FFF
NO_DATA_SET = 0x0101


class Unreadable(ValueError):
    """What was received does not have the form that the standard gives it."""


# ---- the upper layer, written --------------------------------------------------------------------------------------


def pdu(kind: int, body: bytes = b"", *, length: int | None = None, reserved: int = 0) -> bytes:
    """A PDU: type, reserved byte, length, body (PS3.8 Section 9.3.1)."""
    return struct.pack(">BBI", kind, reserved, len(body) if length is None else length) + body


def item(kind: int, body: bytes = b"", *, length: int | None = None, reserved: int = 0) -> bytes:
    """An item or sub-item: type, reserved byte, length, body."""
    return struct.pack(">BBH", kind, reserved, len(body) if length is None else length) + body


def field(value: str | bytes, *, length: int | None = None) -> bytes:
    """A field with a 16-bit length before it."""
    data = octets(value)
    return struct.pack(">H", len(data) if length is None else length) + data


def octets(value: str | bytes) -> bytes:
    """Text as it goes over the wire, or bytes as they are."""
    return value if isinstance(value, bytes) else value.encode("latin-1")


def application(name: str | bytes = APPLICATION_CONTEXT, *, reserved: int = 0) -> bytes:
    """An application context item."""
    return item(0x10, octets(name), reserved=reserved)


def context(
    context_id: int,
    abstract: str | bytes = VERIFICATION,
    transfers: Iterable[str | bytes] = (IMPLICIT,),
    *,
    extra: bytes = b"",
    reserved: int = 0,
) -> bytes:
    """A presentation context item of a request; ``extra`` is appended to its sub-items."""
    subitems = item(0x30, octets(abstract), reserved=reserved)
    subitems += b"".join(item(0x40, octets(name), reserved=reserved) for name in transfers)
    header = bytes((context_id, reserved, reserved, reserved))
    return item(0x20, header + subitems + extra, reserved=reserved)


def context_result(context_id: int, result: int = 0, transfer: str | bytes | None = IMPLICIT) -> bytes:
    """A presentation context item of an answer; with None it holds no sub-item."""
    subitem = b"" if transfer is None else item(0x40, octets(transfer))
    return item(0x21, bytes((context_id, 0, result, 0)) + subitem)


def user_information(*subitems: bytes, reserved: int = 0) -> bytes:
    """A user information item."""
    return item(0x50, b"".join(subitems), reserved=reserved)


def max_length(value: int = 16384) -> bytes:
    """A maximum length sub-item."""
    return item(0x51, struct.pack(">I", value))


def implementation(uid: str | bytes = IMPLEMENTATION) -> bytes:
    """An implementation class UID sub-item."""
    return item(0x52, octets(uid))


def version_name(name: bytes = VERSION_NAME) -> bytes:
    """An implementation version name sub-item."""
    return item(0x55, name)


def window(invoked: int, performed: int) -> bytes:
    """An asynchronous operations window sub-item."""
    return item(0x53, struct.pack(">HH", invoked, performed))


def role(uid: str | bytes, scu: int, scp: int) -> bytes:
    """A role selection sub-item."""
    return item(0x54, field(uid) + bytes((scu, scp)))


def extended(uid: str | bytes, information: bytes) -> bytes:
    """A SOP class extended negotiation sub-item."""
    return item(0x56, field(uid) + information)


def common_extended(
    uid: str, service: str, related: Iterable[str] = (), *, version: int = 0, more: bytes = b""
) -> bytes:
    """A SOP class common extended negotiation sub-item; ``more`` is what a later version may append."""
    general = b"".join(field(name) for name in related)
    return item(0x57, field(uid) + field(service) + field(general) + more, reserved=version)


def identity(kind: int, primary: bytes = b"conform", secondary: bytes = b"", *, response: int = 0) -> bytes:
    """A user identity sub-item of a request."""
    return item(0x58, bytes((kind, response)) + field(primary) + field(secondary))


def associate(
    items: Iterable[bytes],
    *,
    called: str | bytes,
    calling: str | bytes,
    kind: int = ASSOCIATE_RQ,
    version: int = 1,
    reserved: int = 0,
    spare: bytes = bytes(2),
    tail: bytes = bytes(32),
    length: int | None = None,
) -> bytes:
    """An A-ASSOCIATE-RQ or AC; ``spare`` and ``tail`` are its reserved fields (PS3.8 Section 9.3.2)."""
    body = struct.pack(">H2s16s16s32s", version, spare, title(called), title(calling), tail)
    return pdu(kind, body + b"".join(items), reserved=reserved, length=length)


def title(text: str | bytes) -> bytes:
    """An AE title, padded to 16 bytes."""
    return octets(text)[:16].ljust(16)


def reject(result: int, source: int, reason: int) -> bytes:
    """An A-ASSOCIATE-RJ."""
    return pdu(ASSOCIATE_RJ, bytes((0, result, source, reason)))


def release_rq(*, reserved: int = 0) -> bytes:
    """An A-RELEASE-RQ."""
    return pdu(RELEASE_RQ, bytes((reserved,) * 4), reserved=reserved)


def release_rp() -> bytes:
    """An A-RELEASE-RP."""
    return pdu(RELEASE_RP, bytes(4))


def abort(source: int = 0, reason: int = 0, *, reserved: int = 0) -> bytes:
    """An A-ABORT."""
    return pdu(ABORT, bytes((reserved, reserved, source, reason)), reserved=reserved)


def pdv(context_id: int, control: int, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A presentation data value item; ``control`` is its message control header."""
    return struct.pack(">IBB", len(data) + 2 if length is None else length, context_id, control) + data


def data_tf(*pdvs: bytes, length: int | None = None, reserved: int = 0) -> bytes:
    """A P-DATA-TF."""
    return pdu(DATA_TF, b"".join(pdvs), length=length, reserved=reserved)


# ---- command sets, written -----------------------------------------------------------------------------------------


def element(number: int, value: bytes = b"", *, group: int = 0, length: int | None = None) -> bytes:
    """A data element in implicit VR little endian."""
    return struct.pack("<HHI", group, number, len(value) if length is None else length) + value


def us(value: int) -> bytes:
    """An unsigned short."""
    return struct.pack("<H", value)


def ui(uid: str | bytes) -> bytes:
    """A UID, padded to an even length."""
    data = octets(uid)
    return data + bytes(len(data) % 2)


def command_set(elements: Mapping[int, bytes] | Iterable[bytes], *, group_length: int | None = -1) -> bytes:
    """A command set (PS3.7 Section 6.3.1).

    Args:
        elements: values by element number, or elements that are encoded already.
        group_length: what (0000,0000) says; -1 is the truth, None leaves the element out.
    """
    if isinstance(elements, Mapping):
        elements = [element(number, value) for number, value in elements.items()]
    body = b"".join(elements)
    if group_length is None:
        return body
    return element(GROUP_LENGTH, struct.pack("<I", len(body) if group_length == -1 else group_length)) + body


def echo_rq(message_id: int = 1) -> dict[int, bytes]:
    """The elements of a C-ECHO-RQ (PS3.7 Section 9.3.5.1)."""
    return {
        AFFECTED_CLASS: ui(VERIFICATION),
        FIELD: us(ECHO_RQ),
        MESSAGE_ID: us(message_id),
        DATA_SET_TYPE: us(NO_DATA_SET),
    }


def store_rq(instance: str | bytes, message_id: int = 1) -> dict[int, bytes]:
    """The elements of a C-STORE-RQ of a CT image (PS3.7 Section 9.3.1.1)."""
    return {
        AFFECTED_CLASS: ui(CT_STORAGE),
        FIELD: us(STORE_RQ),
        MESSAGE_ID: us(message_id),
        PRIORITY: us(0),
        DATA_SET_TYPE: us(1),
        AFFECTED_INSTANCE: ui(instance),
    }


def response(request: Mapping[int, bytes], status: int = 0) -> dict[int, bytes]:
    """The elements of the response to a request."""
    field_value = us(number(request[FIELD]) | 0x8000)
    answer = {AFFECTED_CLASS: request.get(AFFECTED_CLASS, b""), FIELD: field_value}
    answer |= {RESPONDED_TO: request[MESSAGE_ID], DATA_SET_TYPE: us(NO_DATA_SET), STATUS: us(status)}
    if AFFECTED_INSTANCE in request:
        answer[AFFECTED_INSTANCE] = request[AFFECTED_INSTANCE]
    return answer


def number(value: bytes) -> int:
    """An unsigned short, read."""
    if len(value) != 2:
        raise Unreadable(f"an unsigned short of {len(value)} bytes")
    return int.from_bytes(value, "little")


# ---- what the peer says, read --------------------------------------------------------------------------------------


class Item(NamedTuple):
    """An item or sub-item as received."""

    kind: int
    reserved: int
    body: bytes


class Pdv(NamedTuple):
    """A presentation data value as received."""

    context_id: int
    control: int
    data: bytes


class Context(NamedTuple):
    """A presentation context of an A-ASSOCIATE-AC as received; its sub-items are read where it is accepted."""

    context_id: int
    result: int
    transfers: tuple[bytes, ...]
    reserved: bytes


def read_items(data: bytes) -> list[Item]:
    """Items that fill ``data`` exactly."""
    found = []
    while data:
        if len(data) < 4:
            raise Unreadable(f"{len(data)} bytes where an item is expected")
        kind, reserved, length = struct.unpack_from(">BBH", data)
        if length > len(data) - 4:
            raise Unreadable(f"item {kind:02X}H claims {length} bytes where {len(data) - 4} are left")
        found.append(Item(kind, reserved, data[4 : 4 + length]))
        data = data[4 + length :]
    return found


@dataclass(frozen=True, slots=True)
class Associate:
    """An A-ASSOCIATE-RQ or AC as received."""

    version: int
    spare: bytes
    called: bytes
    calling: bytes
    tail: bytes
    items: tuple[Item, ...]

    def bodies(self, kind: int) -> list[bytes]:
        """The bodies of the items of one type."""
        return [found.body for found in self.items if found.kind == kind]

    @property
    def user(self) -> list[Item]:
        """The sub-items of the user information items."""
        return [sub for body in self.bodies(0x50) for sub in read_items(body)]

    def sub_items(self, kind: int) -> list[bytes]:
        """The bodies of the user information sub-items of one type."""
        return [sub.body for sub in self.user if sub.kind == kind]

    @property
    def max_length(self) -> int:
        """The maximum length that is announced; 0, no limit, where it is missing."""
        return next((int.from_bytes(body, "big") for body in self.sub_items(0x51)), 0)

    @property
    def results(self) -> dict[int, Context]:
        """The results of an A-ASSOCIATE-AC by presentation context ID."""
        return {found.context_id: found for found in map(_read_context, self.bodies(0x21))}

    @property
    def proposed(self) -> dict[int, tuple[bytes, tuple[bytes, ...]]]:
        """The proposals of an A-ASSOCIATE-RQ by ID: abstract syntax and transfer syntaxes."""
        found = {}
        for body in self.bodies(0x20):
            if len(body) < 4:
                raise Unreadable(f"a presentation context item of {len(body)} bytes")
            subs = read_items(body[4:])
            abstract = next((sub.body for sub in subs if sub.kind == 0x30), b"")
            found[body[0]] = abstract, tuple(sub.body for sub in subs if sub.kind == 0x40)
        return found

    def accepts(self, context_id: int) -> bool:
        """Whether a presentation context was accepted."""
        found = self.results.get(context_id)
        return found is not None and found.result == 0


def _read_context(body: bytes) -> Context:
    if len(body) < 4:
        raise Unreadable(f"a presentation context item of {len(body)} bytes")
    # Of a refused context only ID and result count (PS3.8 Section 9.3.3.2): peers put anything behind them.
    transfers = tuple(sub.body for sub in read_items(body[4:]) if sub.kind == 0x40) if body[2] == 0 else ()
    return Context(body[0], body[2], transfers, bytes((body[1], body[3])))


def read_associate(body: bytes) -> Associate:
    """The body of an A-ASSOCIATE-RQ or AC."""
    if len(body) < 68:
        raise Unreadable(f"an A-ASSOCIATE PDU of {len(body)} bytes")
    version, spare, called, calling, tail = struct.unpack_from(">H2s16s16s32s", body)
    return Associate(version, spare, called, calling, tail, tuple(read_items(body[68:])))


def read_pdvs(body: bytes) -> list[Pdv]:
    """The presentation data values of a P-DATA-TF."""
    found = []
    while body:
        if len(body) < 6:
            raise Unreadable(f"{len(body)} bytes where a presentation data value is expected")
        length, context_id, control = struct.unpack_from(">IBB", body)
        if not 2 <= length <= len(body) - 4:
            raise Unreadable(f"a presentation data value claims {length} bytes where {len(body) - 4} are left")
        found.append(Pdv(context_id, control, body[6 : 4 + length]))
        body = body[4 + length :]
    if not found:
        raise Unreadable("a P-DATA-TF without a presentation data value")
    return found


def read_command(data: bytes) -> dict[int, bytes]:
    """The elements of a command set by number, in the order in which they came."""
    found: dict[int, bytes] = {}
    while data:
        if len(data) < 8:
            raise Unreadable(f"{len(data)} bytes where a command element is expected")
        group, name, length = struct.unpack_from("<HHI", data)
        if group or length > len(data) - 8 or name in found:
            raise Unreadable(f"({group:04X},{name:04X}) of {length} bytes where {len(data) - 8} are left")
        found[name] = data[8 : 8 + length]
        data = data[8 + length :]
    return found
