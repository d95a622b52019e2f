"""What happens in a server, told to those who follow: numbered events, of which the latest are kept for all together.

A subscriber is a place in the one list of events, not a queue: one that stops costs nothing, and when it goes on after
what it missed was dropped, a `gap` says so. Whatever changes state holds `EventLog.lock` for the change and its
event, so that a snapshot of the state and the events after its id are the whole truth.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .noting import Noted, Notes

__all__ = ["Event", "EventLog", "Noted"]

#: Ids that are reserved in the database at a time; a server that starts anew goes on after them.
BLOCK = 1 << 32
_NEVER = 1 << 62  # an id that no event will have, in 64 bits
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        id: counts up, through restarts of the server too.
        time: seconds since the epoch.
        type: such as ``client.associated``; those of add-ins begin with their name.
        data: what there is to say, as JSON takes it.
    """

    id: int
    time: float
    type: str
    data: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """For the admin interface."""
        return {"id": self.id, "time": self.time, "type": self.type, "data": self.data}


class _Published(Noted):
    """What is kept of an event whose data are there already."""

    __slots__ = ("data", "kind")

    def __init__(self, kind: str, data: Mapping[str, Any]) -> None:
        self.kind = kind
        self.data = data

    def event(self) -> Event:
        return Event(self.number, self.time, self.kind, self.data)


class EventLog(Notes):
    """The latest events.

    Args:
        keep: how many.
        first: the id before that of the first one.
        clock: seconds since the epoch.
    """

    def __init__(self, keep: int = 10_000, *, first: int = 0, clock: Callable[[], float] = time.time) -> None:
        super().__init__(keep, first=first, clock=clock)
        self.stopped: bool = False
        self._listeners: list[tuple[str, Callable[[Event], object]]] = []

    def publish(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add an event; from any thread. ``data`` must not be changed any more."""
        published = _Published(kind, data)
        with self.lock:
            self._add(published)
            self._tell(published)

    def _tell(self, noted: Noted) -> bool:
        """Tell those who listen, and wake those who follow; under the lock. Whether any listens to this kind."""
        listeners = tuple(self._listeners)  # one may be taken away meanwhile
        listening = [listener for wanted, listener in listeners if noted.kind.startswith(wanted)]
        if listening:
            event = noted.event()
            for listener in listening:
                listener(event)
        waiting, self._waiting = self._waiting, {}
        _wake(waiting)
        return bool(listening)

    def listen(self, listener: Callable[[Event], object], kind: str = "") -> Callable[[], None]:
        """Have a function called with each event, under the lock: it must be quick. Call what is returned to end it.

        Args:
            listener: the function.
            kind: how the types of events begin that it is called with; empty is every event.
        """
        one = (kind, listener)
        with self.lock:
            self._listeners.append(one)
            self._unheard.clear()
        return lambda: self._listeners.remove(one)

    def since(self, last: int | None) -> list[Event]:
        """The events after an id, oldest first; before them a `gap` where some of those are not kept any more.

        An id from the future, as of another server, has missed all: it is told of a gap, too. None begins now.
        """
        if last is None:
            return []
        with self.lock:
            begin, kept = self._kept_after(min(max(last, -1), _NEVER))  # a caller may say any number
        events = [one.event() for one in kept]
        if begin == last + 1:
            return events
        gap = Event(begin - 1, self.now(), "gap", {"after": last, "missed": max(begin - 1 - last, 0)})
        return [gap, *events]

    async def follow(self, last: int | None = None, *, heartbeat: float | None = None) -> AsyncIterator[Event | None]:
        """The events after an id, and then each as it happens, up to the last one before the log is stopped.

        Args:
            last: the id; None begins now.
            heartbeat: give None after so many seconds in which nothing happened.
        """
        loop = asyncio.get_running_loop()
        at = self.last_id if last is None else last
        while True:
            with self.lock:
                wake = asyncio.Event()
                self._waiting[wake] = loop  # before it looks: what is noted does not wait for the lock
                found, stopped = self.since(at), self.stopped
                if found or stopped:
                    self._waiting.pop(wake, None)  # it is gone if what made these events published another
            for event in found[:_BATCH]:  # no more: what a subscriber holds that stops reading is held for it alone
                yield event
                at = event.id
            if found:
                continue
            if stopped:
                return
            try:
                await asyncio.wait_for(wake.wait(), heartbeat)
            except TimeoutError:
                yield None
            finally:
                with self.lock:
                    self._waiting.pop(wake, None)

    def stop(self) -> None:
        """End every `follow`, once it has given what was published before."""
        with self.lock:
            self.stopped = True
            waiting, self._waiting = self._waiting, {}
        _wake(waiting)


def _wake(waiting: Mapping[asyncio.Event, asyncio.AbstractEventLoop]) -> None:
    for wake, loop in waiting.items():
        try:
            loop.call_soon_threadsafe(wake.set)
        except RuntimeError:
            pass  # that loop has ended, and its subscriber with it
