"""What is told to handlers while an operation runs: scripts that clients and their components share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..errors import DicomNetError
from ..services.scu import Match, RetrieveProgress
from . import events
from .events import Hooks
from .procedure import END, Call, Face, Results, Script

__all__ = ["done", "matches", "progressing"]


def done(
    hooks: Hooks, peer: str, after: type[events.Event], association: Any, method: Any, /, *arguments: Any, **named: Any
) -> Script[Any]:
    """Call a method of an association, and tell what came of it."""
    try:
        result = yield Call(partial(method, **named), *arguments)
    except DicomNetError as error:
        yield from hooks.fire(after(peer, association=association, result=None, error=error))
        raise
    yield from hooks.fire(after(peer, association=association, result=result, error=None))
    return result


def progressing(
    face: Face, hooks: Hooks, peer: str, own: Callable[[RetrieveProgress], object] | None
) -> Callable[[RetrieveProgress], object]:
    """What an association calls with each pending response of a retrieve; asyncio awaits what it gives."""

    def told(step: RetrieveProgress) -> Script[None]:
        yield from hooks.fire(events.SubOperation(peer, progress=step))
        if own is not None:
            yield Call(own, step)

    return lambda step: face.complete(told(step))


def matches(
    face: Face, hooks: Hooks, peer: str, association: Any, level: str, found: Any, typed: Callable[[Match], Any]
) -> Results[Any]:
    """Pass on the matches that handlers let pass.

    Args:
        face: runs the script.
        hooks: are told `events.BeforeMatch` and `events.AfterFind`.
        peer: in these events.
        association: where the query runs.
        level: of the query.
        found: its results, as the association gives them.
        typed: makes of a match what is passed on; None passes over it.
    """
    error, count = None, 0
    try:
        while (match := (yield Call(face.next, found))) is not END:
            if (one := typed(match)) is None:
                continue
            before = events.BeforeMatch(peer, level=level, match=one)
            yield from hooks.fire(before)
            if before.vetoed is not None:
                raise before.vetoed
            if before.ended:
                break
            if not before.skipped:
                count += 1
                yield before.match
    except DicomNetError as problem:
        error = problem
        raise
    finally:
        yield Call(face.close, found)  # before its end: C-CANCEL
        yield from hooks.fire(events.AfterFind(peer, association=association, result=count, error=error))
