"""``dicomnet plan``: what would be proposed to send these files, without calling anybody."""

from __future__ import annotations

from collections import Counter

import click

from ..errors import InputFileError
from ..uids import name_of
from .batch import Lot, files_in, gather
from .exits import Exit
from .options import PATH, output_options
from .output import Output, amount, counted

__all__ = ["command"]


@click.command("plan")
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PATH...")
@click.option("-r", "+r", "--recurse", is_flag=True, help="Also the directories in directories.")
@output_options
def command(paths: tuple[str, ...], recurse: bool, output: Output) -> int:
    """Show how `dicomnet store` would send these files: which associations, with which presentation contexts."""
    codes: list[int] = []

    def refuse(error: InputFileError) -> None:
        codes.append(int(error.problem))
        output.error(str(error))

    lots = gather(files_in(paths, recurse, refuse), refuse)
    for number, lot in enumerate(lots, 1):
        _tell(output, number, lot)
    instances, size = sum(lot.instances for lot in lots), sum(lot.size for lot in lots)
    output.summary(
        f"{counted(instances, 'instance')}, {amount(size)}, "
        f"{counted(sum(len(lot.contexts) for lot in lots), 'context')}, {counted(len(lots), 'association')}",
        instances=instances,
        bytes=size,
        associations=len(lots),
        failed=len(codes),
    )
    return codes[0] if codes else Exit.DONE


def _tell(output: Output, number: int, lot: Lot) -> None:
    counts = Counter(id(context) for _, context in lot.items)
    output.say(f"association {number}: {counted(lot.instances, 'instance')}, {amount(lot.size)}")
    for index, context in enumerate(lot.contexts):
        syntaxes = ", ".join(map(name_of, context.transfer_syntaxes))
        count = counts[id(context)]
        output.say(f"  {2 * index + 1:3}  {name_of(context.abstract_syntax)}: {syntaxes} ({count})")
        output.record(
            association=number,
            id=2 * index + 1,
            abstract_syntax=context.abstract_syntax,
            transfer_syntaxes=list(context.transfer_syntaxes),
            instances=count,
        )
