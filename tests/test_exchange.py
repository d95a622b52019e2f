"""`Exchange`: two of them wired in memory, and one against whatever a peer may send."""

import itertools
from dataclasses import fields

import pytest
from cases import every
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
    echo,
    fragments,
    message,
    pair,
    pdus,
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
    AssociateRJ,
    MaximumLength,
    PresentationContextAC,
    ReleaseRQ,
)
from dicomnet.config import Limits, Timeouts
from dicomnet.errors import (
    AssociationAborted,
    AssociationRejected,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidArgument,
    LocalProtocolError,
    NoAcceptedContext,
    RemoteProtocolError,
)
from dicomnet.files.dataset_sink import MemorySink
from dicomnet.files.file_sink import FileSink
from dicomnet.protocol import events
from dicomnet.protocol.exchange import Exchange
from dicomnet.protocol.messages import MESSAGES, CommandField, DataSet
from dicomnet.protocol.negotiation import AcceptancePolicy, ProposedContext
from dicomnet.protocol.states import State
from dicomnet.wire.command_set import Command, decode_command

VERIFICATION = uids.VERIFICATION


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


@every("name", [field.name for field in fields(Limits)])
def test_any_limit_may_be_as_high_as_a_limit_can_be(name):
    user, provider = pair(limits=Limits(**{name: 0xFFFFFFFF}), acceptor_limits=Limits(**{name: 0xFFFFFFFF}))
    request = user.request(user.contexts[1], CommandField.C_ECHO_RQ)
    wire(user, provider)
    (asked,) = provider.events()
    provider.respond(asked.message, 0)
    wire(user, provider)
    user.events()
    assert request.answer.command.status == 0


def test_nothing_cannot_be_declined():
    _, provider = pair()
    with pytest.raises(TypeError):
        provider.decline(None)


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
    assert not provider.evaluate(AcceptancePolicy(ae_title="PROVIDER"))
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
    for answer in (lambda: provider.evaluate(POLICY), lambda: provider.accept(None), lambda: provider.reject(1, 1, 1)):
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
    assert not provider.evaluate(POLICY)
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
    user, provider = pair(window=(0, 1))
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
    user, _ = pair(window=(0, 1))
    for _ in range(65535):
        echo(user)
    with pytest.raises(LocalProtocolError):
        echo(user)


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
    request = user.request(user.context_for(CT), CommandField.C_FIND_RQ, b"keys", affected_sop_class_uid=CT, priority=0)
    transfer(user, provider)
    user.tick(1050.0)
    user.receive(message(response(request, 0xFF00)))
    user.events()
    assert user.deadline == 1110.0
    user.receive(message(response(request)))
    user.events()
    assert user.deadline is None


def test_with_two_requests_under_way_both_are_waited_for():
    user, provider = pair(timeouts=TIMEOUTS, window=(2, 1))
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
    user, provider = pair(window=(2, 1))
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


def set_aside(provider, *commands):
    for command in commands:
        provider.receive(message(command))
        provider.set_aside(the(provider, events.RequestReceived))


def echoes(count):
    return [Command(command_field=0x0030, message_id=number) for number in range(1, count + 1)]


def cancel_of(number):
    return Command(command_field=0x0FFF, message_id_being_responded_to=number)


@pytest.mark.parametrize(("window", "most"), [(None, 17), ((4, 1), 20), ((1, 4), 17)])
def test_a_provider_keeps_requests_for_later_but_not_too_many(window, most):
    _, provider = pair(window=window)
    provider.defer_requests = True
    set_aside(provider, *echoes(most))
    assert [kept.command.message_id for kept in provider.deferred] == [*range(1, most + 1)]
    assert sent(provider) == []
    with pytest.raises(RemoteProtocolError, match=f"{most} requests wait"):
        set_aside(provider, Command(command_field=0x0030, message_id=100))
    assert len(aborts(provider)) == 1
    assert not provider.established


def test_how_many_requests_are_kept_is_the_owners_choice():
    _, provider = pair(acceptor_limits=Limits(requests_ahead=0))
    provider.defer_requests = True
    set_aside(provider, *echoes(1))
    with pytest.raises(RemoteProtocolError):
        set_aside(provider, *echoes(1))


STORE = Command(
    affected_sop_class_uid=CT, command_field=0x0001, message_id=1, affected_sop_instance_uid="1.2", priority=0,
    command_data_set_type=1,
)  # fmt: skip


