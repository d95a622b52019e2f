"""Start-up: the bare interpreter, the package imported, and an echo from the shell, each as a whole process."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import dicomnet as dn

ROUNDS = 25


@pytest.fixture(scope="module")
def called() -> Iterator[str]:
    with dn.Listener("ARCHIVE", port=0) as scp:
        yield f"ARCHIVE@127.0.0.1:{scp.address[1]}"


@pytest.mark.parametrize("what", ["bare", "import", "echo"])
def test_start_up(benchmark: BenchmarkFixture, called: str, what: str) -> None:
    echo = ["-m", "dicomnet", "echo", called]
    arguments = {"bare": ["-c", "pass"], "import": ["-c", "import dicomnet"], "echo": echo}
    benchmark.group = "start-up"
    command = [sys.executable, *arguments[what]]
    benchmark.pedantic(
        subprocess.run, (command,), {"check": True, "capture_output": True}, rounds=ROUNDS, warmup_rounds=2
    )
