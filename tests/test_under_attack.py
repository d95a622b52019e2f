"""What a hostile or dying peer costs: nothing that lasts (reliability goals G6, G7 and G13)."""

from __future__ import annotations

import gc
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from faces import USERS, provider
from rig import until
from test_memory_bound import AIO_PROVIDER

import dicomnet as dn
from dicomnet import uids
from dicomnet._pdu import Abort
from dicomnet.files.instance_source import BytesSource
from dicomnet.protocol.exchange import Exchange
from dicomnet.protocol.messages import CommandField
from dicomnet.protocol.negotiation import AcceptancePolicy, ProposedContext

CONTEXTS = [ProposedContext(uids.CT_IMAGE_STORAGE, (uids.EXPLICIT_VR_LITTLE_ENDIAN,))]
POLICY = AcceptancePolicy(abstract_syntaxes={uids.CT_IMAGE_STORAGE: ()}, max_pdu=300)  # several fragments
DATA = bytes(range(256)) * 3
GROWTH = 2 << 20  # bytes that the allocator may keep for the next threads
ROUNDS = 3  # it does not do so for ever
TIMEOUTS = dn.Timeouts(artim=2, progress=2, idle=5, associate=2, response=2, release=2, write=2)
PATIENCE = 10.0


def store_session() -> tuple[bytes, bytes, bytes, bytes]:
    """The bytes of a C-STORE: ours before and after the answer to the association, the peer's two answers."""
    user = Exchange.requestor(calling="USER", called="STORE", contexts=CONTEXTS)
    provider = Exchange.acceptor()
    opening = b"".join(user.outgoing())
    provider.receive(opening)
    provider.events()
    provider.evaluate(POLICY)
    accept = b"".join(provider.outgoing())
    user.receive(accept)
    user.events()
    user.request(
        user.context_for(uids.CT_IMAGE_STORAGE),
        CommandField.C_STORE_RQ,
        DATA,
        affected_sop_class_uid=uids.CT_IMAGE_STORAGE,
        affected_sop_instance_uid="1.2.3",
        priority=0,
    )
    message = bytearray()
    while buffers := user.outgoing():
        message += b"".join(buffers)
    provider.receive(message)
    (received,) = provider.events()
    provider.respond(received.message, 0)
    response = b"".join(provider.outgoing())
    user.release()
    return opening, accept, bytes(message) + b"".join(user.outgoing()), response


def end(sock: socket.socket, how: str) -> None:
    """Leave, in one of the three ways in which peers leave."""
    if how == "abort":
        sock.send(Abort(0, 0).encode())
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def read_exactly(sock: socket.socket, size: int) -> None:
    while size:
        size -= len(sock.recv(size)) or pytest.fail("the peer closed early")


def descriptors() -> set[str]:
    """What is open: sockets by their inode, so that one that came is told from one that went."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the listing's own
            found.add(os.readlink(f"/proc/self/fd/{name}"))
    return found


def echo(port: int) -> None:
    with dn.connect(f"STORE@127.0.0.1:{port}", contexts=dn.contexts.verification()) as peer:
        assert peer.echo().is_success


@pytest.fixture(params=["sync", "aio"])
def keeper(request, tmp_path):
    """A provider that stores files."""

    def configure(listener):
        @listener.on_store(spool=str(tmp_path))
        def keep(request):
            request.file.commit(str(tmp_path / f"{request.sop_instance_uid}.dcm"))

    with provider(request.param, configure, "STORE", timeouts=TIMEOUTS) as serving:
        echo(serving.port)  # it serves now, and has opened what it needs
        yield serving


def back_to_base(sweep, cuts: range) -> None:
    """Leave at each of these cuts: descriptors, threads, objects and memory are what they were after some."""
    for cut in cuts[::3]:
        sweep(cut)  # what is loaded, and kept for reuse, at the first of each kind
    threads, base = threading.active_count(), descriptors()
    for _ in range(ROUNDS):
        objects, memory = held()
        for cut in cuts:
            sweep(cut)
        until(lambda: threading.active_count() <= threads, threading.enumerate)
        until(lambda: descriptors() <= base, lambda: descriptors() - base)
        more = held()
        if more[0] - objects < len(cuts) / 2 and more[1] - memory < GROWTH:
            return
    pytest.fail(f"something is left each time: {more[0] - objects} objects, {more[1] - memory} bytes")


def held() -> tuple[int, int]:
    """Python's objects, and the bytes that this process has."""
    gc.collect()
    return len(gc.get_objects()), resident(os.getpid())


@pytest.mark.long
@pytest.mark.measures
@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
@pytest.mark.deadline(300)
@pytest.mark.parametrize("how", ["fin", "reset", "abort"])
def test_a_user_that_leaves_at_any_byte_leaves_nothing_behind(keeper, tmp_path, how):
    opening, accept, message, _ = store_session()

    def sweep(cut: int) -> None:
        with closing(socket.create_connection(("127.0.0.1", keeper.port), PATIENCE)) as sock:
            sock.sendall(opening[:cut])
            if cut > len(opening):
                read_exactly(sock, len(accept))
                sock.sendall(message[: cut - len(opening)])
            end(sock, how)

    back_to_base(sweep, range(len(opening) + len(message)))
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]
    for whole in tmp_path.glob("*.dcm"):
        assert whole.read_bytes().endswith(DATA)
    echo(keeper.port)


