"""What sends the instances of a C-MOVE to their destination: the interface, which a program may give its own of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, Protocol

from ..config import Entity
from ..dataset.transcoding import Transcoding
from ..protocol.negotiation import ProposedContext
from ..status import Status

__all__ = ["MoveAssociation", "MoveSender", "Sent"]


class Sent(Protocol):
    """What became of one instance: `StoreResult` is one."""

    @property
    def source(self) -> object:
        """The instance, as it was given."""

    @property
    def status(self) -> Status | None:
        """What the destination answered; None where it was not sent."""

    @property
    def error(self) -> Exception | None:
        """Why it was not sent."""

    @property
    def sop_instance_uid(self) -> str:
        """Which one it is; empty where that is not known."""


class MoveAssociation(Protocol):
    """Where instances are stored for a while: `dicomnet.Association` is one."""

    def store_many(
        self, sources: Iterable[Any], *, originator: tuple[str, int], transcode: Transcoding
    ) -> Iterator[Sent] | AsyncIterator[Sent]:
        """Store instances and give what became of each, in their order; asynchronously in asyncio.

        A C-MOVE takes results for a while, tells its requestor, and takes the next; one that is cancelled closes them.

        Args:
            sources: the instances, as a handler of C-MOVE gives them; each is opened, and closed, as it is sent.
            originator: AE title and message ID of the C-MOVE (PS3.7 Section 9.1.1.1).
            transcode: when they are converted to another transfer syntax.

        Raises:
            AssociationError, ConnectionFailed, DeadlineExceeded: nothing can be sent any more.
        """

    def release(self) -> Any:
        """No more instances follow; in asyncio this is awaited."""


class MoveSender(Protocol):
    """Gives a C-MOVE something to send its instances on: kept open, pooled or tried again as it sees fit.

    ``listener.move_sender`` takes one; without it, a listener opens an association for each C-MOVE.
    """

    def connect(self, destination: Entity, contexts: Sequence[ProposedContext], calling: str) -> Any:
        """A `MoveAssociation` with the destination; in asyncio this is awaited.

        Args:
            destination: of ``Listener.destinations``.
            contexts: what the instances that follow need.
            calling: the AE title to call with.

        Raises:
            AssociationError, ConnectionFailed, DeadlineExceeded: it cannot be reached; the C-MOVE fails with A702.
        """
