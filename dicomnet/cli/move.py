"""``dicomnet move``: have a peer send instances to an AE that it knows."""

from __future__ import annotations

import click

from ..protocol.peer_profile import Peer
from ..services import presentation_contexts, query_models
from .connect import call, peer_options
from .exits import Exit
from .interrupts import Interrupts
from .keys import key_option, parse_keys
from .options import AE_TITLE, Settings, common
from .retrieving import retrieve

__all__ = ["command"]


@click.command("move")
@peer_options
@click.argument("level", required=False, default="")
@key_option
@click.option("--model", default="study", metavar="MODEL", help="study, patient, ….  [default: study]")
@click.option("--dest", "-aem", "destination", type=AE_TITLE, required=True, metavar="AET", help="Who is to get them.")
@common
def command(peer: Peer, level: str, keys: tuple[str, ...], model: str, destination: str, settings: Settings) -> int:
    """Have PEER send what the keys name at LEVEL to the AE title of --dest, which it has to know. Ctrl-C cancels."""
    asked = parse_keys(keys)
    query_models.identifier(query_models.model_of(model), level, asked, retrieve=True)
    with (
        Interrupts(releasable=True) as interrupts,
        call(peer, presentation_contexts.sop_classes(query_models.model_uid(model, "move")), settings) as association,
    ):
        code = retrieve(
            lambda progress: association.move(level, destination=destination, model=model, progress=progress, **asked),
            settings.output,
            interrupts,
        )
    return Exit.INTERRUPTED if interrupts.requested else code
