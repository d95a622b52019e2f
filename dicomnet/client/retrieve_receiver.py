"""Instances that a retrieve brings: over its own association, or to a listener that is there for it alone (C7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..config import RECEIVE_DRAIN, Entity
from ..errors import InvalidArgument
from ..net.tls import TLS
from ..protocol.negotiation import AcceptancePolicy
from ..services import user
from ..services.scp import Provider
from ..status import Status
from .core import ClientCore
from .events import Hooks, Received
from .procedure import Call, Script

__all__ = ["Arrivals", "Door", "door_at"]


class Arrivals:
    """Takes what arrives, as ``Association.get`` does, and tells whoever wants to know of each instance.

    Args:
        client: whose face and limits.
        hooks: are told `events.Received`.
        to: a directory for files, or a function of `StoreRequest`.

    Attributes:
        failure: what a handler raised; the retrieve is over then.
    """

    def __init__(self, client: ClientCore, hooks: Hooks, to: Any) -> None:
        self._client = client
        self._hooks = hooks
        self._spool, self._keep = user.keeper(to)
        self.failure: BaseException | None = None

    def provider(self) -> Provider:
        """What takes them on the association that asked for them."""
        provider = Provider(limits=self._client.limits, timeouts=self._client.timeouts)
        self.register(provider)
        return provider

    def register(self, provider: Provider) -> None:
        """Have this provider take them."""
        provider.on_store(spool=self._spool, unknown_classes=True)(self._arrived)

    def _arrived(self, request: Any) -> Any:
        return self._client.face.complete(self._judged(request))

    def _judged(self, request: Any) -> Script[Any]:
        """Ask the handlers; what none of them objects to is kept."""
        event = Received(self._client.peer, request=request)
        try:
            yield from self._hooks.fire(event)
            if event.vetoed is not None:
                return Status(Status.NOT_AUTHORIZED, comment=event.vetoed.message)
            return Status.SUCCESS if event.skipped else (yield Call(self._keep, request))
        except Exception as error:
            self.failure = self.failure or error
            raise

    def heed(self) -> None:
        """Raise what a handler raised."""
        if self.failure is not None:
            raise self.failure


class Door:
    """Where a peer calls back: open while something is waited for, and for whom it was asked of alone.

    Args:
        client: the peer that is asked.
        where: the address to listen at, as an `Entity` whose title does not matter.
        tls: how connections are secured; None is plain.
        senders: calling AE titles that are let in beside that of the peer.
        acceptance: further rules of who may call.
    """

    def __init__(
        self,
        client: ClientCore,
        where: Entity,
        *,
        tls: TLS | None = None,
        senders: Iterable[str] = (),
        acceptance: AcceptancePolicy | None = None,
    ) -> None:
        self._client = client
        rules = acceptance or AcceptancePolicy()
        known = {client.entity.ae_title, *senders, *(rules.calling_ae_titles or ())}
        self._options: dict[str, Any] = {
            "host": where.host,
            "port": where.port,
            "tls": tls,
            "limits": client.limits,
            "timeouts": client.timeouts,
            "acceptance": rules.replace(calling_ae_titles=frozenset(known)),
            "drain": RECEIVE_DRAIN,
            "tap": client.tap,
        }

    def open_for(self, register: Callable[[Any], None], body: Callable[[], Script[Any]]) -> Script[Any]:
        """Run a script with the door open; it is closed whatever comes.

        Args:
            register: is given the listener, to put handlers there.
            body: the script.

        Raises:
            ConnectionFailed: the address is taken, or not ours.
        """
        listener = self._client.face.Listener(self._client.calling, **self._options)
        register(listener)
        enter, leave = _manager(listener)
        yield Call(enter)
        try:
            return (yield from body())
        finally:
            yield Call(leave, None, None, None)


def door_at(where: str | Entity | None, tls: TLS | None) -> tuple[Entity | None, TLS | None]:
    """Where a door is to be, as people write it, and how it is secured.

    Raises:
        InvalidArgument: it is no address, or is to be secured by nothing.
    """
    place = Entity.parse(where) if isinstance(where, str) else where
    if place is not None and place.tls and tls is None:
        raise InvalidArgument("listening with TLS takes a certificate", hint="Give listen_tls=TLS(cert=…).")
    return place, tls


def _manager(listener: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """How it begins and ends; in asyncio both are awaited."""
    if hasattr(listener, "__aenter__"):
        return listener.__aenter__, listener.__aexit__
    return listener.__enter__, listener.__exit__
