"""Fill a router's queue with a million rows, and measure what each thing takes then.

    python tools/router_rows.py --rows 1000000
    python tools/router_rows.py --rows 1000000 --database postgresql://user@/name?host=/run/postgresql

Enqueued is as a receiver does it: rows of instances and of their deliveries, a group in a transaction. Then: to lease
64 deliveries, to list a page, to count the queues, to open the router's directory again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, insert

from dicomnet.router.queue import New, State
from dicomnet.router.schema import received
from dicomnet.router.settings import RouterSettings
from dicomnet.router.spool import Spool

GROUP = 64  # instances of a transaction: what a busy receiver commits at a time
#: By the goals: rows a second, then seconds.
GOALS = {"enqueue": 2000.0, "lease": 0.005, "page": 0.05, "restart": 2.0}
_TIMES = 40


@dataclass
class Measured:
    """What was measured: rows a second; medians in seconds."""

    enqueue: float = 0.0
    lease: float = 0.0
    finish: float = 0.0
    page: float = 0.0
    last_page: float = 0.0
    counts: float = 0.0
    restart: float = 0.0

    @property
    def good(self) -> bool:
        """Whether the goals are met."""
        least = self.enqueue >= GOALS["enqueue"]
        return least and all(getattr(self, name) <= GOALS[name] for name in ("lease", "page", "restart"))


def fill(spool: Spool, rows: int) -> float:
    """Enqueue so many instances for one destination; how many a second."""
    begin = time.perf_counter()
    for start in range(0, rows, GROUP):
        spool.database.transaction(partial(_group, spool, start))
    return rows / (time.perf_counter() - begin)


def _group(spool: Spool, start: int, connection: Connection) -> None:
    now = time.time()
    values = [
        {
            "uid": f"1.2.{number}", "cls": "1.2.840.10008.5.1.4.1.1.2", "ts": "1.2.840.10008.1.2.1",
            "study": f"1.2.{number // 400}", "series": f"1.2.{number // 100}", "patient": f"P{number // 800}",
            "calling": "CT1", "called": "ROUTER", "address": "10.0.0.1", "key": "segments/000001.seg",
            "off": number * 1000, "bytes": 1000, "sha": bytes(32), "at": now, "open": 1,
        }
        for number in range(start, start + GROUP)
    ]  # fmt: skip
    adding = insert(received).returning(received.c.id, sort_by_parameter_order=True)
    ids = connection.execute(adding, values).scalars().all()
    new = [New("A", "all", 1)]
    spool.queue.put(connection, [(one, str(row["series"]), new) for one, row in zip(ids, values, strict=True)])


def median(work: Callable[[], object]) -> float:
    """The median of the seconds that something takes."""
    taken = []
    for _ in range(_TIMES):
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return sorted(taken)[_TIMES // 2]


def measure(directory: Path, rows: int, database: str = "") -> Measured:
    """Fill a new router, and measure."""
    found = Measured()
    settings = RouterSettings.make(directory, database=database)
    with Spool(directory, settings, serves=True) as spool:
        found.enqueue = fill(spool, rows)
        leased = []
        found.lease = median(lambda: leased.append(spool.queue.lease("A", most=64)))
        assert all(len(one) == 64 for one in leased)
        found.finish = median(lambda: spool.queue.finish([(one, State.SENT, "") for one in leased.pop()]))
        found.page = median(lambda: spool.queue.items(destination="A", states=[State.WAITING], most=100))
        found.last_page = median(lambda: spool.queue.items(after=rows - 200, most=100))
        found.counts = median(lambda: list(spool.queue.counts()))
    begin = time.perf_counter()
    with Spool(directory, settings, serves=True) as spool:
        spool.queue.lease("A", most=1)
        found.restart = time.perf_counter() - begin
    return found


def main() -> int:
    """Run from the command line; 0 if the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--database", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dicomnet-rows-") as root:
        found = measure(Path(root), options.rows, options.database)
    print(f"{options.rows} rows: {found}")
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
