# Generated from dicomnet/client/aio/service.py by tools/async_to_sync.py: edit that, and run `make twins`.
"""What the components for the services have in common: a client, and handlers over its."""

from __future__ import annotations

from typing import Unpack

from ...config import Entity
from ...errors import InvalidArgument
from ...protocol.peer_profile import Peer
from ..options import ClientOptions
from .client import Client
from .component import Component
from .hooks import Hooks

__all__ = ["Service"]


class Service(Component):
    """A component that asks a peer for something.

    As a context manager it is closed at the end of the block, with its client if that is its own.

    Args:
        client: the peer; or its address, name or profile for a client of its own, which takes the other ``options``.

    Attributes:
        client: the peer.
        hooks: the handlers.
    """

    def __init__(self, client: Client | str | Entity | Peer, **options: Unpack[ClientOptions]) -> None:
        self._own = not isinstance(client, Client)
        self.client: Client = client if isinstance(client, Client) else Client(client, **options)
        if options and not self._own:
            raise InvalidArgument(f"{', '.join(sorted(options))}: an option of the client, which is there already")
        self.hooks: Hooks = Hooks(self, self.client.hooks)

    @property
    def peer(self) -> str:
        """The peer as people write it: "AET@host:port"."""
        return self.client.peer

    def close(self) -> None:
        """Release the client's associations, each when its operation is done; from any thread."""
        self.client.pool.close()

    def abort(self) -> None:
        """Abort the client's associations; operations under way raise. From any thread."""
        self.client.pool.close(abort=True)

    def _leave(self, error: BaseException | None) -> None:
        if self._own:
            self.client.pool.close(abort=error is not None)
