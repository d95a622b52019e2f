"""The codec alone: what a user has in hand to bytes, and bytes to what a user has in hand.

pynetdicom's A-ASSOCIATE-RQ goes from and to its primitive (`A_ASSOCIATE`), its C-STORE-RQ likewise (`C_STORE`): that is
what its associations do for each message, and what its handlers see. dicomnet has one value per PDU and no other form.
"""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from conftest import CODEC
from pytest_benchmark.fixture import BenchmarkFixture

CT = "1.2.840.10008.5.1.4.1.1.2"
INSTANCE = "1.2.826.0.1.3680043.8.498.45787841905473114233124723359129632652"
SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")
CONTEXTS = [(2 * index + 1, f"1.2.840.10008.5.1.4.1.1.{index + 1}") for index in range(120)]

Task = Callable[[], Any]


def dicomnet_associate() -> tuple[Task, Task]:
    """Encode and decode an A-ASSOCIATE-RQ with 120 contexts of four transfer syntaxes."""
    pdu = pytest.importorskip("dicomnet._pdu")
    value = pdu.AssociateRQ(
        called_ae_title="ARCHIVE",
        calling_ae_title="WS1",
        presentation_contexts=tuple(pdu.PresentationContextRQ(*context, SYNTAXES) for context in CONTEXTS),
        user_information=(pdu.MaximumLength(262144), pdu.ImplementationClassUID("2.25.1")),
    )
    encoded = value.encode()
    assert pdu.decode(encoded) == value
    return value.encode, lambda: pdu.decode(encoded)


def pynetdicom_associate() -> tuple[Task, Task]:
    """The same, from and to the primitive."""
    pytest.importorskip("pynetdicom")
    from pynetdicom import build_context
    from pynetdicom.pdu import A_ASSOCIATE_RQ
    from pynetdicom.pdu_primitives import (
        A_ASSOCIATE,
        ImplementationClassUIDNotification,
        MaximumLengthNotification,
    )

    length = MaximumLengthNotification()
    length.maximum_length_received = 262144
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = "2.25.1"
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.called_ae_title, primitive.calling_ae_title = "ARCHIVE", "WS1"
    primitive.user_information = [length, implementation]
    contexts = []
    for context_id, abstract_syntax in CONTEXTS:
        contexts.append(build_context(abstract_syntax, list(SYNTAXES)))
        contexts[-1].context_id = context_id
    primitive.presentation_context_definition_list = contexts

    def encode() -> bytes:
        pdu = A_ASSOCIATE_RQ()
        pdu.from_primitive(primitive)
        return bytes(pdu.encode())

    encoded = encode()

    def decode() -> A_ASSOCIATE:
        pdu = A_ASSOCIATE_RQ()
        pdu.decode(encoded)
        return pdu.to_primitive()

    assert len(decode().presentation_context_definition_list) == len(CONTEXTS)
    return encode, decode


def dicomnet_store() -> tuple[Task, Task]:
    """Make and encode, and decode, the command set of a C-STORE-RQ."""
    dimse = pytest.importorskip("dicomnet.wire.command_set")

    def encode() -> bytes:
        command = dimse.Command(
            command_field=0x0001,
            message_id=7,
            affected_sop_class_uid=CT,
            affected_sop_instance_uid=INSTANCE,
            priority=0,
            command_data_set_type=1,
        )
        return bytes(command.encode())

    encoded = encode()
    assert dimse.decode_command(encoded).affected_sop_instance_uid == INSTANCE
    return encode, lambda: dimse.decode_command(encoded)


def pynetdicom_store() -> tuple[Task, Task]:
    """The same, from and to the primitive."""
    pytest.importorskip("pynetdicom")
    from pynetdicom.dimse_messages import C_STORE_RQ
    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.dsutils import decode as decode_dataset
    from pynetdicom.dsutils import encode as encode_dataset

    data = BytesIO(b"\0\0")

    def encode() -> bytes:
        primitive = C_STORE()
        primitive.MessageID = 7
        primitive.AffectedSOPClassUID = CT
        primitive.AffectedSOPInstanceUID = INSTANCE
        primitive.Priority = 0
        primitive.DataSet = data
        message = C_STORE_RQ()
        message.primitive_to_message(primitive)
        return bytes(encode_dataset(message.command_set, True, True) or b"")

    encoded = encode()

    def decode() -> C_STORE:
        message = C_STORE_RQ()
        message.command_set = decode_dataset(BytesIO(encoded), True, True)
        message.data_set = data
        return message.message_to_primitive()

    assert decode().AffectedSOPInstanceUID == INSTANCE
    return encode, decode


MESSAGES = {
    "A-ASSOCIATE-RQ, 120 contexts": {"dicomnet": dicomnet_associate, "pynetdicom": pynetdicom_associate},
    "C-STORE-RQ command set": {"dicomnet": dicomnet_store, "pynetdicom": pynetdicom_store},
}


@pytest.mark.parametrize("who", ["dicomnet", "pynetdicom"])
@pytest.mark.parametrize("direction", ["encode", "decode"])
@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.benchmark(max_time=0.5, min_rounds=20)
def test_codec(benchmark: BenchmarkFixture, message: str, direction: str, who: str) -> None:
    benchmark.group = f"{CODEC}{message}, {direction}"
    tasks = MESSAGES[message][who]()
    benchmark(tasks[direction == "decode"])