@contextmanager
def dying_provider(answers: bytes, how: str, opening: int):
    """Answers with these bytes as soon as the association is requested, and leaves."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def serve() -> None:
            sock, _ = listening.accept()
            with closing(sock):
                sock.settimeout(PATIENCE)
                read_exactly(sock, opening)
                sock.sendall(answers)
                end(sock, how)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"STORE@127.0.0.1:{listening.getsockname()[1]}"
        finally:
            thread.join(PATIENCE)


@pytest.mark.long
@pytest.mark.measures
@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
@pytest.mark.deadline(300)
@pytest.mark.parametrize("face", USERS)
@pytest.mark.parametrize("how", ["fin", "reset", "abort"])
def test_a_provider_that_leaves_at_any_byte_is_an_error_and_leaves_nothing_behind(face, how):
    opening, accept, _, response = store_session()
    answers = accept + response
    instance = small_instance()

    def sweep(cut: int) -> None:
        with dying_provider(answers[:cut], how, len(opening)) as address:  # noqa: SIM117
            with pytest.raises((dn.AssociationError, dn.ConnectionFailed, dn.RemoteProtocolError)):
                store_on(address, instance, face)

    # An A-ABORT sent amid the last bytes would stand in for them, and make the response whole.
    back_to_base(sweep, range(len(answers) - (len(Abort(0, 0).encode()) if how == "abort" else 0)))


def store_on(address: str, instance: BytesSource, face: str) -> None:
    with USERS[face](address, calling="USER", contexts=CONTEXTS, timeouts=TIMEOUTS) as peer:
        peer.store(instance)


def small_instance() -> BytesSource:
    element = b"\x08\x00\x16\x00UI\x1a\x00" + uids.CT_IMAGE_STORAGE.encode() + b"\0" * (26 - len(uids.CT_IMAGE_STORAGE))
    element += b"\x08\x00\x18\x00UI\x06\x001.2.3\0"
    return BytesSource(element, uids.EXPLICIT_VR_LITTLE_ENDIAN)


# ---- a provider in a process of its own ---------------------------------------------------------------------------


@contextmanager
def receiving_process(face: str):
    """``dicomnet recv``, or the same over asyncio; its port."""
    command = ["-m", "dicomnet", "recv", "127.0.0.1:0", "--discard"] if face == "sync" else ["-c", AIO_PROVIDER]
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline().rpartition(":")[2])
        finally:
            process.terminate()
            process.wait(PATIENCE)


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


# Seconds of an echo beside a flood, but for one of ten: a machine that is busy elsewhere may hold up any.
LONGEST_ECHO = 1.0 * float(os.environ.get("DICOMNET_PATIENCE", "1"))


def slow_and_slowest(taken: list[float]) -> tuple[float, float]:
    """What nine of ten take at most, and all."""
    taken.sort()
    return taken[len(taken) * 9 // 10], taken[-1]


JUNK_SECONDS = float(os.environ.get("DICOMNET_JUNK_SECONDS", "3"))


@pytest.mark.measures
@pytest.mark.deadline(90)
@pytest.mark.skipif(sys.platform != "linux", reason="wants a whole network of loopback addresses")
@pytest.mark.parametrize("face", ["sync", "aio"])
def test_a_good_peer_is_served_while_others_send_junk(face):
    opening = store_session()[0]
    openings = (b"", b"\x01\x00", opening[:60], b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01")
    stop = threading.Event()
    sent = [0]

    def flood(number: int, port: int) -> None:
        held = []
        while not stop.wait(0.01):  # some hundred a second in all: a flood, and not this machine's limit
            sock = socket.socket()
            sock.bind((f"127.0.1.{number % 60 + 1}", 0))
            try:
                sock.connect(("127.0.0.1", port))
                sock.sendall(openings[sent[0] % len(openings)])
            except OSError:
                sock.close()
                continue
            sent[0] += 1
            held.append(sock)
            if len(held) > 50:
                held.pop(0).close()
        for sock in held:
            sock.close()

    with receiving_process(face) as port:
        flooders = [threading.Thread(target=flood, args=(number, port)) for number in range(4)]
        for thread in flooders:
            thread.start()
        taken: list[float] = []
        deadline = time.monotonic() + JUNK_SECONDS
        try:
            while time.monotonic() < deadline:
                start = time.monotonic()
                echo(port)
                taken.append(time.monotonic() - start)
        finally:
            stop.set()
            for thread in flooders:
                thread.join(PATIENCE)
    slow, slowest = slow_and_slowest(taken)
    print(f"{len(taken)} echoes beside {sent[0]} junk connections: {slow:.2f}, {slowest:.2f} s")
    assert slow < LONGEST_ECHO
    assert slowest < PATIENCE
