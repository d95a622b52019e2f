"""The upper layer: every cell of Table 9-10 driven for real, its verbs, its timers, and what a hostile peer gets."""

import pytest
from cases import every
from driving import (
    AC,
    ACCEPTOR,
    ARTIM,
    ARTIM_ALONE,
    DATA,
    ECHO,
    ECHO_PDV,
    INVALID,
    PEER_ABORT,
    REQUESTOR,
    RJ,
    ROUTES,
    RQ,
    STANDARD,
    bring,
    connected,
    established,
    opened,
    requestor,
    said_by,
)

from dicomnet._pdu import (
    PDV,
    Abort,
    AssociateAC,
    AssociateRQ,
    MaximumLength,
    PDataTF,
    ReleaseRP,
    ReleaseRQ,
    decode,
)
from dicomnet.config import Limits, Timeouts
from dicomnet.errors import InvalidArgument, LocalProtocolError
from dicomnet.protocol import events
from dicomnet.protocol.states import Event, State
from dicomnet.protocol.upper_layer import UpperLayer
from dicomnet.wire.command_set import Message

START, LATER = 1000.0, 1010.0
CELLS = STANDARD["fsm"]["table"]
ACTIONS = STANDARD["actions"]
LOCAL = {number for number in Event if STANDARD["fsm"]["events"][f"Evt{number}"]["from"] == "local user"} | {2, 5}
FROM_PEER = {number for number in Event if STANDARD["fsm"]["events"][f"Evt{number}"]["from"] == "peer"}

FIRE = {
    1: lambda upper: upper.associate(RQ),
    2: lambda upper: upper.transport_connected(),
    3: lambda upper: upper.receive(AC.encode()),
    4: lambda upper: upper.receive(RJ.encode()),
    5: lambda upper: upper.transport_opened(),
    6: lambda upper: upper.receive(RQ.encode()),
    7: lambda upper: upper.accept(AC),
    8: lambda upper: upper.reject(RJ),
    9: lambda upper: upper.send([ECHO_PDV]),
    10: lambda upper: upper.receive(DATA.encode()),
    11: lambda upper: upper.release(),
    12: lambda upper: upper.receive(ReleaseRQ().encode()),
    13: lambda upper: upper.receive(ReleaseRP().encode()),
    14: lambda upper: upper.release_response(),
    15: lambda upper: upper.abort(),
    16: lambda upper: upper.receive(PEER_ABORT.encode()),
    17: lambda upper: upper.receive_eof(),
    18: lambda upper: upper.tick(1e9 if upper.deadline is None else upper.deadline),
    19: lambda upper: upper.receive(INVALID),
}

INDICATED = {
    None: None,
    "A-ASSOCIATE confirmation (accept)": events.AssociateAccepted(AC),
    "A-ASSOCIATE confirmation (reject)": events.AssociateRejected(RJ),
    "A-ASSOCIATE indication (only when acceptable)": events.AssociateIndication(RQ),
    "A-RELEASE indication": events.ReleaseIndication(False),
    "A-RELEASE indication (collision)": events.ReleaseIndication(True),
    "A-RELEASE confirmation": events.ReleaseConfirmation(),
    "A-ABORT or A-P-ABORT indication by received source field": events.AbortIndication(2, 2, True),
}


def facts(upper: UpperLayer) -> tuple[object, ...]:
    return upper.state, upper.deadline, upper.closed, upper.established


def sent_by(upper: UpperLayer) -> bytes:
    return b"".join(upper.outgoing())


EACH_CELL = [
    pytest.param(event, state, route, build, id=f"Evt{event}-Sta{state}-{route}")
    for event in Event
    for state, route, build in ROUTES
    if not (state == 1 and event in (1, 5) and route != "fresh")  # an upper layer serves one association, see below
]


