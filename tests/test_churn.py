"""Associations of every ending, many and 64 at a time: what a provider holds afterwards is what it held before.

Rows T-CONC, T-LIFE, T-CHURN and T-FD of docs/reliability.md. ``DICOMNET_CHURN=100000`` makes it the number named there.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from faces import RawUser, echo_request, provider, store_request
from rig import until
from test_memory_bound import Child

from dicomnet._pdu import Abort, ReleaseRQ

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks at what a process holds in /proc"),
    pytest.mark.deadline(600),
]

CHURN = int(os.environ.get("DICOMNET_CHURN", "1500"))
ROUNDS = 4
AT_ONCE = 64
PATIENCE = 60
GROWTH = 2 << 20  # bytes that the allocator may keep for pieces that do not fit
FAILING, REQUEST = "2.25.9", RawUser.REQUEST.encode()

PROVIDER = f"""
import asyncio, logging, sys, dicomnet as dn
face, spool = sys.argv[1:]
logging.disable()
def keep(request):
    if request.sop_instance_uid == "{FAILING}":
        raise RuntimeError("as it happens")
    request.file.discard()
options = dict(port=0, timeouts=dn.Timeouts(artim=1), limits=dn.Limits(associations=200))
def made(kind):
    listener = kind("ANY-SCP", **options)
    listener.on_store(spool=spool)(keep)
    return listener
def say(listener):
    print("listening on %s:%d" % listener.address, flush=True)
async def serve():
    async with made(dn.aio.Listener) as listener:
        say(listener)
        await asyncio.Event().wait()
if face == "aio":
    asyncio.run(serve())
else:
    listener = made(dn.Listener)
    listener.open()
    say(listener)
    listener.serve_forever()
"""


class Caller:
    """One connection of the client's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    async def read(self, kind: int) -> None:
        """A PDU of this type, and nothing else."""
        header = await self.reader.readexactly(6)
        assert header[0] == kind
        await self.reader.readexactly(struct.unpack(">I", header[2:])[0])

    async def closed(self) -> None:
        with suppress(ConnectionError):
            assert await self.reader.read() == b""

    async def associate(self) -> None:
        self.send(REQUEST)
        await self.read(2)

    async def release(self) -> None:
        self.send(ReleaseRQ().encode())
        await self.read(6)

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


STORE = store_request(bytes(5000))


async def released(caller: Caller) -> None:
    await caller.associate()
    caller.send(echo_request())
    await caller.read(4)
    await caller.release()


async def stored(caller: Caller) -> None:
    await caller.associate()
    caller.send(STORE)
    await caller.read(4)
    await caller.release()


async def stored_where_the_handler_raises(caller: Caller) -> None:
    await caller.associate()
    caller.send(STORE.replace(b"2.25.1", FAILING.encode()))
    await caller.read(4)
    await caller.release()


async def aborted(caller: Caller) -> None:
    await caller.associate()
    caller.send(Abort(0, 0).encode())


async def aborted_amid_a_store(caller: Caller) -> None:
    await caller.associate()
    caller.send(STORE[:3000], Abort(0, 0).encode())


async def left(caller: Caller) -> None:
    await caller.associate()


async def left_amid_a_store(caller: Caller) -> None:
    await caller.associate()
    caller.send(STORE[:3000])


async def reset(caller: Caller) -> None:
    await caller.associate()
    caller.send(STORE[:3000])
    await caller.writer.drain()
    caller.reset()


async def rejected(caller: Caller) -> None:
    caller.send(REQUEST.replace(b"ANY-SCP", b"ANOTHER"))
    await caller.read(3)


async def malformed(caller: Caller) -> None:
    caller.send(REQUEST[:100], b"\xff" * (len(REQUEST) - 100))
    await caller.read(7)


async def malformed_later(caller: Caller) -> None:
    await caller.associate()
    caller.send(b"\x04\0\0\0\0\x08\xff\xff\xff\xff\1\3xx")
    await caller.read(7)


async def bare(caller: Caller) -> None:
    pass


async def silent(caller: Caller) -> None:
    await caller.closed()


ENDINGS = (
    *(released, stored, stored_where_the_handler_raises, aborted, aborted_amid_a_store, left, left_amid_a_store),
    *(reset, rejected, malformed, malformed_later, bare),
)


async def churn(port: int, count: int) -> Counter[str]:
    """So many connections, 64 at a time, the endings by turns; some callers say nothing until they are let go."""
    numbers = iter(range(count))
    done: Counter[str] = Counter()

    async def work() -> None:
        for number in numbers:
            ending = silent if number % 97 == 0 else ENDINGS[number % len(ENDINGS)]
            caller = Caller(*await asyncio.open_connection("127.0.0.1", port))
            try:
                await asyncio.wait_for(ending(caller), PATIENCE)
            finally:
                caller.writer.close()
            done[ending.__name__] += 1

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return done


def held(pid: int) -> tuple[int, int]:
    """Descriptors and threads of a process."""
    threads = Path(f"/proc/{pid}/status").read_text().partition("Threads:")[2].split()[0]
    return len(os.listdir(f"/proc/{pid}/fd")), int(threads)


@pytest.mark.measures
@pytest.mark.parametrize("face", ["sync", "aio"])
def test_after_any_number_of_endings_everything_is_back(face, tmp_path):
    with Child("-c", PROVIDER, face, str(tmp_path)) as child:
        port = int(child.line().rpartition(":")[2])
        with RawUser(socket.create_connection(("127.0.0.1", port), PATIENCE)) as first:
            first.associate()
            base = held(child.process.pid)  # it serves now, and has opened what it needs
        for _ in range(ROUNDS):  # the first ones find out how much is needed for 64 at a time
            memory = child.forget_peak()
            done = asyncio.run(churn(port, CHURN))
            assert set(done) == {ending.__name__ for ending in (*ENDINGS, silent)}
            until(
                lambda: all(now <= then for now, then in zip(held(child.process.pid), base, strict=True)),
                lambda: f"{held(child.process.pid)} is not {base}",
            )
            if child.forget_peak() - memory < GROWTH:
                break
        else:
            pytest.fail("its memory grows and grows")
    assert not list(tmp_path.iterdir())


LISTING = """
import os
for fd in os.listdir("/proc/self/fd"):
    if os.path.exists(f"/proc/self/fd/{fd}"):
        print(os.readlink(f"/proc/self/fd/{fd}"))
"""


@pytest.mark.parametrize("face", ["sync", "aio"])
def test_a_child_process_inherits_nothing(face, tmp_path):
    """Not the listener, not a connection, not a file on its way: each descriptor is close-on-exec (PEP 446)."""

    def configure(listener):
        listener.on_store(spool=str(tmp_path))(lambda request: request.file.discard())

    with provider(face, configure) as serving, serving.raw() as raw:
        raw.associate()
        raw.send(store_request(bytes(5000), last=False))
        until(lambda: list(tmp_path.iterdir()), lambda: "no file was begun")
        with serving.raw() as other:
            other.associate()
            listing = [sys.executable, "-c", LISTING]
            ran = subprocess.run(listing, close_fds=False, capture_output=True, text=True, check=True, timeout=PATIENCE)
        ours = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if is_open(fd)}
        assert str(tmp_path) in " ".join(ours)
        assert not [name for name in ran.stdout.split() if name.startswith("socket:") or str(tmp_path) in name]


def is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")
