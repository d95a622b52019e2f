"""``dicomnet patient``: tell an archive who a patient is, by HL7: corrected, of another ID, merged, taken apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from ..client import PatientUpdateScu
from ..client.hl7 import PatientId
from ..config import Entity
from .exits import Exit
from .options import SECONDS, Parsed, output_options
from .output import Output

__all__ = ["command"]


def _id(text: str) -> PatientId:
    """``ID``, or ``ID^^^ISSUER`` as HL7 writes it."""
    pid, _, issuer = text.partition("^^^")
    return PatientId(pid, issuer)


_ID = Parsed("ID", _id)
_WHERE = click.argument("where", type=Parsed("address", Entity.parse), metavar="HOST:PORT")


def _options(function: Callable[..., int]) -> Callable[..., int]:
    """What all of them have: the receiver, and how long it is waited for; they get a `PatientUpdateScu`."""

    @wraps(function)
    def command(*, where: Entity, timeout: float, **own: Any) -> int:
        return function(PatientUpdateScu(where, timeout=timeout), **own)

    seconds = click.option("-to", "--timeout", type=SECONDS, default=30.0, metavar="SECONDS",
                           help="The longest wait.  [default: 30]")  # fmt: skip
    return _WHERE(seconds(output_options(command)))


@click.group("patient")
def command() -> None:
    """Tell the archive whose HL7 port is HOST:PORT who a patient is. A patient is ID, or ID^^^ISSUER."""


@command.command("update")
@_options
@click.argument("patient", type=_ID)
@click.option("--name", default="", help="As DICOM writes it: Family^Given.")
@click.option("--birth-date", default="", metavar="DATE", help="As 19700131.")
@click.option("--sex", type=click.Choice(("M", "F", "O")), default=None, help="M, F or O.")
def update(
    scu: PatientUpdateScu, *, patient: PatientId, name: str, birth_date: str, sex: str | None, output: Output
) -> int:
    """Correct PATIENT's name, birth date or sex; what is not given stays (ADT^A08)."""
    if not (name or birth_date or sex):
        raise click.UsageError("nothing is to be corrected: say --name, --birth-date or --sex")
    scu.update(patient, name=name, birth_date=birth_date, sex=sex or "")
    return _done(output, "corrected")


@command.command("rename")
@_options
@click.argument("patient", type=_ID)
@click.argument("to", type=_ID)
def rename(scu: PatientUpdateScu, *, patient: PatientId, to: PatientId, output: Output) -> int:
    """Give PATIENT the ID TO; the old one stays another name of the patient (ADT^A47)."""
    scu.change_id(patient, to)
    return _done(output, "has another ID")


@command.command("merge")
@_options
@click.argument("patient", type=_ID)
@click.argument("into", type=_ID)
def merge(scu: PatientUpdateScu, *, patient: PatientId, into: PatientId, output: Output) -> int:
    """Have all of PATIENT belong to INTO from now on (ADT^A40)."""
    scu.merge(patient, into)
    return _done(output, "merged")


@command.command("unmerge")
@_options
@click.argument("patient", type=_ID)
@click.argument("merged_into", type=_ID)
def unmerge(scu: PatientUpdateScu, *, patient: PatientId, merged_into: PatientId, output: Output) -> int:
    """Take PATIENT, who was merged, out of MERGED_INTO again (ADT^A37)."""
    scu.unmerge(patient, merged_into)
    return _done(output, "taken out again")


def _done(output: Output, what: str) -> int:
    output.summary(f"the patient is {what}" if what != "has another ID" else f"the patient {what}", done=what)
    return Exit.DONE
