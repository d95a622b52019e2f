"""``dicomnet archive import|export|backup``: instances in and out as files, and the whole archive to another folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..archive.backup import backup
from ..archive.exporting import FORMATS, export, selected
from ..archive.holdings import Holdings
from ..archive.importing import import_files
from ..errors import OutputFileError, OutputProblem
from .archive_care import DIR, held, progressing, selection
from .exits import Exit
from .options import PATH, output_options
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
    with Holdings(Path(directory)) as holdings, progressing(len(paths), output) as progress:
        result = import_files(holdings, paths, progress=progress)
    for name, why in result.failed:
        output.error(why if why.startswith(name) else f"{name}: {why}")
        output.record(file=name, error=why)
    output.summary(
        f"{result.stored} stored, {result.known} there already, {result.quarantined} in quarantine, "
        f"{len(result.failed)} failed",
        stored=result.stored,
        known=result.known,
        quarantined=result.quarantined,
        failed=len(result.failed),
        bytes=result.bytes,
    )
    return Exit.FAILURES if result.failed else Exit.DONE


@click.command("export")
@DIR
@click.argument("target", type=PATH, metavar="TARGET")
@selection
@click.option("--format", "form", type=click.Choice(FORMATS), default="folder", help="[default: folder]")
@output_options
def export_command(directory: str, target: str, output: Output, *, form: str, **named: Any) -> int:
    """Write what is named from the archive in DIR to TARGET, as it is stored, bit for bit."""
    with Holdings(Path(directory)) as holdings:
        places = selected(holdings, **named)
        size = sum(place.size for place in places)
        with progressing(size, output) as progress:
            export(holdings, places, Path(target), form, progress=progress)
    output.summary(
        f"{counted(len(places), 'instance')} written, {amount(size)}", instances=len(places), bytes=size
    )
    return Exit.DONE


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
        message = f"cannot be written: {error.strerror or error}"
        raise OutputFileError(message, problem=OutputProblem.CANNOT_WRITE, path=target, errno=error.errno) from error
    output.summary(
        f"{counted(done.copied, 'file')} copied, {amount(done.bytes)}, {done.unchanged} unchanged",
        copied=done.copied,
        bytes=done.bytes,
        unchanged=done.unchanged,
    )
    return Exit.DONE
