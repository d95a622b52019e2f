"""DICOMweb beside Orthanc with its plug-in: metadata, frames, STOW, a search; and the memory that a large study takes.

Both servers run at the same time and are asked by turns, over connections that stay open; both store durably.
"""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import absent
from holding import memory
from rigs import PeerMissing
from web_rigs import DICOM, Server, frames_of, instances, multipart, orthanc, ours

ROUNDS = 5
JSON = "application/dicom+json"
#: By what is measured: the most of Orthanc's time that ours may take, and the most seconds, where that is said.
TARGETS = {"metadata of 1000": (0.1, 0.030), "512 frames by 1": (1 / 3, None), "512 frames by 6": (1 / 3, None),
           "STOW of 400": (1 / 3, None), "search, limit=101": (1.0, 0.015)}  # fmt: skip
STUDY, FRAMES = "1.2.826.0.1.3680043.8.498.91", "1.2.826.0.1.3680043.8.498.92"


@pytest.fixture(scope="module")
def short(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("benchmark_disable"))


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="dicomnet-bench-", dir=os.environ.get("DICOMNET_BENCH_DISK") or "/var/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def servers(disk: Path, short: bool) -> Iterator[list[Server]]:
    """Ours and Orthanc, empty."""
    with ours(disk / "ours") as one:
        try:
            with orthanc(disk / "orthanc") as other:
                yield [one, other]
        except PeerMissing as error:
            absent(error)


@pytest.fixture(scope="module")
def filled(servers: list[Server], short: bool) -> list[Server]:
    """Both with a series of 1000 small CTs, 512 CTs of full size, and 200 studies."""
    for study, count, side in ((STUDY, 10 if short else 1000, 64), (FRAMES, 4 if short else 512, 512)):
        parts = list(instances(study, count, side))
        for start in range(0, count, 100):
            for server in servers:
                server.post(multipart(parts[start : start + 100]))
    studies = [next(instances(f"{STUDY}.{number}", 1, 8)) for number in range(1, 5 if short else 201)]
    for server in servers:
        server.post(multipart(studies))
    return servers


def compare(
    name: str, servers: list[Server], work: Callable[[Server], float], short: bool, rounds: int = ROUNDS
) -> None:
    for server in servers:
        server.connection.close()  # a server may have closed one that rested
        server.connection.connect()
    taken: dict[str, list[float]] = {server.name: [] for server in servers}
    for _ in range(1 if short else rounds):
        for server in servers:
            taken[server.name].append(work(server))
    medians = {server: statistics.median(times) for server, times in taken.items()}
    ratio, (most, seconds) = medians["ours"] / medians["Orthanc"], TARGETS[name]
    words = ", ".join(f"{server} {median * 1000:.1f} ms" for server, median in medians.items())
    goal = f"{most:.2f}" + (f" and {seconds * 1000:.0f} ms" if seconds else "")
    print(f"\n{name}: {words}: {ratio:.3f} of Orthanc; the goal is {goal}; load {os.getloadavg()[0]:.1f}")
    if not short:
        assert ratio < 1, "slower than Orthanc"


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def test_metadata(filled: list[Server], short: bool) -> None:
    path = f"/studies/{STUDY}/series/{STUDY}.1/metadata"
    print(f"\nmetadata of 1000, packed: {timed(lambda: filled[0].get(path, JSON)) * 1000:.0f} ms, once")
    compare("metadata of 1000", filled, lambda server: timed(lambda: server.get(path, JSON)), short)


def test_search(filled: list[Server], short: bool) -> None:
    path = "/studies?limit=101&offset=0&includefield=00081030,00080060,00080090"
    compare("search, limit=101", filled, lambda server: timed(lambda: server.get(path, JSON)), short)


@pytest.mark.parametrize("at_once", [1, 6])
def test_frames(filled: list[Server], short: bool, at_once: int) -> None:
    count = 4 if short else 512
    compare(f"512 frames by {at_once}", filled, lambda server: frames_of(server, FRAMES, count, at_once), short)


def test_stow(servers: list[Server], short: bool) -> None:
    rounds = iter(range(1, 100))

    def work(server: Server) -> float:
        study = f"{FRAMES}.{next(rounds)}"
        body = multipart(list(instances(study, 4 if short else 400, 512)))
        return timed(lambda: server.post(body))

    compare("STOW of 400", servers, work, short, rounds=3)


def test_a_large_study_streams_in_little_memory(disk: Path, short: bool) -> None:
    """2 GB in one answer; what the server has in memory meanwhile, above what it had before."""
    count = 8 if short else 4000
    with ours(disk / "large") as server:
        parts: list[bytes] = []
        for part in instances(STUDY, count, 512):
            parts.append(part)
            if len(parts) == 100:
                server.post(multipart(parts))
                parts.clear()
        if parts:
            server.post(multipart(parts))
        server.get(f"/studies?StudyInstanceUID={STUDY}", JSON)
    with ours(disk / "large") as server:  # anew: what storing took is not counted
        server.get(f"/studies/{STUDY}/series/{STUDY}.1/instances/{STUDY}.1.1", DICOM)
        before = memory(server.pid, "VmRSS")
        size, seconds = drained(server, f"/studies/{STUDY}")
        grown = memory(server.pid, "VmHWM") - before
    speed = f"{size / 1e9:.2f} GB in {seconds:.1f} s, {size / seconds / 1e6:.0f} MB/s"
    print(f"\n{speed}; {grown / 1e6:.0f} MB more memory")
    assert grown < 64 << 20


def drained(server: Server, path: str) -> tuple[int, float]:
    """Bytes of an answer that is read and dropped, and the seconds that it took."""
    start, size = time.perf_counter(), 0
    server.connection.request("GET", server.root + path, headers={"Accept": DICOM})
    answer = server.connection.getresponse()
    while piece := answer.read(1 << 20):
        size += len(piece)
    return size, time.perf_counter() - start
