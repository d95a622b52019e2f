"""``dicomnet worklist list``: what is scheduled, in an archive or at a peer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..archive.settings import FILE_NAME
from ..client.return_keys import WORKLIST
from ..repository.attributes import Attributes
from ..repository.dicom_json import attributes_of_json
from ..repository.keys import Identifier
from ..repository.worklist_item import STEPS
from ..repository.worklist_query import WorklistQuery
from ..services import presentation_contexts
from .connect import call
from .exits import Exit
from .keys import key_option, parse_keys
from .options import PEER, Settings, common
from .output import counted
from .tables import Table
from .worklist_items import opened

__all__ = ["command"]

# What the table shows: of the item, and of its step.
_COLUMNS = {
    "date": (True, "00400002"),
    "time": (True, "00400003"),
    "modality": (True, "00080060"),
    "station": (True, "00400001"),
    "status": (True, "00400020"),
    "patient": (False, "00100020"),
    "name": (False, "00100010"),
    "accession": (False, "00080050"),
    "procedure": (False, "00321060"),
}

Found = Iterator[tuple[int | None, dict[str, Any]]]


@click.command("list")
@click.argument("place", metavar="DIR|PEER")
@key_option
@click.option("-aec", "--aec", metavar="AET", help="The AE title to call, of a peer.")
@click.option("--all", "hidden", is_flag=True, help="Those of an archive that have ended, too.")
@common
def command(place: str, keys: tuple[str, ...], aec: str | None, hidden: bool, settings: Settings) -> int:
    """List what is scheduled: in the archive in DIR, with the numbers of its items, or at PEER.

    Keys choose: -k PatientID=123 -k ScheduledProcedureStepSequence.Modality=CT.
    """
    asked = parse_keys(keys)
    if (Path(place) / FILE_NAME).exists():
        found = _held(place, asked, hidden)
    else:
        found = _answered(place, aec, asked, settings)
    table = Table(settings.output, ("item", *_COLUMNS))
    count = 0
    for count, (number, item) in enumerate(found, 1):  # noqa: B007 - the last one is how many
        table.add((number, *_cells(attributes_of_json(item))))
        settings.output.record(id=number, item=item)
    table.close()
    settings.output.summary(counted(count, "step"), steps=count)
    return Exit.DONE


def _cells(item: Attributes) -> Iterator[str]:
    steps = item.get(f"{STEPS:08X}")
    step = steps[0] if isinstance(steps, list) and steps else {}
    for is_of_step, tag in _COLUMNS.values():
        yield str((step if is_of_step else item).get(tag, ""))


def _held(directory: str, asked: dict[str, Any], hidden: bool) -> Found:
    """The steps in an archive, each with its item."""
    query = WorklistQuery(Identifier.of(_texts(asked)), hide=not hidden)
    with opened(directory) as worklist:
        yield from worklist.search(query)


def _texts(values: dict[str, Any]) -> dict[str, Any]:
    """Keys as `Identifier.of` wants them: text, or the keys in a sequence."""
    return {key: _texts(one[0]) if isinstance(one, list) else one or "" for key, one in values.items()}


def _answered(place: str, aec: str | None, asked: dict[str, Any], settings: Settings) -> Found:
    """What a peer answers."""
    peer = PEER.convert(place, None, click.get_current_context()).titled(aec)
    wanted = WORKLIST | asked
    steps = "ScheduledProcedureStepSequence"
    wanted[steps] = [WORKLIST[steps][0] | (asked.get(steps) or [{}])[0]]
    with call(peer, presentation_contexts.worklist(), settings) as association:
        for match in association.worklist(**wanted):
            yield None, match.dataset.to_json_dict()
