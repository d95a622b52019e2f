"""What the commands share by which users are added, removed and listed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from ..web.users import RIGHTS, ROLES, User, Users
from .exits import Exit
from .output import Output

__all__ = ["NAME", "RIGHT", "ROLE", "add_user", "list_users", "remove_user"]

NAME = click.argument("name", metavar="NAME")
ROLE = click.option("--role", type=click.Choice(ROLES), help="What the user may do.  [default: read, or as it is]")
RIGHT = click.option(
    "--right", "rights", type=click.Choice(RIGHTS), multiple=True,
    help="Hold the user to this at DICOMweb, of what the role may do; repeatable.  [default: all, or as they are]",
)  # fmt: skip


def add_user(users: Users, name: str, role: str | None, output: Output, rights: Sequence[str] = ()) -> int:
    """Add a user whose password is asked for, or change one."""
    known = users.get(name)
    usual = known.rights if known else RIGHTS
    users.put(name, _password(), role or (known.role if known else "read"), rights or usual)
    chosen = users.get(name)
    assert chosen is not None
    output.say(f"{name} may log in, with the role {chosen.role}{_held(chosen)}")
    output.record(name=name, role=chosen.role, rights=list(chosen.rights))
    return Exit.DONE


def _held(user: User) -> str:
    return "" if user.rights == RIGHTS else f", to {', '.join(user.rights)} only"


def _password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")


def remove_user(users: Users, name: str, output: Output) -> int:
    """Remove a user."""
    users.remove(name)
    output.say(f"{name} may not log in any more")
    return Exit.DONE


def list_users(users: Users, output: Output) -> int:
    """Say who there is."""
    for one in users:
        output.say(f"{one.name}  {one.role}{_held(one)}")
        output.record(name=one.name, role=one.role, rights=list(one.rights))
    return Exit.DONE
