"""`Exchange`: two of them wired in memory, and one against whatever a peer may send."""

import itertools

import pytest
from driving import Bytes
from hypothesis import given
from hypothesis import strategies as st
from wiring import (
    CONTEXTS,
    CT,
    EXPLICIT,
    IMPLICIT,
    POLICY,
    Drive,
    aborts,
    fragments,
    message,
    pair,
    pdus,
    sent,
    transfer,
    wire,
)

from dicomnet import events, uids
from dicomnet._dimse import Command
from dicomnet._pdu import (
    Abort,
    AssociateAC,
    AssociateRJ,
    MaximumLength,
    PresentationContextAC,
    ReleaseRP,
    ReleaseRQ,
)
from dicomnet.config import Limits, Timeouts
from dicomnet.errors import (
    AssociationAborted,
    AssociationError,
    AssociationRejected,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidArgument,
    LocalProtocolError,
    NoAcceptedContext,
    RemoteProtocolError,
)
from dicomnet.exchange import Exchange
from dicomnet.messages import MESSAGES, CommandField, DataSet
from dicomnet.negotiation import AcceptancePolicy, ProposedContext
from dicomnet.sinks import MemorySink
from dicomnet.states import State

VERIFICATION = uids.VERIFICATION


def echo(exchange: Exchange):
    return exchange.request(
        exchange.context_for(VERIFICATION), CommandField.C_ECHO_RQ, affected_sop_class_uid=VERIFICATION
    )


def store(exchange: Exchange, data, instance: str = "1.2.3"):
    return exchange.request(
        exchange.context_for(CT),
        CommandField.C_STORE_RQ,
        data,
        affected_sop_class_uid=CT,
        affected_sop_instance_uid=instance,
        priority=0,
    )


def response(request, status: int = 0, **changes) -> Command:
    """A response to a request of ours, as a peer would make it."""
    elements = {
        "command_field": request.command.command_field | 0x8000,
        "message_id_being_responded_to": request.command.message_id,
        "status": status,
    }
    return Command(**elements | changes)


def the(exchange: Exchange, kind: type):
    """The one event that happened."""
    (event,) = exchange.events()
    assert isinstance(event, kind), event
    return event


# ---- associations --------------------------------------------------------------------------------------------------


def test_an_association_is_known_to_both_sides():
    user, provider = pair()
    for exchange in (user, provider):
        assert exchange.established
        assert (exchange.calling, exchange.called) == ("USER", "PROVIDER")
        assert [context.accepted for context in exchange.contexts.values()] == [True, True]
        assert exchange.state is State.STA6_ESTABLISHED
    assert user.contexts == provider.contexts
    assert user.accept_pdu == provider.accept_pdu
    assert user.request_pdu == provider.request_pdu


def test_the_user_waits_for_as_long_as_it_likes_the_provider_does_not():
    user, provider = pair(timeouts=Timeouts(idle=300))
    assert user.deadline is None
    assert provider.deadline == 300


def test_only_accepted_contexts_can_be_used():
    policy = AcceptancePolicy(abstract_syntaxes={VERIFICATION: ()})
    user, _ = pair(policy=policy)
    assert user.context_for(VERIFICATION).id == 1
    assert user.context_for(VERIFICATION, IMPLICIT).id == 1
    for abstract, transfer_syntax in [(CT, ""), (CT, EXPLICIT), (VERIFICATION, EXPLICIT), ("1.2.3", "")]:
        with pytest.raises(NoAcceptedContext) as caught:
            user.context_for(abstract, transfer_syntax)
        assert caught.value.abstract_syntax == abstract
        assert caught.value.transfer_syntaxes == ((transfer_syntax,) if transfer_syntax else ())
    with pytest.raises(LocalProtocolError):
        user.request(user.contexts[3], CommandField.C_STORE_RQ)
    assert user.outgoing() == []


def test_of_several_contexts_the_first_is_used():
    contexts = (ProposedContext(CT, (EXPLICIT,)), ProposedContext(CT, (IMPLICIT,)), ProposedContext(CT, (EXPLICIT,)))
    user, _ = pair(contexts)
    assert [user.context_for(CT).id, user.context_for(CT, IMPLICIT).id, user.context_for(CT, EXPLICIT).id] == [1, 3, 1]


