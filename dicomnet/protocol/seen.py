"""What a trace is told of: PDUs, changes of state and messages, each as a value of its own."""

from __future__ import annotations

from typing import NamedTuple

from ..wire.command_set import Command
from .messages import name_of
from .negotiation import PresentationContext
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


class MessageSeen(NamedTuple):
    """A DIMSE message: one of ours before the first of its PDUs, one of the peer's after the last (PS3.7 Section 6.3).

    Attributes:
        time, association, sent: see `PDUSeen`.
        command: its command set.
        context: the presentation context that it is in.
        size: bytes of its data set; of one that was refused half-way, those that had come.
    """

    time: float
    association: Watched
    sent: bool
    command: Command
    context: PresentationContext | None
    size: int

    @property
    def name(self) -> str:
        """Which message it is, such as ``C-STORE-RQ``."""
        return name_of(self.command)

    @property
    def message_id(self) -> int | None:
        """Message ID of a request; of a response, or a C-CANCEL, that of the request that it is about."""
        own = self.command.message_id
        return self.command.message_id_being_responded_to if own is None else own


Seen = PDUSeen | TransitionSeen | MessageSeen
