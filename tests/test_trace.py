"""Taps: they see everything, and whatever they do, nothing of it reaches the association."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import faces
import pytest
from driving import pdus
from wiring import CONTEXTS, CT, POLICY, echo, message, response, store, transfer, wire

import dicomnet as dn
from dicomnet import uids
from dicomnet._pdu import Abort, AssociateRQ, PDataTF
from dicomnet.config import TAPPED_BODY, Limits
from dicomnet.files.dataset_sink import MemorySink
from dicomnet.protocol.events import RequestReceived
from dicomnet.protocol.exchange import Exchange
from dicomnet.protocol.seen import MessageSeen, PDUSeen, Seen, TransitionSeen
from dicomnet.protocol.states import Action, Event, State
from dicomnet.protocol.trace import ProtocolTrace, TraceQueue, command_fields
from dicomnet.protocol.watch import SeenQueue
from dicomnet.wire.command_set import Command

DATA = bytes(range(256)) * 100
PATIENT = "DOE^JANE"


def whole(data: bytes) -> list[bytes]:
    return [data]


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


class Clock:
    """A clock that ticks whenever it is looked at."""

    def __init__(self) -> None:
        self._ticks = count(1)

    def __call__(self) -> float:
        return float(next(self._ticks))


def session(
    user_tap: ProtocolTrace | None,
    provider_tap: ProtocolTrace | None = None,
    cut: Callable[[bytes], list[bytes]] = whole,
) -> list[Any]:
    """An association with an echo, a store and a release; what the provider's owner saw, and all bytes both ways."""
    observers = [None if tap is None else tap.observe("there", True, Clock()) for tap in (user_tap, provider_tap)]
    limits = Limits(max_pdu=4096)
    user = Exchange.requestor(
        calling="USER", called="PROVIDER", contexts=CONTEXTS, limits=limits, observer=observers[0]
    )
    provider = Exchange.acceptor(limits=limits, observer=observers[1])
    seen: list[Any] = []

    def recorded(data: bytes) -> list[bytes]:
        seen.append(data)
        return cut(data)

    def carry() -> list[Any]:
        while transfer(user, provider, recorded) + transfer(provider, user, recorded):
            pass
        events = provider.events()
        seen.extend(repr(event) for event in events if not isinstance(event, RequestReceived))
        return events

    carry()
    provider.evaluate(POLICY._replace(max_pdu=4096))
    carry()
    for ask in (echo, partial(store, data=DATA)):
        asked = ask(user)
        (request,) = carry()
        assert request.command.message_id == asked.command.message_id
        if isinstance(request.message.data, MemorySink):
            seen.append(request.message.data.getvalue())
        provider.respond(request.message, 0)
        carry()
        user.events()
    user.release()
    carry()
    provider.release_response()
    carry()
    user.receive_eof()
    provider.receive_eof()
    return seen


def recorder(**options: Any) -> tuple[ProtocolTrace, list[Seen]]:
    seen: list[Seen] = []
    return ProtocolTrace(seen.append, **options), seen


def kinds(seen: list[Seen], kind: type) -> list[Any]:
    return [one for one in seen if type(one) is kind]


def sketch(seen: list[Seen]) -> list[str]:
    """What was seen, a word or two for each."""
    words = []
    for one in seen:
        if isinstance(one, PDUSeen):
            words.append(f"{'>' if one.sent else '<'} {one.type}")
        elif isinstance(one, MessageSeen):
            words.append(f"{'>' if one.sent else '<'} {one.name} {one.message_id}")
        else:
            words.append(one.action.name)
    return words