def test_a_rejection_is_an_event_and_an_error():
    user = Exchange.requestor(calling="USER", called="OTHER", contexts=CONTEXTS)
    provider = Exchange.acceptor()
    transfer(user, provider)
    the(provider, events.AssociateIndication)
    assert not provider.judge(AcceptancePolicy(ae_title="PROVIDER"))
    transfer(provider, user)
    event = the(user, events.AssociateRejected)
    assert event.reject == AssociateRJ(1, 1, 7)
    assert user.closed
    user.peer = "OTHER@host:104"
    with pytest.raises(AssociationRejected, match="OTHER@host:104 rejected") as caught:
        user.raise_for(event)
    assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 1, 7)


def test_before_a_request_there_is_nothing_to_answer():
    provider = Exchange.acceptor()
    for answer in (lambda: provider.judge(POLICY), lambda: provider.accept(None), lambda: provider.reject(1, 1, 1)):
        with pytest.raises(LocalProtocolError):
            answer()
    assert provider.outgoing() == []


@pytest.mark.parametrize("announced", range(1, 8))
def test_a_peer_that_takes_no_data_is_refused(announced):
    user = Exchange.requestor(calling="USER", called="PROVIDER", contexts=CONTEXTS)
    user.outgoing()
    answer = [PresentationContextAC(1, 0, IMPLICIT)]
    user.receive(AssociateAC("PROVIDER", "USER", answer, [MaximumLength(announced)]).encode())
    event = the(user, events.AbortIndication)
    assert f"{announced} bytes" in event.detail
    assert aborts(user) == [Abort(0, 0)]

    other = Exchange.requestor(calling="USER", called="PROVIDER", contexts=CONTEXTS, limits=Limits(max_pdu=16))
    provider = Exchange.acceptor()
    data = b"".join(other.outgoing()).replace(MaximumLength(16).encode(), MaximumLength(announced).encode())
    provider.receive(data)
    provider.events()
    with pytest.raises(LocalProtocolError):
        provider.accept(AssociateAC("PROVIDER", "USER", answer, [MaximumLength(16384)]))
    assert provider.outgoing() == []
    assert not provider.judge(POLICY)
    assert sent(provider) == [AssociateRJ(1, 2, 1)]


def test_release():
    user, provider = pair()
    user.release()
    transfer(user, provider)
    assert the(provider, events.ReleaseIndication) == events.ReleaseIndication(False)
    provider.release_response()
    transfer(provider, user)
    the(user, events.ReleaseConfirmation)
    assert user.closed
    assert not provider.closed
    provider.receive_eof()
    assert provider.closed


def test_no_release_while_a_message_is_still_to_be_sent():
    user, _ = pair()
    echo(user)
    with pytest.raises(LocalProtocolError):
        user.release()
    assert user.established
    assert len(fragments(sent(user))) == 1
    user.release()
    assert sent(user) == [ReleaseRQ()]


def test_abort_drops_what_has_not_gone_out():
    user, provider = pair()
    store(user, bytes(1000))
    user.abort()
    assert not user.sending
    assert sent(user) == [Abort(0, 0)]
    provider.receive(Abort(0, 0).encode())
    event = the(provider, events.AbortIndication)
    with pytest.raises(AssociationAborted):
        provider.raise_for(event)


# ---- messages there and back ---------------------------------------------------------------------------------------


def test_echo():
    user, provider = pair()
    request = echo(user)
    wire(user, provider)
    received = the(provider, events.RequestReceived)
    assert received.command == request.command
    assert received.message.context_id == 1
    provider.respond(received.message, 0)
    wire(user, provider)
    answer = the(user, events.ResponseReceived)
    assert answer.command == response(request, affected_sop_class_uid=VERIFICATION)
    assert user.answers(answer.message, request)
    assert not user.sending


@pytest.mark.parametrize("size", [0, 2, 4082, 4084, 4086, 16384, 100_000])
@pytest.mark.parametrize("maximum", [16, 4096, 262144])
def test_a_data_set_arrives_as_it_was_sent(size, maximum):
    user, provider = pair(acceptor_limits=Limits(max_pdu=maximum), limits=Limits(file_buffer=5000))
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    store(user, data)
    user.tick(1.0)
    pieces = []
    while buffers := user.outgoing():
        pieces.append(b"".join(buffers))
        assert max(len(pdu.encode()) for pdu in pdus(pieces[-1])) <= maximum
        provider.receive(pieces[-1])
    received = the(provider, events.RequestReceived)
    assert received.message.data.getvalue() == data
    if maximum == 4096:
        assert max(map(len, pieces)) < 5000 + 500, "never more than a piece of the data set at a time"


def test_what_goes_out_is_the_callers_memory():
    user, _ = pair()
    data = bytearray(10_000)
    store(user, data)
    buffers = user.outgoing()
    assert any(isinstance(buffer, memoryview) and buffer.obj is data for buffer in buffers)


