"""``dicomnet archive prune``: retention and quota."""

from __future__ import annotations

from pathlib import Path

import click

from ..archive.holdings import Holdings
from ..archive.retention import Policy, prune
from ..repository.deletion import compact, delete_blobs_due
from .exits import Exit
from .options import DIR, SIZE, output_options
from .output import Output, amount, counted

__all__ = ["prune_command"]


@click.command("prune")
@DIR
@click.option("--days", type=click.FloatRange(min=0, min_open=True), metavar="N",
              help="Delete studies that have received nothing for N days.")  # fmt: skip
@click.option("--size", type=SIZE, metavar="SIZE", help="Delete the oldest until no more than SIZE is stored: 500g.")
@click.option("--except-patient", "patients", multiple=True, metavar="ID", help="Keep all of a patient. Repeat it.")
@click.option("--except-study", "studies", multiple=True, metavar="UID", help="Keep a study. Repeat it.")
@click.option("--dry-run", is_flag=True, help="Only tell what would go.")
@output_options
def prune_command(
    directory: str,
    output: Output,
    *,
    days: float | None,
    size: int | None,
    patients: tuple[str, ...],
    studies: tuple[str, ...],
    dry_run: bool,
) -> int:
    """Delete the studies in the archive in DIR that are too old, or too much, those that are quiet longest first.

    It may run beside a live server. What came within the hour stays, and what a storage commitment is due for.
    """
    policy = Policy.of(days, size, patients, studies) or Policy()
    gone = kept = freed = 0
    with Holdings(Path(directory)) as holdings:
        for study in prune(holdings, policy, holdings.database.clock(), only_tell=dry_run):
            said = f"stays: {study.kept}" if study.kept else "would go" if dry_run else "is deleted"
            output.say(f"{study.uid}, {counted(study.instances, 'instance')}, {amount(study.bytes)}: {said}")
            output.record(study=study.uid, instances=study.instances, bytes=study.bytes, kept=study.kept)
            gone, kept = gone + (not study.kept), kept + bool(study.kept)
            freed += 0 if study.kept else study.bytes
        if not dry_run:
            delete_blobs_due(holdings)
            compact(holdings)
    output.summary(
        f"{gone} studies {'would go' if dry_run else 'deleted'}, {amount(freed)}; {kept} had to stay",
        studies=gone, bytes=freed, kept=kept,
    )  # fmt: skip
    return Exit.DONE
