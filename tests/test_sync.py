"""The blocking face, with users and providers of both faces on the other side."""

from __future__ import annotations

import _thread
import errno
import io
import os
import select
import socket
import sys
import threading
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faces
import pytest
from face_suite import ProviderSuite, UserSuite
from wiring import CT, EXPLICIT, pair, transfer

import dicomnet as dn
from dicomnet._pdu import Abort, AssociateRQ, MaximumLength, UserIdentityRQ
from dicomnet.config import Limits, Timeouts
from dicomnet.files.dataset_sink import DiscardSink
from dicomnet.files.instance_source import FileSource
from dicomnet.files.part10 import meta_header
from dicomnet.protocol.messages import CommandField
from dicomnet.protocol.negotiation import AcceptancePolicy
from dicomnet.sync import requestor
from dicomnet.sync.driver import Driver, Stream
from dicomnet.sync.transport import Transport

FIND = dn.uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND


class TestUser(UserSuite):
    face = "sync"

    def test_each_address_of_a_host_is_tried(self, addresses: list[tuple[str, int]]) -> None:
        with faces.provider("sync") as provider:
            addresses += [nobody(), ("127.0.0.1", provider.port)]
            with dn.connect("many.addresses:104", contexts=dn.contexts.verification()) as association:
                assert association.echo().is_success

    def test_where_no_address_answers_the_first_says_why(self, addresses: list[tuple[str, int]]) -> None:
        addresses += [nobody(), ("127.0.0.1.1", 104)]
        with pytest.raises(dn.ConnectionFailed) as caught:
            dn.connect("many.addresses:104", contexts=dn.contexts.verification())
        assert caught.value.errno == errno.ECONNREFUSED


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What "many.addresses" resolves to; a test fills it in."""
    found: list[tuple[str, int]] = []
    resolve = requestor.socket.getaddrinfo

    def getaddrinfo(host: object, *args: int, **named: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        if host != "many.addresses":
            return resolve(host, *args, **named)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in found]

    monkeypatch.setattr(requestor.socket, "getaddrinfo", getaddrinfo)
    return found


def nobody() -> tuple[str, int]:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return closed.getsockname()


class TestProvider(ProviderSuite):
    face = "sync"

    def test_serve_forever_ends_with_stop(self) -> None:
        listener = dn.Listener(port=0)
        listener.open()
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        with faces.SyncUser(f"127.0.0.1:{listener.address[1]}") as user:
            assert user.echo().is_success
        listener.stop()
        thread.join(faces.PATIENCE)
        assert not thread.is_alive()
        listener.stop()

    def test_a_handler_that_no_thread_can_be_had_for_fails_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        start = threading.Thread.start

        def scarce(thread: threading.Thread) -> None:
            if thread.name == "dicomnet-handler":
                raise RuntimeError("can't start new thread")
            start(thread)

        with faces.provider("sync") as provider, faces.SyncUser(f"127.0.0.1:{provider.port}") as user:
            monkeypatch.setattr(threading.Thread, "start", scarce)
            assert user.store(faces.instance(100)).status == 0x0110
            monkeypatch.undo()
            assert user.store(faces.instance(100)).status.is_success

    def test_an_association_that_cannot_be_answered_is_aborted(self) -> None:
        policy = AcceptancePolicy(identify=lambda *_: bytes(70000))  # too long for its sub-item
        with faces.provider("sync", acceptance=policy) as provider, provider.raw() as raw:
            contexts = raw.REQUEST.presentation_contexts
            identity = UserIdentityRQ(1, b"me", b"", True)
            raw.send(AssociateRQ("ANY-SCP", "RAW", contexts, (MaximumLength(16384), identity)))
            assert raw.read() == Abort(0, 0)


def interrupted_in(method: str, **socket_methods: object) -> Any:
    """A transport that runs no Python and has something to read; Ctrl-C comes when this method of it is called."""
    kind = type("Interrupted", (Stream,), {method: partial(_thread.interrupt_main)})
    return kind(SimpleNamespace(**{"recv_into": None, "sendmsg": None} | socket_methods), str, 16384)


@pytest.fixture
def untraced() -> Iterator[None]:
    """Coverage of Cython, too, is Python that runs meanwhile."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)


def listening() -> Generator[None, Any, Any]:
    while True:
        yield None


def waiting() -> Generator[None, Any, Any]:
    return (yield None)


@pytest.mark.usefixtures("untraced")
def test_ctrl_c_is_heeded_while_data_arrive() -> None:
    user, provider = pair(timeouts=Timeouts(idle=None))
    provider.open_sink = lambda *_: DiscardSink()
    user.request(user.contexts[3], CommandField.C_STORE_RQ, bytes(1 << 20))
    arriving = io.BytesIO()
    while buffers := user.outgoing():
        arriving.writelines(buffers)
    arriving.seek(0)
    driver = Driver(provider, interrupted_in("grow", recv_into=arriving.readinto))
    with pytest.raises(KeyboardInterrupt):
        driver.complete(waiting())
    assert arriving.tell() < 1 << 16


@pytest.mark.usefixtures("untraced")
@pytest.mark.skipif(not hasattr(os, "writev"), reason="needs a sendmsg that is no Python")
def test_ctrl_c_is_heeded_while_data_leave(tmp_path: Path) -> None:
    user, _ = pair()
    file = tmp_path / "large.dcm"
    file.write_bytes(meta_header(CT, "1.2.3", EXPLICIT) + faces.data_of(faces.instance(1 << 20)))
    with open(os.devnull, "wb") as nowhere, FileSource(file, bytearray(4096)) as source:
        driver = Driver(user, interrupted_in("receive", sendmsg=partial(os.writev, nowhere.fileno())))
        user.request(user.contexts[3], CommandField.C_STORE_RQ, source)
        with pytest.raises(KeyboardInterrupt):
            driver.flush()
        assert user.sending


