"""``dicomnet router run``: a router that serves until it is told to stop."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import CannotListen
from ..router.router import Router
from ..router.settings import FILE_NAME, RouterSettings
from .exits import Exit
from .options import AE_TITLE, DIR, output_options
from .output import Output, counted
from .serving import serve

__all__ = ["command"]


@click.command("run")
@DIR
@click.option("-aet", "--aet", type=AE_TITLE, metavar="TITLE", help="Its AE title.  [default: ROUTER]")
@click.option("--host", metavar="HOST", help="The address to bind.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), metavar="PORT", help="0 picks a free one.  [default: 11112]")
@click.option("--database", metavar="URL", help="The queues: postgresql://user@host/name.  [default: SQLite in DIR]")
@click.option(
    "--durability", type=click.Choice(["disk", "os"]),
    help="What an acknowledged instance survives: a loss of power, or the end of the program.  [default: disk]",
)  # fmt: skip
@output_options
def command(directory: str, output: Output, **options: str | int | None) -> int:
    """Serve the router in DIR until SIGINT or SIGTERM; the first time DIR is made, with its files to edit.

    Prints "listening on HOST:PORT" once it accepts connections. router.toml says where it listens, rules.toml what
    becomes of what arrives; a change of the rules holds within a second, if there is no mistake in it. What is
    acknowledged is on the disk, and in the queue of each destination.
    """
    chosen = {"ae_title" if name == "aet" else name: value for name, value in options.items() if value is not None}
    router = Router(Path(directory), RouterSettings.make(Path(directory), **chosen))
    if router.spool.plans.problem:
        output.error(router.spool.plans.problem)
        if not router.spool.plans.current[0]:  # none held before: it would hold all that comes, to no purpose
            router.close()
            return Exit.USAGE
    try:
        router.listener.open()
    except CannotListen as error:
        output.error(str(error))
        router.close()
        return Exit.CANNOT_LISTEN
    serve(router, output, settings=Path(directory, FILE_NAME), title=router.settings.ae_title)
    taken, failed = router.storage.stored, router.storage.failed
    sent = sum(one.sent for one in router.forwarder.health.values())
    output.summary(f"{counted(taken, 'instance')} received, {failed} refused, {sent} sent",
                   received=taken, refused=failed, sent=sent)  # fmt: skip
    return Exit.DONE
