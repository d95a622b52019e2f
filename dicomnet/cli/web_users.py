"""``dicomnet web user``: who may log in at the web services of an archive."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..archive.settings import ArchiveSettings
from ..web.users import ROLES, Users
from .exits import Exit
from .options import DIRECTORY, output_options
from .output import Output

__all__ = ["command"]

_DIR = click.argument("directory", type=DIRECTORY, metavar="DIR")
_NAME = click.argument("name", metavar="NAME")


@click.group("user")
def command() -> None:
    """See to who may log in at the web services of the archive in DIR; it may serve meanwhile."""


def _users(directory: str) -> Users:
    return Users(Path(ArchiveSettings.load(Path(directory)).web.users))


@command.command("add")
@_DIR
@_NAME
@click.option("--role", type=click.Choice(ROLES), help="What the user may do.  [default: read, or as it is]")
@output_options
def add_command(directory: str, name: str, output: Output, role: str | None) -> int:
    """Add the user NAME, or give one another password and role.

    The password is asked for at the terminal; without one it is the first line of standard input. Who reads may search
    and look; who operates stores, too, and keeps worklists; who administers also deletes, and reads metrics.
    """
    users = _users(directory)
    known = users.get(name)
    users.put(name, _password(), role or (known.role if known else "read"))
    chosen = users.get(name)
    assert chosen is not None
    output.say(f"{name} may log in, with the role {chosen.role}")
    output.record(name=name, role=chosen.role)
    return Exit.DONE


def _password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")


@command.command("remove")
@_DIR
@_NAME
@output_options
def remove_command(directory: str, name: str, output: Output) -> int:
    """Remove the user NAME; sessions of that user end."""
    _users(directory).remove(name)
    output.say(f"{name} may not log in any more")
    return Exit.DONE


@command.command("list")
@_DIR
@output_options
def list_command(directory: str, output: Output) -> int:
    """List the users and their roles."""
    for one in _users(directory):
        output.say(f"{one.name}  {one.role}")
        output.record(name=one.name, role=one.role)
    return Exit.DONE
