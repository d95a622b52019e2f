"""``dicomnet echo``: is the peer there, and does it speak DICOM?"""

from __future__ import annotations

from time import monotonic

import click

from ..errors import DicomNetError
from ..protocol.peer_profile import Peer
from ..services import presentation_contexts
from ..status import Category, Status
from ..sync import Association
from .connect import call, peer_options
from .exits import Exit, exit_code
from .interrupts import Interrupts
from .options import Settings, common
from .output import Output

__all__ = ["command"]

_EXITS = {Category.SUCCESS: Exit.DONE, Category.WARNING: Exit.WARNINGS}


@click.command("echo")
@peer_options
@click.option("--count", type=click.IntRange(min=1), default=1, metavar="N", help="How many times.  [default: 1]")
@common
def command(peer: Peer, count: int, settings: Settings) -> int:
    """Verify that PEER answers a C-ECHO."""
    with (
        Interrupts() as interrupts,
        call(peer, presentation_contexts.verification(), settings) as association,
    ):
        interrupts.releasable = True
        if association.tls is not None and settings.output.verbosity >= 1:
            settings.output.say(f"secured by {association.tls.version}, {association.tls.cipher}")
        code = _echo(association, peer, count, settings, interrupts)
    return Exit.INTERRUPTED if interrupts.requested else code


def _echo(association: Association, peer: Peer, count: int, settings: Settings, interrupts: Interrupts) -> int:
    output = settings.output
    code = done = 0
    times: list[float] = []
    for _ in range(count):
        if interrupts.requested:
            break
        start = monotonic()
        try:
            status = association.echo()
        except DicomNetError as error:
            output.error(str(error))
            code = exit_code(error, established=True)
            break
        times.append(monotonic() - start)
        done += status.is_success
        code = max(code, _EXITS.get(status.category, Exit.FAILURES))
        _tell(output, peer, status, times[-1])
    if count > 1:
        mean = sum(times) / max(len(times), 1) * 1000
        output.say(f"{len(times)} of {count} answered, {mean:.2f} ms on average")
    output.record(summary={"echoes": done, "failed": count - done, "seconds": sum(times)})
    return int(code)


def _tell(output: Output, peer: Peer, status: Status, seconds: float) -> None:
    if status.is_success and output.silent:
        return  # ten thousand lines that are not shown take a tenth of the time of as many C-ECHOs
    line = f"{peer.address()} answered {status} in {seconds * 1000:.2f} ms"
    if status.is_success:
        output.say(line)
    else:
        output.error(line)
    output.record(peer=str(peer.address()), status=int(status), meaning=status.meaning, seconds=seconds)
