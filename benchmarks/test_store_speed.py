"""Storing: CTs, small objects, one large object, by everyone, in one run on one corpus; then by eight at once."""

import pytest
from conftest import Standings, absent
from contest import transfers_known
from corpora import FULL
from pytest_benchmark.fixture import BenchmarkFixture
from replay import REPLAY
from rigs import CONTESTS, PeerMissing


@pytest.mark.parametrize(("corpus", "rig"), [(corpus, rig) for corpus, rigs in CONTESTS.items() for rig in rigs])
@pytest.mark.benchmark(timer=REPLAY.now)
def test_store(benchmark: BenchmarkFixture, standings: Standings, corpus: str, rig: str) -> None:
    try:
        everyone = standings.of(corpus)
        series = everyone[rig]
        if series.error is not None:
            raise series.error
    except PeerMissing as error:
        absent(error)
    seen = transfers_known(everyone.values())
    benchmark.group = f"store {FULL[corpus].title}, {'transfer' if seen else 'process'}"
    benchmark.extra_info.update(process=series.seconds, transfer=series.transfer, cpu=series.cpu, sample=series.sample)
    REPLAY.play(series.transfers if seen else series.processes, benchmark)