def test_everything_is_seen_in_the_order_in_which_it_happens() -> None:
    tap, seen = recorder()
    session(tap)
    request = ["AE_1", "AE_2", "> 1"]
    echoed = ["> C-ECHO-RQ 1", "> 4", "< 4", "< C-ECHO-RSP 1"]
    pieces = -(-len(DATA) // 4084)
    stored = ["> C-STORE-RQ 2", *["> 4"] * (1 + pieces), "< 4", "< C-STORE-RSP 2"]
    assert sketch(seen) == [*request, "< 2", "AE_3", *echoed, *stored, "AR_1", "> 5", "< 6", "AR_3"]
    times = [one.time for one in seen]
    assert times == sorted(times)
    assert len(set(times)) > len(times) // 2  # only what came, or went out, together has one time
    assert {one.association for one in seen} == {seen[0].association}
    association = seen[0].association
    assert (association.number, association.requestor, association.peer) == (1, True, "there")
    (confirmed,) = [one for one in kinds(seen, TransitionSeen) if one.action is Action.AE_3]
    assert confirmed.before is State.STA5_AWAIT_ASSOCIATE_RESPONSE
    assert confirmed.event is Event.RECV_ASSOCIATE_AC
    assert confirmed.after is State.STA6_ESTABLISHED


def test_the_other_side_sees_the_mirror_image() -> None:
    (ours, mine), (theirs, other) = recorder(), recorder()
    session(ours, theirs)
    mirror = {">": "<", "<": ">"}
    said = [word for word in sketch(mine) if word[0] in mirror]
    heard = [mirror[word[0]] + word[1:] for word in sketch(other) if word[0] in mirror]
    assert sorted(said) == sorted(heard)
    assert [one.size for one in kinds(other, MessageSeen) if one.name == "C-STORE-RQ"] == [len(DATA)]
    assert [one.context.abstract_syntax for one in kinds(other, MessageSeen)][2:] == [CT, CT]


@pytest.mark.parametrize("data", [False, True])
def test_it_does_not_matter_how_the_stream_is_cut(data: bool) -> None:
    tap, seen = recorder(data=data)
    session(tap, cut=whole)
    other_tap, others = recorder(data=data)
    session(other_tap, cut=bytewise)
    assert sketch(seen) == sketch(others)
    timeless = [
        [PDUSeen(0.0, one.association, one.sent, one.header, one.body, one.whole) for one in kinds(shown, PDUSeen)]
        for shown in (seen, others)
    ]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize("cut", [whole, bytewise])
def test_nobody_notices_a_tap(cut: Callable[[bytes], list[bytes]]) -> None:
    tap, seen = recorder(data=True)
    assert session(tap, tap, cut) == session(None, None, cut)
    assert seen


def test_without_a_tap_nothing_stands_between() -> None:
    exchange = Exchange.acceptor()
    assert exchange.receive == exchange._upper.receive
    assert exchange._upper.on_transition is None


# ---- what a PDU shows ------------------------------------------------------------------------------------------------


def test_a_pdu_is_shown_as_it_is() -> None:
    tap, seen = recorder(data=True, body=None)
    wire_bytes = b"".join(one for one in session(tap) if isinstance(one, bytes) and one != DATA)
    shown = kinds(seen, PDUSeen)
    assert all(one.whole and one.length == len(one.body) for one in shown)
    assert sorted(map(bytes, (one.header + one.body for one in shown))) == sorted(
        pdu.encode() for pdu in pdus(wire_bytes)
    )
    (request,) = pdus(shown[0].header + shown[0].body)
    assert isinstance(request, AssociateRQ)


def test_data_are_left_out_unless_asked_for() -> None:
    tap, seen = recorder()
    session(tap)
    shown = [one for one in kinds(seen, PDUSeen) if one.type == 4]
    commands, data = [one for one in shown if one.body[5] & 1], [one for one in shown if not one.body[5] & 1]
    assert len(commands) == 4
    assert all(one.whole for one in commands)
    assert all(isinstance(pdus(one.header + one.body)[0], PDataTF) for one in commands)
    assert data
    assert all(len(one.body) == 6 and not one.whole and one.length > 6 for one in data)


def test_a_body_is_cut_at_its_limit() -> None:
    tap, seen = recorder(data=True, body=100)
    session(tap)
    shown = kinds(seen, PDUSeen)
    assert max(len(one.body) for one in shown) == 100
    assert [one.whole for one in shown] == [one.length <= 100 for one in shown]
    assert TAPPED_BODY > 100


def test_what_is_shown_is_a_copy() -> None:
    tap, seen = recorder(data=True, body=None)
    exchange = Exchange.acceptor(observer=tap.observe("", False, Clock()))
    request = bytearray(b"".join(Exchange.requestor(calling="A", called="B", contexts=CONTEXTS).outgoing()))
    exchange.receive(request)
    (shown,) = kinds(seen, PDUSeen)
    assert type(shown.header) is type(shown.body) is bytes
    request[:] = bytes(len(request))
    assert shown.type == 1
    assert shown.body[:2] == b"\0\1"


# ---- peers that misbehave --------------------------------------------------------------------------------------------


def test_noise_is_shown_once() -> None:
    tap, seen = recorder()
    exchange = Exchange.acceptor(observer=tap.observe("", False, Clock()))
    exchange.receive(b"GET / HTTP/1.1\r\n")
    exchange.outgoing()
    exchange.receive(b"Host: there\r\n\r\n")
    exchange.receive_eof()
    assert sketch(seen) == ["AE_5", f"< {ord('G')}", "AA_1", "> 7", "AR_5"]
    assert (seen[1].header + seen[1].body, seen[1].whole) == (b"GET / HTTP/1.1\r\n", False)


def test_a_pdu_that_the_end_cuts_short_is_shown_as_far_as_it_came() -> None:
    tap, seen = recorder()
    exchange = Exchange.acceptor(observer=tap.observe("", False, Clock()))
    exchange.receive(b"\x01\0\0\0\1\0abc")
    exchange.receive_eof()
    assert sketch(seen) == ["AE_5", "< 1", "AA_5"]
    assert (seen[1].length, seen[1].body, seen[1].whole) == (256, b"abc", False)


def test_a_claim_is_not_believed() -> None:
    tap, seen = recorder(data=True, body=None)
    user, provider = tapped_pair(tap)
    provider.receive(b"\x04\0\xff\xff\xff\xff" + bytes(100))
    (abort,) = pdus(b"".join(provider.outgoing()))
    assert isinstance(abort, Abort)
    provider.receive_eof()
    assert [one.whole for one in kinds(seen, PDUSeen)][-1] is False
    assert user.established


def test_a_message_that_is_refused_is_seen_all_the_same() -> None:
    tap, seen = recorder()
    user, provider = tapped_pair(tap)
    provider.receive(message(response(echo(user))))
    assert [one.name for one in kinds(seen, MessageSeen)] == ["C-ECHO-RSP"]
    provider.receive_eof()


def tapped_pair(tap: ProtocolTrace) -> tuple[Exchange, Exchange]:
    user = Exchange.requestor(calling="USER", called="PROVIDER", contexts=CONTEXTS)
    provider = Exchange.acceptor(observer=tap.observe("", False, Clock()))
    wire(user, provider)
    provider.events()
    provider.evaluate(POLICY)
    wire(user, provider)
    user.events()
    return user, provider


# ---- taps that misbehave ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [PDUSeen, TransitionSeen, MessageSeen])
def test_a_tap_that_raises_is_told_nothing_more(kind: type, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Seen] = []

    def faulty(seen: Seen) -> None:
        told.append(seen)
        if isinstance(seen, kind):
            raise ValueError(PATIENT)

    tap = ProtocolTrace(faulty)
    with caplog.at_level(logging.INFO, logger="dicomnet"):
        assert session(tap, tap) == session(None)
    assert tap.broken
    assert len(kinds(told, kind)) == 1
    assert told[-1] is kinds(told, kind)[0]
    (record,) = caplog.records
    assert "a tap failed" in record.getMessage()
    assert "ValueError" in caplog.text
    assert PATIENT not in caplog.text


def test_a_broken_tap_takes_no_part_any_more() -> None:
    def faulty(seen: Seen) -> None:
        raise ValueError

    broken = Exchange.acceptor(observer=ProtocolTrace(faulty).observe("", False, Clock()))
    broken.receive(b"\x01\0\0\0\0")
    broken.receive_eof()
    assert broken.closed


# ---- queues ----------------------------------------------------------------------------------------------------------


def test_a_queue_loses_what_nobody_takes_and_counts_it() -> None:
    tap, seen = recorder()
    session(tap)
    queue = TraceQueue(5)
    session(queue)
    taken = queue.take()
    assert len(taken) == 5
    assert sketch(taken) == sketch(seen)[:5]
    assert queue.dropped == len(seen) - 5
    assert queue.take() == []
    session(queue)
    assert {one.association.number for one in queue.take()} == {2}


@pytest.mark.parametrize("data", [False, True], ids=["commands", "data, too"])
def test_a_queue_gives_what_a_function_is_told(data: bool) -> None:
    tap, seen = recorder(body=None, data=data)
    session(tap)
    queue = TraceQueue(body=None, data=data)
    session(queue)

    def fields(one: Seen) -> tuple[type[Seen], list[Any]]:
        named = {name: getattr(one, name) for name in type(one).__match_args__}
        del named["time"]
        command = named.pop("command", None)
        return type(one), [*named.values(), command and command_fields(command)]

    assert [fields(one) for one in queue.take()] == [fields(one) for one in seen]
    assert {type(one) for one in seen} == {PDUSeen, TransitionSeen, MessageSeen}


def test_a_queue_wakes_whoever_waits() -> None:
    woken: list[int] = []
    queue = TraceQueue(wake=lambda: woken.append(1))
    session(queue)
    assert len(woken) == 1
    queue.take()
    session(queue)
    assert len(woken) == 2
    assert queue.dropped == 0


def test_a_reader_is_told_once_when_half_of_the_room_is_taken() -> None:
    woken: list[str] = []
    queue = SeenQueue(10, lambda: woken.append("wake"), lambda: woken.append("hurry"))
    seen = recorder()[1]
    session(ProtocolTrace(seen.append))
    for one in seen[:4]:
        queue(one)
    assert woken == ["wake"]
    for one in seen[4:12]:
        queue(one)
    assert woken == ["wake", "hurry"]
    assert len([*queue.take()]) == 10
    session(ProtocolTrace(queue))
    assert woken == ["wake", "hurry"] * 2


def test_a_queue_wakes_for_what_other_threads_put_at_the_same_moment() -> None:
    """Two that put at once, while what was there is taken: nothing waits without a word, is lost or comes twice."""
    tap, seen = recorder()
    session(tap)
    wake, taken = threading.Event(), 0
    queue = TraceQueue(1 << 20, wake=wake.set)
    putting = [threading.Thread(target=lambda: [queue.tell(seen[0]) for _ in range(20_000)]) for _ in range(2)]
    for thread in putting:
        thread.start()
    while taken < 40_000:
        assert wake.wait(10), f"{taken} were taken, and no word of the others"
        wake.clear()
        taken += len(queue.take())
    for thread in putting:
        thread.join(10)
    assert taken == 40_000
    assert queue.take() == []


# ---- both faces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", faces.FACES)
@pytest.mark.parametrize("client", faces.FACES)
def test_both_faces_tell_a_tap(client: str, server: str) -> None:
    ours, theirs = TraceQueue(), TraceQueue()
    with (
        faces.provider(server, tap=theirs) as provider,
        faces.USERS[client](provider.peer("ARCHIVE"), tap=ours) as user,
    ):
        assert user.echo().is_success
        assert user.store(faces.instance(1000)).ok
    mine, others = ours.take(), theirs.take()
    for seen in (mine, others):
        names = [one.name for one in kinds(seen, MessageSeen)]
        assert names == ["C-ECHO-RQ", "C-ECHO-RSP", "C-STORE-RQ", "C-STORE-RSP"]
        assert sorted({one.type for one in kinds(seen, PDUSeen)}) == [1, 2, 4, 5, 6]
        assert kinds(seen, TransitionSeen)[-1].after is State.STA1_IDLE
        times = [one.time for one in seen]
        assert times == sorted(times)
    assert abs(mine[0].time - others[0].time) < 60
    assert mine[0].association.peer == provider.peer("ARCHIVE")
    assert mine[0].association.requestor
    assert others[0].association.peer.startswith("127.0.0.1:")
    assert not others[0].association.requestor


@pytest.mark.parametrize("face", faces.FACES)
def test_a_move_is_tapped_on_its_way_out(face: str) -> None:
    tap = TraceQueue()
    done = threading.Event()

    def configure(listener: Any) -> None:
        @listener.on_move("STUDY_ROOT")
        def move(request: Any) -> list[Any]:
            done.set()
            return [faces.instance(100)]

        listener.destinations["THERE"] = dn.Entity("THERE", "127.0.0.1", target.port)

    with (
        faces.provider("sync") as target,
        faces.provider(face, configure, tap=tap) as provider,
        faces.USERS["sync"](provider.peer(), contexts=dn.contexts.query_retrieve()) as user,
    ):
        assert user.association.move("STUDY", StudyInstanceUID="1.2", destination="THERE").completed == 1
    assert done.is_set()
    seen = tap.take()
    assert [one.association.requestor for one in kinds(seen, MessageSeen) if one.name == "C-STORE-RQ"] == [True]
    assert {one.association.number for one in seen} == {1, 2}


def test_what_messages_say_of_themselves() -> None:
    tap, seen = recorder()
    session(tap)
    asked, answered = kinds(seen, MessageSeen)[:2]
    assert isinstance(asked.command, Command)
    assert asked.command.affected_sop_class_uid == uids.VERIFICATION
    assert (asked.message_id, answered.message_id) == (1, 1)
    assert asked.context.abstract_syntax == uids.VERIFICATION


def test_pdus_that_were_seen_are_values() -> None:
    queue = TraceQueue()
    session(queue)
    first, second = kinds(queue.take(), PDUSeen)[:2]
    match first:
        case PDUSeen(time, association, True, header, body, whole):
            same = PDUSeen(time, association, True, header, body, whole)
    assert first == same != second
    assert hash(first) == hash(same)
    assert pickle.loads(pickle.dumps(first)) == first
    assert repr(first).startswith(f"PDUSeen(time={first.time!r}, association=Watched(number=1, ")
    assert (first.type, len(first.header), first.length, first.whole) == (1, 6, len(first.body), True)
    assert first != "A-ASSOCIATE-RQ"
    with pytest.raises(AttributeError):
        first.body = second.body
    with pytest.raises(ValueError, match="one to six bytes"):
        PDUSeen(1.0, first.association, True, b"", b"", True)


def test_messages_that_were_seen_are_values() -> None:
    queue = TraceQueue()
    session(queue)
    asked, answered = kinds(queue.take(), MessageSeen)[:2]
    match asked:
        case MessageSeen(time, association, True, command, context, size):
            same = MessageSeen(time, association, True, command, context, size)
    assert asked == same != answered
    assert hash(asked) == hash(same)
    assert pickle.loads(pickle.dumps(asked)) == asked
    assert repr(asked).startswith(f"MessageSeen(time={asked.time!r}, association=Watched(number=1, ")
    assert asked != "C-ECHO-RQ"
    assert asked.command is asked.command
    with pytest.raises(AttributeError):
        asked.command = answered.command
