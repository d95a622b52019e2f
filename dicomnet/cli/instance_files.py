"""What commands share that put instances in and out as files: a bar, what names instances, and what was imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from ..repository.exporting import export
from ..repository.holdings import Holdings
from ..repository.importing import import_files
from ..repository.places import Place
from .exits import Exit
from .options import Decorator, stacked
from .output import Output, amount, counted

__all__ = ["progressing", "selection", "take_in", "write_out"]


@contextmanager
def progressing(total: int, output: Output) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, where there is a terminal; what advances it."""
    if output.json or output.silent or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=total, file=sys.stderr) as bar:
        yield bar.update


#: The options that name instances; a command gets them as ``patient``, ``studies``, ``series`` and ``instances``.
selection: Decorator = stacked(
    click.option("--patient", metavar="ID", help="All of a patient."),
    click.option("--study", "studies", multiple=True, metavar="UID", help="A study; can be given again."),
    click.option("--series", "series", multiple=True, metavar="UID", help="A series; can be given again."),
    click.option("--instance", "instances", multiple=True, metavar="UID", help="An instance; can be given again."),
)


def take_in(holdings: Holdings, paths: Sequence[str], output: Output) -> int:
    """Import files, and say what became of them; the exit code."""
    with progressing(len(paths), output) as progress:
        result = import_files(holdings, paths, progress=progress)
    for name, why in result.failed:
        output.error(why if why.startswith(name) else f"{name}: {why}")
        output.record(file=name, error=why)
    counts = {"stored": result.stored, "known": result.known, "quarantined": result.quarantined}
    output.summary(
        f"{result.stored} stored, {result.known} there already, {result.quarantined} in quarantine, "
        f"{len(result.failed)} failed",
        **counts, failed=len(result.failed), bytes=result.bytes,
    )  # fmt: skip
    return Exit.FAILURES if result.failed else Exit.DONE


def write_out(holdings: Holdings, places: Sequence[Place], target: str, form: str, output: Output) -> int:
    """Export instances as they are stored; the exit code."""
    size = sum(place.size for place in places)
    with progressing(size, output) as progress:
        export(holdings, places, Path(target), form, progress=progress)
    output.summary(f"{counted(len(places), 'instance')} written, {amount(size)}", instances=len(places), bytes=size)
    return Exit.DONE
