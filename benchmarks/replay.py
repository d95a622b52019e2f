"""Interleaved rounds as pytest-benchmark sees them."""

import time

from contest import Series
from pytest_benchmark.fixture import BenchmarkFixture


class Replay:
    """A clock that jumps by recorded times: pytest-benchmark runs a test's rounds together, ours are interleaved."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        """Seconds, as ``time.perf_counter``."""
        return time.perf_counter() + self.ahead

    def play(self, series: Series, benchmark: BenchmarkFixture) -> None:
        """Let ``benchmark`` see the rounds of ``series``."""
        times = iter([run.seconds for run in series.runs])

        def jump() -> None:
            self.ahead += next(times)

        benchmark.pedantic(jump, rounds=len(series.runs))


REPLAY = Replay()
