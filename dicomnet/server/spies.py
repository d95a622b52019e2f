"""Add-ins that see PDUs and messages: each in a thread of its own, from a bounded queue, so that none stalls us."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..config import TAPPED_WAITING
from ..log import log_failure
from ..protocol.seen import Seen
from ..protocol.trace import ProtocolTrace
from ..protocol.watch import SeenQueue

__all__ = ["Spies", "Spy"]


#: Seconds in which what is seen gathers after a look, unless half of the room is taken before: to wake a thread for
#: each PDU costs more than all else.
GATHER = 0.05


class Spy:
    """One who sees: what it has no time for is counted and dropped.

    Args:
        name: the add-in's.
        function: called with each that is seen, in the spy's own thread.
        most: as many may wait.

    Attributes:
        queue: where what is seen waits for its thread.
        failures: how often it raised.
    """

    def __init__(self, name: str, function: Callable[[Seen], object], most: int = TAPPED_WAITING) -> None:
        self.name = name
        self.failures: int = 0
        self._function = function
        self._wake, self._crowded, self._stopped = threading.Event(), threading.Event(), False
        self.queue: SeenQueue = SeenQueue(most, self._wake.set, self._crowded.set)
        self._thread = threading.Thread(target=self._run, name=f"dicomnet-spy-{name}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How much it has missed."""
        return self.queue.dropped

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait()
            self._look()
            self._crowded.wait(GATHER)
        self._look()

    def _look(self) -> None:
        self._wake.clear()
        self._crowded.clear()
        function = self._function  # to look it up for each would take half as long as to make what was seen
        for seen in self.queue.take():
            try:
                function(seen)
            except Exception as error:
                self.failures += 1
                if self.failures == 1:  # the first says it; a spy that fails with each PDU must not fill the log
                    log_failure(f"the spy of add-in {self.name} failed", error)

    def stop(self, patience: float = 5.0) -> None:
        """Let it see what waits, for so many seconds, and end it."""
        self._stopped = True
        self._wake.set()
        self._crowded.set()
        self._thread.join(patience)


class Spies:
    """All spies of a server, behind one tap."""

    def __init__(self) -> None:
        self._spies: tuple[Spy, ...] = ()

    def all(self) -> tuple[Spy, ...]:
        """Each of them."""
        return self._spies

    @property
    def dropped(self) -> dict[str, int]:
        """How much each has missed."""
        return {spy.name: spy.dropped for spy in self._spies}

    def add(self, spy: Spy) -> None:
        """One more."""
        self._spies += (spy,)

    def remove(self, name: str) -> None:
        """End the spy of an add-in, if it has one."""
        gone = [spy for spy in self._spies if spy.name == name]
        self._spies = tuple(spy for spy in self._spies if spy.name != name)
        for spy in gone:
            spy.stop()

    def names(self) -> set[str]:
        """Whose there are."""
        return {spy.name for spy in self._spies}

    def tap(self, *, data: bool = False) -> ProtocolTrace | None:
        """For the listeners; None where there are no spies, so that nothing is spent on them."""
        if not self._spies:
            return None
        tell = self._spies[0].queue if len(self._spies) == 1 else self._tell
        return ProtocolTrace(tell, body=None if data else 16 << 10, data=data)

    def _tell(self, seen: Seen) -> None:
        for spy in self._spies:
            spy.queue(seen)

    def stop(self) -> None:
        """End all."""
        for spy in self._spies:
            spy.stop()
        self._spies = ()
