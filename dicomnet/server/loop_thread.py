"""The server's event loop, in a thread of its own: the admin interface and asynchronous handlers run in it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["LoopThread"]

_T = TypeVar("_T")


class LoopThread:
    """An event loop that runs in a thread between `start` and `stop`."""

    def __init__(self, name: str) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._ready = threading.Event()

    def start(self) -> None:
        """Run it."""
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(self._ready.set)
        self._loop.run_forever()
        self._end(self._loop)

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, while it runs."""
        assert self._loop is not None, "the server's event loop has not been started"
        return self._loop

    @property
    def ident(self) -> int | None:
        """Of its thread."""
        return self._thread.ident

    def run(self, coroutine: Coroutine[Any, Any, _T], timeout: float | None = None) -> _T:
        """Run a coroutine there, and wait for it; from any other thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop()).result(timeout)

    def stop(self) -> None:
        """End it, and what runs in it."""
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
