"""Listeners of both faces, in a process that has few descriptors."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
from faces import PATIENCE, RawUser, store_request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sets a limit of the system")

SERVER = """
import asyncio, resource, signal, sys, threading, dicomnet as dn
spool, face, descriptors = sys.argv[1:]
few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
if descriptors == "few":
    few()
listener = {"sync": dn.Listener, "aio": dn.aio.Listener}[face](port=0)
stopped = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopped.set())
@listener.on_store(spool=spool, inline=True)
def keep(request):
    request.file.commit(spool + "/kept")
def begin():
    few()  # later than the listener looked, the process has opened others
    print("listening on %s:%d" % listener.address, flush=True)
async def serve():
    async with listener:
        begin()
        await asyncio.to_thread(stopped.wait)
if face == "aio":
    asyncio.run(serve())
else:
    with listener:
        listener.call_soon_threadsafe(begin)  # once it serves
        stopped.wait()
"""


class FewDescriptors:
    """A listener in a process of its own, which has 64 descriptors, and 200 connections that say nothing."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-c", SERVER, *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said = ""

    def __enter__(self) -> FewDescriptors:
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rpartition(":")[2])
        self.silent = [self.connect() for _ in range(200)]
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self.silent:
            sock.close()
        self.process.terminate()
        _, self.said = self.process.communicate(timeout=PATIENCE)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)


@pytest.mark.parametrize("face", ["sync", "aio"])
def test_of_few_descriptors_a_listener_keeps_some_for_what_is_stored(face, tmp_path):
    with FewDescriptors(str(tmp_path), face, "few") as server:
        for sock in server.silent[170:]:
            with RawUser(sock) as raw:
                raw.associate()
                assert raw.echo().status == 0
                raw.send(store_request(bytes(100)))
                assert raw.read_command().status == 0
        for sock in server.silent[:170]:
            sock.close()
        with RawUser(server.connect()) as raw:
            raw.associate()
            raw.send(store_request(bytes(100)))
            assert raw.read_command().status == 0
    assert server.said == ""


@pytest.mark.parametrize("face", ["sync", "aio"])
def test_out_of_descriptors_a_listener_makes_room_and_says_so_once(face, tmp_path):
    """Who says nothing gives way, as soon as there is another; the last of many in the backlog is served."""
    with FewDescriptors(str(tmp_path), face, "many") as server:
        for sock in server.silent[190:]:
            with RawUser(sock) as raw:
                raw.associate()
                assert raw.echo().status == 0
    assert "Traceback" not in server.said
    assert server.said.count("cannot accept a connection") == 1, server.said
    assert server.process.returncode == 0
