"""Interleaved rounds as pytest-benchmark sees them."""

import time
from collections.abc import Sequence

from pytest_benchmark.fixture import BenchmarkFixture


class Replay:
    """A clock that jumps by recorded times: pytest-benchmark runs a test's rounds together, ours are interleaved."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        """Seconds, as ``time.perf_counter``."""
        return time.perf_counter() + self.ahead

    def play(self, seconds: Sequence[float], benchmark: BenchmarkFixture) -> None:
        """Let ``benchmark`` see rounds that took so long."""
        times = iter(seconds)

        def jump() -> None:
            self.ahead += next(times)

        benchmark.pedantic(jump, rounds=len(seconds))


REPLAY = Replay()
