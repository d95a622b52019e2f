"""``dicomnet server ae``: the AE titles that a server knows."""

from __future__ import annotations

from typing import Any

import click

from ..config import Entity
from ..server.admin import Client
from ..server.ae_entry import RIGHTS
from ..server.directory import ServerDirectory
from .exits import Exit
from .options import Parsed, output_options, stacked
from .output import Output, counted
from .server_manage import SERVER
from .tables import Table

__all__ = ["command"]

_fields = stacked(
    click.option("--host", metavar="HOST", help="Where it listens."),
    click.option("--port", type=click.IntRange(1, 65535), metavar="N", help="The port where it listens."),
    click.option("--tls/--plain", "tls", default=None, help="Whether it listens with TLS."),
    click.option("--address", "addresses", multiple=True, metavar="HOST", help="Where it may call from; repeatable."),
    click.option("--alias", "aliases", multiple=True, metavar="AET", help="Another title of it; can be repeated."),
    click.option("--right", "rights", type=click.Choice(RIGHTS), multiple=True, help="What it may do; repeatable."),
    click.option(
        "--modality", "modalities", multiple=True, metavar="CS", help="What it may find and retrieve; repeatable."
    ),
    click.option("--issuer", "issuers", multiple=True, metavar="NAME", help="Of Patient IDs it may see; repeatable."),
    click.option("--move-to", multiple=True, metavar="AET", help="Where its C-MOVE may send; repeatable."),
    click.option("--relax", multiple=True, metavar="RULE", help="A rule to relax for it; can be repeated."),
    click.option("--description", metavar="TEXT", help="What it is."),
)


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in fields.items() if value not in (None, ())}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


def _title_or_entity(text: str) -> Entity | str:
    """A title alone, or with its address; "CT1@pacs.local" is half an address, and no title."""
    return Entity.parse(text) if ":" in text or "@" in text else text


@click.group("ae")
def command() -> None:
    """List, add, update, remove and echo the AE titles that a server knows."""


@command.command("list")
@SERVER
@output_options
def list_titles(server: ServerDirectory, output: Output) -> int:
    """List the AE titles that SERVER knows."""
    with Client(server.path) as client:
        found = client.ae_titles()
    table = Table(output, ("title", "address", "may call from", "rights", "description"))
    for one in found:
        where = f"{one['host']}:{one['port']}{' (TLS)' if one['tls'] else ''}" if one["host"] else ""
        rights = "all" if len(one["rights"]) == len(RIGHTS) else " ".join(one["rights"])
        table.add((one["title"], where, " ".join(one["addresses"]), rights, one["description"]))
        output.record(**one)
    table.close()
    output.summary(counted(len(found), "AE title"), ae_titles=len(found))
    return Exit.DONE


@command.command("add")
@SERVER
@click.argument("entity", type=Parsed("AE", _title_or_entity), metavar="AE")
@_fields
@output_options
def add(server: ServerDirectory, entity: Entity | str, output: Output, **fields: Any) -> int:
    """Add an AE to what SERVER knows: a title, or AET@HOST:PORT where it listens."""
    given = _given(fields)
    title = entity
    if isinstance(entity, Entity):
        title = entity.ae_title
        given = {"host": entity.host, "port": entity.port, "tls": entity.tls} | given
    with Client(server.path) as client:
        added = client.add_ae(str(title), **given)
    output.summary(f"{added['title']} is known", **added)
    return Exit.DONE


@command.command("update")
@SERVER
@click.argument("title", metavar="AET")
@click.option("--title", "new_title", metavar="AET", help="Its new title.")
@_fields
@output_options
def update(server: ServerDirectory, title: str, new_title: str | None, output: Output, **fields: Any) -> int:
    """Change an AE that SERVER knows, its title too; what is not named stays as it is."""
    with Client(server.path) as client:
        entry = client.ae_title(title)
        changed = {**entry, **_given(fields)}
        old = changed.pop("title")
        updated = client.update_ae(title, new_title or old, **changed)
    output.summary(f"{updated['title']} is changed", **updated)
    return Exit.DONE


@command.command("remove")
@SERVER
@click.argument("title", metavar="AET")
@output_options
def remove(server: ServerDirectory, title: str, output: Output) -> int:
    """Remove an AE from what SERVER knows, unless something depends on it."""
    with Client(server.path) as client:
        client.remove_ae(title)
    output.summary(f"{title} is not known any more", removed=title)
    return Exit.DONE


@command.command("echo")
@SERVER
@click.argument("title", metavar="AET")
@output_options
def echo(server: ServerDirectory, title: str, output: Output) -> int:
    """Have SERVER verify an AE that it knows, by C-ECHO."""
    with Client(server.path) as client:
        answer = client.echo(title)
    output.summary(f"{title} answered {answer['meaning']}", **answer)
    return Exit.DONE if answer["status"] == "0000" else Exit.FAILURES
