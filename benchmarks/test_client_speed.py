"""What the client framework costs over the association that it stands on: the same files, the same provider."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import corpora
import pytest
from contest import ROUNDS
from test_provider_cost import provider

import dicomnet as dn
from dicomnet.config import OPERATIONS_WINDOW

AT_MOST = 1.1  # of the bare association's time


@pytest.fixture
def directory() -> Iterator[Path]:
    with corpora.memory_directory() as path:
        yield path


def by_association(peer: str, paths: list[Path]) -> int:
    """Store files as one does without the framework: contexts planned from them, one association, the same window."""
    extras = dn.NegotiationOptions(operations_window=(OPERATIONS_WINDOW, 1))
    with dn.connect(peer, contexts=dn.contexts.for_files(paths), extras=extras) as association:
        return sum(result.ok for result in association.store_many(paths))


def by_component(peer: str, paths: list[Path]) -> int:
    """Store the same files with the component for it."""
    with dn.client.StoreScu(peer) as scu:
        return sum(result.ok for result in scu.send(paths))


def spent(store: Callable[[str, list[Path]], int], peer: str, paths: list[Path], received: Path) -> tuple[float, float]:
    """Elapsed and own CPU time of storing; everything must arrive, and is removed."""
    start, cpu = time.perf_counter(), time.process_time()
    stored = store(peer, paths)
    taken = time.perf_counter() - start, time.process_time() - cpu
    assert stored == len(paths)
    arrived = list(received.iterdir())
    assert len(arrived) == len(paths)
    for path in arrived:
        path.unlink()
    return taken


def test_a_component_costs_little_more_than_its_association(directory: Path, pytestconfig: pytest.Config) -> None:
    short = pytestconfig.getoption("benchmark_disable")
    paths = list(corpora.build((corpora.SHORT if short else corpora.FULL)["ct"], directory).files)
    ways = [by_association, by_component]
    taken: dict[object, list[tuple[float, float]]] = {way: [] for way in ways}
    with provider(directory) as (_, port):
        for round_ in range(1 if short else 2 * ROUNDS + 1):
            for way in ways[:: 1 if round_ % 2 else -1]:
                used = spent(way, f"127.0.0.1:{port}", paths, directory / "received")
                if round_ or short:  # the first round imports and warms up
                    taken[way].append(used)
    bare, framed = ([min(kind) for kind in zip(*taken[way], strict=True)] for way in ways)  # others only add time
    elapsed, cpu = framed[0] / bare[0], framed[1] / bare[1]
    print(f"\n{len(paths)} CTs by StoreScu: {elapsed:.2f} of an association's {bare[0]:.3f} s, {cpu:.2f} of its CPU")
    assert short or elapsed <= AT_MOST
