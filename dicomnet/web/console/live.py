"""What pages show of what happens now: parts of pages, made once for all who look at them, by server-sent events.

A topic is a part of a page, such as the clients of one server. While browsers follow it, one task looks when the server
tells of an event, at most once in `PACE` seconds, and each `TICK` seconds for what no event tells; a follower that is
slow gets the latest part, and not those between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ...errors import DicomNetError
from ...log import log_failure
from ..problems import Problem
from ..users import ROLES
from .desk import Desk

__all__ = ["Live", "Topic"]

#: Seconds from an event to a look, and between two looks at most; after which a stream says that it is there; and which
#: it lasts: a browser comes back by itself, and has to be logged in still.
PACE, TICK, HEARTBEAT, LONGEST = 0.5, 5.0, 15.0, 600.0
#: Followers of all topics.
MOST_FOLLOWERS = 1000
#: The events after which a part may look otherwise; not those of each message.
_TYPES = ("server", "client.connected", "client.associated", "client.disconnected", "ae", "addin", "workstation.job")

Look = Callable[[], Any]


@dataclass
class Topic:
    """A part of a page that is followed.

    Attributes:
        template: of the part.
        look: gives its values.
        servers: the names of the servers whose events it depends on; None is all.
        parts: by role, as of the latest look.
    """

    template: str
    look: Look
    servers: tuple[str, ...] | None = None
    base: str = ""
    parts: dict[str, bytes] = field(default_factory=dict)
    number: int = 0
    followers: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Live:
    """The topics that are followed now; for use in one event loop.

    Args:
        desk: the servers.
        rendered: fills in a template.
    """

    def __init__(self, desk: Desk, rendered: Callable[..., str]) -> None:
        self._desk = desk
        self._rendered = rendered
        self._topics: dict[str, Topic] = {}
        self._followers = 0

    def follow(self, key: str, new: Callable[[], Topic], role: str) -> AsyncIterator[bytes]:
        """The stream of a topic for one browser.

        Args:
            key: of the topic; the same for all who see the same.
            new: makes it for its first follower.
            role: of the user.

        Raises:
            Problem: 503, there are too many followers.
        """
        if self._followers >= MOST_FOLLOWERS:
            raise Problem(503, f"there are {MOST_FOLLOWERS} followers already", headers={"Retry-After": "30"})
        return self._followed(key, new, role)

    async def _followed(self, key: str, new: Callable[[], Topic], role: str) -> AsyncIterator[bytes]:
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = new()
            topic.task = asyncio.create_task(self._run(topic))
        topic.followers += 1
        self._followers += 1
        try:
            async for piece in _pieces(topic, role):
                yield piece
        finally:
            topic.followers -= 1
            self._followers -= 1
            if not topic.followers and topic.task is not None:
                topic.task.cancel()
                self._topics.pop(key, None)

    async def _run(self, topic: Topic) -> None:
        wake = asyncio.Event()
        watchers: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                wake.clear()
                try:
                    await self._look(topic)
                    self._watch(topic, wake, watchers)
                except Exception as error:  # those who follow it see the next look
                    log_failure("a part of a page cannot be brought up to date", error)
                with suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), TICK)
        finally:
            for task in watchers.values():
                task.cancel()

    async def _look(self, topic: Topic) -> None:
        try:
            values: Mapping[str, Any] = await topic.look()
        except DicomNetError as error:
            values = {"failure": str(error)}
        parts = {
            role: _event(self._rendered(topic.template, base=topic.base, role=role, **{"failure": "", **values}))
            for role in ROLES
        }
        if parts != topic.parts:
            topic.parts, topic.number = parts, topic.number + 1
            changed, topic.changed = topic.changed, asyncio.Event()
            changed.set()

    def _watch(self, topic: Topic, wake: asyncio.Event, watchers: dict[str, asyncio.Task[None]]) -> None:
        """Hear the events of each server that runs and is not heard yet."""
        for server in self._desk.all():
            mine = topic.servers is None or server.name in topic.servers
            if mine and server.process() is not None and (server.name not in watchers or watchers[server.name].done()):
                watchers[server.name] = asyncio.create_task(self._hear(server.name, wake))

    async def _hear(self, name: str, wake: asyncio.Event) -> None:
        """Have the topic looked at a moment after an event: what happens at once is one change.

        Where the server cannot be heard, the next look tries again, a moment later too.
        """
        loop = asyncio.get_running_loop()
        due = 0.0
        with suppress(DicomNetError, Problem):
            client = self._desk.client(self._desk.find(name))
            last = (await client.status())["last_event"]
            loop.call_later(PACE, wake.set)  # what happened until then is seen by a look from now on
            async for _ in client.events(last, *_TYPES):
                if loop.time() >= due:
                    due = loop.time() + PACE
                    loop.call_later(PACE, wake.set)
        loop.call_later(PACE, wake.set)


async def _pieces(topic: Topic, role: str) -> AsyncIterator[bytes]:
    yield b"retry: 2000\n\n"
    seen, loop = 0, asyncio.get_running_loop()
    until = loop.time() + LONGEST
    while loop.time() < until:
        changed = topic.changed
        if topic.number != seen:
            seen = topic.number
            yield topic.parts[role]
            continue
        try:
            await asyncio.wait_for(changed.wait(), HEARTBEAT)
        except TimeoutError:
            yield b":\n\n"


def _event(part: str) -> bytes:
    """A part of a page as an event, each of its lines in one of data."""
    lines = "".join(f"data: {line}\n" for line in part.splitlines() if line.strip())
    return f"event: part\n{lines}\n".encode()
