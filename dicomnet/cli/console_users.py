"""``dicomnet console user``: who may log in at the console."""

from __future__ import annotations

from pathlib import Path

import click

from ..server.directory import home
from ..web.users import Users
from .console_run import USERS_NAME
from .options import NAME, output_options
from .output import Output
from .users import ROLE, add_user, list_users, remove_user

__all__ = ["command"]

_FILE = click.option("--users", metavar="FILE", help="The file of users.  [default: users.json beside the servers]")


@click.group("user")
def command() -> None:
    """See to who may log in at the console; it may run meanwhile, and sees the first user at its next start."""


def _users(file: str | None) -> Users:
    path = Path(file) if file else home() / USERS_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    return Users(path)


@command.command("add")
@NAME
@ROLE
@_FILE
@output_options
def add_command(name: str, users: str | None, output: Output, role: str | None) -> int:
    """Add the user NAME, or give one another password and role.

    The password is asked for at the terminal; without one it is the first line of standard input. Who reads may look;
    who operates also sends, retrieves, books, echoes and disconnects; who administers also changes servers, rules and
    AE titles, and deletes.
    """
    return add_user(_users(users), name, role, output)


@command.command("remove")
@NAME
@_FILE
@output_options
def remove_command(name: str, users: str | None, output: Output) -> int:
    """Remove the user NAME; sessions of that user end."""
    return remove_user(_users(users), name, output)


@command.command("list")
@_FILE
@output_options
def list_command(users: str | None, output: Output) -> int:
    """List the users and their roles."""
    return list_users(_users(users), output)
