"""What the components for the services have in common: a client, their own or somebody's, and handlers over its."""

from __future__ import annotations

from typing import Any, ClassVar

from ..config import Entity
from ..errors import InvalidArgument
from ..protocol.peer_profile import Peer
from .core import ClientCore, Component
from .events import Hooks
from .procedure import Script, operation

__all__ = ["Service"]


class Service(Component):
    """A component that asks a peer for something.

    As a context manager it is closed at the end of the block, with its client if that is its own.

    Args:
        client: the peer; or its address, name or profile for a client of its own, which takes the other ``options``.
    """

    client_class: ClassVar[type[ClientCore]]

    def __init__(self, client: ClientCore | str | Entity | Peer, **options: Any) -> None:
        self._own = not isinstance(client, ClientCore)
        self.client = client if isinstance(client, ClientCore) else self.client_class(client, **options)
        if options and not self._own:
            raise InvalidArgument(f"{', '.join(sorted(options))}: an option of the client, which is there already")
        self.hooks = Hooks(self, self.client.hooks)

    @property
    def peer(self) -> str:
        """The peer as people write it: "AET@host:port"."""
        return self.client.peer

    @operation
    def close(self) -> Script[None]:
        """Release the client's associations, each when its operation is done; from any thread, or task."""
        yield from self.client.pool.close()

    @operation
    def abort(self) -> Script[None]:
        """Abort the client's associations; operations under way raise. From any thread, or task of the same loop."""
        yield from self.client.pool.close(abort=True)

    def _leave(self, error: BaseException | None) -> Script[None]:
        if self._own:
            yield from self.client._leave(error)
