"""The log of events, without a server: what others do meanwhile, and numbers that callers make up."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

import pytest
from collecting import CONTAINERS, collecting

from dicomnet.server.clients import Clients
from dicomnet.server.events import Event, EventLog
from dicomnet.server.noting import Noted


class Happened(Noted):
    """What happens often."""

    kind = "server.test"

    def event(self) -> Event:
        return Event(self.number, self.time, self.kind, {})


class Publishing(Happened):
    """What publishes as an event is made of it."""

    def __init__(self, events: EventLog) -> None:
        self.events = events

    def event(self) -> Event:
        if self.events.last_id == self.number:
            self.events.publish("server.more", {})
        return super().event()


class Kind(str):
    """A type at which something happens as it is looked at."""

    __slots__ = ("meanwhile",)

    def startswith(self, *prefix: Any) -> bool:
        self.meanwhile()
        return super().startswith(*prefix)


class Busy(int):
    """An id that is looked at while something happens."""

    events: EventLog

    def __gt__(self, other: int) -> bool:
        note(self.events)
        return int(self) > other

    def __lt__(self, other: int) -> bool:
        note(self.events)
        return int(self) < other


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


@pytest.mark.parametrize("last", [11, 12, 13, 10_000, (1 << 62) - 1, 1 << 62, 1 << 63, 1 << 70])
def test_what_happens_while_an_id_from_the_future_is_looked_at_is_not_lost(last):
    events = EventLog(100)
    note(events, 10)
    asked = Busy(last)
    asked.events = events
    found = [one.id for one in events.since(asked)]
    assert events.last_id > 10
    assert found == list(range(last + 1, events.last_id + 1)) or found == list(range(events.last_id + 1))


def test_a_follower_goes_on_though_something_is_published_while_it_looks():
    events = EventLog()
    events.note(Publishing(events))

    async def follow() -> list[str]:
        following = events.follow(0)
        return [(await anext(following)).type for _ in range(2)]

    assert asyncio.run(follow()) == ["server.test", "server.more"]
    assert events._waiting == {}


def test_a_follower_gets_what_was_published_before_the_stop():
    events = EventLog(100)

    async def follow() -> list[int]:
        following, seen = events.follow(0), list[int]()
        note(events)
        async for event in following:
            seen.append(event.id)
            if len(seen) == 1:
                note(events, 98)  # more than are given at a time
                events.publish("server.stopping", {})
                events.stop()
        return seen

    assert asyncio.run(follow()) == list(range(1, 101))
    assert events._waiting == {}


def test_who_listens_hears_of_all_though_another_ends():
    events, heard = EventLog(), []
    first = ExitStack()
    first.callback(events.listen(lambda event: None))
    events.listen(heard.append)
    kind = Kind("server.test")
    kind.meanwhile = first.close
    events.publish(kind, {})
    assert [one.id for one in heard] == [1]


def test_to_wait_until_all_are_gone_leaves_no_listener(monkeypatch):
    events, told = EventLog(), []
    clients = Clients(events)
    monkeypatch.setattr(clients, "changed", lambda: told.append(True))
    clients.quiesce(lambda: 0.0, 1.0)
    events.publish("client.action", {})
    assert told == []