def test_a_data_set_goes_to_the_sink_that_its_command_chooses():
    user, provider = pair()
    asked, sinks = [], []

    def open_sink(context, command):
        asked.append((context.abstract_syntax, context.transfer_syntax, command.affected_sop_instance_uid))
        sinks.append(Bytes())
        return sinks[-1]

    provider.open_sink = open_sink
    store(user, b"abcd", "1.2.3.4")
    wire(user, provider)
    received = the(provider, events.RequestReceived)
    assert received.message.data is sinks[0]
    assert asked == [(CT, EXPLICIT, "1.2.3.4")]
    assert (bytes(sinks[0].written), sinks[0].end) == (b"abcd", "closed")


def test_without_a_sink_memory_is_bounded():
    user, provider = pair(acceptor_limits=Limits(message=100))
    store(user, bytes(102))
    wire(user, provider)
    received = the(provider, events.RequestReceived)
    assert isinstance(received.message.error, OSError)
    assert received.message.data.size == 0


def test_the_data_set_of_a_response_is_held_in_memory():
    user, provider = pair()
    user.open_sink = None  # not asked
    request = user.request(user.context_for(CT), CommandField.C_FIND_RQ, b"keys", affected_sop_class_uid=CT, priority=0)
    wire(user, provider)
    received = the(provider, events.RequestReceived)
    for status, data in ((0xFF00, b"one "), (0xFF00, b"two "), (0, None)):
        provider.respond(received.message, status, data)
    wire(user, provider)
    answers = user.events()
    assert [answer.command.status for answer in answers] == [0xFF00, 0xFF00, 0]
    assert [answer.message.data and answer.message.data.getvalue() for answer in answers] == [b"one ", b"two ", None]
    assert isinstance(answers[0].message.data, MemorySink)
    assert all(user.answers(answer.message, request) for answer in answers)


def test_a_response_repeats_the_uids_of_its_request_unless_it_gives_others():
    user, provider = pair()
    user.request(
        user.context_for(CT),
        CommandField.N_DELETE_RQ,
        requested_sop_class_uid=CT,
        requested_sop_instance_uid="1.2",
    )
    wire(user, provider)
    asked = the(provider, events.RequestReceived).message
    provider.respond(asked, 0)
    provider.respond(asked, 0, affected_sop_instance_uid="1.3", error_comment="fine")
    first, second = (pdv.data for pdv in fragments(sent(provider)))
    assert (
        first
        == Command(
            affected_sop_class_uid=CT,
            affected_sop_instance_uid="1.2",
            command_field=0x8150,
            message_id_being_responded_to=1,
            status=0,
        ).encode()
    )
    assert b"1.3" in second
    assert b"fine" in second


@pytest.mark.parametrize("data", [b"abc", bytearray(1)])
def test_an_odd_data_set_is_not_sent(data):
    user, _ = pair()
    with pytest.raises(InvalidArgument):
        store(user, data)
    assert user.outgoing() == []
    assert user.deadline is None


def test_what_a_command_set_cannot_hold_is_not_sent():
    user, _ = pair()
    with pytest.raises(InvalidArgument):
        store(user, b"", "1.\N{SNOWMAN}")
    assert not user.sending
    assert user.deadline is None


def test_without_an_association_nothing_is_sent():
    user, provider = pair()
    context = user.context_for(VERIFICATION)
    echo(user)
    wire(user, provider)
    received = the(provider, events.RequestReceived)
    for exchange in (user, provider):
        exchange.abort()
        exchange.outgoing()
    with pytest.raises(LocalProtocolError):
        user.request(context, CommandField.C_ECHO_RQ)
    with pytest.raises(LocalProtocolError):
        provider.respond(received.message, 0)
    assert user.outgoing() == provider.outgoing() == []


def test_message_ids_are_unique_among_outstanding_requests():
    user, provider = pair()
    user._last_id = 65530
    requests = [echo(user) for _ in range(20)]
    transfer(user, provider)
    ids = [request.command.message_id for request in requests]
    assert ids == [*range(65531, 65536), *range(1, 16)]
    user.receive(message(response(requests[3])))
    user.events()
    assert echo(user).command.message_id == 16
    user._last_id = 65530
    assert [echo(user).command.message_id for _ in range(2)] == [ids[3], 17], "free ones only, and never 0"


def test_more_requests_than_message_ids():
    user, _ = pair()
    user._pending = dict.fromkeys(range(1, 65536))
    with pytest.raises(LocalProtocolError):
        echo(user)


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


