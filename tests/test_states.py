"""The state table, cell by cell, against the standard's own (PS3.8 Table 9-10)."""

import re
from pathlib import Path

import pytest
from cases import every
from driving import STANDARD

from dicomnet.protocol import states
from dicomnet.protocol.states import Action, Event, State

NUMBERS = (Path(states.__file__).parent / "states.pxd").read_text(encoding="utf-8")
CELLS = [(event, state) for event in Event for state in State]


def test_there_are_247_cells_of_which_123_are_filled():
    assert len(CELLS) == 247
    assert len(states.TABLE) == STANDARD["fsm"]["nonblank_cells"] == 123


@every("event, state", CELLS)
def test_a_cell_is_what_the_standard_says(event, state):
    cell = STANDARD["fsm"]["table"][f"Evt{event}"][f"Sta{state}"]
    if cell is None:
        assert (event, state) not in states.TABLE
    else:
        action, following = states.TABLE[event, state]
        assert action.name.replace("_", "-") == cell["action"]
        assert [f"Sta{state}" for state in following] == cell["next"]


def test_only_two_cells_choose_their_next_state():
    choosing = {
        f"Evt{event}/Sta{state}" for (event, state), (_, following) in states.TABLE.items() if len(following) > 1
    }
    assert choosing == set(STANDARD["fsm"]["two_way_cells"])


def test_every_action_of_the_standard_is_used():
    assert {action.name.replace("_", "-") for action in Action} == set(STANDARD["actions"])
    assert {action for action, _ in states.TABLE.values()} == set(Action)


@every("action", Action)
def test_an_action_leads_where_its_own_description_says(action):
    leads = {following for used, following in states.TABLE.values() if used is action}
    assert [[f"Sta{state}" for state in following] for following in leads] == [
        STANDARD["actions"][action.name.replace("_", "-")]["next"]
    ]


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_nothing_a_peer_can_send_is_without_an_answer_while_there_is_a_connection(state):
    if state not in (State.STA1_IDLE, State.STA4_AWAIT_TRANSPORT_CONNECTION):
        for event in (3, 4, 6, 10, 12, 13, 16, 17, 19):
            assert (Event(event), state) in states.TABLE


@pytest.mark.parametrize("kind", [State, Event], ids=lambda kind: kind.__name__)
def test_the_runner_knows_them_by_the_same_numbers(kind):
    (members,) = re.findall(rf"^cdef enum {kind.__name__}:\n((?:    .*\n)+)", NUMBERS, re.MULTILINE)
    assert {name: int(number) for name, number in re.findall(r"(\w+) = (\d+)", members)} == dict(kind.__members__)
