from socket import socket
from typing import final

from dicomnet.net.proxy import Header
from dicomnet.net.tls_channel import Channel
from dicomnet.protocol.exchange import Exchange
from dicomnet.sync.connection import Connection
from dicomnet.sync.loop import Loop
from dicomnet.sync.serving import _Owner

__all__ = ["SecureConnection"]

@final
class SecureConnection(Connection):
    def __init__(
        self,
        loop: Loop,
        sock: socket,
        address: str,
        exchange: Exchange,
        owner: _Owner,
        header: Header | None,
        channel: Channel,
    ) -> None: ...
