"""``dicomnet web``: DICOMweb as a client, and who may log in at an archive."""

from __future__ import annotations

import click

from .lazy_group import Lazy, LazyGroup

__all__ = ["COMMANDS", "command"]

_CLIENT = "dicomnet.cli.web_client"
#: In the order of `dicomnet web --help`.
COMMANDS = {
    "search": Lazy(f"{_CLIENT}:search_command", "Search for studies, series or instances.", "web"),
    "get": Lazy(f"{_CLIENT}:get_command", "Fetch studies, series or instances.", "web"),
    "store": Lazy(f"{_CLIENT}:store_command", "Store files.", "web"),
    "user": Lazy("dicomnet.cli.web_users:command", "Manage who may log in at an archive.", "archive"),
}


@click.group("web", cls=LazyGroup, lazy=COMMANDS)
def command() -> None:
    """Search, fetch and store by DICOMweb; manage the users of an archive."""
