"""`Logins`: the failed logins of each host."""

from __future__ import annotations

from ..config import Limits, Timeouts
from ..log import log

__all__ = ["Logins"]


class Logins:
    """The failed logins of each host, so that no caller tries one passcode after the other.

    Each try is counted before it is judged, and taken back where it succeeds: many at once are many, too.
    """

    def __init__(self, limits: Limits, timeouts: Timeouts) -> None:
        self._limits = limits
        self._seconds = timeouts.login
        self._tries: dict[str, tuple[int, float]] = {}  # how many, since when; the oldest first

    def may_try(self, host: str, now: float) -> bool:
        """Whether an identity from there is looked at; then it counts as failed until it succeeds."""
        if self._seconds is None:
            return True
        tries, since = self._tries.get(host, (0, now))
        if now >= since + self._seconds:
            del self._tries[host]
            tries, since = 0, now
        if tries >= self._limits.failed_logins:
            return False
        if not tries and len(self._tries) >= self._limits.failing_hosts:
            del self._tries[next(iter(self._tries))]
        self._tries[host] = tries + 1, since
        if tries + 1 == self._limits.failed_logins:
            log.warning("%d failed logins from %s: no more of them for %g s", tries + 1, host, self._seconds)
        return True

    def succeeded(self, host: str) -> None:
        """The last try from there was none of those."""
        tries, since = self._tries.get(host, (0, 0.0))
        if tries > 1:
            self._tries[host] = tries - 1, since
        else:
            self._tries.pop(host, None)
