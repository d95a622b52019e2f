"""What a trace is told of: PDUs, changes of state and messages, each as a value of its own."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from .message_seen import MessageSeen
from .pdu_seen import PDUSeen
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
