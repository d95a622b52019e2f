"""Kill an archive at random times while it stores, and see that nothing that it acknowledged is lost or torn.

    python tools/soak.py --kills 2000

Several senders store small, middling and large instances. The archive, a process of its own, is killed (SIGKILL),
started again, and so on. Each time: the start is quick; in between and at the end every acknowledged instance is there
with the bytes that were sent, and ``fsck`` finds nothing in either direction.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import dicomnet as dn
from dicomnet import uids
from dicomnet.archive.archive import Archive
from dicomnet.archive.checks import fsck, scrub
from dicomnet.archive.holdings import Holdings
from dicomnet.archive.settings import ArchiveSettings
from dicomnet.dataset import codec
from dicomnet.errors import DicomNetError
from dicomnet.files.instance_source import BytesSource

CT, LITTLE = uids.CT_IMAGE_STORAGE, uids.EXPLICIT_VR_LITTLE_ENDIAN
SENDERS = 4
SLOWEST_START = 5.0  # seconds, by the goal
CHECKED_EVERY = 10  # kills
PATIENCE = 60.0 * float(os.environ.get("DICOMNET_PATIENCE", "1"))  # seconds for an archive to start, or to end
MOST_BYTES = 400 << 20  # of one archive; then a new one is begun
# Bytes of pixels, and how often.
SIZES = ((2 << 10, 60), (8 << 10, 20), (200 << 10, 12), (1 << 20, 4), (3 << 20, 4))


@dataclass
class Told:
    """What the archive acknowledged: SHA-256 by UID."""

    hashes: dict[str, bytes] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    grew: threading.Event = field(default_factory=threading.Event)
    size: int = 0

    def add(self, uid: str, data: bytes) -> None:
        """An instance was acknowledged."""
        with self.lock:
            self.hashes[uid] = hashlib.sha256(data).digest()
            self.size += len(data)
            self.grew.set()


# ---- the archive, as a process that is forked from one that has loaded everything ------------------------------------


def nursery(directory: Path) -> None:
    """For each line on standard input fork an archive; print its process and port. Runs until its input ends."""
    print("ready", flush=True)
    for _ in sys.stdin:
        pid = os.fork()
        if not pid:
            serve(directory)
        os.waitpid(pid, 0)


def serve(directory: Path) -> None:
    """Be an archive."""
    archive = Archive(directory, ArchiveSettings.make(directory, port=0))
    archive.listener.open()
    print(os.getpid(), archive.listener.address[1], archive.holdings.recovered, flush=True)
    archive.serve_forever()
    os._exit(0)


class Server:
    """The nursery, and the archive, or what else it forks, that lives.

    Args:
        nursery: arguments of Python that run a nursery.
    """

    def __init__(self, *nursery: str) -> None:
        command = [sys.executable, *nursery]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
        )
        self.pid = self.port = self.recovered = 0
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def start(self) -> float:
        """Start an archive; the seconds that it took to listen."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        begin = time.monotonic()
        self._process.stdin.write("start\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        assert ready, "the archive does not start"
        self.pid, self.port, self.recovered = map(int, self._process.stdout.readline().split())
        return time.monotonic() - begin

    def kill(self) -> None:
        """Kill the archive, if there is one."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
        self.pid = 0

    def end(self) -> None:
        """End the nursery, which has no archive any more; where one is left, it goes too, and that is told."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            raise
        finally:
            self._process.stdout.close()


# ---- senders ---------------------------------------------------------------------------------------------------------


class Sender(threading.Thread):
    """Stores one instance after the other until the association breaks."""

    def __init__(self, peer: str, seed: int, told: Told) -> None:
        super().__init__(daemon=True)
        self._peer, self._random, self._told = peer, random.Random(seed), told
        self.refused: list[str] = []

    def run(self) -> None:
        """Store."""
        try:
            with dn.connect(self._peer, contexts=dn.contexts.storage([CT])) as association:
                while True:
                    self._store(association)
        except (DicomNetError, OSError):
            pass  # it was killed

    def _store(self, association: dn.Association) -> None:
        uid, data = self._instance()
        status = association.store(BytesSource(data, LITTLE, CT, uid)).status
        if status is not None and status.is_success:
            self._told.add(uid, data)
        else:
            self.refused.append(str(status))

    def _instance(self) -> tuple[str, bytes]:
        sizes, weights = zip(*SIZES, strict=True)
        size = self._random.choices(sizes, weights)[0] + 2 * self._random.randrange(500)
        study, uid = self._random.randrange(20), uids.new()
        values = {
            "SOPClassUID": CT,
            "SOPInstanceUID": uid,
            "StudyInstanceUID": f"1.2.{study}",
            "SeriesInstanceUID": f"1.2.{study}.{self._random.randrange(3)}",
            "PatientID": f"P{study}",
            "PatientName": f"Soak^{study}",
            "Modality": "CT",
            "BitsAllocated": 16,
            "PixelData": self._random.randbytes(size),
        }
        return uid, codec.encode(codec.from_keywords(values), LITTLE)


# ---- the soak --------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What was seen."""

    kills: int = 0
    acknowledged: int = 0
    recovered: int = 0
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


def check(directory: Path, told: Told, outcome: Outcome) -> None:
    """Compare a dead archive with what it acknowledged."""
    with Holdings(directory) as holdings:
        outcome.recovered += holdings.recovered
        places = holdings.places.of(told.hashes)
        outcome.lost += [uid for uid in told.hashes if uid not in places]
        outcome.torn += [uid for uid, place in places.items() if place.sha != told.hashes[uid]]
        outcome.problems += [str(one) for one in (*fsck(holdings), *scrub(holdings))]
        outcome.problems += [f"left: {path}" for path in (holdings.blobs.root / "incoming").iterdir()]


def soak(kills: int, root: Path, *, seed: int = 0, say: bool = True, slowest: float = SLOWEST_START) -> Outcome:
    """Kill an archive so often.

    Args:
        kills: how often.
        root: a directory for archives; each is deleted when it has grown and was checked.
        seed: of what is random.
        say: print a line for each check.
        slowest: seconds that a start may take.
    """
    outcome = Outcome(slowest_allowed=slowest)
    while outcome.kills < kills:
        directory = root / f"archive-{outcome.kills}"
        _one_archive(kills, directory, random.Random(seed + outcome.kills), outcome, say=say)
        if not outcome.good:
            break
        shutil.rmtree(directory)
    return outcome


def _one_archive(kills: int, directory: Path, chance: random.Random, outcome: Outcome, *, say: bool) -> None:
    told = Told()
    server = Server(__file__, "--nursery", str(directory))
    try:
        while outcome.kills < kills and told.size < MOST_BYTES and outcome.good:
            _round(server, chance, told, outcome)
            if outcome.kills % CHECKED_EVERY == 0:
                check(directory, told, outcome)
                if say:
                    print(f"{outcome.kills} kills, {outcome.acknowledged} acknowledged, {outcome.recovered} recovered, "
                          f"slowest start {outcome.slowest:.2f} s", flush=True)  # fmt: skip
    finally:
        server.kill()
        server.end()
    check(directory, told, outcome)


def _round(server: Server, chance: random.Random, told: Told, outcome: Outcome) -> None:
    """Start, let them store for a moment, kill."""
    before = len(told.hashes)
    told.grew.clear()
    outcome.slowest = max(outcome.slowest, server.start())
    outcome.recovered += server.recovered
    senders = [Sender(f"ARCHIVE@127.0.0.1:{server.port}", chance.randrange(1 << 30), told) for _ in range(SENDERS)]
    for sender in senders:
        sender.start()
    # Now and then before anything is acknowledged, else in the midst of it.
    if chance.random() < 0.9:
        told.grew.wait(10.0)
    threading.Event().wait(chance.uniform(0.0, 0.4))
    server.kill()
    for sender in senders:
        sender.join()
        outcome.refused += sender.refused
    outcome.kills += 1
    outcome.acknowledged += len(told.hashes) - before


def main() -> int:
    """Run from the command line; 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--nursery", type=Path)
    options = parser.parse_args()
    if options.nursery is not None:
        nursery(options.nursery)
        return 0
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="dicomnet-soak-") as root:
        outcome = soak(options.kills, Path(root), seed=options.seed)
    print(outcome)
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
