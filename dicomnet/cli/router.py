"""``dicomnet router``: run a router, and look after its rules and its queues."""

from __future__ import annotations

import click

from .lazy_group import Lazy, LazyGroup

__all__ = ["COMMANDS", "command"]

#: In the order of `dicomnet router --help`.
COMMANDS = {
    "run": Lazy("dicomnet.cli.router_run:command", "Receive everything, and pass it on by rules.", "router"),
}


@click.group("router", cls=LazyGroup, lazy=COMMANDS)
def command() -> None:
    """Run a router in a directory, and look after its rules and its queues."""
