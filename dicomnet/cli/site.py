"""``dicomnet site``: archive, workstation, router and clients that know each other."""

from __future__ import annotations

import click

from .lazy_group import Lazy, LazyGroup

__all__ = ["COMMANDS", "command"]

#: In the order of `dicomnet site --help`.
COMMANDS = {
    "init": Lazy("dicomnet.cli.site_init:command", "Make a site: servers, certificates, rules, samples.", "router"),
    "up": Lazy("dicomnet.cli.site_run:up_command", "Start its servers.", "router"),
    "check": Lazy("dicomnet.cli.site_run:check_command", "Echo between all pairs, plain and over TLS.", "router"),
    "status": Lazy("dicomnet.cli.site_run:status_command", "Show the state of its servers.", "router"),
    "down": Lazy("dicomnet.cli.site_run:down_command", "Stop its servers.", "router"),
}


@click.group("site", cls=LazyGroup, lazy=COMMANDS)
def command() -> None:
    """Set up, check, start and stop a whole site in a directory."""
