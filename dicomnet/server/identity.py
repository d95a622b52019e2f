"""The base service `identity`: who a caller's user is. This one takes what is offered; an add-in may know better."""

from __future__ import annotations

from ..protocol.negotiation import Caller, UserIdentity

__all__ = ["AnyIdentity"]


class AnyIdentity:
    """Takes every user identity as it is told, and proves none: users are for an add-in to know."""

    def identify(self, identity: UserIdentity, caller: Caller) -> bool | bytes:
        """Accept, without a server response."""
        return True
