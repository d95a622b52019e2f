"""What rules want done with an instance once a destination has it (``on = "sent"``)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime

from ..errors import DicomNetError
from ..repository.incoming import HEAD_BYTES
from .actions import Copy, Forward, Hold
from .facts import SENT, Facts
from .plan import Plan
from .planning import deliveries_of
from .preparing import action_of, source_of
from .queue import Delivery, New, State
from .spool import Spool

__all__ = ["following"]


def following(spool: Spool, done: Sequence[tuple[Delivery, State, str]]) -> dict[int, list[New]]:
    """What is to be done after deliveries that are over, by their ids; by the rules that hold now.

    Rules are asked about the instance as it came. What cannot be read any more is parked, with the reason.
    """
    version, plan = spool.plans.current
    if not plan.asks_about(SENT):
        return {}
    found = {}
    for item, state, _ in done:
        if state is State.SENT and _was_sent(spool, item):
            new = _after(spool, plan, version, item)
            if new:
                found[item.id] = new
    return found


def _was_sent(spool: Spool, item: Delivery) -> bool:
    """Whether it was an instance that went there; and not a message, or a wish for studies."""
    action, _ = action_of(item, spool.plans.of(item.plan))
    return item.message == "C-STORE" and isinstance(action, Forward | Hold | Copy | None)


def _after(spool: Spool, plan: Plan, version: int, item: Delivery) -> list[New]:
    try:
        facts = _facts(spool, plan, item)
        if not plan.decide(facts).fired:
            return []
    except Exception as error:  # whatever a data set may hold: the delivery is over all the same
        why = str(error) if isinstance(error, DicomNetError) else type(error).__name__
        return [New("", plan=version, state=State.PARKED, why=f"it was sent to {item.destination}; after that: {why}")]
    return [_not_back(one, item) for one in deliveries_of(plan, version, facts)]


def _not_back(new: New, item: Delivery) -> New:
    """What would go where it has just gone is dropped."""
    if new.destination != item.destination:
        return new
    return replace(new, state=State.DROPPED, why="it has just been sent there")


def _facts(spool: Spool, plan: Plan, item: Delivery) -> Facts:
    with closing(source_of(spool, item)) as source:
        size, head = source.size, bytearray()
        for chunk in source.chunks(2):
            head += chunk
            if len(head) >= HEAD_BYTES:
                break
    return Facts(
        bytes(head), item.ts, item.cls, calling=item.calling, called=item.called, address=item.address,
        at=datetime.fromtimestamp(spool.queue.now()), wanted=plan.wanted, whole=len(head) >= size,
        destination=item.destination, trigger=SENT,
    )  # fmt: skip
