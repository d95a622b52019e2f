"""Programs as processes of their own: dicomnet's and its peers'. Each is ended by whoever started it."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from dicomnet.cli.app import run as run_command

ROOT = Path(__file__).parent.parent
PATIENCE = 30  # seconds for a program to start or to end


def command(*arguments: object) -> list[str]:
    """The command line that runs dicomnet."""
    return [sys.executable, "-m", "dicomnet", *map(str, arguments)]


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command of dicomnet to its end."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
        **options,
    )


def run_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command of dicomnet to its end as `run` does, but in this process: a start takes half a second."""
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        code = run_command([*map(str, arguments)])
    return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())


class Piped:
    """A command in a thread of this process, whose standard output a test reads line by line.

    Attributes:
        code: what it ended with; None while it runs.
    """

    def __init__(self, *arguments: object) -> None:
        reading, self._writing = os.pipe()
        self.output = os.fdopen(reading, encoding="utf-8")
        self.code: int | None = None
        self._thread = threading.Thread(target=self._run, args=(arguments,), daemon=True)

    def _run(self, arguments: tuple[object, ...]) -> None:
        with suppress(BrokenPipeError), os.fdopen(self._writing, "w", encoding="utf-8") as out, redirect_stdout(out):
            self.code = run_command([*map(str, arguments)])

    def line(self) -> str:
        """The next line; empty where it has ended."""
        return self.output.readline()

    def join(self) -> int | None:
        """Wait for its end; what it ended with."""
        self._thread.join(PATIENCE)
        return self.code

    def __enter__(self) -> Piped:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.output.close()
        self.join()


def summary(output: str) -> dict[str, Any]:
    """What stands in the last line of JSON output; every line is an object."""
    lines = [json.loads(line) for line in output.splitlines() if not line.startswith("listening on ")]
    assert all(isinstance(line, dict) for line in lines)
    return lines[-1]["summary"]


class Provider:
    """A `dicomnet recv` that runs."""

    def __init__(self, process: subprocess.Popen[str], stderr: Any) -> None:
        self.process = process
        self._stderr = stderr
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on "), (line, self.errors)
        self.host, _, port = line.removeprefix("listening on ").strip().rpartition(":")
        self.port = int(port)
        self.address = f"{self.host}:{port}"

    @property
    def errors(self) -> str:
        """What it wrote on standard error so far."""
        return os.pread(self._stderr.fileno(), 1 << 20, 0).decode()

    def stop(self, number: int = signal.SIGTERM) -> str:
        """End it with a signal; what it printed after its first line."""
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=PATIENCE)
        return output


@contextmanager
def provider(*arguments: object, address: str = "127.0.0.1:0", **options: Any) -> Iterator[Provider]:
    """A `dicomnet recv` on a free port, ended with the block if it has not ended by then."""
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            command("recv", address, *arguments), stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=ROOT, **options
        )
        try:
            yield Provider(process, stderr)
        finally:
            end(process)


@contextmanager
def peer(program: Sequence[object], port: int, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Another implementation's provider, from when it accepts connections to the end of the block."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(list(map(str, program)), stdout=output, stderr=output, **options)
        try:
            wait_for_port(process, port)
            yield process
        finally:
            end(process)


@contextmanager
def closing_at_release(port: int) -> Iterator[int]:
    """A port before another one on this host, which closes where the requestor asks for release."""
    release = b"\x05\0\0\0\0\x04\0\0\0\0"

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if data.endswith(release):
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                near, _ = server.accept()
                far = socket.create_connection(("127.0.0.1", port), PATIENCE)
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def wait_for_port(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        with suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"{process.args!r} ended with {process.wait(0.02)}")
    raise AssertionError(f"{process.args!r} does not listen on {port}")


def end(process: subprocess.Popen[Any]) -> None:
    """End a process that may have ended already."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
