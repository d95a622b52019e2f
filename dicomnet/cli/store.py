"""``dicomnet store``: send files to a peer."""

from __future__ import annotations

from typing import Any

import click

from ..client import StoreScu, events
from ..client.retry import Retry
from ..protocol.peer_profile import Peer
from .connect import client_options, peer_options
from .exits import Exit
from .interrupts import Interrupts
from .options import PATH, Settings, common
from .progress import Progress
from .tally import Tally

__all__ = ["command"]

# A person waits: what is refused is tried again soon, or said.
_RETRY = Retry(first=0.1)


@click.command("store")
@peer_options
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PATH...")
@click.option("-r", "+r", "--recurse", is_flag=True, help="Also the directories in directories.")
@click.option("+sd", "--scan-directories", is_flag=True, hidden=True, expose_value=False)  # DCMTK; here it is always so
@click.option(
    "--associations", type=click.IntRange(min=1), default=1, metavar="N", help="Send over N at a time.  [default: 1]"
)
@click.option(
    "--window", type=click.IntRange(min=1), metavar="N",
    help="Ask to have N under way at a time on each association.  [default: 16; 1 with --halt]",
)  # fmt: skip
@click.option("-ha", "--halt", is_flag=True, help="Stop after the first instance that fails.")
@click.option(
    "--transcode", is_flag=True,
    help="Convert what the peer does not take as it is, without loss; needs dicomnet[codecs] for compressed images.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Also send files that are not in the transfer syntax which they name.")
@click.option("--headerless", is_flag=True, help="Also send data sets without a Part 10 header.")
@click.option("--report", type=PATH, metavar="FILE", help="Write a line of JSON for each instance to FILE.")
@click.option("--resume", is_flag=True, help="Go on with FILE: leave out what it says is stored.")
@common
def command(peer: Peer, paths: tuple[str, ...], transcode: bool, settings: Settings, **chosen: Any) -> int:
    """Send files to PEER, bit for bit in the transfer syntax that they have.

    A PATH is a Part 10 file, a directory whose files are sent, a DICOMDIR, or a zip archive. A file that cannot be sent
    is named on standard error, and the others are sent all the same.
    """
    if chosen["resume"] and not chosen["report"]:
        raise click.UsageError("--resume goes on with a report: --report is missing")
    scu = StoreScu(
        peer,
        transcode="if needed" if transcode else None,
        retry=_RETRY,
        **client_options(settings, peer),
        **chosen,
    )
    tally = Tally(settings.output, transcodes=transcode)
    with Interrupts() as interrupts:
        _send(scu, paths, tally, interrupts)
    tally.finish_report(chosen["report"])
    return tally.finish(peer, scu.planned)


def _send(scu: StoreScu, paths: tuple[str, ...], tally: Tally, interrupts: Interrupts) -> None:
    output = tally.output
    progress = Progress(lambda: scu.planned_bytes, wanted=not output.json and output.verbosity >= 0)
    if progress.wanted:
        scu.watch = progress.watched

    @scu.on(events.AfterAssociate)
    def associated(event: events.AfterAssociate) -> None:
        interrupts.releasable = True
        tally.established = tally.established or event.error is None
        if event.error is not None:
            tally.note(event.error)

    @scu.on(events.AfterRelease)
    def released(event: events.AfterRelease) -> None:
        if event.error is not None and not interrupts.requested:
            output.warn(f"the peer did not release the association: {event.error}")

    interrupts.tell, interrupts.abort = scu.stop, scu.interrupt
    try:
        with scu:
            for result in scu.send(*paths):
                tally.add(result, interrupted=interrupts.requested)
    except KeyboardInterrupt:
        interrupts.requested = True
    finally:
        progress.close()
    if interrupts.requested:
        tally.codes.add(Exit.INTERRUPTED)