@every("with_reader", [False, True])
@every("event, state, route, build", EACH_CELL)
def test_a_cell_does_what_the_standard_says(event, state, route, build, with_reader):
    upper = bring(build, now=START, with_reader=with_reader)
    assert upper.state is state
    cell = CELLS[f"Evt{event}"][f"Sta{state}"]
    if cell is None:
        check_blank(upper, event, route)
    else:
        check_filled(upper, event, route, cell)


def check_blank(upper, event, route):
    """A blank cell cannot happen: the owner who makes it happen is told so, and bytes after the end are not read."""
    before = facts(upper)
    try:
        FIRE[event](upper)
    except LocalProtocolError:
        assert event in LOCAL or (event in FROM_PEER and route in ("fresh", "cancelled", REQUESTOR))
    else:
        assert event in (17, 18) or (event in FROM_PEER and route == "aborted")
    assert facts(upper) == before
    assert upper.outgoing() == upper.events() == []


def check_filled(upper, event, route, cell):
    action = ACTIONS[cell["action"]]
    artim = upper.deadline
    now = artim if event == 18 else LATER
    if event != 18:
        upper.tick(now)
    FIRE[event](upper)

    assert f"Sta{upper.state:d}" == cell["next"][1 if cell["action"] == "AR-8" and route == ACCEPTOR else 0]
    assert upper.deadline == artim_after(action["artim"], artim, now)
    assert upper.closed is (upper.state is State.STA1_IDLE)
    assert upper.established is (upper.state is State.STA6_ESTABLISHED)
    assert sent_by(upper) == said_by(cell["action"], event, silent="aborted" in route or route == "offended")
    check_indicated(upper.events(), action["indicate"], event)


def artim_after(text, before, now):
    if text is None:
        return before
    return now + ARTIM if text.startswith("start") else None


def check_indicated(happened, text, event):
    if text == "P-DATA indication":
        (one,) = happened
        if isinstance(one, Message):
            assert (one.context_id, one.command.encode(), one.data) == (1, ECHO, None)
        else:
            assert one == events.DataIndication((ECHO_PDV,))
    elif text == "A-P-ABORT indication":
        (one,) = happened
        assert (one.source, one.by_peer, one.timer, one.lost) == (2, False, "", event == 17)
        assert one.detail
    else:
        assert happened == [INDICATED[text]] if text else happened == []


ROUTE = {state: build for state, _, build in reversed(ROUTES)}


# ---- verbs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["aborted", "cancelled"])
@pytest.mark.parametrize("event", [1, 5])
def test_an_upper_layer_serves_one_association(route, event):
    upper = bring(next(build for _, name, build in ROUTES if name == route))
    assert upper.closed
    with pytest.raises(LocalProtocolError):
        FIRE[event](upper)
    assert upper.closed
    assert upper.state is State.STA1_IDLE


def test_a_new_upper_layer_is_not_closed_and_waits_for_nothing():
    upper = UpperLayer()
    assert facts(upper) == (State.STA1_IDLE, None, False, False)
    with pytest.raises(LocalProtocolError):
        upper.transport_connected()
    assert facts(upper) == (State.STA1_IDLE, None, False, False)
    upper.receive_eof()
    assert upper.events() == []


def test_an_acceptor_that_wrongly_asks_for_an_association_stays_an_acceptor():
    upper = opened(UpperLayer(timeouts=ARTIM_ALONE))
    with pytest.raises(LocalProtocolError):
        upper.associate(RQ)
    upper.receive(RQ.encode())
    upper.accept(AC)
    upper.release()
    upper.receive(ReleaseRQ().encode())
    assert upper.state is State.STA10_COLLISION_ACCEPTOR_AWAIT_RP


