"""The listeners of a server: what the framework adds to a `Listener`, in one place."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Protocol

from .._pdu import AssociateAC
from ..config import Entity
from ..log import log_failure
from ..net.sockets import listen
from ..net.tls import TLS
from ..protocol.admission import Refusal
from ..protocol.exchange import Exchange
from ..protocol.negotiation import ProposedContext
from ..protocol.peer_profile import Peers
from ..services.provider import Serving
from ..services.provider_requests import Ending
from ..services.scp import AssociationProvider, TakeNext, host_of
from ..services.service_registry import ServiceRegistry
from ..sync.association import Association, connect
from ..sync.listener import Listener
from ..wire.items import ImplementationClassUID, ImplementationVersionName
from .addins import AddIns
from .admission import ServerAdmission
from .base import AEDirectory, AuditTrail
from .clients import ClientRecord, Clients
from .context import BaseServices
from .metrics import Metrics, Recorder
from .settings import Settings

__all__ = ["ServerListener", "open_ports"]


class ListenerHost(Protocol):
    """What a listener needs of its server."""

    settings: Settings
    services: ServiceRegistry
    rules: ServerAdmission
    clients: Clients
    metrics: Metrics
    base: BaseServices
    addins: AddIns


class ServerListener(Listener):
    """A listener that asks the server whom to let in, and tells it what happens.

    Args:
        host: the server, as far as a listener needs it.
        port: where it listens.
        tls: how connections are secured; None is plain.
        sock: listens already, where a service manager has passed it.
    """

    def __init__(self, host: ListenerHost, port: int, tls: TLS | None, sock: socket.socket | None = None) -> None:
        settings = host.settings
        super().__init__(
            host=settings.listen.host,
            port=port,
            tls=tls,
            limits=settings.limits(),
            timeouts=settings.network_timeouts(),
            drain=settings.timeouts.drain,
            services=host.services,
        )
        self._passed = sock
        self.rules: ServerAdmission = host.rules
        self.admission = host.rules.rules(host.base.identity.identify)
        self.audit: AuditTrail = host.base.audit
        self._buffers = (
            (socket.SO_SNDBUF, settings.listen.send_buffer),
            (socket.SO_RCVBUF, settings.listen.receive_buffer),
        )
        self.clients: Clients = host.clients
        self.metrics: Metrics = host.metrics
        self.recorder: Recorder = host.metrics.recorder()
        self._base = host.base
        self._own_title = settings.server.ae_title
        self.on_turn(host.addins.turn)
        self._implementation = (
            ImplementationClassUID(settings.server.implementation_class_uid),
            ImplementationVersionName(settings.server.implementation_version_name),
        )

    def listening(self) -> socket.socket:
        """The socket that was passed, or an own one."""
        return self._passed or super().listening()

    def bound(self, sock: socket.socket) -> None:
        """Give it the buffers that the settings want; connections have those of the listening socket."""
        for option, size in self._buffers:
            if size is not None:
                sock.setsockopt(socket.SOL_SOCKET, option, size)

    def know(self, titles: AEDirectory) -> None:
        """Heed the profiles of known AEs, and let C-MOVE send to them."""
        self.peers: Peers = Peers(titles.profiles())
        destinations: Any = titles.destinations()  # a live view, in place of the dict of a plain listener
        self.destinations = destinations

    def flow(
        self, exchange: Exchange, address: str, *, full: Callable[[], bool] = bool, take_next: TakeNext | None = None
    ) -> Serving:
        """What serves an association, watched."""
        return _Watched(exchange, self, address, take_next).serve(full=full)

    def identified(self, accept: AssociateAC) -> AssociateAC:
        """An acceptance with the implementation that the settings name."""
        kept = [one for one in accept.user_information if not isinstance(one, _IMPLEMENTATION)]
        return AssociateAC(
            accept.called_ae_title,
            accept.calling_ae_title,
            accept.presentation_contexts,
            (*kept[:1], *self._implementation, *kept[1:]),
        )

    def connect(self, destination: Entity, contexts: Sequence[ProposedContext], calling: str) -> Association:
        """The association of a C-MOVE: in the server's own name, secured as its destination needs."""
        entry = self._base.ae_titles.find(destination.ae_title)
        profile = replace(self.peers.named(destination.ae_title), entity=destination)
        return connect(
            profile,
            calling=self._own_title,
            contexts=contexts,
            tls=None if entry is None else self._base.security.destination(entry),
            limits=self.limits,
            timeouts=self.timeouts,
            tap=self.tap,
        )


