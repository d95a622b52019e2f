"""What is tried again, when, and how often: what is transient only."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import AssociationRejected, ConnectionFailed, InvalidArgument, TLSFailed
from ..status import Status

__all__ = ["Retry"]


@dataclass(frozen=True, slots=True)
class Retry:
    """How to try again: after a refused connection or a transient rejection.

    What was under way when the association of a batch ended is sent again by `StoreScu`, as often as this allows.

    Attributes:
        attempts: how often in all; 1 is never again.
        first: seconds before the second attempt; each further wait is ``factor`` times as long.
        factor: see ``first``.
        longest: no wait is longer, whatever the factor says.
        jitter: the part of each wait that is left to chance, so that many clients do not come back at once.
        out_of_resources: also store an instance again that was refused with a status A7xx (PS3.4 Annex B.2.3).
        seed: for waits that can be foretold; None is by chance.
    """

    attempts: int = 3
    first: float = 0.5
    factor: float = 2.0
    longest: float = 30.0
    jitter: float = 0.25
    out_of_resources: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first < 0 or self.factor < 1 or self.longest < 0 or not 0 <= self.jitter <= 1:
            raise InvalidArgument(
                f"{self!r}: attempts and factor are at least 1, seconds at least 0, the jitter is from 0 to 1"
            )

    def pauses(self) -> Callable[[int], float]:
        """The seconds to wait after the given attempt, counted from 1; for one series of attempts."""
        chance = random.Random(self.seed)

        def pause(attempt: int) -> float:
            whole = min(self.first * self.factor ** (attempt - 1), self.longest)
            return whole * (1 - self.jitter * chance.random())

        return pause

    def is_transient(self, error: BaseException) -> bool:
        """Whether another attempt may fare better."""
        if isinstance(error, AssociationRejected):
            return error.is_transient
        refused = isinstance(error, ConnectionFailed) and not isinstance(error, TLSFailed)
        return refused and getattr(error, "errno", None) == errno.ECONNREFUSED

    def wants(self, status: Status | None) -> bool:
        """Whether an instance with this answer is stored again."""
        return self.out_of_resources and status is not None and status.is_out_of_resources
