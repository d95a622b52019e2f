"""Kill a router and its destinations at random times, and see that nothing that it acknowledged is lost or torn.

    python tools/router_soak.py --kills 1000

Several senders store at a router, which forwards everything to two destinations: an archive, which is killed too, and a
listener that writes down each instance that it gets. In the end both have every instance that the router acknowledged,
with the bytes that were sent; what came twice came with the same bytes. With --through the router passes on what comes
while it arrives (cut-through): half of the patients to the archive, the others to the listener.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from soak import SENDERS, SLOWEST_START, Sender, Server, Told

from dicomnet.archive.archive import Archive
from dicomnet.archive.checks import fsck, scrub
from dicomnet.archive.holdings import Holdings
from dicomnet.archive.settings import ArchiveSettings
from dicomnet.repository.outbox import RetryClass
from dicomnet.router.forwarder import Pace
from dicomnet.router.queue import State
from dicomnet.router.router import Router
from dicomnet.router.settings import RouterSettings
from dicomnet.router.spool import Spool
from dicomnet.services.provider_requests import StoreRequest
from dicomnet.status import Status
from dicomnet.sync import Listener

DRAINED = 120.0  # seconds in which all that waits in the end has to be sent
MOST_BYTES = 200 << 20  # of one router; then a new one is begun
_SOON = RetryClass(first=0.05, factor=2, most=0.5, attempts=1 << 30)
PACE = Pace(unreachable=_SOON, busy=_SOON, refused=_SOON)
RULES = """
[destinations.ARCHIVE]
address = "ARCHIVE@127.0.0.1:{archive}"
width = 2

[destinations.WITNESS]
address = "WITNESS@127.0.0.1:{witness}"

[[rules]]
name = "all"
actions = [{{ do = "forward", to = ["ARCHIVE", "WITNESS"] }}]
"""
THROUGH = """
[destinations.ARCHIVE]
address = "ARCHIVE@127.0.0.1:{archive}"
width = 4

[destinations.WITNESS]
address = "WITNESS@127.0.0.1:{witness}"
width = 4

[[rules]]
name = "even"
when = {{ field = "PatientID", matches = "[02468]$" }}
actions = [{{ do = "forward", to = ["ARCHIVE"], mode = "cut-through" }}]

[[rules]]
name = "odd"
fallback = true
actions = [{{ do = "forward", to = ["WITNESS"], mode = "cut-through" }}]
"""


# ---- the processes that are killed -----------------------------------------------------------------------------------


def nursery(what: str, directory: Path, port: int) -> None:
    """For each line on standard input fork a router or an archive; print its process and port."""
    print("ready", flush=True)
    for _ in sys.stdin:
        pid = os.fork()
        if not pid:
            (serve_router if what == "router" else serve_archive)(directory, port)
            os._exit(0)
        os.waitpid(pid, 0)


def serve_router(directory: Path, port: int) -> None:
    """Be a router."""
    router = Router(directory, RouterSettings.make(directory, port=port), pace=PACE)
    router.listener.open()
    print(os.getpid(), router.listener.address[1], 0, flush=True)
    router.serve_forever()


def serve_archive(directory: Path, port: int) -> None:
    """Be an archive on a port that the router knows."""
    archive = Archive(directory, ArchiveSettings.make(directory, port=port))
    archive.listener.open()
    print(os.getpid(), archive.listener.address[1], archive.holdings.recovered, flush=True)
    archive.serve_forever()


class Witness(Listener):
    """A destination that writes down what it gets: the hashes of each instance, and how often it came."""

    def __init__(self) -> None:
        super().__init__("WITNESS", port=0)
        self.hashes: dict[str, set[bytes]] = defaultdict(set)
        self.received = 0
        self.on_store(unknown_classes=True, inline=True)(self._store)

    def _store(self, request: StoreRequest) -> Status:
        self.hashes[request.sop_instance_uid].add(hashlib.sha256(request.data).digest())
        self.received += 1
        return Status.SUCCESS


# ---- the soak --------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What was seen."""

    kills: int = 0
    acknowledged: int = 0
    twice: int = 0
    through: int = 0  # of what was acknowledged: passed on while it arrived
    lost: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    slowest: float = 0.0
    slowest_allowed: float = SLOWEST_START

    @property
    def good(self) -> bool:
        """Whether all is as it has to be."""
        return not (self.lost or self.torn or self.problems or self.refused) and self.slowest < self.slowest_allowed


