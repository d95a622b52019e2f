"""``dicomnet mpps``: begin, change and end a modality performed procedure step."""

from __future__ import annotations

from datetime import datetime

import click

from .. import uids
from ..client.procedure_step import beginning, ending
from ..dataset import codec
from ..protocol.peer_profile import Peer
from ..services import presentation_contexts
from .connect import call, peer_options
from .exits import Exit
from .keys import attribute_option, parse_keys
from .options import Settings, common

__all__ = ["command"]

_STATES = ("IN PROGRESS", "COMPLETED", "DISCONTINUED")


@click.command("mpps")
@peer_options
@click.option("--uid", metavar="UID", help="The step to change; without it, one is begun.")
@click.option("--status", type=click.Choice(_STATES, case_sensitive=False), help="Performed Procedure Step Status.")
@attribute_option
@common
def command(peer: Peer, uid: str | None, status: str | None, keys: tuple[str, ...], settings: Settings) -> int:
    """Begin a performed procedure step at PEER, or change the one of --uid; the keys are its attributes.

    A step that begins needs a Modality. What else must have a value is made up where it is not given: our AE title is
    the station, the step begins or ends now, and without -k ScheduledStepAttributesSequence.StudyInstanceUID=UID it
    belongs to a new study.
    """
    values = parse_keys(keys)
    if not uid:
        values.setdefault("PerformedProcedureStepID", f"{datetime.now():%Y%m%d%H%M%S}")
        values.setdefault("ScheduledStepAttributesSequence", [{"StudyInstanceUID": uids.new()}])
        values = beginning(None, settings.calling(peer), values)
    if status:
        values["PerformedProcedureStepStatus"] = status.upper()
    if uid and status and status.upper() != _STATES[0]:
        values = ending(()) | values
    dataset = codec.from_keywords(values)
    with call(peer, presentation_contexts.procedure_step(), settings) as association:
        reply = association.mpps_set(uid, dataset) if uid else association.mpps_create(dataset)
    step = uid or reply.sop_instance_uid
    settings.output.say(f"{step}: {reply.status}")
    settings.output.record(sop_instance_uid=step, status=int(reply.status), meaning=reply.status.meaning)
    return Exit.WARNINGS if reply.status.is_warning else Exit.DONE
