"""The log of events, without a server: what others do meanwhile, and numbers that callers make up."""

from __future__ import annotations

import pytest
from collecting import CONTAINERS, collecting

from dicomnet.server.events import Event, EventLog
from dicomnet.server.noting import Noted


class Happened(Noted):
    """What happens often."""

    kind = "server.test"

    def event(self) -> Event:
        return Event(self.number, self.time, self.kind, {})


def note(events: EventLog, times: int = 1) -> None:
    for _ in range(times):
        events.note(Happened())


@pytest.mark.parametrize("number", CONTAINERS)
@pytest.mark.parametrize("already", [10, 30])
def test_what_is_noted_while_the_garbage_collector_runs_comes_once_and_in_order(already, number):
    events = EventLog(20)
    note(events, already)
    begin, kept = collecting(number, lambda: note(events, 5), lambda: events._kept_after(0))
    latest = kept[-1].number
    assert latest in {already, already + 5}
    assert [one.number for one in kept] == list(range(begin, latest + 1))
    assert len(kept) == min(latest, 20)


def test_a_log_keeps_no_less_than_nothing():
    with pytest.raises(ValueError, match="keep is 0 or more"):
        EventLog(-1)
