"""Rules on trial: what is wrong with them, line by line, and what they would do with a study that is in the spool."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidArgument
from ..server.settings import Table
from .conditions import EndlessExpression
from .facts import Facts, Unreadable
from .plan import Plan, PlanInvalid, Problem
from .planning import explain_passing
from .samples import Sample, Sender, outcome_of, sample_message, spooled_series
from .spool import Spool

__all__ = ["MessageOnTrial", "line_of", "try_rules"]

#: Instances of a study that rules are tried on: one of each series, the newest first.
MOST_SERIES = 50
_is_rule = re.compile(r"rule (\d+) \(").match
_is_destination = re.compile(r'destination "([^"]*)"').match
_in_line = re.compile(r"\(at line (\d+), column \d+\)").search


class MessageOnTrial(Table):
    """A message that rules are tried on."""

    on: str
    """Of which kind: what rules may be about, as "query" or "retrieve"."""
    keys: Mapping[str, Any] = {}
    """Its elements, by keyword."""
    calling: str = ""
    """The AE title of who sends it."""
    destination: str = ""
    """Of a retrieve: the AE title that the instances are to go to."""


def try_rules(
    spool: Spool, text: str, study: str | None = None, message: MessageOnTrial | None = None
) -> Mapping[str, Any]:
    """What rules in TOML come to; nothing is kept, and nothing is sent.

    Args:
        spool: of the router, with the rules that hold.
        text: the rules.
        study: a study in the spool, of which the newest instance of each series is tried; None tries none.
        message: a message that is tried.

    Returns:
        ``problems``, each with its place, its line and what is wrong; ``rules`` and ``destinations``: how many there
        are; and ``samples``: of each its name, what is done ``now`` and what would be done ``then``, why, and which
        rules fire.

    Raises:
        InvalidArgument: nothing of the study is in the spool, or there is no such message.
    """
    try:
        plan = Plan.from_toml(text)
    except PlanInvalid as error:
        problems = [{"place": one.place, "line": line_of(text, one), "what": one.what} for one in error.problems]
        return {"problems": problems, "rules": 0, "destinations": 0, "samples": []}
    samples: list[Mapping[str, Any]] = []
    running = spool.plans.current[1]
    if message is not None:
        sender = Sender(message.calling, spool.settings.ae_title)
        samples.append(_tried(plan, running, sample_message(message.on, message.keys, sender, message.destination)))
    if study is not None:
        found = list(spooled_series(spool, study, MOST_SERIES))
        if not found:
            hint = "A router keeps instances until they are sent, and `keep` seconds longer."
            raise InvalidArgument(f"nothing of the study {study[:64]} is in the spool", hint=hint)
        samples += [_tried(plan, running, one) for one in found]
    return {"problems": [], "rules": len(plan.rules), "destinations": len(plan.destinations), "samples": samples}


def _tried(plan: Plan, running: Plan, sample: Sample) -> Mapping[str, Any]:
    facts = sample.facts
    try:
        why, fired = [*plan.explain(facts), *explain_passing(plan, facts)], list(plan.decide(facts).names)
    except (Unreadable, EndlessExpression) as error:
        why, fired = [str(error)], []
    now, then = _outcome(running, facts), _outcome(plan, facts)
    return {"name": sample.name, "fired": fired, "why": why, "now": now, "then": then}


def _outcome(plan: Plan, facts: Facts) -> list[str]:
    try:
        return outcome_of(plan, facts)
    except (Unreadable, EndlessExpression) as error:
        return [f"failed: {error}"]


def line_of(text: str, problem: Problem) -> int | None:
    """The line of the rule or destination that a mistake is in, or of the mistake itself where TOML knows it."""
    found = _in_line(problem.what)
    if found is not None:
        return int(found[1])
    rule, destination = _is_rule(problem.place), _is_destination(problem.place)
    if rule is not None:
        return _nth(text, re.compile(r"^\s*\[\[\s*rules\s*\]\]"), int(rule[1]))
    if destination is not None:
        name = re.escape(destination[1])
        return _nth(text, re.compile(rf"^\s*\[\s*destinations\s*\.\s*[\"']?{name}[\"']?\s*\]"), 1)
    return None


def _nth(text: str, heading: re.Pattern[str], count: int) -> int | None:
    lines = [number for number, line in enumerate(text.splitlines(), 1) if heading.match(line)]
    return lines[count - 1] if len(lines) >= count else None
