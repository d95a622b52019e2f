"""``dicomnet web``: DICOMweb as a client, and who may log in at an archive."""

from __future__ import annotations

import click

from .lazy_group import Lazy, LazyGroup

__all__ = ["COMMANDS", "command"]

#: In the order of `dicomnet web --help`.
COMMANDS = {
    "user": Lazy("dicomnet.cli.web_users:command", "Who may log in at an archive.", "archive"),
}


@click.group("web", cls=LazyGroup, lazy=COMMANDS)
def command() -> None:
    """Search, fetch and store by DICOMweb; see to who may log in at an archive."""
