"""Hold idle associations by bare sockets, which cost next to nothing, until its input ends: holder.py PORT COUNT.

Prints "held" when they stand.
"""

import socket
import sys

import dicomnet as dn
from dicomnet.protocol.exchange import Exchange


def hold(port: int, request: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(request)
    head = sock.recv(6, socket.MSG_WAITALL)
    if head[:1] != b"\x02":
        sys.exit(f"not accepted: {head!r}")
    sock.recv(int.from_bytes(head[2:]), socket.MSG_WAITALL)
    return sock


if __name__ == "__main__":
    exchange = Exchange.requestor(calling="HOLDER", called="ANY-SCP", contexts=dn.contexts.verification())
    request = b"".join(exchange.outgoing())
    held = [hold(int(sys.argv[1]), request) for _ in range(int(sys.argv[2]))]
    print("held", flush=True)
    sys.stdin.read()
