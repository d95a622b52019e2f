"""``dicomnet plan``: what would be proposed to send these files, without calling the peer."""

from __future__ import annotations

import click

from ..client.inputs import Item, gather
from ..errors import DicomNetError
from ..protocol.negotiation import ProposedContext
from ..services import presentation_contexts
from ..uids import name_of
from .exits import Exit, exit_code
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

    def refuse(_: object, __: str, error: DicomNetError) -> None:
        codes.append(exit_code(error))
        output.error(str(error))

    by_pair: dict[tuple[str, str], list[Item]] = {}
    for item in gather(paths, refuse, recurse=recurse):
        by_pair.setdefault(item.pair, []).append(item)
    associations = presentation_contexts.split(presentation_contexts.for_instances(by_pair))
    for number, contexts in enumerate(associations, 1):
        _tell(output, number, [(one, by_pair[one.abstract_syntax, one.transfer_syntaxes[0]]) for one in contexts])
    instances, size = _totals([item for items in by_pair.values() for item in items])
    output.summary(
        f"{counted(instances, 'instance')}, {amount(size)}, "
        f"{counted(len(by_pair), 'context')}, {counted(len(associations), 'association')}",
        instances=instances,
        bytes=size,
        associations=len(associations),
        failed=len(codes),
    )
    return codes[0] if codes else Exit.DONE


def _totals(items: list[Item]) -> tuple[int, int]:
    return len(items), sum(item.size for item in items)


def _tell(output: Output, number: int, planned: list[tuple[ProposedContext, list[Item]]]) -> None:
    instances, size = _totals([item for _, items in planned for item in items])
    output.say(f"association {number}: {counted(instances, 'instance')}, {amount(size)}")
    for index, (context, items) in enumerate(planned):
        syntaxes = ", ".join(map(name_of, context.transfer_syntaxes))
        output.say(f"  {2 * index + 1:3}  {name_of(context.abstract_syntax)}: {syntaxes} ({len(items)})")
        output.record(
            association=number,
            id=2 * index + 1,
            abstract_syntax=context.abstract_syntax,
            transfer_syntaxes=list(context.transfer_syntaxes),
            instances=len(items),
        )
