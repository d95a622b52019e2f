"""C-STOREs that came together, without I/O: what one hand-over is for, and what becomes of each."""

from __future__ import annotations

import errno
import gc
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from test_scp import ECHO, store_command, storing
from wiring import CT, EXPLICIT, IMPLICIT, fragments, message, pair, sent

from dicomnet import uids
from dicomnet.errors import DeadlineExceeded
from dicomnet.protocol.events import Event
from dicomnet.protocol.exchange import LATER
from dicomnet.protocol.negotiation import ProposedContext
from dicomnet.services.provider import conclude
from dicomnet.services.scp import AssociationProvider
from dicomnet.wire.command_set import decode_command

CONTEXTS = (ProposedContext(uids.VERIFICATION, (IMPLICIT,)), ProposedContext(CT, (EXPLICIT,)))


class Gathering:
    """A provider's flow, and events that have come while it did something else."""

    def __init__(self, handler: Callable[[Any], Any], **options: Any) -> None:
        self.now, self.handled, self.turns, self.events = 0.0, [], [], list[Event]()
        self._handler = handler
        provider = storing(self._handle, **options)
        provider.clock = lambda: self.now
        self.exchange = pair(CONTEXTS, provider.policy())[1]
        self.provider = AssociationProvider(self.exchange, provider, "h:1", self.take_next)
        self.flow = self.provider.serve()
        assert next(self.flow) is None

    def _handle(self, request: Any) -> Any:
        self.handled.append(request.command.message_id)
        return self._handler(request)

    def take_next(self, wanted: Callable[[Event], bool]) -> Event | None:
        return self.events.pop(0) if self.events and wanted(self.events[0]) else None

    def come(self, *numbers: int, **changes: Any) -> Gathering:
        """C-STOREs with these message IDs."""
        requests = (message(store_command(message_id=one, **changes), b"data", 3) for one in numbers)
        self.exchange.receive(b"".join(requests))
        self.events += self.exchange.events()
        return self

    def go_on(self) -> list[tuple[int | None, int | None]]:
        """Until nothing is left to do: the answers, by message ID."""
        call = None
        while self.events or call is not None:
            call = self.flow.send(self.events.pop(0)) if call is None else self.run(call)
        return self.answers()

    def run(self, call: Any) -> Any:
        """What the flow wants next."""
        before = len(self.handled)
        answer = call.function(*call.arguments)
        if not call.inline:
            self.turns.append(self.handled[before:])
        if hasattr(answer, "add_done_callback"):
            answer.add_done_callback(lambda done: call.later(done.result(), None))
            answer = LATER
        return self.flow.send(answer)

    def answers(self) -> list[tuple[int | None, int | None]]:
        commands = [decode_command(pdv.data) for pdv in fragments(sent(self.exchange)) if pdv.is_command]
        return [(one.message_id_being_responded_to, one.status) for one in commands]


