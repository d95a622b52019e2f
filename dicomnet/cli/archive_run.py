"""``dicomnet archive run``: an archive that serves until it is told to stop."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ..archive.archive import Archive
from ..archive.settings import FILE_NAME, ArchiveSettings
from ..archive.web import serve_web
from ..config import STOP_DRAIN
from ..errors import CannotListen, InvalidArgument
from .exits import Exit
from .options import AE_TITLE, DIR, DRAIN, FILE, output_options
from .output import Output, counted
from .serving import serve

__all__ = ["command"]

_WEB = ("listen", "users", "cert", "key", "ca", "proxies")


@click.command("run")
@DIR
@click.option("-aet", "--aet", type=AE_TITLE, metavar="TITLE", help="Its AE title.  [default: ARCHIVE]")
@click.option("--host", metavar="HOST", help="The address to bind.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), metavar="PORT", help="0 picks a free one.  [default: 11112]")
@click.option("--database", metavar="URL", help="The index: postgresql://user@host/name.  [default: SQLite in DIR]")
@click.option(
    "--storage", metavar="PATH|URL",
    help="Where instances are kept: a directory, or s3://BUCKET?endpoint=URL.  [default: DIR/blobs]",
)  # fmt: skip
@click.option(
    "--durability", type=click.Choice(["disk", "os"]),
    help="What an acknowledged instance survives: a loss of power, or the end of the program.  [default: disk]",
)  # fmt: skip
@click.option(
    "--drain", type=DRAIN, metavar="SECONDS",
    help=f"What associations in flight get when it is told to stop.  [default: {STOP_DRAIN:g}]",
)  # fmt: skip
@click.option("--web", "listen", metavar="[HOST:]PORT", help="Serve DICOMweb and the viewer, too.")
@click.option("--web-users", "users", metavar="FILE", help="Who may log in.  [default: DIR/users.json, if it is there]")
@click.option("--web-cert", "cert", type=FILE, metavar="FILE", help="Serve over TLS, by this certificate.")
@click.option("--web-key", "key", type=FILE, metavar="FILE", help="The key of the certificate, if it is not with it.")
@click.option("--web-ca", "ca", type=FILE, metavar="FILE", help="Ask callers for certificates of this authority.")
@click.option("--web-proxy", "proxies", metavar="ADDRESS", multiple=True, help="Believe this reverse proxy's headers.")
@output_options
def command(directory: str, output: Output, **options: Any) -> int:
    """Serve the archive in DIR until SIGINT or SIGTERM; the first time DIR is made, with an archive.toml to edit.

    Prints "listening on HOST:PORT" once it accepts connections, and with --web "web on http://HOST:PORT/". Beyond this
    machine the web wants users who log in (`dicomnet web user`) or client certificates. What is stored is acknowledged
    when the disk has it and the index knows it. C-MOVE sends to the destinations of archive.toml alone. A second signal
    does not wait for associations in flight.
    """
    given = {name: value for name, value in options.items() if value not in (None, ())}
    chosen = {"ae_title" if name == "aet" else name: value for name, value in given.items()}
    web = {name: chosen.pop(name) for name in _WEB if name in chosen}
    settings = ArchiveSettings.make(Path(directory), **chosen)
    archive = Archive(Path(directory), dataclasses.replace(settings, web=dataclasses.replace(settings.web, **web)))
    if archive.holdings.recovered:
        output.say(f"{counted(archive.holdings.recovered, 'instance')} of an interrupted run indexed")
    try:
        archive.listener.open()
        with _web(archive) as address:
            said = [f"web on {address}"] if address else []
            serve(archive, output, *said, settings=Path(directory, FILE_NAME), title=archive.settings.ae_title)
    except CannotListen as error:
        output.error(str(error))
        archive.close()
        return Exit.CANNOT_LISTEN
    except InvalidArgument:
        archive.close()
        raise
    stored, failed = archive.storage.stored, archive.storage.failed
    output.summary(f"{counted(stored, 'instance')} stored, {failed} failed", stored=stored, failed=failed)
    return Exit.DONE


@contextmanager
def _web(archive: Archive) -> Iterator[str]:
    """Serve over HTTP while the block lasts, where that is wanted; the address."""
    if not archive.settings.web.listen:
        yield ""
        return
    with serve_web(archive) as serving:
        yield serving.url
