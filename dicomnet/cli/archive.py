"""``dicomnet archive``: run an archive, and look after what it holds."""

from __future__ import annotations

import click

from .lazy_group import Lazy, LazyGroup

__all__ = ["COMMANDS", "command"]

_CARE = "dicomnet.cli.archive_care"
_COPIES = "dicomnet.cli.archive_copies"
#: In the order of `dicomnet archive --help`.
COMMANDS = {
    "run": Lazy("dicomnet.cli.archive_run:command", "Serve: store, find, retrieve, commit.", "archive"),
    "stats": Lazy(f"{_CARE}:stats_command", "Show what it holds.", "archive"),
    "migrate": Lazy("dicomnet.cli.archive_migrate:migrate_command", "Move to PostgreSQL, and to a bucket.", "archive"),
    "nodes": Lazy("dicomnet.cli.archive_nodes:nodes_command", "List the machines that serve it.", "archive"),
    "settings": Lazy("dicomnet.cli.archive_settings:command", "Show and change what all of them share.", "archive"),
    "fsck": Lazy(f"{_CARE}:fsck_command", "Compare the index with what is stored.", "archive"),
    "scrub": Lazy(f"{_CARE}:scrub_command", "Read all that is stored, and compare it with its hashes.", "archive"),
    "reindex": Lazy(f"{_CARE}:reindex_command", "Make the index anew from what is stored.", "archive"),
    "delete": Lazy(f"{_CARE}:delete_command", "Delete patients, studies, series or instances.", "archive"),
    "prune": Lazy("dicomnet.cli.archive_prune:prune_command", "Delete what is too old, or too much.", "archive"),
    "compact": Lazy(f"{_CARE}:compact_command", "Free the space of what was deleted.", "archive"),
    "import": Lazy(f"{_COPIES}:import_command", "Take in files, folders, zip files and DICOMDIR media.", "archive"),
    "export": Lazy(f"{_COPIES}:export_command", "Write instances to a folder, a zip file or media.", "archive"),
    "backup": Lazy(f"{_COPIES}:backup_command", "Make a consistent copy, also while it serves.", "archive"),
}


@click.group("archive", cls=LazyGroup, lazy=COMMANDS)
def command() -> None:
    """Run an archive in a directory, and look after what it holds."""
