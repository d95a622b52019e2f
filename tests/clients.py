"""Clients of both faces behind one blocking interface, for the tests of the client framework."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import rig

from dicomnet.client import events

FACES = ("sync", "aio")


class Clients:
    """Makes the classes of one face, with blocking manners, and ends them.

    Args:
        face: "sync" or "aio".
    """

    def __init__(self, face: str) -> None:
        self.face = face
        self.module = import_module("dicomnet.client" if face == "sync" else "dicomnet.client.aio")
        self._loop = rig.Loop() if face == "aio" else None

    def handler(self, function: Any) -> Any:
        """A handler as people write it with this face."""
        if self._loop is None:
            return function

        async def awaited(event: Any) -> Any:
            return function(event)

        return awaited

    @contextmanager
    def make(self, name: str, *arguments: Any, cls: type | None = None, **options: Any) -> Iterator[Any]:
        """An instance of a class of the framework, for the block."""
        with self.within((cls or getattr(self.module, name))(*arguments, **options)) as made:
            yield made

    @contextmanager
    def within(self, made: Any) -> Iterator[Any]:
        """The block of something of this face that is a context."""
        if self._loop is None:
            with made:
                yield made
            return
        self._loop.run(made.__aenter__())
        try:
            yield rig.Blocking(self._loop, made)
        except BaseException as error:
            self._loop.run(made.__aexit__(type(error), error, None))
            raise
        self._loop.run(made.__aexit__(None, None, None))

    def client(self, peer: Any, **options: Any) -> Any:
        """A client for a block."""
        return self.make("Client", peer, **options)

    def itself(self, made: Any) -> Any:
        """What `make` made, without its blocking manners."""
        return made if self._loop is None else made._association

    def tasks(self) -> list[str]:
        """The tasks that run on the loop, but for the one that waits for connections to go idle."""
        if self._loop is None:
            return []

        async def running() -> list[str]:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            return sorted(task.get_name() for task in others if task.get_name() != "dicomnet-client-idle")

        return list(self._loop.run(running()))

    def close(self) -> None:
        if self._loop is not None:
            self._loop.close()


class Watching:
    """How many associations a provider has had."""

    def __init__(self, made: Clients, client: Any) -> None:
        self.seen: list[Any] = []
        for kind in (events.AfterAssociate, events.AfterRelease, events.Aborted, events.Closed):
            client.on(kind)(made.handler(self.seen.append))

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.seen]
