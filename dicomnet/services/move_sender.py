"""What sends the instances of a C-MOVE to their destination: the interface, which a program may give its own of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ..config import Entity
from ..dataset.transcoding import Transcoding
from ..protocol.negotiation import ProposedContext
from ..status import Status

__all__ = ["MoveAssociation", "MoveSender", "Sent"]


class Sent(Protocol):
    """What became of one instance: `StoreResult` is one."""

    @property
    def status(self) -> Status:
        """What the destination answered."""


class MoveAssociation(Protocol):
    """Where instances are stored for a while: `dicomnet.Association` is one."""

    def store(self, source: Any, *, originator: tuple[str, int], transcode: Transcoding) -> Any:
        """Store an instance and give what became of it (`Sent`); in asyncio this is awaited.

        Args:
            source: the instance, an open `Source`.
            originator: AE title and message ID of the C-MOVE (PS3.7 Section 9.1.1.1).
            transcode: when it is converted to another transfer syntax.

        Raises:
            NoAcceptedContext, InvalidArgument: this instance cannot be sent; others can.
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