def test_a_pdu_that_cannot_be_encoded_changes_nothing():
    upper = bring(ROUTE[3])
    huge = AssociateAC("A", "B", AC.presentation_contexts, AC.user_information, application_context_name="1" * 70000)
    with pytest.raises(InvalidArgument):
        upper.accept(huge)
    with pytest.raises(AttributeError):
        upper.reject(None)
    assert upper.state is State.STA3_AWAIT_LOCAL_ASSOCIATE_RESPONSE
    assert upper.outgoing() == []
    upper.accept(AC)
    assert upper.established


def test_titles_and_reserved_bytes_of_a_request_go_back_as_they_came():
    upper = opened(UpperLayer(timeouts=ARTIM_ALONE))
    asked = bytearray(RQ.encode())
    asked[10:74] = b"  CALLED        " + b" CALLING\0       " + bytes(range(0x80, 0xA0))
    upper.receive(bytes(asked))
    upper.accept(AC)
    answer = sent_by(upper)
    assert answer[10:74] == asked[10:74]
    assert decode(answer).presentation_contexts == AC.presentation_contexts


def test_sent_pdvs_are_one_pdu_and_framed_buffers_are_the_callers_own():
    upper = bring(lambda upper: established(upper, REQUESTOR))
    upper.send([ECHO_PDV, PDV(1, b"ab", False, True)])
    assert decode(sent_by(upper)) == PDataTF((ECHO_PDV, PDV(1, b"ab", False, True)))
    header, body = bytearray(12), bytearray(4)
    upper.send_framed([header, body])
    first, second = upper.outgoing()
    assert first is header
    assert second is body


@pytest.mark.parametrize(
    "buffer",
    [b"", bytearray(DATA.encode()), memoryview(b"xx" + DATA.encode())[2:]],
    ids=["empty", "bytearray", "memoryview"],
)
def test_any_buffer_will_do(buffer):
    upper = bring(lambda upper: established(upper, ACCEPTOR))
    upper.receive(buffer)
    assert len(upper.events()) == (1 if len(buffer) else 0)


@pytest.mark.parametrize(
    "buffer",
    [memoryview(bytes(16))[::2], memoryview(bytes(16)).cast("H"), memoryview(bytes(16)).cast("B", (4, 4))],
    ids=["gaps", "numbers", "a table"],
)
def test_what_is_no_row_of_bytes_changes_nothing(buffer):
    upper = bring(lambda upper: established(upper, ACCEPTOR))
    with pytest.raises(LocalProtocolError):
        upper.receive(buffer)
    upper.receive(DATA.encode())
    assert len(upper.events()) == 1


def test_several_pdus_in_one_read_are_several_events():
    upper = bring(lambda upper: established(upper, ACCEPTOR))
    upper.receive(DATA.encode() * 3 + ReleaseRQ().encode())
    assert [type(event) for event in upper.events()] == [events.DataIndication] * 3 + [events.ReleaseIndication]


# ---- what we announce is what we take ------------------------------------------------------------------------------


def data_of(length: int) -> bytes:
    return PDataTF([PDV(1, bytes(length - 6), False, False)]).encode()


@pytest.mark.parametrize("role", [REQUESTOR, ACCEPTOR])
@pytest.mark.parametrize(("announced", "length", "taken"), [(64, 64, True), (64, 65, False), (0, 300_000, True)])
def test_a_pdu_over_the_announced_maximum_ends_the_association(role, announced, length, taken):
    information = [MaximumLength(announced)]
    upper = UpperLayer(Limits(max_pdu=16384), ARTIM_ALONE)
    if role == REQUESTOR:
        upper.associate(AssociateRQ("A", "B", RQ.presentation_contexts, information))
        upper.transport_connected()
        upper.receive(AC.encode())
    else:
        opened(upper).receive(RQ.encode())
        upper.accept(AssociateAC("A", "B", AC.presentation_contexts, information))
    upper.outgoing()
    upper.receive(data_of(length))
    assert upper.established is taken
    assert sent_by(upper) == (b"" if taken else Abort(2, 6).encode())


