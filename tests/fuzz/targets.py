"""What is fuzzed: every decoder, and the core as a peer sees it. Each target takes bytes and lets through no surprise.

A target raises nothing but what its decoder documents, which it catches here; anything else is a bug of ours.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache, partial

from dicomnet import uids
from dicomnet._pdu import PDV, PDataTF, decode, decode_first
from dicomnet.dataset import codec
from dicomnet.errors import InputFileError, MalformedPDU
from dicomnet.files.dataset_sink import DiscardSink
from dicomnet.files.part10 import Walker, meta_header, read_meta
from dicomnet.protocol.exchange import Exchange
from dicomnet.protocol.messages import MESSAGES, DataSet
from dicomnet.protocol.negotiation import AcceptancePolicy, ProposedContext, propose
from dicomnet.protocol.states import State
from dicomnet.wire.command_set import Command, decode_command
from dicomnet.wire.elements import fault_of

SYNTAXES = (uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN)
DATA_SYNTAXES = (*SYNTAXES, uids.EXPLICIT_VR_BIG_ENDIAN, uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
CONTEXTS = [ProposedContext(uid, SYNTAXES) for uid in (uids.VERIFICATION, uids.CT_IMAGE_STORAGE)]
POLICY = AcceptancePolicy(abstract_syntaxes={context.abstract_syntax: () for context in CONTEXTS})


def pdu(data: bytes) -> None:
    """A whole PDU."""
    try:
        decode(data)
    except MalformedPDU:
        pass


def stream(data: bytes) -> None:
    """PDUs one after the other."""
    offset = 0
    try:
        while (found := decode_first(data, offset)) is not None:
            _, offset = found
    except MalformedPDU:
        pass


def command(data: bytes) -> None:
    """A command set."""
    try:
        decode_command(data)
    except MalformedPDU:
        pass


def part10(data: bytes) -> None:
    """The file meta information, and the walk over the data set behind it."""
    try:
        meta, start = read_meta(data)
    except InputFileError:
        return
    Walker(meta.transfer_syntax_uid, start, len(data)).walk(data, 0)


def elements(data: bytes) -> None:
    """The elements of a data set, in each of the three ways to write them; the first byte says in which."""
    if data:
        fault = fault_of(data[1:], data[0] % 3 == 0, data[0] % 3 != 2)
        assert fault is None or fault


def data_set(data: bytes) -> None:
    """An identifier as a handler gets it, by the bridge to pydicom; the first byte chooses the transfer syntax."""
    if not data:
        return
    try:
        codec.decode(data[1:], DATA_SYNTAXES[data[0] % len(DATA_SYNTAXES)])
    except codec.UndecodableDataSet:
        pass


@cache
def request_pdu() -> bytes:
    """An A-ASSOCIATE-RQ for `CONTEXTS`."""
    return propose(CONTEXTS, calling="FUZZ", called="CORE", max_pdu=16384).encode()


def acceptor_waiting(data: bytes) -> None:
    """The core in Sta2: the first bytes of a peer."""
    exchange = Exchange.acceptor()
    exchange.receive(data)
    _settle(exchange)


def acceptor_judging(data: bytes) -> None:
    """The core in Sta3: whatever was asked for is judged, and what is granted was offered."""
    exchange = Exchange.acceptor()
    exchange.receive(data)
    exchange.events()
    if exchange.state is not State.STA3_AWAIT_LOCAL_ASSOCIATE_RESPONSE or not exchange.evaluate(POLICY):
        _settle(exchange)
        return
    assert exchange.request_pdu is not None
    offered = {context.id: context for context in exchange.request_pdu.presentation_contexts}
    for context in exchange.contexts.values():
        assert not context.accepted or context.transfer_syntax in offered[context.id].transfer_syntaxes
    _settle(exchange)


def acceptor_established(data: bytes) -> None:
    """The core in Sta6, as acceptor."""
    exchange = Exchange.acceptor()
    exchange.open_sink = lambda context, command: DiscardSink()
    exchange.receive(request_pdu())
    exchange.events()
    exchange.evaluate(POLICY)
    exchange.outgoing()
    exchange.receive(data)
    _settle(exchange)


def requestor_waiting(data: bytes) -> None:
    """The core in Sta5: the answer to our A-ASSOCIATE-RQ."""
    exchange = Exchange.requestor(calling="CORE", called="FUZZ", contexts=CONTEXTS)
    exchange.outgoing()
    exchange.receive(data)
    _settle(exchange)


@cache
def accept_pdu() -> bytes:
    """The A-ASSOCIATE-AC to `request_pdu`."""
    exchange = Exchange.acceptor()
    exchange.receive(request_pdu())
    exchange.events()
    exchange.evaluate(POLICY)
    return b"".join(exchange.outgoing())


def requestor_established(data: bytes) -> None:
    """The core in Sta6, as requestor, with a request on its way."""
    exchange = Exchange.requestor(calling="CORE", called="FUZZ", contexts=CONTEXTS)
    exchange.outgoing()
    exchange.receive(accept_pdu())
    exchange.events()
    context = exchange.context_for(uids.VERIFICATION)
    exchange.request(context, 0x30, affected_sop_class_uid=uids.VERIFICATION)
    exchange.outgoing()
    exchange.receive(data)
    _settle(exchange)


def _settle(exchange: Exchange) -> None:
    """What a driver would do; whatever came, the association ends when the transport does."""
    exchange.events()
    while exchange.outgoing():
        pass
    exchange.receive_eof()
    exchange.events()
    assert exchange.closed


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        pdu,
        stream,
        command,
        part10,
        elements,
        data_set,
        acceptor_waiting,
        acceptor_judging,
        acceptor_established,
        requestor_waiting,
        requestor_established,
    )
}


def commands() -> list[bytes]:
    """One command set of each of the 23 messages."""
    return [_command(message.field, message.data_set) for message in MESSAGES.values()]


def _command(field: int, data_set: DataSet) -> bytes:
    return Command(
        command_field=field,
        message_id=1,
        message_id_being_responded_to=1,
        affected_sop_class_uid=uids.CT_IMAGE_STORAGE,
        affected_sop_instance_uid="1.2.3.4",
        requested_sop_class_uid=uids.CT_IMAGE_STORAGE,
        requested_sop_instance_uid="1.2.3.4",
        priority=0,
        status=0,
        action_type_id=1,
        event_type_id=1,
        move_destination="ANYWHERE",
        error_comment="no comment",
        attribute_identifier_list=(0x00100010, 0x00100020),
        command_data_set_type=0x0101 if data_set is DataSet.ABSENT else 0x0001,
    ).encode()


def messages() -> list[bytes]:
    """P-DATA-TF PDUs of whole messages, with and without a data set, in one PDU and in several."""
    found = []
    for encoded in commands():
        found.append(PDataTF((PDV(1, encoded, True, True),)).encode())
        with_data = (PDV(3, encoded, True, True), PDV(3, b"\0" * 64, False, False), PDV(3, b"\0" * 64, False, True))
        found.append(PDataTF(with_data).encode())
        found.append(b"".join(PDataTF((pdv,)).encode() for pdv in with_data))
    return found


def data_sets() -> list[bytes]:
    """A data set with a sequence, a sequence of undefined length and fragments, in each transfer syntax."""
    found = []
    for number, syntax in enumerate(DATA_SYNTAXES):
        order = ">" if syntax == uids.EXPLICIT_VR_BIG_ENDIAN else "<"
        write = partial(_element, order, implicit=syntax == uids.IMPLICIT_VR_LITTLE_ENDIAN)
        item = write(0x0008, 0x1150, b"UI", b"1.2.840\0")
        data = write(0x0008, 0x0018, b"UI", b"1.2.3\0") + write(0x0010, 0x0010, b"PN", b"DOE^JANE")
        data += write(0x0008, 0x1110, b"SQ", struct.pack(f"{order}HHI", 0xFFFE, 0xE000, len(item)) + item)
        ended = item + struct.pack(f"{order}HHI", 0xFFFE, 0xE00D, 0)
        ended += struct.pack(f"{order}HHI", 0xFFFE, 0xE0DD, 0)
        undefined = struct.pack(f"{order}HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + ended
        data += write(0x0008, 0x1140, b"SQ", undefined, 0xFFFFFFFF)
        data += write(0x7FE0, 0x0010, b"OW", bytes(16))
        if syntax == uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
            deflating = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            data = deflating.compress(data) + deflating.flush()
        found.append(bytes([number]) + data)
    return found


def files() -> list[bytes]:
    """The same in files."""
    return [
        bytes(meta_header(uids.CT_IMAGE_STORAGE, "1.2.3", DATA_SYNTAXES[data[0]], "FUZZ")) + data[1:]
        for data in data_sets()
    ]


def _element(
    order: str, group: int, number: int, vr: bytes, value: bytes, length: int | None = None, *, implicit: bool
) -> bytes:
    length = len(value) if length is None else length
    if implicit:
        return struct.pack(f"{order}HHI", group, number, length) + value
    if vr in (b"SQ", b"OW"):
        return struct.pack(f"{order}HH2sHI", group, number, vr, 0, length) + value
    return struct.pack(f"{order}HH2sH", group, number, vr, length) + value
