"""Interleaved rounds: A B C, A B C, …, so that whatever disturbs the machine disturbs everyone."""

import os
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from corpora import Corpus
from rigs import Broken, PeerMissing, Rig, Run

ROUNDS = int(os.environ.get("DICOMNET_BENCH_ROUNDS", "9"))
# Broken runs of a peer that are repeated, and told; one of dicomnet's own is never forgiven.
FORGIVEN = 1
# On a machine that others use: how often a run is repeated during which they took more than DISTURBED of a processor.
# That is decided by what others did, never by the time that came out, and the same for every rig.
QUIET = int(os.environ.get("DICOMNET_BENCH_QUIET", "0"))
DISTURBED = 0.15
SLOW = {"pynetdicom": 5}  # no more rounds than these: they take seconds each, and differ by far more than the noise
# pynetdicom waits 40 ms for a delayed ACK per small object, three minutes in all: it sends these few, and the transfer
# is scaled to the whole corpus (its start-up is not). DICOMNET_BENCH_FULL=1 lets it send them all.
SAMPLE = {} if os.environ.get("DICOMNET_BENCH_FULL") == "1" else {("pynetdicom", "small"): 100}


@dataclass(slots=True)
class Series:
    """What one rig did with one corpus: a run per round, or why there is none."""

    runs: list[Run] = field(default_factory=list)
    sample: int | None = None  # so many objects were sent and the time scaled
    broken: list[str] = field(default_factory=list)  # runs of a peer that failed and were repeated
    error: Exception | None = None

    @property
    def seconds(self) -> float:
        return median(self.processes)

    @property
    def processes(self) -> list[float]:
        """How long the sender's process took in each run."""
        return [run.seconds for run in self.runs]

    @property
    def transfers(self) -> list[float]:
        """Those of all runs; none where one of them is not known."""
        times = [run.transfer for run in self.runs if run.transfer is not None]
        return times if len(times) == len(self.runs) else []

    @property
    def transfer(self) -> float | None:
        times = self.transfers
        return median(times) if times else None

    @property
    def disturbance(self) -> float:
        """The share of one processor that others took during the runs: the median."""
        return median(disturbance(run) for run in self.runs)

    @property
    def cpu(self) -> float | None:
        """Sender and receiver together; not told where only a sample was sent."""
        if self.sample:
            return None
        times = [run.sender_cpu + run.receiver_cpu for run in self.runs if run.receiver_cpu is not None]
        return median(times) if times else None


def transfers_known(series: Iterable[Series]) -> bool:
    """Whether all that ran can be compared by their transfers; else they are by their processes."""
    return all(one.transfers for one in series if one.runs)


def compete(corpus: Corpus, names: list[str], parent: Path, rounds: int = ROUNDS) -> dict[str, Series]:
    """Run the rigs ``names`` in turn, ``rounds`` times; a rig that breaks is out, the others go on.

    In the first round the received data sets are compared with those sent, bit for bit, in every round counted.
    """
    series = {name: Series() for name in names}
    with ExitStack() as stack:
        rigs = {}
        for name in names:
            try:
                rigs[name] = stack.enter_context(Rig(name, parent))
            except (Broken, PeerMissing, OSError) as error:
                series[name].error = error
        for number in range(rounds):
            for name, rig in rigs.items():
                if series[name].error is None and number < SLOW.get(name, rounds):
                    _turn(rig, corpus, series[name], compare=number == 0)
    return series


def _turn(rig: Rig, corpus: Corpus, series: Series, *, compare: bool) -> None:
    series.sample = SAMPLE.get((rig.name, corpus.name))
    if series.sample is not None and series.sample >= len(corpus.files):
        series.sample = None
    part = _part(corpus, series.sample) if series.sample else corpus
    try:
        run = _scaled(_undisturbed(rig, part, compare), len(corpus.files) / len(part.files))
    except (Broken, PeerMissing, OSError) as error:
        if isinstance(error, Broken) and "dicomnet" not in rig.name.split("-") and len(series.broken) < FORGIVEN:
            series.broken.append(str(error))
            _turn(rig, corpus, series, compare=compare)
            return
        series.error = error
        series.runs.clear()
        return
    series.runs.append(run)


def _undisturbed(rig: Rig, corpus: Corpus, compare: bool) -> Run:
    """The first run that others left alone; after ``QUIET`` repetitions, the one that they disturbed least."""
    best = rig.run(corpus, compare=compare)
    for _ in range(QUIET):
        if disturbance(best) <= DISTURBED:
            break
        time.sleep(0.5)
        best = min(best, rig.run(corpus), key=disturbance)
    return best


def disturbance(run: Run) -> float:
    """The share of one processor that other processes took meanwhile; 0 where that is not known."""
    return (run.others_cpu or 0.0) / run.seconds


def _part(corpus: Corpus, count: int) -> Corpus:
    """The first ``count`` files of a corpus, as links in a directory beside it."""
    directory = corpus.directory.with_name(f"{corpus.directory.name}-{count}")
    files = tuple(directory / path.name for path in corpus.files[:count])
    if not directory.exists():
        directory.mkdir()
        for link, path in zip(files, corpus.files[:count], strict=True):
            os.link(path, link)
    return replace(corpus, directory=directory, files=files, data_bytes=corpus.data_bytes * count // len(corpus.files))


def _scaled(run: Run, factor: float) -> Run:
    """``run`` as if ``factor`` times as much had been transferred; start and end of the process stay."""
    if factor == 1:
        return run
    if run.transfer is None:
        raise Broken("a sample was sent, and its transfer is not known")
    more = run.transfer * (factor - 1)
    return replace(run, seconds=run.seconds + more, transfer=run.transfer + more)
