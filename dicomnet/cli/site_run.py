"""``dicomnet site up|down|status|check``: a site that was made."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from ..site.checking import Cell, Report, check
from ..site.plan import Site, SiteInvalid
from ..site.running import down, state, up
from .exits import Exit
from .options import Parsed, output_options
from .output import Output, counted
from .tables import Table

__all__ = ["check_command", "down_command", "status_command", "tell", "up_command"]

#: What the extra `console` installs, besides what a site cannot do without.
CONSOLE_PACKAGES = ("jinja2", "python_multipart")

_SITE = click.argument("site", type=Parsed("directory", lambda text: Site.load(Path(text))), metavar="DIR")


@click.command("up")
@_SITE
@output_options
def up_command(site: Site, output: Output) -> int:
    """Start the servers of the site in DIR: archive, workstation, router. If one does not start, none is left."""
    try:
        started = up(site)
    except SiteInvalid as error:
        for problem in error.problems:
            output.error(problem)
            output.record(problem=problem)
        return Exit.CANNOT_LISTEN
    tell(site, output)
    output.summary(f"{counted(len(started), 'server')} started", started=started)
    return Exit.DONE


def tell(site: Site, output: Output) -> None:
    """Where everything is."""
    for role, node in site.nodes.items():
        output.say(f"{role:18}{node.plain}, {node.secure} (TLS)")
        output.record(role=role, plain=str(node.plain), tls=str(node.secure))
    for name, address in site.pages:
        if name == "console" and not all(map(find_spec, CONSOLE_PACKAGES)):
            output.say("console           needs more packages: pip install 'dicomnet[console]'")
            continue
        output.say(f"{name:18}{address}")
        output.record(page=name, address=address)


@click.command("down")
@_SITE
@output_options
def down_command(site: Site, output: Output) -> int:
    """Stop the servers of the site in DIR, the router first; what is queued goes on with the next start."""
    stopped = down(site)
    output.summary(f"{counted(len(stopped), 'server')} stopped", stopped=stopped)
    return Exit.DONE


@click.command("status")
@_SITE
@output_options
def status_command(site: Site, output: Output) -> int:
    """Show how the servers of the site in DIR are. Ends with 69 where one does not run, or is not well."""
    found, table = state(site), Table(output, ("server", "title", "process", "port", "tls", "web", "state"))
    for one in found:
        words = "; ".join(one.problems) or ("well" if one.process else "does not run")
        node = one.node
        table.add((node.role, node.title, one.process or "", node.port, node.tls_port, node.web_port, words))
        output.record(role=node.role, title=node.title, process=one.process, problems=list(one.problems))
    table.close()
    well = sum(1 for one in found if one.process and not one.problems)
    output.summary(f"{well} of {counted(len(found), 'server')} well", well=well, servers=len(found))
    return Exit.DONE if well == len(found) else Exit.FAILURES


@click.command("check")
@_SITE
@output_options
def check_command(site: Site, output: Output) -> int:
    """Check the site in DIR, which should be up: its files, and an echo between all pairs, both ways, plain and TLS.

    Each problem is told by who, what and where. Ends with 69 where there is one, with 68 where a certificate expires
    soon.
    """
    report = check(site)
    _matrix(site, report, output)
    for one in report.cells:
        output.record(caller=one.caller, called=one.called, tls=one.secure, ok=one.ok, problem=one.problem)
    for warning in report.warnings:
        output.warn(warning)
        output.record(warning=warning)
    for problem in report.problems:
        output.error(problem)
        output.record(problem=problem)
    good = sum(one.ok for one in report.cells)
    output.summary(f"{good} of {len(report.cells)} echoes answered, {counted(len(report.problems), 'problem')}",
                   echoes=len(report.cells), answered=good, problems=len(report.problems))  # fmt: skip
    return Exit.FAILURES if report.problems else Exit.WARNINGS if report.warnings else Exit.DONE


def _matrix(site: Site, report: Report, output: Output) -> None:
    """Who calls in the rows, who is called in the columns; plain, then TLS."""
    table = Table(output, ("from \\ to", *(f"{node.title} plain / TLS" for node in site.nodes.values())))
    said = {(one.caller, one.called, one.secure): _word(one) for one in report.cells}
    for caller in (*site.nodes, "client"):
        title = site.client if caller == "client" else site.nodes[caller].title
        pairs = [[said.get((caller, called, secure), "-") for secure in (False, True)] for called in site.nodes]
        table.add((title, *(" / ".join(pair) for pair in pairs)))
    table.close()


def _word(one: Cell) -> str:
    return "ok" if one.ok else "FAILS" if one.tried else "?"
