"""How much one caller may ask: tokens that fill again with time, in a table with a bound."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from .problems import Problem, problem_response

__all__ = ["Buckets", "RateLimit", "caller_of"]

#: Callers that are remembered; the one that was quiet for longest is forgotten.
MOST_CALLERS = 10_000


class Buckets:
    """Token buckets by key; for use in one thread.

    Args:
        rate: tokens that come back each second.
        burst: the most tokens.
        clock: seconds.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def _level(self, key: Hashable) -> float:
        level, since = self._levels.get(key, (self._burst, 0.0))
        return min(self._burst, level + (self._clock() - since) * self._rate)

    def wait(self, key: Hashable) -> float:
        """Seconds until there is a token; 0 where there is one."""
        return max(0.0, (1 - self._level(key)) / self._rate)

    def take(self, key: Hashable) -> None:
        """Take a token, or what is left of one."""
        self._levels[key] = max(self._level(key) - 1, 0.0), self._clock()
        self._levels.move_to_end(key)
        if len(self._levels) > MOST_CALLERS:
            self._levels.popitem(last=False)

    def give(self, key: Hashable) -> None:
        """Give a token back."""
        self._levels[key] = min(self._level(key) + 1, self._burst), self._clock()


def caller_of(scope: Scope) -> str:
    """The address of a caller; through a proxy that is trusted, the one that it tells."""
    return str((scope.get("client") or ("", 0))[0])


class RateLimit:
    """Answers 429 to an address that asks too often. The loopback address is not limited.

    Args:
        app: what serves.
        rate, burst: see `Buckets`.
    """

    def __init__(self, app: ASGIApp, rate: float, burst: float) -> None:
        self._app, self._buckets = app, Buckets(rate, burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        caller = caller_of(scope) if scope["type"] == "http" else ""
        if caller and caller not in ("127.0.0.1", "::1"):
            wait = self._buckets.wait(caller)
            if wait:
                await refuse(scope, receive, send, too_many(wait))
                return
            self._buckets.take(caller)
        await self._app(scope, receive, send)


def too_many(seconds: float) -> Problem:
    """The answer to more than is allowed, with when to come again."""
    later = max(1, math.ceil(seconds))
    return Problem(429, f"too many requests: ask again in {later} s", headers={"Retry-After": str(later)})


async def refuse(scope: Scope, receive: Receive, send: Send, problem: Problem) -> None:
    """Answer with a problem document."""
    response = await problem_response(Request(scope, receive), problem)
    await response(scope, receive, send)