def stores(provider, *sizes):
    """Set C-STOREs aside; the message IDs of those that are refused for what they hold in memory."""
    for number, size in enumerate(sizes, 1):
        command = Command(**{name: getattr(STORE, name) for name in (
            "affected_sop_class_uid", "command_field", "affected_sop_instance_uid", "priority", "command_data_set_type",
        )}, message_id=number)  # fmt: skip
        provider.receive(message(command, bytes(size), 3))
        provider.set_aside(the(provider, events.RequestReceived))
    answers = [decode_command(pdv.data) for pdv in fragments(sent(provider))]
    assert {answer.status for answer in answers} <= {0xA700}
    return [answer.message_id_being_responded_to for answer in answers]


def test_requests_that_wait_hold_no_more_memory_than_a_message_may():
    _, provider = pair(acceptor_limits=Limits(message=1000), window=(16, 1))
    provider.defer_requests = True
    assert stores(provider, 600, 402, 400, 2, 0) == [2, 4]
    assert [kept.command.message_id for kept in provider.deferred] == [1, 3, 5]
    assert provider.established
    provider.deferred.clear()
    assert stores(provider, 1000) == []


def test_requests_that_wait_may_hold_what_their_owner_likes():
    _, provider = pair(acceptor_limits=Limits(message=None), window=(16, 1))
    provider.defer_requests = True
    assert stores(provider, *[100_000] * 16) == []


def test_what_waits_in_a_file_holds_no_memory(tmp_path):
    _, provider = pair(acceptor_limits=Limits(message=1000), window=(16, 1))
    provider.defer_requests = True
    provider.open_sink = lambda *_: FileSink(tmp_path)
    assert stores(provider, *[5000] * 16) == []


def test_a_cancel_is_kept_however_many_requests_wait():
    _, provider = pair()
    provider.defer_requests = True
    set_aside(provider, *echoes(17), cancel_of(3), *[cancel_of(5)] * 1000, cancel_of(99))
    assert provider.cancelled == {3, 5}, "what was not asked cannot be cancelled"
    for kept in provider.deferred:
        provider.respond(kept.message, 0)
    assert provider.cancelled == set()
    set_aside(provider, cancel_of(3))
    assert provider.cancelled == set(), "it is answered already"


# ---- the operations window -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "granted", "ours", "theirs"),
    [(None, (8, 8), 1, 1), ((8, 4), (1, 1), 1, 1), ((8, 4), (3, 9), 3, 4), ((0, 0), (5, 0), 5, 65535)],
)
def test_both_sides_know_what_was_negotiated(asked, granted, ours, theirs):
    policy = POLICY._replace(operations_window=granted)
    user, provider = pair(policy=policy, asked_window=asked)
    assert (user.window, provider.window) == (ours, theirs)


def test_a_full_window_refuses_one_more_request():
    user, provider = pair(window=(2, 1))
    first, _ = echo(user), echo(user)
    with pytest.raises(LocalProtocolError, match="operations window"):
        echo(user)
    transfer(user, provider)
    assert len(provider.events()) == 2
    user.receive(message(response(first)))
    user.events()
    echo(user)
    with pytest.raises(LocalProtocolError):
        echo(user)


def test_a_request_that_nobody_waits_for_leaves_room():
    user, _ = pair()
    waiting = user.response_to(echo(user))
    next(waiting)
    with pytest.raises(LocalProtocolError):
        echo(user)
    waiting.close()
    echo(user)


@pytest.mark.parametrize("field", [0x0001, 0x0030, 0x0110, 0x0150])
def test_what_has_one_response_has_no_pending_one(field):
    user, provider = pair()
    request = user.request(user.context_for(CT), field, b"data", affected_sop_class_uid=CT)
    transfer(user, provider)
    user.receive(message(response(request, 0xFF00)))
    assert "pending status" in the(user, events.AbortIndication).detail
    assert len(aborts(user)) == 1


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

    user, provider = pair(acceptor_limits=Limits(max_pdu=maximum), window=(2, 1))
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


# ---- what goes out together ----------------------------------------------------------------------------------------


def test_messages_without_data_go_out_together_up_to_the_first_with_data():
    """A data set's memory may be used anew with the next call, so that nothing is given out behind it."""
    user, _ = pair(window=(6, 1))
    for _ in range(2):
        echo(user)
    store(user, b"12")
    store(user, b"34")
    echo(user)
    counts = [len(fragments(pdus(b"".join(buffers)))) for buffers in iter(user.outgoing, [])]
    assert counts == [4, 2, 1], "two C-ECHOs, a command set and its data; the same again; the last C-ECHO"
