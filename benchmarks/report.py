"""Ratios, the table of them, and the results as JSON."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from contest import DISTURBED, Series
from corpora import Recipe
from rigs import PeerMissing, dcmtk_program
from transfers import how

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Goal:
    """``rig`` may take at most ``at_most`` of the time of ``against`` for the work ``corpus``.

    With stores that is said of the transfer and, once more, of the whole process: each is judged.
    """

    corpus: str
    rig: str
    against: str
    at_most: float | None = None  # None: shown, without a goal


GOALS = (
    Goal("ct", "dicomnet", "dcmtk", 0.65),
    Goal("ct", "dicomnet", "raw", 1.15),
    Goal("small", "dicomnet", "dcmtk", 0.55),
    Goal("large", "dicomnet", "dcmtk", 0.75),
    Goal("ct", "dicomnet-dcmtk", "dcmtk", 0.9),
    Goal("ct", "dcmtk-dicomnet", "dcmtk", 0.9),
    Goal("ct by 8", "dcmtk-dicomnet", "dcmtk-fork", 1.0),
    Goal("ct by 8", "dcmtk-workers", "dcmtk-fork", 1.0),
    Goal("small by 8", "dcmtk-dicomnet", "dcmtk-fork", 1.0),
    Goal("small by 8", "dcmtk-workers", "dcmtk-fork", 1.0),
    Goal("small", "dicomnet", "pynetdicom", 0.02),
    Goal("ct", "dicomnet", "pynetdicom"),
    Goal("large", "dicomnet", "pynetdicom"),
    Goal("small", "dicomnet", "raw"),
    Goal("large", "dicomnet", "raw"),
    Goal("small", "dicomnet-dcmtk", "dcmtk"),
    Goal("small", "dcmtk-dicomnet", "dcmtk"),
    Goal("large", "dicomnet-dcmtk", "dcmtk"),
    Goal("large", "dcmtk-dicomnet", "dcmtk"),
    Goal("ct", "dicomnet-4", "dicomnet"),
    Goal("ct", "dicomnet-4-workers", "dicomnet"),
    Goal("small", "dicomnet-4", "dicomnet"),
    Goal("small", "dicomnet-4-workers", "dicomnet"),
    Goal("ct", "dicomnet-tls", "dcmtk-tls", 0.9),
    Goal("ct", "dicomnet", "dicomnet-one"),
    Goal("small", "dicomnet", "dicomnet-one"),
    Goal("ct", "dicomnet-one", "dcmtk"),
    Goal("small", "dicomnet-one", "dcmtk"),
)
CALL_GOALS = (
    Goal("echo", "dicomnet", "dcmtk", 1.0),
    Goal("echo", "dicomnet-dcmtk", "dcmtk"),
    Goal("echo", "dcmtk-dicomnet", "dcmtk"),
    Goal("associate", "dicomnet", "pynetdicom", 0.03),
)
CODEC_GOAL = 0.005  # of pynetdicom's time


@dataclass(frozen=True, slots=True)
class Ratio:
    """One line of the table that this is all about."""

    work: str
    what: str
    against: str
    ratio: float
    at_most: float | None
    basis: str  # transfer: first request to last response; process: whole senders; cpu: of both sides; call: one call

    @property
    def met(self) -> bool | None:
        return None if self.at_most is None else self.ratio <= self.at_most


Standings = Mapping[str, Mapping[str, Series]]


def store_ratios(standings: Standings) -> Iterator[Ratio]:
    """The goals for which both sides were measured: of the transfer, where known, and of the process; then the CPU."""
    for goal in GOALS:
        series = standings.get(goal.corpus, {})
        ours, theirs = series.get(goal.rig), series.get(goal.against)
        if ours is None or theirs is None or not ours.runs or not theirs.runs:
            continue
        names = (goal.corpus, goal.rig, goal.against)
        if ours.transfer and theirs.transfer:
            yield Ratio(*names, ours.transfer / theirs.transfer, goal.at_most, "transfer")
        yield Ratio(*names, ours.seconds / theirs.seconds, goal.at_most, "process")
        if ours.cpu and theirs.cpu:
            yield Ratio(*names, ours.cpu / theirs.cpu, None, "cpu")


def call_ratios(standings: Standings) -> Iterator[Ratio]:
    """The goals for calls, where both sides were measured; the CPU of both sides beside them."""
    for goal in CALL_GOALS:
        callers = standings.get(goal.corpus, {})
        ours, theirs = callers.get(goal.rig), callers.get(goal.against)
        if ours is None or theirs is None or not ours.runs or not theirs.runs:
            continue
        names = (goal.corpus, goal.rig, goal.against)
        yield Ratio(*names, ours.seconds / theirs.seconds, goal.at_most, "call")
        if ours.cpu and theirs.cpu:
            yield Ratio(*names, ours.cpu / theirs.cpu, None, "cpu")


def codec_ratios(medians: Mapping[str, Mapping[str, float]]) -> Iterator[Ratio]:
    """dicomnet's codec against pynetdicom's, per group of benchmarks."""
    for group, times in medians.items():
        if {"dicomnet", "pynetdicom"} <= times.keys():
            yield Ratio(group, "dicomnet", "pynetdicom", times["dicomnet"] / times["pynetdicom"], CODEC_GOAL, "call")


def standing_lines(recipe: Recipe, data_bytes: int, series: Mapping[str, Series]) -> Iterator[str]:
    """Medians of one corpus: the transfer and its throughput, whole process, CPU of both processes."""
    yield f"{recipe.title} (medians, seconds)"
    yield f"  {'rig':<18}{'transfer':>9}{'best':>9}{'MB/s':>8}{'objects/s':>11}{'process':>10}{'cpu':>8}  rounds"
    for name, one in series.items():
        if not one.runs:
            yield f"  {name:<18}{'—':>9}  {str(one.error or 'not run').splitlines()[0]}"
            continue
        note = f"  ({one.sample} objects sent, scaled)" if one.sample else ""
        if one.broken:
            note += f"  ({len(one.broken)} broken, repeated)"
        if one.disturbance > DISTURBED:
            note += f"  DISTURBED: others took {one.disturbance:.0%} of a processor"
        yield (
            f"  {name:<18}{_transfer_columns(one, data_bytes, recipe.count)}"
            f"{one.seconds:>10.3f}{_optional(one.cpu):>8}  {len(one.runs)}{note}"
        )


def _transfer_columns(one: Series, data_bytes: int, count: int) -> str:
    if not one.transfers:
        return f"{'—':>9}{'—':>9}{'—':>8}{'—':>11}"
    seconds = median(one.transfers)
    return f"{seconds:>9.3f}{min(one.transfers):>9.3f}{data_bytes / seconds / 1e6:>8.0f}{count / seconds:>11.0f}"


def call_lines(title: str, series: Mapping[str, Series]) -> Iterator[str]:
    """Medians of one kind of call: its time, and the CPU of both processes."""
    yield f"{title} (medians, microseconds)"
    yield f"  {'caller':<16}{'call':>9}{'best':>9}{'cpu':>9}  rounds"
    for name, one in series.items():
        if not one.runs:
            yield f"  {name:<16}{'—':>9}  {str(one.error or 'not run').splitlines()[0]}"
            continue
        best, cpu = min(run.seconds for run in one.runs), one.cpu
        shown = "—" if cpu is None else f"{cpu * 1e6:.0f}"
        yield f"  {name:<16}{one.seconds * 1e6:>9.0f}{best * 1e6:>9.0f}{shown:>9}  {len(one.runs)}"


def start_lines(series: Mapping[str, Series], at_most: float, in_all: float) -> Iterator[str]:
    """What starting costs, against its goals."""
    times = {name: one.seconds for name, one in series.items() if one.runs}
    if {"python", "import dicomnet"} <= times.keys():
        more = times["import dicomnet"] - times["python"]
        verdict = "met" if more <= at_most else "MISSED"
        yield f"  import dicomnet: {more * 1000:.1f} ms over the bare interpreter, at most {at_most * 1e3:g}  {verdict}"
    if "dicomnet echo" in times:
        seconds = times["dicomnet echo"]
        verdict = "met" if seconds <= in_all else "MISSED"
        yield f"  dicomnet echo: {seconds * 1000:.1f} ms in all, at most {in_all * 1000:g}  {verdict}\n"


def ratio_lines(ratios: list[Ratio]) -> Iterator[str]:
    """The table of ratios; the last column says whether a goal is met."""
    yield f"  {'work':<38}{'what':<20}{'against':<13}{'time':<10}{'ratio':>8}{'at most':>9}"
    for one in ratios:
        goal = "" if one.at_most is None else f"{one.at_most:>9g}  {'met' if one.met else 'MISSED'}"
        yield f"  {one.work:<38}{one.what:<20}{one.against:<13}{one.basis:<10}{one.ratio:>8.4f}{goal}"


def write(
    standings: Standings, calls: Standings, medians: Mapping[str, Mapping[str, float]], ratios: list[Ratio]
) -> Path:
    """Write one run's results to a file named by its time; returns where."""
    now = datetime.now(UTC)
    document = {
        "date": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "how": how(),
        "store": {corpus: {name: _series(one) for name, one in rigs.items()} for corpus, rigs in standings.items()},
        "calls": {work: {name: _series(one) for name, one in series.items()} for work, series in calls.items()},
        "codec": medians,
        "ratios": [{**asdict(one), "met": one.met} for one in ratios],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now:%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def machine() -> dict[str, object]:
    """What the numbers depend on besides the code."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def versions() -> dict[str, str]:
    """Python's, the peers' and ours."""
    found = {"python": platform.python_version()}
    for package in ("dicomnet", "pynetdicom", "pydicom"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    try:
        program = dcmtk_program("storescu")  # pynetdicom's has the same name
    except PeerMissing:
        return found
    words = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.split()
    found["dcmtk"] = next((word for word in words if word.startswith("v")), "unknown")
    return found


def _series(one: Series) -> dict[str, object]:
    return {
        "transfer": one.transfer,
        "seconds": one.seconds if one.runs else None,  # of the process, or of one call
        "sample": one.sample,
        "broken": one.broken,
        "error": None if one.error is None else str(one.error),
        "runs": [asdict(run) for run in one.runs],
    }


def _optional(seconds: float | None) -> str:
    return "—" if seconds is None else f"{seconds:.3f}"
