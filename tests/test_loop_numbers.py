"""One loop for a provider, by numbers: what many callers, idle and refused ones and few descriptors cost it (G4)."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import programs
import pytest
from faces import PATIENCE, SYNTAX, RawUser, echo_request, instance
from test_under_attack import LONGEST_ECHO, resident, slow_and_slowest

import dicomnet as dn
from dicomnet import uids
from dicomnet._pdu import AssociateRJ, AssociateRQ, MaximumLength, PresentationContextRQ

pytestmark = [
    pytest.mark.long,
    pytest.mark.deadline(180),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]
ECHO = dn.contexts.verification()
IDLE = 2000
MOST_FOR_IDLE = 150 << 10  # bytes of an idle association, goal G4
TICKS = os.sysconf("SC_CLK_TCK")

FACES = pytest.mark.parametrize("face", ["sync", "aio"])

SERVER = """
import asyncio, sys, dicomnet as dn
wide = dn.Limits(associations=4000, pending=4000, pending_per_host=4000)
limits = dn.Limits() if sys.argv[2] == "usual" else wide
options = {"port": 0, "limits": limits, "timeouts": dn.Timeouts(idle=None, keepalive=None)}
def told(listener):
    listener.on_store()(lambda request: None)
    print("listening on %s:%d" % listener.address, flush=True)
def serve():
    listener = dn.Listener("OURS", **options)
    listener.open()
    told(listener)
    listener.serve_forever()
async def serve_asynchronously():
    listener = dn.aio.Listener("OURS", **options)
    await listener.open()
    told(listener)
    await listener.serve_forever()
