"""Three nodes of one archive for the tests: processes on one PostgreSQL and one Swift, killed at random times."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cutting
import postgres
import swift
from archives import CT, LITTLE

import dicomnet as dn
from dicomnet.archive.checks import fsck, scrub
from dicomnet.archive.holdings import Holdings
from dicomnet.archive.settings import ArchiveSettings
from dicomnet.dataset import codec
from dicomnet.errors import DicomNetError
from dicomnet.files.instance_source import BytesSource
from tools import soak

NODES = 3
SENDERS = 4


@dataclass
class Site:
    """What nodes stand on.

    Attributes:
        proxy: between the nodes and the object store.
        database, storage: URLs; ``direct``: of the store, past the proxy.
    """

    cluster: postgres.Cluster
    proxy: cutting.Proxy
    database: str
    storage: str
    direct: str


@contextmanager
def site(store: swift.Swift, bucket: str, seed: int = 0) -> Iterator[Site]:
    """A PostgreSQL of its own, and a proxy before the store."""
    name = bucket.partition("?")[0].removeprefix("s3://")
    with postgres.cluster() as cluster, cutting.cutting(store.endpoint, seed) as proxy:
        url = cluster.url(cluster.new_database())
        yield Site(cluster, proxy, url, store.url(name, proxy.address), bucket)


def make(directory: Path, where: Site, *, direct: bool = False, **settings: object) -> ArchiveSettings:
    """A node's directory."""
    storage = where.direct if direct else where.storage
    return ArchiveSettings.make(directory, port=0, database=where.database, storage=storage, **settings)


@dataclass
class Outcome:
    """What was seen."""

    kills: int = 0
    restarts: int = 0
    acknowledged: int = 0
    asked: int = 0
    refused: int = 0
    unseen: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    recovered: int = 0
    checked: float = 0.0  # seconds that the comparison took


class Sender(soak.Sender):
    """Stores at whichever node lives, and asks another one for what was just acknowledged."""

    def __init__(self, servers: list[soak.Server], seed: int, told: soak.Told, outcome: Outcome) -> None:
        super().__init__("", seed, told)
        self._servers, self._outcome = servers, outcome
        self._again: list[tuple[str, bytes]] = []
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                with self._connected() as association:
                    for _ in range(20):
                        self._store(association)
                        if self.stop.is_set():
                            break
            except (DicomNetError, OSError):
                self.stop.wait(0.05)  # its node was killed

    def _connected(self) -> dn.Association:
        port = self._random.choice(self._servers).port
        contexts = [*dn.contexts.storage([CT]), *dn.contexts.query_retrieve([CT])]
        return dn.connect(f"ARCHIVE@127.0.0.1:{port}", contexts=contexts)

    def _store(self, association: dn.Association) -> None:
        uid, data = self._again.pop() if self._again else self._instance()
        self._again.append((uid, data))  # until it is acknowledged it is sent again, as a modality does
        status = association.store(BytesSource(data, LITTLE, CT, uid)).status
        if status is None or not status.is_success:
            self._outcome.refused += 1
            self.stop.wait(0.2)
            return
        self._again.pop()
        self._told.add(uid, data)
        if self._random.random() < 0.1:
            self._ask(uid, data)

    def _ask(self, uid: str, data: bytes) -> None:
        """Read your writes: whichever node is asked has it."""
        try:
            with self._connected() as other:
                found = [match.dataset for match in other.find("IMAGE", **_keys(uid, data))]
        except (DicomNetError, OSError):
            return
        self._outcome.asked += 1
        if len(found) != 1:
            self._outcome.unseen.append(uid)


def _keys(uid: str, data: bytes) -> dict[str, str]:
    whole = codec.decode(data, LITTLE)
    return {
        "StudyInstanceUID": str(whole.StudyInstanceUID),
        "SeriesInstanceUID": str(whole.SeriesInstanceUID),
        "SOPInstanceUID": uid,
    }


def run(root: Path, where: Site, kills: int, restarts: int, *, seed: int = 0, say: bool = False) -> Outcome:
    """Kill nodes, and restart the database, so often, while senders store; then compare all with what was told."""
    chance, told, outcome = random.Random(seed), soak.Told(), Outcome()
    servers: list[soak.Server] = []
    with ExitStack() as stack:
        for number in range(NODES):
            make(root / f"node{number}", where)
            servers.append(soak.Server(soak.__file__, "--nursery", str(root / f"node{number}")))
            stack.callback(servers[-1].end)
            stack.callback(servers[-1].kill)
            servers[-1].start()
        senders = [Sender(servers, chance.randrange(1 << 30), told, outcome) for _ in range(SENDERS)]
        for sender in senders:
            sender.start()
        try:
            where.proxy.lives = 3.5, 7.0
            where.proxy.mode = "cut"
            moments = sorted(chance.sample(range(kills), restarts))
            while outcome.kills < kills:
                told.grew.clear()
                told.grew.wait(10.0)
                threading.Event().wait(chance.uniform(0.0, 0.4))
                if moments and outcome.kills >= moments[0]:
                    moments.pop(0)
                    where.cluster.restart(chance.choice(["fast", "immediate"]))
                    outcome.restarts += 1
                server = chance.choice(servers)
                server.kill()
                outcome.kills += 1
                server.start()
                if say and outcome.kills % 10 == 0:
                    _say(where, told, outcome)
        finally:
            for sender in senders:
                sender.stop.set()
            for sender in senders:
                sender.join(120)
    assert not any(sender.is_alive() for sender in senders), "a sender does not end"
    begin = time.monotonic()
    check(root / "check", where, told, outcome)
    outcome.checked = time.monotonic() - begin
    return outcome


def _say(where: Site, told: soak.Told, outcome: Outcome) -> None:
    print(f"{outcome.kills} kills, {outcome.restarts} restarts, {len(told.hashes)} acknowledged, "
          f"{outcome.refused} refused, {outcome.asked} asked, {where.proxy.cuts} cuts", flush=True)  # fmt: skip


def check(directory: Path, where: Site, told: soak.Told, outcome: Outcome) -> None:
    """Compare what there is with what was acknowledged."""
    make(directory, where, direct=True)
    outcome.acknowledged = len(told.hashes)
    with Holdings(directory) as holdings:
        outcome.recovered = holdings.recovered
        places = holdings.places.of(told.hashes)
        outcome.problems += [f"lost: {uid}" for uid in told.hashes if uid not in places]
        outcome.problems += [f"torn: {uid}" for uid, place in places.items() if place.sha != told.hashes[uid]]
        outcome.problems += [str(one) for one in (*fsck(holdings), *scrub(holdings))]