#: The refusals that an administrator of security wants to know of.
_ALERTS = frozenset({"unknown", "address", "certificate"})
_IMPLEMENTATION = (ImplementationClassUID, ImplementationVersionName)


class _Watched(AssociationProvider):
    """Performs the requests of an association, and tells the server of it."""

    __slots__ = ("_listener", "_record")

    def __init__(self, exchange: Exchange, listener: ServerListener, address: str, take_next: TakeNext | None) -> None:
        super().__init__(exchange, listener, address, take_next)
        self._listener = listener
        self._record: ClientRecord = listener.clients.connected(
            exchange, address, lambda: listener.abort(exchange), listener.recorder.cell_of
        )
        # A request may be answered after the flow that began to perform it has ended.
        self.on_request, exchange.on_answer = self._record.begin, self._record.answered
        accept = exchange.accept
        replaced: Any = exchange  # an exchange has no hook of its own for this
        replaced.accept = lambda answer: accept(listener.identified(answer))

    def serve(self, *, full: Callable[[], bool] = bool) -> Serving:
        """Until the association is over."""
        try:
            yield from super().serve(full=full)
        finally:
            self._tell_end()
            self._listener.clients.disconnected(self._record)
            self._listener.metrics.connection_closed(self._record)

    def _tell_end(self) -> None:
        for one in tuple(self.exchange.kept.values()):
            try:
                if isinstance(one, Ending):
                    one.association_ended()
            except Exception as error:  # the association counts as open until it is taken off the list
                log_failure("what hears of the end of an association failed", error)

    def admit(self, full: Callable[[], bool]) -> Serving:
        """Let the caller have what it has a right to, and tell of it."""
        listener, exchange = self._listener, self.exchange
        self.services = listener.rules.narrowed(self.services, exchange.calling)
        yield from super().admit(full)
        if exchange.accept_pdu is not None:
            refused = sum(not one.accepted for one in exchange.contexts.values())
            self._record.owners = frozenset(one.owner for one in self.services.registrations)
            listener.metrics.accepted(exchange, refused)
            listener.clients.accepted(self._record)

    def refuse(self, refusal: Refusal, *, counted: bool = False) -> None:
        super().refuse(refusal, counted=counted)
        kind = refusal.kind or ("limit" if counted else "negotiation")
        self._listener.metrics.refused(self.exchange.calling, kind)
        if kind in _ALERTS:
            what = f"refused an association: {refusal.why}"
            self._listener.audit.record(
                "node-authentication", user=self.exchange.calling, address=host_of(self.address), what=what,
                outcome="minor",
            )  # fmt: skip


def open_ports(settings: Settings, passed: Mapping[str, socket.socket]) -> dict[str, socket.socket]:
    """What listens on the ports of a server, by name: what was passed, and else bound here.

    Raises:
        CannotListen: a port cannot be had; none stays bound here.
    """
    chosen, web = settings.listen, settings.web
    wanted = {
        "plain": (chosen.host, chosen.port if chosen.plain else None),
        "tls": (chosen.host, chosen.tls_port),
        "web": (web.host, web.port),
    }
    with ExitStack() as stack:
        found = {}
        for name, (host, port) in wanted.items():
            if port is not None:
                found[name] = passed[name] if name in passed else stack.enter_context(listen(host, port))
        stack.pop_all()
    return found
