"""Many associations by bare sockets, which cost next to nothing: ``load.py echo|find PORT COUNT``.

Prints "ready" when they stand, and obeys lines. ``echo``: a number is for how many seconds each of them sends a C-ECHO
as soon as the last one is answered; the answer is how many there were, and the median and the 99th percentile of their
times in ms. ``find``: each has a C-FIND under way; "cancel" cancels the next of them, and the answer is in how many ms
the final response came; anything else is answered with the number of bytes that came since.
"""

import os
import select
import socket
import sys
import time

import dicomnet as dn
from dicomnet import uids
from dicomnet.protocol.exchange import Exchange
from dicomnet.wire.command_set import Command, frame

MODEL = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
LEVEL = b"\x08\x00\x52\x00\x06\x00\x00\x00STUDY "  # an identifier, in implicit VR little endian
C_FIND, C_ECHO, C_CANCEL, DATA, NO_DATA = 0x0020, 0x0030, 0x0FFF, 0x0001, 0x0101
FINAL = b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\xfe"  # a status element of a response: cancelled (0xFE00)


def pdus(command: Command, data: bytes = b"") -> bytes:
    """A message in presentation context 1."""
    parts = frame(1, command.encode(), 16000, True, True)
    return b"".join(parts + (frame(1, data, 16000, False, True) if data else []))


def associated(port: int, request: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(request)
    head = sock.recv(6, socket.MSG_WAITALL)
    if head[:1] != b"\x02":
        sys.exit(f"not accepted: {head!r}")
    sock.recv(int.from_bytes(head[2:]), socket.MSG_WAITALL)
    return sock


def echo(socks: dict[int, socket.socket], seconds: float) -> str:
    """How many echoes, the median and the 99th percentile of their times in ms; what is under way then is awaited."""
    poll, times, sent = select.epoll(), [], {}
    message = pdus(Command(command_field=C_ECHO, message_id=1, affected_sop_class_uid=uids.VERIFICATION,
                           command_data_set_type=NO_DATA))  # fmt: skip
    for number, sock in socks.items():
        poll.register(number, select.EPOLLIN)
        sent[number] = time.perf_counter()
        sock.send(message)
    end = time.perf_counter() + seconds
    while sent:
        for number, _ in poll.poll():
            socks[number].recv(65536)
            now = time.perf_counter()
            times.append(now - sent.pop(number))
            if now < end:
                sent[number] = now
                socks[number].send(message)
    times.sort()
    poll.close()
    return f"{len(times)} {times[len(times) // 2] * 1e3:.3f} {times[len(times) * 99 // 100] * 1e3:.3f}"


def find(socks: dict[int, socket.socket]) -> None:
    """Have C-FINDs under way, and obey."""
    message = pdus(Command(command_field=C_FIND, message_id=1, affected_sop_class_uid=MODEL, priority=0,
                           command_data_set_type=DATA), LEVEL)  # fmt: skip
    cancel = pdus(Command(command_field=C_CANCEL, message_id_being_responded_to=1, command_data_set_type=NO_DATA))
    poll, came, waiting = select.epoll(), 0, list(socks)
    poll.register(0, select.EPOLLIN)
    for number, sock in socks.items():
        sock.send(message)
        poll.register(number, select.EPOLLIN)
    print("ready", flush=True)
    cancelled, since = -1, 0.0
    while True:
        for number, _ in poll.poll():
            if number:
                data = socks[number].recv(65536)
                came += len(data)
                if number == cancelled and FINAL in data:
                    print(f"{(time.perf_counter() - since) * 1e3:.1f}", flush=True)
                continue
            line = os.read(0, 100)
            if not line:
                return
            if line == b"cancel\n":
                cancelled, since = waiting.pop(), time.perf_counter()
                socks[cancelled].send(cancel)
            else:
                print(came, flush=True)
                came = 0


if __name__ == "__main__":
    kind, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    contexts = dn.contexts.verification() if kind == "echo" else [dn.ProposedContext(MODEL, ["1.2.840.10008.1.2"])]
    exchange = Exchange.requestor(calling="LOAD", called="ANY-SCP", contexts=contexts)
    request = b"".join(exchange.outgoing())
    held = {sock.fileno(): sock for sock in [associated(port, request) for _ in range(count)]}
    if kind == "find":
        find(held)
    else:
        print("ready", flush=True)
        for line in sys.stdin:
            print(echo(held, float(line)), flush=True)
