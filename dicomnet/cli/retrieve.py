"""``dicomnet retrieve``: have instances sent here, by C-GET or by C-MOVE to oneself."""

from __future__ import annotations

import click

from ..config import Entity
from ..protocol.peer_profile import Peer
from .connect import client_options, from_option, listen_option, peer_options, syntax_option
from .exits import Exit
from .interrupts import Interrupts
from .keys import key_option, parse_keys
from .options import DIRECTORY, Settings, common
from .retrieving import retrieve

__all__ = ["command"]


@click.command("retrieve")
@peer_options
@click.argument("level")
@key_option
@click.option("--model", default="study", metavar="MODEL", help="study, patient.  [default: study]")
@click.option("--out", "directory", type=DIRECTORY, required=True, metavar="DIR", help="For files.")
@click.option("--by", type=click.Choice(("get", "move")), help="One way only; by default the one the peer offers.")
@listen_option("Where a C-MOVE to here is to come to; the peer has to know it, with our AE title.")
@from_option
@syntax_option
@common
def command(
    peer: Peer,
    level: str,
    keys: tuple[str, ...],
    model: str,
    directory: str,
    by: str | None,
    where: Entity | None,
    senders: tuple[str, ...],
    syntaxes: tuple[str, ...],
    settings: Settings,
) -> int:
    """Fetch from PEER what the keys name at LEVEL: patient, study, series or image. Ctrl-C cancels.

    By C-GET if PEER offers it, else by C-MOVE to here: then --listen says where, and a listener for PEER alone is there
    until the retrieve is done.
    """
    from ..client import QueryRetrieveScu

    asked = parse_keys(keys)
    scu = QueryRetrieveScu(
        peer,
        model=model,
        transfer_syntaxes=syntaxes,
        listen=where,
        senders=senders,
        **client_options(settings, peer),
    )
    with scu, Interrupts(releasable=True) as interrupts:
        interrupts.tell = scu.cancel
        code = retrieve(
            lambda progress: scu.retrieve(level, to=directory, by=by, progress=progress, **asked),
            settings.output,
            interrupts,
        )
    return Exit.INTERRUPTED if interrupts.requested else code
