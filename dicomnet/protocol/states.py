"""The state machine of the DICOM upper layer: PS3.8 Table 9-10 as data, and nothing else.

Reading the table: a row is an event, a column a state; a cell names the action and the state that follows it. An empty
cell (``--``) cannot legally happen: from the local user it is an error of the caller, from the peer it only exists
where there is no connection. Two cells choose their next state while they run (PS3.8 Section 9.2.3):

- ``AE_6`` goes to Sta3 if the service provider can accept the request, else it rejects and goes to Sta13;
- ``AR_8`` goes to Sta9 if we requested the association, else to Sta10.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

__all__ = ["TABLE", "Action", "Cell", "Event", "State"]


class State(IntEnum):
    """The thirteen states (PS3.8 Tables 9-1 to 9-5)."""

    STA1_IDLE = 1
    STA2_TRANSPORT_OPEN = 2
    STA3_AWAIT_LOCAL_ASSOCIATE_RESPONSE = 3
    STA4_AWAIT_TRANSPORT_CONNECTION = 4
    STA5_AWAIT_ASSOCIATE_RESPONSE = 5
    STA6_ESTABLISHED = 6
    STA7_AWAIT_RELEASE_RP = 7
    STA8_AWAIT_LOCAL_RELEASE_RESPONSE = 8
    STA9_COLLISION_REQUESTOR_AWAIT_LOCAL = 9
    STA10_COLLISION_ACCEPTOR_AWAIT_RP = 10
    STA11_COLLISION_REQUESTOR_AWAIT_RP = 11
    STA12_COLLISION_ACCEPTOR_AWAIT_LOCAL = 12
    STA13_AWAIT_TRANSPORT_CLOSE = 13


class Event(IntEnum):
    """The nineteen events (PS3.8 Table 9-10, first column), numbered as in the standard."""

    ASSOCIATE_REQUEST = 1
    TRANSPORT_CONFIRM = 2
    RECV_ASSOCIATE_AC = 3
    RECV_ASSOCIATE_RJ = 4
    TRANSPORT_INDICATION = 5
    RECV_ASSOCIATE_RQ = 6
    ASSOCIATE_RESPONSE_ACCEPT = 7
    ASSOCIATE_RESPONSE_REJECT = 8
    P_DATA_REQUEST = 9
    RECV_P_DATA_TF = 10
    RELEASE_REQUEST = 11
    RECV_RELEASE_RQ = 12
    RECV_RELEASE_RP = 13
    RELEASE_RESPONSE = 14
    ABORT_REQUEST = 15
    RECV_ABORT = 16
    TRANSPORT_CLOSED = 17
    ARTIM_EXPIRED = 18
    RECV_INVALID_PDU = 19


class Action(IntEnum):
    """The twenty-eight actions (PS3.8 Tables 9-6 to 9-9)."""

    AE_1 = 1
    AE_2 = 2
    AE_3 = 3
    AE_4 = 4
    AE_5 = 5
    AE_6 = 6
    AE_7 = 7
    AE_8 = 8
    DT_1 = 9
    DT_2 = 10
    AR_1 = 11
    AR_2 = 12
    AR_3 = 13
    AR_4 = 14
    AR_5 = 15
    AR_6 = 16
    AR_7 = 17
    AR_8 = 18
    AR_9 = 19
    AR_10 = 20
    AA_1 = 21
    AA_2 = 22
    AA_3 = 23
    AA_4 = 24
    AA_5 = 25
    AA_6 = 26
    AA_7 = 27
    AA_8 = 28


Cell = tuple[Action, tuple[State, ...]]

# One line per event; the columns are Sta1 to Sta13. "AE-6>3|13" reads: action AE-6, then Sta3 or Sta13.
_TABLE_9_10 = """
 1 AE-1>4 --        --      --     --      --      --        --      --      --       --      --      --
 2 --     --        --      AE-2>5 --      --      --        --      --      --       --      --      --
 3 --     AA-1>13   AA-8>13 --     AE-3>6  AA-8>13 AA-8>13   AA-8>13 AA-8>13 AA-8>13  AA-8>13 AA-8>13 AA-6>13
 4 --     AA-1>13   AA-8>13 --     AE-4>1  AA-8>13 AA-8>13   AA-8>13 AA-8>13 AA-8>13  AA-8>13 AA-8>13 AA-6>13
 5 AE-5>2 --        --      --     --      --      --        --      --      --       --      --      --
 6 --     AE-6>3|13 AA-8>13 --     AA-8>13 AA-8>13 AA-8>13   AA-8>13 AA-8>13 AA-8>13  AA-8>13 AA-8>13 AA-7>13
 7 --     --        AE-7>6  --     --      --      --        --      --      --       --      --      --
 8 --     --        AE-8>13 --     --      --      --        --      --      --       --      --      --
 9 --     --        --      --     --      DT-1>6  --        AR-7>8  --      --       --      --      --
10 --     AA-1>13   AA-8>13 --     AA-8>13 DT-2>6  AR-6>7    AA-8>13 AA-8>13 AA-8>13  AA-8>13 AA-8>13 AA-6>13
11 --     --        --      --     --      AR-1>7  --        --      --      --       --      --      --
12 --     AA-1>13   AA-8>13 --     AA-8>13 AR-2>8  AR-8>9|10 AA-8>13 AA-8>13 AA-8>13  AA-8>13 AA-8>13 AA-6>13
13 --     AA-1>13   AA-8>13 --     AA-8>13 AA-8>13 AR-3>1    AA-8>13 AA-8>13 AR-10>12 AR-3>1  AA-8>13 AA-6>13
14 --     --        --      --     --      --      --        AR-4>13 AR-9>11 --       --      AR-4>13 --
15 --     --        AA-1>13 AA-2>1 AA-1>13 AA-1>13 AA-1>13   AA-1>13 AA-1>13 AA-1>13  AA-1>13 AA-1>13 --
16 --     AA-2>1    AA-3>1  --     AA-3>1  AA-3>1  AA-3>1    AA-3>1  AA-3>1  AA-3>1   AA-3>1  AA-3>1  AA-2>1
17 --     AA-5>1    AA-4>1  AA-4>1 AA-4>1  AA-4>1  AA-4>1    AA-4>1  AA-4>1  AA-4>1   AA-4>1  AA-4>1  AR-5>1
18 --     AA-2>1    --      --     --      --      --        --      --      --       --      --      AA-2>1
19 --     AA-1>13   AA-8>13 --     AA-8>13 AA-8>13 AA-8>13   AA-8>13 AA-8>13 AA-8>13  AA-8>13 AA-8>13 AA-7>13
"""


@lru_cache  # most cells are alike
def _cell(text: str) -> Cell:
    action, _, states = text.partition(">")
    return Action[action.replace("-", "_")], tuple(State(int(state)) for state in states.split("|"))


def _parse(table: str) -> dict[tuple[Event, State], Cell]:
    rows = (line.split() for line in table.strip().splitlines())
    columns = tuple(State)
    return {
        (Event(int(event)), state): _cell(text)
        for event, *cells in rows
        for state, text in zip(columns, cells, strict=True)
        if text != "--"
    }


TABLE: dict[tuple[Event, State], Cell] = _parse(_TABLE_9_10)
