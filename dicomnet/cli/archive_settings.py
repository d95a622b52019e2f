"""``dicomnet archive settings …``: the settings that all nodes of an archive have in common, shown and changed."""

from __future__ import annotations

import getpass
import socket
from pathlib import Path
from typing import Any

import click

from ..archive.settings_desk import DirectorySettings
from ..errors import escaped
from .options import DIR, output_options
from .output import Output
from .shared_settings import AFTER, KEY_VALUE, KEYS, NUMBER, SNAPSHOT, say_change, say_history, say_settings

__all__ = ["command"]

MOST = 1000  # snapshots of a history


def _who() -> str:
    try:
        name = escaped(getpass.getuser())
    except (KeyError, OSError, ImportError):  # as in a container whose user has no name
        name = "a user without a name"
    return f"{name}@{socket.gethostname()}"


@click.group("settings")
def command() -> None:
    """Show and change the settings that all nodes of an archive have in common.

    They are in its database, for every node; what the archive.toml or server.toml of a node says comes before them.
    Those of tables, such as access.per_title, are of nodes that are servers (dicomnet server).
    """


@command.command("show")
@DIR
@SNAPSHOT
@output_options
def show_command(directory: str, output: Output, *, snapshot: int | None) -> int:
    """Show each setting, and where the archive in DIR has it from; those with a star wait for a restart."""
    with DirectorySettings(Path(directory)) as settings:
        return say_settings(settings.show(snapshot), output)


@command.command("set")
@DIR
@KEY_VALUE
@AFTER
@output_options
def set_command(directory: str, output: Output, *, values: tuple[tuple[str, Any], ...], after: int | None) -> int:
    """Set KEYs for all nodes of the archive in DIR; those that run go over to it at once, as far as they can.

    VALUE is as in archive.toml: 3650, true, 500g, '["RIS"]'.
    """
    with DirectorySettings(Path(directory)) as settings:
        return say_change(settings.change(dict(values), (), _who(), after=after), output)


@command.command("unset")
@DIR
@KEYS
@AFTER
@output_options
def unset_command(directory: str, output: Output, *, keys: tuple[str, ...], after: int | None) -> int:
    """Have each node of the archive in DIR use its own settings for these KEYs again, or the defaults."""
    with DirectorySettings(Path(directory)) as settings:
        return say_change(settings.change({}, keys, _who(), after=after), output)


@command.command("history")
@DIR
@output_options
def history_command(directory: str, output: Output) -> int:
    """List who changed what of the archive in DIR, and when, the latest first."""
    with DirectorySettings(Path(directory)) as settings:
        return say_history(settings.history(MOST), output)


@command.command("revert")
@DIR
@NUMBER
@AFTER
@output_options
def revert_command(directory: str, output: Output, *, snapshot: int, after: int | None) -> int:
    """Have snapshot N hold again for all nodes of the archive in DIR, as a new one; 0 has nothing set."""
    with DirectorySettings(Path(directory)) as settings:
        return say_change(settings.revert(snapshot, _who(), after=after), output)
