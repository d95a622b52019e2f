"""``dicomnet router``: run a router, and look after its rules and its queues."""

from __future__ import annotations

import click

from .lazy_group import Lazy, LazyGroup

__all__ = ["COMMANDS", "command"]

#: In the order of `dicomnet router --help`.
COMMANDS = {
    "run": Lazy("dicomnet.cli.router_run:command", "Receive everything, and pass it on by rules.", "router"),
    "rules": Lazy("dicomnet.cli.router_rules:command", "Show and change the rules.", "router"),
    "destinations": Lazy("dicomnet.cli.router_destinations:command", "Show and change the destinations.", "router"),
    "queue": Lazy("dicomnet.cli.router_queue:command", "Show and manage what waits, is held or parked.", "router"),
    "report": Lazy("dicomnet.cli.router_queue:report_command", "Report what became of each study.", "router"),
}


@click.group("router", cls=LazyGroup, lazy=COMMANDS)
def command() -> None:
    """Run a router in a directory, and look after its rules and its queues."""
