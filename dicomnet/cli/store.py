"""``dicomnet store``: send files to a peer, as they are."""

from __future__ import annotations

from typing import Any

import click

from ..config import Entity
from ..errors import InputFileError, InputProblem
from .batch import files_in, gather
from .exits import Exit
from .interrupts import Interrupts
from .options import AE_TITLE, PATH, PEER, Settings, common
from .progress import Progress
from .sending import Sender
from .tally import Tally

__all__ = ["command"]


@click.command("store")
@click.argument("peer", type=PEER)
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PATH...")
@click.option("-aec", "--aec", type=AE_TITLE, metavar="AET", help="The called AE title, instead of the one in PEER.")
@click.option("-r", "+r", "--recurse", is_flag=True, help="Also the directories in directories.")
@click.option(
    "+sd", "--scan-directories", is_flag=True, hidden=True, expose_value=False
)  # DCMTK; here it is always so
@click.option(
    "--associations", type=click.IntRange(min=1), default=1, metavar="N", help="Send over N at a time.  [default: 1]"
)
@click.option(
    "--window", type=click.IntRange(min=1), metavar="N",
    help="Ask to have N under way at a time on each association.  [default: 16; 1 with --halt]",
)  # fmt: skip
@click.option("-ha", "--halt", is_flag=True, help="Stop after the first instance that fails.")
@click.option("--report", type=PATH, metavar="FILE", help="Write a line of JSON for each instance to FILE.")
@click.option("--resume", is_flag=True, help="Go on with FILE: leave out what it says is stored.")
@common
def command(peer: Entity, paths: tuple[str, ...], aec: str | None, settings: Settings, **chosen: Any) -> int:
    """Send Part 10 files to PEER, bit for bit in the transfer syntax that they have.

    A PATH is a file, or a directory whose files are sent. A file that cannot be sent is named on standard error, and
    the others are sent all the same. With --report a PATH may also be a DICOMDIR or a zip archive.
    """
    if chosen["resume"] and not chosen["report"]:
        raise click.UsageError("--resume goes on with a report: --report is missing")
    peer = peer.replace(ae_title=aec) if aec else peer
    tally = Tally(settings.output)
    with Interrupts() as interrupts:
        if chosen["report"]:  # the framework knows about more than files, and is not loaded for less
            from . import reporting

            return reporting.send(peer, paths, settings, tally, interrupts, **chosen)
        return _send(peer, paths, settings, tally, interrupts, **chosen)


def _send(
    peer: Entity,
    paths: tuple[str, ...],
    settings: Settings,
    tally: Tally,
    interrupts: Interrupts,
    *,
    recurse: bool,
    associations: int,
    window: int | None,
    halt: bool,
    **_: Any,
) -> int:
    """Send files as they are; the exit code."""
    output = settings.output
    lots = gather(files_in(paths, recurse, tally.refuse), tally.refuse)
    if not lots and not tally.failed:
        tally.refuse(InputFileError("no files to send", problem=InputProblem.CANNOT_READ, path=", ".join(paths)))
    if not lots or (halt and tally.failed):
        return tally.finish(peer)
    tally.progress = Progress(sum(lot.size for lot in lots), wanted=not output.json and output.verbosity >= 0)
    try:
        Sender(peer, lots, settings, tally, interrupts, halt=halt, window=window).send(associations)
    except KeyboardInterrupt:
        tally.codes.add(Exit.INTERRUPTED)
    return tally.finish(peer)
