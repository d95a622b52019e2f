"""Run `dicomnet conform` against our provider and others, each with its defaults, and print the table of README.md.

``python tools/conformance.py [PROVIDER...]``, or ``make conformance``. DCMTK's storescp ends now and then; it is
started again. Most of the time is waiting for providers that do not answer.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PROVIDERS = {
    "dicomnet": ("`dicomnet recv`", [sys.executable, "-m", "dicomnet", "recv", "127.0.0.1:{port}", "--out", "{out}"]),
    "dcmtk": ("DCMTK {version} `storescp`, restarted when it ended", ["storescp", "-od", "{out}", "{port}"]),
    "pynetdicom": (
        "pynetdicom {version} `storescp`",
        [sys.executable, "-m", "pynetdicom", "storescp", "{port}", "-od", "{out}"],
    ),
}
PATIENCE = 30.0  # seconds for a provider to listen
SETTLE = 0.1  # seconds between two looks whether it does


class Runs:
    """A provider's program, started again whenever it ends."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._over = threading.Event()
        self._process = self._start()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _watch(self) -> None:
        while True:
            self._process.wait()
            if self._over.is_set():
                return
            self._process = self._start()

    def end(self) -> None:
        """Stop it for good."""
        self._over.set()
        self._process.kill()
        self._thread.join()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def serving(command: list[str]) -> Iterator[int]:
    """A provider that listens, and its port."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="dicomnet-conformance-") as out:
        program = Runs([part.format(port=port, out=out) for part in command])
        try:
            _await_listening(port)
            yield port
        finally:
            program.end()


def _await_listening(port: int) -> None:
    pause = threading.Event()
    for _ in range(int(PATIENCE / SETTLE)):
        try:
            socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        except OSError:
            pause.wait(SETTLE)
        else:
            return
    sys.exit(f"nobody listens on port {port}")


def measure(command: list[str], *options: str) -> dict[str, dict[str, int]]:
    """The cases that a provider passes, by grade; ``options`` are those of `dicomnet conform`."""
    with serving(command) as port:
        suite = [sys.executable, "-m", "dicomnet", "conform", f"127.0.0.1:{port}", "--json", "-q", *options]
        ran = subprocess.run(suite, capture_output=True, text=True, check=False)
    if ran.returncode not in (0, 69):
        sys.exit(f"the run did not complete: {ran.stderr}")
    grades: dict[str, dict[str, int]] = json.loads(ran.stdout.splitlines()[-1])["summary"]["grades"]
    return grades


def row(name: str, grades: dict[str, dict[str, int]]) -> str:
    """A row of the table; what does not apply to a provider does not count."""
    cells = (f"{found['passed']} of {sum(found.values()) - found['skipped']}" for found in grades.values())
    return f"| {name} | {' | '.join(cells)} |"


def version_of(provider: str) -> str:
    """As the provider itself says."""
    if provider == "dicomnet":
        return ""
    if provider == "pynetdicom":
        from importlib.metadata import version  # noqa: PLC0415 the others do not need it

        return version(provider)
    first = subprocess.run(["storescp", "--version"], capture_output=True, text=True, check=False).stdout.split()
    return next((word.lstrip("v") for word in first if word.startswith("v3")), "")


def main() -> None:
    """Print the table."""
    wanted = sys.argv[1:] or list(PROVIDERS)
    print("| provider | must | should | robust |\n|---|---|---|---|", flush=True)
    for provider in wanted:
        name, command = PROVIDERS[provider]
        if shutil.which(command[0]) is None:
            sys.exit(f"{command[0]} is not installed")
        print(row(name.format(version=version_of(provider)), measure(command)), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    main()