class Full(Stream):
    """A connection with room for 20 bytes at a time, whose thread is asked to cancel again and again while it rests."""

    driver: Driver

    def __init__(self) -> None:
        self.wire = bytearray()
        sock: Any = SimpleNamespace(recv_into=self.nothing, sendmsg=self.take_some)
        super().__init__(sock, None, 16384)

    def nothing(self, _: object) -> int:
        raise BlockingIOError

    def take_some(self, buffers: list[Any]) -> int:
        taken = b"".join(map(bytes, buffers))[:20]
        self.wire += taken
        return len(taken)

    def acknowledge(self) -> None:
        pass

    def wait(self, *_: object, **__: object) -> bool:
        for _turn in range(40):
            self.driver.cancel()
        raise KeyboardInterrupt


def test_a_cancel_that_was_cut_is_finished_before_the_next() -> None:
    policy, timeouts = AcceptancePolicy(abstract_syntaxes={FIND: ()}), Timeouts(response=None, idle=None)
    user, provider = pair((dn.ProposedContext(FIND, (EXPLICIT,)),), policy, timeouts=timeouts)
    user.request(user.contexts[1], CommandField.C_FIND_RQ, bytes(10))
    transfer(user, provider)
    transport: Any = Full()
    transport.driver = Driver(user, transport)
    with pytest.raises(KeyboardInterrupt):
        transport.driver.complete(listening())
    assert len(transport.wire) == 800
    provider.receive(bytes(transport.wire))
    assert provider.established
    assert not provider.outgoing()


@pytest.mark.parametrize("write", [False, True])
def test_a_wait_may_be_longer_than_the_system_can_wait(write: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        transport = Transport(ours, Limits(), Timeouts())
        theirs.send(b"x")
        assert transport.wait(35 * 86400.0, write=write)


class Polled(Stream):
    """One end of a connection; how long its thread was to sleep each time, by a list that runs no Python."""

    def __init__(self, sock: socket.socket, busy_poll: float | None) -> None:
        self.sleeps: list[object] = []
        sleep: Any = self.sleeps.append
        super().__init__(sock, sleep, 16384, busy_poll)

    @property
    def counts(self) -> tuple[int, int]:
        return self.polls, len(self.sleeps)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


@pytest.mark.skipif(os.name == "nt", reason="nobody polls there")
class TestBusyPoll:
    def test_who_sees_something_in_time_does_not_sleep(self, ends: tuple[socket.socket, socket.socket]) -> None:
        stream = Polled(ends[0], 1e-3)
        ends[1].send(b"x")
        assert stream.wait(1.0)
        assert stream.counts == (1, 0)

    def test_in_vain_is_less_and_less_often(self, ends: tuple[socket.socket, socket.socket]) -> None:
        stream = Polled(ends[0], 1e-9)
        polled = []
        for turn in range(200):
            before = stream.polls
            assert not stream.wait(1.0)
            if stream.polls > before:
                polled.append(turn)
        assert polled == [0, 2, 6, 14, 30, 62, 126, 190]
        assert len(stream.sleeps) == 200

    def test_what_was_worth_it_is_done_again(self, ends: tuple[socket.socket, socket.socket]) -> None:
        stream = Polled(ends[0], 1e-3)
        for _ in range(2):
            stream.wait(1.0)  # in vain, so that the second goes without
        ends[1].send(b"x")
        assert [stream.wait(1.0) for _ in range(5)] == [True] * 5
        assert stream.counts == (6, 2)

    def test_not_unless_it_is_wanted(self, ends: tuple[socket.socket, socket.socket]) -> None:
        stream = Polled(ends[0], None)
        for _ in range(3):
            stream.wait(1.0)
        assert stream.counts == (0, 3)

    @pytest.mark.usefixtures("untraced")
    def test_ctrl_c_meanwhile_is_heeded_before_the_sleep(self, ends: tuple[socket.socket, socket.socket]) -> None:
        stream = Polled(ends[0], 1e-3)
        calls: list[partial[object]] = [partial(_thread.interrupt_main), partial(stream.wait, 1.0)]
        with pytest.raises(KeyboardInterrupt):
            list(map(partial.__call__, calls))  # no line of Python in between
        assert stream.counts == (1, 0)


@pytest.mark.skipif(not hasattr(select, "poll"), reason="select refuses what is closed")
@pytest.mark.parametrize("write", [False, True])
def test_a_socket_that_was_closed_meanwhile_is_an_end_like_others(write: bool) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        transport = Transport(ours, Limits(), Timeouts())
        transport.close()
        assert transport.wait(faces.PATIENCE, write=write)
        assert transport.receive() == b""


class Windows(socket.socket):
    """A socket as Windows has them: one buffer at a time."""

    @property
    def sendmsg(self) -> None:
        raise AttributeError


def test_an_association_without_poll_and_sendmsg(monkeypatch: pytest.MonkeyPatch) -> None:
    def connected(entity: dn.Entity, timeout: float | None) -> socket.socket:
        return Windows(fileno=socket.create_connection((entity.host, entity.port), timeout).detach())

    monkeypatch.setattr(requestor, "_open_socket", connected)
    monkeypatch.delattr("select.poll")
    with faces.provider("sync") as provider, faces.SyncUser(f"127.0.0.1:{provider.port}") as user:
        sent = faces.instance(1 << 20)
        assert user.store(sent).status.is_success
        assert provider.stored == [("2.25.1", faces.data_of(sent))]
