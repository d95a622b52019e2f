"""``dicomnet server settings …``: the settings that all nodes of an archive have in common, by one that runs."""

from __future__ import annotations

from typing import Any

import click

from ..server.admin import Client
from ..server.directory import ServerDirectory
from .options import output_options
from .output import Output
from .server_manage import SERVER
from .shared_settings import AFTER, KEY_VALUE, KEYS, NUMBER, SNAPSHOT, say_change, say_history, say_settings

__all__ = ["command"]


@click.group("settings")
def command() -> None:
    """Show and change the settings that all nodes of the archive have in common of which SERVER is one.

    They are in the archive's database, for every node; what the server.toml of a node says comes before them there.
    """


@command.command("show")
@SERVER
@SNAPSHOT
@output_options
def show_command(server: ServerDirectory, output: Output, *, snapshot: int | None) -> int:
    """Show each setting, and where the archive of SERVER has it from; those with a star wait for a restart."""
    with Client(server.path) as client:
        return say_settings(client.shared_settings(snapshot), output)


@command.command("set")
@SERVER
@KEY_VALUE
@AFTER
@output_options
def set_command(
    server: ServerDirectory, output: Output, *, values: tuple[tuple[str, Any], ...], after: int | None
) -> int:
    """Set KEYs for all nodes of the archive of SERVER; those that run go over to it at once, as far as they can.

    VALUE is as in archive.toml: 3650, true, 500g, '["RIS"]'.
    """
    with Client(server.path) as client:
        return say_change(client.change_shared(dict(values), after=after), output)


@command.command("unset")
@SERVER
@KEYS
@AFTER
@output_options
def unset_command(server: ServerDirectory, output: Output, *, keys: tuple[str, ...], after: int | None) -> int:
    """Have each node of the archive of SERVER use its own settings for these KEYs again, or the defaults."""
    with Client(server.path) as client:
        return say_change(client.change_shared({}, keys, after=after), output)


@command.command("history")
@SERVER
@output_options
def history_command(server: ServerDirectory, output: Output) -> int:
    """List who changed what of the archive of SERVER, and when, the latest first."""
    with Client(server.path) as client:
        return say_history(client.shared_history(), output)


@command.command("revert")
@SERVER
@NUMBER
@AFTER
@output_options
def revert_command(server: ServerDirectory, output: Output, *, snapshot: int, after: int | None) -> int:
    """Have snapshot N hold again for all nodes of the archive of SERVER, as a new one; 0 has nothing set."""
    with Client(server.path) as client:
        return say_change(client.revert_shared(snapshot, after=after), output)
