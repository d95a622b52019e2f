"""How much longer it takes by way of a router, and whether destinations that are ill hold up one that is well.

    python tools/router_speed.py --rounds 8

Each round stores the same CTs directly at a provider, then by way of a router that forwards them to it from its queue,
then by way of one that passes them on while they arrive (cut-through), then by way of a router that has a dead, a
refusing and a slow destination (64 kB/s) besides. Times go from the first byte of the
first request to the last instance at the provider; the sender's own time is told, too. Router and providers are
processes of their own. The provider has each instance on its disk before it answers, as the router has; with
--discard it keeps none.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dicomnet as dn
from dicomnet import uids
from dicomnet.client.sync.store import StoreScu
from dicomnet.dataset import codec
from dicomnet.files.instance_source import BytesSource
from dicomnet.router.settings import RouterSettings
from dicomnet.services.provider_requests import StoreRequest
from dicomnet.status import Status
from dicomnet.sync import Listener

CT, LITTLE = uids.CT_IMAGE_STORAGE, uids.EXPLICIT_VR_LITTLE_ENDIAN
PIXELS = 512 << 10  # bytes of a CT
SLOW = 64 << 10  # bytes a second
#: By the goals: the transfer by way of a router, as a multiple of a direct one, by queue and by cut-through; the rate
#: beside ill destinations.
MOST_RATIO, MOST_THROUGH, LEAST_RATE = 2.0, 1.3, 0.95


# ---- the processes ---------------------------------------------------------------------------------------------------


def sink(status: int, rate: int, told: int, durable: int) -> None:
    """Be a provider: print its port, and a line each time that so many instances have come."""
    directory = Path(tempfile.mkdtemp(prefix="dicomnet-sink-")) if durable else None
    count = 0
    listener = Listener("SINK", port=0)

    def store(request: StoreRequest) -> Status:
        nonlocal count
        count += 1
        if directory is not None:
            request.file.commit(f"{request.sop_instance_uid}.dcm", root=directory)
        if rate:
            time.sleep(request.size / rate)  # the association stands still meanwhile
        if count % told == 0:
            print("come", flush=True)
        return Status(status)

    if directory is None:
        listener.on_store(unknown_classes=True, inline=not rate)(store)
    else:
        listener.on_store(unknown_classes=True, spool=str(directory), durable=True)(store)
    listener.open()
    print(listener.address[1], flush=True)
    try:
        signal.signal(signal.SIGTERM, lambda *_: listener.stop())
        listener.serve_forever()
    finally:
        shutil.rmtree(directory or "", ignore_errors=True)


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A program that prints its port first; it and the port."""
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            yield running, int(running.stdout.readline().rpartition(":")[2])
        finally:
            running.terminate()


def sinking(told: int, status: int = 0, rate: int = 0, durable: bool = False) -> Any:
    """A provider in a process."""
    return process(__file__, "--sink", f"{status},{rate},{told},{int(durable)}")


@contextmanager
def routing(directory: Path, destinations: dict[str, str], mode: str = "queue") -> Iterator[int]:
    """A router in a process, that sends everything to each of these; its port."""
    RouterSettings.make(directory)
    tables = "\n".join(f'[destinations.{name}]\naddress = "{address}"' for name, address in destinations.items())
    names = ", ".join(f'"{name}"' for name in destinations)
    rule = f'[[rules]]\nname = "all"\nactions = [{{ do = "forward", mode = "{mode}", to = [{names}] }}]\n'
    (directory / "rules.toml").write_text(f"{tables}\n{rule}")
    with process("-m", "dicomnet", "router", "run", str(directory), "--port", "0") as (_, port):
        yield port


# ---- measuring -------------------------------------------------------------------------------------------------------


@dataclass
class Times:
    """Seconds until all had come, and until the sender was done, of each round."""

    arrived: list[float] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{statistics.median(self.arrived):.2f} s (sender {statistics.median(self.sent):.2f} s)"


