"""Compare the transfers of two checkouts: ``python tools/paired_transfer.py BEFORE AFTER [--runs 7] [--only NAME]``.

Provider and user come from the same checkout, each in a process of its own, and the two checkouts take turns, so that a
machine that is busy is busy for both. What is timed is the transfer, from the first byte of the first request to the
last response, and what processor time both processes spend meanwhile; files are read from, and stored in, memory. The
handler, which commits the file, is inline where a checkout knows that; PAIRED_IN_THREADS=1 has it run in a thread.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

IN_THREADS = "PAIRED_IN_THREADS"  # in the environment: the handler is not inline, and costs two changes of threads
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


Rows = list[list[tuple[float, float]]]  # for each run, and each checkout: seconds, and seconds of a processor


class Scenario(NamedTuple):
    """What is transferred.

    Attributes:
        number: instances of each sender, or C-ECHOs where ``size`` is 0.
        size: bytes of pixel data.
        window: operations under way at a time.
        senders: processes that send at the same time.
        tls: whether the connections are secured.
    """

    number: int
    size: int
    window: int = 16
    senders: int = 1
    tls: bool = False


SCENARIOS = {
    "512 KiB x 200": Scenario(200, 512 << 10),
    "4 KiB x 4000, window 16": Scenario(4000, 4 << 10),
    "4 KiB x 4000, window 1": Scenario(4000, 4 << 10, window=1),
    "300 MB x 1": Scenario(1, 300_000_000),
    "512 KiB x 200, TLS": Scenario(200, 512 << 10, tls=True),
    "512 KiB x 50, eight senders": Scenario(50, 512 << 10, senders=8),
    "C-ECHO x 5000": Scenario(5000, 0),
}


def element(tag: int, vr: str, value: bytes) -> bytes:
    """An element in explicit VR little endian."""
    value += b"\0" * (len(value) % 2)
    group, number = tag >> 16, tag & 0xFFFF
    if vr in ("OB", "OW"):
        return struct.pack("<HH2sHI", group, number, vr.encode(), 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, vr.encode(), len(value)) + value


def part10(uid: str, size: int) -> bytes:
    """A CT instance as a file, with so many bytes of pixel data."""
    meta = (
        element(0x00020001, "OB", b"\0\1")
        + element(0x00020002, "UI", CT.encode())
        + element(0x00020003, "UI", uid.encode())
        + element(0x00020010, "UI", EXPLICIT.encode())
    )
    head = element(0x00080016, "UI", CT.encode()) + element(0x00080018, "UI", uid.encode())
    pixels = element(0x7FE00010, "OW", bytes(size))
    return bytes(128) + b"DICM" + element(0x00020000, "UL", struct.pack("<I", len(meta))) + meta + head + pixels


def certificate(directory: Path) -> None:
    """A certificate that is its own authority, and its key, in one file."""
    made = directory / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-subj", "/CN=localhost", "-days", "2", "-keyout", directory / "key.pem", "-out", directory / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    made.write_bytes((directory / "cert.pem").read_bytes() + (directory / "key.pem").read_bytes())


def tls_of(scenario: Scenario, directory: Path, dn: Any) -> Any:
    """How the connections of a scenario are secured; None where they are not."""
    if not scenario.tls:
        return None
    both = directory / "both.pem"
    return dn.TLS(ca=directory / "cert.pem", cert=both, client_certificate="ignored", check_name=False)


# ---- the two processes of a run; PYTHONPATH says of which checkout -------------------------------------------------


def serve(scenario: Scenario, directory: Path) -> None:
    """Be the provider until standard input ends; print the port."""
    import dicomnet as dn  # noqa: PLC0415 - not in the process that compares

    stored = Path(tempfile.mkdtemp(dir=directory))
    scp = dn.Listener("ARCHIVE", port=0, tls=tls_of(scenario, directory, dn))

    def keep(request: Any) -> None:
        request.file.commit(str(stored / request.sop_instance_uid))

    try:
        scp.on_store(spool=str(stored), inline=not os.environ.get(IN_THREADS))(keep)
    except TypeError:  # an older checkout runs each handler in the thread of its association
        scp.on_store(spool=str(stored))(keep)

    with scp:
        print(scp.address[1], flush=True)
        before = time.process_time()
        sys.stdin.read()
        print(time.process_time() - before)


def send(scenario: Scenario, directory: Path, port: int) -> None:
    """Be the user, a process for each sender; print the seconds of the transfer, and of a processor meanwhile."""
    context = multiprocessing.get_context("fork")
    barrier, times = context.Barrier(scenario.senders), context.Queue()
    senders = [
        context.Process(target=transfer, args=(scenario, directory, port, number, barrier, times))
        for number in range(scenario.senders)
    ]
    for sender in senders:
        sender.start()
    spans = [times.get(timeout=120) for _ in senders]
    for sender in senders:
        sender.join()
        if sender.exitcode:
            sys.exit("a transfer failed")
    seconds = max(end for _, end, _ in spans) - min(start for start, _, _ in spans)
    print(seconds, sum(spent for _, _, spent in spans))


def transfer(scenario: Scenario, directory: Path, port: int, number: int, barrier: Any, times: Any) -> None:
    """One association of one sender."""
    import dicomnet as dn  # noqa: PLC0415

    files = sorted((directory / str(scenario.size)).iterdir())[: scenario.number]
    peer = dn.Peer(dn.Entity("ARCHIVE", "127.0.0.1", port), window=(scenario.window, 1))
    contexts = [*dn.contexts.verification(), *dn.contexts.for_instances([(CT, EXPLICIT)])]
    tls = tls_of(scenario, directory, dn)
    with dn.connect(peer, contexts=contexts, calling=f"SENDER{number}", tls=tls) as association:
        barrier.wait()
        start, spent = time.monotonic(), time.process_time()
        failed: list[object]
        if scenario.size:
            failed = [result for result in association.store_many(files) if not result.ok]
        else:
            failed = [status for _ in range(scenario.number) if not (status := association.echo()).is_success]
        times.put((start, time.monotonic(), time.process_time() - spent))
    if failed:
        sys.exit(f"{len(failed)} were refused: {failed[0]}")


# ---- the comparison ------------------------------------------------------------------------------------------------


def run(checkout: Path, name: str, directory: Path) -> tuple[float, float]:
    """Seconds of one transfer, and of a processor meanwhile."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    me = [sys.executable, str(Path(__file__).resolve())]
    arguments = [name, str(directory)]
    provider = subprocess.Popen(
        [*me, "--serve", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        cwd=directory,
    )  # fmt: skip
    assert provider.stdout is not None
    try:
        port = provider.stdout.readline().strip()
        sent = subprocess.run(
            [*me, "--send", *arguments, port], check=True, stdout=subprocess.PIPE, text=True, env=environment,
            timeout=180, cwd=directory,
        )  # fmt: skip
        seconds, spent = map(float, sent.stdout.split())
    finally:
        told, _ = provider.communicate()
        for stored in directory.glob("tmp*"):
            shutil.rmtree(stored)
    return seconds, spent + float(told)


def compare(checkouts: list[Path], names: list[str], runs: int, directory: Path) -> dict[str, Rows]:
    """Seconds by scenario: for each run those of the checkouts, which take turns, also at being the first."""
    taken: dict[str, Rows] = {}
    for name in names:
        size = SCENARIOS[name].size
        files = directory / str(size)
        files.mkdir(exist_ok=True)
        for number in range(SCENARIOS[name].number if size else 0):
            files.joinpath(f"{number:05}").write_bytes(part10(f"1.2.826.0.1.3680043.10.43.{size}.{number + 1}", size))
        rows = taken.setdefault(name, [])
        for turn in range(runs):
            row = [(0.0, 0.0)] * len(checkouts)
            for place in sorted(range(len(checkouts)), reverse=bool(turn % 2)):
                row[place] = run(checkouts[place], name, directory)
            rows.append(row)
        report(name, rows)
        shutil.rmtree(files)
    return taken


def report(name: str, rows: Rows) -> None:
    """A line of the table: medians, their ratio, and the median of the ratios of neighbours."""
    line = f"{name:28}"
    for kind in range(2):
        pairs = [(before[kind], after[kind]) for before, after in rows]
        before, after = (statistics.median(column) for column in zip(*pairs, strict=True))
        paired = statistics.median(later / earlier for earlier, later in pairs)
        line += f"  {before * 1000:9.1f} {after * 1000:9.1f} {after / before:6.3f} {paired:6.3f}"
    print(line, flush=True)


def main() -> None:
    """Compare, or be one of the two processes of a run."""
    if sys.argv[1] in ("--serve", "--send"):
        scenario, directory = SCENARIOS[sys.argv[2]], Path(sys.argv[3])
        if sys.argv[1] == "--serve":
            serve(scenario, directory)
        else:
            send(scenario, directory, int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("checkouts", type=Path, nargs=2, metavar="CHECKOUT", help="before, and after; both built")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--only", choices=SCENARIOS, action="append", help="this scenario; may be repeated")
    parser.add_argument("--json", type=Path, help="also write all seconds to this file")
    given = parser.parse_args()
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as scratch:
        directory = Path(scratch)
        certificate(directory)
        columns = f"{'before/ms':>9} {'after/ms':>9} {'ratio':>6} {'paired':>6}"
        print(f"{'transfer, then processor':28}  {columns}  {columns}")
        checkouts = [checkout.resolve() for checkout in given.checkouts]
        taken = compare(checkouts, given.only or list(SCENARIOS), given.runs, directory)
    if given.json:
        given.json.write_text(json.dumps(taken, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
