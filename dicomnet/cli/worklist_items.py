"""``dicomnet worklist add|set|remove|import``: change the worklist of an archive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ..archive.holdings import INDEX_NAME
from ..archive.settings import ArchiveSettings
from ..archive.worklist_files import item_of_keywords, items_of_file
from ..errors import DicomNetError
from ..repository.database import Database
from ..repository.dicom_json import text_at
from ..repository.worklist import Worklist
from ..repository.worklist_item import STEP_ID, STUDY_UID, Entry
from .exits import Exit
from .keys import attribute_option, parse_keys
from .options import AE_TITLE, DIR, PATH, output_options, stacked
from .output import Output, counted

__all__ = ["add_command", "import_command", "opened", "remove_command", "set_command"]

_STEPS = "ScheduledProcedureStepSequence"
# Options, the attribute, and whether it is one of the step.
_OPTIONS = (
    ("--patient-id", "PatientID", False, str, "ID", "Patient ID."),
    ("--name", "PatientName", False, str, "NAME", "Patient's name, as DOE^JANE."),
    ("--birth-date", "PatientBirthDate", False, str, "YYYYMMDD", "Patient's birth date."),
    ("--sex", "PatientSex", False, str, "SEX", "M, F or O."),
    ("--accession", "AccessionNumber", False, str, "NUMBER", "Accession number."),
    ("--procedure", "RequestedProcedureDescription", False, str, "TEXT", "What is requested."),
    ("--modality", "Modality", True, str, "CS", "CT, MR, US …"),
    ("--station", "ScheduledStationAETitle", True, AE_TITLE, "AET", "AE title of the modality."),
    ("--date", "ScheduledProcedureStepStartDate", True, str, "YYYYMMDD", "When.  [default of add: now]"),
    ("--time", "ScheduledProcedureStepStartTime", True, str, "HHMM", "When.  [default of add: now]"),
    ("--status", "ScheduledProcedureStepStatus", True, str, "STATUS", "SCHEDULED, ARRIVED, READY …"),
)


@contextmanager
def opened(directory: str) -> Iterator[Worklist]:
    """The worklist of an archive, which may serve meanwhile."""
    settings = ArchiveSettings.load(Path(directory))
    durable = settings.durability == "disk"
    with Database.opened(settings.database or Path(directory) / INDEX_NAME, durable=durable) as database:
        yield Worklist(database)


_attributes = stacked(
    attribute_option,
    *(click.option(name, keyword, type=kind, metavar=metavar, help=text)
      for name, keyword, _, kind, metavar, text in _OPTIONS),
)  # fmt: skip


def _values(keys: tuple[str, ...], given: dict[str, Any]) -> dict[str, Any]:
    """What the options and the keys say, by keyword."""
    values = parse_keys(keys)
    step = (values.get(_STEPS) or [{}])[0]
    for _, keyword, is_of_step, *_ in _OPTIONS:
        if given[keyword] is not None:
            (step if is_of_step else values)[keyword] = given[keyword]
    if step:
        values[_STEPS] = [step]
    return values


def _tell(output: Output, entry: Entry, what: str) -> None:
    steps = ", ".join(text_at(step, STEP_ID) for step in entry.steps)
    output.say(f"item {entry.id} {what}: study {text_at(entry.item, STUDY_UID)}, steps {steps}")
    output.record(id=entry.id, version=entry.version, item=entry.item)


@click.command("add")
@DIR
@_attributes
@output_options
def add_command(directory: str, output: Output, *, keys: tuple[str, ...], **given: Any) -> int:
    """Add an item to the worklist of the archive in DIR. It needs a patient, a name and a modality.

    Keys are attributes: -k RequestedProcedureID=7, -k ScheduledProcedureStepSequence.ScheduledStationName=CT. A Study
    Instance UID and what else modalities need is made up where it is not given.
    """
    values = _values(keys, given)
    now = datetime.now()
    step = values.setdefault(_STEPS, [{}])[0]
    step.setdefault("ScheduledProcedureStepStartDate", f"{now:%Y%m%d}")
    step.setdefault("ScheduledProcedureStepStartTime", f"{now:%H%M%S}")
    with opened(directory) as worklist:
        _tell(output, worklist.add(item_of_keywords(values)), "added")
    return Exit.DONE


@click.command("set")
@DIR
@click.argument("number", type=int, metavar="ITEM")
@_attributes
@click.option("--version", type=int, metavar="N", help="Only if the item has this version.")
@output_options
def set_command(
    directory: str, number: int, output: Output, *, keys: tuple[str, ...], version: int | None, **given: Any
) -> int:
    """Change the item with the number ITEM in the worklist of the archive in DIR.

    Where it has several steps, ScheduledProcedureStepSequence.ScheduledProcedureStepID says which one is meant; without
    it all are.
    """
    values = _values(keys, given)
    if not values:
        raise click.UsageError("nothing to change: give an attribute")
    with opened(directory) as worklist:
        _tell(output, worklist.change(number, item_of_keywords(values), version=version), "changed")
    return Exit.DONE


@click.command("remove")
@DIR
@click.argument("numbers", type=int, nargs=-1, required=True, metavar="ITEM...")
@output_options
def remove_command(directory: str, numbers: tuple[int, ...], output: Output) -> int:
    """Remove items from the worklist of the archive in DIR."""
    failed = 0
    with opened(directory) as worklist:
        for number in numbers:
            try:
                worklist.remove(number)
            except DicomNetError as error:
                failed += 1
                output.error(str(error))
    removed = len(numbers) - failed
    output.summary(f"{counted(removed, 'item')} removed", removed=removed, failed=failed)
    return Exit.FAILURES if failed else Exit.DONE


@click.command("import")
@DIR
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="FILE...")
@output_options
def import_command(directory: str, paths: tuple[str, ...], output: Output) -> int:
    """Add the items in files to the worklist of the archive in DIR; those that are there are replaced.

    A file is a data set, or JSON: DICOM JSON or attributes by keyword, one object or a list of them.
    """
    counts = {"added": 0, "replaced": 0, "failed": 0}
    with opened(directory) as worklist:
        for path in paths:
            try:
                for item in items_of_file(Path(path)):
                    entry, is_new = worklist.put(item)
                    counts["added" if is_new else "replaced"] += 1
                    _tell(output, entry, "added" if is_new else "replaced")
            except DicomNetError as error:
                counts["failed"] += 1
                output.error(str(error) if path in str(error) else f"{path}: {error}")
    output.summary(
        f"{counted(counts['added'], 'item')} added, {counts['replaced']} replaced, {counts['failed']} failed", **counts
    )
    return Exit.FAILURES if counts["failed"] else Exit.DONE
