"""Fixtures of the benchmarks, and what is printed and written after them.

``pytest benchmarks`` measures; with ``--benchmark-disable`` everything runs once, on tiny corpora, to see it work.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import calls
import contest
import corpora
import pytest
import report
from rigs import PeerMissing, compile_bytecode
from transfers import how

CODEC = "codec: "
WARM_UP = 1 << 30


class Standings:
    """The corpora and what the rigs did with them, measured when the first test of a corpus asks."""

    def __init__(self, directory: Path, *, short: bool) -> None:
        self.short = short
        self.selected: dict[str, list[str]] = {}
        self.series: dict[str, dict[str, contest.Series]] = {}
        self.calls: dict[str, dict[str, contest.Series]] = {}
        self.callers: dict[str, list[str]] = {}
        self.corpora: dict[str, corpora.Corpus] = {}
        self._directory = directory

    def of(self, name: str) -> dict[str, contest.Series]:
        """Everyone's series on the corpus ``name``."""
        if name not in self.series:
            recipe = (corpora.SHORT if self.short else corpora.FULL)[name]
            corpus = corpora.build(recipe, self._directory)
            rounds = 1 if self.short else contest.ROUNDS
            self.corpora[name] = corpus
            self.series[name] = contest.compete(corpus, self.selected[name], self._directory, rounds)
            for path in corpus.files:
                path.unlink()
        return self.series[name]

    def calls_of(self, name: str) -> dict[str, contest.Series]:
        """Everyone's series on the work ``name``."""
        if name not in self.calls:
            self.calls[name] = calls.compete(name, self.callers[name], self._directory, short=self.short)
        return self.calls[name]


@pytest.fixture(scope="session")
def standings(request: pytest.FixtureRequest) -> Iterator[Standings]:
    """The one contest of this session, over the rigs and corpora of the tests that were selected."""
    with corpora.memory_directory() as directory:
        short = bool(request.config.getoption("benchmark_disable"))
        found = Standings(directory, short=short)
        for item in request.session.items:
            parameters = getattr(getattr(item, "callspec", None), "params", {})
            if {"corpus", "rig"} <= parameters.keys():
                found.selected.setdefault(parameters["corpus"], []).append(parameters["rig"])
            if {"work", "caller"} <= parameters.keys():
                found.callers.setdefault(parameters["work"], []).append(parameters["caller"])
        request.config.stash[STANDINGS] = found
        compile_bytecode()
        if not short:
            corpora.warm(directory, WARM_UP)
        yield found


STANDINGS = pytest.StashKey[Standings]()


def pytest_configure(config: pytest.Config) -> None:
    """On SIGTERM end as on Ctrl-C: receivers are stopped, and files removed from memory."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)


def absent(error: PeerMissing) -> None:
    """Skip for a peer that is not installed, or fail where all have to be."""
    if os.environ.get("DICOMNET_REQUIRE_PEERS") == "1":
        pytest.fail(str(error))
    pytest.skip(str(error))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print medians and ratios below pytest-benchmark's tables, and keep them as JSON."""
    standings = config.stash.get(STANDINGS, None)
    medians = _codec_medians(config)
    if config.getoption("benchmark_disable") or not (standings or medians):
        return
    series = standings.series if standings else {}
    built = standings.corpora if standings else {}
    called = standings.calls if standings else {}
    ratios = [*report.store_ratios(series), *report.call_ratios(called), *report.codec_ratios(medians)]
    terminalreporter.section("ratios")
    terminalreporter.write_line(f"{how()}\n")
    for name, rigs in series.items():
        for line in report.standing_lines(built[name].recipe, built[name].data_bytes, rigs):
            terminalreporter.write_line(line)
        terminalreporter.write_line("")
    for name, callers in called.items():
        for line in report.call_lines(calls.WORKS[name].title, callers):
            terminalreporter.write_line(line)
        terminalreporter.write_line("")
    for line in report.start_lines(called.get("start", {}), calls.IMPORT_SECONDS, calls.ECHO_SECONDS):
        terminalreporter.write_line(line)
    for line in report.ratio_lines(ratios):
        terminalreporter.write_line(line)
    terminalreporter.write_line(f"\nwritten to {os.path.relpath(report.write(series, called, medians, ratios))}")


def _codec_medians(config: pytest.Config) -> dict[str, dict[str, float]]:
    """Group without its prefix -> implementation -> median seconds, from what pytest-benchmark measured."""
    found: dict[str, dict[str, float]] = {}
    session = getattr(config, "_benchmarksession", None)
    for bench in getattr(session, "benchmarks", ()):
        if bench.group and bench.group.startswith(CODEC) and bench.stats.rounds:
            found.setdefault(bench.group.removeprefix(CODEC), {})[bench.params["who"]] = bench.stats.median
    return found
