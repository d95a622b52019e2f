"""``dicomnet find``: ask a peer what it has."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import Any

import click

from ..dataset.codec import UndecodableDataSet, private_tag
from ..protocol.peer_profile import Peer
from ..services import presentation_contexts, query_models
from ..services.scu import Match
from ..sync import Association
from .connect import call, peer_options
from .exits import Exit
from .interrupts import Interrupts
from .keys import key_option, parse_keys
from .options import Settings, common
from .output import counted
from .tables import CsvTable, Table

__all__ = ["command"]


@click.command("find")
@peer_options
@click.argument("level", required=False, default="")
@key_option
@click.option("-S", "model", flag_value="study", hidden=True)  # DCMTK's
@click.option("-P", "model", flag_value="patient", hidden=True)
@click.option("-W", "model", flag_value="worklist", hidden=True)
@click.option("--model", default="study", metavar="MODEL", help="study, patient, worklist, ….  [default: study]")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values, with a header, and no summary.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Cancel after so many matches.")
@common
def command(
    peer: Peer,
    level: str,
    keys: tuple[str, ...],
    model: str,
    as_csv: bool,
    limit: int | None,
    settings: Settings,
) -> int:
    """Query PEER at LEVEL: patient, study, series or image; a worklist has no levels.

    Keys with a value are matched, keys without one are returned. Ctrl-C cancels the query.
    """
    if as_csv and settings.output.json:
        raise click.UsageError("--csv and --json: one of them")
    asked = parse_keys(keys)
    level = level or asked.pop("QueryRetrieveLevel", None) or ""  # as DCMTK's findscu has it
    information = query_models.model_of(model)
    if information.name == "WORKLIST":
        _warn_of_step_keys(asked, settings)
    query_models.identifier(information, level, asked)  # what is wrong with it is said before the peer is called
    contexts = presentation_contexts.sop_classes(query_models.model_uid(model, "find"))
    with Interrupts(releasable=True) as interrupts, call(peer, contexts, settings) as association:
        done = _find(association, level, model, asked, limit, settings, interrupts, as_csv)
    return Exit.INTERRUPTED if interrupts.requested else done


def _warn_of_step_keys(keys: Iterable[str], settings: Settings) -> None:
    """Some keys are of the scheduled procedure step, which is an item of its own: beside it they match nothing."""
    from ..client.return_keys import WORKLIST

    step = WORKLIST["ScheduledProcedureStepSequence"][0]
    for key in keys:
        if key in step:
            settings.output.warn(
                f"{key} of a worklist item is one of its step's: -k ScheduledProcedureStepSequence.{key}=…"
            )


def _find(
    association: Association,
    level: str,
    model: str,
    keys: dict[str, Any],
    limit: int | None,
    settings: Settings,
    interrupts: Interrupts,
    as_csv: bool,
) -> int:
    output, start, count, unreadable = settings.output, monotonic(), 0, 0
    unique = dict(query_models.model_of(model).levels).get(level.upper())
    columns = list(dict.fromkeys([*([unique] if unique else []), *keys]))
    table = CsvTable(columns) if as_csv else Table(output, columns)
    for match in association.find(level, model=model, **keys):
        count += 1
        try:
            if output.json:
                output.record(**match.dataset.to_json_dict())
            else:
                table.add(_cell(match, column) for column in columns)
        except UndecodableDataSet as error:
            unreadable += 1
            output.error(str(error))
        if interrupts.requested or count == limit:
            break
    table.close()
    seconds = monotonic() - start
    if not as_csv:
        line = f"{counted(count, 'match', 'matches')} in {seconds:.2f} s"
        output.summary(line, matches=count, failed=unreadable, seconds=seconds)
    return Exit.FAILURES if unreadable else Exit.DONE


def _cell(match: Match, column: str) -> str:
    """A value for people; what is in a sequence as ``Keyword=value``."""
    private = private_tag(column)
    value: Any = match.dataset.get(column if private is None else private)
    value = value if private is None or value is None else value.value
    if value is None:
        return ""
    if hasattr(value, "append"):  # several values, or the items of a sequence
        parts = (", ".join(f"{e.keyword}={e.value}" for e in one) if hasattr(one, "elements") else one for one in value)
        return "; ".join(map(str, parts))
    return str(value)
