"""`Exchange` against peers that refuse early, lie, or say what may not be said; and against sources that fail."""

import pytest
from driving import Bytes
from hypothesis import given
from hypothesis import strategies as st
from wiring import (
    CONTEXTS,
    CT,
    EXPLICIT,
    POLICY,
    Drive,
    aborts,
    echo,
    fragments,
    message,
    pair,
    response,
    sent,
    store,
    the,
    transfer,
    wire,
)

from dicomnet import uids
from dicomnet._pdu import (
    Abort,
    AssociateAC,
    MaximumLength,
    PresentationContextAC,
    ReleaseRP,
    ReleaseRQ,
)
from dicomnet.config import Limits
from dicomnet.errors import (
    AssociationAborted,
    AssociationError,
    LocalProtocolError,
    RemoteProtocolError,
)
from dicomnet.protocol import events
from dicomnet.protocol.exchange import Exchange
from dicomnet.protocol.messages import MESSAGES, CommandField
from dicomnet.protocol.states import State
from dicomnet.wire.command_set import Command

VERIFICATION = uids.VERIFICATION


# ---- early refusal (PS3.7 Section 9.3.1.3) -------------------------------------------------------------------------


class Endless:
    """A data set of 1 GB, which nobody should read."""

    def __init__(self):
        self.size = 1 << 30
        self.given = 0

    def chunks(self, unit):
        piece = memoryview(bytes(max(4000 // unit, 1) * unit))
        while True:
            self.given += 1
            yield piece


@pytest.mark.parametrize("status", [0xA700, 0xA900, 0xC001, 0x0110, 0x0122, 0xFE00])
def test_an_early_refusal_stops_the_sender(status):
    user, provider = pair()
    source = Endless()
    request = store(user, source)
    for _ in range(3):
        provider.receive(b"".join(user.outgoing()))
    user.receive(message(response(request, status), context_id=3))
    transfer(user, provider)
    assert source.given == 3
    assert not user.sending
    assert the(user, events.ResponseReceived).command.status == status
    received = the(provider, events.RequestReceived)
    assert received.message.error is None
    assert provider.established
    echo(user)
    wire(user, provider)
    the(provider, events.RequestReceived)


def test_an_early_refusal_counts_even_where_the_source_is_closed_before_more_is_sent():
    """The flow that waits for the response goes on, and closes its file, before the last fragment is out."""
    user, provider = pair()
    source = Endless()
    request = store(user, source)
    provider.receive(b"".join(user.outgoing()))
    user.receive(message(response(request, 0xA700), context_id=3))
    the(user, events.ResponseReceived)
    source.chunks = None
    transfer(user, provider)
    the(provider, events.RequestReceived)


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0x0001])
def test_an_early_success_is_a_lie(status):
    user, _ = pair()
    request = store(user, Endless())
    user.outgoing()
    user.receive(message(response(request, status), context_id=3))
    assert user.outgoing() != []
    event = the(user, events.AbortIndication)
    assert "before its request was complete" in event.detail
    assert user.state is State.STA13_AWAIT_TRANSPORT_CLOSE
    assert not user.sending


def test_an_answer_to_what_was_not_sent_yet_is_a_lie():
    user, _ = pair()
    request = echo(user)
    user.receive(message(response(request)))
    the(user, events.AbortIndication)
    assert aborts(user) == [Abort(0, 0)]


def test_an_early_pending_does_no_harm():
    user, provider = pair(limits=Limits(file_buffer=1000, outgoing_pdu=1012))
    request = user.request(user.context_for(CT), CommandField.C_FIND_RQ, bytes(10_000), affected_sop_class_uid=CT)
    provider.receive(b"".join(user.outgoing()))
    user.receive(message(response(request, 0xFF00), context_id=3))
    the(user, events.ResponseReceived)
    assert user.sending
    assert user.established


# ---- sources that fail ---------------------------------------------------------------------------------------------


class Failing:
    def __init__(self, good: int, size: int = 1 << 20):
        self.good, self.size = good, size

    def chunks(self, unit):
        for _ in range(self.good):
            yield memoryview(bytes(unit))
        raise OSError(5, "Input/output error")


def test_a_source_that_fails_half_way_ends_the_association_and_is_told_about():
    user, provider = pair()
    store(user, Failing(3))
    for _ in range(3):
        provider.receive(b"".join(user.outgoing()))
    with pytest.raises(OSError, match="Input/output"):
        user.outgoing()
    assert aborts(user) == [Abort(0, 0)]
    provider.receive(Abort(0, 0).encode())
    the(provider, events.AbortIndication)


def test_a_source_that_fails_at_once_costs_only_its_message():
    user, provider = pair()
    store(user, Failing(0))
    with pytest.raises(OSError, match="Input/output"):
        user.outgoing()
    assert not user.sending
    assert user.outgoing() == []
    assert user.deadline is None
    echo(user)
    wire(user, provider)
    the(provider, events.RequestReceived)


@pytest.mark.parametrize("size", [1500, 1 << 30])
def test_a_source_of_another_size_ends_the_association(size):
    user, provider = pair(limits=Limits(outgoing_pdu=1012))
    source = Failing(2, size)
    source.chunks = lambda unit: iter([memoryview(bytes(1000)), memoryview(bytes(1000))])
    store(user, source)
    with pytest.raises(LocalProtocolError, match="size"):
        transfer(user, provider)
    assert aborts(user) == [Abort(0, 0)]


# ---- what a peer must not say --------------------------------------------------------------------------------------


def refused(exchange: Exchange, data: bytes) -> str:
    """The exchange aborts for what it is given; why."""
    exchange.receive(data)
    event = the(exchange, events.AbortIndication)
    assert (event.by_peer, event.lost, event.timer) == (False, False, "")
    assert aborts(exchange) == [Abort(0, 0)]
    with pytest.raises(RemoteProtocolError, match="aborted"):
        exchange.raise_for(event)
    return event.detail


@pytest.mark.parametrize("name", [m.name for m in MESSAGES.values() if m.field & 0x8000])
def test_a_response_to_nothing_asked(name):
    field = CommandField[name.replace("-", "_")]
    user, provider = pair()
    for exchange in (user, provider):
        data = message(Command(command_field=field, message_id_being_responded_to=7, status=0))
        assert refused(exchange, data).startswith(name)


def test_a_response_to_a_request_that_is_answered_already():
    user, provider = pair()
    request = echo(user)
    wire(user, provider)
    user.receive(message(response(request)))
    the(user, events.ResponseReceived)
    assert "without a request of ours" in refused(user, message(response(request)))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"message_id_being_responded_to": None}, "without a request"),
        ({"message_id_being_responded_to": 2}, "without a request"),
        ({"status": None}, "without a status"),
        ({"command_field": 0x8001}, "C-STORE-RSP to C-ECHO-RQ"),
        ({"command_field": 0x8999}, "command field 8999H to C-ECHO-RQ"),
    ],
    ids=str,
)
def test_a_response_that_is_none(changes, why):
    user, provider = pair()
    request = echo(user)
    wire(user, provider)
    assert why in refused(user, message(response(request, **changes)))


