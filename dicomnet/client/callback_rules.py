"""Who may call back: the peer that was asked, under its own title or one that it is known to use."""

from __future__ import annotations

from .._pdu import AssociateRQ
from ..errors import escaped
from ..log import log
from ..protocol.admission import Admission, CallingTitles, Refusal
from ..protocol.negotiation import Caller

__all__ = ["told_aloud"]


class _KnownSenders:
    """Calling AE titles, as `CallingTitles`; whom it refuses may well be meant, so it says so aloud, once for each."""

    def __init__(self, rule: CallingTitles, peer: str) -> None:
        self._rule = rule
        self._peer = peer
        self._told: set[str] = set()

    def evaluate(self, request: AssociateRQ, caller: Caller) -> Refusal | None:
        """See `AdmissionRule.evaluate`."""
        refusal = self._rule.evaluate(request, caller)
        title = escaped(request.calling_ae_title)
        if refusal is not None and title not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(title)
            log.warning(
                "%s called from %s and was refused: it is not %s. If it stores or reports for %s, let it in by "
                '--from %s (senders=["%s"]).',
                title or "a caller without a title", caller.address, self._peer, self._peer, title, title,
            )  # fmt: skip
        return refusal


_MOST_TOLD = 10  # titles; a caller that makes them up is not told of for ever


def told_aloud(admission: Admission, peer: str) -> Admission:
    """The same rules; of a calling AE title that they refuse the user is told, for the peer may use another one.

    Args:
        admission: the rules of a listener that is there for one peer's calls.
        peer: the AE title of the peer.
    """
    return Admission(
        *(_KnownSenders(rule, peer) if isinstance(rule, CallingTitles) else rule for rule in admission.rules)
    )