@pytest.fixture
def no_collector():
    """What is dead is so without it."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_nothing_that_was_answered_waits_for_the_garbage_collector():
    turns = list[weakref.ref[Any]]()

    class Seen(Gathering):
        def run(self, call: Any) -> Any:
            turns.append(weakref.ref(call.arguments[0]))
            return super().run(call)

    there = Seen(lambda request: None).come(*range(1, 10))
    assert len(there.go_on()) == 9
    assert [one() for one in turns] == [None] * 4


@pytest.mark.usefixtures("no_collector")
def test_nothing_waits_for_the_garbage_collector_whose_handler_failed(monkeypatch):
    def handler(request: Any) -> None:
        raise ValueError("no")

    monkeypatch.setattr("dicomnet.services.provider.log_failure", lambda *_: None)  # pytest keeps what is logged
    there = Gathering(handler).come(1)
    call = there.flow.send(there.events.pop(0))
    turn = weakref.ref(call.arguments[0])
    assert there.run(call) is None
    del call
    assert there.answers() == [(1, 0x0110)]
    assert turn() is None


@pytest.mark.usefixtures("no_collector")
def test_nothing_waits_for_the_garbage_collector_whose_call_failed():
    there = Gathering(lambda request: None).come(1)
    call = there.flow.send(there.events.pop(0))
    turn = weakref.ref(call.arguments[0])
    del call
    assert there.flow.throw(OSError(errno.ENOMEM, "no thread")) is None
    assert there.answers() == [(1, 0xA700)]
    assert turn() is None


def test_fast_ones_are_handed_over_by_more_and_more():
    there = Gathering(lambda request: None).come(*range(1, 50))
    assert there.go_on() == [(number, 0) for number in range(1, 50)]
    assert [len(turn) for turn in there.turns] == [1, 2, 4, 8, 16, 16, 2]
    assert there.handled == list(range(1, 50))


def test_one_that_takes_its_time_is_the_last_of_its_turn_and_the_next_goes_alone():
    there = Gathering(lambda request: setattr(there, "now", there.now + (request.command.message_id == 5)))
    assert there.come(*range(1, 10)).go_on() == [(number, 0) for number in range(1, 10)]
    assert there.turns == [[1], [2, 3], [4, 5], [6], [7], [8, 9]]


def test_a_failure_is_that_of_one():
    def handler(request: Any) -> int:
        if request.command.message_id == 3:
            raise ValueError("no")
        return 0xA700 if request.command.message_id == 2 else 0

    there = Gathering(handler).come(1, 2, 3, 4)
    assert there.go_on() == [(1, 0), (2, 0xA700), (3, 0x0110), (4, 0)]
    assert [1] in there.turns
    assert [2, 3] in there.turns


def test_what_is_of_another_kind_waits_its_turn():
    there = Gathering(lambda request: None).come(1, 2)
    there.exchange.receive(message(ECHO))
    there.events += there.exchange.events()
    there.come(3)
    there.come(4, affected_sop_class_uid=uids.MR_IMAGE_STORAGE)
    assert there.go_on() == [(1, 0), (2, 0), (7, 0), (3, 0), (4, 0x0122)]


def test_nothing_is_gathered_where_events_are_intercepted():
    there = Gathering(lambda request: None)
    there.provider.provider.intercept = lambda exchange, event: False
    assert len(there.come(*range(1, 8)).go_on()) == 7
    assert [len(turn) for turn in there.turns] == [1] * 7


def test_a_deadline_is_that_of_the_one_that_is_under_way():
    there = Gathering(lambda request: None).come(1, 2, 3, 4)
    call = there.run(there.flow.send(there.events.pop(0)))  # 1; the next turn is for two
    assert call is None
    call = there.flow.send(there.events.pop(0))
    (turn,) = call.arguments
    kept = [one.data for one in turn.requests]
    turn.outcomes.append((None, None))  # of the first of them; the second is under way when its time is over
    call.abandoned = True
    call = there.flow.throw(DeadlineExceeded("handler", 1.0))
    assert there.answers() == [(1, 0), (2, 0), (3, 0x0110)]
    assert call is None
    assert turn.requests[1].data == kept[1]  # its handler may be about to read it
    assert there.go_on() == [(4, 0)]


def test_a_thread_whose_turn_was_given_up_calls_no_handler_more():
    there = Gathering(lambda request: setattr(request.call, "abandoned", True)).come(1, 2, 3)
    there.provider.gathered.most = 4
    call = there.flow.send(there.events.pop(0))
    call.function(*call.arguments)
    assert there.handled == [1]


def test_one_that_is_answered_later_holds_up_no_other():
    futures: dict[int, Future[int]] = {}

    def handler(request: Any) -> Future[int]:
        return futures.setdefault(request.command.message_id, Future())

    there = Gathering(handler).come(1, 2, 3)
    assert there.go_on() == []
    for number in (3, 1, 2):
        futures[number].set_result(0)
    assert there.answers() == [(3, 0), (1, 0), (2, 0)]


@pytest.mark.parametrize("late", [False, True])
def test_an_association_that_ends_meanwhile_leaves_no_data_set_but_that_which_a_late_handler_reads(late, tmp_path):
    there = Gathering(lambda request: None, spool=tmp_path).come(1, 2, 3)
    assert there.provider.gathered is not None
    there.provider.gathered.most = 4
    call = there.flow.send(there.events.pop(0))
    (turn,) = call.arguments
    assert (len(turn.requests), len(list(tmp_path.iterdir()))) == (3, 3)
    call.abandoned = late
    there.flow.close()
    assert len(list(tmp_path.iterdir())) == late
    assert there.answers() == []


def test_what_ends_a_program_is_no_status():
    there = Gathering(lambda request: None).come(1)
    (event,) = there.events
    with pytest.raises(KeyboardInterrupt):
        conclude(there.exchange, event.message, None, KeyboardInterrupt())
    assert there.answers() == []
