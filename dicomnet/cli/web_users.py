"""``dicomnet web user``: who may log in at the web services of an archive."""

from __future__ import annotations

from pathlib import Path

import click

from ..archive.settings import ArchiveSettings
from ..web.users import Users
from .options import DIR, NAME, output_options
from .output import Output
from .users import ISSUER, MODALITY, RIGHT, ROLE, add_user, list_users, remove_user

__all__ = ["command"]


@click.group("user")
def command() -> None:
    """See to who may log in at the web services of the archive in DIR; it may serve meanwhile."""


def _users(directory: str) -> Users:
    return Users(Path(ArchiveSettings.load(Path(directory)).web.users))


@command.command("add")
@DIR
@NAME
@ROLE
@RIGHT
@MODALITY
@ISSUER
@output_options
def add_command(
    directory: str, name: str, output: Output, role: str | None, rights: tuple[str, ...], modalities: tuple[str, ...],
    issuers: tuple[str, ...],
) -> int:  # fmt: skip
    """Add the user NAME, or give one another password and role.

    The password is asked for at the terminal; without one it is the first line of standard input. Who reads may search
    and look; who operates stores, too, and keeps worklists; who administers also deletes, and reads metrics. With
    --right a user does only so much of that: with --role operate --right store a device stores, and sees nothing.

    With --modality and --issuer a user sees, stores and deletes instances of these alone, and keeps no worklists or
    work items without --right work, for which there is no such limit.
    """
    return add_user(_users(directory), name, role, output, rights, modalities, issuers)


@command.command("remove")
@DIR
@NAME
@output_options
def remove_command(directory: str, name: str, output: Output) -> int:
    """Remove the user NAME; sessions of that user end."""
    return remove_user(_users(directory), name, output)


@command.command("list")
@DIR
@output_options
def list_command(directory: str, output: Output) -> int:
    """List the users and their roles."""
    return list_users(_users(directory), output)
