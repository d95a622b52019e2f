"""The bound: what the loopback socket itself can do. One process sends files, one receives and writes them.

Per file: 8 bytes of length, the whole file by sendfile; back comes one byte when the file is written and closed, as a
C-STORE waits for its response.

    raw_socket.py receive DIRECTORY         prints "listening on HOST:PORT"
    raw_socket.py send PORT DIRECTORY       prints the seconds from the first byte to the last answer
"""

import os
import socket
import sys
import time

BUFFER = 1 << 20


def receive(directory: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    buffer = memoryview(bytearray(BUFFER))
    while True:
        peer = listener.accept()[0]
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        count = 0
        with peer:
            while receive_file(peer, f"{directory}/{count:05d}", buffer):
                count += 1


def receive_file(peer: socket.socket, path: str, buffer: memoryview) -> bool:
    """Take one file and answer; False where the sender is done."""
    head = peer.recv(8, socket.MSG_WAITALL)
    if not head:
        return False
    left = int.from_bytes(head, "big")
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    while left:
        got = peer.recv_into(buffer, min(left, len(buffer)))
        if not got:
            raise EOFError(path)
        left -= os.write(file, buffer[:got])
    os.close(file)
    peer.sendall(b"\0")
    return True


def send(port: int, directory: str) -> None:
    names = sorted(os.listdir(directory))
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        started = time.perf_counter()
        for name in names:
            send_file(peer, f"{directory}/{name}")
        print(time.perf_counter() - started)


def send_file(peer: socket.socket, path: str) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    left = os.fstat(file).st_size
    peer.send(left.to_bytes(8, "big"), socket.MSG_MORE)
    while left:
        left -= os.sendfile(peer.fileno(), file, None, left)
    os.close(file)
    if peer.recv(1) != b"\0":
        raise EOFError(path)


if __name__ == "__main__":
    if sys.argv[1] == "receive":
        receive(sys.argv[2])
    else:
        send(int(sys.argv[2]), sys.argv[3])
