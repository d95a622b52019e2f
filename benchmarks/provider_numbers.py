"""What a provider of one loop has to show, number by number: ``python benchmarks/provider_numbers.py``.

``--only NAME`` picks rows, ``--rounds N`` says how often the sides of a row take turns, ``--before CHECKOUT`` adds the
transfers of one sender, paired with those of a checkout that is built. Each line ends with its goal, and whether it is
met. What is compared runs in turns, so that a busy machine is busy for both; a ratio is the median of the rounds'.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import corpora
from contest import compete
from holding import cpu_nanoseconds, held, holding_provider, memory, send, wait_until_still
from rigs import HOST, PEERS, Run
from transfers import how

import dicomnet as dn
from dicomnet import uids

IDLE = 10_000
ACTIVE = 500
FINDS = 1_000
PHASE = 2.0  # seconds of echoing
WATCHED = 10.0  # seconds in which idle associations are watched
CT = corpora.Recipe("ct", 200, pixels=512 * 512 * 2)
START = corpora.Recipe("start by 8", 8, file_size=4096, senders=8)  # what eight senders take besides their instances
IMPLICIT = uids.IMPLICIT_VR_LITTLE_ENDIAN
TOOL = Path(__file__).resolve().parent.parent / "tools" / "paired_transfer.py"


def say(what: str, figure: float, unit: str, goal: float, *, least: bool = False) -> None:
    """A line: the figure, its goal (the most, or the least), and whether it is met."""
    met = figure >= goal if least else figure <= goal
    bound = "at least" if least else "at most"
    print(f"{what:66} {figure:9.3f} {unit:6} {bound} {goal:g} {'yes' if met else 'NO'}", flush=True)


def paired(one: list[float], other: list[float]) -> float:
    """The median of the ratios of neighbours."""
    return statistics.median(ours / theirs for ours, theirs in zip(one, other, strict=True))


# ---- storing -------------------------------------------------------------------------------------------------------


def contest(recipe: corpora.Recipe, names: list[str], directory: Path, rounds: int) -> dict[str, list[Run]]:
    corpus = corpora.build(recipe, directory)
    series = compete(corpus, names, directory, rounds)
    for one in series.values():
        if one.error is not None:
            raise one.error
    return {name: one.runs for name, one in series.items()}


def seconds(runs: list[Run]) -> list[float]:
    return [run.seconds for run in runs]


def compare_times(what: str, ours: list[Run], theirs: list[Run], goal: float) -> None:
    """The transfer, where it is known of all, and the whole process: both are held to the goal."""
    for kind, measure in (("transfer", transfer_times), ("process", seconds)):
        one, other = measure(ours), measure(theirs)
        if one and other:
            say(f"{what} ({kind})", paired(one, other), "x", goal)


def transfer_times(runs: list[Run]) -> list[float]:
    """Those of all runs; none where one of them is not known."""
    found = [run.transfer for run in runs if run.transfer is not None]
    return found if len(found) == len(runs) else []


def processor(runs: list[Run]) -> list[float]:
    return [run.receiver_cpu or 0.01 for run in runs]


def both(runs: list[Run]) -> list[float]:
    return [run.sender_cpu + (run.receiver_cpu or 0.0) for run in runs]


def eight_senders(directory: Path, rounds: int) -> None:
    """Eight storescu into one process, and into a worker for each core, against a process for each association."""
    for name in ("ct by 8", "small by 8"):
        runs = contest(corpora.FULL[name], ["dcmtk-fork", "dcmtk-dicomnet", "dcmtk-workers"], directory, rounds)
        theirs, ours, workers = runs.values()
        compare_times(f"{name}: time of storescp --fork's", ours, theirs, 1.0)
        say(f"{name}: the provider's processor time", paired(processor(ours), processor(theirs)), "x", 1.0)
        compare_times(f"{name}: a worker per core, of one process's", workers, ours, 1.0)


def eight_users(directory: Path, rounds: int) -> None:
    """Eight `dicomnet store` into `recv`, against eight storescu into storescp: transfers, and less their starts."""
    names = ["dcmtk-fork", "dicomnet"]
    whole = contest(corpora.FULL["small by 8"], names, directory, rounds)
    start = contest(START, names, directory, rounds)
    ours_seen, theirs_seen = (transfer_times(whole[it]) for it in ("dicomnet", "dcmtk-fork"))
    if ours_seen and theirs_seen:
        say("eight dicomnet store, small: transfer, of DCMTK's", paired(ours_seen, theirs_seen), "x", 0.4)
    for what, measure in (("time", seconds), ("processor time of both sides", both)):
        theirs, ours = (statistics.median(measure(whole[it])) - statistics.median(measure(start[it])) for it in names)
        say(f"eight dicomnet store, small, less starts: {what}", ours / theirs, "x", 0.4)
    print(f"  start included: {paired(seconds(whole['dicomnet']), seconds(whole['dcmtk-fork'])):.3f} x")


def one_sender(directory: Path, rounds: int) -> None:
    """Storescu into our provider, against its own."""
    runs = contest(corpora.FULL["ct"], ["dcmtk", "dcmtk-dicomnet"], directory, rounds)
    compare_times("storescu, CTs: time into ours of into storescp", runs["dcmtk-dicomnet"], runs["dcmtk"], 0.9)


def before_and_after(before: Path, rounds: int) -> None:
    """Each transfer of one sender, by a tool of its own."""
    print("one sender, after / before: at most 1.05 in the column 'paired' of time")
    after = Path(__file__).resolve().parent.parent
    subprocess.run([sys.executable, str(TOOL), str(before), str(after), "--runs", str(rounds)], check=True)


# ---- many ----------------------------------------------------------------------------------------------------------


@contextmanager
def load(kind: str, port: int, count: int) -> Iterator[Callable[[str], str]]:
    """Associations of `peers/load.py`: what has it obey, and gives its answer."""
    command = [sys.executable, str(PEERS / "load.py"), kind, str(port), str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        wanted, given = process.stdin, process.stdout

        def obey(what: str) -> str:
            wanted.write(f"{what}\n")
            wanted.flush()
            return given.readline()

        assert given.readline() == "ready\n"
        yield obey
        wanted.close()


def idle(directory: Path, rounds: int) -> None:
    """Ten thousand associations that do nothing, and a store beside them."""
    corpus = corpora.build(CT, directory)
    with holding_provider("sync", directory, "alone") as alone, holding_provider("sync", directory, "beside") as beside:
        pid = beside[0]
        for _, port in (alone, beside):
            send(port, corpus.directory)  # what is only needed once is there now
        before = memory(pid, "VmRSS")
        with held(beside[1], IDLE):
            wait_until_still(pid)
            each = (memory(pid, "VmRSS") - before) / IDLE
            used = cpu_nanoseconds(pid)
            time.sleep(WATCHED)
            used = cpu_nanoseconds(pid) - used
            say(f"{IDLE} idle associations: memory of each", each / 1024, "KiB", 12)
            say(f"{IDLE} idle associations: processor time in {WATCHED:.0f} s", used / 1e6, "ms", 1)
            beside_them("a store beside them", corpus.directory, alone, beside, rounds, 0.9)


def beside_them(
    what: str, directory: Path, alone: tuple[int, int], beside: tuple[int, int], rounds: int, goal: float
) -> None:
    """The speed of a store at a provider that has much to do, of that at one that has nothing."""
    times: dict[int, list[float]] = {alone[0]: [], beside[0]: []}
    for number in range(rounds):
        for pid, port in (alone, beside) if number % 2 else (beside, alone):
            times[pid].append(send(port, directory))
    say(f"{what}: its speed of that alone", paired(times[alone[0]], times[beside[0]]), "x", goal, least=True)


def active(directory: Path, rounds: int) -> None:
    """Five hundred associations that send a C-ECHO as soon as the last one is answered, in both faces."""
    for face in ("sync", "aio"):
        with holding_provider(face, directory, f"active-{face}") as (_, port), load("echo", port, ACTIVE) as obey:
            answers = [obey(str(PHASE)).split() for _ in range(rounds)]
        count = statistics.median(int(one[0]) for one in answers) / PHASE
        slow = statistics.median(float(one[2]) for one in answers)
        say(f"{face}: {ACTIVE} echoing, {count:.0f} in a second: 99th percentile", slow, "ms", 50)


# ---- handlers ------------------------------------------------------------------------------------------------------


def hanging(directory: Path, rounds: int) -> None:
    """A handler that blocks for ever: what its caller gets, and what the others notice."""
    alone: list[float] = []
    beside: list[float] = []
    longest = 0.0
    with holding_provider("slow", directory, "hanging") as (_, port), load("echo", port, 8) as obey:
        for _ in range(rounds):
            alone.append(float(obey(str(PHASE)).split()[2]))
            with ThreadPoolExecutor(1) as pool:
                others = pool.submit(obey, str(PHASE))
                while not others.done():
                    longest = max(longest, seconds_until_given_up(port))
                beside.append(float(others.result().split()[2]))
    say("a handler that blocks: its deadline of 1 s answers after", longest, "s", 1.1)
    say("  99th percentile of eight others that echo, of without it", paired(beside, alone), "x", 1.05)


def seconds_until_given_up(port: int) -> float:
    """Have a handler block: when 0110H comes."""
    proposed = dn.ProposedContext(uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND, [IMPLICIT])
    with dn.connect(f"ANY-SCP@{HOST}:{port}", contexts=[proposed]) as user:
        began = time.monotonic()
        try:
            list(user.find("PATIENT", model="PATIENT_ROOT", PatientID="1"))
        except dn.ServiceFailure as failure:
            if failure.status == 0x0110:
                return time.monotonic() - began
            raise
    raise AssertionError("it was answered")


def slow_finds(directory: Path, rounds: int) -> None:
    """A thousand C-FINDs whose generators take their time, a store beside them, and a C-CANCEL."""
    corpus = corpora.build(CT, directory)
    with (
        holding_provider("slow", directory, "idle") as alone,
        holding_provider("slow", directory, "asked") as beside,
        load("find", beside[1], FINDS) as obey,
    ):
        for _, port in (alone, beside):
            send(port, corpus.directory)
        what = f"a store beside {FINDS} C-FINDs with slow generators"
        beside_them(what, corpus.directory, alone, beside, rounds, 0.95)
        times = [float(obey("cancel")) for _ in range(rounds)]
        say("  a C-CANCEL among them is answered in, at the worst", max(times), "ms", 100)


ROWS: dict[str, Callable[[Path, int], None]] = {
    "eight-senders": eight_senders,
    "eight-users": eight_users,
    "one-sender": one_sender,
    "idle": idle,
    "active": active,
    "hanging": hanging,
    "slow-finds": slow_finds,
}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--only", action="append", choices=ROWS, help="this row; may be repeated")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--before", type=Path, help="a checkout, built, whose transfers are compared, too")
    given = parser.parse_args()
    load_now = os.getloadavg()[0]
    print(f"{os.cpu_count()} processors, load {load_now:.1f}" + (": BUSY" if load_now > 0.5 else ""))
    print(how())
    for name in given.only or ROWS:
        with corpora.memory_directory() as directory:
            ROWS[name](directory, given.rounds)
    if given.before is not None:
        before_and_after(given.before.resolve(), given.rounds)


if __name__ == "__main__":
    main()
