"""What a provider costs besides time: memory while a large object arrives, CPU while nothing does."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import corpora
import pytest
from rigs import HOST, PeerMissing, dicomnet_command

OBJECT = 600_000_000  # bytes of pixel data
GROWTH = 8 << 20  # bytes that a provider's memory may grow by while it receives them
ASSOCIATIONS = 10
IDLE = 5.0  # seconds

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


def memory(pid: int, field: str) -> int:
    """A field of /proc/PID/status, in bytes: VmRSS is what is resident now, VmHWM the most there was."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


def cpu_ticks(pid: int) -> int:
    """CPU time that a process has used, in clock ticks (10 ms on Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def send(port: int, path: Path) -> None:
    """Store what is under ``path``; everything must arrive."""
    command = [*dicomnet_command(), "store", f"{HOST}:{port}", str(path), "--json", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["summary"]["failed"] == 0


def test_receiving_a_large_object_takes_little_memory(directory: Path, pytestconfig: pytest.Config) -> None:
    frames = 16 if pytestconfig.getoption("benchmark_disable") else OBJECT // (512 * 512 * 2)
    try:
        large = corpora.build(corpora.Recipe("large", 1, pixels=frames * 512 * 512 * 2, frames=frames), directory)
        small = corpora.build(corpora.SHORT["small"], directory)
        with provider(directory) as (pid, port):
            send(port, small.directory)  # what is only needed once is there now
            before = memory(pid, "VmRSS")
            send(port, large.directory)
            growth = memory(pid, "VmHWM") - before
    except PeerMissing as error:
        pytest.skip(str(error))
    print(f"\nreceiving {large.data_bytes / 1e6:.0f} MB: the provider's memory grew by {growth / 2**20:.1f} MiB")
    assert growth < GROWTH


HOLDER = """
import sys
from contextlib import ExitStack
import dicomnet as dn
with ExitStack() as stack:
    for _ in range(int(sys.argv[2])):
        peer = f"ANY-SCP@127.0.0.1:{sys.argv[1]}"
        stack.enter_context(dn.connect(peer, contexts=dn.contexts.verification())).echo()
    print("held", flush=True)
    sys.stdin.read()
"""


def test_idle_associations_use_no_cpu(directory: Path, pytestconfig: pytest.Config) -> None:
    seconds = 0.5 if pytestconfig.getoption("benchmark_disable") else IDLE
    with ExitStack() as stack:
        try:
            pid, port = stack.enter_context(provider(directory))
        except PeerMissing as error:
            pytest.skip(str(error))
        command = [sys.executable, "-c", HOLDER, str(port), str(ASSOCIATIONS)]
        holder = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        before = cpu_ticks(pid), cpu_ticks(holder.pid)
        time.sleep(seconds)
        used = cpu_ticks(pid) - before[0], cpu_ticks(holder.pid) - before[1]
        holder.stdin.close()
        assert holder.wait(30) == 0
    tick = 1 / os.sysconf("SC_CLK_TCK")
    print(
        f"\n{ASSOCIATIONS} idle associations, {seconds} s: CPU of the provider {used[0] * tick} s, "
        f"of the requestor {used[1] * tick} s"
    )
    assert used == (0, 0)
