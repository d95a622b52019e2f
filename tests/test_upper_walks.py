"""Any event in any state has a legal outcome: the upper layer against a model of the table, by rules and by walks."""

import contextlib
import os
import random

import pytest
from driving import (
    AC,
    ARTIM_ALONE,
    DATA,
    ECHO_PDV,
    INVALID,
    RJ,
    ROUTES,
    RQ,
    bring,
    pdus,
    reader,
    sent_by,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dicomnet._pdu import (
    Abort,
    ReleaseRP,
    ReleaseRQ,
)
from dicomnet.config import Limits
from dicomnet.errors import LocalProtocolError
from dicomnet.protocol import events, states
from dicomnet.protocol.states import Event, State
from dicomnet.protocol.upper_layer import UpperLayer
from dicomnet.wire.command_set import Message

PEER = {
    3: AC.encode(),
    4: RJ.encode(),
    6: RQ.encode(),
    10: DATA.encode(),
    12: ReleaseRQ().encode(),
    13: ReleaseRP().encode(),
    16: Abort(0, 0).encode(),
    19: INVALID,
}
LOCAL = {
    1: lambda upper: upper.associate(RQ),
    2: lambda upper: upper.transport_connected(),
    5: lambda upper: upper.transport_opened(),
    7: lambda upper: upper.accept(AC),
    8: lambda upper: upper.reject(RJ),
    9: lambda upper: upper.send([ECHO_PDV]),
    11: lambda upper: upper.release(),
    14: lambda upper: upper.release_response(),
    15: lambda upper: upper.abort(),
}


WALKS = int(os.environ.get("DICOMNET_WALKS", "100000"))
LIMITS = Limits(max_pdu=16384)


class Model:
    """What the table says should become of an upper layer, and what must hold whatever happens to it."""

    def __init__(self) -> None:
        self.upper = UpperLayer(LIMITS, ARTIM_ALONE, reader(LIMITS))
        self.now = 1.0
        self.upper.tick(self.now)
        self.state = 1
        self.requestor = False
        self.noise = False  # the framing is lost: no PDU is recognised any more
        self.ended = False
        self.aborts = 0

    def local(self, event: int) -> None:
        cell = states.TABLE.get((event, self.state))
        if cell is None or self.ended:
            self.refused(LOCAL[event], self.upper)
        else:
            self.requestor |= event == 1
            LOCAL[event](self.upper)
            self.go(cell)
        self.check()

    def peer(self, event: int) -> None:
        if self.state in (1, 4) and not self.ended:
            self.refused(self.upper.receive, PEER[event])
        elif self.upper.closed and self.state == 1:
            self.after_the_end(PEER[event])
        else:
            self.upper.receive(PEER[event])
            if not self.noise:
                self.go(states.TABLE[event, self.state])
                self.noise = event == 19
        self.check()

    def refused(self, verb, argument) -> None:
        try:
            verb(argument)
        except LocalProtocolError:
            return
        pytest.fail("it was not refused")

    def after_the_end(self, data: bytes) -> None:
        with contextlib.suppress(LocalProtocolError):  # where there never was a connection
            self.upper.receive(data)

    def go(self, cell) -> None:
        action, following = cell
        later = action is states.Action.AR_8 and not self.requestor
        self.state = int(following[1 if later else 0])
        self.ended = self.state == 1

    def step(self, event: int) -> None:
        if event in LOCAL:
            self.local(event)
        elif event in PEER:
            self.peer(event)
        elif event == Event.TRANSPORT_CLOSED:
            self.eof()
        else:
            self.artim()

    def artim(self) -> None:
        if self.state in (2, 13):
            self.now = self.upper.deadline
            self.upper.tick(self.now)
            self.go(states.TABLE[Event.ARTIM_EXPIRED, self.state])
        else:
            self.now += 1000
            self.upper.tick(self.now)
        self.check()

    def wait(self) -> None:
        if self.upper.deadline is None or self.upper.deadline > self.now + 1:
            self.now += 1
            self.upper.tick(self.now)
        self.check()

    def eof(self) -> None:
        self.upper.receive_eof()
        if self.state != 1:
            self.go(states.TABLE[Event.TRANSPORT_CLOSED, self.state])
        self.check()

    def check(self) -> None:
        upper = self.upper
        assert upper.state == self.state
        assert (upper.deadline is not None) is (self.state in (2, 13)), "ARTIM runs in Sta2 and Sta13 only"
        assert upper.closed is self.ended
        if said := upper.outgoing():
            self.aborts += sum(isinstance(pdu, Abort) for pdu in pdus(b"".join(said)))
            assert self.aborts <= 1, "one A-ABORT per association"
        for event in upper.events():
            assert isinstance(event, Message | events.Event)


class AnyStateAnyEvent(RuleBasedStateMachine):
    """Every verb, PDU, timer and end in any order: the table is followed, nothing else is ever raised."""

    @initialize(begin=st.sampled_from([(), (1,), (1, 2), (5,)]))
    def begin(self, begin):
        self.model = Model()
        for event in begin:
            self.model.local(event)

    @rule(event=st.sampled_from(sorted(LOCAL)))
    def verb(self, event):
        self.model.local(event)

    @rule(event=st.sampled_from(sorted(PEER)))
    def pdu(self, event):
        self.model.peer(event)

    @precondition(lambda self: not self.model.ended)
    @rule()
    def time_passes(self):
        self.model.wait()

    @rule()
    def artim(self):
        self.model.artim()

    @rule()
    def eof(self):
        self.model.eof()

    @invariant()
    def holds(self):
        if hasattr(self, "model"):
            self.model.check()


TestAnyStateAnyEvent = AnyStateAnyEvent.TestCase
TestAnyStateAnyEvent.settings = settings(
    max_examples=150, stateful_step_count=40, suppress_health_check=list(HealthCheck), deadline=None
)


@pytest.mark.long
@pytest.mark.deadline(300)
def test_random_walks():
    """Longer and many more than the machine above takes, along likely paths; the seed makes each run the same."""
    generator = random.Random(20260101)
    anything = [int(event) for event in Event]
    onward = {
        int(state): [
            event
            for event in anything
            for action, to in [states.TABLE.get((event, state), (0, (1,)))]
            if to[0] not in (1, 13)
        ]
        for state in State
    }
    reached = set()
    for _ in range(WALKS):
        model = Model()
        for _ in range(40):
            likely = onward[model.state] if generator.random() < 0.8 else []
            event = generator.choice(likely or anything)
            model.step(event)
            reached.add(model.state)
            if model.ended and generator.random() < 0.3:
                break
    assert reached == set(range(1, 14))


@given(st.lists(st.one_of(st.binary(max_size=30), st.sampled_from(sorted(PEER.values()))), max_size=12), st.data())
def test_junk_never_raises(pieces, data):
    _, _, build = data.draw(st.sampled_from([route for route in ROUTES if route[0] not in (1, 4)]))
    upper = bring(build, with_reader=True)
    for piece in pieces:
        upper.receive(piece)
    assert sum(isinstance(pdu, Abort) for pdu in sent_by(upper)) <= 1
    assert upper.deadline is None or upper.state in (2, 13)
