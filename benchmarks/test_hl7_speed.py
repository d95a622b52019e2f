"""HL7: orders a second into an archive on the disk, each acknowledged once it is durable, and how long each takes."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rigs import dicomnet_command

SENDERS, ORDERS, SHORT = 8, 250, 3
TARGET, SLOWEST = 300, 50  # orders a second, and milliseconds of all but one in a hundred
ORDER = (
    "MSH|^~\\&|RIS|HOSPITAL|PACS|RADIOLOGY|20260131100000||ORM^O01^ORM_O01|{0}|P|2.5.1||||||UNICODE UTF-8\r"
    "PID|1||P{0}^^^HOSP||Doe^Jane||19700102|F\rORC|NW|PL{0}|FI{0}||||1^once^^20260131103000^^S\r"
    "OBR|1|PL{0}|FI{0}|CTH^CT Head^LOCAL||||||||||||4711^House^Gregory||A{0}|R{0}|S1|CT1|||CT\rZDS|1.2.3.{0}\r"
)


@pytest.fixture
def port() -> Iterator[int]:
    """Where an archive takes HL7 messages."""
    directory = Path(
        tempfile.mkdtemp(prefix="dicomnet-bench-", dir=os.environ.get("DICOMNET_BENCH_DISK") or "/var/tmp")
    )
    (directory / "archive.toml").write_text('ae_title = "ARCHIVE"\nport = 0\nhl7_port = 0\n')
    process = subprocess.Popen(
        [*dicomnet_command(), "archive", "run", str(directory), "-v"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"HL7 messages are taken on port (\d+)", line):
                break
        threading.Thread(target=process.stderr.read, daemon=True).start()
        assert found
        yield int(found[1])
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(directory, ignore_errors=True)


def send(port: int, first: int, count: int, taken: list[float]) -> None:
    """Orders one after the other, each once the last is acknowledged."""
    with socket.create_connection(("127.0.0.1", port)) as sender:
        for number in range(first, first + count):
            begun = time.perf_counter()
            sender.sendall(b"\x0b" + ORDER.format(number).encode() + b"\x1c\r")
            answer = b""
            while not answer.endswith(b"\x1c\r"):
                answer += sender.recv(4096)
            assert b"|AA|" in answer, answer
            taken.append(time.perf_counter() - begun)


def test_orders_are_durable_and_quick(port: int, pytestconfig: pytest.Config) -> None:
    short = pytestconfig.getoption("benchmark_disable")
    count = SHORT if short else ORDERS
    send(port, 1, 1, [])
    taken: list[float] = []
    senders = [threading.Thread(target=send, args=(port, 10_000 * one, count, taken)) for one in range(1, SENDERS + 1)]
    begun = time.perf_counter()
    for one in senders:
        one.start()
    for one in senders:
        one.join()
    rate = len(taken) / (time.perf_counter() - begun)
    assert len(taken) == SENDERS * count
    worst = sorted(taken)[int(len(taken) * 0.99)]
    found = f"{rate:.0f} orders/s (target {TARGET}), p99 {worst * 1000:.0f} ms (target {SLOWEST})"
    print(f"\n{SENDERS} senders, load {os.getloadavg()[0]:.1f}: {found}")
    assert short or rate > TARGET / 10
