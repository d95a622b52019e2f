"""What users call, as flows: what a peer may do in the middle of them, driven without I/O."""

from __future__ import annotations

from typing import Any

import pytest
from wiring import EXPLICIT, Drive, fragments, message, pair, sent

from dicomnet import uids
from dicomnet.dataset import codec
from dicomnet.errors import ServiceFailure
from dicomnet.protocol.exchange import Exchange
from dicomnet.protocol.messages import CommandField
from dicomnet.protocol.negotiation import AcceptancePolicy, ProposedContext
from dicomnet.services import user
from dicomnet.wire.command_set import Command, decode_command

PUSH = uids.STORAGE_COMMITMENT_PUSH_MODEL
CONTEXTS = (ProposedContext(PUSH, (EXPLICIT,)), ProposedContext(uids.VERIFICATION, (EXPLICIT,)))
POLICY = AcceptancePolicy(abstract_syntaxes={PUSH: (), uids.VERIFICATION: ()})
ECHO = Command(command_field=CommandField.C_ECHO_RQ, message_id=7, affected_sop_class_uid=uids.VERIFICATION)


def new_user() -> Exchange:
    return pair(CONTEXTS, POLICY)[0]


def asking(exchange: Exchange, ask: Any = user.commit) -> tuple[Drive, Command, list[Command]]:
    """A commitment that was asked for, its N-ACTION as the peer sees it, and what else is written on the way."""
    written: list[Command] = []
    flow = ask(exchange, [(uids.CT_IMAGE_STORAGE, "2.25.1")], transaction_uid="2.25.5")
    drive = Drive(flow, lambda: written.extend(said(exchange)))
    (action,) = said(exchange)
    return drive, action, written


def said(exchange: Exchange) -> list[Command]:
    """The messages that an exchange has to send."""
    return [decode_command(one.data) for one in fragments(sent(exchange)) if one.is_command]


def answers(commands: list[Command]) -> list[tuple[int | None, int | None]]:
    """What they answer, and how."""
    return [(one.message_id_being_responded_to, one.status) for one in commands]


def answer(action: Command, status: int = 0) -> bytes:
    command = Command(
        command_field=CommandField.N_ACTION_RSP, message_id_being_responded_to=action.message_id, status=status
    )
    return message(command)


def report(message_id: int, transaction: str) -> bytes:
    data = codec.encode({"TransactionUID": transaction}, EXPLICIT)
    command = Command(
        command_field=CommandField.N_EVENT_REPORT_RQ, message_id=message_id, command_data_set_type=1,
        affected_sop_class_uid=PUSH, affected_sop_instance_uid=uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE,
        event_type_id=1,
    )  # fmt: skip
    return message(command, data)


def heard(exchange: Exchange, drive: Drive, data: bytes) -> None:
    exchange.receive(data)
    for event in exchange.events():
        drive.give(event)


@pytest.mark.parametrize("ask", [user.commit, user.request_commitment])
def test_a_peer_that_asks_for_something_else_meanwhile_is_declined(ask: Any) -> None:
    exchange = new_user()
    drive, action, written = asking(exchange, ask)
    heard(exchange, drive, message(ECHO, context_id=3) + report(8, "2.25.5") + answer(action))
    assert answers([*written, *said(exchange)]) == [(7, 0x0211), (8, 0)]


def test_after_a_refusal_requests_are_answered_at_once_again() -> None:
    exchange = new_user()
    drive, action, _ = asking(exchange)
    with pytest.raises(ServiceFailure):
        heard(exchange, drive, answer(action, 0x0110))
    assert not exchange.defer_requests


def test_what_came_with_the_report_is_answered_too() -> None:
    exchange = new_user()
    drive, action, _ = asking(exchange)
    heard(exchange, drive, report(8, "2.25.5") + message(ECHO, context_id=3) + answer(action))
    assert drive.done
    assert answers(said(exchange)) == [(8, 0), (7, 0x0211)]