def free_port() -> int:
    """A port below those that the system gives to callers."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def soak(
    kills: int, root: Path, *, seed: int = 0, say: bool = True, through: bool = False, slowest: float = SLOWEST_START
) -> Outcome:
    """Kill a router and its archive so often.

    Args:
        kills: how often, together.
        root: a directory for routers and archives; each is deleted when it has grown and was checked.
        seed: of what is random.
        say: print a line for each router.
        through: by cut-through, and not by the queues alone.
        slowest: seconds that a start may take.
    """
    outcome = Outcome(slowest_allowed=slowest)
    while outcome.kills < kills and outcome.good:
        directory = root / f"router-{outcome.kills}"
        with (witness := Witness()):
            _one_router(kills, directory, random.Random(seed + outcome.kills), outcome, witness, through)
        if say:
            print(f"{outcome.kills} kills, {outcome.acknowledged} acknowledged, {outcome.twice} came twice, "
                  f"slowest start {outcome.slowest:.2f} s", flush=True)  # fmt: skip
        if outcome.good:
            shutil.rmtree(directory)
    return outcome


def _one_router(
    kills: int, root: Path, chance: random.Random, outcome: Outcome, witness: Witness, through: bool
) -> None:
    router, archive, port = root / "router", root / "archive", free_port()
    RouterSettings.make(router)
    (router / "rules.toml").write_text((THROUGH if through else RULES).format(archive=port, witness=witness.address[1]))
    module = (__file__, "--nursery")
    routers = Server(*module, "router", "--directory", str(router), "--port", "0")
    archives = Server(*module, "archive", "--directory", str(archive), "--port", str(port))
    told = Told()
    archives.start()
    while outcome.kills < kills and told.size < MOST_BYTES and outcome.good:
        _round(routers, archives, chance, told, outcome)
    outcome.slowest = max(outcome.slowest, routers.start())
    _drain(router, outcome)
    for server in (routers, archives):
        server.kill()
        server.end()
    _check(archive, told, witness, outcome, through)


def _round(routers: Server, archives: Server, chance: random.Random, told: Told, outcome: Outcome) -> None:
    """Start, let them store for a moment, kill the router, and one time in three the archive, too."""
    before = len(told.hashes)
    told.grew.clear()
    outcome.slowest = max(outcome.slowest, routers.start())
    peer = f"ROUTER@127.0.0.1:{routers.port}"
    senders = [Sender(peer, chance.randrange(1 << 30), told) for _ in range(SENDERS)]
    for sender in senders:
        sender.start()
    if chance.random() < 0.9:
        told.grew.wait(10.0)
    threading.Event().wait(chance.uniform(0.0, 0.3))
    if chance.random() < 1 / 3:
        archives.kill()
        outcome.kills += 1
        threading.Event().wait(chance.uniform(0.0, 0.2))
        archives.start()
    routers.kill()
    for sender in senders:
        sender.join()
        outcome.refused += sender.refused
    outcome.kills += 1
    outcome.acknowledged += len(told.hashes) - before


def _drain(directory: Path, outcome: Outcome) -> None:
    """Wait until the router that lives has sent all; what it has given up is a problem."""
    end = time.monotonic() + DRAINED
    with Spool(directory) as spool:
        while spool.queue.items(states=[State.WAITING, State.LEASED], most=1):
            if time.monotonic() > end:
                outcome.problems.append(f"not sent after {DRAINED:.0f} s: {list(spool.queue.counts())}")
                break
            threading.Event().wait(0.1)
        given_up = spool.queue.items(states=[State.PARKED, State.HELD, State.DROPPED])
        outcome.problems += [f"{one.uid} for {one.destination} is {one.state}: {one.why}" for one in given_up]
        sent = spool.queue.items(states=[State.SENT], most=1_000_000)
        outcome.through += sum(not one.ref.key for one in sent)


def _check(archive: Path, told: Told, witness: Witness, outcome: Outcome, through: bool) -> None:
    """Compare what both destinations have, or each its half, with what the router acknowledged."""
    with Holdings(archive) as holdings:
        places = holdings.places.of(told.hashes)
        outcome.problems += [str(one) for one in (*fsck(holdings), *scrub(holdings))]
        outcome.problems += [f"in quarantine: {one.uid}" for one in holdings.quarantine.items()]
    for uid, sha in told.hashes.items():
        found = [*([places[uid].sha] if uid in places else []), *witness.hashes.get(uid, ())]
        if len(found) < (1 if through else 2):
            outcome.lost.append(uid)
        elif set(found) != {sha}:
            outcome.torn.append(uid)
    outcome.torn += [uid for uid, hashes in witness.hashes.items() if len(hashes) > 1]
    outcome.twice += witness.received - len(witness.hashes)


def main() -> int:
    """Run from the command line; 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--through", action="store_true", help="by cut-through")
    parser.add_argument("--slowest", type=float, default=SLOWEST_START, help="seconds of a start, on a machine at work")
    parser.add_argument("--nursery", choices=("router", "archive"))
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    if options.nursery:
        nursery(options.nursery, options.directory, options.port)
        return 0
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="dicomnet-soak-") as root:
        outcome = soak(options.kills, Path(root), seed=options.seed, through=options.through, slowest=options.slowest)
    print(outcome)
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
