"""What passes messages on to others from the outbox: a thread for each destination, so that none holds up another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from ..log import log_failure
from ..repository.outbox import Item
from .holdings import Holdings

__all__ = ["Forwarder"]

_LEASE = 300.0  # seconds for one message
_MOST_PAUSE = 30.0  # seconds between two looks at the queue: another process may have put something there
_LEAST_PAUSE = 1.0  # what is due may wait behind something that is parked
_PAUSE_AFTER_TROUBLE = 10.0


class Forwarder:
    """Passes on what is due in a queue of the outbox; see `forward` of what is made from this.

    Args:
        holdings: where the outbox is.
        queue: its name.
        destinations: to which of them.
        clock: seconds since 1970; the database's by default.
    """

    def __init__(
        self, holdings: Holdings, queue: str, destinations: Sequence[str], *, clock: Callable[[], float] | None = None
    ) -> None:
        self._holdings, self._queue, self._destinations = holdings, queue, destinations
        self._clock: Callable[[], float] = clock or holdings.database.clock
        self._wakes = {one: threading.Event() for one in destinations}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def forward(self, item: Item) -> None:
        """Pass on one message, and say in the outbox what became of it."""
        raise NotImplementedError

    def wake(self) -> None:
        """There is something to pass on."""
        for event in self._wakes.values():
            event.set()

    def start(self) -> None:
        """Pass on what waits, from before now too, in threads of its own."""
        for one in self._destinations:
            name = f"dicomnet-{self._queue}-{one}"
            thread = threading.Thread(target=self._run, args=(one,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, destination: str) -> None:
        wake = self._wakes[destination]
        while not self._stop.is_set():
            wake.clear()
            try:
                pause = 0.0 if self.forward_due(destination) else self._pause()
            except Exception as error:
                log_failure(f"the queue {self._queue} cannot be looked at", error)
                pause = _PAUSE_AFTER_TROUBLE
            wake.wait(pause)

    def _pause(self) -> float:
        due = self._holdings.outbox.next_due(self._queue)
        return _MOST_PAUSE if due is None else min(max(due - self._clock(), _LEAST_PAUSE), _MOST_PAUSE)

    def forward_due(self, destination: str) -> int:
        """Pass on what is due for a destination; how many messages that were."""
        owner = f"{self._queue}-{id(self):x}"
        items = self._holdings.outbox.lease(self._queue, owner, seconds=_LEASE, destination=destination)
        for item in items:
            self.forward(item)
        return len(items)

    def close(self) -> None:
        """Pass nothing more on; what waits stays."""
        self._stop.set()
        self.wake()
        for thread in self._threads:
            thread.join()