asyncio.run(serve_asynchronously()) if sys.argv[1] == "aio" else serve()
"""


@contextmanager
def server(face: str, limits: str = "wide", **options: Any) -> Iterator[tuple[int, int]]:
    """A listener in a process of its own: its process and its port."""
    command = [sys.executable, "-c", SERVER, face, limits]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options) as process:
        assert process.stdout is not None
        try:
            yield process.pid, int(process.stdout.readline().rpartition(":")[2])
        finally:
            process.terminate()
            process.wait(PATIENCE)


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@contextmanager
def many_descriptors() -> Iterator[None]:
    """This process holds the other end of all connections."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def processor(pid: int) -> float:
    """Seconds of processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def raw(port: int) -> RawUser:
    return RawUser(socket.create_connection(("127.0.0.1", port), PATIENCE))


def request(called: str) -> AssociateRQ:
    """A request for an association to this title."""
    contexts = (PresentationContextRQ(1, uids.VERIFICATION, (SYNTAX,)),)
    return AssociateRQ(called, "RAW", contexts, (MaximumLength(0),))


DESCRIPTORS = 300


@pytest.mark.measures
@FACES
def test_refused_callers_leave_no_thread_and_delay_no_good_peer(face):
    """3,000 callers are refused and do not hang up: who lingers is closed by the provider, within its limits."""
    taken: list[float] = []
    begun, stop = threading.Event(), threading.Event()

    def echo_all_the_time(address: str) -> None:
        with dn.connect(address, contexts=ECHO) as association:
            while not stop.wait(0.002):
                began = time.monotonic()
                assert association.echo() == 0
                taken.append(time.monotonic() - began)
                begun.set()

    with many_descriptors(), server(face, "usual") as (pid, port), ThreadPoolExecutor(1) as pool:
        good, held = pool.submit(echo_all_the_time, f"OURS@127.0.0.1:{port}"), []
        try:
            assert begun.wait(PATIENCE)
            before, most, open_files = threads(pid), 0, 0
            for _ in range(3000):
                user = raw(port)
                held.append(user)
                user.send(request("NOT-OURS"))
                assert isinstance(user.read(), AssociateRJ)
                most = max(most, threads(pid))
                open_files = max(open_files, descriptors(pid))
        finally:
            stop.set()
            for user in held:
                user.sock.close()
            good.result(PATIENCE)  # it was not thrown out either
    slow, slowest = slow_and_slowest(taken)
    print(f"{most} threads of {before}, {open_files} descriptors, {len(taken)} echoes: {slow:.3f}, {slowest:.3f} s")
    assert most <= before
    assert open_files <= DESCRIPTORS
    assert slow < LONGEST_ECHO
    assert slowest < PATIENCE


@FACES
def test_idle_associations_cost_little_memory_and_no_processor(face):
    with server(face) as (pid, port):
        associations = []
        try:
            for number in range(IDLE + 50):
                associations.append(raw(port))
                associations[-1].send(request("OURS"))
                associations[-1].read()
                if number == 49:  # the first ones bring what is there for all
                    before = resident(pid)
            each = (resident(pid) - before) / IDLE
            had = processor(pid)
            threading.Event().wait(2)  # what is measured: nothing happens
            spent = processor(pid) - had
            assert associations[0].echo().status == associations[-1].echo().status == 0
        finally:
            for association in associations:
                association.sock.close()
    print(f"{each / 1024:.1f} KiB for each idle association, {spent:.2f} s of processor time in 2 s")
    assert each < MOST_FOR_IDLE
    assert spent <= 0.02


@FACES
def test_of_64_that_store_none_starves(face):
    """The slowest has a quarter of what they have on average."""
    stored = [0] * 64

    async def store(number: int, address: str, end: asyncio.Event) -> None:
        async with await dn.aio.connect(address, contexts=dn.contexts.storage([uids.CT_IMAGE_STORAGE])) as association:
            while not end.is_set():
                assert (await association.store(instance(20_000))).status == 0
                stored[number] += 1

    async def main(port: int) -> None:
        end = asyncio.Event()
        asyncio.get_running_loop().call_later(3, end.set)
        await asyncio.gather(*(store(number, f"OURS@127.0.0.1:{port}", end) for number in range(64)))

    with server(face) as (_, port):
        asyncio.run(main(port))
    assert min(stored) >= sum(stored) / 64 / 4


DRIPPING = 50  # peers, each of which sends a byte a second, or reads nothing
ECHOES, ROUNDS = 300, 5
SLOWER = 1.10  # by so much may the 99th percentile of others rise, goal of G11; a shared machine gets three times that


def p99_of(association: dn.Association) -> float:
    """Seconds that 99 of a hundred echoes take at most."""
    taken = []
    for _ in range(ECHOES):
        began = time.perf_counter()
        assert association.echo() == 0
        taken.append(time.perf_counter() - began)
    return sorted(taken)[ECHOES * 99 // 100]


def slow_peers(port: int) -> list[tuple[RawUser, bytearray]]:
    """In a header, in an item, within a message, each with what it is still to send; and some that read no answer."""
    asked, peers = request("OURS").encode(), []
    for number in range(DRIPPING):
        peer, rest = raw(port), bytearray()
        if number % 4 < 2:
            begun = (3, 60)[number % 4]
            peer.send(asked[:begun])
            rest += asked[begun:]
        else:
            peer.send(asked)
            peer.read()
            peer.send(echo_request()[:20] if number % 4 == 2 else echo_request() * 1000)
            rest += echo_request()[20:] if number % 4 == 2 else b""
        peers.append((peer, rest))
    return peers


@pytest.mark.measures
@FACES
def test_slow_peers_delay_no_other(face):
    """The goal of G11, by rounds with and without bytes that drip in, one after the other."""
    with (
        server(face, "usual") as (_, port),
        dn.connect(f"OURS@127.0.0.1:{port}", contexts=ECHO) as good,
        ThreadPoolExecutor(1) as pool,
    ):
        alone = [p99_of(good) for _ in range(ROUNDS)]
        slow, stop = slow_peers(port), threading.Event()

        def drip() -> None:
            for peer, rest in itertools.cycle(slow):
                if stop.wait(1 / DRIPPING):
                    break
                peer.send(bytes(rest[:1]))
                del rest[:1]

        dripping = pool.submit(drip)
        try:
            beside = [p99_of(good) for _ in range(ROUNDS)]
        finally:
            stop.set()
            for peer, _ in slow:
                peer.sock.close()
            dripping.result(PATIENCE)  # none of them was closed meanwhile
    ratio = min(beside) / min(alone)
    print(f"99th percentile {min(alone) * 1e3:.3f} ms alone, {min(beside) * 1e3:.3f} ms beside {DRIPPING} slow peers")
    assert ratio < 3 * SLOWER


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


@FACES
def test_few_descriptors_end_no_listener(face):
    with server(face, "usual", preexec_fn=few_descriptors) as (pid, port):
        for _ in range(3):
            junk = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(300)]
            with dn.connect(f"OURS@127.0.0.1:{port}", contexts=ECHO) as association:
                assert association.echo() == 0
            assert descriptors(pid) <= 64
            for sock in junk:
                sock.close()
            with dn.connect(f"OURS@127.0.0.1:{port}", contexts=ECHO) as association:
                assert association.echo() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_few_descriptors_stop_no_good_peer(workers, tmp_path):
    options = ("--out", tmp_path, "--workers", workers, "--max-associations", 500)
    with programs.provider(*options, preexec_fn=few_descriptors) as recv:
        junk = [socket.create_connection((recv.host, recv.port), PATIENCE) for _ in range(300)]
        try:
            for _ in range(20):
                with dn.connect(recv.address, contexts=ECHO) as association:
                    assert association.echo() == 0
        finally:
            for sock in junk:
                sock.close()
        with dn.connect(recv.address, contexts=ECHO) as association:
            assert association.echo() == 0
        recv.stop()
        assert recv.process.returncode == 0
        said = recv.errors
    assert "Traceback" not in said
    assert said.count("cannot accept a connection") <= 1
