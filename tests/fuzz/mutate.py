"""Mutated PDUs through the core, many and fast: ``python -m tests.fuzz.mutate --count 2000000``.

Every input is made from a real PDU by a seeded generator, so that a failure can be repeated: its seed is printed. The
run fails on any exception that no decoder documents, on an input that takes too long, and on memory that grows.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from dicomnet._pdu import Abort, AssociateAC, AssociateRJ, PresentationContextAC, ReleaseRP, ReleaseRQ
from dicomnet.protocol.admission import evaluate
from dicomnet.protocol.negotiation import propose

from . import targets

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
INTERESTING = (0, 1, 2, 3, 4, 5, 6, 7, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
SLOWEST = 0.25  # seconds of CPU that one input may take; a decoder is a thousand times faster
GROWTH = 2 << 20  # bytes that memory may grow by, once warm
WARM_UP = 20_000  # inputs at least, and a quarter of a long run, until caches and the allocator have what they need


def seeds() -> dict[str, list[bytes]]:
    """Real PDUs, by the target that gets them."""
    request = propose(targets.CONTEXTS, calling="FUZZ", called="CORE", max_pdu=16384)
    accept = evaluate(request, targets.POLICY)
    assert isinstance(accept, AssociateAC)
    refused = AssociateAC("A", "B", (PresentationContextAC(1, 3, None),), accept.user_information)
    ends = [ReleaseRQ().encode(), ReleaseRP().encode(), Abort(0, 0).encode(), AssociateRJ(1, 1, 1).encode()]
    golden = [path.read_bytes() for path in sorted(GOLDEN.glob("**/*.bin"))]
    associations = [request.encode(), accept.encode(), refused.encode(), *ends]
    return {
        "pdu": associations + golden + targets.messages(),
        "stream": associations + targets.messages(),
        "command": targets.commands(),
        "part10": targets.files(),
        "elements": targets.data_sets(),
        "data_set": targets.data_sets(),
        "acceptor_waiting": [*associations, *golden],
        "acceptor_judging": [*associations, *golden],
        "acceptor_established": [*targets.messages(), *ends],
        "requestor_waiting": [*associations, *golden],
        "requestor_established": [*targets.messages(), *ends],
    }


def mutate(rng: random.Random, data: bytes) -> bytes:
    """``data`` with one to four faults: a bit, a byte, a length, something missing, doubled or foreign."""
    mutated = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not mutated:
            break
        rng.choice(_FAULTS)(rng, mutated)
    return bytes(mutated)


def _flip(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _overwrite(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] = rng.randrange(256)


def _lie(rng: random.Random, data: bytearray) -> None:
    size = rng.choice((1, 2, 4))
    at = rng.randrange(len(data))
    order = rng.choice(("big", "little"))
    data[at : at + size] = (rng.choice(INTERESTING) & ((1 << 8 * size) - 1)).to_bytes(size, order)


def _cut(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randint(1, 32)]


def _double(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    part = data[start : start + rng.randint(1, 32)]
    data[start:start] = part


def _insert(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.randint(1, 8))


def _truncate(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


_FAULTS = (_flip, _overwrite, _lie, _lie, _cut, _double, _insert, _truncate)


def run(seed: int, count: int, growth: int | None = GROWTH) -> float:
    """``count`` inputs from ``seed``; the seconds that the slowest took. Memory may grow by ``growth`` bytes.

    Raises:
        AssertionError: an input took too long, or memory grew; any other exception is one that was let through.
    """
    warnings.filterwarnings("ignore", module="pydicom")  # each text of a warning would be remembered
    rng = random.Random(seed)
    pool = [(targets.TARGETS[name], data) for name, found in seeds().items() for data in found]
    targets.data_set(targets.data_sets()[0])  # pydicom is loaded when it is first needed
    slowest, base, warm = 0.0, 0, max(WARM_UP, count // 4)
    for number in range(count):
        target, original = rng.choice(pool)
        data = mutate(rng, original)
        start = time.process_time()  # not the clock of a machine that has other things to do
        try:
            target(data)
        except Exception as error:
            raise AssertionError(f"seed {seed}, input {number}, {target.__name__}: {data.hex()}") from error
        slowest = max(slowest, time.process_time() - start)
        if number == warm:
            base = _resident()
    assert slowest < SLOWEST, f"seed {seed}: an input took {slowest:.3f} s"
    if growth is not None and count > warm:
        assert _resident() - base < growth, f"seed {seed}: memory grew by {_resident() - base} bytes"
    return slowest


def _resident() -> int:
    """Bytes of memory that this process has."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=None, help="repeats a run; drawn anew if absent")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    share = -(-options.count // options.jobs)
    start = time.perf_counter()
    with ProcessPoolExecutor(options.jobs) as pool:
        slowest = max(pool.map(run, range(seed, seed + options.jobs), [share] * options.jobs))
    seconds = time.perf_counter() - start
    print(
        f"{share * options.jobs} mutated PDUs in {seconds:.1f} s ({share * options.jobs / seconds:.0f}/s), "
        f"slowest {slowest * 1e3:.1f} ms, seed {seed}: no surprise"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