def test_a_message_right_behind_the_acceptance_is_heard():
    """An acceptor may use its association at once, and TCP may bring both in one read."""
    for together in (True, False):
        user = Exchange.requestor(calling="USER", called="PROVIDER", contexts=CONTEXTS)
        provider = Exchange.acceptor()
        transfer(user, provider)
        provider.events()
        provider.judge(POLICY)
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
    for exchange in pair():
        for _ in range(2):
            echo(exchange)
        exchange.outgoing()
        exchange.outgoing()
        for data in [b"".join(parts)] if together else parts:
            exchange.receive(data)
            exchange.events()
        assert len(aborts(exchange)) <= 1
        assert exchange.events() == []


# ---- timers --------------------------------------------------------------------------------------------------------

TIMEOUTS = Timeouts(associate=30, response=60, progress=45, idle=300, release=15, artim=20)


def expired(exchange: Exchange, at: float) -> str:
    """Which timer expires at this time, and not before."""
    assert exchange.deadline == at
    exchange.tick(at - 0.001)
    assert exchange.events() == []
    exchange.tick(at)
    event = the(exchange, events.AbortIndication)
    with pytest.raises(DeadlineExceeded) as caught:
        exchange.raise_for(event)
    assert caught.value.timeout == event.timer
    assert caught.value.seconds == getattr(TIMEOUTS, event.timer)
    assert aborts(exchange) == [Abort(0, 0)]
    assert exchange.deadline == at + TIMEOUTS.artim
    exchange.tick(at + TIMEOUTS.artim)
    assert exchange.closed
    return event.timer


def test_a_peer_that_does_not_answer_the_association_request():
    user = Exchange.requestor(calling="USER", called="PROVIDER", contexts=CONTEXTS, timeouts=TIMEOUTS)
    user.outgoing()
    user.tick(1000.0)
    assert expired(user, 1030.0) == "associate"


def test_a_peer_that_connects_and_says_nothing():
    provider = Exchange.acceptor(timeouts=TIMEOUTS, now=1000.0)
    assert provider.deadline == 1020.0
    provider.tick(1020.0)
    assert provider.closed
    assert provider.events() == provider.outgoing() == []


def test_a_peer_that_does_not_respond():
    user, provider = pair(timeouts=TIMEOUTS)
    user.tick(1000.0)
    echo(user)
    transfer(user, provider)
    assert expired(user, 1060.0) == "response"


def test_a_response_ends_the_wait_for_it_and_a_pending_one_does_not():
    user, provider = pair(timeouts=TIMEOUTS)
    user.tick(1000.0)
    request = echo(user)
    transfer(user, provider)
    user.tick(1050.0)
    user.receive(message(response(request, 0xFF00)))
    user.events()
    assert user.deadline == 1110.0
    user.receive(message(response(request)))
    user.events()
    assert user.deadline is None


def test_with_two_requests_under_way_both_are_waited_for():
    user, provider = pair(timeouts=TIMEOUTS)
    first, second = echo(user), echo(user)
    transfer(user, provider)
    user.receive(message(response(second)))
    user.events()
    assert user.deadline == 60.0
    user.receive(message(response(first)))
    user.events()
    assert user.deadline is None


def test_what_is_sent_counts_as_life():
    user, provider = pair(timeouts=TIMEOUTS, limits=Limits(file_buffer=1000, outgoing_pdu=1012))
    store(user, bytes(10_000))
    for second in range(0, 200, 20):
        user.tick(float(second))
        provider.receive(b"".join(user.outgoing()))
        assert user.deadline == second + 60.0


def test_a_message_of_the_peer_that_stops_half_way():
    _, provider = pair(timeouts=TIMEOUTS)
    provider.restart(1000.0)
    provider.receive(message(Command(command_field=1, message_id=1, command_data_set_type=1), bytes(100), 3)[:-10])
    assert provider.receiving
    assert expired(provider, 1045.0) == "progress"


def test_a_user_that_says_nothing_any_more():
    _, provider = pair(timeouts=TIMEOUTS)
    assert expired(provider, 300.0) == "idle"


def test_a_peer_that_does_not_answer_the_release():
    user, _ = pair(timeouts=TIMEOUTS)
    user.tick(1000.0)
    user.release()
    user.outgoing()
    assert expired(user, 1015.0) == "release"


def test_a_connection_that_is_lost():
    for exchange in pair():
        exchange.receive_eof()
        event = the(exchange, events.AbortIndication)
        with pytest.raises(ConnectionFailed):
            exchange.raise_for(event)
        assert exchange.closed


