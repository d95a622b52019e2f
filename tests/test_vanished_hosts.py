"""Peers whose host is gone without a word: what the system is asked to watch, and that it frees what they held."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import faces
import pytest

import dicomnet as dn
from dicomnet.aio.transport import Transport as AioTransport
from dicomnet.net.sockets import gone, prepare, watch_host
from dicomnet.sync import acceptor
from dicomnet.sync.transport import Transport

ON_LINUX = sys.platform == "linux"
TIMEOUTS = dn.Timeouts(keepalive=9, acknowledge=2.5)
WATCHED = {"TCP_KEEPIDLE": 9, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": 2500}


def options(sock: socket.socket) -> dict[str, int]:
    """What the system watches on a socket."""
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        return {}
    return {name: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in WATCHED}


def user_socket(association: Any) -> socket.socket:
    transport = association._requestor.driver.transport
    return transport._sock if isinstance(transport, Transport) else transport._internet


@pytest.mark.skipif(not ON_LINUX, reason="other systems have other options")
@pytest.mark.parametrize("face", faces.FACES)
@pytest.mark.parametrize("user", faces.FACES)
def test_both_roles_watch_the_host_of_the_other(face: str, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    watched: list[dict[str, int]] = []

    def record(kind: type, name: str) -> None:
        function = getattr(kind, name)

        def recorded(self: Any, *arguments: Any) -> Any:
            result = function(self, *arguments)
            watched.append(options(self._sock if isinstance(self, Transport) else self._internet))
            return result

        monkeypatch.setattr(kind, name, recorded)

    def prepared(sock: socket.socket, timeouts: dn.Timeouts) -> None:
        prepare(sock, timeouts)
        watched.append(options(sock))

    monkeypatch.setattr(acceptor, "prepare", prepared)
    record(Transport, "__init__")
    record(AioTransport, "connection_made")
    with (
        faces.provider(face, timeouts=TIMEOUTS) as provider,
        faces.USERS[user](provider.peer(), timeouts=TIMEOUTS) as one,
    ):
        assert one.echo().is_success
    assert watched == [WATCHED, WATCHED]


@pytest.mark.skipif(not ON_LINUX, reason="other systems have other options")
def test_the_watch_can_be_left_to_the_system() -> None:
    with socket.socket() as sock, socket.socket() as plain:
        watch_host(sock, dn.Timeouts(keepalive=None, acknowledge=None))
        assert options(sock) == options(plain)
        watch_host(sock, dn.Timeouts(keepalive=0.1, acknowledge=0.0001))
        assert options(sock) == {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": 1}


def test_the_defaults_bound_an_idle_host_by_two_minutes() -> None:
    assert dn.Timeouts().keepalive == 60
    assert dn.Timeouts().acknowledge == 60
    with pytest.raises(dn.InvalidArgument):
        dn.Timeouts(keepalive=0)


def test_what_a_vanished_host_is_called() -> None:
    error = gone(TimeoutError(110, "Connection timed out"))
    assert isinstance(error, dn.ConnectionFailed)
    assert error.hint
    assert gone(ConnectionResetError(104, "Connection reset by peer")) is None


VANISH = """
import subprocess, sys, threading

sys.path.insert(0, "tests")
import dicomnet as dn
import faces
from dicomnet.protocol.states import State
from dicomnet.protocol.seen import TransitionSeen
from dicomnet.protocol.trace import ProtocolTrace

face, role = sys.argv[1:]
run = lambda *words: subprocess.run(words, check=True)
run("ip", "link", "set", "lo", "up")
over = threading.Event()

def look(seen):
    if isinstance(seen, TransitionSeen) and seen.after is State.STA1_IDLE:
        over.set()

quick = dn.Timeouts(keepalive=1, acknowledge=2, idle=None, response=None, write=None)
if role == "provider":
    with faces.provider(face, timeouts=quick, tap=ProtocolTrace(look), drain=0.1) as provider, provider.raw() as raw:
        raw.associate()
        run("ip", "link", "set", "lo", "down")
        print("freed" if over.wait(20) else "held")
else:
    with faces.raw_provider(lambda raw: (raw.accept(), ready.wait(20))) as script:
        ready = threading.Event()
        user = faces.USERS[face](script.peer, timeouts=quick)
        run("ip", "link", "set", "lo", "down")
        try:
            user.echo()
        except dn.ConnectionFailed as error:
            print("freed", error)
        ready.set()
"""


def may_unshare() -> bool:
    """Whether a network of our own can be had, to pull its plug."""
    try:
        command = ["unshare", "--net", "ip", "link", "set", "lo", "up"]
        return subprocess.run(command, capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.mark.skipif(not may_unshare(), reason="needs a network namespace")
@pytest.mark.parametrize("role", ["provider", "user"])
@pytest.mark.parametrize("face", faces.FACES)
def test_a_vanished_host_holds_nothing_for_long(face: str, role: str) -> None:
    command = ["unshare", "--net", sys.executable, "-c", VANISH, face, role]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=50, cwd=Path(__file__).parent.parent, check=False
    )
    assert done.stdout.startswith("freed"), done.stderr
    if role == "user":
        assert "does not answer any more" in done.stdout
