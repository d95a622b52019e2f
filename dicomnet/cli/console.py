"""``dicomnet console``: pages for browsers over the servers of this machine, and who may log in."""

from __future__ import annotations

import click

from .lazy_group import Lazy, LazyGroup

__all__ = ["COMMANDS", "command"]

#: In the order of `dicomnet console --help`.
COMMANDS = {
    "run": Lazy("dicomnet.cli.console_run:command", "Serve the console.", "console"),
    "user": Lazy("dicomnet.cli.console_users:command", "Manage who may log in.", "console"),
}


@click.group("console", cls=LazyGroup, lazy=COMMANDS)
def command() -> None:
    """Administer the servers of this machine from a browser."""
