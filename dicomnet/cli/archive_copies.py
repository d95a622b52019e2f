"""``dicomnet archive import|export|backup``: instances in and out as files, and the whole archive to another folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from ..archive.backup import backup
from ..archive.deidentified import export_deidentified
from ..archive.holdings import Holdings
from ..errors import cannot_write
from ..repository.deidentify import Deidentifier, Option, key_in
from ..repository.exporting import FORMATS, selected
from ..repository.places import Place
from .archive_care import held
from .exits import Exit
from .instance_files import progressing, selection, take_in, write_out
from .options import DIR, PATH, output_options
from .output import Output, amount, counted

__all__ = ["backup_command", "export_command", "import_command"]


@click.command("import")
@DIR
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PATH...")
@output_options
def import_command(directory: str, paths: tuple[str, ...], output: Output) -> int:
    """Take the files in PATHs into the archive in DIR: files, folders, zip files, DICOMDIR media.

    It may run beside a live server. Ends with 69 if something could not be imported.
    """
    with Holdings(Path(directory)) as holdings:
        return take_in(holdings, paths, output)


@click.command("export")
@DIR
@click.argument("target", type=PATH, metavar="TARGET")
@selection
@click.option("--format", "form", type=click.Choice(FORMATS), default="folder", help="[default: folder]")
@click.option("--deidentify", is_flag=True, help="Without who it is: PS3.15 Annex E, basic profile.")
@click.option("--option", "options", type=click.Choice([option.value for option in Option]), multiple=True,
              help="With --deidentify: an option of the profile. May be given several times.")  # fmt: skip
@click.option("--burned-in", is_flag=True, help="With --deidentify: take what has text burned into its pixels.")
@output_options
def export_command(
    directory: str,
    target: str,
    output: Output,
    *,
    form: str,
    deidentify: bool,
    options: tuple[str, ...],
    burned_in: bool,
    **named: Any,
) -> int:
    """Write what is named from the archive in DIR to TARGET: as it is stored, bit for bit, or de-identified.

    De-identified, the same patient, study or instance always gets the same new identifiers, by a key in DIR.
    """
    if not deidentify and (options or burned_in):
        raise click.UsageError("--option and --burned-in want --deidentify")
    with Holdings(Path(directory)) as holdings:
        places = selected(holdings, **named)
        if deidentify:
            deidentifier = Deidentifier(key_in(holdings.directory), options, burned_in=burned_in)
            return _deidentified(holdings, places, Path(target), form, deidentifier, output)
        return write_out(holdings, places, target, form, output)


def _deidentified(
    holdings: Holdings, places: list[Place], target: Path, form: str, deidentifier: Deidentifier, output: Output
) -> int:
    done: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    failed = 0
    with progressing(sum(place.size for place in places), output) as progress:
        for one in export_deidentified(holdings, places, target, form, deidentifier, progress=progress):
            if one.error:
                failed += 1
                output.error(f"{one.uid}: {one.error}")
            output.record(uid=one.uid, written_as=one.written_as, error=one.error, done=one.report.done,
                          warnings=one.report.warnings)  # fmt: skip
            done.update(one.report.counts())
            warnings.update(one.report.warnings)
    for what, count in sorted(warnings.items()):
        output.say(f"{counted(count, 'instance')}: {what}")
    elements = ", ".join(f"{count} {what}" for what, count in sorted(done.items()))
    output.summary(
        f"{counted(len(places) - failed, 'instance')} written, {failed} failed; elements: {elements or 'none'}",
        instances=len(places) - failed, failed=failed, elements=dict(done), warnings=dict(warnings),
    )  # fmt: skip
    return Exit.FAILURES if failed else Exit.DONE


@click.command("backup")
@DIR
@click.argument("target", type=PATH, metavar="TARGET")
@output_options
def backup_command(directory: str, target: str, output: Output) -> int:
    """Copy the archive in DIR to TARGET, which is an archive then; the next time only what is new.

    It may run beside a live server, as long as nothing is deleted or compacted meanwhile.
    """
    try:
        with Holdings(Path(directory)) as holdings, progressing(held(holdings)[1], output) as progress:
            done = backup(holdings, Path(target), progress=progress)
    except OSError as error:
        raise cannot_write(error, target) from error
    output.summary(
        f"{counted(done.copied, 'file')} copied, {amount(done.bytes)}, {done.unchanged} unchanged",
        copied=done.copied,
        bytes=done.bytes,
        unchanged=done.unchanged,
    )
    return Exit.DONE
