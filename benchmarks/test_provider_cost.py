"""What a provider costs besides time: memory while a large object arrives, CPU while nothing does."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import corpora
import pytest
from contest import ROUNDS
from holding import STILL, cpu_nanoseconds, cpu_ticks, held, holding_provider, memory, send, wait_until_still
from rigs import HOST, PeerMissing, dicomnet_command

OBJECT = 500_000_000  # bytes of pixel data
TIMES = 4  # that it is sent
GROWTH = 8 << 20  # bytes that a provider's memory may grow by while it receives them
IDLE = 30.0  # seconds
EACH = {"sync": 12 << 10, "aio": 64 << 10}  # bytes of memory that an idle association may take
SPEED = 0.9  # of what a store has alone, beside idle associations

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


@pytest.fixture
def directory() -> Iterator[Path]:
    with corpora.memory_directory() as path:
        yield path


@contextmanager
def provider(directory: Path) -> Iterator[tuple[int, int]]:
    """A `dicomnet recv` in its own process: its process id and its port."""
    received = directory / "received"
    received.mkdir()
    command = [*dicomnet_command(), "recv", f"{HOST}:0", "--out", str(received)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.pid, int(process.stdout.readline().rsplit(":", 1)[1])
        finally:
            process.send_signal(signal.SIGTERM)


def test_receiving_a_large_object_takes_little_memory(directory: Path, pytestconfig: pytest.Config) -> None:
    frames = 16 if pytestconfig.getoption("benchmark_disable") else OBJECT // (512 * 512 * 2)
    try:
        large = corpora.build(corpora.Recipe("large", 1, pixels=frames * 512 * 512 * 2, frames=frames), directory)
        for number in range(1, TIMES):
            os.link(large.files[0], large.directory / f"again-{number}.dcm")
        small = corpora.build(corpora.SHORT["small"], directory)
        with provider(directory) as (pid, port):
            send(port, small.directory)  # what is only needed once is there now
            before = memory(pid, "VmRSS")
            send(port, large.directory)
            growth = memory(pid, "VmHWM") - before
    except PeerMissing as error:
        pytest.skip(str(error))
    received = TIMES * large.data_bytes / 1e6
    print(f"\nreceiving {received:.0f} MB: the provider's memory grew by {growth / 2**20:.1f} MiB")
    assert growth < GROWTH


@dataclass(frozen=True, slots=True)
class Load:
    """So many associations that do nothing, in one of the faces."""

    face: str
    count: int


LOADS = [Load("sync", 10_000), Load("aio", 10_000)]
FEW = 20  # associations of the short form


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.face)
def test_idle_associations_cost_no_cpu_and_little_memory(
    load: Load, directory: Path, pytestconfig: pytest.Config
) -> None:
    short = pytestconfig.getoption("benchmark_disable")
    count, seconds = (FEW, 0.5) if short else (load.count, IDLE)
    with holding_provider(load.face, directory, "received") as (pid, port), held(port, FEW):
        wait_until_still(pid)
        before = memory(pid, "VmRSS")
        with held(port, count):
            wait_until_still(pid)
            each = (memory(pid, "VmRSS") - before) / count
            used = cpu_nanoseconds(pid)
            time.sleep(seconds)
            used = cpu_nanoseconds(pid) - used
    print(f"\n{load.face}: {count} idle associations, {each / 1024:.1f} KiB each, {used} ns of CPU in {seconds} s")
    assert used <= STILL
    assert short or each <= EACH[load.face]  # a few do not make up for what is there for all


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.face)
def test_a_store_is_not_held_up_by_idle_associations(load: Load, directory: Path, pytestconfig: pytest.Config) -> None:
    short = pytestconfig.getoption("benchmark_disable")
    recipe = corpora.SHORT["ct"] if short else corpora.Recipe("ct", 100, pixels=512 * 512 * 2)
    corpus = corpora.build(recipe, directory)
    times: dict[str, list[float]] = {"alone": [], "beside": []}
    cpu = dict.fromkeys(times, 0)
    with (
        holding_provider(load.face, directory, "alone") as alone,
        holding_provider(load.face, directory, "beside") as beside,
        held(beside[1], FEW if short else load.count),
    ):
        pair = [("alone", alone), ("beside", beside)]
        for _ in range(1 if short else ROUNDS):
            pair.reverse()  # who comes second finds another machine than who comes first
            for name, (pid, port) in pair:
                before = cpu_ticks(pid)
                times[name].append(send(port, corpus.directory))
                cpu[name] += cpu_ticks(pid) - before
    speed = min(times["alone"]) / min(times["beside"])  # what others on the machine do can only add
    economy = cpu["alone"] / max(cpu["beside"], 1)
    print(
        f"\n{load.face}: beside {load.count} idle associations a store has {speed:.2f} of its speed, by the provider's "
        f"CPU {economy:.2f}"
    )
    assert short or max(speed, economy) >= SPEED
