"""``dicomnet worklist``: what an archive's modalities are to do."""

from __future__ import annotations

import click

from .lazy_group import Lazy, LazyGroup

__all__ = ["COMMANDS", "command"]

_ITEMS = "dicomnet.cli.worklist_items"
#: In the order of `dicomnet worklist --help`.
COMMANDS = {
    "add": Lazy(f"{_ITEMS}:add_command", "Add an item.", "archive"),
    "list": Lazy("dicomnet.cli.worklist_list:command", "List the items of an archive, or of a peer.", "archive"),
    "set": Lazy(f"{_ITEMS}:set_command", "Change an item.", "archive"),
    "remove": Lazy(f"{_ITEMS}:remove_command", "Remove items.", "archive"),
    "import": Lazy(f"{_ITEMS}:import_command", "Add items from files, or replace them.", "archive"),
}


@click.group("worklist", cls=LazyGroup, lazy=COMMANDS)
def command() -> None:
    """Look after the worklist of an archive; it may serve meanwhile."""
