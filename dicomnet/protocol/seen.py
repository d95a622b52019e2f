"""What a trace is told of: PDUs, changes of state and messages, each as a value of its own."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from .message_seen import MessageSeen
from .states import Action, Event, State

__all__ = ["MessageSeen", "PDUSeen", "Seen", "TransitionSeen", "Watched"]


class Watched(NamedTuple):
    """The association that something was seen on.

    Attributes:
        number: counts those that one tap has watched, from 1.
        requestor: whether we asked for it.
        peer: whom we asked, as an address, or where the one who asked us connected from.
    """

    number: int
    requestor: bool
    peer: str


class PDUSeen(NamedTuple):
    """A PDU, sent or received (PS3.8 Section 9.3).

    Attributes:
        time: seconds since the epoch, by the clock of the driver. What arrives, or goes out, together has one time.
        association: which it was seen on.
        sent: by us; else it was received.
        header: its six bytes. Of what is no PDU only the first is of use.
        body: what follows, as far as the tap keeps it; of a P-DATA-TF the headers of its PDVs and its command
            fragments, unless data are asked for.
        whole: whether that is all of it.
    """

    time: float
    association: Watched
    sent: bool
    header: bytes
    body: bytes
    whole: bool

    @property
    def type(self) -> int:
        """PDU-type: 1 to 7; anything else is noise."""
        return self.header[0]

    @property
    def length(self) -> int:
        """PDU-length, as it is claimed."""
        return int.from_bytes(self.header[2:])


class TransitionSeen(NamedTuple):
    """An event that the state machine acted on (PS3.8 Table 9-10).

    P-DATA in an established association changes no state: it is told as PDUs and messages only.
    """

    time: float
    association: Watched
    before: State
    event: Event
    action: Action
    after: State


Seen: TypeAlias = PDUSeen | TransitionSeen | MessageSeen
