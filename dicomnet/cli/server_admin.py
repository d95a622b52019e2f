"""``dicomnet server``: the commands that talk to a server that runs, through its admin interface."""

from __future__ import annotations

import json
from collections import deque
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any

import click

from ..errors import InvalidArgument
from ..server.admin import Client
from ..server.directory import ServerDirectory
from .exits import Exit
from .options import output_options
from .output import Output, counted
from .server_manage import SERVER
from .tables import Table

__all__ = [
    "addins", "clients", "conformance", "disconnect", "events", "logs", "nodes", "pause", "reload", "resume", "status",
]  # fmt: skip

_LOOK = 0.2  # seconds between two looks at a log that is followed


@click.command("status")
@SERVER
@output_options
def status(server: ServerDirectory, output: Output) -> int:
    """Show SERVER at a glance: its state, ports, clients, add-ins, and what waits for a restart."""
    with Client(server.path) as client:
        found = client.status()
    for name, value in found.items():
        shown = ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else value
        shown = ", ".join(map(_shown, shown)) if isinstance(shown, list) else shown
        shown = f"{shown:.0f} s" if isinstance(shown, float) else shown
        output.say(f"{name.replace('_', ' '):16}{shown}")
    output.record(**found)
    return Exit.DONE


def _shown(one: Any) -> str:
    return " ".join(f"{name} {value}" for name, value in one.items()) if isinstance(one, dict) else str(one)


def _told(server: ServerDirectory, do: str, line: str, output: Output) -> int:
    with Client(server.path) as client:
        answer = getattr(client, do)()
    output.summary(line, **answer)
    return Exit.DONE


@click.command("pause")
@SERVER
@output_options
def pause(server: ServerDirectory, output: Output) -> int:
    """Have SERVER take no new association; those that are open go on. This holds through restarts."""
    return _told(server, "pause", f"{server.name} is paused", output)


@click.command("resume")
@SERVER
@output_options
def resume(server: ServerDirectory, output: Output) -> int:
    """Have SERVER take associations again."""
    return _told(server, "resume", f"{server.name} runs", output)


@click.command("reload")
@SERVER
@output_options
def reload(server: ServerDirectory, output: Output) -> int:
    """Have SERVER read its settings again. Associations that are open keep what they began with."""
    with Client(server.path) as client:
        answer = client.reload()
    if answer["pending_restart"]:
        output.warn(f"these wait for a restart: {', '.join(answer['pending_restart'])}")
    output.summary(f"changed: {', '.join(answer['changed']) or 'nothing'}", **answer)
    return Exit.DONE


@click.command("clients")
@SERVER
@output_options
def clients(server: ServerDirectory, output: Output) -> int:
    """List who is connected to SERVER: the id is for `dicomnet server disconnect`."""
    with Client(server.path) as client:
        found = client.clients()
    table = Table(output, ("id", "calling", "address", "age", "messages", "last action", "status"))
    for one in found:
        last = (one["last_action"] or "", one["last_status"] or "")
        table.add((one["id"], one["calling"], one["address"], f"{one['age']:.0f} s", one["messages"], *last))
        output.record(**one)
    table.close()
    output.summary(counted(len(found), "client"), clients=len(found))
    return Exit.DONE


