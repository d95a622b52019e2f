"""``dicomnet workstation create|run``: a server whose add-in is a workstation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import InvalidArgument
from ..server import Server, runner
from ..server.directory import ServerDirectory
from .exits import Exit
from .options import AE_TITLE, SIZE, Parsed, output_options, stacked
from .output import Output

__all__ = ["DIR", "create_command", "run_command"]


def _there(text: str) -> ServerDirectory:
    server = ServerDirectory(Path(text).absolute())
    if not server.exists:
        hint = f"Make one: dicomnet workstation run {text}"
        raise InvalidArgument(f"{text} is no workstation: it has no server.toml", hint=hint)
    return server


#: The directory of a workstation: one that is there, or one that is to be made.
DIR = click.argument("server", type=Parsed("directory", _there), metavar="DIR")
_NEW = click.argument(
    "server", type=Parsed("directory", lambda text: ServerDirectory(Path(text).absolute())), metavar="DIR"
)


_options = stacked(
    click.option("-aet", "--aet", type=AE_TITLE, metavar="TITLE", help="[default: WORKSTATION]"),
    click.option("--host", metavar="HOST", help="The address to bind.  [default: 127.0.0.1]"),
    click.option("--port", type=click.IntRange(0, 65535), metavar="PORT", help="[default: 11113]"),
    click.option("--web", "web", type=click.IntRange(0, 65535), metavar="PORT",
                 help="DICOMweb and the viewer, for this machine.  [default: 8043]"),
    click.option("--quota", type=SIZE, metavar="SIZE", help="The most that it holds.  [default: no bound]"),
)  # fmt: skip


def _make(server: ServerDirectory, given: dict[str, Any]) -> None:
    names = {"aet": "server.ae_title", "host": "listen.host", "port": "listen.port", "web": "web.port",
             "quota": "addin.workstation.quota"}  # fmt: skip
    usual = {"server.ae_title": "WORKSTATION", "listen.port": 11113, "web.port": 8043,
             "addins.enable": ["workstation"]}  # fmt: skip
    server.create(usual | {names[name]: value for name, value in given.items() if value is not None})


@click.command("create")
@_NEW
@_options
@output_options
def create_command(server: ServerDirectory, output: Output, **given: Any) -> int:
    """Make a workstation in DIR: a server with the add-in, and its settings to edit."""
    _make(server, given)
    output.summary(f"made {server.file}", directory=str(server.path))
    return Exit.DONE


@click.command("run")
@_NEW
@_options
@output_options
def run_command(server: ServerDirectory, output: Output, **given: Any) -> int:
    """Run the workstation in DIR until SIGTERM or SIGINT; the first time DIR is made.

    Prints "listening on HOST:PORT" once it accepts connections, and the address of the viewer. What it is told for an
    old one is changed by `dicomnet server edit`. `dicomnet server` administers it: AE titles, clients, log.
    """
    if not server.exists:
        _make(server, given)
    elif any(value is not None for value in given.values()):
        raise click.UsageError(f"options are for a new one; change this one: dicomnet server edit {server.path}")
    running = Server(server.path)

    def ready() -> None:
        for name, address in running.listening.items():
            if name == "web":
                print(f"viewer on {address.rstrip('/')}/workstation/viewer/", flush=True)
            else:
                print(f"listening on {address}{' (TLS)' if name == 'tls' else ''}", flush=True)

    runner.run(running, ready)
    return Exit.DONE
