"""The database's clock, by which all nodes agree on when a lease ends, whatever their own clocks say."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

__all__ = ["DatabaseClock"]

FRESH_SECONDS = 60.0  # after which the database is asked again; a crystal drifts some milliseconds in that time
AWAY_SECONDS = 5.0  # after which one that is away is asked again: each question may wait until it is given up


class DatabaseClock:
    """Seconds since 1970 as the database has them, without asking it each time.

    Args:
        ask: asks the database.
        monotonic: seconds that only go on.
    """

    def __init__(self, ask: Callable[[], float], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._monotonic = ask, monotonic
        self._lock = threading.Lock()
        self._offset: float | None = None
        self._until = 0.0

    def __call__(self) -> float:
        """Seconds since 1970. While the database is away they go on from what it said last.

        Raises:
            DBAPIError: it has never answered.
        """
        now = self._monotonic()
        if self._offset is None or now >= self._until:
            self._set(now)
        assert self._offset is not None
        return self._monotonic() + self._offset

    def _set(self, begin: float) -> None:
        try:
            said = self._ask()
        except DBAPIError:
            if self._offset is None:
                raise
            with self._lock:
                self._until = self._monotonic() + AWAY_SECONDS
            return
        end = self._monotonic()
        with self._lock:
            self._offset = said - (begin + end) / 2
            self._until = end + FRESH_SECONDS
