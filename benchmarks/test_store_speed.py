"""Storing: 400 CTs, 4,000 small objects, one large object, by everyone, in one run on one corpus."""

import time

import pytest
from conftest import Standings, absent
from contest import Series
from corpora import FULL
from pytest_benchmark.fixture import BenchmarkFixture
from rigs import RIGS, PeerMissing


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


@pytest.mark.parametrize("rig", RIGS)
@pytest.mark.parametrize("corpus", FULL)
@pytest.mark.benchmark(timer=REPLAY.now)
def test_store(benchmark: BenchmarkFixture, standings: Standings, corpus: str, rig: str) -> None:
    benchmark.group = f"store {FULL[corpus].title}"
    try:
        series = standings.of(corpus)[rig]
        if series.error is not None:
            raise series.error
    except PeerMissing as error:
        absent(error)
    benchmark.extra_info.update(transfer=series.transfer, cpu=series.cpu, sample=series.sample)
    REPLAY.play(series, benchmark)
