"""What a flow is: a service written once, as a generator that says what it needs, for drivers that know how to wait.

A flow yields None where it needs the next event of its exchange, `POLL` where it can go on without one, a `Call` where
other code is to run, anything else as a result for the user; and returns its final answer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from enum import Enum

from ._typing import Any

__all__ = ["POLL", "Call", "Flow", "Poll"]

Flow = Generator[Any, Any, Any]


class Call:
    """A flow yields this to have ``function(*arguments)`` run by its driver: the user's code, or blocking work.

    What it returns is sent back into the flow (awaited first, in asyncio), what it raises is thrown in.
    """

    __slots__ = ("arguments", "function")

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function = function
        self.arguments = arguments


class Poll(Enum):
    """A flow yields ``POLL`` to have everything written and to get the next event, or None where there is none yet."""

    POLL = "poll"


POLL = Poll.POLL
