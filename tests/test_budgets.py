"""What start-up loads has a budget, as docs/design.md says; benchmarks/test_start_up.py tells how long that takes."""

from __future__ import annotations

import subprocess
import sys

import programs
import pytest

import dicomnet as dn

# Modules over the bare interpreter. How long they take is a matter of the machine; how many there are is ours.
IMPORT_BUDGET = 160
ECHO_BUDGET = 200
UNLOADED = ("pydicom", "numpy", "cryptography", "rich", "asyncio", "multiprocessing", "email", "http", "urllib", "xml")
LIST = """
import atexit, sys
before = set(sys.modules)
atexit.register(lambda: print(*sorted(set(sys.modules) - before)))
"""
ECHO = """
import runpy
sys.argv = ["dicomnet", "echo", {!r}]
runpy.run_module("dicomnet", run_name="__main__")
"""


def loaded(code: str) -> list[str]:
    """The modules that a program loads by its end."""
    done = subprocess.run(
        [sys.executable, "-c", LIST + code], cwd=programs.ROOT, check=True, timeout=60, capture_output=True, text=True
    )
    return done.stdout.splitlines()[-1].split()


def test_importing_the_package_loads_little() -> None:
    modules = loaded("import dicomnet")
    assert "dicomnet" in modules
    assert len(modules) <= IMPORT_BUDGET, modules


@pytest.mark.parametrize("name", UNLOADED)
def test_importing_the_package_leaves_heavy_ones_alone(name: str) -> None:
    assert name not in loaded("import dicomnet")


def test_an_echo_loads_little() -> None:
    with dn.Listener("ARCHIVE", port=0) as scp:
        modules = loaded(ECHO.format(f"ARCHIVE@127.0.0.1:{scp.address[1]}"))
    assert "dicomnet.cli.echo" in modules
    assert len(modules) <= ECHO_BUDGET, modules
