"""Who is connected to a provider: associations, connections that have none, and how many of each are too many.

Both listeners keep this book in the thread of their loop, so that it takes no lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from math import inf
from typing import Generic, TypeVar

from ..config import Limits

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

__all__ = ["Connections", "most_connections"]

T = TypeVar("T")


#: Descriptors that connections leave to files: past it the oldest without an association makes room.
_SPARE_DESCRIPTORS = 16


def most_connections(newest: int) -> float:
    """How many connections the descriptors of this process are enough for, and some files beside them.

    Args:
        newest: the descriptor that was had last; those below it are in use.
    """
    most = inf if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return most - newest - _SPARE_DESCRIPTORS if most > 0 else inf


class Connections(Generic[T]):
    """The connections of a provider.

    A connection is pending from its first byte until it is admitted as an association, and again from the end of that
    until it is closed. Pending ones are bounded in all and for each host: past that the oldest is ended.

    Args:
        limits: gives the bounds, which may change.
        end: ends a connection at once.

    Attributes:
        pending: those without an association, and the host of each; the oldest first.
        admitted: the associations.
    """

    def __init__(self, limits: Callable[[], Limits], end: Callable[[T], object]) -> None:
        self._limits = limits
        self._end = end
        self._hosts: Counter[str] = Counter()
        self.pending: dict[T, str] = {}
        self.admitted: dict[T, str] = {}
        self._lingering: dict[T, str] = {}

    def __len__(self) -> int:
        return len(self.pending) + len(self.admitted) + len(self._lingering)

    def __iter__(self) -> Iterator[T]:
        """All of them, as they are now; from any thread."""
        return iter([*self.admitted, *self.pending, *self._lingering])

    def __contains__(self, connection: object) -> bool:
        return connection in self.pending or connection in self.admitted or connection in self._lingering

    def arrive(self, connection: T, host: str) -> None:
        """A connection stands; another may have to make room for it. An empty host is not known yet: no limit."""
        if host and self._hosts[host] >= self._limits().pending_per_host:
            self._oust(next(one for one, where in self.pending.items() if where == host))
        if len(self.pending) >= self._limits().pending:
            self.make_room()
        self._wait(connection, host)

    def move(self, connection: T, host: str) -> None:
        """A connection turns out to be from there."""
        self._forget(connection)
        self.arrive(connection, host)

    def make_room(self) -> bool:
        """End the oldest connection that has no association; whether there was one."""
        oldest = next(iter(self.pending), None)
        if oldest is None:
            return False
        self._oust(oldest)
        return True

    def admit(self, connection: T) -> bool:
        """A connection asks for an association: whether there is room for it; it counts as one from now on."""
        if connection not in self.pending or len(self.admitted) >= self._limits().associations:
            return False
        self.admitted[connection] = self._forget(connection)
        return True

    def leave(self, connection: T) -> None:
        """Its association is over; the peer is to close the connection."""
        if connection in self.admitted:
            self._wait(connection, self.admitted.pop(connection))

    def part(self, connection: T) -> None:
        """The connection is closed."""
        if connection in self.pending:
            self._forget(connection)
        else:
            self.admitted.pop(connection, None)
            self._lingering.pop(connection, None)

    def _oust(self, connection: T) -> None:
        """End a connection that waits. One that has a handler to wait for is there still, and in no other's way."""
        self._end(connection)
        if connection in self.pending:
            self._lingering[connection] = self._forget(connection)

    def _wait(self, connection: T, host: str) -> None:
        self.pending[connection] = host
        self._hosts[host] += 1

    def _forget(self, connection: T) -> str:
        host = self.pending.pop(connection)
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]
        return host
