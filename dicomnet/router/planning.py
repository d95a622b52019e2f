"""From a decision to deliveries: what is to be sent where, when, and what is held or dropped instead."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, time, timedelta

from .actions import URGENCY, Copy, Drop, Forward, Hold, Prefetch
from .conditions import EndlessExpression, Window
from .destinations import DimseDestination
from .facts import Facts, Unreadable
from .plan import Decision, Fired, Plan
from .queue import New, State

__all__ = ["deliveries_of", "opening", "unit_of"]

NO_RULE = "no rule fires"


def deliveries_of(plan: Plan, version: int, facts: Facts, association: str = "") -> list[New]:
    """What is to be done with an instance that has arrived; never nothing.

    What no rule can read is parked; what no rule wants is held.

    Args:
        plan: the rules, of this ``version``.
        facts: the instance.
        association: names the association that it came on.
    """
    try:
        facts.check()
        decision = plan.decide(facts)
    except (Unreadable, EndlessExpression) as error:
        return [New("", plan=version, state=State.PARKED, why=str(error))]
    if not decision.fired:
        return [New("", plan=version, state=State.HELD, why=NO_RULE)]
    return list(_planned(plan, version, decision, facts, association))


def _planned(plan: Plan, version: int, decision: Decision, facts: Facts, association: str) -> Iterator[New]:
    seen: set[tuple[str, tuple[object, ...]]] = set()
    for one in decision.fired:
        changes: tuple[object, ...] = ()
        for step, action in enumerate(one.rule.actions):
            if isinstance(action, Drop):
                yield New("", one.rule.name, version, step, State.DROPPED, why="by its rule")
            elif isinstance(action, Forward | Hold | Copy):
                names = (action.to,) if isinstance(action, Copy) else action.to
                for name in names:
                    if (name, changes) in seen:  # two rules that send the same to the same: once is enough
                        continue
                    seen.add((name, changes))
                    yield _delivery(plan, version, one, step, name, facts, association)
            elif isinstance(action, Prefetch):
                yield New(action.source, one.rule.name, version, step, key=facts.uid(0x0020000D))
            else:
                changes = (*changes, action)


def _delivery(plan: Plan, version: int, fired: Fired, step: int, name: str, facts: Facts, association: str) -> New:
    rule, action = fired.rule, fired.rule.actions[step]
    destination = plan.destinations[name]
    if isinstance(destination, DimseDestination) and destination.entity.ae_title == facts.calling:
        return New(name, rule.name, version, step, State.DROPPED, why="it came from there: a loop")
    if isinstance(action, Hold):
        return New(name, rule.name, version, step, State.HELD, why=action.why)
    urgency = action.urgency if isinstance(action, Forward) else "normal"
    unit = unit_of(rule.name, rule.unit, facts, association)
    state = State.HELD if unit else State.WAITING
    due = 0.0
    if isinstance(action, Forward) and action.between is not None:
        due = opening(action.between, facts.at)
    why = f"until its {rule.unit} is complete" if unit else ""
    return New(name, rule.name, version, step, state, URGENCY[urgency], unit, due, why)


def unit_of(rule: str, unit: str, facts: Facts, association: str) -> str:
    """The name of the series, study or association that an instance is sent with; empty where it goes alone."""
    if unit == "instance":
        return ""
    uid = {"series": 0x0020000E, "study": 0x0020000D}.get(unit)
    what = facts.uid(uid) if uid is not None else association
    return f"{rule} {unit} {what}" if what else ""


def opening(window: Window, now: datetime) -> float:
    """When a window is open, now or next, in seconds since 1970; 0: now."""
    if window.holds(now.time()):
        return 0.0
    hour, minute = map(int, window.start.split(":"))
    begin = datetime.combine(now.date(), time(hour, minute))
    return (begin if begin > now else begin + timedelta(days=1)).timestamp()
