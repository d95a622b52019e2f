"""Extended negotiation of queries and retrieves that are passed on: what a router may grant for those who answer."""

from __future__ import annotations

from .. import uids
from .actions import Ask
from .destinations import DimseDestination
from .facts import RETRIEVE, WORKLIST
from .plan import Plan

__all__ = ["granted", "missing"]

# The bytes of the application information (PS3.4 Tables C.5-1 and K.5-1); retrieves have the first (Table C.5-3).
_OPTIONS = ("relational", "combined", "fuzzy", "timezone")
_OF_WORKLISTS = _OPTIONS[2:]  # the others always hold


def granted(plan: Plan, trigger: str) -> bytes:
    """What is granted to those who ask: what every peer does that a rule may have answer them; empty: nothing."""
    peers = [
        plan.destinations[action.source]
        for rule in plan.rules if rule.active and rule.on == trigger
        for action in rule.actions if isinstance(action, Ask)
    ]  # fmt: skip
    common = set(_OPTIONS) if peers else set()
    for one in peers:
        common &= set(one.extended) if isinstance(one, DimseDestination) else set()
    possible = {RETRIEVE: _OPTIONS[:1], WORKLIST: _OF_WORKLISTS}.get(trigger, _OPTIONS)
    common &= set(possible)
    if not common:
        return b""
    always = set(_OPTIONS[:2]) if trigger == WORKLIST else set()
    return bytes(one in common | always for one in _OPTIONS[: 1 if trigger == RETRIEVE else None])


def missing(model: str, ours: bytes, theirs: bytes) -> list[str]:
    """What was granted to who asks, and is not by the peer that is to answer.

    Args:
        model: the SOP class.
        ours, theirs: the application information of both answers.
    """
    counted = _OF_WORKLISTS if model == uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND else _OPTIONS
    flags = zip(_OPTIONS, ours, theirs.ljust(len(ours), b"\0"), strict=False)
    return [name for name, mine, other in flags if name in counted and mine == 1 and other != 1]
