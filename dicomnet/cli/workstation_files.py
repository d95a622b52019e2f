"""``dicomnet workstation import|export``: instances in and out as files; beside a workstation that runs, too."""

from __future__ import annotations

from typing import Any

import click

from ..repository.exporting import FORMATS, selected
from ..repository.holdings import Holdings
from ..server.directory import ServerDirectory
from ..workstation.settings import place_of
from .instance_files import selection, take_in, write_out
from .options import PATH, output_options
from .output import Output
from .workstation_run import DIR

__all__ = ["export_command", "import_command"]


@click.command("import")
@DIR
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PATH...")
@output_options
def import_command(server: ServerDirectory, paths: tuple[str, ...], output: Output) -> int:
    """Take the files in PATHs into the workstation in DIR: files, folders, zip files, DICOMDIR media.

    Ends with 69 if something could not be imported.
    """
    with Holdings(*place_of(server)) as holdings:
        return take_in(holdings, paths, output)


@click.command("export")
@DIR
@click.argument("target", type=PATH, metavar="TARGET")
@selection
@click.option("--format", "form", type=click.Choice(FORMATS), default="folder", help="[default: folder]")
@output_options
def export_command(server: ServerDirectory, target: str, output: Output, *, form: str, **named: Any) -> int:
    """Write what is named from the workstation in DIR to TARGET, bit for bit."""
    with Holdings(*place_of(server)) as holdings:
        return write_out(holdings, selected(holdings, **named), target, form, output)
