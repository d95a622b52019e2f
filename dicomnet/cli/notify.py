"""``dicomnet notify``: which instances can be had where."""

from __future__ import annotations

import click

from ..client import AvailabilityScu
from ..client.availability import AVAILABILITIES, instances_of
from ..protocol.peer_profile import Peer
from .connect import client_options, peer_options
from .exits import Exit
from .options import AE_TITLE, PATH, Settings, common
from .output import counted

__all__ = ["command"]


@click.command("notify")
@peer_options
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PATH...")
@click.option("--from", "source", type=AE_TITLE, required=True, metavar="AET", help="Where they can be retrieved from.")
@click.option("--availability", type=click.Choice(AVAILABILITIES, case_sensitive=False), default="ONLINE",
              show_default=True, help="How soon they can be had.")  # fmt: skip
@common
def command(peer: Peer, paths: tuple[str, ...], source: str, availability: str, settings: Settings) -> int:
    """Tell PEER that the instances of PATHs can be had, a note for each study."""
    found = list(instances_of(paths, availability=availability.upper(), retrieve_ae_title=source))
    with AvailabilityScu(peer, **client_options(settings, peer)) as scu:
        told = scu.notify(found)
    instances = len({one.sop_instance_uid for one in found})
    settings.output.summary(
        f"{counted(instances, 'instance')} told of in {counted(len(told), 'note')}", instances=instances, notes=told
    )
    return Exit.DONE
