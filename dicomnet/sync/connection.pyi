from socket import socket

from typing_extensions import disjoint_base

from dicomnet.net.proxy import Header
from dicomnet.protocol.exchange import Exchange
from dicomnet.sync.loop import Loop
from dicomnet.sync.serving import Serving, _Owner

__all__ = ["Connection"]

@disjoint_base
class Connection(Serving):
    def __init__(
        self, loop: Loop, sock: socket, address: str, exchange: Exchange, owner: _Owner, header: Header | None = None
    ) -> None: ...
    @property
    def sock(self) -> socket: ...
    @property
    def host(self) -> str: ...
    def open(self) -> None: ...
    def abort(self) -> None: ...
    def cut(self) -> None: ...
