"""What a peer can make us do is bounded, as provider and as user: sizes of messages, numbers of responses (D5)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from rig import PAIRINGS, PATIENCE, PDUs, Rig, Script, keys, message

import dicomnet as dn
from dicomnet import uids
from dicomnet.errors import RemoteProtocolError, ServiceFailure
from dicomnet.protocol.negotiation import propose
from dicomnet.wire.command_set import Command, decode_command, frame

CT = dn.contexts.storage([uids.CT_IMAGE_STORAGE])
QR = dn.contexts.query_retrieve([uids.CT_IMAGE_STORAGE])
STUDY_FIND = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND


@pytest.fixture(params=PAIRINGS)
def rig(request: Any) -> Any:
    made = Rig(request.param)
    yield made
    made.close()


def answer_in(reader: PDUs) -> Command:
    return next(decode_command(pdv.data) for pdv in reader.next().pdvs if pdv.is_command)


@pytest.mark.parametrize("provider", ["sync", "aio"])
@pytest.mark.parametrize("cause", ["too long", "nobody stores it", "no room"])
def test_a_provider_refuses_before_the_last_fragment(provider: str, cause: str, tmp_path: Any) -> None:
    """PS3.7 Section 9.3.1.3: the user learns it before it has sent everything, and the association goes on."""
    rig = Rig(f"sync-{provider}")
    listener = rig.listener(limits=dn.Limits(message=4_000))
    options = {"spool": str(tmp_path / "missing")} if cause == "no room" else {}
    listener.on_store([uids.MR_IMAGE_STORAGE if cause == "nobody stores it" else uids.CT_IMAGE_STORAGE], **options)(
        lambda _: None
    )
    listener.on_find(uids.CT_IMAGE_STORAGE)(lambda _: [])  # so that the context is accepted
    store = Command(
        affected_sop_class_uid=uids.CT_IMAGE_STORAGE,
        affected_sop_instance_uid="1.2.3",
        command_field=0x0001,
        message_id=1,
        priority=0,
        command_data_set_type=1,
    )
    echo = Command(affected_sop_class_uid=uids.VERIFICATION, command_field=0x0030, message_id=2)
    proposed = [*CT, *dn.contexts.verification()]
    with rig.serving(listener) as peer:
        entity = dn.Entity.parse(peer)
        with socket.create_connection((entity.host, entity.port), PATIENCE) as sock:
            sock.sendall(propose(proposed, calling="RAW", called=entity.ae_title, max_pdu=16384).encode())
            reader = PDUs(sock)
            reader.next()
            part = b"".join(frame(1, bytes(8_000), 16_000, False, False))
            sock.sendall(b"".join(frame(1, store.encode(), 16_000, True, True)))
            if cause in ("too long", "no room"):
                sock.sendall(part)
            refusal = answer_in(reader)  # the command alone was sent, or a first fragment, too
            assert refusal.message_id_being_responded_to == 1
            assert refusal.status == {"too long": 0xA700, "nobody stores it": 0x0122, "no room": 0x0110}[cause]
            sock.sendall(part + b"".join(frame(1, b"", 16_000, False, True)) + message(echo, context_id=3))
            assert (answer := answer_in(reader)).status == 0
            assert answer.message_id_being_responded_to == 2
    rig.close()


def test_a_query_has_no_more_responses_than_the_limit(rig: Rig) -> None:
    closed: list[int] = []

    def endless(_: Any) -> Iterator[Any]:
        number = 0
        try:
            while True:
                yield keys(PatientID=str(number))
                number += 1
        finally:
            closed.append(number)

    listener, matches = rig.listener(limits=dn.Limits(responses=20)), []
    listener.on_find("STUDY_ROOT")(endless)
    with rig.pair(listener, [*QR, *dn.contexts.verification()]) as association:
        with pytest.raises(ServiceFailure) as caught:
            matches.extend(association.find("STUDY"))
        assert association.echo().is_success
    assert caught.value.status == 0xA700
    assert caught.value.status.comment == "more than 20 matches"
    assert len(matches) == 0 or len(matches) == 20
    assert closed == [20]


def test_exactly_the_limit_is_no_more(rig: Rig) -> None:
    listener = rig.listener(limits=dn.Limits(responses=20))
    listener.on_find("STUDY_ROOT")(lambda _: (keys(PatientID=str(number)) for number in range(20)))
    with rig.pair(listener, QR, limits=dn.Limits(responses=20)) as association:
        assert len(list(association.find("STUDY"))) == 20


def test_a_provider_that_never_ends_its_answer_loses_the_association(rig: Rig) -> None:
    listener = rig.listener()
    listener.on_find("STUDY_ROOT")(lambda _: iter(lambda: keys(PatientID="1"), None))
    with rig.serving(listener) as peer:
        opened = rig.connected(peer, QR, limits=dn.Limits(responses=20))
        with pytest.raises(RemoteProtocolError, match="past the limit of 20 pending responses"), opened as association:
            list(association.find("STUDY"))


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("operation", ["get", "move"])
def test_a_retrieve_that_never_ends_loses_the_association(operation: str, left: bool) -> None:
    """Also where its user has cancelled it, and the peer goes on all the same."""
    model = getattr(uids, f"STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_{operation.upper()}")
    pending = Command(
        affected_sop_class_uid=model,
        command_field=0x8010 if operation == "get" else 0x8021,
        message_id_being_responded_to=1,
        status=0xFF00,
        number_of_remaining_suboperations=1,
    )

    def leave(_: Any) -> None:
        if left:
            raise KeyError

    options: dict[str, Any] = {"to": lambda _: None} if operation == "get" else {"destination": "THERE"}
    contexts = [*dn.contexts.sop_classes(model), *dn.contexts.verification()]
    with Script(lambda sock, _: sock.sendall(message(pending) * 10)) as script:
        association = dn.connect(script.peer, contexts=contexts, limits=dn.Limits(responses=5))
        with pytest.raises(KeyError if left else RemoteProtocolError):
            getattr(association, operation)("STUDY", StudyInstanceUID="1.2", progress=leave, **options)
        if left:
            with pytest.raises(RemoteProtocolError, match="past the limit of 5 pending responses"):
                association.echo()
    assert script.rest[-10:-9] == b"\x07"  # an A-ABORT