def instances(count: int) -> list[BytesSource]:
    """CTs of one series, new ones each time."""
    series = uids.new()
    made = []
    for number in range(count):
        uid = f"{series}.{number}"
        values = {
            "SOPClassUID": CT, "SOPInstanceUID": uid, "StudyInstanceUID": series, "SeriesInstanceUID": series,
            "PatientID": "P1", "Modality": "CT", "InstanceNumber": number, "BitsAllocated": 16,
            "PixelData": os.urandom(PIXELS),
        }  # fmt: skip
        made.append(BytesSource(codec.encode(codec.from_keywords(values), LITTLE), LITTLE, CT, uid))
    return made


def timed(peer: str, provider: subprocess.Popen[str], count: int, times: Times) -> None:
    """Send, and wait until all have come."""
    sources = instances(count)
    with StoreScu(dn.Entity.parse(peer)) as scu:
        begin = time.perf_counter()
        assert all(one.ok for one in scu.send(sources))
        times.sent.append(time.perf_counter() - begin)
    assert provider.stdout is not None
    assert provider.stdout.readline() == "come\n"
    times.arrived.append(time.perf_counter() - begin)


@dataclass
class Measured:
    """The times of each way."""

    direct: Times = field(default_factory=Times)
    queued: Times = field(default_factory=Times)
    through: Times = field(default_factory=Times)
    beside: Times = field(default_factory=Times)


def measure(root: Path, rounds: int, count: int, durable: bool) -> Measured:
    """Directly, by a router's queue, by its cut-through, and by way of one with ill destinations beside."""
    found = Measured()
    with ExitStack() as stack:
        goods = [stack.enter_context(sinking(count, durable=durable)) for _ in range(4)]
        _, refusing = stack.enter_context(sinking(1 << 30, status=0xA900))
        _, slow = stack.enter_context(sinking(1 << 30, rate=SLOW))
        plain, cut, ill = ({"GOOD": f"SINK@127.0.0.1:{port}"} for _, port in goods[1:])
        ill |= {
            "DEAD": "SINK@127.0.0.1:1", "REFUSES": f"SINK@127.0.0.1:{refusing}", "SLOW": f"SINK@127.0.0.1:{slow}",
        }  # fmt: skip
        ports = [
            stack.enter_context(routing(root / "plain", plain)),
            stack.enter_context(routing(root / "through", cut, "cut-through")),
            stack.enter_context(routing(root / "ill", ill)),
        ]
        ways = [f"SINK@127.0.0.1:{goods[0][1]}", *(f"ROUTER@127.0.0.1:{port}" for port in ports)]
        all_times = (found.direct, found.queued, found.through, found.beside)
        turns = list(zip(ways, goods, all_times, strict=True))
        for number in range(rounds):
            # Each comes after each other one: the disk may still be at work for the one before.
            first = number % len(turns)
            for peer, (provider, _), times in turns[first:] + turns[:first]:
                timed(peer, provider, count, times)
    return found


def main() -> int:
    """Run from the command line; 0 if the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--discard", action="store_true")
    parser.add_argument("--sink", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sink:
        sink(*map(int, options.sink.split(",")))
        return 0
    with tempfile.TemporaryDirectory(prefix="dicomnet-speed-") as directory:
        found = measure(Path(directory), options.rounds, options.count, not options.discard)
    direct, queued, through, beside = (
        statistics.median(one.arrived) for one in (found.direct, found.queued, found.through, found.beside)
    )
    rate, sender = queued / beside, statistics.median(found.queued.sent) / statistics.median(found.beside.sent)
    print(f"directly {found.direct}, by a router's queue {found.queued}: {queued / direct:.2f} times; by cut-through "
          f"{found.through}: {through / direct:.2f} times; beside ill destinations {found.beside}: {rate:.0%} of the "
          f"rate, the sender at {sender:.0%}; load {os.getloadavg()[0]:.1f}")  # fmt: skip
    is_good = queued / direct <= MOST_RATIO and through / direct <= MOST_THROUGH and min(rate, sender) >= LEAST_RATE
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