def test_without_an_announcement_the_limit_holds():
    upper = UpperLayer(Limits(max_pdu=64), ARTIM_ALONE)
    upper.associate(AssociateRQ("A", "B", RQ.presentation_contexts, []))
    upper.transport_connected()
    upper.receive(AC.encode())
    upper.receive(data_of(65))
    assert not upper.established


LENGTHS = {1: 256 << 10, 2: 256 << 10, 3: 4, 4: 16384, 5: 4, 6: 4, 7: 4}


@every("kind", LENGTHS)
@every("state, route, build", [r for r in ROUTES if r[0] not in (1, 4, 13)])
def test_a_length_beyond_its_limit_is_judged_from_the_header_alone(kind, state, route, build):
    for length in (LENGTHS[kind] + 1, 1 << 31, 0xFFFFFFFF):
        upper = bring(build, limits=Limits(max_pdu=16384))
        upper.receive(bytes([kind, 0]) + length.to_bytes(4, "big"))
        assert upper.state is State.STA13_AWAIT_TRANSPORT_CLOSE
        assert sent_by(upper) == Abort(*((0, 0) if state == 2 else (2, 6))).encode()
        assert upper.abort_reason == 6


@pytest.mark.parametrize("kind", [3, 5, 6, 7])
@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_a_pdu_of_fixed_length_that_is_too_short(kind, length):
    upper = bring(lambda upper: established(upper, REQUESTOR))
    upper.receive(bytes([kind, 0]) + length.to_bytes(4, "big") + bytes(length))
    assert sent_by(upper) == Abort(2, 6).encode()


# ---- timers --------------------------------------------------------------------------------------------------------

TIMEOUTS = Timeouts(associate=30, response=60, progress=45, idle=300, release=15, artim=20)
TIMER_OF = {2: "artim", 5: "associate", 6: "idle", 7: "release", 10: "release", 11: "release", 13: "artim"}


@every("with_reader", [False, True])
@every("state, route, build", ROUTES)
def test_each_state_that_waits_for_the_peer_has_one_timer(state, route, build, with_reader):
    upper = bring(build, now=START, timeouts=TIMEOUTS, with_reader=with_reader)
    timer = TIMER_OF.get(state)
    if timer is None:
        assert upper.deadline is None  # it is the owner's turn, or nobody's
        upper.tick(1e9)
        assert upper.state is state
        return
    seconds = getattr(TIMEOUTS, timer)
    assert upper.deadline == START + seconds
    upper.tick(START + seconds - 0.001)
    assert upper.state is state
    upper.tick(START + seconds)
    if timer == "artim":
        assert upper.closed
        assert upper.events() == []
    else:
        assert sent_by(upper) == Abort(0, 0).encode()
        (abort,) = upper.events()
        assert (abort.timer, abort.source, abort.by_peer, abort.lost) == (timer, 0, False, False)
        assert f"{seconds:g} s" in abort.detail
        assert upper.deadline == START + seconds + TIMEOUTS.artim


@every("state, route, build", ROUTES)
def test_a_timer_that_is_off_never_expires(state, route, build):
    off = Timeouts(associate=None, response=None, progress=None, idle=None, release=None, artim=None)
    upper = bring(build, timeouts=off)
    assert upper.deadline is None
    upper.tick(1e9)
    assert upper.state is state


DRIP = {
    2: RQ.encode(),
    5: AC.encode(),
    7: ReleaseRP().encode(),
    10: ReleaseRP().encode(),
    11: ReleaseRP().encode(),
    13: ReleaseRQ().encode(),
}


@pytest.mark.parametrize(("state", "route", "build"), [r for r in ROUTES if r[0] in DRIP])
def test_an_answer_that_drips_in_does_not_put_the_end_off(state, route, build):
    upper = bring(build, now=START, timeouts=TIMEOUTS)
    deadline = upper.deadline
    for number, byte in enumerate(DRIP[state][:-1]):
        upper.tick(START + number / 100)
        upper.receive(bytes([byte]))
        assert upper.deadline == deadline
    upper.tick(deadline)
    assert upper.state is not state


