"""What the commands share by which users are added, removed and listed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from ..repository.scope import ALL
from ..web.users import RIGHTS, ROLES, User, Users
from .exits import Exit
from .output import Output

__all__ = ["ISSUER", "MODALITY", "RIGHT", "ROLE", "add_user", "list_users", "remove_user"]

ROLE = click.option("--role", type=click.Choice(ROLES), help="What the user may do.  [default: read, or as it is]")
RIGHT = click.option(
    "--right", "rights", type=click.Choice(RIGHTS), multiple=True,
    help="Hold the user to this at DICOMweb, of what the role may do; repeatable.  [default: all, or as they are]",
)  # fmt: skip

MODALITY = click.option(
    "--modality", "modalities", multiple=True, metavar="CS",
    help="Hold the user to series of it; repeatable.  [default: any, or as they are]",
)  # fmt: skip
ISSUER = click.option(
    "--issuer", "issuers", multiple=True, metavar="NAME",
    help="Hold the user to patients with IDs of it; repeatable.  [default: any, or as they are]",
)  # fmt: skip


def add_user(
    users: Users, name: str, role: str | None, output: Output, rights: Sequence[str] = (),
    modalities: Sequence[str] = (), issuers: Sequence[str] = (),
) -> int:  # fmt: skip
    """Add a user whose password is asked for, or change one."""
    known = users.get(name)
    usual = known.rights if known else RIGHTS
    if modalities or issuers:  # of work it is not known whose it is: that right is given by its name alone
        usual = tuple(one for one in usual if one != "work")
    before = known.scope if known else ALL
    users.put(
        name, _password(), role or (known.role if known else "read"), rights or usual,
        modalities=modalities or before.modalities, issuers=issuers or before.issuers,
    )  # fmt: skip
    chosen = users.get(name)
    assert chosen is not None
    output.say(f"{name} may log in, with the role {chosen.role}{_held(chosen)}")
    output.record(**_record(chosen))
    return Exit.DONE


def _held(user: User) -> str:
    held = "" if user.rights == RIGHTS else f", to {', '.join(user.rights)} only"
    if user.scope.modalities:
        held += f", of {', '.join(sorted(user.scope.modalities))}"
    if user.scope.issuers:
        named = [one or "no issuer" for one in sorted(user.scope.issuers)]
        held += f", of patients of {', '.join(named)}"
    return held


def _record(user: User) -> dict[str, Any]:
    scope = {"modalities": sorted(user.scope.modalities), "issuers": sorted(user.scope.issuers)}
    return {"name": user.name, "role": user.role, "rights": list(user.rights), **scope}


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
        output.record(**_record(one))
    return Exit.DONE
