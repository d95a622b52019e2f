"""``dicomnet archive nodes``: the nodes that serve one archive, and how each of them is."""

from __future__ import annotations

from pathlib import Path

import click

from ..archive.settings import ArchiveSettings
from ..repository.database import Database
from ..repository.holdings import INDEX_NAME
from ..repository.nodes import Nodes
from .exits import Exit
from .options import DIR, output_options
from .output import Output, counted

__all__ = ["nodes_command"]


@click.command("nodes")
@DIR
@output_options
def nodes_command(directory: str, output: Output) -> int:
    """The nodes that serve the archive in DIR: all that have its database.

    A node says every 5 seconds that it lives; one that has not for 20 is "gone". Ends with 69 if one is.
    """
    settings = ArchiveSettings.load(Path(directory))
    with Database.opened(settings.database or Path(directory) / INDEX_NAME) as database:
        now = database.clock()
        found = Nodes(database).all()
    for one in found:
        state = "alive" if one.is_alive else "gone"
        facts = ", ".join(f"{name} {value}" for name, value in one.facts.items())
        duties = f" [{', '.join(one.duties)}]" if one.duties else ""
        seen = f"seen {now - one.seen:.0f} s ago"
        output.say(f"{one.address} on {one.name}: {state}, {seen}, {one.version}{duties}: {facts}")
        output.record(node=one.id, **{name: value for name, value in one.as_json().items() if name != "id"})
    gone = sum(not one.is_alive for one in found)
    output.summary(f"{counted(len(found), 'node')}, {gone} gone", nodes=len(found), gone=gone)
    return Exit.FAILURES if gone else Exit.DONE
