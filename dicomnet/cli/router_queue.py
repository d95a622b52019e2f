"""``dicomnet router queue …`` and ``report``: what waits, what failed and why, and what became of each study."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from ..errors import InvalidArgument
from ..router.queue import Delivery, State
from ..router.report import report, total
from ..router.settings import RouterSettings
from ..router.spool import Spool
from .exits import Exit
from .options import DIR, output_options, stacked
from .output import Output, counted

__all__ = ["command", "report_command"]


@click.group("queue")
def command() -> None:
    """What waits, is held or parked, and why. It may be looked at and changed beside a running router."""


_chosen = stacked(
    click.option("--id", "ids", multiple=True, type=int, metavar="ID", help="Only this one; can be given again."),
    click.option("--destination", metavar="NAME", help="Only for this destination."),
    click.option("--study", metavar="UID", help="Only of this study."),
)


def _line(item: Delivery, now: float) -> str:
    age = f"{(now - item.created) / 60:.0f} min"
    why = f": {item.why}" if item.why else ""
    to = item.destination or "nowhere"
    if item.state is State.WAITING and item.due > now:
        to += f" until {datetime.fromtimestamp(item.due):%Y-%m-%d %H:%M}"
    return f"{item.id}  {item.state} for {to}, {age}, {counted(item.attempts, 'attempt')}, {item.uid}{why}"


@command.command("list")
@DIR
@click.option("--destination", metavar="NAME", help="Only for this destination.")
@click.option("--study", metavar="UID", help="Only of this study.")
@click.option("--state", type=click.Choice([str(one) for one in State]), multiple=True, help="Only in this state.")
@click.option("--after", type=int, default=0, metavar="ID", help="Begin after this one.")
@click.option("--most", type=click.IntRange(1, 100_000), default=100, metavar="N", help="How many.  [default: 100]")
@output_options
def list_command(
    directory: str, output: Output, destination: str | None, study: str | None, state: tuple[str, ...], after: int,
    most: int,
) -> int:  # fmt: skip
    """List the deliveries of the router in DIR that are not over, or those in other states."""
    states = [State(one) for one in state] or [one for one in State if not one.is_over]
    with _spool(directory) as spool:
        items = spool.queue.items(destination=destination, study=study, states=states, after=after, most=most)
        counts = list(spool.queue.counts())
    now = time.time()
    for item in items:
        output.say(_line(item, now))
        output.record(**item.as_json())
    words = ", ".join(f"{one.deliveries} {one.state} for {one.destination or 'nowhere'}" for one in counts)
    output.summary(words or "nothing waits", counts=[asdict(one) for one in counts])
    return Exit.DONE


def _spool(directory: str) -> Spool:
    return Spool(Path(directory), RouterSettings.load(Path(directory)))


def _act(directory: str, output: Output, word: str, act: Callable[..., int], chosen: dict[str, Any]) -> int:
    ids = chosen.pop("ids") or None
    if ids is None and not any(chosen.values()):
        raise click.UsageError("say which: --id, --destination or --study; --destination '' is what no rule wants")
    with _spool(directory) as spool:
        count = act(spool.queue, ids=ids, **chosen)
    output.summary(f"{counted(count, 'delivery').replace('deliverys', 'deliveries')} {word}", deliveries=count)
    return Exit.DONE


@command.command("retry")
@DIR
@_chosen
@click.option("--all", "everything", is_flag=True, help="All that waits or is parked.")
@output_options
def retry_command(directory: str, output: Output, *, everything: bool, **chosen: Any) -> int:
    """Have what is parked, or waits for its next try, tried now."""
    if everything:
        with _spool(directory) as spool:
            count = spool.queue.retry()
        output.summary(f"{count} to be tried now", deliveries=count)
        return Exit.DONE
    return _act(directory, output, "to be tried now", lambda queue, **named: queue.retry(**named), chosen)


@command.command("drop")
@DIR
@_chosen
@output_options
def drop_command(directory: str, output: Output, **chosen: Any) -> int:
    """Give up what waits, is held or parked: it is not sent."""
    return _act(directory, output, "dropped", lambda queue, **named: queue.drop(**named), chosen)


@command.command("hold")
@DIR
@_chosen
@output_options
def hold_command(directory: str, output: Output, **chosen: Any) -> int:
    """Keep what waits or is parked until it is released."""
    return _act(directory, output, "on hold", lambda queue, **named: queue.hold(**named), chosen)


@command.command("release")
@DIR
@_chosen
@output_options
def release_command(directory: str, output: Output, **chosen: Any) -> int:
    """Have what is held sent."""
    return _act(directory, output, "released", lambda queue, **named: queue.release(**named), chosen)


@click.command("report")
@DIR
@click.option("--day", metavar="DAY", help='Of what was received on this day: 2026-01-31, or "today".')
@output_options
def report_command(directory: str, output: Output, day: str | None) -> int:
    """Say what became of each study that the router in DIR received; what was received is all accounted for.

    Ends with 69 if anything is parked, or not accounted for.
    """
    with _spool(directory) as spool:
        studies = report(spool.database, _day(day))
    for one in studies:
        output.say(f"{one.study or 'no study'} ({one.patient}): {_numbers(one)}")
        output.record(**asdict(one), complete=one.is_complete, balances=one.balances)
    whole = total(studies)
    output.summary(f"{counted(len(studies), 'study', 'studies')}: {_numbers(whole)}",
                   studies=len(studies), **asdict(whole), balances=whole.balances)  # fmt: skip
    return Exit.FAILURES if whole.parked or not whole.balances else Exit.DONE


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.today() if text == "today" else date.fromisoformat(text)
    except ValueError as error:
        raise InvalidArgument(f'"{text}" is no day', hint="Write it like 2026-01-31.") from error


def _numbers(one: Any) -> str:
    parts = ("sent", "waiting", "held", "parked", "dropped")
    words = " + ".join(f"{getattr(one, name)} {name}" for name in parts)
    return f"{one.received} received = {words}" + ("" if one.balances else f" + {one.unaccounted} unaccounted for")
