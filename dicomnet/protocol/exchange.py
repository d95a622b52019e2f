"""`Exchange`: DIMSE messages over an association (PS3.7), without a socket, a clock or a thread.

An exchange is driven as an `UpperLayer` is: ``receive`` what was read, write what ``outgoing`` gives, take ``events``,
wake it with ``tick`` at ``deadline``, close the transport once it is ``closed``. Data sets go out piece by piece, as
fast as `outgoing` is called, and come in through a sink, so that nothing is held that the owner did not ask to hold.

A service is a generator over an exchange: see `flow`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .. import uids
from .._pdu import AssociateAC, AssociateRJ, AssociateRQ
from ..config import WINDOW_KEEPERS, Limits, Timeouts
from ..errors import AssociationError, LocalProtocolError, NoAcceptedContext
from ..status import Status
from ..wire.command_set import fragment_size
from . import admission, negotiation
from .events import Event, ReleaseIndication, RequestReceived
from .flow import Flow
from .message_exchange import LATER, POLL, Call, MessageExchange, Poll, Request
from .messages import Buffer, CommandField, DataSource, fits
from .negotiation import (
    AcceptancePolicy,
    Caller,
    NegotiationOptions,
    PresentationContext,
    ProposedContext,
    SecureLink,
    UserIdentity,
)
from .peer_profile import STRICT, Peer, Peers, Relaxation, normalize_request, repair_pdu
from .received import Observer
from .states import State

__all__ = ["LATER", "POLL", "Buffer", "Call", "DataSource", "Exchange", "Flow", "Poll", "Request"]

_MAX_MESSAGE_ID = 65535
_MOST_REST = 5  # bytes after the last PDV of a P-DATA-TF; six would be the header of another


class Exchange(MessageExchange):
    """One association and the messages on it; make one with `requestor` or `acceptor`.

    Attributes:
        contexts: the negotiated presentation contexts by ID, refused ones too.
        calling, called: the AE titles of the association, known once it is requested.
        peer: how messages for people name the other side; set by the driver, which knows its address.
        address: where the peer connected from, ``host:port``, on the accepting side.
        user: whom the acceptance policy has identified as the requestor's user; None where it was not asked to.
        profile: what is known of the peer, and relaxed for it.
        pending: requests of ours that wait for responses, by message ID.
        rests: which pause of its provider this is; 0 while anything is performed.
        released: whether the peer asked for the release, and was granted it.
        tls: what TLS negotiated, and ``failure`` why the transport ended; set by the driver, which owns it.
        window: how many of our requests may be unanswered at a time, as negotiated (PS3.7 Annex D.3.3.3).
        deferred: requests of the peer that are still to be performed; at most ``most_deferred`` of them are kept.
        cancelled: the message IDs of those requests of the peer that it wants no more of.
        kept: what a provider keeps for as long as the association lasts, by whose it is.
        open_sink: called with the context and the command set of each request that brings a data set; by default data
            sets are held in memory, up to ``Limits.message``.
        on_answer: called with each request of the peer and its status, once its last response is on its way.
    """

    def __init__(
        self, limits: Limits | None = None, timeouts: Timeouts | None = None, observer: Observer | None = None
    ) -> None:
        super().__init__(limits, timeouts, observer)
        self.called: str
        self.calling: str
        self.calling = self.called = self.address = ""
        self.tls: SecureLink | None = None
        self.user: UserIdentity | None = None
        self.defer_requests: bool = False
        self.rests: int = 0
        self.released: bool = False
        self.kept: dict[object, Any] = {}
        self.deferred: deque[RequestReceived] = deque()
        self.request_pdu: AssociateRQ | None = None
        self.accept_pdu: AssociateAC | None = None
        self._by_syntax: dict[tuple[str, str], PresentationContext] = {}
        self.most_deferred: int = 1 + self.limits.requests_ahead
        self._upper.on_accept = self._on_accept
        self._peers: Peers | None = None
        self._unproven_window = True

    @classmethod
    def requestor(
        cls,
        *,
        calling: str,
        called: str,
        contexts: Sequence[ProposedContext],
        extras: NegotiationOptions | None = None,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        observer: Observer | None = None,
        profile: Peer = STRICT,
    ) -> Exchange:
        """The requesting side, over a transport that is connected; its A-ASSOCIATE-RQ waits in `outgoing`."""
        # A user of an association may leave it idle; only a provider has to protect itself from that.
        self = cls(limits, replace(timeouts or Timeouts(), idle=None), observer)
        self.calling, self.called = calling, called
        self.peer = str(profile.entity) if profile.entity is not None else None
        self._adopt(profile)
        self._unproven_window = extras is None or extras.unproven_window
        self.request_pdu = negotiation.propose(
            contexts, calling=calling, called=called, max_pdu=self.limits.max_pdu, extras=profile.proposing(extras)
        )
        self._upper.associate(self.request_pdu)
        self._upper.transport_connected()
        return self

    @classmethod
    def acceptor(
        cls,
        *,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        now: float = 0.0,
        observer: Observer | None = None,
        peers: Peers | None = None,
    ) -> Exchange:
        """The accepting side of a transport that was opened at ``now``; ARTIM runs from then on."""
        self = cls(limits, timeouts, observer)
        self._peers, self._upper.mend = peers or None, self._mend
        self._upper.tick(now)
        self._upper.transport_opened()
        return self

    @property
    def requested(self) -> bool:
        """Whether an association was asked for; until then there is only a connection."""
        return self.request_pdu is not None

    # ---- the association ---------------------------------------------------------------------------------------

    def _asked(self, request: AssociateRQ) -> None:
        """The peer asks for an association."""
        self.request_pdu = request
        self.calling, self.called = request.calling_ae_title, request.called_ae_title

    def normalized_request(self, ae_title: str | None) -> AssociateRQ:
        """The A-ASSOCIATE-RQ as it is to be judged: with what is relaxed for the peer put right.

        Args:
            ae_title: the title that ought to be called; None for any.
        """
        if self.request_pdu is None:
            raise LocalProtocolError("there is no association request to answer")
        return normalize_request(self.request_pdu, ae_title, self.profile.relax)

    def evaluate(self, policy: AcceptancePolicy, caller: Caller | None = None) -> bool:
        """Answer the `AssociateIndication` by ``policy`` and who is asking; true where it was accepted."""
        answer = admission.evaluate(self.normalized_request(policy.ae_title), policy, caller)
        if isinstance(answer, AssociateRJ):
            self._upper.reject(answer)
            return False
        self.accept(answer)
        return True

    def accept(self, accept: AssociateAC) -> None:
        """Answer the `AssociateIndication` with this A-ASSOCIATE-AC."""
        if self.request_pdu is None:
            raise LocalProtocolError("there is no association request to answer")
        unit = fragment_size(negotiation.maximum_length(self.request_pdu), self.limits.outgoing_pdu)
        self._upper.accept(accept)
        performed, invoked = negotiation.operations_window(self.request_pdu, accept)
        self._establish(accept, unit, invoked, performed)

    def reject(self, result: int, source: int, reason: int) -> None:
        """Answer the `AssociateIndication` with an A-ASSOCIATE-RJ (PS3.8 Section 9.3.4)."""
        self._upper.reject(AssociateRJ(result, source, reason))

    def _adopt(self, profile: Peer) -> None:
        """Heed what is known of the peer."""
        self.profile = profile
        if profile.relax:
            self._upper.mend = self._mend
            self._upper.tolerated_pdu = self.limits.tolerated_pdu if Relaxation.LONG_PDUS in profile.relax else 0
            self._upper.tolerated_rest = _MOST_REST if Relaxation.PADDED_PDUS in profile.relax else 0

    def _mend(self, kind: int, body: bytes) -> bytes:
        """An A-ASSOCIATE-RQ or -AC arrives: find out whose it is, and mend what may be wrong in it."""
        if self._peers is not None:
            self._adopt(self._peers.calling(body))
        return repair_pdu(kind, body, self.profile.relax)

    def _on_accept(self, accept: AssociateAC) -> None:
        """The peer accepted. Called while its bytes are walked: the next ones may be a message."""
        peer_max_pdu = negotiation.maximum_length(accept)
        if not 0 < peer_max_pdu < negotiation.SMALLEST_PDU:
            unit = fragment_size(peer_max_pdu, self.limits.outgoing_pdu)
            self._establish(accept, unit, *negotiation.operations_window(self.request_pdu, accept))

    def _establish(self, accept: AssociateAC, unit: int, invoked: int, performed: int) -> None:
        assert self.request_pdu is not None
        self.accept_pdu = accept
        self.contexts: dict[int, PresentationContext] = negotiation.outcome(self.request_pdu, accept)
        accepted = [context for context in self.contexts.values() if context.accepted]
        self._reader.accept_contexts(context.id for context in accepted)
        for context in reversed(accepted):
            self._by_syntax[context.abstract_syntax, context.transfer_syntax] = context
            self._by_syntax[context.abstract_syntax, ""] = context
        self._unit = unit
        self.window: int = invoked or _MAX_MESSAGE_ID
        if not self._unproven_window and negotiation.implementation_class_uid(accept) not in WINDOW_KEEPERS:
            self.window = 1
        self.most_deferred = (performed or _MAX_MESSAGE_ID) + self.limits.requests_ahead

    def require_association(self) -> None:
        """Raise what ended the association, where it is over."""
        if not self.established:
            raise self._failure or LocalProtocolError("the association is over", peer=self.peer)

    def context_for(
        self, abstract_syntax: str, transfer_syntax: str = "", *, scp: bool | None = False
    ) -> PresentationContext:
        """The first accepted context for an abstract syntax, in this transfer syntax if one is given.

        Args:
            abstract_syntax: the SOP class or meta SOP class.
            transfer_syntax: a UID; empty takes any.
            scp: the association's requestor must be provider in it, as in a C-GET, rather than user; None takes both.

        Raises:
            NoAcceptedContext: there is none.
        """
        context = self._by_syntax.get((abstract_syntax, transfer_syntax))
        if context is None or (scp is not None and not (context.scp if scp else context.scu)):
            raise NoAcceptedContext(
                abstract_syntax=abstract_syntax,
                transfer_syntaxes=(transfer_syntax,) if transfer_syntax else (),
                message=self._not_proposed(abstract_syntax),
                peer=self.peer,
            )
        return context

    def _not_proposed(self, abstract_syntax: str) -> str | None:
        """What to say where it is not the peer that declined."""
        if any(one.abstract_syntax == abstract_syntax for one in self.contexts.values()):
            return None
        name = uids.name_of(abstract_syntax)
        return f"{name} was not proposed on this association: add a context for it, such as dicomnet.contexts makes"

    def release(self) -> None:
        """Ask for the release; a `ReleaseConfirmation` follows (PS3.8 Section 7.2)."""
        if self._queue and self._upper.established:
            raise LocalProtocolError("a message is still to be sent", peer=self.peer)
        self._upper.release()

    def release_response(self) -> None:
        """Agree to the peer's release."""
        self.released = True
        self._upper.release_response()

    def set_aside(self, event: Event) -> None:
        """An event that the running flow did not ask for: the end of the association raises, a request is declined."""
        if isinstance(event, RequestReceived):
            self._set_request_aside(event)
        elif isinstance(event, ReleaseIndication):
            if self._upper.state is State.STA8_AWAIT_LOCAL_RELEASE_RESPONSE:
                self.release_response()
            raise AssociationError("the peer released the association", peer=self.peer)
        else:
            self.raise_for(event)

    def _set_request_aside(self, event: RequestReceived) -> None:
        cancelled = event.command.message_id_being_responded_to
        if event.command.command_field == CommandField.C_CANCEL_RQ:
            if cancelled in self._performing:
                self.cancelled.add(cancelled)
        elif not self.defer_requests:
            self.unasked(event.message)
        elif len(self.deferred) >= self.most_deferred:
            self.raise_for(self._refuse(f"{len(self.deferred)} requests wait for the end of another", event.message))
        elif fits(event.message, (kept.message for kept in self.deferred), self.limits.message):
            self.deferred.append(event)
        else:
            self.decline(event.message, Status.OUT_OF_RESOURCES)

    def raise_for(self, event: Event) -> None:
        """Raise what an event means for the caller that waits on the association; does nothing where it goes on."""
        error = self.error_of(event)
        if error is not None:
            raise error
