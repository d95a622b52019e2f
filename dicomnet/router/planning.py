"""From a decision to deliveries: what is to be sent where, when, and what is held or dropped instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, time, timedelta

from .actions import URGENCY, Ask, Copy, Drop, Forward, Hold, Prefetch, Retrieve
from .conditions import EndlessExpression, Window
from .destinations import DimseDestination
from .facts import INSTANCE, SENT, Facts, Unreadable
from .plan import Decision, Fired, Plan
from .queue import New, State

__all__ = ["NO_ANSWER", "deliveries_of", "explain_passing", "opening", "passing", "unit_of", "who_answers"]

NO_RULE = "no rule fires"
NO_ANSWER = "no rule says who answers this"


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
            elif isinstance(action, Prefetch | Retrieve):
                subject = facts.subject
                yield New(action.source, one.rule.name, version, step, key=subject, again=action.again)
            elif not isinstance(action, Ask):
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


def passing(plan: Plan, deliveries: Sequence[New], facts: Facts) -> tuple[Forward | None, str]:
    """The action by which an instance is passed on while it arrives (cut-through); or None, and why not if it might be.

    Args:
        plan: the rules.
        deliveries: what they want done with it.
        facts: the instance.

    Raises:
        EndlessExpression: a rule's expression takes too long for a value of it.
    """
    wanted = [action for new in deliveries if (action := _cut(plan, new)) is not None]
    if not wanted:
        return None, ""
    if len(deliveries) > 1:
        return None, "more than one destination is to get it"
    if deliveries[0].state is not State.WAITING:
        return None, deliveries[0].why
    if plan.asks_about(SENT) and plan.decide(facts.as_sent(deliveries[0].destination)).fired:
        return None, "a rule wants it once it was sent"
    return wanted[0], ""


def _cut(plan: Plan, new: New) -> Forward | None:
    rule = next((one for one in plan.rules if one.name == new.rule), None)
    action = rule.actions[new.step] if rule is not None else None
    return action if isinstance(action, Forward) and action.mode == "cut-through" else None


def explain_passing(plan: Plan, facts: Facts) -> Iterator[str]:
    """Whether an instance is passed on while it arrives, and why not; nothing where no rule that fires wants that."""
    if facts.trigger != INSTANCE:
        return
    action, why = passing(plan, deliveries_of(plan, 0, facts), facts)
    if action is not None:
        yield f"cut-through to {action.to[0]}; by its queue where it is away, slow, or has something waiting"
    elif why:
        yield f"no cut-through, but by the queue: {why}"


def who_answers(plan: Plan, fired: Iterable[Fired], facts: Facts) -> tuple[str, str, str]:
    """The destination that answers, the rule that says so, and nothing; or nothing, and why none does.

    Of several it is the first that is active, and whose time of the day it is.
    """
    asked = [(action.source, one.rule.name) for one in fired for action in one.rule.actions if isinstance(action, Ask)]
    for source, rule in asked:
        if plan.destinations[source].is_open(facts.at.time()):
            return source, rule, ""
    return "", "", f"{asked[0][0]} is not to be asked now" if asked else NO_ANSWER


def opening(window: Window, now: datetime) -> float:
    """When a window is open, now or next, in seconds since 1970; 0: now."""
    if window.holds(now.time()):
        return 0.0
    hour, minute = map(int, window.start.split(":"))
    begin = datetime.combine(now.date(), time(hour, minute))
    return (begin if begin > now else begin + timedelta(days=1)).timestamp()