def test_an_unknown_command_is_declined():
    user, provider = pair()
    for exchange in (user, provider):
        exchange.receive(message(Command(command_field=0x0999, message_id=77)))
        assert exchange.events() == []
        (pdv,) = fragments(sent(exchange))
        assert pdv.data == Command(command_field=0x8999, message_id_being_responded_to=77, status=0x0211).encode()
        assert exchange.established


def test_the_data_set_of_an_unknown_command_is_not_kept():
    _, provider = pair()
    sink = Bytes()
    provider.open_sink = lambda context, command: sink
    provider.receive(message(Command(command_field=0x0999, message_id=77, command_data_set_type=1), b"abcd"))
    assert provider.events() == []
    assert sink.end == "discarded"
    assert len(fragments(sent(provider))) == 1


@pytest.mark.parametrize("field", [0x0999, *(m.field for m in MESSAGES.values() if m.field < 0x8000)], ids=hex)
def test_a_request_without_a_message_id(field):
    _, provider = pair()
    sink = Bytes()
    provider.open_sink = lambda context, command: sink
    command = Command(command_field=field, command_data_set_type=1, affected_sop_class_uid=CT)
    assert "without a message ID" in refused(provider, message(command, b"abcd"))
    assert sink.end == "discarded"


@pytest.mark.parametrize("field", [m.field for m in MESSAGES.values() if m.field < 0x8000], ids=hex)
def test_a_request_that_lacks_something_else_is_the_owners_to_answer(field):
    _, provider = pair()
    command = Command(command_field=field, message_id=1, message_id_being_responded_to=1)
    provider.receive(message(command))
    the(provider, events.RequestReceived)


def test_what_follows_a_fault_is_not_heard():
    _, provider = pair()
    sinks = []
    provider.open_sink = lambda context, command: sinks.append(Bytes()) or sinks[-1]
    bad = message(Command(command_field=0x8030, message_id_being_responded_to=7, status=0))
    good = message(Command(command_field=1, message_id=1, command_data_set_type=1), b"abcd", 3)
    provider.receive(good + bad + good + ReleaseRQ().encode())
    first, second = provider.events()
    assert isinstance(first, events.RequestReceived)
    assert isinstance(second, events.AbortIndication)
    assert [sink.end for sink in sinks] == ["closed", "discarded"]
    assert aborts(provider) == [Abort(0, 0)]
    assert provider.events() == []


BAD = {
    "response": Command(command_field=0x8030, message_id_being_responded_to=7, status=0),
    "no message ID": Command(command_field=0x0030),
    "unknown": Command(command_field=0x0999, message_id=1),
    "echo": Command(command_field=0x0030, message_id=1),
}


