"""Calls without objects: C-ECHO on one association, and associations with one C-ECHO each."""

import pytest
from calls import WORKS
from conftest import Standings, absent
from pytest_benchmark.fixture import BenchmarkFixture
from replay import REPLAY
from rigs import PeerMissing

PAIRS = [(name, caller) for name, work in WORKS.items() for caller in work.callers]


@pytest.mark.parametrize(("work", "caller"), PAIRS)
@pytest.mark.benchmark(timer=REPLAY.now)
def test_call(benchmark: BenchmarkFixture, standings: Standings, work: str, caller: str) -> None:
    benchmark.group = WORKS[work].title
    try:
        series = standings.calls_of(work)[caller]
        if series.error is not None:
            raise series.error
    except PeerMissing as error:
        absent(error)
    benchmark.extra_info.update(cpu=series.cpu)
    REPLAY.play(series.processes, benchmark)