def test_data_that_flows_on_after_our_release_request_does_not_put_its_end_off():
    for with_reader in (False, True):
        upper = bring(ROUTE[7], now=START, timeouts=TIMEOUTS, with_reader=with_reader)
        for number in range(10):
            upper.tick(START + number)
            upper.receive(DATA.encode())
        assert len(upper.events()) == 10
        assert upper.deadline == START + TIMEOUTS.release


def test_artim_runs_on_in_sta13_whatever_comes():
    upper = bring(ROUTE[13], now=START, timeouts=TIMEOUTS)
    for number, pdu in enumerate([RQ, AC, RJ, DATA, ReleaseRQ(), ReleaseRP()]):
        upper.tick(START + number)
        upper.receive(pdu.encode())
        assert upper.deadline == START + TIMEOUTS.artim
    upper.receive(b"\xff" * 100)
    upper.restart(START + 10)
    assert upper.deadline == START + TIMEOUTS.artim


def test_an_established_association_counts_its_silence_from_the_last_byte():
    upper = bring(ROUTE[6], now=START, timeouts=TIMEOUTS, with_reader=True)
    upper.tick(START + 100)
    upper.receive(DATA.encode())
    assert upper.deadline == START + 100 + TIMEOUTS.idle
    upper.tick(START + 110)
    upper.send([ECHO_PDV])
    assert upper.deadline == START + 110 + TIMEOUTS.idle
    upper.restart(START + 200)
    assert upper.deadline == START + 200 + TIMEOUTS.idle


@every("with_reader", [False, True])
@every("cut", range(1, len(DATA.encode())))
def test_a_message_that_has_begun_has_to_move_on(cut, with_reader):
    upper = bring(ROUTE[6], now=START, timeouts=TIMEOUTS, with_reader=with_reader)
    upper.receive(DATA.encode()[:cut])
    assert upper.deadline == START + TIMEOUTS.progress
    upper.tick(START + 40)
    upper.receive(DATA.encode()[cut:])
    assert upper.deadline == START + 40 + TIMEOUTS.idle


def test_between_the_fragments_of_a_message_the_progress_timer_runs_too():
    upper = bring(ROUTE[6], now=START, timeouts=TIMEOUTS, with_reader=True)
    upper.receive(PDataTF([PDV(1, ECHO[:10], True, False)]).encode())
    assert upper.deadline == START + TIMEOUTS.progress
    upper.tick(START + TIMEOUTS.progress)
    (abort,) = upper.events()
    assert abort.timer == "progress"


PACE = 64 * TIMEOUTS.progress  # bytes that must come in each period, by default
SLOW = 8 * PDataTF([PDV(1, bytes(PACE), True, False)]).encode()


def drip(upper, data, per_second, seconds, *, heard=False):
    """Give so many bytes each second, as a driver does; the second in which the association ended, or None."""
    for second in range(1, seconds + 1):
        if heard:
            upper.restart(START + second, True)
        else:
            upper.tick(START + second)
        if upper.established:
            upper.receive(data[(second - 1) * per_second : second * per_second])
            if upper.deadline <= START + second:
                upper.tick(START + second)
        if not upper.established:
            return second
    return None


@pytest.mark.parametrize("waiting", [False, True], ids=["provider", "user"])
@pytest.mark.parametrize("heard", [False, True], ids=["blocking", "asyncio"])
@pytest.mark.parametrize("per_second", [1, 60])
def test_a_drip_is_no_progress(waiting, heard, per_second):
    upper = bring(ROUTE[6], now=START, timeouts=TIMEOUTS, with_reader=True)
    upper.wait_for_response(waiting)
    ended = drip(upper, SLOW, per_second, 1000, heard=heard)
    assert ended is not None
    assert TIMEOUTS.progress <= ended <= TIMEOUTS.progress + 1
    (abort,) = upper.events()
    assert abort.timer == "progress"
    assert "bytes of a message" in abort.detail
    assert upper.outgoing() == [Abort(0, 0).encode()]