@pytest.mark.parametrize("after", [Abort(0, 0).encode(), b"\xff", b""], ids=["abort", "noise", "end"])
@pytest.mark.parametrize("bad", BAD)
def test_a_fault_right_before_the_end_raises_nothing(bad, after):
    """Both in one read: by the time the message is looked at there is no association any more."""
    for exchange in pair():
        exchange.receive(message(BAD[bad]) + after)
        if not after:
            exchange.receive_eof()
        happened = exchange.events()
        assert sum(isinstance(event, events.AbortIndication) for event in happened) == 1
        assert len(aborts(exchange)) == (1 if after == b"\xff" else 0)


def test_events_that_come_to_nothing_do_not_raise_but_what_they_mean_does():
    """A request and the end in one read: whoever works through both learns of the end, not of a wrong call."""
    user, _ = pair()
    echo(user)
    user.outgoing()
    user.receive(message(Command(command_field=0x0030, message_id=1)) + Abort(2, 2).encode())
    request, abort = user.events()
    user.set_aside(request)
    with pytest.raises(AssociationAborted):
        user.set_aside(abort)


@pytest.mark.parametrize("behind", [b"", Abort(0, 0).encode()])
def test_a_release_of_the_peer_ends_what_waits_for_a_response(behind):
    user, provider = pair()
    request = echo(user)
    wire(user, provider)
    drive = Drive(user.response_to(request))
    user.receive(ReleaseRQ().encode() + behind)
    with pytest.raises(AssociationError, match="released"):
        drive.give(*user.events())
    assert sent(user) == ([] if behind else [ReleaseRP()])


def test_a_release_of_the_peer_in_the_middle_of_a_message_stops_it():
    user, provider = pair(limits=Limits(file_buffer=1000, outgoing_pdu=1012))
    store(user, bytes(10_000))
    provider.receive(b"".join(user.outgoing()))
    provider.release()
    transfer(provider, user)
    assert sent(user) == []
    assert not user.sending
    the(user, events.ReleaseIndication)
    user.release_response()
    transfer(user, provider)
    the(provider, events.ReleaseConfirmation)
    assert provider.closed


def test_a_message_right_behind_the_acceptance_is_heard():
    """An acceptor may use its association at once, and TCP may bring both in one read."""
    for together in (True, False):
        user = Exchange.requestor(calling="USER", called="PROVIDER", contexts=CONTEXTS)
        provider = Exchange.acceptor()
        transfer(user, provider)
        provider.events()
        provider.evaluate(POLICY)
        acceptance = b"".join(provider.outgoing())
        request = message(Command(command_field=1, message_id=1, command_data_set_type=1), b"abcd", 3)
        for data in [acceptance + request] if together else [acceptance, request]:
            user.receive(data)
        accepted, received = user.events()
        assert isinstance(accepted, events.AssociateAccepted)
        assert received.message.data.getvalue() == b"abcd"
        assert received.message.error is None


def test_a_context_accepted_in_a_syntax_that_was_not_offered_is_not_used():
    user = Exchange.requestor(calling="USER", called="PROVIDER", contexts=CONTEXTS)
    contexts = [PresentationContextAC(1, 0, EXPLICIT), PresentationContextAC(3, 0, EXPLICIT)]
    user.receive(
        AssociateAC("PROVIDER", "USER", contexts, [MaximumLength(16384)]).encode()
        + message(Command(command_field=0x0030, message_id=1), context_id=1)
    )
    accepted, abort = user.events()
    assert isinstance(accepted, events.AssociateAccepted)
    assert isinstance(abort, events.AbortIndication)
    assert not user.contexts[1].accepted
    assert user.contexts[3].accepted


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.builds(
                lambda field, ids, kind, data: message(
                    Command(
                        command_field=field,
                        message_id=ids[0],
                        message_id_being_responded_to=ids[1],
                        status=0,
                        command_data_set_type=kind,
                    ),
                    data if kind != 0x0101 else None,
                    1,
                    10,
                ),
                st.sampled_from([0x0999, 0x8999, *MESSAGES]),
                st.tuples(st.none() | st.integers(1, 3), st.none() | st.integers(1, 3)),
                st.sampled_from([0x0101, 1]),
                st.binary(max_size=40),
            ),
            st.sampled_from([ReleaseRQ().encode(), ReleaseRP().encode(), Abort(0, 0).encode()]),
        ),
        max_size=6,
    ),
    st.integers(0, 2),
)
def test_whatever_a_peer_sends_nothing_is_raised_and_one_abort_is_the_most(parts, together):
    for exchange in pair(window=(2, 2)):
        for _ in range(2):
            echo(exchange)
        exchange.outgoing()
        exchange.outgoing()
        for data in [b"".join(parts)] if together else parts:
            exchange.receive(data)
            exchange.events()
        assert len(aborts(exchange)) <= 1
        assert exchange.events() == []
