"""``dicomnet get``: fetch instances over the association that asks for them."""

from __future__ import annotations

import click

from ..protocol.peer_profile import Peer
from ..services import presentation_contexts, query_models
from .connect import call, peer_options, syntax_option
from .exits import Exit
from .interrupts import Interrupts
from .keys import key_option, parse_keys
from .options import DIRECTORY, Settings, common
from .retrieving import retrieve

__all__ = ["command"]


@click.command("get")
@peer_options
@click.argument("level", required=False, default="")
@key_option
@click.option("--model", default="study", metavar="MODEL", help="study, patient, ….  [default: study]")
@click.option("--out", "directory", type=DIRECTORY, required=True, metavar="DIR", help="For files.")
@syntax_option
@common
def command(
    peer: Peer,
    level: str,
    keys: tuple[str, ...],
    model: str,
    directory: str,
    syntaxes: tuple[str, ...],
    settings: Settings,
) -> int:
    """Fetch from PEER what the keys name at LEVEL: patient, study, series or image. Ctrl-C cancels."""
    asked = parse_keys(keys)
    query_models.identifier(query_models.model_of(model), level, asked, retrieve=True)
    contexts = presentation_contexts.retrieving(query_models.model_uid(model, "get"), transfer_syntaxes=syntaxes)
    with Interrupts(releasable=True) as interrupts, call(peer, contexts, settings) as association:
        code = retrieve(
            lambda progress: association.get(level, to=directory, model=model, progress=progress, **asked),
            settings.output,
            interrupts,
        )
    return Exit.INTERRUPTED if interrupts.requested else code