@click.command("nodes")
@SERVER
@output_options
def nodes(server: ServerDirectory, output: Output) -> int:
    """List the nodes of the archive that SERVER is one of, as each of them tells. Ends with 69 if one is gone."""
    with Client(server.path) as client:
        found = client.nodes()
    table = Table(
        output, ("node", "machine", "state", "version", "associations", "stored", "per second", "settings", "duties")
    )
    for one in found:
        seen = datetime.fromtimestamp(one["seen"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        state = one["facts"].get("state", "alive") if one["alive"] else f"gone since {seen}"
        shown = (str(one["facts"].get(name, "")) for name in ("associations", "stored", "rate"))
        held = str(one["facts"].get("settings", ""))
        held += f" not {refused}" if (refused := one["facts"].get("settings_refused")) else ""
        table.add((one["address"], one["name"], state, one["version"], *shown, held, " ".join(one["duties"])))
        output.record(**one)
    table.close()
    gone = sum(not one["alive"] for one in found)
    output.summary(f"{counted(len(found), 'node')}, {gone} gone", nodes=len(found), gone=gone)
    return Exit.FAILURES if gone else Exit.DONE


@click.command("disconnect")
@SERVER
@click.argument("number", metavar="ID")
@output_options
def disconnect(server: ServerDirectory, number: str, output: Output) -> int:
    """Abort the association with this ID, as `dicomnet server clients` lists it."""
    with Client(server.path) as client:
        client.disconnect(number)
    output.summary(f"{number} is disconnected", disconnected=number)
    return Exit.DONE


@click.command("addins")
@SERVER
@click.option("--resume", "name", metavar="NAME", help="Let a suspended add-in serve again.")
@output_options
def addins(server: ServerDirectory, name: str | None, output: Output) -> int:
    """List the add-ins of SERVER in their order, what each implements, and which are suspended."""
    with Client(server.path) as client:
        if name is not None:
            client.resume_addin(name)
        found = client.addins()
    table = Table(output, ("name", "state", "calls", "failures", "hooks", "from"))
    for one in found["addins"]:
        state = f"suspended: {one['suspended']}" if one["suspended"] else "serves"
        table.add((one["name"], state, one["calls"], one["failures"], " ".join(one["hooks"]), one["place"]))
        output.record(**one)
    table.close()
    for broken, why in found["broken"].items():
        output.warn(why)
        output.record(name=broken, broken=why)
    output.summary(counted(len(found["addins"]), "add-in"), addins=len(found["addins"]), broken=len(found["broken"]))
    return Exit.DONE


@click.command("events")
@SERVER
@click.option("--after", type=click.IntRange(min=0), metavar="ID", help="Begin after this event.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help='Only these, as "client"; can be given again.')
@output_options
def events(server: ServerDirectory, after: int | None, types: tuple[str, ...], output: Output) -> int:
    """Follow what happens in SERVER, until it stops or SIGINT."""
    with Client(server.path) as client:
        for one in client.events(after, *types):
            at = datetime.fromtimestamp(one["time"]).strftime("%H:%M:%S.%f")[:-3]
            output.say(f"{at} {one['type']} {json.dumps(one['data'], ensure_ascii=False)}")
            output.record(**one)
    return Exit.DONE


@click.command("logs")
@SERVER
@click.option("-n", "--lines", type=click.IntRange(min=0), default=20, metavar="N", help="How many.  [default: 20]")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written.")
@output_options
def logs(server: ServerDirectory, lines: int, follow: bool, output: Output) -> int:
    """Show the last lines of SERVER's log."""
    path = server.log_file()
    if path is None:
        raise InvalidArgument(f"{server.name} logs to standard error", hint="[log] file names a file.")
    if not path.exists():
        raise InvalidArgument(f"{path}: there is no log yet")
    pause = Event()
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in deque(file, lines):
            _print(line, output)
        while follow:
            line = file.readline()
            if line:
                _print(line, output)
            else:
                pause.wait(_LOOK)  # there is nothing to be woken by
    return Exit.DONE


def _print(line: str, output: Output) -> None:
    try:
        fields: dict[str, Any] = json.loads(line)
    except ValueError:
        fields = {"event": line.rstrip("\n")}
    output.record(**fields)
    rest = " ".join(str(fields[name]) for name in ("timestamp", "level", "logger", "event") if name in fields)
    output.say(rest)
    if "exception" in fields and not output.json:
        output.say(str(fields["exception"]).replace("\n", " | "))


@click.command("conformance")
@SERVER
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write it there.")
@output_options
def conformance(server: ServerDirectory, out: Path | None, output: Output) -> int:
    """Print the conformance statement of SERVER as it runs, in Markdown; with --json as data."""
    with Client(server.path) as client:
        found = client.conformance()
    text = json.dumps(found) if output.json else str(found["markdown"])
    if out is not None:
        out.write_text(text, encoding="utf-8")
    else:
        print(text)
    return Exit.DONE
