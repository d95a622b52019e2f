"""A server under a service manager: sockets that are passed by name, and what it is told, as systemd does it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import programs
import pytest
from servers import write_settings

import dicomnet as dn
from dicomnet.server import notify
from dicomnet.server.watchdog import Watchdog

#: Puts the descriptors in its arguments where a service manager passes them, and becomes the server.
BECOME = """
import os, sys
directory, *descriptors = sys.argv[1:]
for place, one in enumerate(descriptors):
    os.dup2(int(one), 3 + place)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "dicomnet", "server", "run", directory])
"""


@pytest.fixture
def told(tmp_path):
    """Where the service manager listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(30)
        yield sock


@contextmanager
def managed(directory, told, sockets, **environment):
    environment = {
        **os.environ, "NOTIFY_SOCKET": told.getsockname(), "LISTEN_FDS": str(len(sockets)),
        "LISTEN_FDNAMES": ":".join(sockets), **environment,
    }  # fmt: skip
    # Beyond those that it passes: a descriptor must not be put where one stands that is still to be passed.
    high = [os.dup(os.dup(os.dup(os.dup(one.fileno())))) for one in sockets.values()]
    command = [sys.executable, "-c", BECOME, str(directory), *map(str, high)]
    process = subprocess.Popen(
        command, env=environment, pass_fds=high, cwd=programs.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(told, word):
    while word not in (lines := told.recv(4096).decode().splitlines()):
        pass
    return lines


@pytest.mark.long
def test_sockets_are_passed_by_name_and_the_manager_is_told(tmp_path, told):
    write_settings(tmp_path / "s", "[web]\nport = 0\n")
    with socket.create_server(("127.0.0.1", 0)) as plain, socket.create_server(("127.0.0.1", 0)) as web:
        sockets = {"web": web, "plain": plain}
        with managed(tmp_path / "s", told, sockets, WATCHDOG_USEC="400000") as process:
            ready = wait_for(told, "READY=1")
            assert f"127.0.0.1:{plain.getsockname()[1]}" in ready[1]
            assert f"127.0.0.1:{web.getsockname()[1]}" in ready[1]
            with dn.client.Client(f"SERVER@127.0.0.1:{plain.getsockname()[1]}") as client:
                assert client.echo().is_success
            wait_for(told, "WATCHDOG=1")
            wait_for(told, "WATCHDOG=1")
            process.send_signal(signal.SIGHUP)
            wait_for(told, "RELOADING=1")
            wait_for(told, "READY=1")
            process.send_signal(signal.SIGTERM)
            wait_for(told, "STOPPING=1")
            assert process.wait(30) == 0


@pytest.mark.long
def test_a_socket_without_a_meaning_is_refused_in_one_line(tmp_path, told):
    write_settings(tmp_path / "s")
    with socket.create_server(("127.0.0.1", 0)) as one, managed(tmp_path / "s", told, {"dicom.socket": one}) as process:
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 2
    assert stderr.decode().splitlines()[0].startswith('error: a socket is passed by the name "dicom.socket"')


def test_sockets_for_another_process_are_none_of_ours(monkeypatch):
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    assert notify.inherited() == {}
    assert "LISTEN_FDS" not in os.environ  # nor of a program that we start


def test_the_watchdog_is_silent_while_the_loop_is_blocked():
    blocked, alive, looked = threading.Event(), threading.Event(), threading.Semaphore(0)

    class Loop:
        ident = None

        def loop(self):
            return self

        def call_soon_threadsafe(self, function):
            if not blocked.is_set():
                function()

    blocked.set()
    watchdog = Watchdog(Loop(), looked.release, alive.set)
    watchdog.start()
    try:
        for _ in range(3):  # handlers are looked after all the same
            assert looked.acquire(timeout=20)
        assert watchdog.blocked == 1
        assert not alive.is_set()
    finally:
        watchdog.stop()
