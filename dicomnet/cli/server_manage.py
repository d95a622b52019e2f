"""``dicomnet server``: the commands that make, start and stop servers."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable
from typing import Any

import click

from ..errors import DicomNetError
from ..server import Server, SettingsInvalid, runner
from ..server import manager as servers
from ..server.admin import AdminError, Client
from ..server.directory import ServerDirectory, at, every_server, home, resolve, value_of
from ..server.discovery import Finder
from ..server.fleet import Fleet, passed
from .exits import Exit
from .options import AE_TITLE, Parsed, output_options
from .output import Output, counted
from .tables import Table

__all__ = ["SERVER"]

SERVER = click.argument("server", type=Parsed("server", resolve), metavar="SERVER")
_SET = click.option(
    "--set", "values", type=Parsed("value", value_of), multiple=True, metavar="TABLE.FIELD=VALUE",
    help="A field of the settings; can be given again.",
)  # fmt: skip
_DRAIN = click.option(
    "--drain", type=click.FloatRange(min=0), metavar="SECONDS", help="What running messages get.  [default: settings]"
)


@click.command("create")
@click.argument("directory", type=Parsed("directory", at), metavar="SERVER")
@click.option("--aet", type=AE_TITLE, required=True, metavar="AET", help="Its AE title.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="The plain port.  [default: 11112]")
@click.option("--tls-port", type=click.IntRange(0, 65535), metavar="N", help="The TLS port; it needs --set tls.cert.")
@_SET
@click.option("--yes", is_flag=True, help="Take over a directory whose server was deleted.")
@output_options
def create(
    directory: ServerDirectory,
    aet: str,
    port: int | None,
    tls_port: int | None,
    values: tuple[tuple[str, Any], ...],
    yes: bool,
    output: Output,
) -> int:
    """Make a server: a directory with its settings, and room for add-ins.

    A name without a slash is below DICOMNET_SERVERS. A directory whose server was deleted is taken over as it is, if
    that is confirmed.
    """
    if directory.was_deleted and (yes or click.confirm(f"{directory.path} holds a deleted server. Use it again?")):
        directory.restore()
        output.summary(f"the server in {directory.path} is there again", directory=str(directory.path))
        return Exit.DONE
    given: dict[str, Any] = {"server.ae_title": aet, **dict(values)}
    if port is not None:
        given["listen.port"] = port
    if tls_port is not None:
        given["listen.tls_port"] = tls_port
    directory.create(given)
    output.summary(f"made {directory.file}", directory=str(directory.path), ae_title=aet)
    return Exit.DONE


@click.command("run")
@SERVER
@click.option("--worker", type=click.IntRange(min=1), hidden=True)
@click.option("--socket", "sockets", multiple=True, hidden=True)
@output_options
def run(server: ServerDirectory, output: Output, worker: int | None, sockets: tuple[str, ...]) -> int:
    """Run SERVER in this process, until SIGTERM, SIGINT or `dicomnet server stop`.

    Prints "listening on HOST:PORT" for each port once it is open. SIGTERM lets running messages finish, a second one
    ends them; SIGHUP reads the settings again; SIGUSR1 opens the log anew.
    """
    running: Server | Fleet
    if worker is not None:
        running = _worker(server, worker, sockets)
    else:
        running = Fleet(server.path) if server.settings().server.workers > 1 else Server(server.path)

    def ready() -> None:
        for name, address in running.listening.items():
            said = {"plain": f"listening on {address}", "tls": f"listening on {address} (TLS)"}
            print(said.get(name, f"{name} on {address}"), flush=True)

    runner.run(running, ready)
    return Exit.DONE


def _worker(server: ServerDirectory, number: int, sockets: tuple[str, ...]) -> Server:
    """One of the workers of a server: it ends when the process does that started it."""
    running = Server(server.path, worker=number)
    running.sockets.update(passed({name: int(one) for name, _, one in (text.partition("=") for text in sockets)}))

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        running.request_stop(None)

    threading.Thread(target=wait, name="dicomnet-parent", daemon=True).start()
    return running


@click.command("check")
@SERVER
@output_options
def check(server: ServerDirectory, output: Output) -> int:
    """Check the settings of SERVER and its add-ins; all mistakes at once, each with its place."""
    problems: list[Any] = []
    try:
        settings = server.settings()
        finder = Finder(server.path)
        for name in settings.addins.enable:
            problems += _problems_of_addin(finder, name, settings)
    except SettingsInvalid as error:
        problems = [*error.problems]
    for one in problems:
        output.error(str(one))
        output.record(problem=one.as_json() if hasattr(one, "as_json") else {"what": str(one)})
    output.summary(
        f"{server.file}: {counted(len(problems), 'mistake')}" if problems else f"{server.file} is good",
        mistakes=len(problems),
    )
    return Exit.USAGE if problems else Exit.DONE


def _problems_of_addin(finder: Finder, name: str, settings: Any) -> Iterable[Any]:
    try:
        settings.table(name, finder.find(name).settings_model)
    except SettingsInvalid as error:
        return error.problems
    except DicomNetError as error:
        return [error]
    return []


@click.command("list")
@output_options
def list_servers(output: Output) -> int:
    """List the servers of this machine, and which of them run."""
    table = Table(output, ("name", "ae title", "state", "port", "tls", "process", "directory"))
    count = 0
    for count, server in enumerate(every_server(), 1):  # noqa: B007 - the last one is how many
        one = server.summary()
        ports = (one.get("port") or "", one.get("tls_port") or "", one["process"] or "")
        table.add((one["name"], one["ae_title"] or "", one["state"], *ports, one["directory"]))
        output.record(**one)
    table.close()
    output.summary(counted(count, "server") if count else f"no servers in {home()}", servers=count)
    return Exit.DONE


@click.command("start")
@SERVER
@output_options
def start(server: ServerDirectory, output: Output) -> int:
    """Start SERVER in a process of its own; done once its ports are open."""
    process = servers.start(server)
    output.summary(f"{server.name} runs as process {process}", server=server.name, process=process)
    return Exit.DONE


@click.command("stop")
@SERVER
@_DRAIN
@output_options
def stop(server: ServerDirectory, drain: float | None, output: Output) -> int:
    """Stop SERVER: new associations are rejected, running messages finish."""
    servers.stop(server, drain)
    output.summary(f"{server.name} has stopped", server=server.name)
    return Exit.DONE


@click.command("start-all")
@output_options
def start_all(output: Output) -> int:
    """Start all servers whose start mode is "automatic" or "paused", and that do not run."""
    wanted = [
        one for one in every_server()
        if one.process() is None and one.summary().get("start_mode") in ("automatic", "paused")
    ]  # fmt: skip
    return _each(wanted, servers.start, "started", output)


@click.command("stop-all")
@_DRAIN
@output_options
def stop_all(drain: float | None, output: Output) -> int:
    """Stop all servers that run."""
    running = [one for one in every_server() if one.process() is not None]
    return _each(running, lambda one: servers.stop(one, drain), "stopped", output)


def _each(found: list[ServerDirectory], do: Any, word: str, output: Output) -> int:
    code: int = Exit.DONE
    for one in found:
        try:
            do(one)
        except DicomNetError as error:
            output.error(str(error))
            code = Exit.FAILURES
        else:
            output.say(f"{one.name} {word}")
            output.record(server=one.name, **{word: True})
    output.summary(f"{counted(len(found), 'server')}", servers=len(found))
    return code


@click.command("edit")
@SERVER
@_SET
@output_options
def edit(server: ServerDirectory, values: tuple[tuple[str, Any], ...], output: Output) -> int:
    """Change fields of SERVER's settings; what is wrong is told, and nothing written. Comments of the file stay.

    A server that runs reads them again; what waits for a restart is listed.
    """
    if not values:
        raise click.UsageError(f"nothing to change: give --set, or edit {server.file}")
    before = server.file.read_bytes()
    server.edit(dict(values))
    waiting: list[str] = []
    if server.process() is not None:
        with Client(server.path) as client:
            try:
                waiting = client.reload()["pending_restart"]
            except AdminError:  # an add-in cannot use them
                server.file.write_bytes(before)
                raise
    if waiting:
        output.warn(f"these wait for a restart: {', '.join(waiting)}")
    output.summary(f"{server.file} is changed", changed=[name for name, _ in values], pending_restart=waiting)
    return Exit.DONE


@click.command("delete")
@SERVER
@output_options
def delete(server: ServerDirectory, output: Output) -> int:
    """Forget SERVER. Its directory stays as it is; `create` finds it again."""
    server.delete()
    output.summary(f"{server.name} is forgotten; {server.path} stays", directory=str(server.path))
    return Exit.DONE


@click.command("unit")
@SERVER
@click.option("--user", default="dicomnet", metavar="NAME", help="Whom it runs as.  [default: dicomnet]")
@output_options
def unit(server: ServerDirectory, user: str, output: Output) -> int:
    """Print the systemd unit of SERVER, for /etc/systemd/system."""
    text = servers.unit(server, user)
    if output.json:
        output.record(unit=text)
    else:
        print(text, end="")
    return Exit.DONE
