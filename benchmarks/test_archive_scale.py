"""One node on engines that others run: PostgreSQL beside Orthanc with its plug-in, an object store beside obstore.

The database and the object store are those of the tests (``tests/postgres.py``, ``tests/swift.py``), on a disk, and the
database waits for it with each commit.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import corpora
import pytest
from rigs import PeerMissing, Receiver, dicomnet_command, environment, free_port, program, timed
from test_archive_speed import ROUNDS, OurArchive, Storing, disk, measure, seconds  # noqa: F401 a fixture among them

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import postgres
import swift

PLUGIN = "/usr/share/orthanc/plugins/libOrthancPostgreSQLIndex.so"
# Ratios are printed beside these targets, which are for a machine that does nothing else. What fails is coarser: a node
# that is slower than Orthanc or three times as slow as its store, and two nodes that are twice as slow as one.
#: By corpus and associations: the most of Orthanc's time that a node may take, both on PostgreSQL and files.
TARGETS = {("ct", 1): 0.4, ("ct", 8): 0.4, ("small", 1): 0.4, ("small", 8): 0.4}
STORE_TARGET = 1.2  # of what the object store takes for the same objects, by itself
FAR_SLOWER = 2.0  # of one node's time: nodes that share a machine gain nothing, and must not hold each other up


class OurNode(OurArchive):
    """On a database of its own for each round."""

    def __init__(self, cluster: postgres.Cluster, storage: str = "") -> None:
        self._cluster, self._storage = cluster, storage

    def receiver(self, port: int, directory: Path) -> list[str]:
        url = self._cluster.url(self._cluster.new_database())
        command = [*dicomnet_command(), "archive", "run", str(directory / "archive"), "--port", str(port)]
        return [*command, "--database", url, *(["--storage", self._storage] if self._storage else [])]


class OrthancOnPostgres(Storing):
    fixed_port = True
    title = "ORTHANC"

    def __init__(self, cluster: postgres.Cluster) -> None:
        self._cluster = cluster

    def receiver(self, port: int, directory: Path) -> list[str]:
        if not Path(PLUGIN).exists():
            raise PeerMissing("Orthanc's PostgreSQL plug-in")
        settings = {
            "StorageDirectory": str(directory / "storage"),
            "IndexDirectory": str(directory / "storage"),
            "DicomPort": port,
            "HttpPort": free_port(),
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "SyncStorageArea": True,
            "Plugins": [PLUGIN],
            "PostgreSQL": {
                "EnableIndex": True,
                "EnableStorage": False,
                "ConnectionUri": self._cluster.url(self._cluster.new_database()),
            },
        }
        path = directory / "orthanc.json"
        path.write_text(json.dumps(settings))
        return [program("Orthanc"), str(path)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[postgres.Cluster]:
    with postgres.cluster("fsync=on", "autovacuum=on") as one:
        yield one


@pytest.mark.parametrize(("name", "associations"), list(TARGETS))
def test_durable_ingest_on_postgresql(
    name: str,
    associations: int,
    cluster: postgres.Cluster,
    disk: Path,  # noqa: F811
    pytestconfig: pytest.Config,
) -> None:
    short = pytestconfig.getoption("benchmark_disable")
    peers: list[Storing] = [OurNode(cluster), OrthancOnPostgres(cluster)]
    title, medians = measure(peers, name, associations, disk, short=short)
    if short:
        return
    ratio = medians["OurNode"] / medians["OrthancOnPostgres"]
    target = TARGETS[name, associations]
    print(f"\n{title} by {associations}: {medians}: {ratio:.2f} of Orthanc, target {target}")
    assert ratio < 1, "a node that is slower than Orthanc"


def by_itself(storage: str, paths: list[Path], size: int) -> float:
    """Seconds in which obstore alone puts files in objects of so many bytes, eight at a time."""
    from dicomnet.repository.bucket import Bucket

    bucket = Bucket(storage)
    objects: list[bytes] = []
    pieces: list[bytes] = []
    for path in paths:
        pieces.append(path.read_bytes())
        if sum(map(len, pieces)) >= size:
            objects.append(b"".join(pieces))
            pieces = []
    objects += [b"".join(pieces)] if pieces else []
    begin = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: bucket.put(f"alone/{one[0]}", one[1]), enumerate(objects)))
    return time.monotonic() - begin


def test_ingest_into_an_object_store(
    cluster: postgres.Cluster,
    disk: Path,  # noqa: F811
    pytestconfig: pytest.Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = pytestconfig.getoption("benchmark_disable")
    recipe = (corpora.SHORT if short else corpora.FULL)["ct"]
    with swift.swift() as store, corpora.memory_directory() as directory:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        corpus = corpora.build(replace(recipe, senders=1), directory)
        ours, alone = [], []
        for number in range(1 if short else ROUNDS):
            storage = store.make_bucket(f"bench{number}")
            ours.append(seconds(OurNode(cluster, storage), corpus, disk, 8))
            # In objects as large as the node's were on average.
            made = [one for page in _bucket(storage).list("objects/") for one in page]
            alone.append(by_itself(storage, list(corpus.files), sum(size for _, size in made) // len(made)))
            print(f"\n{number}: {ours[-1]:.2f} s in {len(made)} objects, by itself {alone[-1]:.2f} s", flush=True)
    if not short:
        ratio = statistics.median(ours) / statistics.median(alone)
        print(f"{recipe.title} by 8: {ratio:.2f} of the store by itself, target {STORE_TARGET}")
        assert ratio < 3, "a node that is far slower than its store"


def _bucket(storage: str) -> Any:
    from dicomnet.repository.bucket import Bucket

    return Bucket(storage)


class SharedNode(OurNode):
    """One of several on the same database and directory."""

    def __init__(self, url: str, storage: Path) -> None:
        self._url, self._directory = url, storage

    def receiver(self, port: int, directory: Path) -> list[str]:
        command = [*dicomnet_command(), "archive", "run", str(directory / "archive"), "--port", str(port)]
        return [*command, "--database", self._url, "--storage", str(self._directory)]


def _shared(cluster: postgres.Cluster, place: Path, nodes: int, corpus: corpora.Corpus) -> float:
    """Seconds in which two senders store to so many nodes of one archive."""
    url, storage = cluster.url(cluster.new_database()), place / f"shared{time.monotonic_ns()}"
    peer = SharedNode(url, storage)
    with ExitStack() as stack:
        receivers = [stack.enter_context(Receiver(peer, place / f"node{number}")) for number in range(nodes)]
        commands = [
            [*peer.sender(receivers[number % nodes].port, part), "--associations", "4"]
            for number, part in enumerate(corpus.parts)
        ]
        _, outputs = receivers[0].while_running(lambda: timed(commands, environment(peer)))
    summaries = [json.loads(output.splitlines()[-1])["summary"] for output in outputs]
    assert not any(one["failed"] for one in summaries)
    return max(float(one["seconds"]) for one in summaries)


@pytest.mark.parametrize("name", ["ct", "small"])
def test_two_nodes_beside_one(
    name: str,
    cluster: postgres.Cluster,
    disk: Path,  # noqa: F811
    pytestconfig: pytest.Config,
) -> None:
    short = pytestconfig.getoption("benchmark_disable")
    recipe = (corpora.SHORT if short else corpora.FULL)[name]
    taken: dict[int, list[float]] = {1: [], 2: []}
    with corpora.memory_directory() as directory:
        corpus = corpora.build(replace(recipe, senders=2), directory)
        for _ in range(1 if short else ROUNDS):
            for nodes, times in taken.items():
                times.append(_shared(cluster, disk, nodes, corpus))
    if not short:
        one, two = (statistics.median(taken[nodes]) for nodes in (1, 2))
        print(f"\n{recipe.title} by 2 of 4: one node {one:.2f} s, two {two:.2f} s: {two / one:.2f}")
        assert two / one < FAR_SLOWER, "two nodes that are far slower than one"
