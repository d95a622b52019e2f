"""What is fuzzed: every decoder, and the core as a peer sees it. Each target takes bytes and lets through no surprise.

A target raises nothing but what its decoder documents, which it catches here; anything else is a bug of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from dicomnet import uids
from dicomnet._dimse import Command, decode_command
from dicomnet._part10 import Walker, read_meta
from dicomnet._pdu import PDV, PDataTF, decode, decode_first
from dicomnet.errors import InputFileError, MalformedPDU
from dicomnet.exchange import Exchange
from dicomnet.messages import MESSAGES, DataSet
from dicomnet.negotiation import AcceptancePolicy, ProposedContext, propose
from dicomnet.sinks import DiscardSink

SYNTAXES = (uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN)
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


@cache
def request_pdu() -> bytes:
    """An A-ASSOCIATE-RQ for `CONTEXTS`."""
    return propose(CONTEXTS, calling="FUZZ", called="CORE", max_pdu=16384).encode()


def acceptor_waiting(data: bytes) -> None:
    """The core in Sta2: the first bytes of a peer."""
    exchange = Exchange.acceptor()
    exchange.receive(data)
    _settle(exchange)


def acceptor_established(data: bytes) -> None:
    """The core in Sta6, as acceptor."""
    exchange = Exchange.acceptor()
    exchange.open_sink = lambda context, command: DiscardSink()
    exchange.receive(request_pdu())
    exchange.events()
    exchange.judge(POLICY)
    exchange.outgoing()
    exchange.receive(data)
    _settle(exchange)


def requestor_waiting(data: bytes) -> None:
    """The core in Sta5: the answer to our A-ASSOCIATE-RQ."""
    exchange = Exchange.requestor(calling="CORE", called="FUZZ", contexts=CONTEXTS)
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
        acceptor_waiting,
        acceptor_established,
        requestor_waiting,
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
