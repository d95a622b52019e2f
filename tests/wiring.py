"""Two exchanges wired to each other in memory, and flows driven over them without any I/O."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from driving import pdus

from dicomnet import uids
from dicomnet._pdu import PDV, Abort, PDataTF
from dicomnet.config import Limits, Timeouts
from dicomnet.protocol.events import AssociateAccepted, AssociateIndication, Event
from dicomnet.protocol.exchange import POLL, Call, Exchange, Request
from dicomnet.protocol.messages import CommandField
from dicomnet.protocol.negotiation import AcceptancePolicy, NegotiationOptions, ProposedContext
from dicomnet.wire.command_set import Command, frame

CT = uids.CT_IMAGE_STORAGE
EXPLICIT, IMPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN
CONTEXTS = (ProposedContext(uids.VERIFICATION, (IMPLICIT,)), ProposedContext(CT, (EXPLICIT,)))
POLICY = AcceptancePolicy(abstract_syntaxes={uids.VERIFICATION: (), CT: ()})


def transfer(source: Exchange, target: Exchange, cut: Callable[[bytes], list[bytes]] = lambda data: [data]) -> int:
    """Everything that ``source`` has to send goes to ``target``; how many bytes that was."""
    count = 0
    while buffers := source.outgoing():
        data = b"".join(buffers)  # as a socket does: what is given out is copied before more is asked for
        for piece in cut(data):
            target.receive(piece)
        count += len(data)
    return count


def wire(one: Exchange, other: Exchange) -> None:
    """Carry bytes both ways until nobody has anything to say."""
    while transfer(one, other) + transfer(other, one):
        pass


def pair(
    contexts: tuple[ProposedContext, ...] = CONTEXTS,
    policy: AcceptancePolicy = POLICY,
    *,
    limits: Limits | None = None,
    acceptor_limits: Limits | None = None,
    timeouts: Timeouts | None = None,
    window: tuple[int, int] | None = None,
    asked_window: tuple[int, int] | None = None,
) -> tuple[Exchange, Exchange]:
    """A requestor's and an acceptor's exchange with an association between them, at time 0.

    ``window``: the operations window that is granted, and asked for unless ``asked_window`` says otherwise.
    """
    extras = NegotiationOptions(operations_window=asked_window or window)
    policy = policy if window is None else policy._replace(operations_window=window)
    user = Exchange.requestor(
        calling="USER", called="PROVIDER", contexts=contexts, extras=extras, limits=limits, timeouts=timeouts
    )
    provider = Exchange.acceptor(limits=acceptor_limits, timeouts=timeouts)
    user.tick(0.0)
    transfer(user, provider)
    (indication,) = provider.events()
    assert isinstance(indication, AssociateIndication)
    assert provider.evaluate(policy._replace(max_pdu=provider.limits.max_pdu))
    transfer(provider, user)
    (confirmation,) = user.events()
    assert isinstance(confirmation, AssociateAccepted)
    return user, provider


def message(command: Command, data: bytes | None = None, context_id: int = 1, size: int = 4096) -> bytes:
    """A message on the wire, as a peer would send it."""
    buffers = frame(context_id, command.encode(), size, True, True)
    if data is not None:
        buffers += frame(context_id, data, size, False, True)
    return b"".join(buffers)


def sent(exchange: Exchange) -> list[Any]:
    """The PDUs that an exchange has to send."""
    data = b""
    while buffers := exchange.outgoing():
        data += b"".join(buffers)
    return pdus(data)


def aborts(exchange: Exchange) -> list[Abort]:
    """The A-ABORTs among them."""
    return [pdu for pdu in sent(exchange) if isinstance(pdu, Abort)]


def fragments(found: list[Any]) -> list[PDV]:
    """The PDVs of all P-DATA-TFs among PDUs."""
    return [pdv for pdu in found if isinstance(pdu, PDataTF) for pdv in pdu.pdvs]


class Drive:
    """Runs a flow over an exchange as the drivers do; what it yields is kept, what it waits for is given to it.

    Args:
        flow: the flow.
        write: is to write everything, which a flow asks for by ``POLL``.
    """

    def __init__(self, flow: Generator[Any, Any, Any], write: Callable[[], object] = lambda: None) -> None:
        self.flow = flow
        self.write = write
        self.results: list[Any] = []
        self.value: Any = None
        self.done = False
        self._item: Any = None
        self._advance(lambda: next(flow))

    def give(self, *events: Event) -> Drive:
        """Give it events, which it has to be waiting for."""
        for event in events:
            assert not self.done
            self._advance(lambda event=event: self.flow.send(event))
        return self

    def _advance(self, step: Callable[[], Any]) -> None:
        try:
            item = step()
            while item is not None:
                if isinstance(item, Call):
                    item = self._call(item)
                elif item is POLL:
                    self.write()
                    item = self.flow.send(None)
                else:
                    self.results.append(item)
                    item = next(self.flow)
        except StopIteration as stop:
            self.done, self.value = True, stop.value

    def _call(self, call: Call) -> Any:
        try:
            answer = call.function(*call.arguments)
        except Exception as error:
            return self.flow.throw(error)
        return self.flow.send(answer)


def run(exchange: Exchange, flow: Generator[Any, Any, Any], peer: Exchange, serving: Drive) -> Drive:
    """Run a flow to its end against a peer whose own flow is ``serving``."""
    drive = Drive(flow, lambda: transfer(exchange, peer))
    for _ in range(1000):
        if drive.done:
            return drive
        moved = transfer(exchange, peer)
        serving.give(*peer.events())
        moved += transfer(peer, exchange)
        events = exchange.events()
        for event in events:
            if not drive.done:  # else all answers came together, and were seen with the first
                drive.give(event)
        assert moved or events, "both sides wait for each other"
    raise AssertionError("no end")


def echo(exchange: Exchange) -> Request:
    """Ask for a C-ECHO."""
    return exchange.request(
        exchange.context_for(uids.VERIFICATION), CommandField.C_ECHO_RQ, affected_sop_class_uid=uids.VERIFICATION
    )


def store(exchange: Exchange, data: Any, instance: str = "1.2.3") -> Request:
    """Ask for a C-STORE."""
    return exchange.request(
        exchange.context_for(CT),
        CommandField.C_STORE_RQ,
        data,
        affected_sop_class_uid=CT,
        affected_sop_instance_uid=instance,
        priority=0,
    )


def response(request: Request, status: int = 0, **changes: Any) -> Command:
    """A response to a request of ours, as a peer would make it."""
    elements = {
        "command_field": request.command.command_field | 0x8000,
        "message_id_being_responded_to": request.command.message_id,
        "status": status,
    }
    return Command(**elements | changes)


def the(exchange: Exchange, kind: type) -> Any:
    """The one event that happened."""
    (event,) = exchange.events()
    assert isinstance(event, kind), event
    return event
