"""What the protocol tells its owner: one frozen value per indication and confirmation (PS3.8 Section 7).

``UpperLayer.events()`` and ``Exchange.events()`` give these in the order in which things happened. What the peer did
wrong arrives here too, as an `AbortIndication`; it is never raised by ``receive``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, Protocol

from .._pdu import PDV, AssociateAC, AssociateRJ, AssociateRQ
from ..config import Timeouts
from ..errors import (
    AssociationAborted,
    AssociationRejected,
    ConnectionFailed,
    DeadlineExceeded,
    DicomNetError,
    RemoteProtocolError,
)
from .received import Observer, RequestReceived, ResponseReceived

__all__ = [
    "AbortIndication",
    "AssociateAccepted",
    "AssociateIndication",
    "AssociateRejected",
    "DataIndication",
    "Event",
    "ReleaseConfirmation",
    "ReleaseIndication",
    "RequestReceived",
    "ResponseReceived",
    "Tracing",
    "discard_requests",
]

Buffer = bytes | bytearray | memoryview


class AssociateIndication(NamedTuple):
    """The peer requests an association; answer with ``accept`` or ``reject`` (PS3.8 Section 7.1)."""

    request: AssociateRQ


class AssociateAccepted(NamedTuple):
    """The peer accepted our request: A-ASSOCIATE confirmation (accept)."""

    accept: AssociateAC


class AssociateRejected(NamedTuple):
    """The peer rejected our request: A-ASSOCIATE confirmation (reject). The transport is to be closed."""

    reject: AssociateRJ

    def error(self, peer: str | None, calling: str) -> AssociationRejected:
        """What it is for the caller that waits for the association."""
        one = self.reject
        return AssociationRejected(result=one.result, source=one.source, reason=one.reason, peer=peer, calling=calling)


class DataIndication(NamedTuple):
    """A P-DATA-TF arrived; only from an `UpperLayer` without a message reader (PS3.8 Section 7.6)."""

    pdvs: tuple[PDV, ...]


class ReleaseIndication(NamedTuple):
    """The peer wants to release; answer with ``release_response`` (PS3.8 Section 7.2).

    ``collision`` is true where both sides asked at once (AR-8).
    """

    collision: bool = False


@dataclass(frozen=True, slots=True)
class ReleaseConfirmation:
    """The peer agreed to our release."""


class AbortIndication(NamedTuple):
    """The association is over: A-ABORT or A-P-ABORT (PS3.8 Sections 7.3 and 7.4).

    Attributes:
        source: 0 the service-user, 2 the service-provider.
        reason: the A-ABORT reason where the source is 2.
        by_peer: an A-ABORT PDU of the peer said so; false where this side noticed.
        detail: what was wrong, in words, where this side noticed.
        timer: the name of the timer that expired (a field of `config.Timeouts`), else the empty string.
        lost: the transport connection closed before the association was over.
    """

    source: int
    reason: int
    by_peer: bool
    detail: str = ""
    timer: str = ""
    lost: bool = False

    def error(self, peer: str | None, timeouts: Timeouts) -> DicomNetError:
        """What it is for the caller that waits on the association."""
        if self.timer:
            return DeadlineExceeded(timeout=self.timer, seconds=getattr(timeouts, self.timer), peer=peer)
        if self.lost:
            return ConnectionFailed("the peer closed the connection before the association was over", peer=peer)
        if self.by_peer:
            return AssociationAborted(source=self.source, reason=self.reason, peer=peer)
        return RemoteProtocolError(f"the association was aborted: {self.detail}", peer=peer)


Event = (
    AssociateIndication
    | AssociateAccepted
    | AssociateRejected
    | DataIndication
    | ReleaseIndication
    | ReleaseConfirmation
    | AbortIndication
    | RequestReceived
    | ResponseReceived
)


def discard_requests(*queues: Iterable[object]) -> None:
    """These requests will not be performed any more: what came with them is discarded, files included."""
    for event in chain(*queues):
        if isinstance(event, RequestReceived) and event.message.data is not None:
            event.message.data.discard()


class Tracing(Protocol):
    """What watches associations: a `trace.ProtocolTrace`."""

    def observe(self, peer: str, requestor: bool, clock: Callable[[], float]) -> Observer:
        """Watch one more."""
