"""``dicomnet router destinations …``: where a router sends: listed, changed, tried."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..client import Client
from ..errors import DicomNetError
from ..router.destinations import DimseDestination
from ..router.settings import RouterSettings
from ..router.spool import Spool
from .exits import Exit
from .options import DIR, NAME, output_options
from .output import Output, counted
from .router_rules import pairs, rules_file

__all__ = ["command"]


@click.group("destinations")
def command() -> None:
    """Where a router sends. A running router takes over what is saved within a second."""


@command.command("list")
@DIR
@output_options
def list_command(directory: str, output: Output) -> int:
    """List the destinations of the router in DIR, and what waits for each."""
    plan = rules_file(directory).read()
    with Spool(Path(directory)) as spool:
        counts: dict[str, dict[str, int]] = {}
        for one in spool.queue.counts():
            counts.setdefault(one.destination, {})[str(one.state)] = one.deliveries
    for name, destination in plan.destinations.items():
        found = counts.get(name, {})
        waits = ", ".join(f"{count} {state}" for state, count in found.items()) or "nothing waits"
        active = "" if destination.active else ", not active"
        output.say(f"{name}: {destination.kind} {destination.where}{active}; {waits}")
        output.record(name=name, queue=found, **destination.model_dump(mode="json", exclude_none=True))
    output.summary(counted(len(plan.destinations), "destination"), destinations=len(plan.destinations))
    return Exit.DONE


@command.command("add")
@DIR
@NAME
@click.argument("values", nargs=-1, required=True, metavar="FIELD=VALUE...")
@output_options
def add_command(directory: str, name: str, values: tuple[str, ...], output: Output) -> int:
    """Add the destination NAME to the router in DIR: address=PACS@host:11112, or kind=folder path=/data/in."""
    rules_file(directory).add_destination(name, _given(values))
    output.summary(f'the destination "{name}" is added', destination=name)
    return Exit.DONE


def _given(values: tuple[str, ...]) -> Mapping[str, Any]:
    return {key: value for key, value in pairs(values).items() if value is not None}


@command.command("edit")
@DIR
@NAME
@click.argument("values", nargs=-1, required=True, metavar="FIELD=VALUE...")
@output_options
def edit_command(directory: str, name: str, values: tuple[str, ...], output: Output) -> int:
    """Change the destination NAME: active=false, width=2, calling= (nothing takes the field away)."""
    rules_file(directory).edit_destination(name, pairs(values))
    output.summary(f'the destination "{name}" is changed', destination=name)
    return Exit.DONE


@command.command("remove")
@DIR
@NAME
@output_options
def remove_command(directory: str, name: str, output: Output) -> int:
    """Remove the destination NAME, which no rule names any more; what waits for it is parked."""
    rules_file(directory).remove_destination(name)
    output.summary(f'the destination "{name}" is gone', destination=name)
    return Exit.DONE


@command.command("check")
@DIR
@click.argument("names", nargs=-1, metavar="[NAME...]")
@output_options
def check_command(directory: str, names: tuple[str, ...], output: Output) -> int:
    """Verify that the peers among the destinations of the router in DIR answer (C-ECHO); ends with 69 if not."""
    plan, title = rules_file(directory).read(), RouterSettings.load(Path(directory)).ae_title
    failed = 0
    for name, destination in plan.destinations.items():
        if (names and name not in names) or not isinstance(destination, DimseDestination):
            continue
        try:
            with Client(destination.entity, calling=destination.calling or title, tls=destination.tls()) as client:
                status = client.echo()
        except DicomNetError as error:
            failed += 1
            output.error(f"{name}: {error}")
            output.record(name=name, error=str(error))
        else:
            output.say(f"{name}: {status}")
            output.record(name=name, status=f"0x{status:04X}")
    output.summary("all answer" if not failed else f"{failed} do not answer", failed=failed)
    return Exit.FAILURES if failed else Exit.DONE
