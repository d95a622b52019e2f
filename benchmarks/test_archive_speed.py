"""Durable ingest: our archive, which indexes, beside Orthanc with SyncStorageArea and `recv --durable`, which does not.

All three receive on the disk, not in memory, one after the other in each round; the sender is `dicomnet store` for all.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import corpora
import pytest
from conftest import absent
from rigs import HOST, Peer, PeerMissing, Receiver, dicomnet_command, environment, free_port, program, timed

ROUNDS = int(os.environ.get("DICOMNET_BENCH_ROUNDS", "5"))
#: By corpus and associations: the most of Orthanc's time that the archive may take.
TARGETS = {("ct", 1): 0.35, ("ct", 8): 0.45, ("small", 1): 0.20, ("small", 8): 0.12}


class Storing(Peer):
    """Something that stores; the sender is always ours."""

    title = "ANY-SCP"

    def sender(self, port: int, directory: Path) -> list[str]:
        return [*dicomnet_command(), "store", f"{self.title}@{HOST}:{port}", str(directory), "--json", "-q"]

    def transfer(self, output: str) -> float | None:
        return float(json.loads(output.splitlines()[-1])["summary"]["seconds"])


class OurArchive(Storing):
    title = "ARCHIVE"

    def receiver(self, port: int, directory: Path) -> list[str]:
        return [*dicomnet_command(), "archive", "run", str(directory / "archive"), "--port", str(port)]


class DurableRecv(Storing):
    def receiver(self, port: int, directory: Path) -> list[str]:
        return [*dicomnet_command(), "recv", f"{HOST}:{port}", "--out", str(directory), "--durable"]


class SyncingOrthanc(Storing):
    fixed_port = True
    title = "ORTHANC"

    def receiver(self, port: int, directory: Path) -> list[str]:
        settings = {
            "StorageDirectory": str(directory / "storage"),
            "IndexDirectory": str(directory / "storage"),
            "DicomPort": port,
            "HttpPort": free_port(),
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "SyncStorageArea": True,
            "Plugins": [],
        }
        path = directory / "orthanc.json"
        path.write_text(json.dumps(settings))
        return [program("Orthanc"), str(path)]


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory on a disk: what is in memory is durable for free."""
    base = os.environ.get("DICOMNET_BENCH_DISK") or "/var/tmp"
    path = Path(tempfile.mkdtemp(prefix="dicomnet-bench-", dir=base))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def seconds(peer: Storing, corpus: corpora.Corpus, disk: Path, associations: int) -> float:
    """The transfer of a corpus to a receiver that was just started."""
    with Receiver(peer, disk / type(peer).__name__) as receiver:
        command = [*peer.sender(receiver.port, corpus.directory), "--associations", str(associations)]
        _, outputs = receiver.while_running(lambda: timed([command], environment(peer)))
    summary = json.loads(outputs[0].splitlines()[-1])["summary"]
    assert summary["failed"] == 0
    return float(summary["seconds"])


def measure(
    peers: Sequence[Storing], name: str, associations: int, disk: Path, *, short: bool
) -> tuple[str, dict[str, float]]:
    """The corpus by its title, and the median seconds of each peer, in turns."""
    recipe = (corpora.SHORT if short else corpora.FULL)[name]
    taken: dict[str, list[float]] = {type(peer).__name__: [] for peer in peers}
    with corpora.memory_directory() as directory:
        corpus = corpora.build(replace(recipe, senders=1), directory)
        for _ in range(1 if short else ROUNDS):
            for peer in peers:
                try:
                    taken[type(peer).__name__].append(seconds(peer, corpus, disk, associations))
                except PeerMissing as error:
                    absent(error)
    return recipe.title, {peer: statistics.median(times) for peer, times in taken.items() if times}


@pytest.mark.parametrize(("name", "associations"), list(TARGETS))
def test_durable_ingest(name: str, associations: int, disk: Path, pytestconfig: pytest.Config) -> None:
    short = pytestconfig.getoption("benchmark_disable")
    peers: list[Storing] = [OurArchive(), SyncingOrthanc(), DurableRecv()]
    title, medians = measure(peers, name, associations, disk, short=short)
    if short:
        return
    ratio = medians["OurArchive"] / medians["SyncingOrthanc"]
    target = TARGETS[name, associations]
    print(f"\n{title} by {associations}: {medians}: {ratio:.2f} of Orthanc, target {target}")
    assert ratio < 1, "an archive that is slower than Orthanc"
