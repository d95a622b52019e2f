"""``dicomnet bench``: how fast is a peer, and which of two runs was faster?"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import click

from .. import __version__, uids
from ..errors import InvalidArgument
from ..protocol.peer_profile import Peer
from .bench_compare import compare_command
from .bench_objects import Generator
from .bench_run import Echoes, Measurement, Stores, percentile
from .connect import peer_options
from .exits import Exit
from .interrupts import Interrupts
from .options import SIZE, Settings, common
from .output import amount

__all__ = ["command"]


@click.command("run", short_help="Measure a peer; what `dicomnet bench PEER` does.")
@peer_options
@click.option(
    "--service", type=click.Choice(["store", "echo"]), default="store", help="What is asked.  [default: store]"
)
@click.option("--size", type=SIZE, default=512 << 10, metavar="SIZE", help="Of each object.  [default: 512k]")
@click.option("-n", "--count", type=click.IntRange(min=1), default=1000, metavar="N", help="How many.  [default: 1000]")
@click.option(
    "--associations", type=click.IntRange(min=1), default=1, metavar="N", help="Over N at a time.  [default: 1]"
)
@common
def measure(peer: Peer, service: str, size: int, count: int, associations: int, settings: Settings) -> int:
    """Measure how fast PEER stores generated objects, or answers C-ECHO.

    The objects are images of noise, of a patient BENCH^DICOMNET, each with a UID of its own: they stay with PEER. Every
    association is open before the first object is sent, and the clock stops at the last answer.
    """
    associations = min(associations, count)
    study, series = uids.new(), uids.new()
    try:
        work = Echoes() if service == "echo" else Stores([Generator(size, study, series) for _ in range(associations)])
    except InvalidArgument as error:
        raise click.UsageError(f"Invalid value for --size: {error}") from error
    with Interrupts() as interrupts:
        measured = Measurement(work, count, interrupts)
        measured.run(peer, settings, associations)
    _tell(measured, settings, _facts(peer, service, work.size, count, associations) | _results(measured, work.size))
    return Exit.INTERRUPTED if interrupts.requested else max(measured.codes, default=Exit.DONE)


def _facts(peer: Peer, service: str, size: int, count: int, associations: int) -> dict[str, Any]:
    return {
        "service": service,
        "peer": str(peer.address()),
        "size": size,
        "count": count,
        "associations": associations,
        "dicomnet": __version__,
        "python": sys.version.partition(" ")[0],
        "processors": os.cpu_count(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _results(measured: Measurement, size: int) -> dict[str, Any]:
    done, seconds = len(measured.times), measured.seconds
    return {
        "done": done,
        "failed": measured.failed,
        "seconds": seconds,
        "per_second": done / seconds,
        "bytes_per_second": done * size / seconds,
        "p50": percentile(measured.times, 0.5),
        "p99": percentile(measured.times, 0.99),
        "cpu": measured.cpu,
        "cpu_each": measured.cpu / max(done, 1),
    }


def _tell(measured: Measurement, settings: Settings, facts: dict[str, Any]) -> None:
    what = f"objects of {amount(facts['size'])}" if facts["size"] else "echoes"
    several = facts["associations"] > 1
    over = f"{facts['associations']} associations" if several else "one association"
    speed = f", {amount(facts['bytes_per_second'])}/s" if facts["size"] else ""
    failed = f"; {facts['failed']} failed" if facts["failed"] else ""
    output = settings.output
    output.say(f"{facts['done']} {what}, {facts['peer']}, {over}, {facts['seconds']:.2f} s{failed}")
    output.say(f"  speed     {facts['per_second']:.0f}/s{speed}")
    output.say(f"  each      {facts['p50'] * 1000:.2f} ms (p50), {facts['p99'] * 1000:.2f} ms (p99)")
    output.say(f"  our CPU   {facts['cpu']:.2f} s, {facts['cpu_each'] * 1000:.2f} ms each")
    output.record(summary=facts)


class _Bench(click.Group):
    """The name of the usual command may be left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {*self.commands, *self.get_help_option_names(ctx)}
        return super().parse_args(ctx, args if not args or args[0] in known else ["run", *args])


@click.group("bench", cls=_Bench)
def command() -> None:
    """Measure a peer: `dicomnet bench PEER`; and compare what two runs with --json have printed."""


command.add_command(measure)
command.add_command(compare_command)