@pytest.mark.parametrize("heard", [False, True], ids=["blocking", "asyncio"])
@pytest.mark.parametrize("per_second", [66, 240])
def test_a_slow_line_is_no_drip(heard, per_second):
    upper = bring(ROUTE[6], now=START, timeouts=TIMEOUTS, with_reader=True)
    assert drip(upper, SLOW, per_second, len(SLOW) // per_second + 1, heard=heard) is None


def test_a_pause_is_no_drip_and_neither_is_a_short_message():
    upper = bring(ROUTE[6], now=START, timeouts=TIMEOUTS, with_reader=True)
    for pause in range(1, 6):
        upper.receive(SLOW[(pause - 1) * PACE : pause * PACE])
        upper.tick(START + pause * (TIMEOUTS.progress - 1))
        assert upper.established
    upper = bring(ROUTE[6], now=START, timeouts=TIMEOUTS, with_reader=True)
    for second in range(0, 1000, 40):
        upper.tick(START + second)
        upper.receive(DATA.encode()[:20])
        upper.tick(START + second + 20)
        upper.receive(DATA.encode()[20:])
        assert upper.established


def test_what_the_owner_takes_is_not_counted():
    upper = bring(ROUTE[6], now=START, timeouts=TIMEOUTS, with_reader=True)
    upper.receive(SLOW[:10])
    upper.restart(START + 1000)
    assert upper.deadline == START + 1000 + TIMEOUTS.progress
    upper.tick(START + 1000)
    assert upper.established


def test_the_pace_can_be_left_to_the_peer():
    for limits, timeouts in ((Limits(least_rate=0), TIMEOUTS), (Limits(), Timeouts(progress=None, idle=None))):
        upper = bring(ROUTE[6], now=START, timeouts=timeouts, with_reader=True, limits=limits)
        upper.receive(SLOW[:10])
        upper.tick(START + 10)
        upper.receive(SLOW[10:11])
        assert upper.deadline == (None if timeouts.progress is None else START + 10 + timeouts.progress)


def test_who_waits_for_a_response_says_so():
    upper = bring(ROUTE[6], now=START, timeouts=TIMEOUTS, with_reader=True)
    upper.tick(START + 10)
    upper.wait_for_response(True)
    assert upper.deadline == START + 10 + TIMEOUTS.response
    upper.receive(DATA.encode()[:20])
    assert upper.deadline == START + 10 + TIMEOUTS.progress  # a response that has begun has to move on, too
    upper.wait_for_response(False)
    assert upper.deadline == START + 10 + TIMEOUTS.progress
    upper.wait_for_response(True)
    upper.receive(DATA.encode()[20:])
    assert upper.deadline == START + 10 + TIMEOUTS.response
    upper.tick(upper.deadline)
    assert upper.events()[-1].timer == "response"


@pytest.mark.parametrize("build", [requestor, connected, opened, lambda upper: established(upper, REQUESTOR)])
def test_timers_set_before_the_first_word_of_the_time_count_from_it(build):
    """Monotonic clocks start anywhere: an association made before the owner told the time is not too old at once."""
    upper = build(UpperLayer(timeouts=TIMEOUTS))
    state = upper.state
    upper.tick(5_000_000.0)
    assert upper.state is state
    if state != 4:
        assert upper.deadline == 5_000_000.0 + getattr(TIMEOUTS, TIMER_OF[state])


def test_the_verbs_of_the_transport_start_artim_at_the_time_that_was_told():
    upper = UpperLayer(timeouts=TIMEOUTS)
    upper.tick(START)
    upper.transport_opened()
    assert upper.deadline == START + TIMEOUTS.artim
