"""``dicomnet server``: makes servers, runs them, and administers those that run."""

from __future__ import annotations

import click

from .lazy_group import Lazy, LazyGroup

__all__ = ["command"]

_COMMANDS = {
    "create": Lazy("dicomnet.cli.server_manage:create", "Make a server: its directory and settings.", "server"),
    "run": Lazy("dicomnet.cli.server_manage:run", "Run a server here, until it is stopped.", "server"),
    "check": Lazy("dicomnet.cli.server_manage:check", "Check a server's settings, all mistakes at once.", "server"),
    "list": Lazy("dicomnet.cli.server_manage:list_servers", "List the servers of this machine.", "server"),
    "start": Lazy("dicomnet.cli.server_manage:start", "Start a server in a process of its own.", "server"),
    "stop": Lazy("dicomnet.cli.server_manage:stop", "Stop a server: running messages finish.", "server"),
    "start-all": Lazy("dicomnet.cli.server_manage:start_all", "Start all that are to start automatically.", "server"),
    "stop-all": Lazy("dicomnet.cli.server_manage:stop_all", "Stop all running servers.", "server"),
    "edit": Lazy("dicomnet.cli.server_manage:edit", "Change settings; a running server reads them again.", "server"),
    "delete": Lazy("dicomnet.cli.server_manage:delete", "Forget a server; its directory stays.", "server"),
    "unit": Lazy("dicomnet.cli.server_manage:unit", "Print the systemd unit of a server.", "server"),
    "status": Lazy("dicomnet.cli.server_admin:status", "Show the state of a running server.", "server"),
    "pause": Lazy("dicomnet.cli.server_admin:pause", "Accept no new associations.", "server"),
    "resume": Lazy("dicomnet.cli.server_admin:resume", "Accept associations again.", "server"),
    "reload": Lazy("dicomnet.cli.server_admin:reload", "Read the settings again.", "server"),
    "clients": Lazy("dicomnet.cli.server_admin:clients", "List who is connected.", "server"),
    "nodes": Lazy("dicomnet.cli.server_admin:nodes", "List all nodes of its archive, and how each is.", "server"),
    "settings": Lazy("dicomnet.cli.server_settings:command", "Show and change what all nodes share.", "server"),
    "disconnect": Lazy("dicomnet.cli.server_admin:disconnect", "Abort an association, by its id.", "server"),
    "ae": Lazy("dicomnet.cli.server_ae:command", "List, add, update, remove and echo known AE titles.", "server"),
    "addins": Lazy("dicomnet.cli.server_admin:addins", "List the add-ins, and what each implements.", "server"),
    "events": Lazy("dicomnet.cli.server_admin:events", "Follow what happens.", "server"),
    "logs": Lazy("dicomnet.cli.server_admin:logs", "Show the end of a server's log.", "server"),
    "conformance": Lazy("dicomnet.cli.server_admin:conformance", "Print the conformance statement.", "server"),
}


@click.group("server", cls=LazyGroup, lazy=_COMMANDS)
def command() -> None:
    """Make, run and administer DICOM servers.

    SERVER is a name below DICOMNET_SERVERS (~/.local/share/dicomnet/servers, or /var/lib/dicomnet/servers for root), or
    a directory.
    """
