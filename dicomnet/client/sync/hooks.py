# Generated from dicomnet/client/aio/hooks.py by tools/async_to_sync.py: edit that, and run `make twins`.
"""Telling handlers what happens, and letting them change it: what clients and their components share."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, TypeVar

from ...errors import DicomNetError
from ...services.scu import Match, RetrieveProgress
from ...services.user import Progress
from ...sync.requestor import Results
from ..events import AfterAction, AfterFind, Before, BeforeAction, BeforeMatch, Event, Handlers, Link, SubOperation
from .concurrency import call

__all__ = ["Hooks"]

T = TypeVar("T")


class Hooks(Handlers):
    """The handlers of a client or a component, and of what it stands on."""

    def fire(self, event: Event) -> None:
        """Call the handlers of an event, one after another."""
        for handler in self.of(type(event)):
            call(handler, event)

    def announce(self, event: Before) -> None:
        """Call the handlers of what is about to be done.

        Raises:
            Vetoed: one of them does not want it.
        """
        self.fire(event)
        event.require()

    def act(self, event: BeforeAction, association: Link, **named: Any) -> Any:
        """Do what was announced, by a method of an association, and tell what came of it; its reply."""
        method = getattr(association, event.service)
        what = event.sop_class_uid, event.sop_instance_uid, *event.arguments
        return self.done(event.peer, AfterAction, association, method, *what, **named)

    def done(
        self,
        peer: str,
        after: type[Any],
        association: Link,
        method: Callable[..., Any],
        /,
        *arguments: Any,
        **named: Any,
    ) -> Any:
        """Call a method of an association, and tell what came of it."""
        try:
            result = method(*arguments, **named)
        except DicomNetError as error:
            self.fire(after(peer, association=association, result=None, error=error))
            raise
        self.fire(after(peer, association=association, result=result, error=None))
        return result

    def progressing(self, peer: str, own: Progress | None) -> Progress:
        """What an association calls with each pending response of a retrieve."""

        def told(step: RetrieveProgress) -> None:
            self.fire(SubOperation(peer, progress=step))
            if own is not None:
                call(own, step)

        return told

    def matches(
        self, peer: str, association: Link, level: str, found: Results[Match], typed: Callable[[Match], T | None]
    ) -> Generator[T, None]:
        """Pass on the matches that handlers let pass.

        Args:
            peer: in the events.
            association: where the query runs.
            level: of the query.
            found: its results.
            typed: makes of a match what is passed on; None passes over it.
        """
        problem, count = None, 0
        try:
            with closing(found) as results:  # closed before its end: C-CANCEL
                for match in results:
                    if (one := typed(match)) is None:
                        continue
                    before = BeforeMatch(peer, level=level, match=one)
                    self.fire(before)
                    if before.vetoed is not None:
                        raise before.vetoed
                    if before.ended:
                        break
                    if not before.skipped:
                        count += 1
                        yield before.match
        except DicomNetError as error:
            problem = error
            raise
        finally:
            self.fire(AfterFind(peer, association=association, result=count, error=problem))
