"""``dicomnet workstation``: run a workstation, ask remote archives, retrieve and send by its queue."""

from __future__ import annotations

import click

from .lazy_group import Lazy, LazyGroup

__all__ = ["COMMANDS", "command"]

_JOBS, _FILES = "dicomnet.cli.workstation_jobs", "dicomnet.cli.workstation_files"
#: In the order of `dicomnet workstation --help`.
COMMANDS = {
    "create": Lazy("dicomnet.cli.workstation_run:create_command", "Make a workstation.", "router"),
    "run": Lazy("dicomnet.cli.workstation_run:run_command", "Receive, retrieve, send, serve the viewer.", "router"),
    "studies": Lazy(f"{_JOBS}:studies_command", "Show what it holds.", "router"),
    "pin": Lazy(f"{_JOBS}:pin_command", "Keep studies, whatever the quota says.", "router"),
    "query": Lazy(f"{_JOBS}:query_command", "Ask a remote archive.", "router"),
    "retrieve": Lazy(f"{_JOBS}:retrieve_command", "Queue the retrieval of a study.", "router"),
    "prefetch": Lazy(f"{_JOBS}:prefetch_command", "Queue the retrieval of a patient's earlier studies.", "router"),
    "store": Lazy(f"{_JOBS}:store_command", "Queue the sending of a study.", "router"),
    "jobs": Lazy(f"{_JOBS}:jobs_command", "Show the queue, and what became of its jobs.", "router"),
    "cancel": Lazy(f"{_JOBS}:cancel_command", "Cancel jobs.", "router"),
    "retry": Lazy(f"{_JOBS}:retry_command", "Try jobs again now.", "router"),
    "import": Lazy(f"{_FILES}:import_command", "Take in files, folders, zip files and DICOMDIR media.", "router"),
    "export": Lazy(f"{_FILES}:export_command", "Write studies to a folder, a zip file or media.", "router"),
}


@click.group("workstation", cls=LazyGroup, lazy=COMMANDS)
def command() -> None:
    """Run a workstation in a directory, ask remote archives, retrieve and send by its queue."""