def test_expecting_something_of_the_peers_own_accord_runs_the_response_timer():
    user, _ = pair(timeouts=TIMEOUTS)
    user.expect(True)
    assert user.deadline == 60.0
    user.expect(False)
    assert user.deadline is None


# ---- flows ---------------------------------------------------------------------------------------------------------


def test_a_flow_gets_the_response_that_it_waits_for_and_declines_what_else_comes():
    user, provider = pair()
    first, second = echo(user), echo(user)
    transfer(user, provider)
    drive = Drive(user.response_to(second))
    user.receive(message(response(first)) + message(Command(command_field=0x0030, message_id=9)))
    drive.give(*user.events())
    assert not drive.done
    (pdv,) = fragments(sent(user))
    assert pdv.data == Command(command_field=0x8030, message_id_being_responded_to=9, status=0x0211).encode()
    user.receive(message(Command(command_field=0x0FFF, message_id_being_responded_to=9)))
    drive.give(*user.events())
    assert sent(user) == []
    user.receive(message(response(second)))
    drive.give(*user.events())
    assert drive.value.command == response(second)


def test_a_provider_keeps_requests_for_later_but_not_too_many():
    _, provider = pair()
    provider.defer_requests = True
    for number in range(1, 20):
        provider.receive(message(Command(command_field=0x0030, message_id=number)))
        provider.set_aside(the(provider, events.RequestReceived))
    assert len(provider.deferred) == 16
    assert len(fragments(sent(provider))) == 3


def test_cancel_sends_a_cancel_and_drops_what_still_comes():
    user, provider = pair()
    request = user.request(user.context_for(CT), CommandField.C_FIND_RQ, b"keys", affected_sop_class_uid=CT, priority=0)
    wire(user, provider)
    received = the(provider, events.RequestReceived)
    user.cancel(request)
    wire(user, provider)
    cancel = the(provider, events.RequestReceived)
    assert cancel.command == Command(command_field=0x0FFF, message_id_being_responded_to=request.command.message_id)
    provider.respond(received.message, 0xFF00, b"late")
    provider.respond(received.message, 0xFE00)
    wire(user, provider)
    assert user.events() == []
    assert user.deadline is None
    user.cancel(request)
    assert user.outgoing() == []


def test_a_collision_of_releases():
    user, provider = pair()
    user.release()
    provider.release()
    first, second = b"".join(user.outgoing()), b"".join(provider.outgoing())
    user.receive(second)
    provider.receive(first)
    assert the(user, events.ReleaseIndication).collision
    assert the(provider, events.ReleaseIndication).collision
    user.release_response()
    transfer(user, provider)
    the(provider, events.ReleaseConfirmation)
    provider.release_response()
    transfer(provider, user)
    the(user, events.ReleaseConfirmation)
    assert user.closed
    provider.receive_eof()
    assert provider.closed


# ---- any cut -------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 400), min_size=1, max_size=5), st.integers(0, 3000), st.sampled_from([16, 100, 16384]))
def test_any_cut_of_a_session_gives_the_same(sizes, length, maximum):
    sizes = itertools.cycle(sizes)

    def cut(data):
        pieces = []
        while data:
            size = next(sizes)
            pieces.append(data[:size])
            data = data[size:]
        return pieces

    user, provider = pair(acceptor_limits=Limits(max_pdu=maximum))
    data = bytes(length - length % 2)
    store(user, data)
    echo(user)
    transfer(user, provider, cut)
    stored, echoed = provider.events()
    assert stored.message.data.getvalue() == data
    for received in (stored, echoed):
        provider.respond(received.message, 0)
    transfer(provider, user, cut)
    assert [answer.command.status for answer in user.events()] == [0, 0]
    user.release()
    transfer(user, provider, cut)
    the(provider, events.ReleaseIndication)


def test_every_message_with_and_without_data_survives():
    """All requests of the standard, with everything they can have, from one side to the other and back."""
    user, provider = pair()
    for kind in MESSAGES.values():
        if kind.field & 0x8000 or kind.field == CommandField.C_CANCEL_RQ:
            continue
        elements = {name: "1.2" if "uid" in name else 1 for name in kind.required if name != "message_id"}
        if "move_destination" in elements:
            elements["move_destination"] = "ANYWHERE"
        data = None if kind.data_set is DataSet.ABSENT else b"data"
        request = user.request(user.context_for(CT), kind.field, data, **elements)
        wire(user, provider)
        received = the(provider, events.RequestReceived)
        assert received.command == request.command
        assert (received.message.data is None) is (data is None)
        provider.respond(received.message, 0)
        wire(user, provider)
        assert the(user, events.ResponseReceived).command.command_field == kind.field | 0x8000
