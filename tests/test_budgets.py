"""Start-up has a budget, generous and checked; docs/architecture.md says why it is no more than that."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import programs
import pytest

import dicomnet as dn

pytestmark = pytest.mark.measures

RUNS = 7
ROUNDS = 5  # a busy machine delays what it runs: the best round counts

# The goals are 60 ms over the bare interpreter and 200 ms for an echo (docs/architecture.md). They are not met yet:
# these bounds only keep start-up from growing meanwhile.
IMPORT_BUDGET = 0.600
ECHO_BUDGET = 0.900
UNLOADED = ("pydicom", "numpy", "cryptography")


def seconds(arguments: Sequence[str], environment: Mapping[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment, cwd=programs.ROOT)
    return time.perf_counter() - start


def medians(environment: Mapping[str, str], *programs_: Sequence[str]) -> list[float]:
    """Of some runs of each program, one of each in turn."""
    rows = [[seconds(arguments, environment) for arguments in programs_] for _ in range(RUNS)]
    return [statistics.median(column) for column in zip(*rows, strict=True)]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Where modules are compiled once, as in an installation."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": str(tmp_path)}


def test_importing_the_package(environment: dict[str, str]) -> None:
    seconds(["-c", "import dicomnet"], environment)  # compiles
    over = []
    for _ in range(ROUNDS):
        bare, imported = medians(environment, ["-c", "pass"], ["-c", "import dicomnet"])
        over.append(imported - bare)
        if over[-1] <= IMPORT_BUDGET:
            return
    pytest.fail(f"import dicomnet takes {min(over) * 1000:.0f} ms over the bare interpreter")


@pytest.mark.parametrize("name", UNLOADED)
def test_importing_the_package_leaves_heavy_ones_alone(name: str) -> None:
    code = f"import sys, dicomnet; sys.exit({name!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=programs.ROOT, check=False, timeout=60).returncode == 0


def test_an_echo(environment: dict[str, str]) -> None:
    with dn.Listener("ARCHIVE", port=0) as scp:
        echo = ["-m", "dicomnet", "echo", f"ARCHIVE@127.0.0.1:{scp.address[1]}"]
        seconds(echo, environment)  # compiles
        taken = []
        for _ in range(ROUNDS):
            taken += medians(environment, echo)
            if taken[-1] <= ECHO_BUDGET:
                return
    pytest.fail(f"dicomnet echo takes {min(taken) * 1000:.0f} ms")
