"""``dicomnet site init``: makes a site, by options or by questions on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import click

from ..errors import InvalidArgument
from ..site.making import init
from ..site.plan import FIRST_PORT, USUAL_TITLES, Site, SiteInvalid, planned, wanted
from .certificates import issue
from .exits import Exit
from .options import DIR, output_options, stacked
from .output import Output
from .site_run import tell

__all__ = ["certify", "command"]

_DAYS = 825  # of the certificates; some peers take no longer ones


def certify(folder: Path, names: Mapping[str, tuple[str, ...]]) -> None:
    """Make the certificates of a site, and its authority."""
    issue(str(folder), names, _DAYS, Output(json=False, verbosity=-1))


_title_options = stacked(
    *(click.option(f"--{role}", metavar="AET", help=f"AE title of the {role}.  [default: {default}]")
      for role, default in USUAL_TITLES.items())
)  # fmt: skip


@click.command("init")
@DIR
@click.option("--host", metavar="HOST", help="Where the servers listen.  [default: 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="PORT",
    help=f"The first of three ports; TLS is 100 behind, the web 200. 0 takes free ones.  [default: {FIRST_PORT}]",
)  # fmt: skip
@_title_options
@click.option("--deidentified", is_flag=True, help="Have the router write a de-identified copy to DIR/research, too.")
@click.option("--yes", is_flag=True, help="Ask nothing: what is not given is as usual.")
@output_options
def command(
    directory: str, output: Output, host: str | None, port: int | None, *, deidentified: bool, yes: bool, **titles: Any
) -> int:
    """Make a site in DIR: an archive, a workstation, a router, peers.toml, certificates, rules, samples, a worklist.

    On a terminal it asks for what no option says. What the router receives goes to the workstation, and on to the
    archive. A second run with the same options changes nothing; one that fails leaves nothing.
    """
    given = {role: title for role, title in titles.items() if title is not None}
    known = Site.found(Path(directory))
    if known is None and not yes and sys.stdin.isatty():
        host, port, given = _asked(Path(directory), host, port, given)
    try:
        site = wanted(Path(directory), known, host=host, port=port, titles=given, deidentified=deidentified)
        made = init(site, certify, day=date.today())
    except SiteInvalid as error:
        for problem in error.problems:
            output.error(problem)
            output.record(problem=problem)
        return Exit.USAGE
    if not made:
        output.summary(f"{directory} is this site already; nothing was changed", made=False, directory=directory)
        return Exit.DONE
    tell(site, output)
    output.summary(f"made {directory}; start it: dicomnet site up {directory}", made=True, directory=directory)
    return Exit.DONE


def _asked(
    directory: Path, host: str | None, port: int | None, titles: dict[str, str]
) -> tuple[str, int, dict[str, str]]:
    """What no option says, asked for until it can be."""
    host = host or click.prompt("Where do the servers listen?", default="127.0.0.1", err=True)
    if port is None:
        port = click.prompt("First port", default=FIRST_PORT, type=click.IntRange(0, 65535), err=True)
    usual = planned(directory, host=host).titles
    for role, title in usual:
        while role not in titles:
            answer = click.prompt(f"AE title of the {role}", default=title, err=True)
            try:
                planned(directory, titles={**titles, role: answer})
                titles[role] = answer
            except InvalidArgument as error:
                click.echo(str(error), err=True)
    return host, int(port or 0), titles
