"""What an archive gives back: C-GET and C-MOVE beside a bare store, answers a second, commitment of ten thousand."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import corpora
import pytest
from rigs import HOST, dicomnet_command

import dicomnet as dn
from dicomnet.client import CommitmentScu

ROUNDS = 5
FIND = dn.ProposedContext(
    dn.uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND, (dn.uids.IMPLICIT_VR_LITTLE_ENDIAN,)
)
STUDY, SERIES, INSTANCE = "2.25.2" + "1" * 30, "2.25.3" + "2" * 30, "2.25.1{:030d}"
SLOWEST = 1.2  # of a bare store
ANSWERS = 15_000  # a second
REFERENCES, LONGEST = 10_000, 30.0  # seconds


@contextmanager
def serving(*words: object) -> Iterator[int]:
    """A command of dicomnet that listens; its port."""
    command = [*dicomnet_command(), *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on "), line
        yield int(line.rpartition(":")[2])
    finally:
        process.terminate()
        process.wait(30)


def seconds(*words: object) -> float:
    """What a command of dicomnet that sends or fetches says of its transfer."""
    done = subprocess.run(
        [*dicomnet_command(), *map(str, words), "--json", "-q"], capture_output=True, text=True, timeout=300
    )
    summary = json.loads(done.stdout.splitlines()[-1])["summary"]
    assert summary["failed"] == 0, done.stderr
    return float(summary["seconds"])


@pytest.fixture
def memory() -> Iterator[Path]:
    with corpora.memory_directory() as directory:
        yield directory


@pytest.fixture
def disk() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="dicomnet-bench-", dir=os.environ.get("DICOMNET_BENCH_DISK") or "/var/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def corpus_of(name: str, count: int, directory: Path) -> corpora.Corpus:
    return corpora.build(replace(corpora.FULL[name], count=count, senders=1), directory)


def test_retrieves_take_little_more_than_a_store(memory: Path, disk: Path, pytestconfig: pytest.Config) -> None:
    short = pytestconfig.getoption("benchmark_disable")
    corpus = corpus_of("ct", 4 if short else 400, memory)
    taken: dict[str, list[float]] = {"store": [], "get": [], "move": []}
    with serving("recv", f"WS@{HOST}:0", "--out", memory / "received", "--on-duplicate", "replace") as destination:
        settings = f'ae_title = "ARCHIVE"\nport = 0\n[destinations]\nWS = "{HOST}:{destination}"\n'
        (disk / "archive.toml").write_text(settings)
        with serving("archive", "run", disk) as port:
            seconds("store", f"ARCHIVE@{HOST}:{port}", corpus.directory)
            wanted = f"ARCHIVE@{HOST}:{port}", "study", "-k", f"StudyInstanceUID={STUDY}"
            for number in range(1 if short else ROUNDS):
                taken["store"].append(seconds("store", f"WS@{HOST}:{destination}", corpus.directory, "--window", 1))
                taken["get"].append(seconds("get", *wanted, "--out", memory / f"got{number}"))
                taken["move"].append(seconds("move", *wanted, "--dest", "WS"))
                shutil.rmtree(memory / f"got{number}")
    medians = {name: statistics.median(times) for name, times in taken.items()}
    ratios = {name: medians[name] / medians["store"] for name in ("get", "move")}
    print(f"\nload {os.getloadavg()[0]:.1f}, {medians}, of a bare store (target {SLOWEST}): {ratios}")
    assert short or max(ratios.values()) < 3


def test_answers_stream_and_ten_thousand_are_committed(memory: Path, disk: Path, pytestconfig: pytest.Config) -> None:
    short = pytestconfig.getoption("benchmark_disable")
    count = 40 if short else REFERENCES
    corpus = corpus_of("small", count, memory)
    (disk / "archive.toml").write_text('ae_title = "ARCHIVE"\nport = 0\n')
    with serving("archive", "run", disk) as port:
        peer = f"ARCHIVE@{HOST}:{port}"
        seconds("store", peer, corpus.directory)
        rates = []
        with dn.connect(peer, contexts=[FIND]) as association:
            for _ in range(1 if short else ROUNDS):
                keys = {
                    "StudyInstanceUID": STUDY,
                    "SeriesInstanceUID": SERIES,
                    "SOPInstanceUID": "",
                    "InstanceNumber": "",
                }
                begun = time.perf_counter()
                found = sum(1 for _ in association.find("IMAGE", **keys))
                rates.append(found / (time.perf_counter() - begun))
                assert found == count
        references = [(dn.uids.CT_IMAGE_STORAGE, INSTANCE.format(number + 1)) for number in range(count)]
        begun = time.perf_counter()
        with CommitmentScu(peer, patience=300) as scu:
            assert scu.commit(references).ok
        taken = time.perf_counter() - begun
    print(f"\nload {os.getloadavg()[0]:.1f}: {statistics.median(rates):.0f} answers/s (target {ANSWERS}); "
          f"{count} references committed in {taken:.1f} s (target {LONGEST:.0f})")  # fmt: skip
    assert short or (statistics.median(rates) > ANSWERS / 20 and taken < 10 * LONGEST)
