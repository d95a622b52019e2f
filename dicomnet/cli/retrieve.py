"""``dicomnet retrieve``: have instances sent here, by C-GET or by C-MOVE to oneself."""

from __future__ import annotations

from ..config import Entity
from . import declare
from .connect import client_options, listen_option, peer_options
from .exits import Exit
from .interrupts import Interrupts
from .keys import key_option, parse_keys
from .options import Settings, common, profile_of
from .retrieving import retrieve

__all__ = ["command"]


@declare.command("retrieve", short_help="Fetch instances by C-GET, or by C-MOVE to here.")
@peer_options
@declare.argument("level")
@key_option
@declare.option("--model", default="study", metavar="MODEL", help="study, patient.  [default: study]")
@declare.option(
    "--out", "directory", type=declare.Path(file_okay=False), required=True, metavar="DIR", help="For files."
)
@declare.option("--by", type=declare.Choice(("get", "move")), help="One way only; by default the one the peer offers.")
@listen_option("Where a C-MOVE to here is to come to; the peer has to know it, with our AE title.")
@common
def command(
    peer: Entity,
    aec: str | None,
    level: str,
    keys: tuple[str, ...],
    model: str,
    directory: str,
    by: str | None,
    where: Entity | None,
    settings: Settings,
) -> int:
    """Fetch from PEER what the keys name at LEVEL: patient, study, series or image. Ctrl-C cancels.

    By C-GET if PEER offers it, else by C-MOVE to here: then --listen says where, and a listener for PEER alone is there
    until the retrieve is done.
    """
    from ..client import QueryRetrieveScu

    asked = parse_keys(keys)
    called = profile_of(peer.replace(ae_title=aec) if aec else peer)
    scu = QueryRetrieveScu(called, model=model, listen=where, **client_options(settings, peer))
    with scu, Interrupts(releasable=True) as interrupts:
        interrupts.tell = scu.cancel
        code = retrieve(
            lambda progress: scu.retrieve(level, to=directory, by=by, progress=progress, **asked),
            settings.output,
            interrupts,
        )
    return Exit.INTERRUPTED if interrupts.requested else code
