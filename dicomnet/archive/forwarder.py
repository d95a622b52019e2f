"""What passes messages on to others from the outbox: a thread for each destination, so that none holds up another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

from ..log import log
from ..repository.outbox import Item, Outbox
from ..repository.trouble import log_trouble
from .holdings import Holdings

__all__ = ["Forwarder", "until_due", "work_off"]

_LEASE = 300.0  # seconds for one message
_MOST_PAUSE = 30.0  # seconds between two looks at the queue: another process may have put something there
_LEAST_PAUSE = 1.0  # what is due may wait behind something that is parked
_PAUSE_AFTER_TROUBLE = 10.0


def work_off(
    due: Callable[[], int], pause: Callable[[], float], wake: threading.Event, stop: threading.Event, what: str
) -> None:
    """Do what is due, and wait for more, until ``stop`` is set, and ``wake`` after it.

    Args:
        due: does some of it; how much that was.
        pause: seconds until there may be more.
        wake: set when something came.
        stop: ends it.
        what: for the log: what failed where ``due`` did.
    """
    troubled = False
    while not stop.is_set():
        try:
            seconds = 0.0 if due() else pause()
            if troubled:
                log.info("over: %s", what)
            troubled = False
        except Exception as error:
            seconds = _PAUSE_AFTER_TROUBLE
            troubled = log_trouble(what, error, f"it is tried every {seconds:g} s, and nothing is lost", known=troubled)
        wake.wait(seconds)
        wake.clear()  # before the look at `stop`: what wakes for it would be forgotten after that


def until_due(outbox: Outbox, queue: str, clock: Callable[[], float], *, least: float = _LEAST_PAUSE) -> float:
    """Seconds until something in a queue is due, or another look is; no less than ``least``."""
    due = outbox.next_due(queue)
    return _MOST_PAUSE if due is None else min(max(due - clock(), least), _MOST_PAUSE)


class _Lane:
    """What serves one destination: a thread, once the one that served it before has ended.

    Args:
        run: serves, until ``stop`` is set, and ``wake`` after it.
        name: of the thread.
        before: served the destination before.
    """

    def __init__(self, run: Callable[[_Lane], None], name: str, before: _Lane | None) -> None:
        self.wake, self.stop = threading.Event(), threading.Event()
        self._run, self._before = run, before
        self.thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        if self._before is not None:
            self._before.thread.join()
            self._before = None
        self._run(self)

    def end(self) -> None:
        self.stop.set()
        self.wake.set()


class Forwarder:
    """Passes on what is due in a queue of the outbox; see `forward` of what is made from this.

    Args:
        holdings: where the outbox is.
        queue: its name.
        setting: the name of the setting that says to which destinations.
        clock: seconds since 1970; the database's by default.
    """

    def __init__(
        self, holdings: Holdings, queue: str, setting: str, *, clock: Callable[[], float] | None = None
    ) -> None:
        self._holdings, self._queue, self._setting = holdings, queue, setting
        self._clock: Callable[[], float] = clock or holdings.database.clock
        self._changing = threading.Lock()
        self._lanes: dict[str, _Lane] = {}
        self._ended: dict[str, _Lane] = {}
        self._closed = False

    @property
    def destinations(self) -> Sequence[str]:
        """To which it passes on now."""
        chosen: Sequence[str] = getattr(self._holdings.settings, self._setting)
        return chosen

    def forward(self, item: Item) -> None:
        """Pass on one message, and say in the outbox what became of it."""
        raise NotImplementedError

    def wake(self) -> None:
        """There is something to pass on."""
        for lane in tuple(self._lanes.values()):
            lane.wake.set()

    def start(self) -> None:
        """Pass on what waits, from before now too, in threads of its own; it follows the settings."""
        self._holdings.follow(self._follow)
        self._follow()

    def _follow(self) -> None:
        """Serve the destinations of the settings, and no others: what waits for those stays."""
        with self._changing:
            wanted = () if self._closed else self.destinations
            for one in self._lanes.keys() - set(wanted):
                self._ended[one] = self._lanes.pop(one)
                self._ended[one].end()
            for one in wanted:
                if one not in self._lanes:
                    run, name = partial(self._serve, one), f"dicomnet-{self._queue}-{one}"
                    self._lanes[one] = _Lane(run, name, self._ended.pop(one, None))

    def _serve(self, destination: str, lane: _Lane) -> None:
        what = f"the queue {self._queue} cannot be looked at"
        work_off(lambda: self.forward_due(destination), self._pause, lane.wake, lane.stop, what)

    def _pause(self) -> float:
        return until_due(self._holdings.outbox, self._queue, self._clock)

    def forward_due(self, destination: str) -> int:
        """Pass on what is due for a destination; how many messages that were."""
        owner = f"{self._queue}-{id(self):x}"
        items = self._holdings.outbox.lease(self._queue, owner, seconds=_LEASE, destination=destination)
        for item in items:
            self.forward(item)
        return len(items)

    def close(self) -> None:
        """Pass nothing more on; what waits stays."""
        self._closed = True
        self._follow()
        for lane in self._ended.values():
            lane.thread.join()
