"""``dicomnet archive stats|fsck|scrub|reindex|delete|compact``: what an archive holds, and whether it is well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from sqlalchemy import func, select

from ..archive.checks import Finding, fsck, scrub
from ..archive.holdings import Holdings
from ..archive.rejection import RejectionNotes
from ..client.media_set import Contents, check
from ..errors import InvalidArgument
from ..repository import schema
from ..repository.deletion import compact, delete_blobs_due, delete_instances
from ..repository.exporting import selected
from .exits import Exit
from .instance_files import progressing, selection
from .options import DIR, PATH, output_options
from .output import Output, amount, counted

__all__ = [
    "compact_command",
    "delete_command",
    "fsck_command",
    "reindex_command",
    "scrub_command",
    "stats_command",
]


def held(holdings: Holdings) -> tuple[int, int]:
    """How many instances an archive holds, and their bytes."""
    study = schema.study.c
    with holdings.database.read() as connection:
        row = connection.execute(select(func.sum(study.n_inst), func.sum(study.bytes))).one()
    return int(row[0] or 0), int(row[1] or 0)


@click.command("stats")
@DIR
@output_options
def stats_command(directory: str, output: Output) -> int:
    """What the archive in DIR holds: patients, studies, series, instances, bytes, and what waits."""
    with Holdings(Path(directory)) as holdings:
        with holdings.database.read() as connection:
            numbers = {
                name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for name, table in (("patients", schema.patient), ("studies", schema.study), ("series", schema.series))
            }
        numbers["instances"], numbers["bytes"] = held(holdings)
        stored = holdings.blobs.stats()
        numbers |= {
            "stored_bytes": stored.bytes,
            "dead_bytes": stored.dead_bytes,
            "segments": stored.segments,
            **({} if stored.free_bytes is None else {"free_bytes": stored.free_bytes}),
            "quarantined": len(holdings.quarantine.items(most=1_000_000)),
            "queued": sum(one.items for one in holdings.outbox.counts()),
        }
    for name, number in numbers.items():
        text = amount(number) if name.endswith("bytes") else str(number)
        output.say(f"{name.replace('_', ' ')}: {text}")
    output.record(summary=numbers)
    return Exit.DONE


def _tell(findings: Iterable[Finding], output: Output) -> int:
    count = 0
    for one in findings:
        count += 1
        place = f" in {one.key}" if one.key else ""
        output.error(f"{one.problem}: {one.uid}{place}{f': {one.detail}' if one.detail else ''}")
        output.record(problem=str(one.problem), uid=one.uid, key=one.key, detail=one.detail)
    return count


@click.command("fsck")
@DIR
@output_options
def fsck_command(directory: str, output: Output) -> int:
    """Compare the index of the archive in DIR with what is stored, in both directions, and count.

    It may run beside a live server. Ends with 69 if something is wrong.
    """
    with Holdings(Path(directory)) as holdings:
        instances, _ = held(holdings)
        with progressing(2 * instances, output) as progress:
            found = _tell(fsck(holdings, progress=progress), output)
    output.summary(
        f"{counted(instances, 'instance')} checked, {counted(found, 'problem')}", instances=instances, problems=found
    )
    return Exit.FAILURES if found else Exit.DONE


@click.command("scrub")
@DIR
@output_options
def scrub_command(directory: str, output: Output) -> int:
    """Read every instance of the archive in DIR, and compare it with the hash of what was received.

    Ends with 69 if something is damaged or missing.
    """
    with Holdings(Path(directory)) as holdings:
        instances, size = held(holdings)
        with progressing(size, output) as progress:
            found = _tell(scrub(holdings, progress=progress), output)
    output.summary(
        f"{counted(instances, 'instance')} read, {amount(size)}, {counted(found, 'problem')}",
        instances=instances,
        bytes=size,
        problems=found,
    )
    return Exit.FAILURES if found else Exit.DONE


@click.command("reindex")
@DIR
@output_options
def reindex_command(directory: str, output: Output) -> int:
    """Take everything that is stored in DIR into its index, which may be new; what is there stays.

    It may run beside a live server, and be interrupted and run again.
    """
    with Holdings(Path(directory)) as holdings:
        found = holdings.intake.recover(recent=False)
        if holdings.settings.rejection_notes != "store":
            RejectionNotes(holdings).honour_all()
        instances, _ = held(holdings)
    output.summary(f"{found} indexed, {counted(instances, 'instance')} in all", indexed=found, instances=instances)
    return Exit.DONE


@click.command("delete")
@DIR
@selection
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--medium", type=PATH, metavar="PATH",
              help="They are on this medium, with a DICOMDIR, and are told as OFFLINE.")  # fmt: skip
@output_options
def delete_command(directory: str, output: Output, *, yes: bool, medium: str | None, **named: Any) -> int:
    """Delete what is named from the archive in DIR: its rows at once, its bytes right after."""
    with Holdings(Path(directory)) as holdings:
        places = selected(holdings, **named)
        on = None if medium is None else _found_on(medium, [place.uid for place in places])
        if places and not yes and not click.confirm(f"Delete {counted(len(places), 'instance')}?", err=True):
            return Exit.DONE
        if on is not None:
            holdings.offline.put([place.uid for place in places], on.file_set_id, on.file_set_uid)
        with progressing(len(places), output) as progress:
            gone = delete_instances(holdings, [place.uid for place in places], progress=progress)
        delete_blobs_due(holdings)
    output.summary(
        f"{counted(gone.instances, 'instance')} deleted, {amount(gone.bytes)}",
        instances=gone.instances,
        bytes=gone.bytes,
    )
    return Exit.DONE


def _found_on(medium: str, uids: Sequence[str]) -> Contents:
    """What is on a medium; all of these are.

    Raises:
        InvalidArgument: one is not, and nothing is deleted.
    """
    found = check(Path(medium))
    missing = sorted(set(uids).difference(found.listed))
    if missing:
        raise InvalidArgument(
            f"{medium} does not have {counted(len(missing), 'instance')}, such as {missing[0]}: nothing is deleted",
            hint="Put them on a medium first: dicomnet archive export --format dicomdir.",
        )
    return found


@click.command("compact")
@DIR
@output_options
def compact_command(directory: str, output: Output) -> int:
    """Write segments anew of which half is deleted, and give back the room."""
    with Holdings(Path(directory)) as holdings:
        freed = compact(holdings)
    output.summary(f"{amount(freed)} given back", bytes=freed)
    return Exit.DONE
