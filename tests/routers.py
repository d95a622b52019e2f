"""Routers for the tests: with rules in a few words, and a pace at which nothing is waited for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from archives import CT, data_set, part10

import dicomnet as dn
from dicomnet.repository.outbox import RetryClass
from dicomnet.router.forwarder import Pace
from dicomnet.router.queue import State
from dicomnet.router.router import Router
from dicomnet.router.settings import RouterSettings
from dicomnet.router.spool import Spool

__all__ = [
    "CT", "QUICK", "State", "data_set", "eventually", "everything_to", "made", "part10", "ready", "routing", "send",
    "settled", "states",
]  # fmt: skip

PATIENCE = 30.0
_SOON = RetryClass(first=0.05, factor=1, most=0.05, attempts=1 << 30)
QUICK = Pace(unreachable=_SOON, busy=_SOON, refused=_SOON)


def everything_to(**destinations: str) -> str:
    """Rules that send everything to each of these: a name, and what stands in its table."""
    tables = "\n".join(f"[destinations.{name}]\n{text}" for name, text in destinations.items())
    names = ", ".join(f'"{name}"' for name in destinations)
    return f'{tables}\n[[rules]]\nname = "all"\nactions = [{{ do = "forward", to = [{names}] }}]\n'


def address(peer: str, *more: str) -> str:
    return "\n".join([f'address = "{peer}"', *more])


def made(directory: Path, rules: str, **settings: Any) -> RouterSettings:
    found = RouterSettings.make(directory, **{"port": 0, "durability": "os", **settings})
    (directory / "rules.toml").write_text(rules)
    return found


@contextmanager
def routing(directory: Path, rules: str, *, pace: Pace = QUICK, **settings: Any) -> Iterator[Router]:
    router = Router(directory, made(directory, rules, **settings), pace=pace)
    with router:
        yield router


def send(router: Router, *instances: bytes, calling: str = "TESTER", classes: tuple[str, ...] = (CT,)) -> None:
    """Store instances, which the router takes."""
    peer = f"{router.settings.ae_title}@127.0.0.1:{router.listener.address[1]}"
    with dn.connect(peer, calling=calling, contexts=dn.contexts.storage(list(classes))) as association:
        for one in instances:
            assert association.store(one).status.is_success


def ready(router: Router, seconds: float = PATIENCE) -> None:
    """Wait until nothing waits for A, nor rests, nor is on its way: then what comes is passed on."""
    end = time.monotonic() + seconds
    ways = router.cuts._ways
    while (
        not router.forwarder.is_idle("A")
        or any(way._until > time.monotonic() for way in ways.values())
        or router.cuts._on_their_way()
    ):
        assert time.monotonic() < end
        threading.Event().wait(0.01)


def wait_for(router: Router, what: Callable[[], bool], seconds: float = PATIENCE) -> None:
    with router.forwarder.changed:
        assert router.forwarder.changed.wait_for(what, seconds), states(router.spool)


def settled(router: Router, seconds: float = PATIENCE) -> dict[str, dict[str, int]]:
    """Wait until nothing waits or is under way any more; what became of it."""
    moving = (State.WAITING, State.LEASED)
    router.storage.ledger.settle()
    wait_for(router, lambda: not router.spool.queue.items(states=moving, most=1), seconds)
    return states(router.spool)


def eventually(router: Router, expected: dict[str, dict[str, int]], seconds: float = PATIENCE) -> bool:
    """Wait until that has become of what was sent."""
    wait_for(router, lambda: states(router.spool) == expected, seconds)
    return True


def states(spool: Spool) -> dict[str, dict[str, int]]:
    """How many deliveries of each destination are in each state."""
    found: dict[str, dict[str, int]] = {}
    for one in spool.queue.items(most=100_000):
        counts = found.setdefault(one.destination, {})
        counts[str(one.state)] = counts.get(str(one.state), 0) + 1
    return found
