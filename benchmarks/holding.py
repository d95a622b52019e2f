"""A provider that holds many associations, who holds them, and what it costs: by /proc."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rigs import HOST, PEERS, dicomnet_command

WINDOW = 6.0  # seconds for which a provider is watched; the ARTIM of `peers/holding_provider.py` is shorter
STILL = 1_000_000  # nanoseconds of CPU: one that uses no more of them meanwhile is still


@contextmanager
def holding_provider(face: str, directory: Path, name: str) -> Iterator[tuple[int, int]]:
    """A provider that takes thousands of associations: its process id and its port."""
    received = directory / name
    received.mkdir()
    command = [sys.executable, str(PEERS / "holding_provider.py"), face, str(received)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.pid, int(process.stdout.readline().rsplit(":", 1)[1])
        finally:
            process.send_signal(signal.SIGTERM)


@contextmanager
def held(port: int, count: int) -> Iterator[None]:
    """So many associations, held by a process of bare sockets."""
    command = [sys.executable, str(PEERS / "holder.py"), str(port), str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.stdin.close()
        assert holder.wait(60) == 0


def send(port: int, path: Path) -> float:
    """Store what is under ``path``; everything must arrive. The seconds from the first byte to the last response."""
    command = [*dicomnet_command(), "store", f"{HOST}:{port}", str(path), "--json", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    summary = json.loads(done.stdout.splitlines()[-1])["summary"]
    assert summary["failed"] == 0
    return float(summary["seconds"])


def memory(pid: int, field: str) -> int:
    """A field of /proc/PID/status, in bytes: VmRSS is what is resident now, VmHWM the most there was."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


def cpu_ticks(pid: int) -> int:
    """CPU time that a process has used, threads that ended included, in clock ticks (10 ms on Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def cpu_nanoseconds(pid: int) -> int:
    """CPU time that the threads of a process have used."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


def wait_until_still(pid: int) -> None:
    """Until a process is done with what it was told, timers of the associations' beginnings included."""
    before = -1
    while (now := cpu_nanoseconds(pid)) - before > STILL:
        before = now
        time.sleep(WINDOW)
