"""``dicomnet workstation query|retrieve|store|jobs…``: what a workstation that runs is told, by its administration."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import click

from ..server.admin import Client
from ..server.directory import ServerDirectory
from .exits import Exit
from .keys import key_option, parse_keys
from .options import output_options
from .output import Output, amount, counted
from .tables import Table
from .workstation_run import DIR

__all__ = [
    "cancel_command",
    "jobs_command",
    "pin_command",
    "prefetch_command",
    "query_command",
    "retrieve_command",
    "retry_command",
    "store_command",
    "studies_command",
]

_PEER = click.argument("peer", metavar="PEER")
_STUDY = click.argument("study", metavar="STUDY")
_IDS = click.argument("ids", type=int, nargs=-1, required=True, metavar="JOB...")
_OVER = ("done", "failed", "cancelled")
#: Of each level: the columns of the table, by tag.
_COLUMNS = {
    "PATIENT": {"patient id": "00100020", "name": "00100010", "birth": "00100030"},
    "STUDY": {"date": "00080020", "patient id": "00100020", "name": "00100010", "what": "00081030",
              "kind": "00080061", "count": "00201208", "study": "0020000D"},
    "SERIES": {"kind": "00080060", "number": "00200011", "what": "0008103E", "count": "00201209", "series": "0020000E"},
    "IMAGE": {"number": "00200013", "class": "00080016", "instance": "00080018"},
}  # fmt: skip


@click.command("studies")
@DIR
@output_options
def studies_command(server: ServerDirectory, output: Output) -> int:
    """List what the workstation in DIR holds, the latest first."""
    with Client(server.path) as client:
        found = client.send("WorkstationStudies")["studies"]
    table = Table(output, ("received", "patient id", "name", "what", "kind", "count", "size", "state", "study"))
    for one in found:
        words = [word for word in ("pinned", "open") if one[word]] + ([] if one["ended"] else ["arriving"])
        table.add((
            _at(one["received"]), one["patient_id"], one["patient_name"], one["description"], one["modalities"],
            one["instances"], amount(one["bytes"]), ", ".join(words), one["uid"],
        ))  # fmt: skip
        output.record(**one)
    table.close()
    output.summary(counted(len(found), "study", "studies"), studies=len(found))
    return Exit.DONE


@click.command("pin")
@DIR
@click.argument("studies", nargs=-1, required=True, metavar="STUDY...")
@click.option("--off", is_flag=True, help="Not any more.")
@output_options
def pin_command(server: ServerDirectory, studies: tuple[str, ...], output: Output, *, off: bool) -> int:
    """Have studies stay at the workstation in DIR, whatever its quota."""
    with Client(server.path) as client:
        client.send("WorkstationPin", {"studies": list(studies), "pinned": not off})
    output.summary(f"{len(studies)} {'no longer pinned' if off else 'pinned'}", studies=len(studies))
    return Exit.DONE


@click.command("query")
@DIR
@_PEER
@click.option("--level", type=click.Choice(list(_COLUMNS), case_sensitive=False), default="STUDY",
              help="[default: STUDY]")  # fmt: skip
@key_option
@click.option("--most", type=click.IntRange(1, 1000), default=200, metavar="N", help="How many.  [default: 200]")
@output_options
def query_command(
    server: ServerDirectory, peer: str, output: Output, *, level: str, keys: tuple[str, ...], most: int
) -> int:
    """Ask PEER, an AE title that the workstation in DIR knows or a DICOMweb peer of its settings, what it has."""
    wanted = {name: str(value or "") for name, value in parse_keys(keys).items()}
    with Client(server.path) as client:
        asked = {"peer": peer, "level": level.upper(), "keys": wanted, "most": most}
        found = client.send("WorkstationQuery", asked)["matches"]
    columns = _COLUMNS[level.upper()]
    table = Table(output, columns)
    for one in found:
        table.add([_value(one.get(tag, {})) for tag in columns.values()])
        output.record(**one)
    table.close()
    output.summary(f"{len(found)} found", found=len(found))
    return Exit.DONE


@click.command("retrieve")
@DIR
@_PEER
@_STUDY
@click.option("--series", multiple=True, metavar="UID", help="Only this series; can be given again.")
@click.option("--by", type=click.Choice(["get", "move"]), help="How.  [default: whichever works]")
@click.option("--urgent", is_flag=True, help="Before all that is not.")
@click.option("--wait", is_flag=True, help="Until it is over.")
@output_options
def retrieve_command(
    server: ServerDirectory, peer: str, study: str, output: Output, *, series: tuple[str, ...], by: str | None,
    urgent: bool, wait: bool,
) -> int:  # fmt: skip
    """Have STUDY, by its UID, fetched from PEER to the workstation in DIR; what is there is not fetched again."""
    order = {"peer": peer, "study": study, "series": list(series), "by": by or "", "urgent": urgent}
    return _ordered(server, "WorkstationRetrieve", order, output, wait=wait)


@click.command("store")
@DIR
@_PEER
@_STUDY
@click.option("--series", multiple=True, metavar="UID", help="Only this series; can be given again.")
@click.option("--urgent", is_flag=True, help="Before all that is not.")
@click.option("--wait", is_flag=True, help="Until it is over.")
@output_options
def store_command(
    server: ServerDirectory, peer: str, study: str, output: Output, *, series: tuple[str, ...], urgent: bool,
    wait: bool,
) -> int:  # fmt: skip
    """Have STUDY, by its UID, sent from the workstation in DIR to PEER."""
    order = {"peer": peer, "study": study, "series": list(series), "urgent": urgent}
    return _ordered(server, "WorkstationSend", order, output, wait=wait)


def _ordered(server: ServerDirectory, message: str, order: dict[str, Any], output: Output, *, wait: bool) -> int:
    with Client(server.path) as client:
        last = client.snapshot()["last_event"]
        job = client.send(message, order)["job"]
        if wait:
            job = _waited(client, job, last, output)
    output.record(**job)
    output.summary(f"job {job['id']} {_line(job)}", job=job["id"], state=job["state"])
    return Exit.FAILURES if job["state"] in ("failed", "cancelled") else Exit.DONE


def _waited(client: Client, job: dict[str, Any], last: int, output: Output) -> dict[str, Any]:
    """The job once it is over; how far it is goes to a terminal meanwhile."""
    if job["state"] in _OVER:
        return job
    shows = sys.stderr.isatty() and not output.json and not output.silent
    for event in client.events(last, "workstation.job"):
        if event["data"]["job"]["id"] == job["id"]:
            job = event["data"]["job"]
            if shows:
                click.echo(f"\r\x1b[K{_line(job)}", nl=job["state"] in _OVER, err=True)
            if job["state"] in _OVER:
                break
    return job


@click.command("prefetch")
@DIR
@_PEER
@_STUDY
@output_options
def prefetch_command(server: ServerDirectory, peer: str, study: str, output: Output) -> int:
    """Have earlier studies of the patient of STUDY, which the workstation in DIR holds, fetched from PEER."""
    with Client(server.path) as client:
        found = client.send("WorkstationPrefetch", {"peer": peer, "study": study})["jobs"]
    for one in found:
        output.say(f"job {one['id']}: {one['study']}")
        output.record(**one)
    output.summary(f"{counted(len(found), 'earlier study', 'earlier studies')} ordered", jobs=len(found))
    return Exit.DONE


@click.command("jobs")
@DIR
@click.option("--state", "states", type=click.Choice(["waiting", "running", *_OVER]), multiple=True,
              help="Only in this state; can be given again.")  # fmt: skip
@click.option("--most", type=click.IntRange(1, 1000), default=100, metavar="N", help="How many.  [default: 100]")
@output_options
def jobs_command(server: ServerDirectory, states: tuple[str, ...], most: int, output: Output) -> int:
    """List the jobs of the workstation in DIR, the latest first."""
    wanted: dict[str, Any] = {"most": most, **({"states": list(states)} if states else {})}
    with Client(server.path) as client:
        found = client.send("WorkstationJobs", wanted)["jobs"]
    table = Table(output, ("job", "since", "what", "peer", "study", "how far"))
    for one in found:
        table.add((one["id"], _at(one["created"]), one["kind"], one["peer"], one["study"], _line(one)))
        output.record(**one)
    table.close()
    output.summary(counted(len(found), "job"), jobs=len(found))
    return Exit.DONE


@click.command("cancel")
@DIR
@_IDS
@output_options
def cancel_command(server: ServerDirectory, ids: tuple[int, ...], output: Output) -> int:
    """Cancel jobs of the workstation in DIR; what has come stays."""
    return _each(server, "WorkstationCancel", ids, output)


@click.command("retry")
@DIR
@_IDS
@output_options
def retry_command(server: ServerDirectory, ids: tuple[int, ...], output: Output) -> int:
    """Have jobs of the workstation in DIR tried now that failed, were cancelled, or wait."""
    return _each(server, "WorkstationRetry", ids, output)


def _each(server: ServerDirectory, message: str, ids: tuple[int, ...], output: Output) -> int:
    with Client(server.path) as client:
        for number in ids:
            job = client.send(message, {"id": number})["job"]
            output.say(f"job {number} {_line(job)}")
            output.record(**job)
    return Exit.DONE


def _line(job: dict[str, Any]) -> str:
    count = f", {job['present']} of {job['expected']}" if job["expected"] else ""
    why = f": {job['error']}" if job["error"] else ""
    return f"{job['state']}{count}{why}"


def _at(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"


def _value(element: dict[str, Any]) -> str:
    """The values of an element of DICOM JSON, for people."""
    values = element.get("Value") or []
    return ", ".join(str(one.get("Alphabetic", "")) if isinstance(one, dict) else str(one) for one in values)
