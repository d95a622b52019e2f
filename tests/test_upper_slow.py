"""T-SLOW: whatever a peer does slowly, in any state in which it is its turn, the connection is closed in bounded time.

A byte, or a PDU that means nothing, each second; the clock is an argument. In the states that are left out (Sta3, Sta8,
Sta9, Sta12) it is our user's turn, who has time-outs of its own.
"""

from itertools import chain, repeat

import pytest
from cases import every
from driving import DATA, ECHO, ROUTES, RQ, bring

from dicomnet._pdu import PDV, PDataTF
from dicomnet.config import Limits, Timeouts

TIMEOUTS = Timeouts(associate=30, response=60, progress=60, idle=300, release=15, artim=20)
START = 1000.0
#: The timer of the state, and ARTIM for the close after our A-ABORT. An established association may have been idle
#: before it is seen whether there is progress.
LONGEST = {
    2: 2 * TIMEOUTS.artim,  # our A-ABORT starts it anew
    5: TIMEOUTS.associate + TIMEOUTS.artim,
    6: TIMEOUTS.idle + TIMEOUTS.progress + TIMEOUTS.artim + 1,
    7: TIMEOUTS.release + TIMEOUTS.artim,
    10: TIMEOUTS.release + TIMEOUTS.artim,
    11: TIMEOUTS.release + TIMEOUTS.artim,
    13: TIMEOUTS.artim,
}
WAITING = [route for route in ROUTES if route[0] in LONGEST]


LONG = PDataTF([PDV(1, ECHO + bytes(16000 - len(ECHO)), True, False)]).encode()
EMPTY = PDataTF([PDV(1, b"", True, False)]).encode()
DISTANT = Limits(empty_pdvs=1_000_000, command_set=1 << 20)  # it is the time that has to end these


def each(data):
    """Byte by byte."""
    return [data[at : at + 1] for at in range(len(data))]


#: What comes in each second, until nothing comes any more.
PATTERNS = {
    "silence": [],
    "one byte": [b"\4"],
    "a header, byte by byte": each(LONG[:6]),
    "a header": [LONG[:6]],
    "a request, byte by byte": each(RQ.encode()),
    "a P-DATA-TF, byte by byte": each(LONG),
    "fragments of one byte": [PDataTF([PDV(1, b"\0", True, False)]).encode()] * 16000,
    "empty fragments": [EMPTY] * 16000,
    "half a message after a long silence": [b""] * 290 + [DATA.encode()[:9]],
}


@pytest.mark.parametrize(("state", "route", "build"), WAITING, ids=lambda value: getattr(value, "name", None))
@every("pattern", PATTERNS)
def test_t_slow(state, route, build, pattern):
    upper = bring(build, now=START, timeouts=TIMEOUTS, limits=DISTANT, with_reader=True)
    for second, data in zip(range(1, 16000), chain(PATTERNS[pattern], repeat(b"")), strict=False):
        upper.tick(START + second)
        if upper.closed:
            break
        if data:
            upper.receive(data)
    assert upper.closed
    assert second <= LONGEST[state]
